"""Promoting a canary."""

import attrs

from apigw_canary.aws import Deployment, explained, log, promote_patch, restore_patch
from apigw_canary.changes.control import (
    CanaryHandle,
    Control,
    check_not_half_undone,
    promoted_by_hand,
)
from apigw_canary.changes.sending import (
    Condition,
    check_production,
    kept,
    listed,
    promoted_outside,
    unconditionally,
)
from apigw_canary.errors import (
    AwsError,
    CanaryError,
    RecordError,
    StageChangedError,
    UnconfirmedChangeError,
)
from apigw_canary.model import CanaryState, Outcome, Promotion, Record, StageState, Variables

_AGAIN = "Call promote() again to finish the promotion, or rollback() to undo it."


def promote(
    control: Control,
    handle: CanaryHandle,
    *,
    recorded: bool = True,
    only_if: Condition = unconditionally,
) -> Promotion:
    """Makes the canary the stage's own and ends it; finishes what an earlier call began."""
    seen = control.present()
    state = seen.stage
    if state.canary is None and handle.is_promoted_on(state):
        return _receipt(control, handle, state)
    canary = control.own_canary(handle, seen)
    deployment = control.gateway.deployment(canary.deployment_id)
    record = control.record(deployment) if recorded else control.readable(deployment)
    receipt = record.begun_promotion()
    if receipt is not None and _has_begun(receipt, record, state):
        _go_on(control, deployment, record, receipt, recorded=recorded)
    else:
        _check_may_begin(control, handle, state, receipt)
        only_if(seen)
        own = handle._replace(record=record.of_canary(handle.variables))
        check_production(own.production_changes(state))
        if record.rollout is not None:
            record = control.begun(handle, record, seen)
        receipt = Promotion.of(
            state,
            begun_at=seen.at,
            release=handle.release,
            rollout_id=record.rollout.id if record.rollout else None,
        )
        if recorded:
            record = record.promoting(receipt)
            _announce(control, deployment, record)
            state = _read_again(control, handle, receipt, record)
    if state.canary is not None and not state.canary_is_promoted:
        state = _copied(control, handle, state, receipt)
    if state.canary is not None:
        state = control.end(state, _AGAIN).stage
        if state.deployment_id != receipt.deployment_after or receipt.is_undone_on(state):
            raise _undone_meanwhile(receipt, state)
    if recorded:
        _note_promoted(control, canary.deployment_id, receipt)
    return receipt


def _undone_meanwhile(receipt: Promotion, state: StageState) -> StageChangedError:
    """The error where the canary has ended and production has not, or no longer, what it had."""
    promoted = attrs.evolve(
        state,
        deployment_id=receipt.deployment_after,
        variables={**state.variables, **receipt.variables_after},
    )
    return StageChangedError(
        "The canary has ended, and production does not have what was promoted: another process "
        "rolled it back, or changed production, while this call promoted it.",
        differences=state.differences(promoted),
        remedy="Check stage.describe(). stage.enable_canary(...) of the same release raises how "
        "its rollout ended.",
    )


def _check_may_begin(
    control: Control, handle: CanaryHandle, state: StageState, receipt: Promotion | None
) -> None:
    """Refuse a canary that production has already."""
    if state.canary_is_promoted:
        raise control.nothing_to_promote(handle, state) or promoted_by_hand(
            "canary.disable() ends the canary."
        )
    if receipt is not None and receipt.has_moved(state):
        raise StageChangedError(
            "Another process finished the promotion while this call read the stage.",
            differences={"rollout": "it has ended"},
            remedy="Check stage.describe(), and run the same line again.",
        )


def _go_on(
    control: Control, deployment: Deployment, record: Record, receipt: Promotion, *, recorded: bool
) -> None:
    """Withdraws the announcement of a rollback whose process died: it is not to be finished.

    As far as that is possible: production has the canary's deployment already.
    """
    if record.rollout is None or record.rollout.ending is None:
        return
    try:
        control.records.save(deployment, record.promoting(receipt))
    except CanaryError as error:
        if recorded and isinstance(error, StageChangedError):
            raise  # the caller's store is a lock, and another process holds it
        log.warning("deployment %s: its rollback is still announced: %s", deployment.id, error)


def _copied(
    control: Control, handle: CanaryHandle, state: StageState, receipt: Promotion
) -> StageState:
    """The stage with the canary's deployment and variables; the canary gets no requests."""
    canary = state.canary
    assert canary is not None
    promoted = attrs.evolve(
        state,
        deployment_id=canary.deployment_id,
        variables=Variables(state.variables).merged_with(canary.variables),
        canary=attrs.evolve(canary, percent=0.0),
    )
    what = "making the canary's deployment and variables the stage's own"
    try:
        return control.change(promote_patch(), state, promoted, what, _AGAIN).stage
    except UnconfirmedChangeError as error:
        with kept(error):
            repaired = _repair(control, canary, before=state)
        if not repaired:
            raise
        raise StageChangedError(
            "Another process replaced the canary while this call promoted it, so a canary that was "
            "not judged was promoted. That canary was ended, and production serves what it served "
            "before.",
            differences=error.differences,
            remedy="Find out what replaced the canary, then start again with "
            "stage.enable_canary(...).",
        ) from error
    except AwsError as error:
        with kept(error):
            seen = control.read()
        found = seen.stage
        if found.canary is None and receipt.is_done_on(found):
            return found  # another process promoted it at the same time
        control.own_canary(handle, seen)  # or ended or replaced it
        raise


def _has_begun(receipt: Promotion, record: Record, state: StageState) -> bool:
    """Whether production has a part of the promotion, whatever else was changed outside since."""
    ended = record.rollout is not None and record.rollout.outcome is not None
    return receipt.is_under_way_on(state) or (not ended and receipt.has_moved(state))


def _read_again(
    control: Control, handle: CanaryHandle, receipt: Promotion, record: Record
) -> StageState:
    """The stage as it is directly before it is changed: the record took time."""
    seen = control.read()
    state = seen.stage
    if state.canary is None and receipt.is_done_on(state):
        return state
    control.own_canary(handle, seen)
    now = Promotion.of(
        state,
        begun_at=receipt.begun_at,
        release=receipt.release,
        rollout_id=receipt.rollout_id,
    )
    if now == receipt or _has_begun(receipt, record, state):
        return state
    differences = handle.production_changes(state) or {"production": "changed"}
    raise StageChangedError(
        f"Production was changed outside this call: {listed(differences)}.",
        differences=differences,
        remedy="Check stage.describe(), and run the same line again.",
    )


def _note_promoted(control: Control, deployment_id: str, receipt: Promotion) -> None:
    """Record that the promotion is finished; and what it overwrote, should that be lost.

    Another process that writes the same description at the same time may have replaced it.
    """
    try:
        deployment = control.gateway.deployment(deployment_id)
        record = control.record(deployment)
        begun = record.begun_promotion()
        if begun is None or not begun.is_same_change(receipt):
            record = record.promoting(receipt)
        control.records.save(deployment, record.ending(Outcome.PROMOTED))
    except CanaryError as error:
        log.warning("deployment %s: promoted, not recorded as that: %s", deployment_id, error)


def flush(control: Control) -> None:
    """Empties the cache of a stage that has one, once its canary is promoted."""
    with explained(
        CanaryError,
        "The canary is promoted; it is not known whether the stage's cache was emptied.",
        "Call promote(flush_cache=True) again to empty it; nothing else is changed.",
    ):
        if control.gateway.stage().settings.cache_enabled:
            control.gateway.flush_cache()


def _repair(control: Control, canary: CanaryState, before: StageState) -> bool:
    """Gives production back what it had, where another canary than the judged one was promoted.

    The canary was replaced outside between our read and our write. Other differences are left as
    they are, and the error reports them. Returns whether anything was given back.
    """
    found = control.read().stage
    promoted = found.canary if found.canary_is_promoted else None
    if promoted is None or (promoted.deployment_id, promoted.variables) == (
        canary.deployment_id,
        canary.variables,
    ):
        return False
    names = {*canary.variables, *promoted.variables}
    variables = {k: v for k, v in found.variables.items() if k not in names}
    variables.update({k: v for k, v in before.variables.items() if k in names})
    byhand = (
        "To restore production yourself, call UpdateStage and replace /deploymentId with "
        f"{before.deployment_id}."
    )
    ended = control.end(found, byhand).stage
    given_back = attrs.evolve(
        ended, deployment_id=before.deployment_id, variables=Variables(variables)
    )
    what = f"restoring deployment {before.deployment_id} and its variables"
    if patch := restore_patch(ended, given_back):
        control.change(patch, ended, given_back, what, byhand)
    return True


def _announce(control: Control, deployment: Deployment, record: Record) -> None:
    """Writes the record of a promotion before it is begun."""
    try:
        control.records.save(deployment, record)
    except StageChangedError:
        raise  # the caller's store is a lock, and another process holds it
    except CanaryError as error:
        raise RecordError(
            "The promotion was not begun, because what it overwrites could not be recorded: "
            f"{error.happened}",
            remedy="Fix that, or call promote(unrecorded=True) and keep the receipt that it "
            "returns: without it the promotion cannot be undone.",
        ) from error


def _receipt(control: Control, handle: CanaryHandle, state: StageState) -> Promotion:
    """The receipt of a promotion that has been finished."""
    record = control.record(control.gateway.deployment(handle.deployment.id))
    check_not_half_undone(handle, record, state)
    receipt = record.begun_promotion()
    if receipt is None or not receipt.is_done_on(state):
        raise promoted_outside(handle.release)
    return receipt
