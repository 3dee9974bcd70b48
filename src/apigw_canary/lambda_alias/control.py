"""Reading a weighted alias, and changing it in one call with the record of its rollout.

Lambda has what API Gateway has not: a write that is refused where the alias is not as it was read.
So a change and its record are one call, and a race is lost, not noticed afterwards. The record is
in the description of the alias, or in a store of the caller.
"""

from datetime import datetime
from typing import NamedTuple

import attrs

from apigw_canary.aws import Alias, AliasSnapshot, Calls, log
from apigw_canary.changes.control import agreed
from apigw_canary.changes.records import CLOCKS_APART, RolloutRecords, Store
from apigw_canary.changes.sending import Known, carried_out, changed_outside, no_canary
from apigw_canary.errors import CanaryError, RecordError
from apigw_canary.lambda_alias.record import (
    AliasRecord,
    line,
    new_id,
    read,
    read_line,
    text_of,
    written,
)
from apigw_canary.model import AliasState, CanaryState, Rollout, StageState
from apigw_canary.values import moment

_NOW, _BEFORE = "record", "before"
"""Names in the store: the record, and while a change is being made the one from before it."""


class Kept(NamedTuple):
    """A record as it was read."""

    record: AliasRecord | RecordError | None
    """The record; None where there is none; or what keeps it from being read."""
    text: str | None = None
    """What the store has: it is replaced only as long as it has that."""


class AliasRecords:
    """Keeps the record of one alias.

    Without a store it is in the description, which changes in one call with the alias. With a store
    the description is not consulted: the store gets the record before the change is made, beside
    the one from before, and the alias shows which of the two holds.
    """

    def __init__(self, alias: Alias, store: RolloutRecords | None) -> None:
        self._alias = alias
        self._store = store

    @property
    def place(self) -> str:
        """Region, function and alias."""
        return f"{self._alias.region}/{self._alias.function}/{self._alias.name}"

    @property
    def is_stored(self) -> bool:
        """Whether there is a store."""
        return self._store is not None

    def read(self, seen: AliasSnapshot) -> Kept:
        """The record of the alias as it was seen; one load where there is a store."""
        try:
            if self._store is None:
                return Kept(self._verified(read(seen.description), seen))
            text, lines = self._stored(self._store).load()
            found = {
                name: self._verified(read_line(each), seen) for name, each in lines.items() if each
            }
        except RecordError as error:
            return Kept(error)
        now, before = found.get(_NOW), found.get(_BEFORE)
        if now is None or _BEFORE not in lines or now.is_on(seen.stage):
            return Kept(now, text)
        is_before = before is not None and before.is_on(seen.stage)
        return Kept(now if now.runs_on(seen.stage) and not is_before else before, text)

    def _stored(self, store: RolloutRecords) -> Store:
        return Store(store, self._alias.region, "lambda", self._alias.function, self._alias.name)

    def _verified(self, record: AliasRecord | None, seen: AliasSnapshot) -> AliasRecord | None:
        if record is None:
            return None
        if not record.is_of(self.place):
            wrong = "it is of another alias"
        elif record.latest() > seen.at + CLOCKS_APART:
            wrong = f"it states a time in the future, {moment(record.latest())}"
        else:
            return record
        raise RecordError(
            f"The record of alias {self.place} is not used: {wrong}.",
            remedy="Find out what changed it. alias.rollback() ends a canary without it.",
        )

    def announced(
        self, kept: Kept, description: str, record: AliasRecord, text: str | None
    ) -> str | None:
        """The description that a change is sent with; None: it stays. `text` is the user's.

        Where there is a store, it has the record from now on.
        """
        if self._store is None:
            return written(text_of(description) if text is None else text, record)
        before = line(kept.record) if isinstance(kept.record, AliasRecord) else ""
        lines = {_NOW: line(record), _BEFORE: before}
        self._stored(self._store).save(lines, expected=kept.text)
        return text

    def confirm(self, record: AliasRecord, kept: Kept) -> Kept:
        """The change that was announced was made: the store keeps its record alone."""
        if self._store is None or kept.record != record:
            return kept
        try:
            return self.save(record, kept)
        except CanaryError as error:
            log.warning("alias %s: a change is not on record as made: %s", self.place, error)
            return kept

    def save(self, record: AliasRecord, kept: Kept) -> Kept:
        """A record without a change of the alias, in the store."""
        assert self._store is not None
        lines = {_NOW: line(record)}
        return Kept(record, self._stored(self._store).save(lines, expected=kept.text))


_AGAIN = "Check alias.describe(), and run the same line again."


class RecordedAlias(NamedTuple):
    """An alias as it was read, with its record, and AWS's time when it was."""

    stage: AliasState
    at: datetime
    revision: str
    description: str
    kept: Kept
    """The record, as it was read after the alias."""

    @property
    def readable(self) -> AliasRecord | None:
        """The record, or none where it is damaged: reading on does no harm, writing would."""
        return self.kept.record if isinstance(self.kept.record, AliasRecord) else None

    @property
    def record(self) -> AliasRecord | None:
        """The record. Raises `RecordError` where it is damaged."""
        if isinstance(self.kept.record, RecordError):
            raise self.kept.record
        return self.kept.record


class AliasHandle(NamedTuple):
    """Which canary, of which rollout, an `AliasCanary` object stands for."""

    version: str
    """The canary's version."""
    before: str
    """The alias's own version when the canary was first seen."""
    record: AliasRecord | None
    """The record, where there is one."""
    started_at: datetime
    """When the canary was enabled, or later."""

    @property
    def release(self) -> str | None:
        """The release, as given to `enable_canary`."""
        return self.record.release if self.record else None


class AliasControl:
    """Reads and changes one alias."""

    def __init__(self, alias: Alias, records: AliasRecords) -> None:
        self.alias = alias
        self.records = records
        self.known: Known[RecordedAlias] = Known(dated=False)

    @property
    def calls(self) -> Calls:
        """How AWS is called."""
        return self.alias.calls

    def read(self) -> RecordedAlias:
        """The alias now, with what is recorded of its rollout: one GetAlias."""
        self.known.reading()
        seen = self._with_record(self.alias.read())
        self.known.saw(seen)
        return seen

    def present(self) -> RecordedAlias:
        """The alias now; where it has no canary, two reads two seconds apart agree on that."""
        seen = self.read()
        last = self.known.own()[-1:]
        if seen.stage.canary is not None or (last and not seen.stage.differences(last[0])):
            return seen
        return agreed(
            "alias", seen, self.read, self.calls, lambda one, other: one.revision == other.revision
        )

    def _with_record(self, seen: AliasSnapshot) -> RecordedAlias:
        """The alias with its record, and the times that only it, or this process, knows."""
        kept = self.records.read(seen)
        if isinstance(kept.record, RecordError):
            log.warning("alias %s: %s", self.alias.name, kept.record)
        found = RecordedAlias(*seen, kept=kept)
        record, state, last = found.readable, seen.stage, self.known.last
        if record is not None and record.runs_on(state) and record.is_on(state):
            state = attrs.evolve(state, updated_at=record.step_started_at)
        elif last is not None and not state.differences(last.stage):
            state = attrs.evolve(state, updated_at=last.stage.updated_at)
        if record is not None:
            settled = record.settled_on(state)
            rollout = Rollout(
                id=record.id,
                release=record.release,
                started_at=record.started_at,
                step_started_at=state.updated_at,
                outcome=settled.outcome,
                ended_by=settled.ended_by,
            )
            state = attrs.evolve(state, rollout=rollout)
        return found._replace(stage=state)

    def handle(self, seen: RecordedAlias) -> AliasHandle:
        """The canary that is running, with its record if it has one."""
        state, record = seen.stage, seen.readable
        assert state.canary is not None
        if record is not None and not record.runs_on(state):
            record = None
        return AliasHandle(
            version=state.canary.deployment_id,
            before=record.before if record else state.deployment_id,
            record=record,
            started_at=record.started_at if record else seen.at,
        )

    def change(
        self,
        seen: RecordedAlias,
        wanted: AliasState,
        record: AliasRecord | None,
        what: str,
        *,
        text: str | None = None,
        to_end: bool = False,
    ) -> RecordedAlias:
        """One UpdateAlias: versions, weight and record, all or nothing.

        `text` replaces the user's part of the description. No record: the description stays.
        `to_end`: the change does not wait for its record.
        """
        description = None
        try:
            if record is not None:
                description = self.records.announced(seen.kept, seen.description, record, text)
        except CanaryError as error:
            if not to_end:
                raise
            log.warning("alias %s: %s", self.alias.name, error)
            record = None
        found = carried_out(
            self.known,
            lambda: self._with_record(self.alias.update(seen.revision, wanted, description)),
            self.read,
            what=what,
            before=seen.stage,
            wanted=wanted,
            remedy=_AGAIN,
        )
        if record is None:
            return found
        if not record.is_same_rollout(found.readable):
            raise RecordError(
                "The alias was changed as requested, but it does not have the record that was sent "
                "with it, so the rollout is not on record.",
                remedy="Another process may have changed it at the same time. Without the record "
                "revert() cannot undo it: call UpdateAlias with the version from before.",
            )
        return found._replace(kept=self.records.confirm(record, found.kept))

    def note(self, seen: RecordedAlias, record: AliasRecord) -> None:
        """The record, without a change of the alias."""
        if record == seen.record:
            return
        if self.records.is_stored:
            self.records.save(record, seen.kept)
        else:
            self.change(seen, seen.stage, record, "writing the record")

    def stands_for(self, handle: AliasHandle, state: StageState) -> bool:
        """Whether the canary of the alias is the handle's, and of its rollout."""
        canary, rollout = state.canary, state.rollout
        if canary is None or canary.deployment_id != handle.version:
            return False
        if handle.record is None or rollout is None:
            return True
        return rollout.id == handle.record.id and rollout.outcome is None

    def own_canary(self, handle: AliasHandle, seen: RecordedAlias) -> CanaryState:
        """The canary of the handle. Raises where there is none, or another one."""
        state = seen.stage
        canary = state.canary
        if canary is None:
            raise no_canary("alias", promoted=state.deployment_id == handle.version)
        differences = {}
        if canary.deployment_id != handle.version:
            differences["canary.deployment_id"] = (
                f"{canary.deployment_id} instead of {handle.version}"
            )
        elif not self.stands_for(handle, state):
            differences["rollout"] = "another one, of the same version"
        if differences:
            raise changed_outside("alias", differences)
        return canary

    def production_changes(self, handle: AliasHandle, seen: RecordedAlias) -> dict[str, str]:
        """The alias's own version, where it is another one than recorded or accepted."""
        record, state = seen.readable, seen.stage
        recorded = record is not None and record.runs_on(state)
        before = record.before if record is not None and recorded else handle.before
        if state.deployment_id == before:
            return {}
        return {"deployment_id": f"{state.deployment_id} instead of {before}"}

    def own(self, handle: AliasHandle, seen: RecordedAlias) -> AliasRecord:
        """The record of the canary that is running, begun now if another tool enabled it."""
        record, state = seen.record, seen.stage
        assert state.canary is not None
        if record is not None and record.runs_on(state):
            return record
        return AliasRecord(
            id=new_id(self.records.place),
            release=None,
            started_at=handle.started_at,
            step_started_at=seen.at,
            percent=state.canary.percent,
            before=state.deployment_id,
            after=handle.version,
            past=record.settled_on(state).remembered() if record else "",
            promoted=record.settled_on(state).last_promotion() if record else None,
        )
