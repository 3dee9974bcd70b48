"""Ending a canary."""

from collections.abc import Callable

from apigw_canary.aws import StageSnapshot, log
from apigw_canary.changes.control import CanaryHandle, Control, promoted_by_hand
from apigw_canary.changes.notes import keep_promotion
from apigw_canary.changes.revert import AGAIN, restore
from apigw_canary.changes.sending import is_promoted
from apigw_canary.errors import CanaryError, NotFoundError, RecordError, StageChangedError
from apigw_canary.model import (
    NO_RECORD,
    Begun,
    CanaryState,
    EndedBy,
    Outcome,
    Promotion,
    Record,
    StageState,
)
from apigw_canary.values import moment

_REVERT = "Call stage.revert() to finish it."
"""Where a promotion was finished by another process."""


def roll_back(
    control: Control,
    handle: CanaryHandle | None,
    *,
    by: EndedBy,
    outcome: Outcome = Outcome.ROLLED_BACK,
) -> bool:
    """Ends the canary; where it was half promoted, production gets back what it had.

    So it does where another process promotes it meanwhile, unless it is only disabled.

    Without a handle, it ends any canary. Returns whether there was one: none is success, once that
    is certain. How it ends is recorded before and afterwards, as far as that is possible.
    """
    seen = control.present(for_good=handle is None)
    state = seen.stage
    canary = state.canary
    if canary is None:
        if finished(control, state, lambda begun: handle is None or handle.is_in(begun)):
            return True
        if handle is not None and outcome is not Outcome.DISABLED:
            _check_not_promoted(control, handle, state)
        return False
    if handle is not None:
        control.own_canary(handle, seen)
    record = _record_if_promoted(control, handle, state, canary)
    control.announce_ending(canary, outcome, by)
    ended = control.end(state, "Run the same line again: it ends the canary.")
    if isinstance(record, CanaryError):
        raise RecordError(
            "The canary was ended, but its record could not be read, so it is not known whether "
            f"a promotion had begun to change production: {record.happened}",
            remedy="If production does not serve what it should, call stage.revert().",
        ) from record
    undoes = outcome is not Outcome.DISABLED  # what another process has promoted by now
    undone = _give_back(control, handle if undoes else None, record, state, ended.stage)
    begun = handle.record.rollout if handle is not None else undone
    restored = undone is not None
    if undone is None and (meanwhile := _promoted_meanwhile(seen, ended.stage)):
        if not undoes:
            if handle is not None and begun is not None:
                keep_promotion(control, handle, state, begun)
            return True
        restore(control, meanwhile, ended.stage, _REVERT)
        restored = True
    elif undone is None and undoes:
        _check_not_finished(record, state, ended.stage)
    at, rollout_id = ended.stage.updated_at, begun.id if begun else None
    control.note_ending(canary, at, rollout_id, outcome, by, undone=restored)
    return True


def finished(
    control: Control, state: StageState, is_meant: Callable[[Begun], bool]
) -> Outcome | None:
    """Undoes a promotion on a stage without a canary, where a process died while it did that.

    It had announced how it would end the canary, after the promotion was begun, and production
    still serves what was promoted. Two GetDeployment at most. Returns how the rollout has ended
    then; None where there is nothing to finish.
    """
    deployment = control.gateway.deployment(state.deployment_id)
    record = control.readable(deployment)
    begun, ending, promotion = record.rollout, record.announced(), record.half_undone(state)
    if begun is None or ending is None or promotion is None or not is_meant(begun):
        return None
    if not promotion.is_done_on(state):
        return None  # changed outside since: it is not known what production should serve
    try:
        control.gateway.deployment(promotion.deployment_before)
    except NotFoundError as error:
        raise NotFoundError(
            f"The rollback of release {promotion.release or 'unknown'} cannot be finished: "
            f"deployment {promotion.deployment_before}, which production served before, has been "
            "deleted.",
            remedy="Enable a canary of what production is to serve, with another release name, and "
            "promote it.",
        ) from error
    restore(control, promotion, state)
    try:
        control.records.save(deployment, record.ending(ending, begun.ended_by))
    except CanaryError as error:
        log.warning("deployment %s: %s is not on record: %s", deployment.id, ending, error)
    return ending


def _withdraw(control: Control, deployment_id: str) -> None:
    """Withdraws the announcement that a promotion is to be undone, which is not done after all."""
    try:
        deployment = control.gateway.deployment(deployment_id)
        control.records.save(deployment, control.record(deployment).withdrawn())
    except CanaryError as error:
        log.warning("deployment %s: its rollback is still announced: %s", deployment_id, error)


def _check_not_promoted(control: Control, handle: CanaryHandle, state: StageState) -> None:
    if not handle.is_promoted_on(state) or not handle.production_changes(state):
        return
    raise is_promoted("stage", handle.release, control.ending(handle, state).outcome)


def _give_back(
    control: Control,
    handle: CanaryHandle | None,
    record: Record,
    state: StageState,
    ended: StageState,
) -> Begun | None:
    """Undoes a promotion that was under way, where the record proves that one was; its rollout.

    Also one that another process has finished since, where the handle proves that it ran before.
    """
    begun, promotion = record.rollout, record.begun_promotion()
    canary = state.canary
    if begun is None or canary is None or canary.deployment_id != state.deployment_id:
        return None
    if begun.outcome is not None and not (handle is not None and handle.is_in(begun)):
        return None
    if promotion is not None and promotion.is_under_way_on(state) and canary.variables:
        restore(control, promotion, ended, AGAIN if begun.outcome is None else _REVERT)
        return begun
    if begun.stage_deployment_id == canary.deployment_id:
        return None  # a canary of variables only: it was production's deployment before too
    if promotion is None:
        raise promoted_by_hand(
            "The canary was ended. To restore production, deploy what it served before."
        )
    _withdraw(control, canary.deployment_id)
    # It cannot be told whether the promotion was still under way, with variables changed since, or
    # whether a canary was enabled anew outside, and production is not changed on a guess.
    raise _serves_it(promotion)


def _check_not_finished(record: Record, state: StageState, ended: StageState) -> None:
    """Refuse to call it a rollback where another process finished the promotion meanwhile.

    That it was under way when this call began is likely, and not proved.
    """
    begun, promotion = record.rollout, record.begun_promotion()
    if begun is None or promotion is None or begun.outcome is not Outcome.PROMOTED:
        return
    if (
        promotion.is_under_way_on(state)
        and promotion.variables_after
        and promotion.is_done_on(ended)
    ):
        raise _serves_it(promotion)


def _serves_it(promotion: Promotion) -> StageChangedError:
    return StageChangedError(
        "The canary was ended. Production serves its deployment, which was promoted at "
        f"{moment(promotion.begun_at)}.",
        differences={"deployment_id": "the canary's"},
        remedy="To restore production, call stage.revert().",
    )


def _promoted_meanwhile(seen: StageSnapshot, ended: StageState) -> Promotion | None:
    """What another process promoted since the stage was seen."""
    promotion = Promotion.of(seen.stage, begun_at=seen.at, release=None, rollout_id=None)
    if promotion.is_done_on(seen.stage) or not promotion.is_done_on(ended):
        return None
    return promotion


def _record_if_promoted(
    control: Control, handle: CanaryHandle | None, state: StageState, canary: CanaryState
) -> Record | CanaryError:
    """The canary's record, read where production may have its deployment already.

    An error is returned, not raised: a rollback waits for nothing, so the canary goes first.
    """
    same_deployment = canary.deployment_id == state.deployment_id
    of_variables_only = handle is not None and handle.variables_only
    if not state.canary_is_promoted and (not same_deployment or of_variables_only):
        return NO_RECORD
    try:
        return control.record(control.gateway.deployment(state.deployment_id))
    except CanaryError as error:
        return error
