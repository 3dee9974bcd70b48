"""Promoting a canary, and undoing a promotion."""

from collections.abc import Mapping
from datetime import timedelta

import attrs

from apigw_canary.aws.apigateway import Deployment, end_patch, promote_patch, restore_patch
from apigw_canary.changes.control import (
    Bond,
    Condition,
    Control,
    log,
    raise_changed,
    unconditionally,
)
from apigw_canary.errors import (
    CanaryAlreadyEnabledError,
    CanaryError,
    NotFoundError,
    NothingToRevertError,
    RecordError,
    RolloutEndedError,
    StageChangedError,
    UnconfirmedChangeError,
)
from apigw_canary.rollout import inputs
from apigw_canary.rollout.record import NO_RECORD, Promotion, Record
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
    record = control.records.of(deployment)
    receipt = record.begun_promotion()
    if receipt is None or not receipt.is_under_way_on(state):
        if state.canary_is_promoted:
            raise _promoted_by_hand(state, "canary.disable() ends what is left of the canary.")
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
    control.change(end_patch(), state, attrs.evolve(state, canary=None), again)
    return receipt


def _repair(
    control: Control, canary: CanaryState, before: StageState, error: UnconfirmedChangeError
) -> None:
    """Gives production back what it had, where another canary than the judged one was promoted.

    Somebody replaced the canary between our read and our write. Other differences are left as they
    are, for the error to tell.
    """
    found = control.look().stage
    if found.canary is None or not found.canary_is_promoted:
        return
    if (found.canary.deployment_id, found.canary.variables) == (
        canary.deployment_id,
        canary.variables,
    ):
        return
    names = {*canary.variables, *found.canary.variables}
    variables = {k: v for k, v in found.variables.items() if k not in names}
    variables.update({k: v for k, v in before.variables.items() if k in names})
    ended = attrs.evolve(found, canary=None)
    given_back = attrs.evolve(
        ended, deployment_id=before.deployment_id, variables=Variables(variables)
    )
    byhand = f"By hand: UpdateStage, replace /deploymentId with {before.deployment_id}."
    control.change(end_patch(), found, ended, byhand)
    control.change(restore_patch(ended, given_back), ended, given_back, byhand)
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
            outcome=Outcome.PROMOTED_ELSEWHERE.value,
            state=str(state),
            remedy="There is nothing left to promote.",
        )
    return receipt


def _promoted_by_hand(state: StageState, remedy: str) -> StageChangedError:
    return StageChangedError(
        "Somebody else made the canary's deployment and variables the stage's own; what production "
        "served before is not recorded.",
        differences={"deployment_id": "the canary's"},
        state=str(state),
        remedy=remedy,
    )


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
        _restore(control, begun, ended)
    elif record.rollout is not None and begun is None and state.canary_is_promoted:
        raise _promoted_by_hand(
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


def revert(control: Control, promotion: Promotion | None) -> None:
    """Undoes a promotion: the one of the receipt, or the last one the record knows."""
    state = control.look().stage
    if promotion is not None:
        _check_stage(promotion, state)
        if promotion.is_undone_on(state) and not promotion.is_done_on(state):
            return
    if state.canary is not None:
        raise CanaryAlreadyEnabledError(
            "A promotion cannot be undone while a canary is enabled.",
            deployment_id=state.canary.deployment_id,
            percent=state.canary.percent,
            age=timedelta(0),
            state=str(state),
            remedy="End the canary first: stage.rollback().",
        )
    deployments = {deployment.id: deployment for deployment in control.gateway.deployments()}
    if promotion is None:
        promotion = _last_promotion(control, deployments, state)
        if promotion is None:
            return
    _check_revertible(promotion, deployments, state)
    target = deployments[promotion.deployment_before]
    mark = attrs.evolve(control.readable(target), reverted_from=promotion.deployment_after)
    try:
        control.records.save(target, mark)
    except CanaryError as error:
        raise error.within(
            f"Nothing was changed: {state}", "Mend that and run the same line again."
        ) from error.__cause__
    _restore(control, promotion, state)


def _last_promotion(
    control: Control, deployments: Mapping[str, Deployment], state: StageState
) -> Promotion | None:
    """The promotion that brought the stage where it is; None if it has been undone."""
    record = NO_RECORD
    if state.deployment_id in deployments:
        record = control.records.of(deployments[state.deployment_id])
    promotion = record.promotion
    if record.reverted_from is not None and (
        record.reverted_from != state.deployment_id
        or (promotion is not None and promotion.is_undone_on(state))
    ):
        return None
    if promotion is None or promotion.deployment_after != state.deployment_id:
        raise NothingToRevertError(
            f"No promotion of deployment {state.deployment_id} is recorded.",
            state=str(state),
            remedy="Give stage.revert() the receipt that promote() returned.",
        )
    _check_stage(promotion, state)
    return promotion


def _check_stage(promotion: Promotion, state: StageState) -> None:
    ours = f"{state.region}/{state.rest_api_id}/{state.name}"
    theirs = f"{promotion.region}/{promotion.rest_api_id}/{promotion.stage}"
    if ours != theirs:
        inputs.refuse("promotion", f"of stage {ours}", theirs)


def _check_revertible(
    promotion: Promotion, deployments: Mapping[str, Deployment], state: StageState
) -> None:
    changed = {
        name: "changed since the promotion"
        for name, value in promotion.variables_after.items()
        if state.variables.get(name) != value
    }
    if state.deployment_id != promotion.deployment_after:
        changed["deployment_id"] = f"{state.deployment_id} instead of {promotion.deployment_after}"
    if changed:
        raise_changed(changed, state)
    if promotion.deployment_before not in deployments:
        survivors = sorted(deployments.values(), key=lambda d: d.created_at, reverse=True)
        listed = ", ".join(f"{d.id} of {d.created_at:%Y-%m-%d %H:%M}" for d in survivors[:10])
        raise NotFoundError(
            f"Deployment {promotion.deployment_before}, which production served before, has been "
            "deleted.",
            state=str(state),
            remedy=f"These are left, newest first: {listed}.",
        )


def _restore(control: Control, promotion: Promotion, state: StageState) -> None:
    wanted = promotion.undone_on(state)
    control.change(restore_patch(state, wanted), state, wanted, "stage.revert() again finishes it.")
