"""What a rollout is judged by: its steps, its signals, and the risk it may take."""

from collections.abc import Iterable
from datetime import timedelta
from itertools import pairwise
from typing import Literal, TypeVar

import attrs

from apigw_canary.errors import InvalidInputError
from apigw_canary.judge.observation import MAX_NAME, MINUTE
from apigw_canary.judge.signals import Signal
from apigw_canary.values import Serializable, validation

LIFETIME = timedelta(minutes=10)
"""How long a Shift or Promote may be applied, unless the policy sets another time: long enough for
an approval by hand, short enough that its reasons still hold. A Rollback never expires."""
LONGEST_ROLLOUT = timedelta(days=14)
"""After this a rollout has reached its deadline whatever has held it, and the longest deadline.
CloudWatch keeps one-minute data for 15 days."""
SHORTEST_DEADLINE = timedelta(hours=24)
"""The shortest default deadline: a working day, and the night in which traffic may be too low."""


@attrs.frozen
class Step(Serializable):
    """A traffic percentage, and the minimum time that the canary keeps it."""

    percent: float = attrs.field(converter=validation.percent)
    """The canary's percent of the requests, above 0 and up to 100."""
    bake: timedelta = attrs.field(validator=validation.checked(validation.duration))
    """How long, at least, the canary keeps this percent: 0 to 14 days."""

    def __attrs_post_init__(self) -> None:
        if self.percent == 0:
            validation.refuse("percent", "above 0", self.percent)


_Item = TypeVar("_Item")


def _as_tuple(items: object, kind: type[_Item], field: str) -> tuple[_Item, ...]:
    if not isinstance(items, Iterable) or isinstance(items, str):
        validation.refuse(field, f"a list of {kind.__name__}", items)
    kept = tuple(items)
    for item in kept:
        if not isinstance(item, kind):
            validation.refuse(field, f"a list of {kind.__name__}", item)
    return kept


def _as_steps(steps: Iterable[Step]) -> tuple[Step, ...]:
    return _as_tuple(steps, Step, "steps")


def _as_signals(signals: Iterable[Signal]) -> tuple[Signal, ...]:
    return _as_tuple(signals, Signal, "signals")


def _as_names(names: Iterable[str]) -> tuple[str, ...]:
    kept = _as_tuple(names, str, "alarms")
    for name in kept:
        validation.text(name, "alarms", limit=MAX_NAME)
    if len(set(kept)) < len(kept):
        validation.refuse("alarms", "different names", kept)
    return kept


def _default_signals() -> tuple[Signal, ...]:
    return (Signal.errors_5xx(), Signal.errors_4xx(), Signal.latency())


@attrs.frozen
class Plan(Serializable):
    """The fields of a `RolloutPolicy`: what the judge and the rules know of it."""

    steps: tuple[Step, ...] = attrs.field(converter=_as_steps)
    """The steps, with rising percents, at least one of them below 100. The canary is promoted after
    the last step's bake; a last step at 100 % is optional."""
    signals: tuple[Signal, ...] = attrs.field(
        factory=_default_signals, converter=_as_signals, kw_only=True
    )
    """The signals to compare, at least one of them critical. Default: 5xx errors (critical), 4xx
    errors, and latency above the baseline's p99, with 5/7, 1/7 and 1/7 of the evidence for rolling
    back."""
    alarms: tuple[str, ...] = attrs.field(default=(), converter=_as_names, kw_only=True)
    """Names of CloudWatch alarms, metric or composite. If one begins firing during the rollout, the
    canary is rolled back. `false_rollback` and `false_promotion` do not cover alarms."""
    false_rollback: float = attrs.field(
        default=0.05,
        validator=validation.checked(validation.number, low=1e-6, high=0.5),
        kw_only=True,
    )
    """The largest fraction of healthy canaries that may be rolled back, above 0 and up to 0.5."""
    false_promotion: float = attrs.field(
        default=0.05,
        validator=validation.checked(validation.number, low=1e-6, high=0.5),
        kw_only=True,
    )
    """The largest fraction of canaries worse by the margin that may be promoted, above 0 and up to
    0.5."""
    deadline: timedelta | None = attrs.field(default=None, kw_only=True)
    """How long after its start a rollout without a verdict ends, from the sum of the bakes to 14
    days; None for the default of `effective_deadline`."""
    on_inconclusive: Literal["hold", "rollback"] = attrs.field(
        default="rollback",
        validator=validation.checked(validation.choice, choices=("hold", "rollback")),
        kw_only=True,
    )
    """What to do at the deadline. "rollback" ends the canary. With "hold" the canary keeps its
    percent until an operator acts (`waiting_for` is "operator"): it is not shifted up any more, and
    evidence and alarms can still roll it back."""
    on_production_unhealthy: Literal["hold", "rollback"] = attrs.field(
        default="rollback",
        validator=validation.checked(validation.choice, choices=("hold", "rollback")),
        kw_only=True,
    )
    """What to do if production became unhealthy within five minutes after the canary's start or a
    shift, and has been unhealthy for `max_unobserved`. The canary may be the cause, and no
    comparison of the variants shows it. At a step at 100 % the time of the shift does not matter,
    because all requests are the canary's. With "hold" the canary is not shifted up while production
    is unhealthy. `false_rollback` does not cover these rollbacks."""
    max_failed_requests: float | None = attrs.field(
        default=None,
        validator=validation.checked(validation.number, or_none=True, low=1),
        kw_only=True,
    )
    """The rollout is rolled back once the canary has had this many more failed requests than it
    would have had at the baseline's rate, in a critical signal that is `rare`. At 100 %, where
    there is no baseline, the requests beyond twice the baseline's rate before the step count. The
    estimate must exceed the number by four standard errors. 1 or more; None for no limit."""
    decision_lifetime: timedelta = attrs.field(
        default=LIFETIME,
        validator=validation.checked(validation.duration, low=MINUTE, high=timedelta(days=1)),
        kw_only=True,
    )
    """How long after the observation a Shift or Promote may be applied, 1 minute to 1 day. Default
    10 minutes. Give more if an approval takes longer; the evidence is then older. A Rollback never
    expires."""
    max_unobserved: timedelta = attrs.field(
        default=timedelta(minutes=30),
        validator=validation.checked(validation.duration, low=MINUTE),
        kw_only=True,
    )
    """How long a canary may be unobserved before it is rolled back, 1 minute to 14 days. Default 30
    minutes."""
    metric_delay: timedelta = attrs.field(
        default=timedelta(minutes=2),
        validator=validation.checked(validation.duration, high=timedelta(hours=1)),
        kw_only=True,
    )
    """How long after its end a minute may be evidence that the canary is worse, 0 to 1 hour.
    Default 2 minutes, because metrics arrive late."""
    promotion_metric_delay: timedelta = attrs.field(default=timedelta(minutes=5), kw_only=True)
    """How long after its end a minute may be evidence that the canary is not worse, `metric_delay`
    to 1 hour. Default 5 minutes, because errors arrive later than counts. Exporters of CloudWatch
    metrics wait 3 to 10 minutes."""
    route_weight: float = attrs.field(
        default=0.25, validator=validation.checked(validation.number, low=0, high=0.9), kw_only=True
    )
    """The routes' part of the evidence for rolling back, 0 to 0.9, if the source measures routes;
    the signals of the whole stage have the rest. With the default of 0.25 a rollback needs a few
    more requests of the stage, and each of 100 routes needs about twice the requests that it would
    need alone. With 0 routes are only reported."""

    def __attrs_post_init__(self) -> None:
        if not self.steps:
            validation.refuse("steps", "at least one step", self.steps)
        percents = [step.percent for step in self.steps]
        if any(lower >= higher for lower, higher in pairwise(percents)):
            validation.refuse("steps", "strictly rising in percent", percents)
        if percents == [100]:
            validation.refuse(
                "steps",
                "steps of which one is below 100 %, because there is no baseline at 100 %",
                percents,
            )
        names = [signal.name for signal in self.signals]
        if len(set(names)) < len(names):
            validation.refuse("signals", "signals with different names", names)
        if not any(signal.critical for signal in self.signals):
            raise InvalidInputError(
                "signals", "a list with at least one that is critical", str(names)
            ).within("", "Leave signals out for the defaults, or give Signal.errors_5xx().")
        if self.deadline is not None:
            shortest = max(self.total_bake, timedelta(minutes=1))
            longest = max(self.total_bake, LONGEST_ROLLOUT)
            validation.duration(self.deadline, "deadline", low=shortest, high=longest)
        validation.duration(
            self.promotion_metric_delay,
            "promotion_metric_delay",
            low=self.metric_delay,
            high=timedelta(hours=1),
        )

    @property
    def least_step(self) -> timedelta:
        """The least time that a step takes, however short its bake: until one of its minutes is
        complete.
        """
        return self.promotion_metric_delay + MINUTE

    @property
    def total_bake(self) -> timedelta:
        """The sum of the bakes of all steps."""
        return sum((step.bake for step in self.steps), timedelta(0))

    @property
    def effective_deadline(self) -> timedelta:
        """The deadline, or its default: twice `total_bake`, at least 24 hours and at most 14
        days.
        """
        if self.deadline is not None:
            return self.deadline
        return min(max(2 * self.total_bake, SHORTEST_DEADLINE), LONGEST_ROLLOUT)

    def step_at(self, percent: float) -> Step:
        """Return the step of a canary with this percent: the last step not above it, else the first
        step.
        """
        reached = [step for step in self.steps if step.percent <= percent]
        return reached[-1] if reached else self.steps[0]

    def next_step(self, percent: float) -> Step | None:
        """Return the first step above this percent; None if there is none."""
        return next((step for step in self.steps if step.percent > percent), None)
