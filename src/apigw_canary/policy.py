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

    `false_rollback` and `false_promotion` limit the risks of all signals together, for any number
    of observations, if the policy stays the same during the rollout.
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
        """Begin at `start` % and add `by` % after each `every`, while below 100 %; then promote.

        `final_bake` adds a step at 100 % before the promotion. There is no baseline at 100 %.
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
        """Keep the canary at `percent`, below 100, for `bake`; then promote."""
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
        """Begin at `start` % and multiply by `factor` after each `every`, while below 100 %."""
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
        """Take the steps of a predefined AWS CodeDeploy configuration, with or without its prefix.

        The names are `Canary10Percent5Minutes` (also with 10, 15 and 30 minutes) and
        `Linear10PercentEvery1Minute` (also with 2, 3 and 10 minutes). `AllAtOnce` has no canary and
        raises `InvalidInputError`.
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
        """Return the evidence of an observation: a finding for each signal, and a verdict.

        `intervals=True` also computes confidence intervals of the ratio and the difference of the
        two rates, at a confidence of 1 - `false_rollback`. That takes about forty times as long.
        """
        return analyze(self, _observation(observation), with_intervals=intervals)

    def decide(self, observation: Observation) -> Decision:
        """Decide what to do now. The same observation always gives the same decision."""
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
        """Simulate what this policy will do with given traffic.

        It simulates `rollouts` rollouts of a canary as good as the baseline, and as many for each
        multiple in `times` of a canary that fails that many times as often. The policy decides once
        for each minute. `bad_rate` is the baseline's fraction of bad requests, 0 to 1: one number
        for every critical signal, or a mapping by signal name. `signal` is the one that gets worse,
        by default the first critical one. Signals without a rate are left out, and alarms count as
        OK. A signal of one route is left out too, because the traffic is that of the whole stage.
        To forecast it, use a policy with that signal alone, and the route's requests a minute.

        The simulated requests are independent of each other. Real requests are not quite
        independent: use `backtest` with past traffic. A forecast takes a few seconds if the traffic
        suits the plan, and minutes if verdicts take all day; then give fewer `rollouts`. `progress`
        is called after each rollout with the number of rollouts so far. An exception that it raises
        ends the forecast.
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
        """Find how often this policy would have rolled back healthy releases in past traffic.

        `minutes` are past minutes: your own, or `stage.observe(policy, start=..., end=...)`. The
        requests of both variants are added up, and those of each minute are divided at random
        between a baseline and a canary by the percent of the step. Past failures therefore affect
        both, and each rollback is a false one. Rollouts begin one after the other, each with an
        hour of history. `rollouts` limits their number, spread over the time; None runs all that
        fit.

        Variants that are divided at random are more alike than two deployments. `noise` adds what
        you assume of real ones: the coefficient of variation, 0 to 2, by which a variant's rate
        varies by itself from minute to minute. If it is not known whether the baseline's counts
        include the canary's, minutes with canary requests are left out. Requests of unknown outcome
        remain unknown. Alarms count as OK. A backtest of 14 days takes seconds. `progress` is
        called after each rollout with the number of rollouts so far. An exception that it raises
        ends the backtest.
        """
        return backtest(self, minutes, noise=noise, rollouts=rollouts, seed=seed, progress=progress)


def _observation(given: Observation) -> Observation:
    if not isinstance(given, Observation):
        validation.refuse(
            "observation", "an Observation, as canary.observe(policy) returns it", given
        )
    return given
