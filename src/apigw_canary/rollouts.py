"""Observe and apply: what a canary of a stage and one of an alias have in common."""

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypedDict, TypeVar, assert_never

import attrs

from apigw_canary.aws import RETRY_FOR, Calls, Session, log, read_alarms, require_alarms
from apigw_canary.changes.records import RolloutRecords
from apigw_canary.changes.sending import (
    Condition,
    Known,
    Snapshot,
    acting,
    check_production,
    listed,
    stated,
    unconditionally,
)
from apigw_canary.errors import (
    CanaryError,
    DecisionExpiredError,
    MetricsError,
    StageChangedError,
)
from apigw_canary.judge import (
    HISTORY,
    Alarm,
    Analysis,
    Basis,
    Cache,
    Measurements,
    MetricSource,
    Observation,
    Phase,
    keep_in,
)
from apigw_canary.metrics.cloudwatch import CloudWatchMetrics
from apigw_canary.metrics.lambda_metrics import LambdaMetrics
from apigw_canary.metrics.source import bound_to, source_of
from apigw_canary.model import MAX_REASON, Comparison, EndedBy, Outcome, Promotion, StageState
from apigw_canary.policy import RolloutPolicy
from apigw_canary.preflight.traffic import data_lacking, outlook
from apigw_canary.rollout.decisions import Decision, Hold, Promote, Rollback, Shift
from apigw_canary.texts import bounded
from apigw_canary.values import sentence, share, span, validation

_Read = TypeVar("_Read")


_LONGEST_FAILURE = 600
"""Characters of a failure that an observation, and so a decision, shows."""


class RolloutProgress(NamedTuple):
    """Where a rollout stands."""

    phase: Phase
    started_at: datetime
    step_started_at: datetime
    on_hold: str | None = None
    """Why the rollout is on hold."""
    held_for: timedelta = timedelta(0)
    production_changed: Mapping[str, str] = {}
    failing_since: datetime | None = None
    """Since when the metrics cannot be read, as it is on record."""
    policy: str | None = None
    """The fingerprint of the policy that the rollout began with."""
    suspect: str | None = None
    """Why there is nothing to judge."""


def unread(error: CanaryError) -> str:
    """Why a rollout whose record cannot be read is held."""
    return "its record cannot be read, so it may be on hold: " + error.happened


def policy_fingerprint(policy: RolloutPolicy) -> str:
    """Eight hexadecimal digits that change when a field of the policy does that changes decisions.

    Signals that are only reported do not.
    """
    import hashlib  # here, to keep the import of the library cheap

    data = policy.to_dict()
    data["signals"] = [signal for signal in data["signals"] if not signal["report_only"]]
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:8]


def first_percent(percent: float | None, policy: RolloutPolicy | None) -> float:
    """The percent to begin with: the policy's first step where none is given."""
    if percent is None:
        if policy is None:
            validation.refuse("percent", "a number from 0 to 100 if no policy is given", percent)
        return policy.steps[0].percent
    checked = validation.percent(percent)
    if policy is not None and (note := _no_step(checked, policy)):
        log.warning("%s", note)
    return checked


def _no_step(percent: float, policy: RolloutPolicy) -> str | None:
    steps = [step.percent for step in policy.steps]
    if percent == 0 or percent in steps:
        return None
    shown = ", ".join(f"{step:g} %" for step in steps)
    return f"The canary's {percent:g} % is no step of the policy, whose steps are {shown}."


class Connection(TypedDict, total=False):
    """How AWS is called about a stage or an alias, and where its minutes and records are kept."""

    session: Session | None
    metrics: MetricSource | None
    records: RolloutRecords | None
    clock: Callable[[], datetime] | None
    sleep: Callable[[float], None]
    retry_for: timedelta


class Controlled:
    """What reads and changes a stage or an alias: its classes give the type of `_control`."""

    _control: Any

    @property
    def _known(self) -> Known[Any]:
        known: Known[Any] = self._control.known
        return known


class AnyPlace(Controlled):
    """A stage or an alias on which a canary can be enabled."""

    _compares: type[CloudWatchMetrics | LambdaMetrics] = CloudWatchMetrics
    """Its own source of metrics, which is the default, and which compares its variants."""

    def __init__(
        self,
        *,
        session: Session | None = None,
        metrics: MetricSource | None = None,
        records: RolloutRecords | None = None,
        clock: Callable[[], datetime] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        retry_for: timedelta = RETRY_FOR,
    ) -> None:
        self._calls = Calls(session, clock=clock, sleep=sleep, retry_for=retry_for)
        self._records = records
        self._metrics = bound_to(self._calls, self._compares() if metrics is None else metrics)

    @property
    def metrics(self) -> MetricSource:
        """The metric source."""
        return self._metrics

    @property
    def region(self) -> str:
        """The AWS region, such as `eu-central-1`."""
        return self._calls.region

    def _compared(self, start: datetime, end: datetime) -> Comparison:
        start, end = window(start, end)
        seen = self._control.read()
        source = source_of(self._compares, self._metrics, self._calls)
        return source.compare(seen.stage, start, end, at=seen.at)


def window(start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """A past window, checked."""
    start, end = validation.aware(start, "start"), validation.aware(end, "end")
    if end <= start:
        validation.refuse("end", f"after start ({start})", end)
    return start, end


def check_revert(promotion: object, dry_run: object) -> None:
    """Refuse what `revert` does not take."""
    if promotion is not None and not isinstance(promotion, Promotion):
        validation.refuse("promotion", "a Promotion or None", promotion)
    validation.flag(dry_run, "dry_run")


class Verbs(NamedTuple):
    """What changes a stage, or an alias, or the record of a rollout on it.

    Each takes what reads and changes the place, and which canary it is about. `promote` returns the
    receipt, `roll_back` whether there was a canary, all others which canary it is about now.
    """

    hold: Callable[..., Any]
    resume: Callable[..., Any]
    accept_production: Callable[..., Any]
    failing: Callable[..., Any]
    shift: Callable[..., Any]
    promote: Callable[..., Promotion]
    roll_back: Callable[..., bool]


class AnyCanary(Controlled, ABC):
    """A canary that can be watched, and decisions about it carried out.

    Its classes give the type of `_handle`, which states which canary it is.
    """

    _handle: Any
    _verbs: Verbs

    def __init__(self, control: Any, handle: Any, metrics: MetricSource) -> None:
        self._control = control
        self._handle = handle
        self._metrics = metrics
        self._ended: Outcome | None = None
        seen = control.known.last
        self._observed: StageState | None = seen.stage if seen is not None else None
        self._last_complete_at: datetime | None = None
        self._failed_at: datetime | None = None
        self._cache = Cache()

    @property
    def release(self) -> str | None:
        """The release, as given to `enable_canary`."""
        release: str | None = self._handle.release
        return release

    @abstractmethod
    def _progress(self, seen: Any) -> RolloutProgress:
        """Where the rollout stands, as seen."""

    @abstractmethod
    def _basis(self, percent: float) -> Basis:
        """What a decision about this canary at that percent is made from."""

    @abstractmethod
    def _compared(self) -> Comparison:
        """Both variants side by side: what `compare` gives."""

    @stated
    def describe(self) -> StageState:
        """Read the stage or alias that this canary was enabled on, with one call."""
        state: StageState = self._control.read().stage
        return state

    @stated
    def shift(self, percent: float) -> None:
        """Set the canary's percent of the requests, 0 to 100, with two calls.

        At 0 % the canary still exists, and AWS refuses ordinary deployments to the stage. To keep
        the present percent for a while, use `hold`. It changes nothing and succeeds if the canary
        already has that percent, or if a promotion was begun, which `promote` finishes. If another
        tool has set this percent on an alias, the step begins now.
        """
        self._shift(validation.percent(percent))

    @stated
    def hold(self, reason: str) -> None:
        """Keep the present percent until `resume` is called, by this or another process.

        The hold is in the rollout's record. `observe` returns the reason, and the decision is Hold
        with that reason. A hold never prevents a Rollback. Time on hold does not count toward the
        deadline, but a rollout still ends 14 days after its start. `reason` is one line of at most
        120 characters; a second call replaces it. It makes five AWS calls, three for an alias. The
        description of an alias is too short for the reason: without `records`, other processes find
        that the rollout is on hold, but not why.
        """
        reason = validation.text(reason, "reason", limit=MAX_REASON)
        self._handle = self._verbs.hold(self._control, self._handle, reason)

    @stated
    def resume(self) -> None:
        """End the hold of this or another process, with at most five calls; succeed if there is
        none.
        """
        self._handle = self._verbs.resume(self._control, self._handle)

    @stated
    def accept_production_changes(self) -> None:
        """Continue after production was changed outside this rollout: record production as it is
        now.

        Before this call, `Observation.production_changed` names what was changed, the decision is
        Hold, `apply` does not shift or promote, and `promote` raises `StageChangedError`, as does
        `shift` for an alias. The same applies after a later change. It makes at most five calls.
        """
        self._handle = self._verbs.accept_production(self._control, self._handle)

    @stated
    def rollback(self) -> None:
        """End the canary at once; production keeps, or gets back, what it served before the
        rollout.

        If a promotion was unfinished and the record does not prove it, the canary is ended and
        `StageChangedError` states what production serves. What another process promotes on a stage
        during this call is undone. It makes two calls; for a stage one more
        to undo a promotion, and five to record the rollback: two before, each sent once and for at
        most two seconds, and three afterwards. Without a canary it succeeds, after two reads two
        seconds apart have found none; if they do not agree it raises `CannotTellError`, because a
        canary may still be active. If the canary was promoted it raises `RolloutEndedError`;
        `revert` undoes a promotion.
        """
        self._roll_back("caller")

    @stated
    def disable(self) -> None:
        """End the canary as `rollback` does, with the outcome "disabled" instead of "rolled back".

        It succeeds if the canary was promoted or has already ended, and undoes no promotion that
        another process finishes during this call.
        """
        self._roll_back("caller", Outcome.DISABLED)

    def _shift(self, percent: float, *, only_if: Condition = unconditionally) -> None:
        with acting(self.release):
            self._handle = self._verbs.shift(self._control, self._handle, percent, only_if=only_if)

    def _promote(self, **how: Any) -> Promotion:
        with acting(self.release):
            receipt = self._verbs.promote(self._control, self._handle, **how)
        self._ended = Outcome.PROMOTED
        return receipt

    def _roll_back(self, by: EndedBy, outcome: Outcome = Outcome.ROLLED_BACK) -> None:
        with acting(self.release):
            if self._verbs.roll_back(self._control, self._handle, by=by, outcome=outcome):
                self._ended = outcome

    @stated
    def observe(
        self, policy: RolloutPolicy, *, last_complete_at: datetime | None = None
    ) -> Observation:
        """Read the stage and, while the canary runs, the metrics and the policy's alarms.

        Alarms take one DescribeAlarms, and one DescribeAlarmHistory for each alarm that has changed
        its state since the start and is not firing now.

        If the metrics or alarms cannot be read, no error is raised: the observation has the
        `failure`, and its traceback is logged. The decision is then Hold, and Rollback once the
        failure has lasted for the policy's `max_unobserved`. The time since when it has lasted is
        in the rollout's record, with one write when it begins and one when it ends, so each
        observation can run in a process of its own. If the record cannot be written, a warning is
        logged.

        An alias's description has no space for that time. If you use one process for each
        observation of an alias without `records`, pass the time of the last observation without a
        failure as `last_complete_at`. It takes precedence over the record.
        """
        if not isinstance(policy, RolloutPolicy):
            validation.refuse("policy", "a RolloutPolicy", policy)
        own_before, seen = self._known.own(), self._control.read()
        progress = self._progress(seen)
        ended_outside = progress.phase in ("removed_outside", "promoted_outside")
        if ended_outside and seen.stage.canary is None:
            seen = self._control.present()
            progress = self._progress(seen)
        phase, started_at, step_started_at = progress[:3]
        state = seen.stage
        before, self._observed = self._observed, state
        found = Measurements({})
        alarms: tuple[Alarm, ...] = ()
        failures: list[str] = []
        if last_complete_at is not None:
            self._last_complete_at = validation.aware(last_complete_at, "last_complete_at")
        if phase in ("running", "promoting"):
            found = _tried(
                failures,
                found,
                lambda: measured(self._metrics, state, policy, started_at, seen.at),
            )
            if phase == "running" and policy.alarms:  # a promotion goes on whatever they say
                alarms = _tried(
                    failures,
                    alarms,
                    lambda: read_alarms(self._control.calls, policy.alarms, started_at),
                )
            if not failures:
                self._last_complete_at = seen.at
        failing_since = self._failing(seen, progress, failures)
        percent = state.canary.percent if state.canary and phase == "running" else 0.0
        notes = found.notes
        if phase == "running":
            notes = (*notes, *self._plan_notes(percent, policy, progress))
        observation = Observation(
            at=seen.at,
            started_at=started_at,
            step_started_at=step_started_at,
            percent=percent,
            minutes=found.minutes,
            overlap=found.overlap,
            notes=notes,
            routes=found.routes,
            suspect=progress.suspect or found.suspect,
            not_observed=found.not_observed,
            basis=self._basis(percent),
            phase=phase,
            changed=_changed(before, state, (*own_before, *self._known.own())),
            production_changed=progress.production_changed if phase == "running" else {},
            on_hold=progress.on_hold if phase == "running" else None,
            held_for=progress.held_for,
            failing_since=failing_since,
            alarms=alarms,
            failure="; ".join(failures) or None,
            last_complete_at=self._last_complete_at,
        )
        return keep_in(self._cache, observation)

    def _failing(
        self, seen: Snapshot, progress: RolloutProgress, failures: list[str]
    ) -> datetime | None:
        """Since when metrics or alarms cannot be read; recorded once, where that is news.

        An observation that was complete, of this object or as the caller states, is known best.
        Without one it is what the record has, or else the first one of this object that failed.
        """
        recorded = progress.failing_since
        since = None
        if failures:
            since = self._last_complete_at or recorded or self._failed_at or seen.at
        self._failed_at = since
        is_news = (since is None) != (recorded is None) or (since and recorded and since > recorded)
        if is_news and progress.phase == "running":
            try:
                self._handle = self._verbs.failing(self._control, self._handle, since)
            except Exception as error:  # noqa: BLE001 - of the caller's store of records, perhaps
                log.warning("since when metrics cannot be read is not on record: %s", error)
        return since

    def _plan_notes(
        self, percent: float, policy: RolloutPolicy, progress: RolloutProgress
    ) -> Iterator[str]:
        """Notes on the policy: that it is another one, or that the percent is no step of it."""
        if (note := _no_step(percent, policy)) is not None:
            yield note
        now = policy_fingerprint(policy)
        if progress.policy is not None and progress.policy != now:
            log.warning("another policy (%s) than at the start (%s)", now, progress.policy)
            yield (
                f"The policy is not the one that the rollout began with (fingerprint {now} instead "
                f"of {progress.policy})."
            )

    @stated
    def compare(self) -> Comparison:
        """Compare both variants from when the canary was enabled until now, or until it ended.

        It gives no verdict. It has the requests, 4xx and 5xx answers, latency and integration
        latency (mean, p50, p90, p99) and the stage's cache, for the whole window and for each
        minute. They are read from CloudWatch, from `AWS/ApiGateway` for a stage and `AWS/Lambda`
        for an alias. Minutes that ended less than five minutes ago are left out, because their
        metrics may not be complete.

        It makes one GetStage and one GetMetricData; the first time also GetRestApis and GetStages.
        Raises `MetricsError` if CloudWatch returns partial results.
        """
        return self._compared()

    @stated
    def analyze(self, policy: RolloutPolicy) -> Analysis:
        """Observe the rollout and return the evidence so far."""
        return policy.analyze(self.observe(policy))

    @stated
    def apply(self, decision: Decision) -> Promotion | None:
        """Apply a decision, with at most one change of traffic.

        A Hold makes no calls. If the stage is already as decided, nothing is changed. It raises
        `StageChangedError` if the decision was made about another canary or on another percent, and
        `DecisionExpiredError` if a Shift or Promote is older than its `lifetime` (by default ten
        minutes). A Rollback does not expire and may have been decided on any percent. Returns the
        receipt of a promotion, else None.
        """
        if not isinstance(decision, Hold | Shift | Promote | Rollback):
            validation.refuse("decision", "a Hold, Shift, Promote or Rollback", decision)
        if isinstance(decision, Hold):
            return None
        self._check_basis(decision)
        with acting(self.release, decision.reason):
            return self._apply(decision)

    def _apply(self, decision: Shift | Promote | Rollback) -> Promotion | None:
        match decision:
            case Shift(percent=percent):
                self._shift(percent, only_if=self._still_due(decision))
            case Promote():
                return self._promote(only_if=self._still_due(decision))
            case Rollback():
                self._roll_back("judge")
            case _:
                assert_never(decision)
        return None

    def _check_basis(self, decision: Decision) -> None:
        """Refuse a decision about anything but this canary of this rollout."""
        if decision.basis is None:
            validation.refuse("decision", "one made on an observation with a basis", "one without")
        basis = decision.basis
        ours = attrs.evolve(self._basis(basis.percent), release=basis.release)
        if isinstance(decision, Rollback) and None in {ours.rollout_id, basis.rollout_id}:
            # A rollback does not wait for a record: deployment and variables have to do.
            basis = attrs.evolve(basis, rollout_id=ours.rollout_id)
        if ours != basis:
            mine, theirs = ours.to_dict(), basis.to_dict()
            differences = {
                name: f"{mine[name]} instead of {theirs[name]}"
                for name in mine
                if mine[name] != theirs[name]
            }
            raise StageChangedError(
                f"The decision was made about another canary: {listed(differences)}.",
                differences=differences,
                remedy="Observe and decide again.",
            )

    def _still_due(self, decision: Shift | Promote) -> Condition:
        """The condition on which a decision may change anything."""

        def check(seen: Snapshot) -> None:
            _check_due(decision, seen)
            progress = self._progress(seen)
            if progress.on_hold is not None:
                raise StageChangedError(
                    f"The rollout is on hold: {progress.on_hold}.",
                    differences={"on_hold": progress.on_hold},
                    remedy="canary.resume() ends the hold; then observe and decide again.",
                )
            check_production(progress.production_changed)

        return check


def _changed(
    before: StageState | None, state: StageState, own: tuple[StageState, ...]
) -> dict[str, str]:
    """What was changed outside this process since this canary was observed last."""
    if before is None or before.canary is None or state.canary is None:
        return {}  # that a canary came or went is the phase
    expected = [state.differences(each) for each in own]
    return {
        name: how
        for name, how in state.differences(before).items()
        if all(name in differences for differences in expected)
    }


def _tried(failures: list[str], otherwise: _Read, read: Callable[[], _Read]) -> _Read:
    """What is read; or `otherwise`, and a failure more."""
    try:
        return read()
    except Exception as error:  # noqa: BLE001 - a caller's own source may raise anything
        failure = bounded(f"{type(error).__name__}: {error}", _LONGEST_FAILURE)
        log.warning("A canary could not be observed. %s", failure, exc_info=error)
        failures.append(failure)
        return otherwise


def measured(
    metrics: MetricSource, state: StageState, policy: RolloutPolicy, start: datetime, end: datetime
) -> Measurements:
    """The minutes of a rollout from `start` to `end`, and the baseline's history before it.

    Whatever a source raises that is no error of this library is `MetricsError`, with it as cause.
    """
    try:
        found = metrics.minutes(
            state,
            policy.signals,
            (start - HISTORY).replace(second=0, microsecond=0),
            end.replace(second=0, microsecond=0),
        )
        if not isinstance(found, Measurements):
            found = Measurements({name: tuple(rows) for name, rows in found.items()})
    except CanaryError:
        raise
    except Exception as error:
        raise MetricsError(
            f"The metric source {type(metrics).__name__} failed: "
            + sentence(f"{type(error).__name__}: {error}"),
            remedy="Correct the source. Its own error is the cause (`__cause__`) of this one.",
        ) from error
    names = [signal.name for signal in policy.signals]
    unasked = [name for name in found if name not in names]
    told = f", but of {', '.join(unasked)}" if unasked else ""
    missing = dict.fromkeys(names, f"the source gave no minutes of it{told}")
    for name in found:
        missing.pop(name, None)
    return attrs.evolve(found, not_observed={**missing, **found.not_observed})


def watchable(calls: Calls, metrics: MetricSource, policy: RolloutPolicy | None) -> Condition:
    """The condition on which a canary is enabled: that it can be watched with that policy.

    Found out later the same would be a Hold, with a canary that has traffic.
    """
    if policy is not None and not isinstance(policy, RolloutPolicy):
        validation.refuse("policy", "a RolloutPolicy or None", policy)

    def check(seen: Snapshot) -> None:
        if policy is None:
            return
        if policy.alarms:
            require_alarms(calls, policy.alarms)
        _check_traffic(policy, measured(metrics, seen.stage, policy, seen.at, seen.at))

    return check


def _check_traffic(policy: RolloutPolicy, past_hour: Measurements) -> None:
    """Refuse a policy whose canary would never be promoted; log where it will not be in time.

    It would not with suspect metrics, without minutes of a critical signal, or with unknown
    outcomes beyond half of a signal's margin.
    """
    if past_hour.suspect is not None:
        raise MetricsError(
            f"The metrics are suspect, so that no canary would be promoted: {past_hour.suspect}.",
            remedy="Correct the metrics, or enable the canary without `policy`.",
        )
    for what, remedy in data_lacking(policy, past_hour):
        raise MetricsError(what, remedy=remedy)
    for signal in policy.signals:
        may_lack = signal.report_only or (signal.is_latency and not signal.critical)
        rows = () if may_lack else past_hour.get(signal.name, ())
        requests = sum(row.baseline_requests + row.canary_requests for row in rows)
        unknown = sum(row.baseline_unknown + row.canary_unknown for row in rows)
        if unknown > signal.margin / 2 * requests:
            raise MetricsError(
                f"The outcome of {share(unknown / requests, requests)} requests in the past hour "
                f"could not be read for {signal.name}. No canary is promoted from "
                f"{50 * signal.margin:.2g} % on, half of the signal's margin.",
                remedy="If the source is CloudWatch, its error metric is late or missing for these "
                "minutes: wait until it has a number for each (docs/cloudwatch-metrics.md). If the "
                "source is the access logs, correct their format (docs/access-logs.md).",
            )
    found = outlook(policy, past_hour)
    if found is not None and not found.in_time:
        log.warning("With the traffic of the past hour %s.", found.said)


def _check_due(decision: Shift | Promote, seen: Snapshot) -> None:
    """Refuse a decision that is too old, or was made on another percent than the canary has."""
    basis = decision.basis
    assert basis is not None
    age = seen.at - decision.at
    if age > decision.lifetime:
        raise DecisionExpiredError(
            f"The decision was made {span(age)} ago. It can be applied for "
            f"{span(decision.lifetime)}.",
            age=age,
            remedy="Observe and decide again.",
        )
    percent = seen.stage.canary.percent if seen.stage.canary else 0.0
    if percent != basis.percent:
        differences = {"canary.percent": f"{percent:g} instead of {basis.percent:g}"}
        raise StageChangedError(
            f"The canary's percent is not the one the decision was made on: {listed(differences)}.",
            differences=differences,
            remedy="Observe and decide again.",
        )
