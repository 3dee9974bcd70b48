"""Reading one stage, and changing it one step at a time."""

import os
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple, TypeVar

import attrs

from apigw_canary.aws import (
    ApiGateway,
    Calls,
    Deployment,
    Patch,
    StageSnapshot,
    end_patch,
    log,
    shift_patch,
)
from apigw_canary.changes.records import Records
from apigw_canary.changes.sending import (
    Condition,
    Known,
    Snapshot,
    carried_out,
    changed_outside,
    kept,
    no_canary,
    unconditionally,
)
from apigw_canary.errors import (
    CallerError,
    CanaryError,
    CannotTellError,
    RecordError,
    StageChangedError,
    UnconfirmedChangeError,
)
from apigw_canary.model import (
    NO_RECORD,
    Begun,
    CanaryState,
    EndedBy,
    Outcome,
    Record,
    Rollout,
    StageState,
    Variables,
    outcomes,
)
from apigw_canary.values import span

APART = timedelta(seconds=2)
"""The pause between two reads that are to agree. AWS documents no bound for how long GetStage may
answer with an older state; two seconds are more than the second that its dates resolve."""
READS = 4
"""How many further reads may be older, or disagree, before that is an error."""
_Snapshot = TypeVar("_Snapshot", bound=Snapshot)
JUST_NOW = timedelta(minutes=1)
"""How long a rollout that was begun, and not found enabled, may be about to be enabled: far longer
than the calls between the two take."""


class CanaryHandle(NamedTuple):
    """Which canary, of which rollout, a `Canary` object stands for."""

    deployment: Deployment
    """The canary's deployment, as it was read last."""
    variables: Variables
    """The variables it overrides."""
    record: Record
    """The deployment's record, as it was read last."""
    started_at: datetime
    """When the canary was enabled, or later."""
    production: Begun
    """Production's fingerprints when the handle was made, for a canary without a record."""

    @property
    def release(self) -> str | None:
        """The release, as given to `enable_canary`."""
        return self.record.rollout.release if self.record.rollout else None

    @property
    def variables_only(self) -> bool:
        """Whether the canary runs the stage's own deployment with other variables."""
        begun = self.record.rollout
        return begun is not None and begun.stage_deployment_id == self.deployment.id

    def is_in(self, rollout: Begun) -> bool:
        """Whether its canary was enabled for this rollout."""
        return self.record.rollout is not None and self.record.rollout.id == rollout.id

    def is_of(self, canary: CanaryState) -> bool:
        """Whether it stands for this canary."""
        return canary.deployment_id == self.deployment.id and canary.variables == self.variables

    def is_promoted_on(self, state: StageState) -> bool:
        """Whether production serves what the canary served."""
        return state.deployment_id == self.deployment.id and state.carries(self.variables)

    def production_changes(self, state: StageState) -> dict[str, str]:
        """What of production was changed since the rollout began, or was accepted."""
        begun = self.record.rollout
        known = begun if begun is not None and begun.production else self.production
        return known.production_changes(state, self.variables)


def agreed(
    place: str,
    seen: _Snapshot,
    read: Callable[[], _Snapshot],
    calls: Calls,
    agree: Callable[[_Snapshot, _Snapshot], bool],
) -> _Snapshot:
    """A `place` read without a canary, once two reads agree; or the read that shows a canary."""
    for _ in range(READS):
        calls.pause(APART.total_seconds())
        again = read()
        if again.stage.canary is not None or agree(again, seen):
            return again
        seen = again
    raise CannotTellError(
        f"{READS} reads of the {place}, each at least {span(APART)} after the one before, do not "
        "agree. A canary may still be active.",
        remedy="Run the same line again.",
    )


class Control:
    """Reads and changes one stage."""

    def __init__(self, gateway: ApiGateway, records: Records) -> None:
        self.gateway = gateway
        self.records = records
        self.known: Known[StageSnapshot] = Known()
        self._verified: dict[str, datetime] = {}
        self._ended_at: datetime | None = None

    @property
    def calls(self) -> Calls:
        """How AWS is called."""
        return self.gateway.calls

    def dry(self, gateway: ApiGateway) -> "Control":
        """One with what this one remembers, for a gateway that sends no writes."""
        other = Control(gateway, self.records.dry(gateway))
        other.known = self.known.copy()
        other._verified = dict(self._verified)
        other._ended_at = self._ended_at
        return other

    def read(self) -> StageSnapshot:
        """The stage now: one GetStage, and more where AWS answers with an older state."""
        self.known.reading()
        previous: StageSnapshot | None = None
        for _ in range(READS + 1):
            seen = self.gateway.stage()
            older = self.known.is_older(seen.stage)
            unclear = self.known.may_be_older(seen.stage) and (
                previous is None or bool(seen.stage.differences(previous.stage))
            )
            if not older and not unclear:
                self.known.saw(seen)
                return seen
            log.warning("GetStage answered with an older state of the stage; it is read again")
            previous = seen
            self.calls.pause(APART.total_seconds())
        raise CannotTellError(
            f"GetStage answered {READS + 1} times with a state of the stage that is older than one "
            "that was read before.",
            remedy="Run the same line again. If the stage was deleted and created again, start a "
            "new process.",
        )

    def settled(self, seen: StageSnapshot, *, for_good: bool = False) -> StageSnapshot:
        """A stage that was read without a canary, as it is for certain.

        Two reads that are at least two seconds apart agree, and neither is older than what is on
        record of the stage. Where it has a canary after all, the read that shows it. `for_good`:
        a canary that another process may be about to enable counts too.
        """
        if self._ended_at is not None and seen.stage.updated_at == self._ended_at:
            return seen  # as AWS answered this process when it ended the canary
        again = agreed(
            "stage", seen, self.read, self.calls, lambda one, other: one.stage == other.stage
        )
        if again.stage.canary is None:
            for record in self.all_records().values():
                self._check_age(record, again, for_good=for_good)
        return again

    def _check_age(self, record: Record, seen: StageSnapshot, *, for_good: bool) -> None:
        begun = record.rollout
        if begun is None or begun.outcome is not None:
            return
        stale = begun.enabled_at is not None and begun.enabled_at > seen.stage.updated_at
        just_begun = (
            for_good
            and begun.enabled_at is None
            and begun.started_at >= seen.stage.updated_at
            and timedelta(0) <= seen.at - begun.started_at < JUST_NOW
        )
        if stale or just_begun:
            when = "may be about to be enabled" if just_begun else "may still be active"
            raise CannotTellError(
                f"By the record, the canary of release {begun.release or 'unknown'} was begun at "
                f"{begun.started_at:%H:%M:%S} UTC, but GetStage shows the stage as it was before: "
                f"the canary {when}.",
                remedy=f"Run the same line again, if necessary after {span(JUST_NOW)}. "
                "stage.rollback() ends a canary.",
            )

    def all_records(self) -> dict[str, Record]:
        """The records of all deployments that have a readable one: one GetDeployments for 500."""
        return {each.id: self.readable(each) for each in self.gateway.deployments()}

    def readable(self, deployment: Deployment) -> Record:
        """The record, or none where it is damaged: reading on does no harm, writing would."""
        try:
            return self.record(deployment)
        except RecordError as error:
            log.warning("deployment %s: %s", deployment.id, error)
            return NO_RECORD

    def record(self, deployment: Deployment) -> Record:
        """The record. Raises `RecordError` where it is damaged, or cannot be true."""
        return self.records.of(deployment, self.known.last.at if self.known.last else None)

    def handle(self, seen: StageSnapshot) -> CanaryHandle:
        """The canary of the stage with its record: one GetDeployment."""
        state = seen.stage
        assert state.canary is not None
        deployment = self.gateway.deployment(state.canary.deployment_id)
        variables = Variables(state.canary.variables)
        record = self.readable(deployment).of_canary(variables)
        handle = CanaryHandle(
            deployment=deployment,
            variables=variables,
            record=record,
            # The stage's last change is the canary's start or later. Without a record it has to
            # do: rows are left out rather than taken from an earlier canary.
            started_at=min(record.rollout.started_at, state.updated_at)
            if record.rollout
            else state.updated_at,
            production=unrecorded(state, seen.at, variables),
        )
        self.verified(handle, state)
        return handle

    def refreshed(self, handle: CanaryHandle) -> CanaryHandle:
        """The handle with its record as it is now: one GetDeployment."""
        deployment = self.gateway.deployment(handle.deployment.id)
        record = self.readable(deployment).of_canary(handle.variables)
        return handle._replace(deployment=deployment, record=record)

    def begun(self, handle: CanaryHandle, record: Record, seen: StageSnapshot) -> Record:
        """The record with the rollout of the handle's canary, which begins now if it has none."""
        if record.of_canary(handle.variables).rollout is not None:
            return record
        begun = Begun.of(
            seen.stage,
            at=handle.started_at,
            rollout_id=self.new_id(),
            release=None,
            variables=handle.variables,
        )
        return record.beginning(attrs.evolve(begun, enabled_at=seen.stage.updated_at))

    def rollout(self, state: StageState) -> Rollout | None:
        """What is recorded of the rollout that the stage is or was in: one more call."""
        if state.canary is not None:
            record = self.readable(self.gateway.deployment(state.canary.deployment_id))
            record = record.of_canary(state.canary.variables)
            return _rollout(record.rollout, state, None)
        records = self.all_records()
        found = outcomes.latest(records, state)
        return _rollout(records[found[0]].rollout, state, found[1]) if found else None

    def ending(self, handle: CanaryHandle, state: StageState) -> outcomes.Ending:
        """How the handle's rollout ended, on a stage without its canary: one GetDeployments.

        Raises `CannotTellError` where a rollback may not have given production back what it had.
        """
        records = self.all_records()
        check_not_half_undone(handle, records.get(handle.deployment.id, NO_RECORD), state)
        begun, found = handle.record.rollout, None
        if begun is not None and begun.release is not None:
            found = outcomes.of_release(begun.release, records, state)
        elif begun is not None and handle.deployment.id in records:
            recorded = records[handle.deployment.id].rollout
            if recorded is not None and recorded.id == begun.id:
                found = outcomes.ending(handle.deployment.id, records, state)
        if found is not None and found.outcome is not Outcome.NEVER_STARTED:
            return found
        outside = handle.is_promoted_on(state) and bool(handle.production_changes(state))
        return outcomes.Ending(Outcome.PROMOTED_OUTSIDE if outside else Outcome.REMOVED_OUTSIDE)

    def change(
        self, patch: Patch, before: StageState, wanted: StageState, what: str, remedy: str
    ) -> StageSnapshot:
        """Sends the patch and returns the stage as it then is, which is as asked."""
        seen = carried_out(
            self.known,
            lambda: self.gateway.update_stage(patch),
            self.read,
            what=what,
            before=before,
            wanted=wanted,
            remedy=remedy,
        )
        self._ended_at = seen.stage.updated_at if seen.stage.canary is None else None
        return seen

    def new_id(self) -> str:
        """The id of a rollout."""
        return os.urandom(8).hex()

    def end(self, state: StageState, remedy: str) -> StageSnapshot:
        """Ends the canary of `state`."""
        wanted = attrs.evolve(state, canary=None)
        return self.change(end_patch(), state, wanted, "ending the canary", remedy)

    def shift(
        self, handle: CanaryHandle, percent: float, *, only_if: Condition = unconditionally
    ) -> CanaryHandle:
        """Sets the canary's percent; success where it is that already. The same handle."""
        seen = self.present()
        state = seen.stage
        canary = self.own_canary(handle, seen)
        if canary.percent == percent:
            return handle
        only_if(seen)
        if state.canary_is_promoted:
            record = self.readable(self.gateway.deployment(canary.deployment_id))
            promotion = record.begun_promotion()
            if promotion is not None and promotion.is_under_way_on(state):
                log.info("a promotion was begun; the percent is left as it is, promote() goes on")
                return handle
            raise self.nothing_to_promote(handle, state) or promoted_by_hand(
                "canary.disable() ends the canary."
            )
        try:
            shifted = self.change(
                shift_patch(percent),
                state,
                attrs.evolve(state, canary=attrs.evolve(canary, percent=percent)),
                f"setting the canary's percent to {percent:g}",
                "Check stage.describe(); stage.rollback() ends the canary.",
            )
            self.verified(handle, shifted.stage)
        except UnconfirmedChangeError as error:
            with kept(error):
                ended = self._end_accidental()
            if not ended:
                raise
            raise StageChangedError(
                "Another process ended the canary while this call set its percent. AWS then "
                "created a canary of production's own deployment, and this call ended it.",
                differences=error.differences,
                remedy="stage.enable_canary(...) with another release name starts a new one.",
            ) from error
        return handle

    def _end_accidental(self) -> bool:
        """Ends what AWS makes of a percent on a stage whose canary has just been ended."""
        found = self.read().stage
        canary = found.canary
        if canary is None or canary.variables or canary.deployment_id != found.deployment_id:
            return False
        self.end(found, "stage.rollback() ends the canary.")
        return True

    def nothing_to_promote(self, handle: CanaryHandle, state: StageState) -> CallerError | None:
        """The error for a canary that never differed from production; None where it may have."""
        begun = handle.record.rollout
        started_so = begun is None or begun.outcome is not None
        if state.canary is None or state.canary.variables or not started_so:
            return None
        if state.canary.deployment_id != state.deployment_id:
            return None
        return CallerError(
            "The canary has production's own deployment and overrides no variable: there is "
            "nothing to judge or promote.",
            remedy="Call stage.rollback() to end it, then stage.enable_canary(...) with another "
            "deployment or with variables.",
        )

    def stands_for(self, handle: CanaryHandle, state: StageState) -> bool:
        """Whether the canary of `state` is the handle's, and of its rollout.

        A deployment may get another rollout, even with the same variables. The record distinguishes
        them: one GetDeployment if the stage was changed outside this process since.
        """
        assert state.canary is not None
        if not handle.is_of(state.canary):
            return False
        begun = handle.record.rollout
        if begun is None or self._verified.get(begun.id) == state.updated_at:
            return True
        try:
            found = self.refreshed(handle).record.rollout
        except CanaryError as error:
            # A rollback does not wait for a record; deployment and variables have to do.
            log.warning("the record could not be read: %s", error)
            return True
        if found is None or found.id == begun.id:
            self.verified(handle, state)
            return True
        return False

    def verified(self, handle: CanaryHandle, state: StageState) -> None:
        """Remember that the stage, as it is now, has the handle's rollout."""
        if handle.record.rollout is not None:
            self._verified[handle.record.rollout.id] = state.updated_at

    def present(self, *, for_good: bool = False) -> StageSnapshot:
        """The stage now; where it has no canary, that is certain, as in `settled`."""
        seen = self.read()
        if seen.stage.canary is not None:
            return seen
        return self.settled(seen, for_good=for_good)

    def own_canary(self, handle: CanaryHandle, seen: StageSnapshot) -> CanaryState:
        """The canary of the handle. Raises where there is none, or another one."""
        state = seen.stage
        canary = state.canary
        if canary is None:
            raise no_canary("stage", promoted=handle.is_promoted_on(state))
        differences = {}
        if canary.deployment_id != handle.deployment.id:
            differences["canary.deployment_id"] = (
                f"{canary.deployment_id} instead of {handle.deployment.id}"
            )
        if canary.variables != handle.variables:
            differences["canary.variables"] = "other values or names"
        if not differences and not self.stands_for(handle, state):
            differences["rollout"] = "another one, of the same deployment and variables"
        if differences:
            raise changed_outside("stage", differences)
        return canary

    def announce_ending(self, canary: CanaryState, outcome: Outcome, by: EndedBy) -> None:
        """Record that the canary is about to be ended, as far as that is possible within seconds.

        Nothing on AWS distinguishes a canary that was rolled back from one removed outside, and a
        process that dies after it ended the canary cannot record it any more. Two calls, each sent
        once and for two seconds at most: what is waited for is never the record.
        """
        deployment_id = canary.deployment_id
        try:
            with self.calls.briefly():
                deployment = self.gateway.deployment(deployment_id)
                record = self.record(deployment).of_canary(canary.variables)
                announced = record.announcing(outcome, by)
                if announced != record:
                    self.records.save(deployment, announced, once=True)
        except CanaryError as error:
            log.warning("deployment %s: %s is not announced: %s", deployment_id, outcome, error)

    def note_ending(
        self,
        ended: CanaryState,
        at: datetime,
        rollout_id: str | None,
        outcome: Outcome,
        by: EndedBy,
        *,
        undone: bool = False,
    ) -> None:
        """Record how a rollout ended, as far as that is possible: the canary is ended already.

        `at` is the stage's date of that change. Where the rollout's id is not known, one that was
        begun on the stage as it is since then is another one. `undone`: its promotion was undone,
        which another process may have recorded as finished.
        """
        deployment_id = ended.deployment_id
        try:
            deployment = self.gateway.deployment(deployment_id)
            record = self.record(deployment)
            begun = record.rollout
            if begun is None or not (undone or begun.is_of(ended.variables)):
                return
            if rollout_id == begun.id or (rollout_id is None and begun.stage_updated_at < at):
                self.records.save(deployment, record.ending(outcome, by))
        except CanaryError as error:
            log.warning("deployment %s: %s is not on record: %s", deployment_id, outcome, error)


def unrecorded(state: StageState, at: datetime, variables: Mapping[str, str]) -> Begun:
    """What would be recorded of a rollout that began on `state`."""
    return Begun.of(state, at=at, rollout_id="unrecorded", release=None, variables=variables)


def _rollout(
    begun: Begun | None, state: StageState, ended: outcomes.Ending | None
) -> Rollout | None:
    return Rollout(
        id=begun.id if begun else None,
        release=begun.release if begun else None,
        started_at=begun.started_at if begun else state.updated_at,
        step_started_at=state.updated_at,
        outcome=ended.outcome if ended else None,
        ended_by=ended.by if ended else None,
    )


def check_not_half_undone(handle: CanaryHandle, record: Record, state: StageState) -> None:
    """Refuse where the promotion of the rollout is being undone: how it ends is not known yet."""
    begun, ours = record.rollout, handle.record.rollout
    if begun is not None and (ours is None or ours.id == begun.id) and record.half_undone(state):
        raise half_undone(begun.release)


def half_undone(release: str | None) -> CannotTellError:
    """The error where a promotion is to be undone, and production still has it."""
    return CannotTellError(
        f"A rollback of release {release or 'unknown'} was announced, and its canary has ended, "
        "but production still has what was promoted: the rollback is not finished, or its process "
        "died.",
        remedy="Run the same line again in a minute. If the error stays, stage.rollback() gives "
        "production back what it had, unless it was changed since. If production is to stay as it "
        "is, enable its next canary with accept={'unfinished_rollback'}.",
    )


def promoted_by_hand(remedy: str) -> StageChangedError:
    """The error for a canary that was promoted outside this library, with nothing recorded."""
    return StageChangedError(
        "The canary's deployment and variables were made the stage's own outside this library; "
        "what production served before is not recorded.",
        differences={"deployment_id": "the canary's"},
        remedy=remedy,
    )
