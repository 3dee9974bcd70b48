"""CloudWatch alarms: one more voice, beside the evidence and outside its promise."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Literal, get_args

import attrs

from apigw_canary.values import Serializable, moment, validation

AlarmState = Literal["OK", "ALARM", "INSUFFICIENT_DATA"]

MAX_NAME = 255
"""Characters in the name of an alarm (PutMetricAlarm, Amazon CloudWatch API Reference)."""


@attrs.frozen
class Alarm(Serializable):
    """A CloudWatch alarm at one time.

    What `false_rollback` and `false_promotion` promise is about the judge's evidence; an alarm
    rolls back as often as it was made to fire, and does not distinguish the variants.
    """

    name: str = attrs.field(validator=validation.checked(validation.text, limit=MAX_NAME))
    """Its name, unique in account and region."""
    state: AlarmState = attrs.field(
        validator=validation.checked(validation.choice, choices=get_args(AlarmState))
    )
    """Its state; INSUFFICIENT_DATA is never taken for OK. Where CloudWatch could not evaluate it in
    full, INSUFFICIENT_DATA too, whatever state it was in before."""
    since: datetime = attrs.field(
        converter=validation.utc, validator=validation.aware_field, kw_only=True
    )
    """When its state last changed."""
    fired_at: datetime | None = attrs.field(
        default=None,
        converter=validation.utc_or_none,
        validator=validation.aware_field,
        kw_only=True,
    )
    """When it last began firing, where it has stopped again, also between two observations; None
    where that is not known of the time since the rollout's start."""
    evaluation: str | None = attrs.field(
        default=None, validator=validation.checked(validation.text, or_none=True), kw_only=True
    )
    """What CloudWatch calls its last evaluation where that was not a full one, such as
    "PARTIAL_DATA", "EVALUATION_FAILURE" or "EVALUATION_ERROR" (`EvaluationState` in the CloudWatch
    API Reference); None after a full one."""

    def __attrs_post_init__(self) -> None:
        if self.evaluation is not None and self.state != "INSUFFICIENT_DATA":
            validation.refuse("state", "INSUFFICIENT_DATA with an evaluation", self.state)

    @property
    def in_alarm_since(self) -> datetime | None:
        """When it last began firing, whether it still does or not; None where that is unknown."""
        return self.since if self.state == "ALARM" else self.fired_at

    def began_since(self, start: datetime) -> bool:
        """Whether it began firing at or after a time."""
        return self.in_alarm_since is not None and self.in_alarm_since >= start


def fired(alarms: Iterable[Alarm], start: datetime) -> str | None:
    """Which alarms began firing since the rollout's start, as a sentence; None for none."""
    found = [alarm for alarm in alarms if alarm.began_since(start)]
    return "; ".join(_firing(alarm) for alarm in found) or None


def _firing(alarm: Alarm) -> str:
    assert alarm.in_alarm_since is not None
    now = "" if alarm.state == "ALARM" else f" ({alarm.state} since {moment(alarm.since)})"
    return f"the alarm {alarm.name} began firing at {moment(alarm.in_alarm_since)}{now}"


def remarks(names: Sequence[str], alarms: Iterable[Alarm], start: datetime) -> Iterator[str]:
    """What is to be reported of the alarms that a policy names, beside what decides."""
    for alarm in alarms:
        if alarm.evaluation is not None:
            yield (
                f"CloudWatch could not evaluate the alarm {alarm.name} in full "
                f"({alarm.evaluation}), which counts as INSUFFICIENT_DATA"
            )
        elif alarm.state == "INSUFFICIENT_DATA":
            yield f"the alarm {alarm.name} has had INSUFFICIENT_DATA since {moment(alarm.since)}"
        elif alarm.state == "ALARM" and not alarm.began_since(start):
            yield (
                f"the alarm {alarm.name} has been firing since {moment(alarm.since)}, from before "
                "the rollout, and is ignored"
            )
    for name in unseen(names, alarms):
        yield f"the alarm {name} is not in the observation"


def unseen(names: Iterable[str], alarms: Iterable[Alarm]) -> list[str]:
    """The alarms that were not read."""
    seen = {alarm.name for alarm in alarms}
    return [name for name in names if name not in seen]


def without_data(names: Sequence[str], alarms: Iterable[Alarm]) -> str | None:
    """That alarms are neither OK nor in ALARM, and what to do about it; None for none."""
    unknown = [alarm for alarm in alarms if alarm.state == "INSUFFICIENT_DATA"]
    empty = [alarm.name for alarm in unknown if alarm.evaluation is None]
    not_evaluated = [alarm.name for alarm in unknown if alarm.evaluation is not None]
    remedies = []
    if not_evaluated:
        remedies.append(f"correct what keeps CloudWatch from evaluating {', '.join(not_evaluated)}")
    if empty:
        remedies.append(
            f"correct how {', '.join(empty)} treats missing data, or take it out of the "
            "policy's alarms"
        )
    if missing := unseen(names, alarms):
        remedies.append(f"read {', '.join(missing)} too")
    if not remedies:
        return None
    return f"an alarm without data does not count as OK: {' and '.join(remedies)}"
