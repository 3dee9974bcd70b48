"""Promoting a canary."""

import attrs

from apigw_canary.aws.apigateway import Deployment, end_patch, promote_patch, restore_patch
from apigw_canary.changes.control import (
    Bond,
    Control,
    promoted_by_hand,
)
from apigw_canary.changes.sending import Condition, unconditionally
from apigw_canary.errors import (
    CanaryError,
    RecordError,
    RolloutEndedError,
    StageChangedError,
    UnconfirmedChangeError,
)
from apigw_canary.rollout.promotion import Promotion
from apigw_canary.rollout.record import Record
from apigw_canary.rollout.state import CanaryState, Outcome, StageState, Variables


def promote(
    control: Control, bond: Bond, *, recorded: bool, only_if: Condition = unconditionally
) -> Promotion:
    """Makes the canary the stage's own and ends it; finishes what an earlier call began."""
    seen = control.look()
    state = seen.stage
    if state.canary is None and bond.is_promoted_on(state):
        return _receipt(control, bond, state)
    canary = control.mine(bond, state)
    deployment = control.gateway.deployment(canary.deployment_id)
    record = control.records.of(deployment) if recorded else control.readable(deployment)
    receipt = record.begun_promotion()
    if receipt is None or not receipt.is_under_way_on(state):
        if state.canary_is_promoted:
            raise promoted_by_hand(state, "canary.disable() ends what is left of the canary.")
        only_if(seen)
        receipt = Promotion.of(
            state,
            begun_at=seen.at,
            release=bond.release,
            rollout_id=record.rollout.id if record.rollout else None,
        )
        if recorded:
            _announce(control, deployment, record.promoting(receipt), state)
    again = "Nothing is lost: promote() again finishes it, rollback() undoes it."
    if not state.canary_is_promoted:
        promoted = attrs.evolve(
            state,
            deployment_id=canary.deployment_id,
            variables=Variables(state.variables).merged_with(canary.variables),
            canary=attrs.evolve(canary, percent=0.0),
        )
        try:
            state = control.change(promote_patch(), state, promoted, again).stage
        except UnconfirmedChangeError as error:
            _repair(control, canary, before=state, error=error)
            raise
    control.change(
        end_patch(),
        state,
        attrs.evolve(state, canary=None),
        again,
        so_far="The promotion is half done: production serves the canary's deployment and "
        "variables already, and the canary is not ended.",
    )
    return receipt


def flush(control: Control) -> None:
    """Empties the cache of a stage that has one, once its canary is promoted."""
    try:
        if control.gateway.settings().cache_enabled:
            control.gateway.flush_cache()
    except CanaryError as error:
        raise error.within(
            "The canary is promoted; whether the stage's cache was emptied is not known.",
            "promote(flush_cache=True) again changes nothing else.",
        ) from error.__cause__


def _repair(
    control: Control, canary: CanaryState, before: StageState, error: UnconfirmedChangeError
) -> None:
    """Gives production back what it had, where another canary than the judged one was promoted.

    Somebody replaced the canary between our read and our write. Other differences are left as they
    are, for the error to tell.
    """
    found = control.look().stage
    promoted = found.canary if found.canary_is_promoted else None
    if promoted is None or (promoted.deployment_id, promoted.variables) == (
        canary.deployment_id,
        canary.variables,
    ):
        return
    names = {*canary.variables, *promoted.variables}
    variables = {k: v for k, v in found.variables.items() if k not in names}
    variables.update({k: v for k, v in before.variables.items() if k in names})
    ended = attrs.evolve(found, canary=None)
    given_back = attrs.evolve(
        ended, deployment_id=before.deployment_id, variables=Variables(variables)
    )
    byhand = f"By hand: UpdateStage, replace /deploymentId with {before.deployment_id}."
    control.change(end_patch(), found, ended, byhand)
    control.change(
        restore_patch(ended, given_back),
        ended,
        given_back,
        byhand,
        so_far="The canary was ended; production serves another one than was judged.",
    )
    raise StageChangedError(
        "Somebody replaced the canary while it was being promoted, so another one than was judged "
        "became production. It was ended, and production was given back what it had.",
        differences=error.differences,
        state=str(given_back),
        remedy="Find out who it was, and start again with stage.enable_canary(...).",
    ) from error


def _announce(control: Control, deployment: Deployment, record: Record, state: StageState) -> None:
    """Writes the record of a promotion before it is begun."""
    try:
        control.records.save(deployment, record)
    except StageChangedError:
        raise  # the caller's store is a lock, and somebody else holds it
    except CanaryError as error:
        raise RecordError(
            "The promotion was not begun, because what it overwrites could not be recorded: "
            f"{error.happened}",
            state=str(state),
            remedy="Mend that; or promote(unrecorded=True) and keep the receipt it returns, for "
            "nothing else will know the way back.",
        ) from error


def _receipt(control: Control, bond: Bond, state: StageState) -> Promotion:
    """The receipt of a promotion that has been finished."""
    record = control.records.of(control.gateway.deployment(bond.deployment.id))
    receipt = record.begun_promotion()
    if receipt is None or not receipt.is_done_on(state):
        raise RolloutEndedError(
            "Somebody else promoted the canary; what production served before is not recorded.",
            release=bond.release or "unknown",
            outcome=Outcome.PROMOTED_OUTSIDE.value,
            state=str(state),
            remedy="There is nothing left to promote.",
        )
    return receipt
