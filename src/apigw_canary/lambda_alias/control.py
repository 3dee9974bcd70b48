"""Reading a weighted alias, and changing it in one call.

Lambda has what API Gateway has not: a write that is refused where the alias is not as it was read.
So a change and its record are one call, and a race is lost, not noticed afterwards.
"""

import os
from datetime import datetime
from typing import NamedTuple

import attrs

from apigw_canary.aws.lambdas import Alias, SeenAlias
from apigw_canary.changes.control import APART, READS, log
from apigw_canary.changes.known import Known
from apigw_canary.changes.refusals import changed_outside, no_canary
from apigw_canary.changes.sending import carried_out
from apigw_canary.errors import CannotTellError, RecordError
from apigw_canary.lambda_alias.record import AliasRecord, read, text_of, written
from apigw_canary.model.state import AliasState, CanaryState, Rollout, StageState
from apigw_canary.values.formatting import span

_AGAIN = "Look at alias.describe(), and run the same line again."


class AliasBond(NamedTuple):
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

    def __init__(self, alias: Alias) -> None:
        self.alias = alias
        self.known: Known[SeenAlias] = Known(dated=False)

    def look(self) -> SeenAlias:
        """The alias now, with what is recorded of its rollout: one GetAlias."""
        self.known.reading()
        seen = self._dated(self.alias.look())
        self.known.saw(seen)
        return seen

    def present(self) -> SeenAlias:
        """The alias now; where it has no canary, two reads two seconds apart agree on that."""
        seen = self.look()
        last = self.known.own()[-1:]
        if seen.stage.canary is not None or (last and not seen.stage.differences(last[0])):
            return seen
        for _ in range(READS):
            self.alias.calls.pause(APART.total_seconds())
            again = self.look()
            if again.stage.canary is not None or again.revision == seen.revision:
                return again
            seen = again
        raise CannotTellError(
            f"{READS} reads of the alias, each at least {span(APART)} after the one before, do not "
            "agree. A canary may still be active.",
            remedy="Run the same line again.",
        )

    def _dated(self, seen: SeenAlias) -> SeenAlias:
        """The alias with the times that only its record, or this process, knows."""
        record, state, last = self.readable(seen), seen.stage, self.known.last
        if record is not None and record.runs_on(state) and record.percent == _percent(state):
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
        return seen._replace(stage=state)

    def readable(self, seen: SeenAlias) -> AliasRecord | None:
        """The record, or none where it is damaged: reading on does no harm, writing would."""
        try:
            return read(seen.description)
        except RecordError as error:
            log.warning("alias %s: %s", self.alias.name, error)
            return None

    def record(self, seen: SeenAlias) -> AliasRecord | None:
        """The record. Raises `RecordError` where it is damaged."""
        return read(seen.description)

    def bond(self, seen: SeenAlias) -> AliasBond:
        """The canary that is running, with its record if it has one."""
        state, record = seen.stage, self.readable(seen)
        assert state.canary is not None
        if record is not None and not record.runs_on(state):
            record = None
        return AliasBond(
            version=state.canary.deployment_id,
            before=record.before if record else state.deployment_id,
            record=record,
            started_at=record.started_at if record else seen.at,
        )

    def change(
        self,
        seen: SeenAlias,
        wanted: AliasState,
        record: AliasRecord | None,
        what: str,
        *,
        text: str | None = None,
    ) -> SeenAlias:
        """One UpdateAlias: versions, weight and record, all or nothing.

        `text` replaces the user's part of the description. No record: the description stays.
        """
        description = None
        if record is not None:
            kept = text_of(seen.description) if text is None else text
            description = written(kept, record)
        found = carried_out(
            self.known,
            lambda: self._dated(self.alias.update(seen, wanted, description)),
            self.look,
            what=what,
            before=seen.stage,
            wanted=wanted,
            remedy=_AGAIN,
        )
        if record is not None and not record.is_same_rollout(self.readable(found)):
            raise RecordError(
                "The alias was changed as asked, and has not the record that was sent with it, "
                "so the rollout is not on record.",
                remedy="Another process may have changed it at the same time. Without the record "
                "there is no revert(): UpdateAlias with the version from before is the way back.",
            )
        return found

    def stands_for(self, bond: AliasBond, state: StageState) -> bool:
        """Whether the canary of the alias is the bond's, and of its rollout."""
        canary, rollout = state.canary, state.rollout
        if canary is None or canary.deployment_id != bond.version:
            return False
        if bond.record is None or rollout is None:
            return True
        return rollout.id == bond.record.id and rollout.outcome is None

    def mine(self, bond: AliasBond, seen: SeenAlias) -> CanaryState:
        """The canary of the bond. Raises where there is none, or another one."""
        state = seen.stage
        canary = state.canary
        if canary is None:
            raise no_canary("alias", promoted=state.deployment_id == bond.version)
        differences = {}
        if canary.deployment_id != bond.version:
            differences["canary.deployment_id"] = (
                f"{canary.deployment_id} instead of {bond.version}"
            )
        elif not self.stands_for(bond, state):
            differences["rollout"] = "another one, of the same version"
        if differences:
            raise changed_outside("alias", differences)
        return canary

    def production_changes(self, bond: AliasBond, seen: SeenAlias) -> dict[str, str]:
        """The alias's own version, where it is another one than recorded or accepted."""
        record, state = self.readable(seen), seen.stage
        recorded = record is not None and record.runs_on(state)
        before = record.before if record is not None and recorded else bond.before
        if state.deployment_id == before:
            return {}
        return {"deployment_id": f"{state.deployment_id} instead of {before}"}

    def own(self, bond: AliasBond, seen: SeenAlias) -> AliasRecord:
        """The record of the canary that is running, begun now where it was enabled by others."""
        record, state = self.record(seen), seen.stage
        assert state.canary is not None
        if record is not None and record.runs_on(state):
            return record
        return AliasRecord(
            id=new_id(),
            release=None,
            started_at=bond.started_at,
            step_started_at=seen.at,
            percent=state.canary.percent,
            before=state.deployment_id,
            after=bond.version,
            past=record.settled_on(state).remembered() if record else "",
            promoted=record.settled_on(state).last_promotion() if record else None,
        )


def new_id() -> str:
    """The id of a rollout."""
    return os.urandom(8).hex()


def _percent(state: AliasState) -> float:
    return state.canary.percent if state.canary else 0.0
