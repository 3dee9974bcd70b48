"""What was observed of a rollout, as serializable data: everything a decision is made from."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Literal, Protocol, get_args

import attrs

from apigw_canary.judge.signals import Signal
from apigw_canary.model import StageState
from apigw_canary.values import (
    NO_TEXTS,
    FrozenMapping,
    Serializable,
    frozen_texts,
    moment,
    validation,
)

AlarmState = Literal["OK", "ALARM", "INSUFFICIENT_DATA"]

MAX_NAME = 255
"""Characters in the name of an alarm (PutMetricAlarm, Amazon CloudWatch API Reference)."""


@attrs.frozen
class Alarm(Serializable):
    """A CloudWatch alarm at one time.

    If an alarm of the policy begins firing during a rollout, the canary is rolled back, whichever
    variant caused the alarm. The error rates `false_rollback` and `false_promotion` do not cover
    alarms.
    """

    name: str = attrs.field(validator=validation.checked(validation.text, limit=MAX_NAME))
    """The name, unique in an account and region."""
    state: AlarmState = attrs.field(
        validator=validation.checked(validation.choice, choices=get_args(AlarmState))
    )
    """"OK", "ALARM" or "INSUFFICIENT_DATA". INSUFFICIENT_DATA does not count as OK. It is also the
    state of an alarm that CloudWatch could not evaluate in full, whatever state CloudWatch
    shows."""
    since: datetime = attrs.field(
        converter=validation.utc, validator=validation.aware_field, kw_only=True
    )
    """When the state last changed."""
    fired_at: datetime | None = attrs.field(
        default=None,
        converter=validation.utc_or_none,
        validator=validation.aware_field,
        kw_only=True,
    )
    """When the alarm last began firing, if it has stopped since, also between two observations;
    None if it is not known to have fired since the rollout's start."""
    evaluation: str | None = attrs.field(
        default=None, validator=validation.checked(validation.text, or_none=True), kw_only=True
    )
    """The `EvaluationState` of the last evaluation if it was not a full one, such as
    "PARTIAL_DATA", "EVALUATION_FAILURE" or "EVALUATION_ERROR" (CloudWatch API Reference); None
    after a full evaluation."""

    def __attrs_post_init__(self) -> None:
        if self.evaluation is not None and self.state != "INSUFFICIENT_DATA":
            validation.refuse("state", "INSUFFICIENT_DATA with an evaluation", self.state)

    @property
    def in_alarm_since(self) -> datetime | None:
        """When the alarm last began firing, even if it has stopped; None if that is unknown."""
        return self.since if self.state == "ALARM" else self.fired_at

    def began_since(self, start: datetime) -> bool:
        """Whether the alarm began firing at or after a time."""
        return self.in_alarm_since is not None and self.in_alarm_since >= start


def alarms_fired(alarms: Iterable[Alarm], start: datetime) -> str | None:
    """Which alarms began firing since the rollout's start, as a sentence; None for none."""
    found = [alarm for alarm in alarms if alarm.began_since(start)]
    return "; ".join(_firing(alarm) for alarm in found) or None


def _firing(alarm: Alarm) -> str:
    assert alarm.in_alarm_since is not None
    now = "" if alarm.state == "ALARM" else f" ({alarm.state} since {moment(alarm.since)})"
    return f"the alarm {alarm.name} began firing at {moment(alarm.in_alarm_since)}{now}"


def remarks_on_alarms(
    names: Sequence[str], alarms: Iterable[Alarm], start: datetime
) -> Iterator[str]:
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


def alarms_without_data(names: Sequence[str], alarms: Iterable[Alarm]) -> str | None:
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


MINUTE = timedelta(minutes=1)

_NUMBERS = (int, float)

HISTORY = timedelta(hours=1)
"""How much of the baseline's past is read: it teaches the judge the baseline's usual rate."""

Overlap = Literal["excluded", "included", "unknown"]

Phase = Literal[
    "running",
    "promoting",
    "promoted",
    "reverted",
    "rolled_back",
    "disabled",
    "promoted_outside",
    "removed_outside",
    "replaced",
]


def _beginning(at: datetime) -> datetime:
    """The beginning of a minute, in UTC; observations have thousands of them."""
    if type(at) is not datetime or at.tzinfo is not UTC:
        at = validation.aware(at, "at")
    if at.second or at.microsecond:
        validation.refuse("at", "the beginning of a minute", at)
    return at


@attrs.frozen
class Minute(Serializable):
    """One minute of one signal, of both variants. Counts may be fractional (interpolated)."""

    at: datetime = attrs.field(converter=_beginning)
    """The beginning of the minute."""
    baseline_requests: float
    """Requests of the baseline."""
    baseline_bad: float
    """Bad requests among them."""
    canary_requests: float
    """Requests of the canary."""
    canary_bad: float
    """Bad requests among them."""
    baseline_unknown: float = 0.0
    """Requests of the baseline whose outcome could not be read. `baseline_requests` includes them,
    `baseline_bad` does not."""
    canary_unknown: float = 0.0
    """Requests of the canary whose outcome could not be read. `canary_requests` includes them,
    `canary_bad` does not."""

    def __attrs_post_init__(self) -> None:
        baseline = (self.baseline_requests, self.baseline_bad, self.baseline_unknown)
        canary = (self.canary_requests, self.canary_bad, self.canary_unknown)
        if _are_counts(*baseline) and _are_counts(*canary):
            return
        for arm, (requests, bad, unknown) in (("baseline", baseline), ("canary", canary)):
            validation.number(requests, f"{arm}_requests", low=0)
            validation.number(bad, f"{arm}_bad", low=0, high=requests)
            validation.number(unknown, f"{arm}_unknown", low=0, high=requests - bad)

    def with_canary_added(self) -> "Minute":
        """Return the minute with the canary's counts added to the baseline's."""
        requests = self.baseline_requests + self.canary_requests
        bad = self.baseline_bad + self.canary_bad
        return Minute(
            self.at,
            requests,
            bad,
            self.canary_requests,
            self.canary_bad,
            min(self.baseline_unknown + self.canary_unknown, requests - bad),  # rounding
            self.canary_unknown,
        )

    def with_canary_subtracted(self) -> "Minute | None":
        """Return the minute with the canary's counts subtracted from the baseline's; None if the
        baseline's counts cannot include them.

        Interpolated (fractional) counts are not exact, so a small negative difference becomes 0.
        The canary's requests of unknown outcome are assumed to be of unknown outcome in the
        baseline's counts too. If the baseline's counts have fewer unknown or fewer bad requests
        than the canary's, the difference becomes requests of unknown outcome of the baseline.
        """
        baseline = baseline_alone(self)
        if baseline is None:
            return None
        requests, bad, unknown = baseline
        return Minute(
            self.at,
            requests,
            bad,
            self.canary_requests,
            self.canary_bad,
            unknown,
            self.canary_unknown,
        )


def baseline_alone(minute: Minute) -> tuple[float, float, float] | None:
    """Requests, bad and unknown ones of the baseline, as of `Minute.with_canary_subtracted`."""
    requests = minute.baseline_requests - minute.canary_requests
    bad = minute.baseline_bad - minute.canary_bad
    if minute.baseline_bad % 1 or minute.canary_bad % 1:
        bad = max(min(bad, requests), 0.0)
    unknown = minute.baseline_unknown - minute.canary_unknown
    if bad < 0:  # bad ones of the canary are of unknown outcome in the baseline's series
        bad, unknown = 0.0, bad + minute.baseline_unknown
    elif unknown < 0:  # bad ones of the baseline's series may be the canary's unknown ones
        bad, unknown = max(bad + unknown, 0.0), min(-unknown, bad)
    if not 0 <= bad <= requests or unknown < 0:
        return None
    return requests, bad, min(unknown, requests - bad)


def _are_counts(requests: object, bad: object, unknown: object) -> bool:
    """Whether they are valid at first sight: most are, at a tenth of the cost of a message."""
    return (
        type(requests) in _NUMBERS
        and type(bad) in _NUMBERS
        and type(unknown) in _NUMBERS
        and 0 <= bad <= requests <= sys.float_info.max  # type: ignore[operator]
        and 0 <= unknown <= requests - bad  # type: ignore[operator]
    )


_ByName = Mapping[str, tuple[Minute, ...]]


def _ordered(minutes: Mapping[str, Iterable[Minute]]) -> _ByName:
    return FrozenMapping(
        {name: tuple(sorted(rows, key=attrgetter("at"))) for name, rows in minutes.items()}
    )


def _as_notes(notes: Iterable[str]) -> tuple[str, ...]:
    kept = () if isinstance(notes, str) else tuple(notes)
    if isinstance(notes, str) or not all(isinstance(note, str) for note in kept):
        validation.refuse("notes", "a list of sentences", notes)
    return kept


def _as_alarms(alarms: Iterable[Alarm]) -> tuple[Alarm, ...]:
    return tuple(alarms)


def _by_route(
    routes: Mapping[str, Mapping[str, Iterable[Minute]]] | None,
) -> Mapping[str, _ByName] | None:
    if routes is None:
        return None
    return FrozenMapping({route: _ordered(minutes) for route, minutes in routes.items()})


def _check_told(minutes: _ByName, routes: Mapping[str, _ByName] | None, suspect: object) -> None:
    """Refuse what would be judged wrongly: a minute that counts twice, a reason without a text."""
    for where, told in [("minutes", minutes), *(routes or {}).items()]:
        for name, rows in told.items():
            if len({row.at for row in rows}) < len(rows):
                validation.refuse(f"{where}[{name!r}]", "each minute once", "a minute twice")
    if suspect is not None and not (isinstance(suspect, str) and suspect):
        validation.refuse("suspect", "a sentence, or None", suspect)


@attrs.frozen(kw_only=True)
class Basis(Serializable):
    """The canary and the percent that a decision was made on, the only ones it can be applied
    to.
    """

    region: str
    """The region of the stage."""
    rest_api_id: str
    """The REST API's id."""
    stage: str
    """The stage's name."""
    rollout_id: str | None
    """The rollout's id; None if its record was lost."""
    deployment_id: str
    """The deployment that serves the canary's requests."""
    overrides: str
    """A fingerprint of the names and values of the stage variables that the canary overrides."""
    percent: float
    """The canary's percent of the requests, 0 to 100."""
    release: str | None = None
    """The release, as given to `enable_canary`; None without one."""


@attrs.frozen(kw_only=True)
class Observation(Serializable):
    """One observation of a rollout. From a saved list of observations you can replay the
    rollout.
    """

    at: datetime = attrs.field(converter=validation.utc, validator=validation.aware_field)
    """When the observation was made."""
    started_at: datetime = attrs.field(converter=validation.utc, validator=validation.aware_field)
    """When the canary was enabled."""
    step_started_at: datetime = attrs.field(
        converter=validation.utc, validator=validation.aware_field
    )
    """When the canary was set to its present percent."""
    percent: float = attrs.field(converter=validation.held_percent)
    """The canary's percent of the requests, 0 to 100."""
    minutes: Mapping[str, tuple[Minute, ...]] = attrs.field(converter=_ordered)
    """Each signal's minutes, by the signal's name. Minutes before `started_at` are the baseline's
    history. Those among them with canary requests are not judged, because the requests were of an
    earlier canary."""
    overlap: Overlap = attrs.field(
        default="excluded",
        validator=validation.checked(validation.choice, choices=get_args(Overlap)),
    )
    """Whether the baseline's counts include the canary's. "included": the canary's counts are
    subtracted. "unknown": both interpretations are evaluated, and only conclusions that hold in
    both count."""
    basis: Basis | None = None
    """The canary and percent that were observed. A decision on an observation without a basis
    cannot be applied."""
    phase: Phase = attrs.field(
        default="running", validator=validation.checked(validation.choice, choices=get_args(Phase))
    )
    """"running", "promoting", "replaced" (by another canary), or how the rollout ended: a value of
    `Outcome`."""
    changed: Mapping[str, str] = attrs.field(default=NO_TEXTS, converter=frozen_texts)
    """Changes of the stage that were made outside this process since this object's previous
    observation: the name of what changed, and how it differs. No variable values."""
    production_changed: Mapping[str, str] = attrs.field(default=NO_TEXTS, converter=frozen_texts)
    """Changes of production outside this rollout since it began, or since
    `canary.accept_production_changes()`: of its deployment, or of a variable that the canary
    overrides. The name of what changed, and how it differs. No variable values."""
    on_hold: str | None = None
    """The reason that an operator gave to `canary.hold`; None if the rollout is not on hold."""
    held_for: timedelta = timedelta(0)
    """How long the rollout has been on hold in total. This time does not count toward the
    deadline."""
    failure: str | None = None
    """Why the metrics or alarms could not be read; None if they were read."""
    failing_since: datetime | None = attrs.field(
        default=None, converter=validation.utc_or_none, validator=validation.aware_field
    )
    """Since when the metrics or alarms could not be read; None if they were read, or if that is not
    known."""
    last_complete_at: datetime | None = attrs.field(
        default=None, converter=validation.utc_or_none, validator=validation.aware_field
    )
    """When the metrics and alarms were last read in full; None if that is not known."""
    notes: tuple[str, ...] = attrs.field(default=(), converter=_as_notes)
    """What the source reports about how it measured, and about data that it lacks: one sentence
    each."""
    alarms: tuple[Alarm, ...] = attrs.field(default=(), converter=_as_alarms)
    """The alarms that the policy names; empty if they were not read."""
    routes: Mapping[str, Mapping[str, tuple[Minute, ...]]] | None = attrs.field(
        default=None, converter=_by_route
    )
    """Each route's minutes by signal name; the keys are routes such as "GET /orders/{id}". None if
    the source does not measure routes."""
    suspect: str | None = None
    """Why the counts may not be those of the two variants; None if they are trusted. Suspect counts
    are never evidence that the canary is not worse."""
    not_observed: Mapping[str, str] = attrs.field(default=NO_TEXTS, converter=frozen_texts)
    """Each signal that the source could not measure at all, and why. Such a signal gives no
    evidence. Also each route of the source's list for which it has no data."""
    _cache: object = attrs.field(default=None, init=False, eq=False, repr=False)
    """What makes a decision about it cheap and never changes it (`judge.kept.Cache`)."""

    def __attrs_post_init__(self) -> None:
        if len({alarm.name for alarm in self.alarms}) < len(self.alarms):
            validation.refuse(
                "alarms", "alarms with different names", [a.name for a in self.alarms]
            )
        _check_told(self.minutes, self.routes, self.suspect)

    @property
    def age(self) -> timedelta:
        """How long the rollout has run, without the time on hold. The deadline applies to this
        time.
        """
        return self.at - self.started_at - self.held_for

    def judged_from(self) -> datetime:
        """Return the first minute that is certainly this canary's: the first one that begins a
        minute or more after it was enabled.

        An earlier canary may have had requests until then, and a change of the stage takes some
        seconds to take effect on all requests.
        """
        return ceil_minute(self.started_at + MINUTE)

    def step_judged_from(self) -> datetime:
        """Return the first minute that certainly has the present percent: the first one that begins
        a minute or more after the step.
        """
        return max(self.judged_from(), ceil_minute(self.step_started_at + MINUTE))

    def complete_minutes(
        self, name: str, age: timedelta, *, route: str | None = None
    ) -> list[Minute]:
        """Return the minutes of a signal that ended at least `age` ago, with the baseline's
        history.

        Minutes before `judged_from` in which a canary had requests are left out.
        """
        first, last = self.judged_from(), self.at - age - MINUTE
        minutes = self.minutes if route is None else (self.routes or {}).get(route, {})
        return [
            row
            for row in minutes.get(name, ())
            if row.at <= last and (row.at >= first or not row.canary_requests)
        ]


def ceil_minute(time: datetime) -> datetime:
    """The first full minute at or after a time."""
    if not (time.second or time.microsecond):
        return time
    return floor_minute(time) + MINUTE


def floor_minute(time: datetime) -> datetime:
    """The last full minute at or before a time."""
    return time.replace(second=0, microsecond=0)


@attrs.frozen
class Measurements(Mapping[str, tuple[Minute, ...]]):
    """The minutes that a source measured, by signal name, and how to interpret them."""

    minutes: Mapping[str, tuple[Minute, ...]] = attrs.field(converter=_ordered)
    """Each signal's minutes, by the signal's name."""
    overlap: Overlap = attrs.field(
        default="excluded",
        validator=validation.checked(validation.choice, choices=get_args(Overlap)),
        kw_only=True,
    )
    """Whether the baseline's counts include the canary's: "included", "excluded" or "unknown"."""
    notes: tuple[str, ...] = attrs.field(default=(), converter=_as_notes, kw_only=True)
    """How the source measured, and which data it lacks: one sentence each."""
    routes: Mapping[str, Mapping[str, tuple[Minute, ...]]] | None = attrs.field(
        default=None, converter=_by_route, kw_only=True
    )
    """Each route's minutes by signal name; the keys are routes such as "GET /orders/{id}". None if
    routes are not measured."""
    suspect: str | None = attrs.field(default=None, kw_only=True)
    """Why the counts may not be those of the two variants, and what to do about it; None if they
    are trusted."""
    not_observed: Mapping[str, str] = attrs.field(
        default=NO_TEXTS, converter=frozen_texts, kw_only=True
    )
    """Each signal that could not be measured at all, and why, as a clause. Such a signal gives no
    evidence, and a critical one is never confirmed; it is no failure of the source. Also each route
    of the source's list, such as "GET /orders", for which it has no data: the decision is then
    Hold."""

    def __attrs_post_init__(self) -> None:
        _check_told(self.minutes, self.routes, self.suspect)

    def merged_with(self, others: Mapping[str, Iterable[Minute]]) -> "Measurements":
        """Return these measurements with the signals of another source, which counts the variants
        separately.

        If the baseline's counts of this source include the canary's, the canary's counts are added
        to the baseline's of the other source too.
        """
        others = _ordered(others)
        if self.overlap == "included":
            others = {
                name: tuple(row.with_canary_added() for row in rows)
                for name, rows in others.items()
            }
        return attrs.evolve(self, minutes={**self.minutes, **others})

    def __getitem__(self, name: str) -> tuple[Minute, ...]:
        return self.minutes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.minutes)

    def __len__(self) -> int:
        return len(self.minutes)


class MetricSource(Protocol):
    """A source of minutes: CloudWatch, logs, or your own counts.

    Raise an exception if the counts cannot be read. The decision is then Hold, and Rollback after
    the policy's `max_unobserved`; `enable_canary` with a policy raises `MetricsError`, with your
    exception as its cause. Return `Measurements` if the baseline's counts include or may include
    the canary's, or if the source has notes. Any other mapping means that the two variants are
    counted separately.

    If a source has a method `using(calls)`, the stage uses the source that this method returns.
    Sources that read from AWS get the stage's session, retries and clock this way. A source that
    wraps one of them passes `calls` to its `using`, and returns itself or a copy.

    ```python
    from datetime import timedelta

    from apigw_canary import Minute, RolloutPolicy, Signal, Stage


    class Refunds:
        def minutes(self, stage, signals, start, end):
            rows = [Minute(start, 380, 3, 20, 0)]  # of your own counts, each minute that is known
            return {signal.name: rows for signal in signals}


    refunds = [Signal.custom("refunds", margin=0.02, critical=True)]
    policy = RolloutPolicy.canary(5, timedelta(minutes=10), signals=refunds)
    canary = Stage("a1b2c3d4e5", "prod", metrics=Refunds()).enable_canary(5)
    print(policy.decide(canary.observe(policy)))
    ```
    """

    def minutes(
        self,
        stage: StageState,
        signals: Sequence[Signal],
        start: datetime,
        end: datetime,
    ) -> Mapping[str, Sequence[Minute]]:
        """Return the minutes of each signal that begin in [start, end), by the signal's name.

        `start` and `end` are whole minutes in UTC. `start` is an hour before the canary was
        enabled, and `end` is the present minute, so the latest row is that of the minute before.
        Each observation calls the method for the whole time again; a row may have other counts than
        before.

        Leave out a minute whose counts are not known or not complete yet; do not return it as a
        minute without requests. Rows younger than the policy's `metric_delay` are not judged: their
        counts may still change. `observe` waits for this method. Give a slow query a timeout
        shorter than the time between two observations, and raise an exception when it expires.
        """
        ...
