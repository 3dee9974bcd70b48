"""The steps of a rollout, the signals to compare, and the risk that you accept."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Literal, Self, TypedDict, Unpack

import attrs

from apigw_canary.judge import Analysis, Minute, Observation, Plan, Signal, Step, analyze, parts
from apigw_canary.planning.backtest import Backtest, backtest
from apigw_canary.planning.forecast import Forecast, forecast
from apigw_canary.rollout.decisions import Decision
from apigw_canary.rollout.rules import decide
from apigw_canary.rollout.view import guards_at_100
from apigw_canary.values import span, validation

_CODEDEPLOY = (
    r"((?:CodeDeployDefault\.)?(?:Lambda|ECS)?)"
    r"(?:Canary(?P<canary>\d+)Percent(?P<bake>\d+)Minutes"
    r"|Linear(?P<linear>\d+)PercentEvery(?P<every>\d+)Minutes?)"
)
_CODEDEPLOY_PLANS = (
    *(f"Canary10Percent{n}Minutes" for n in (5, 10, 15, 30)),
    "Linear10PercentEvery1Minute",
    *(f"Linear10PercentEvery{n}Minutes" for n in (1, 2, 3, 10)),
)
"""The plans that AWS CodeDeploy predefines for Lambda and ECS ("Working with deployment
configurations", AWS CodeDeploy User Guide)."""


def _share(value: float, field: str) -> float:
    share = validation.percent(value, field)
    if share == 0:
        validation.refuse(field, "above 0", value)
    return share


class Risks(TypedDict, total=False):
    """The fields of a `RolloutPolicy` beside its steps, as its constructors take them."""

    signals: Iterable[Signal]
    alarms: Iterable[str]
    false_rollback: float
    false_promotion: float
    deadline: timedelta | None
    on_inconclusive: Literal["hold", "rollback"]
    on_production_unhealthy: Literal["hold", "rollback"]
    max_failed_requests: float | None
    decision_lifetime: timedelta
    max_unobserved: timedelta
    metric_delay: timedelta
    promotion_metric_delay: timedelta
    route_weight: float


@attrs.frozen
class RolloutPolicy(Plan):
    """The steps of a rollout, the signals to compare, and the risk that you accept.

    ```python
    from datetime import timedelta

    from apigw_canary import RolloutPolicy, Signal

    policy = RolloutPolicy.linear(
        start=5,
        by=20,
        every=timedelta(minutes=10),
        signals=[Signal.errors_5xx(margin=0.002), Signal.errors_4xx()],
        alarms=["checkout-errors"],
        deadline=timedelta(hours=6),
    )
    print([step.percent for step in policy.steps])
    ```

    The two risks hold for the evidence of all signals together, for any number of observations, for
    a policy that stays the same during the rollout.
    """

    @classmethod
    def linear(
        cls,
        start: float,
        by: float,
        every: timedelta,
        *,
        final_bake: timedelta | None = None,
        **risks: Unpack[Risks],
    ) -> Self:
        """`start` %, then `by` % more after each `every`; promoted from the last below 100 %.

        `final_bake` adds a step at 100 %, where there is no baseline to compare with.
        """
        first, more = _share(start, "start"), _share(by, "by")
        validation.duration(every, "every")
        count = math.ceil(round((100 - first) / more, 6))
        shares = [first + i * more for i in range(max(count, 1))]
        return cls._rising(shares, every, final_bake, risks)

    @classmethod
    def canary(
        cls,
        percent: float,
        bake: timedelta,
        *,
        final_bake: timedelta | None = None,
        **risks: Unpack[Risks],
    ) -> Self:
        """One step below 100 %, then the promotion."""
        return cls._rising([validation.percent(percent)], bake, final_bake, risks)

    @classmethod
    def exponential(
        cls,
        start: float,
        factor: float,
        every: timedelta,
        *,
        final_bake: timedelta | None = None,
        **risks: Unpack[Risks],
    ) -> Self:
        """`start` %, then `factor` times as much after each `every`, as long as below 100 %."""
        share = _share(start, "start")
        validation.number(factor, "factor", low=1.01, high=100)
        validation.duration(every, "every")
        shares = [share]
        while (share := share * factor) < 100:
            shares.append(validation.percent(share))
        rising = sorted({share for share in shares if share < 100} | {shares[0]})
        return cls._rising(rising, every, final_bake, risks)

    @classmethod
    def named(
        cls, name: str, *, final_bake: timedelta | None = None, **risks: Unpack[Risks]
    ) -> Self:
        """A plan by its AWS CodeDeploy name, with or without its prefix.

        `Canary10Percent5Minutes` (also 10, 15 and 30), `Linear10PercentEvery1Minute` (also 2, 3
        and 10). `AllAtOnce` has no canary to judge and is refused.
        """
        found = re.fullmatch(_CODEDEPLOY, validation.text(name, "name"))
        if found is None or found[0] not in {
            f"{found[1] or ''}{plan}" for plan in _CODEDEPLOY_PLANS
        }:
            validation.refuse("name", f"one of {', '.join(_CODEDEPLOY_PLANS)}", name)
        kind = "canary" if found["canary"] else "linear"
        share = int(found["canary"] or found["linear"])
        minutes = int(found["bake"] or found["every"])
        every = timedelta(minutes=minutes)
        if kind == "canary":
            return cls.canary(share, every, final_bake=final_bake, **risks)
        return cls.linear(share, share, every, final_bake=final_bake, **risks)

    @classmethod
    def _rising(
        cls,
        shares: Iterable[float],
        bake: timedelta,
        final_bake: timedelta | None,
        risks: Risks,
    ) -> Self:
        steps = [Step(share, bake) for share in shares]
        if final_bake is not None:
            steps.append(Step(100, final_bake))
        return cls(steps, **risks)

    def __str__(self) -> str:
        """The plan as a sentence: also what guards at 100 %, what a step takes at least, and what
        part of `false_rollback` a signal of one route has.
        """
        steps = ", ".join(f"{step.percent:g} % for {span(step.bake)}" for step in self.steps)
        undecided = {"rollback": "rolled back", "hold": "left to an operator"}[self.on_inconclusive]
        said = [
            f"{steps}, then promoted if not worse",
            f"{undecided} if undecided after {span(self.effective_deadline)}",
        ]
        if any(step.bake < self.least_step for step in self.steps):
            least = span(self.least_step)
            said.append(f"each step takes at least {least}, until its metrics are complete")
        if self.steps[-1].percent == 100:
            said.append(f"at 100 % {guards_at_100(self)} can roll back")
        said += [
            f"{signal.name} has {100 * part:.3g} % of the evidence for rolling back, and alone "
            f"rolls back at most {100 * part * self.false_rollback:.2g} % of healthy canaries"
            for signal, part in zip(self.signals, parts(self), strict=True)
            if signal.route is not None and part
        ]
        return "; ".join(said)

    def analyze(self, observation: Observation, *, intervals: bool = False) -> Analysis:
        """The evidence of an observation: a finding for each signal, and a verdict.

        `intervals`: also the ratios and differences of the two rates that the evidence has not
        excluded, at a confidence of 1 - `false_rollback`. They take some forty times as long.
        """
        return analyze(self, _observation(observation), with_intervals=intervals)

    def decide(self, observation: Observation) -> Decision:
        """What to do now. Pure: the same observation gives the same decision."""
        return decide(self, _observation(observation))

    def forecast(
        self,
        requests_per_minute: float,
        bad_rate: float | Mapping[str, float],
        *,
        times: Sequence[float] = (2, 5, 20),
        signal: str | None = None,
        rollouts: int = 200,
        seed: int = 0,
        progress: Callable[[int], object] | None = None,
    ) -> Forecast:
        """What this policy will do with a traffic, before any is moved.

        Simulates `rollouts` of a clean canary, and of canaries that fail `times` as often, and lets
        the policy decide each minute of them. `bad_rate` is the baseline's fraction of bad
        requests, 0 to 1, of every critical signal, or by the signals' names; `signal` gets worse,
        by default the first critical one. A signal without a rate is left out, and alarms are taken
        to be OK. A signal of one route is left out too, because that traffic is not the route's:
        forecast a policy that has no other signal, with the route's requests a minute.

        The requests are independent of each other, as real ones never quite are: what the real
        traffic does to the policy, see `backtest`. A few seconds where the traffic suits the plan;
        where a verdict takes all day, minutes: then ask for fewer rollouts, or give `progress`,
        which is called after each rollout with how many there have been. What it raises ends the
        forecast.
        """
        return forecast(
            self,
            requests_per_minute,
            bad_rate,
            times=times,
            signal=signal,
            rollouts=rollouts,
            seed=seed,
            progress=progress,
        )

    def backtest(
        self,
        minutes: Mapping[str, Sequence[Minute]] | Observation,
        *,
        noise: float = 0.0,
        rollouts: int | None = None,
        seed: int = 0,
        progress: Callable[[int], object] | None = None,
    ) -> Backtest:
        """How often this policy would have rolled back healthy releases in past traffic.

        `minutes` are past ones: your own, or `stage.observe(policy, start=..., end=...)`, of which
        both variants together count. Rollouts begin one after the other, each with an hour before
        it, and the requests of each minute are divided at random by the percent of the step:
        whatever went wrong then affected both variants. All of them, or `rollouts` spread over the
        time.

        Divided at random, the variants are more alike than two deployments ever are: `noise`, the
        coefficient of variation by which a variant's rate varies by itself from minute to minute,
        must be assumed. Where it is not known which requests were a canary's, because the counts
        may overlap, minutes with canary requests are left out. Requests of unknown outcome stay so.
        Alarms are taken to be OK. Seconds for 14 days. `progress` is called after each rollout with
        how many there have been; what it raises ends the backtest.
        """
        return backtest(self, minutes, noise=noise, rollouts=rollouts, seed=seed, progress=progress)


def _observation(given: Observation) -> Observation:
    if not isinstance(given, Observation):
        validation.refuse(
            "observation", "an Observation, as canary.observe(policy) gives it", given
        )
    return given
