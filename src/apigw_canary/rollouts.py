"""Observe and apply: what a canary of a stage and one of an alias have in common."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import datetime
from typing import Literal, NamedTuple, TypeVar, assert_never

import attrs

from apigw_canary.aws.alarms import read_alarms, require_alarms
from apigw_canary.aws.calls import Calls, log
from apigw_canary.changes.journal import acting
from apigw_canary.changes.sending import Condition, Look, listed
from apigw_canary.errors import (
    CanaryError,
    DecisionExpiredError,
    MetricsError,
    StageChangedError,
)
from apigw_canary.preflight.traffic import never_given, outlook
from apigw_canary.rollout import inputs
from apigw_canary.rollout.alarms import Alarm
from apigw_canary.rollout.decision import Decision, Hold, Promote, Rollback, Shift
from apigw_canary.rollout.findings import Analysis
from apigw_canary.rollout.observation import (
    HISTORY,
    Basis,
    Measurements,
    MetricSource,
    Observation,
    Phase,
)
from apigw_canary.rollout.policy import RolloutPolicy
from apigw_canary.rollout.promotion import Promotion
from apigw_canary.rollout.state import StageState
from apigw_canary.rollout.words import span
from apigw_canary.texts import bounded

_Read = TypeVar("_Read")


_LONGEST_FAILURE = 600
"""Characters of a failure that an observation, and so a decision, shows."""


class Standing(NamedTuple):
    """Where a rollout stands."""

    phase: Phase
    started_at: datetime
    step_started_at: datetime


class AnyCanary(ABC):
    """A canary that can be watched, and decisions about it carried out."""

    def __init__(self, metrics: MetricSource) -> None:
        self._metrics = metrics
        self._ended: Literal["promoted", "rolled_back", "removed"] | None = None
        self._last_complete_at: datetime | None = None

    @property
    @abstractmethod
    def release(self) -> str | None:
        """The release, as given to `enable_canary`."""

    @abstractmethod
    def _calls(self) -> Calls:
        """How AWS is called."""

    @abstractmethod
    def _last(self) -> Look | None:
        """What this process saw last."""

    @abstractmethod
    def _look(self) -> Look:
        """What is there now."""

    @abstractmethod
    def _standing(self, seen: Look) -> Standing:
        """Where the rollout stands, as seen."""

    @abstractmethod
    def _basis(self, percent: float) -> Basis:
        """What a decision about this canary at that share is made on."""

    @abstractmethod
    def _shift(self, percent: float, *, only_if: Condition) -> None:
        """Set the share, on a condition."""

    @abstractmethod
    def _promote(self, *, only_if: Condition) -> Promotion:
        """Promote the canary, on a condition."""

    @abstractmethod
    def rollback(self) -> None:
        """End the canary at once; production keeps what it had before the rollout."""

    def observe(
        self, policy: RolloutPolicy, *, last_complete_at: datetime | None = None
    ) -> Observation:
        """Look at the rollout: one read and, while the canary runs, one of the metrics.

        Alarms that the policy names take one DescribeAlarms, and one DescribeAlarmHistory for each
        that has changed its state since the start and does not fire.

        A source that fails, of metrics or alarms, for whatever reason, does not raise, for that
        would leave a canary with nobody to watch it: its failure is in the observation, and the
        decision is Hold until the policy's `max_unobserved` is over, then Rollback. How long it has
        failed is remembered by this object; a process that starts afresh for each look gives the
        time of the last look that saw everything as `last_complete_at`. Without it a failing source
        is Hold until the deadline.
        """
        if not isinstance(policy, RolloutPolicy):
            inputs.refuse("policy", "a RolloutPolicy", policy)
        before, seen = self._last(), self._look()
        state = seen.stage
        phase, started_at, step_started_at = self._standing(seen)
        found = Measurements({})
        alarms: tuple[Alarm, ...] = ()
        failures: list[str] = []
        if last_complete_at is not None:
            self._last_complete_at = inputs.aware(last_complete_at, "last_complete_at")
        elif self._last_complete_at is None:
            self._last_complete_at = (
                seen.at
            )  # what was before this object's first look it cannot know
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
                    lambda: read_alarms(self._calls(), policy.alarms, started_at),
                )
            if not failures:
                self._last_complete_at = seen.at
        percent = state.canary.percent if state.canary and phase == "running" else 0.0
        return Observation(
            at=seen.at,
            started_at=started_at,
            step_started_at=step_started_at,
            percent=percent,
            minutes=found.minutes,
            overlap=found.overlap,
            notes=found.notes,
            routes=found.routes,
            suspect=found.suspect,
            basis=self._basis(percent),
            phase=phase,
            changed=_changed(before, state),
            alarms=alarms,
            failure="; ".join(failures) or None,
            last_complete_at=self._last_complete_at,
        )

    def analyze(self, policy: RolloutPolicy) -> Analysis:
        """The evidence so far; looks at the rollout as `observe` does."""
        return policy.analyze(self.observe(policy))

    def apply(self, decision: Decision) -> Promotion | None:
        """Carry a decision out: at most one change of traffic.

        Hold sends nothing, and what is already as asked is success. A decision about another
        canary, or made on another share, is `StageChangedError`; a Shift or Promote older than its
        `lifetime` (ten minutes unless the policy says otherwise) is `DecisionExpiredError`. A
        Rollback is never too old and ignores the share. Returns the receipt of a promotion.
        """
        if not isinstance(decision, Hold | Shift | Promote | Rollback):
            inputs.refuse("decision", "a Hold, Shift, Promote or Rollback", decision)
        if isinstance(decision, Hold):
            return None
        self._check_basis(decision)
        with acting(self.release, decision.reason):
            return self._apply(decision)

    def _apply(self, decision: Shift | Promote | Rollback) -> Promotion | None:
        match decision:
            case Shift(percent=percent):
                self._shift(percent, only_if=_still_due(decision))
            case Promote():
                return self._promote(only_if=_still_due(decision))
            case Rollback():
                self.rollback()
            case _:
                assert_never(decision)
        return None

    def _check_basis(self, decision: Decision) -> None:
        """Refuse a decision about anything but this canary of this rollout."""
        if decision.basis is None:
            inputs.refuse("decision", "one made on an observation with a basis", "one without")
        basis = decision.basis
        ours = self._basis(basis.percent)
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
                state="Nothing was sent.",
                remedy="Observe and decide again.",
            )


def _changed(before: Look | None, state: StageState) -> dict[str, str]:
    """What somebody else changed since this process saw or changed the stage last."""
    if before is None or before.stage.canary is None or state.canary is None:
        return {}  # that a canary came or went is the phase
    return state.differences(before.stage)


def _tried(failures: list[str], otherwise: _Read, read: Callable[[], _Read]) -> _Read:
    """What is read; or `otherwise`, and a failure more."""
    try:
        return read()
    except Exception as error:  # noqa: BLE001 - a caller's own source may raise anything
        failures.append(bounded(f"{type(error).__name__}: {error}", _LONGEST_FAILURE))
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
            f"The metric source {type(metrics).__name__} failed: {type(error).__name__}: {error}",
            remedy="Correct the source; its own error is the cause of this one.",
        ) from error
    names = [signal.name for signal in policy.signals]
    said = " ".join(found.notes)
    missing = [name for name in names if name not in found and name not in said]
    if not missing:
        return found
    unasked = [name for name in found if name not in names]
    told = f", but gave {', '.join(unasked)}" if unasked else ""
    note = f"the source gave no minutes of {', '.join(missing)}{told}"
    return attrs.evolve(found, notes=(*found.notes, note))


def watchable(calls: Calls, metrics: MetricSource, policy: RolloutPolicy | None) -> Condition:
    """The condition on which a canary is enabled: that it can be watched with that policy.

    Found out later the same would be a Hold, with a canary that has traffic.
    """
    if policy is not None and not isinstance(policy, RolloutPolicy):
        inputs.refuse("policy", "a RolloutPolicy or None", policy)

    def check(seen: Look) -> None:
        if policy is None:
            return
        try:
            if policy.alarms:
                require_alarms(calls, policy.alarms)
            _check_traffic(policy, measured(metrics, seen.stage, policy, seen.at, seen.at))
        except CanaryError as error:
            raise error.within(f"Nothing was changed. {seen.stage}") from error.__cause__

    return check


def _check_traffic(policy: RolloutPolicy, past_hour: Measurements) -> None:
    """Refuse a policy whose canary would never be promoted; log where it will not be in time."""
    if missing := never_given(policy, past_hour):
        raise MetricsError(
            f"The metric source has given no minute of {', '.join(missing)} in the past hour, "
            "which a promotion needs.",
            remedy="Correct the source, or take the signal out of the policy.",
        )
    for each in outlook(policy, past_hour):
        if not each.in_time:
            log.warning(
                "With the traffic of the past hour %s will not be confirmed before the deadline of "
                "%s: about %s canary requests until then are too few.",
                each.signal,
                span(policy.effective_deadline),
                f"{each.needed:,.0f}",
            )


def _still_due(decision: Shift | Promote) -> Condition:
    """The condition on which a decision may change anything."""
    basis = decision.basis
    assert basis is not None

    def check(seen: Look) -> None:
        age = seen.at - decision.at
        if age > decision.lifetime:
            raise DecisionExpiredError(
                f"The decision was made {span(age)} ago, and holds for {span(decision.lifetime)}.",
                age=age,
                state=f"Nothing was sent. {seen.stage}",
                remedy="Observe and decide again.",
            )
        percent = seen.stage.canary.percent if seen.stage.canary else 0.0
        if percent != basis.percent:
            differences = {"canary.percent": f"{percent:g} instead of {basis.percent:g}"}
            raise StageChangedError(
                f"The share is not the one the decision was made on: {listed(differences)}.",
                differences=differences,
                state=f"Nothing was sent. {seen.stage}",
                remedy="Observe and decide again.",
            )

    return check
