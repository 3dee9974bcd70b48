"""Ending a canary."""

import attrs

from apigw_canary.aws.apigateway import end_patch
from apigw_canary.changes.control import Bond, Control, promoted_by_hand
from apigw_canary.changes.revert import restore
from apigw_canary.errors import CanaryError, RecordError, RolloutEndedError, StageChangedError
from apigw_canary.rollout.record import NO_RECORD, Record
from apigw_canary.rollout.state import CanaryState, Outcome, StageState
from apigw_canary.rollout.words import moment


def roll_back(control: Control, bond: Bond | None) -> bool:
    """Ends the canary; where it was half promoted, production gets back what it had.

    Without a bond, whichever canary is there. Whether there was one: none is success.
    """
    state = control.look().stage
    canary = state.canary
    if canary is None:
        if bond is not None and bond.is_promoted_on(state):
            raise RolloutEndedError(
                "The canary has been promoted; there is none to end.",
                release=bond.release or "unknown",
                outcome=Outcome.PROMOTED.value,
                state=str(state),
                remedy="stage.revert() undoes the promotion.",
            )
        return False
    if bond is not None:
        control.mine(bond, state)
    record = _record_if_promoted(control, bond, state, canary)
    ended = control.change(
        end_patch(),
        state,
        attrs.evolve(state, canary=None),
        "Run the same line again: it ends the canary, whatever is left of it.",
    ).stage
    if isinstance(record, CanaryError):
        raise RecordError(
            "The canary was ended, but its record could not be read, so it is not known whether "
            f"a promotion had begun to change production: {record.happened}",
            state=str(ended),
            remedy="If that is not what production should serve, stage.revert() undoes it.",
        ) from record
    _give_back(control, record, state, canary, ended)
    return True


def _give_back(
    control: Control, record: Record, state: StageState, canary: CanaryState, ended: StageState
) -> None:
    """Undoes a promotion that was under way, where the record proves that one was."""
    begun, promotion = record.rollout, record.begun_promotion()
    if begun is None or canary.deployment_id != state.deployment_id:
        return
    if promotion is not None and promotion.is_under_way_on(state) and canary.variables:
        restore(
            control,
            promotion,
            ended,
            so_far="The canary was ended, and production was not given back what it had.",
        )
    elif begun.stage_deployment_id == canary.deployment_id:
        return  # a canary of variables only: it was production's deployment before too
    elif promotion is None:
        raise promoted_by_hand(
            ended,
            "The canary is ended. If production is to go back, deploy what it served before.",
        )
    else:
        # It cannot be told whether the promotion was still under way, with variables changed since,
        # or whether somebody enabled a canary anew, and production is not changed on a guess.
        raise StageChangedError(
            "The canary is ended. Production serves its deployment, as promoted at "
            f"{moment(promotion.begun_at)}.",
            differences={"deployment_id": "the canary's"},
            state=str(ended),
            remedy="If production is to go back: stage.revert().",
        )


def _record_if_promoted(
    control: Control, bond: Bond | None, state: StageState, canary: CanaryState
) -> Record | CanaryError:
    """The canary's record, read where production may have its deployment already.

    An error is returned, not raised: a rollback waits for nothing, so the canary goes first.
    """
    same_deployment = canary.deployment_id == state.deployment_id
    of_variables_only = bond is not None and bond.variables_only
    if not state.canary_is_promoted and (not same_deployment or of_variables_only):
        return NO_RECORD
    try:
        return control.records.of(control.gateway.deployment(state.deployment_id))
    except CanaryError as error:
        return error
