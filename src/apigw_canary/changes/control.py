"""Reading one stage, and changing it one step at a time."""

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple, NoReturn

import attrs

from apigw_canary.aws.apigateway import (
    ApiGateway,
    Deployment,
    Patch,
    Seen,
    end_patch,
    shift_patch,
)
from apigw_canary.changes.records import Records
from apigw_canary.changes.sending import Condition, carried_out, listed, looked, unconditionally
from apigw_canary.errors import (
    CanaryError,
    NoCanaryError,
    RecordError,
    StageChangedError,
    UnconfirmedChangeError,
)
from apigw_canary.rollout.record import NO_RECORD, Record
from apigw_canary.rollout.state import CanaryState, Outcome, Rollout, StageState, Variables

log: logging.Logger = logging.getLogger("apigw_canary")


class Bond(NamedTuple):
    """Which canary, of which rollout, a `Canary` object stands for."""

    deployment: Deployment
    """The canary's deployment, as it was read last."""
    variables: Variables
    """The variables it overrides."""
    record: Record
    """The deployment's record, as it was read last."""
    started_at: datetime
    """When the canary was enabled, or later."""

    @property
    def release(self) -> str | None:
        """The release, as given to `enable_canary`."""
        return self.record.rollout.release if self.record.rollout else None

    @property
    def variables_only(self) -> bool:
        """Whether the canary runs the stage's own deployment with other variables."""
        begun = self.record.rollout
        return begun is not None and begun.stage_deployment_id == self.deployment.id

    def is_of(self, canary: CanaryState) -> bool:
        """Whether it stands for this canary."""
        return canary.deployment_id == self.deployment.id and canary.variables == self.variables

    def is_promoted_on(self, state: StageState) -> bool:
        """Whether production serves what the canary served."""
        return state.deployment_id == self.deployment.id and state.carries(self.variables)


class Control:
    """Reads and changes one stage."""

    def __init__(self, gateway: ApiGateway, records: Records) -> None:
        self.gateway = gateway
        self.records = records
        self._verified: dict[str, datetime] = {}
        self.last: Seen | None = None
        """The stage as this process saw it last, by reading or by changing it."""

    def look(self) -> Seen:
        """The stage now: one GetStage. An error tells what was seen last, where anything was."""
        self.last = looked(self.gateway.stage, self.last)
        return self.last

    def readable(self, deployment: Deployment) -> Record:
        """The record, or none where it is damaged: reading on does no harm, writing would."""
        try:
            return self.records.of(deployment)
        except RecordError as error:
            log.warning("deployment %s: %s", deployment.id, error)
            return NO_RECORD

    def bond(self, state: StageState) -> Bond:
        """The canary of `state` with its record: one GetDeployment."""
        assert state.canary is not None
        deployment = self.gateway.deployment(state.canary.deployment_id)
        record = self.readable(deployment)
        bond = Bond(
            deployment=deployment,
            variables=Variables(state.canary.variables),
            record=record,
            # The stage's last change is the canary's start or later. Without a record it has to
            # do: rows are left out rather than taken from an earlier canary.
            started_at=min(record.rollout.started_at, state.updated_at)
            if record.rollout
            else state.updated_at,
        )
        self.verified(bond, state)
        return bond

    def refreshed(self, bond: Bond) -> Bond:
        """The bond with its record as it is now: one GetDeployment."""
        deployment = self.gateway.deployment(bond.deployment.id)
        return bond._replace(deployment=deployment, record=self.readable(deployment))

    def rollout(self, state: StageState) -> Rollout | None:
        """What is recorded of the rollout that the stage is or was in: one GetDeployment."""
        serving = state.canary or state
        record = self.readable(self.gateway.deployment(serving.deployment_id))
        begun, promotion = record.rollout, record.begun_promotion()
        outcome = None
        if state.canary is None:
            if begun is None:
                return None
            promoted = promotion is not None and promotion.is_done_on(state)
            outcome = Outcome.PROMOTED if promoted else Outcome.REMOVED_OUTSIDE
        return Rollout(
            id=begun.id if begun else None,
            release=begun.release if begun else None,
            started_at=begun.started_at if begun else state.updated_at,
            step_started_at=state.updated_at,
            outcome=outcome,
        )

    def change(
        self,
        patch: Patch,
        before: StageState,
        wanted: StageState,
        remedy: str,
        *,
        so_far: str = "Nothing was changed.",
    ) -> Seen:
        """Sends the patch and returns the stage as it then is, which is as `wanted`."""
        self.last = carried_out(
            lambda: self.gateway.update_stage(patch),
            self.look,
            before=before,
            wanted=wanted,
            remedy=remedy,
            so_far=so_far,
        )
        return self.last

    def shift(self, bond: Bond, percent: float, *, only_if: Condition = unconditionally) -> None:
        """Sets the canary's share; success where it is that already."""
        seen = self.look()
        state = seen.stage
        canary = self.mine(bond, state)
        if canary.percent == percent:
            return
        only_if(seen)
        if state.canary_is_promoted:
            raise StageChangedError(
                "The canary is being promoted: production serves it already.",
                differences={"deployment_id": "the canary's"},
                state=str(state),
                remedy="promote() finishes it; rollback() undoes it.",
            )
        try:
            shifted = self.change(
                shift_patch(percent),
                state,
                attrs.evolve(state, canary=attrs.evolve(canary, percent=percent)),
                "Look at stage.describe(); stage.rollback() ends the canary.",
            )
            self.verified(bond, shifted.stage)
        except UnconfirmedChangeError as error:
            self._end_accidental(error)
            raise

    def _end_accidental(self, error: UnconfirmedChangeError) -> None:
        """Ends what AWS makes of a share on a stage whose canary has just been ended."""
        found = self.look().stage
        canary = found.canary
        if canary is None or canary.variables or canary.deployment_id != found.deployment_id:
            return
        ended = attrs.evolve(found, canary=None)
        self.change(end_patch(), found, ended, "stage.rollback() ends the canary.")
        raise StageChangedError(
            "Somebody ended the canary while its share was set; the one that AWS then made of "
            "production's own deployment was ended too.",
            differences=error.differences,
            state=str(ended),
            remedy="stage.enable_canary(...) starts a new one, under another release's name.",
        ) from error

    def stands_for(self, bond: Bond, state: StageState) -> bool:
        """Whether the canary of `state` is the bond's, and of its rollout.

        A deployment may get another rollout, with the same variables even; the record tells them
        apart: one GetDeployment if somebody else changed the stage since.
        """
        assert state.canary is not None
        if not bond.is_of(state.canary):
            return False
        begun = bond.record.rollout
        if begun is None or self._verified.get(begun.id) == state.updated_at:
            return True
        try:
            found = self.refreshed(bond).record.rollout
        except CanaryError as error:
            # A rollback does not wait for a record; deployment and variables have to do.
            log.warning("the record could not be read: %s", error)
            return True
        if found is None or found == begun:
            self.verified(bond, state)
            return True
        return False

    def verified(self, bond: Bond, state: StageState) -> None:
        """Remember that the stage, as it is now, has the bond's rollout."""
        if bond.record.rollout is not None:
            self._verified[bond.record.rollout.id] = state.updated_at

    def mine(self, bond: Bond, state: StageState) -> CanaryState:
        """The canary of the bond. Raises where there is none, or somebody else's."""
        canary = state.canary
        if canary is None:
            how = "promoted" if bond.is_promoted_on(state) else "ended"
            raise NoCanaryError(
                f"The canary is gone: it was {how}.",
                state=str(state),
                remedy="stage.enable_canary(...) starts a new one, under another release's name.",
            )
        differences = {}
        if canary.deployment_id != bond.deployment.id:
            differences["canary.deployment_id"] = (
                f"{canary.deployment_id} instead of {bond.deployment.id}"
            )
        if canary.variables != bond.variables:
            differences["canary.variables"] = "other values or names"
        if not differences and not self.stands_for(bond, state):
            differences["rollout"] = "another one, of the same deployment and variables"
        if differences:
            raise_changed(differences, state)
        return canary


def raise_changed(differences: Mapping[str, str], state: StageState) -> NoReturn:
    """Somebody else changed what this change is about; nothing is sent."""
    raise StageChangedError(
        f"Somebody else changed the stage: {listed(differences)}.",
        differences=differences,
        state=f"Nothing was sent. {state}",
        remedy="Look at stage.describe(); stage.canary() is what is running now, and "
        "stage.rollback() ends it.",
    )


def promoted_by_hand(state: StageState, remedy: str) -> StageChangedError:
    """The error for a canary that was promoted by somebody, with nothing recorded."""
    return StageChangedError(
        "Somebody else made the canary's deployment and variables the stage's own; what production "
        "served before is not recorded.",
        differences={"deployment_id": "the canary's"},
        state=str(state),
        remedy=remedy,
    )
