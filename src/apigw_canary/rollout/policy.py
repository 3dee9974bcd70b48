"""The plan of a rollout, and the risk it may take."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Literal, Self, TypedDict, TypeVar, Unpack

import attrs

from apigw_canary.rollout import inputs
from apigw_canary.rollout.alarms import MAX_NAME
from apigw_canary.rollout.analysis import analyze
from apigw_canary.rollout.backtest import Backtest, backtest
from apigw_canary.rollout.decision import LIFETIME, Decision
from apigw_canary.rollout.findings import Analysis
from apigw_canary.rollout.forecast import Forecast, forecast
from apigw_canary.rollout.observation import MINUTE, Minute, Observation
from apigw_canary.rollout.plain import Plain
from apigw_canary.rollout.rules import decide
from apigw_canary.rollout.signals import Signal
from apigw_canary.rollout.view import LONGEST_ROLLOUT, guards_at_100
from apigw_canary.rollout.words import span

SHORTEST_DEADLINE = timedelta(hours=24)
"""The shortest default deadline: a working day, and the night in which traffic may be too low."""

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


@attrs.frozen
class Step(Plain):
    """A share of the requests, and how long the canary keeps it at least."""

    percent: float = attrs.field(converter=inputs.percent)
    """The canary's share, above 0 and up to 100."""
    bake: timedelta
    """How long it keeps it before the next step is considered."""

    def __attrs_post_init__(self) -> None:
        if self.percent == 0:
            inputs.refuse("percent", "above 0", self.percent)
        inputs.duration(self.bake, "bake")


def _share(value: float, field: str) -> float:
    share = inputs.percent(value, field)
    if share == 0:
        inputs.refuse(field, "above 0", value)
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


_Item = TypeVar("_Item")


def _as_tuple(items: object, kind: type[_Item], field: str) -> tuple[_Item, ...]:
    if not isinstance(items, Iterable) or isinstance(items, str):
        inputs.refuse(field, f"a list of {kind.__name__}", items)
    kept = tuple(items)
    for item in kept:
        if not isinstance(item, kind):
            inputs.refuse(field, f"a list of {kind.__name__}", item)
    return kept


def _as_steps(steps: Iterable[Step]) -> tuple[Step, ...]:
    return _as_tuple(steps, Step, "steps")


def _as_signals(signals: Iterable[Signal]) -> tuple[Signal, ...]:
    return _as_tuple(signals, Signal, "signals")


def _as_names(names: Iterable[str]) -> tuple[str, ...]:
    kept = _as_tuple(names, str, "alarms")
    for name in kept:
        inputs.text(name, "alarms", limit=MAX_NAME)
    if len(set(kept)) < len(kept):
        inputs.refuse("alarms", "of different names", kept)
    return kept


def _default_signals() -> tuple[Signal, ...]:
    return (Signal.errors_5xx(), Signal.errors_4xx())


@attrs.frozen
class RolloutPolicy(Plain):
    """The plan of a rollout, and the risk it may take.

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

    The two risks hold for the evidence of all signals together, however often one looks, for a
    policy that stays the same during the rollout.
    """

    steps: tuple[Step, ...] = attrs.field(converter=_as_steps)
    """The shares, rising. A last step at 100 % bakes there; without one the canary is promoted
    from the last step."""
    signals: tuple[Signal, ...] = attrs.field(
        factory=_default_signals, converter=_as_signals, kw_only=True
    )
    """What counts as bad; by default 5xx (critical) and 4xx errors. `Signal.slow` is not among
    them: that CloudWatch answers for it is not tried on a live AWS, and a critical signal without
    data is never promoted."""
    alarms: tuple[str, ...] = attrs.field(default=(), converter=_as_names, kw_only=True)
    """Names of CloudWatch alarms, metric and composite ones: one that begins firing during the
    rollout rolls back. Outside the two risks below, which are about the signals' evidence."""
    false_rollback: float = attrs.field(default=0.05, kw_only=True)
    """The most of all rollouts of healthy canaries that may be rolled back, 0 to 0.5."""
    false_promotion: float = attrs.field(default=0.05, kw_only=True)
    """The most of all canaries worse by the margin that may be promoted, 0 to 0.5."""
    deadline: timedelta | None = attrs.field(default=None, kw_only=True)
    """How long after its start a rollout without a verdict ends; None for the default of
    `effective_deadline`."""
    on_inconclusive: Literal["hold", "rollback"] = attrs.field(default="rollback", kw_only=True)
    """What to do then. "rollback": an unattended loop leaves no canary behind. "hold": the
    canary keeps its percent until an operator acts (`Decision.waiting_for` is "operator"), nothing
    is shifted up any more, and what rolls back goes on doing so while the loop goes on."""
    on_production_unhealthy: Literal["hold", "rollback"] = attrs.field(
        default="rollback", kw_only=True
    )
    """What to do where production became unhealthy within five minutes after the canary's start or
    a shift, and has been so for `max_unobserved`: the canary may be the cause, which no comparison
    of the variants shows. At a step at 100 % it need not follow the shift: all requests are the
    canary's. Outside the two risks above. "hold": nothing is shifted up meanwhile."""
    max_failed_requests: float | None = attrs.field(default=None, kw_only=True)
    """How many failed requests a rollout may cost: it is rolled back once the canary has had that
    many more than at the baseline's rate, in a critical signal that is `rare`. At 100 %, where
    there is no baseline, it counts those beyond twice the baseline's rate before the step. Four
    standard errors of the estimate are in the canary's favor. 1 or more; None for no such
    number."""
    decision_lifetime: timedelta = attrs.field(default=LIFETIME, kw_only=True)
    """How long a Shift or Promote may be applied, 1 minute to 1 day. Default 10 minutes. Longer
    where an approval takes longer; what it rests on is then older. A Rollback never expires."""
    max_unobserved: timedelta = attrs.field(default=timedelta(minutes=30), kw_only=True)
    """How long a canary may serve requests that nobody can see before it is rolled back."""
    metric_delay: timedelta = attrs.field(default=timedelta(minutes=2), kw_only=True)
    """How old a minute must be to speak against the canary: metrics arrive late."""
    promotion_metric_delay: timedelta = attrs.field(default=timedelta(minutes=5), kw_only=True)
    """How old a minute must be to speak for it: errors arrive later than counts, so a young
    minute looks healthier than it is. Exporters of CloudWatch metrics wait 3 to 10 minutes."""
    route_weight: float = attrs.field(default=0.25, kw_only=True)
    """The routes' part in the evidence for rolling back, 0 to 0.9, where the source measures them;
    the signals of the whole stage have the rest. Default 0.25: it takes the stage a few requests
    more, and each of 100 routes about twice the requests it would take alone. 0 only reports."""

    def __attrs_post_init__(self) -> None:
        if not self.steps:
            inputs.refuse("steps", "at least one step", self.steps)
        percents = [step.percent for step in self.steps]
        if any(lower >= higher for lower, higher in pairwise(percents)):
            inputs.refuse("steps", "strictly rising in percent", percents)
        if percents == [100]:
            inputs.refuse(
                "steps", "a plan with a step below 100, where there is a baseline", percents
            )
        names = [signal.name for signal in self.signals]
        if len(set(names)) < len(names):
            inputs.refuse("signals", "of different names", names)
        if not any(signal.critical for signal in self.signals):
            inputs.refuse("signals", "a list with at least one that is critical", names)
        for risk in ("false_rollback", "false_promotion"):
            inputs.number(getattr(self, risk), risk, low=1e-6, high=0.5)
        if self.deadline is not None:
            shortest = max(self.total_bake, timedelta(minutes=1))
            longest = max(self.total_bake, LONGEST_ROLLOUT)
            inputs.duration(self.deadline, "deadline", low=shortest, high=longest)
        for field in ("on_inconclusive", "on_production_unhealthy"):
            inputs.choice(getattr(self, field), field, ("hold", "rollback"))
        if self.max_failed_requests is not None:
            inputs.number(self.max_failed_requests, "max_failed_requests", low=1)
        inputs.duration(
            self.decision_lifetime,
            "decision_lifetime",
            low=timedelta(minutes=1),
            high=timedelta(days=1),
        )
        inputs.number(self.route_weight, "route_weight", low=0, high=0.9)
        inputs.duration(self.max_unobserved, "max_unobserved", low=timedelta(minutes=1))
        inputs.duration(self.metric_delay, "metric_delay", high=timedelta(hours=1))
        inputs.duration(
            self.promotion_metric_delay,
            "promotion_metric_delay",
            low=self.metric_delay,
            high=timedelta(hours=1),
        )

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
        inputs.duration(every, "every")
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
        return cls._rising([inputs.percent(percent)], bake, final_bake, risks)

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
        inputs.number(factor, "factor", low=1.01, high=100)
        inputs.duration(every, "every")
        shares = [share]
        while (share := share * factor) < 100:
            shares.append(inputs.percent(share))
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
        found = re.fullmatch(_CODEDEPLOY, inputs.text(name, "name"))
        if found is None or found[0] not in {
            f"{found[1] or ''}{plan}" for plan in _CODEDEPLOY_PLANS
        }:
            inputs.refuse("name", f"one of {', '.join(_CODEDEPLOY_PLANS)}", name)
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
        """The plan, in words: also what guards at 100 %, and what a step takes at least."""
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
        return "; ".join(said)

    @property
    def least_step(self) -> timedelta:
        """The least time that a step takes, whatever its bake: a minute of it must be complete."""
        return self.promotion_metric_delay + MINUTE

    @property
    def total_bake(self) -> timedelta:
        """The bakes of all steps together: the shortest time the rollout can take."""
        return sum((step.bake for step in self.steps), timedelta(0))

    @property
    def effective_deadline(self) -> timedelta:
        """The deadline, or its default: twice the plan, at least 24 hours, at most 14 days."""
        if self.deadline is not None:
            return self.deadline
        return min(max(2 * self.total_bake, SHORTEST_DEADLINE), LONGEST_ROLLOUT)

    def step_at(self, percent: float) -> Step:
        """The step that a canary of this share is in: the last one not above it, or the first."""
        reached = [step for step in self.steps if step.percent <= percent]
        return reached[-1] if reached else self.steps[0]

    def next_step(self, percent: float) -> Step | None:
        """The first step above this share; None after the last."""
        return next((step for step in self.steps if step.percent > percent), None)

    def analyze(self, observation: Observation, *, intervals: bool = False) -> Analysis:
        """The evidence of an observation: a finding for each signal, and a verdict.

        `intervals`: also the ratios and differences of the arms' rates that the evidence has not
        ruled out, at a confidence of 1 - `false_rollback`. They take some forty times as long.
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
    ) -> Forecast:
        """What this policy will do with a traffic, before any is moved.

        Simulates `rollouts` of a clean canary, and of canaries that fail `times` as often, and lets
        the policy decide each minute of them. `bad_rate` is the baseline's share of bad requests, 0
        to 1, of every critical signal, or by the signals' names; `signal` gets worse, by default
        the first critical one. A signal without a rate is left out, and alarms are taken to be OK.

        The requests are independent of each other, as real ones never quite are: what the real
        traffic does to the policy `backtest` says. A second or two where the traffic suits the
        plan; where a verdict takes all day, minutes: then ask for fewer rollouts.
        """
        return forecast(
            self,
            requests_per_minute,
            bad_rate,
            times=times,
            signal=signal,
            rollouts=rollouts,
            seed=seed,
        )

    def backtest(
        self,
        minutes: Mapping[str, Sequence[Minute]] | Observation,
        *,
        noise: float = 0.0,
        rollouts: int | None = None,
        seed: int = 0,
    ) -> Backtest:
        """How often this policy would have rolled back healthy releases in past traffic.

        `minutes` are past ones: your own, or `stage.observe(policy, start=..., end=...)`, of which
        both arms together count. Rollouts begin one after the other, each with an hour before it,
        and the requests of each minute are divided at random by the share of the step: whatever
        went wrong then hit both arms. All of them, or `rollouts` spread over the time.

        Divided at random the arms are more alike than two deployments ever are: `noise`, the
        coefficient of variation by which an arm's rate varies by itself from minute to minute, must
        be assumed. Where it is not known which requests were a canary's, because the counts may
        overlap, minutes with canary requests are left out. Alarms are taken to be OK. Seconds for
        14 days.
        """
        return backtest(self, minutes, noise=noise, rollouts=rollouts, seed=seed)


def _observation(given: Observation) -> Observation:
    if not isinstance(given, Observation):
        inputs.refuse("observation", "an Observation, as canary.observe(policy) gives it", given)
    return given
