"""A canary that is running, or was."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Literal, TypeVar, assert_never

import attrs

from apigw_canary.aws.alarms import read_alarms
from apigw_canary.aws.apigateway import Seen
from apigw_canary.changes.control import Bond, Condition, Control, listed, unconditionally
from apigw_canary.changes.promote import promote
from apigw_canary.changes.rollback import roll_back
from apigw_canary.errors import (
    CallerError,
    DecisionExpiredError,
    MetricsError,
    StageChangedError,
)
from apigw_canary.rollout import inputs
from apigw_canary.rollout.alarms import Alarm
from apigw_canary.rollout.decision import LIFETIME, Decision, Hold, Promote, Rollback, Shift
from apigw_canary.rollout.findings import Analysis
from apigw_canary.rollout.observation import (
    Basis,
    Measured,
    MetricSource,
    Observation,
    Phase,
)
from apigw_canary.rollout.policy import RolloutPolicy
from apigw_canary.rollout.promotion import Promotion
from apigw_canary.rollout.state import StageState
from apigw_canary.rollout.words import span

HISTORY = timedelta(hours=1)
"""How much of the baseline's past is read: it teaches the judge the baseline's usual rate."""

_Read = TypeVar("_Read")


class Canary:
    """One canary of one rollout: its deployment, and the variables it overrides.

    Made by `Stage.enable_canary` and `Stage.canary`. Each method reads the stage first; where
    another canary has taken the place, or the variables are others, it raises `StageChangedError`
    and sends nothing. Threads may share it.
    """

    def __init__(self, control: Control, bond: Bond, metrics: MetricSource) -> None:
        self._control = control
        self._bond = bond
        self._metrics = metrics
        self._ended: Literal["promoted", "rolled_back", "removed"] | None = None
        self._watched_at: datetime | None = None

    def __repr__(self) -> str:
        return (
            f"<Canary of {self.release or 'no release'}, deployment {self.deployment_id} on stage "
            f"{self._control.gateway.stage_name} of API {self._control.gateway.rest_api_id}>"
        )

    @property
    def deployment_id(self) -> str:
        """The deployment that serves the canary's requests."""
        return self._bond.deployment.id

    @property
    def release(self) -> str | None:
        """The release, as given to `enable_canary`."""
        return self._bond.release

    def describe(self) -> StageState:
        """The stage this canary was enabled on, as it is now: one GetStage."""
        return self._control.look().stage

    def shift(self, percent: float) -> None:
        """Set the canary's share of the requests, 0 to 100; 0 pauses it.

        While it is paused the canary is still there: AWS refuses ordinary deployments to the
        stage. At most two calls; success where the share is that already.
        """
        self._control.shift(self._bond, inputs.percent(percent))

    def observe(self, policy: RolloutPolicy, *, watched_at: datetime | None = None) -> Observation:
        """Look at the rollout: one GetStage and, while the canary runs, one GetMetricData.

        Alarms that the policy names take one DescribeAlarms, and one DescribeAlarmHistory for each
        that has changed its state since the start and does not fire; a name that CloudWatch does
        not know is `NotFoundError`.

        A source that fails, of metrics or alarms, does not raise; its failure is in the
        observation, and the decision is Hold until the policy's `blind` is over. How long it has
        failed is remembered by this object; a process that starts afresh for each look gives the
        time of the last look that saw everything as `watched_at`. Without it a failing source is
        Hold until the deadline.
        """
        if not isinstance(policy, RolloutPolicy):
            inputs.refuse("policy", "a RolloutPolicy", policy)
        before = self._control.last
        seen = self._control.look()
        state = seen.stage
        phase = self._phase(state)
        found = Measured({})
        alarms: tuple[Alarm, ...] = ()
        failures: list[str] = []
        if watched_at is not None:
            self._watched_at = inputs.aware(watched_at, "watched_at")
        elif self._watched_at is None:
            self._watched_at = seen.at  # what was before this object's first look it cannot know
        if phase in ("running", "promoting"):
            try:
                found = _tried(failures, found, lambda: self._measured(policy, seen))
                if phase == "running" and policy.alarms:  # a promotion goes on whatever they say
                    alarms = _tried(failures, alarms, lambda: self._alarms(policy))
            except CallerError as error:
                error.within(f"Nothing was changed by this call. {state}")
                raise
            if not failures:
                self._watched_at = seen.at
        percent = state.canary.percent if state.canary and phase == "running" else 0.0
        return Observation(
            at=seen.at,
            started_at=self._bond.started_at,
            step_started_at=max(state.updated_at, self._bond.started_at),
            percent=percent,
            minutes=found.minutes,
            overlap=found.overlap,
            notes=found.notes,
            routes=found.routes,
            doubt=found.doubt,
            basis=self._basis(percent),
            phase=phase,
            changed=self._changed(before, state),
            alarms=alarms,
            failure="; ".join(failures) or None,
            watched_at=self._watched_at,
        )

    def analyze(self, policy: RolloutPolicy) -> Analysis:
        """The evidence so far; looks at the rollout as `observe` does."""
        return policy.analyze(self.observe(policy))

    def apply(self, decision: Decision) -> Promotion | None:
        """Carry a decision out: at most one change of traffic.

        Hold sends nothing, and what is already as asked is success. A decision about another
        canary, or made on another share, is `StageChangedError`; a Shift or Promote older than ten
        minutes is `DecisionExpiredError`. A Rollback is never too old and ignores the share.
        Returns the receipt of a promotion.
        """
        if not isinstance(decision, Hold | Shift | Promote | Rollback):
            inputs.refuse("decision", "a Hold, Shift, Promote or Rollback", decision)
        if isinstance(decision, Hold):
            return None
        self._check_basis(decision)
        match decision:
            case Shift(percent=percent):
                self._control.shift(self._bond, percent, only_if=_still_due(decision))
            case Promote():
                return self._promote(recorded=True, only_if=_still_due(decision))
            case Rollback():
                self.rollback()
            case _:
                assert_never(decision)
        return None

    def promote(self, *, unrecorded: bool = False) -> Promotion:
        """Make the canary's deployment and variables the stage's own, and end the canary.

        The overridden variables are merged into the stage's: a promotion can change and add stage
        variables but not delete one. What it overwrites is recorded first; if that is impossible
        nothing is changed, unless `unrecorded=True`. A promotion that was begun, here or in
        another process, is finished. At most five calls. Returns the receipt, which
        `Stage.revert` takes; it holds variable values.
        """
        return self._promote(recorded=not unrecorded)

    def rollback(self) -> None:
        """End the canary at once; production keeps, or gets back, what it had before the rollout.

        Where a promotion was half done and the record does not prove it, the canary is ended and
        `StageChangedError` says what production serves. At most three calls, and one more to undo;
        success where the canary is gone already. A canary that was promoted is
        `RolloutEndedError`: `Stage.revert` undoes a promotion.
        """
        if roll_back(self._control, self._bond):
            self._ended = "rolled_back"

    def disable(self) -> None:
        """End the canary without judging it; otherwise as `rollback`."""
        if roll_back(self._control, self._bond):
            self._ended = "removed"

    def _promote(self, *, recorded: bool, only_if: Condition = unconditionally) -> Promotion:
        receipt = promote(self._control, self._bond, recorded=recorded, only_if=only_if)
        self._ended = "promoted"
        return receipt

    def _phase(self, state: StageState) -> Phase:
        """Where the rollout stands; reads the record again only where the stage looks promoted."""
        if state.canary is not None and not self._control.stands_for(self._bond, state):
            return "replaced"
        if state.canary is None and self._ended is not None:
            return self._ended
        looks_promoted = state.canary_is_promoted or (
            state.canary is None and self._bond.is_promoted_on(state)
        )
        if looks_promoted:
            self._bond = self._control.refreshed(self._bond)
        begun = self._bond.record.begun_promotion()
        if state.canary is None:
            if not looks_promoted:
                return "removed"
            return "promoted" if begun and begun.is_done_on(state) else "promoted_elsewhere"
        if begun and begun.is_under_way_on(state):
            return "promoting"
        return "promoted_elsewhere" if looks_promoted else "running"

    def _measured(self, policy: RolloutPolicy, seen: Seen) -> Measured:
        return measured(self._metrics, seen.stage, policy, self._bond.started_at, seen.at)

    def _alarms(self, policy: RolloutPolicy) -> tuple[Alarm, ...]:
        return read_alarms(self._control.gateway.calls, policy.alarms, self._bond.started_at)

    def _changed(self, before: Seen | None, state: StageState) -> dict[str, str]:
        """What somebody else changed since this process saw or changed the stage last."""
        if before is None or before.stage.canary is None or state.canary is None:
            return {}  # that a canary came or went is the phase
        return state.differences(before.stage)

    def _basis(self, percent: float) -> Basis:
        gateway, rollout = self._control.gateway, self._bond.record.rollout
        return Basis(
            region=gateway.region,
            rest_api_id=gateway.rest_api_id,
            stage=gateway.stage_name,
            rollout_id=rollout.id if rollout else None,
            deployment_id=self._bond.deployment.id,
            overrides=self._bond.variables.fingerprint(),
            percent=percent,
        )

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


def _tried(failures: list[str], otherwise: _Read, read: Callable[[], _Read]) -> _Read:
    """What is read; or `otherwise`, and a failure more. What the caller must mend is raised."""
    try:
        return read()
    except CallerError:
        raise
    except Exception as error:  # noqa: BLE001 - a caller's own source may raise anything
        failures.append(f"{type(error).__name__}: {error}")
        return otherwise


def measured(
    metrics: MetricSource, state: StageState, policy: RolloutPolicy, start: datetime, end: datetime
) -> Measured:
    """The minutes of a rollout from `start` to `end`, and the baseline's history before it."""
    found = metrics.minutes(
        state,
        policy.signals,
        (start - HISTORY).replace(second=0, microsecond=0),
        end.replace(second=0, microsecond=0),
    )
    if not isinstance(found, Measured):
        found = Measured({name: tuple(rows) for name, rows in found.items()})
    for name, rows in found.items():
        if len({row.at for row in rows}) < len(rows):
            raise MetricsError(f"The source of metrics gave a minute of {name} twice.")
    return found


def _still_due(decision: Shift | Promote) -> Condition:
    """The condition on which a decision may change anything."""
    basis = decision.basis
    assert basis is not None

    def check(seen: Seen) -> None:
        age = seen.at - decision.at
        if age > LIFETIME:
            raise DecisionExpiredError(
                f"The decision was made {span(age)} ago, and holds for {span(LIFETIME)}.",
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
