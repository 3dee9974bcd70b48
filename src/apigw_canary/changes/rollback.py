"""Ending a canary."""

import attrs

from apigw_canary.aws.apigateway import end_patch
from apigw_canary.changes.control import Bond, Control, log, promoted_by_hand
from apigw_canary.changes.revert import restore
from apigw_canary.errors import CanaryError, RecordError, RolloutEndedError, StageChangedError
from apigw_canary.rollout.record import NO_RECORD, Record
from apigw_canary.rollout.state import CanaryState, Outcome, StageState


def roll_back(control: Control, bond: Bond | None, outcome: Outcome) -> None:
    """Ends the canary; where it was half promoted, production gets back what it had.

    Without a bond, whichever canary is there. No canary is success.
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
        return
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
    begun = record.begun_promotion()
    if begun and begun.is_under_way_on(state) and not begun.is_undone_on(state):
        if not canary.variables:
            # Of a canary that overrides nothing it cannot be told whether the promotion was still
            # under way or whether somebody enabled one anew, and production is not changed on a
            # guess.
            raise StageChangedError(
                "The canary is ended. Production serves its deployment, as promoted at "
                f"{begun.begun_at:%Y-%m-%d %H:%M}.",
                differences={"deployment_id": "the canary's"},
                state=str(ended),
                remedy="If production is to go back: stage.revert().",
            )
        restore(control, begun, ended)
    elif record.rollout is not None and begun is None and state.canary_is_promoted:
        raise promoted_by_hand(
            ended,
            "The canary is ended. If production is to go back, deploy what it served before.",
        )
    if bond is not None and not bond.variables_only:
        _note(control, bond, outcome)


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


def _note(control: Control, bond: Bond, outcome: Outcome) -> None:
    """Records how the rollout ended, with the description as it was when the canary was found.

    Reading it again would be a fourth call. Not for a canary of variables only: its deployment is
    production's, and may have got the records of other stages since.
    """
    if bond.record.rollout is None:
        return
    try:
        control.records.save(bond.deployment, bond.record.ending(outcome))
    except CanaryError as error:
        # The canary is gone, which is what was asked. Without the note the release still counts as
        # ended, only not by whom.
        log.warning("the outcome %s was not recorded: %s", outcome, error)
