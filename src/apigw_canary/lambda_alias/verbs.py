"""The safe state changes of a weighted alias."""

import re
from datetime import datetime, timedelta
from typing import Any

import attrs

from apigw_canary.aws import log
from apigw_canary.changes.sending import (
    SENDINGS,
    Condition,
    already_enabled,
    check_place,
    check_production,
    had_its_rollout,
    is_promoted,
    promoted_outside,
    unconditionally,
)
from apigw_canary.errors import (
    CallerError,
    NothingToRevertError,
    RecordError,
    StageChangedError,
)
from apigw_canary.lambda_alias.control import AliasControl, AliasHandle, RecordedAlias
from apigw_canary.lambda_alias.record import AliasRecord, LastPromotion, check_text, new_id
from apigw_canary.model import CanaryState, EndedBy, Outcome, Promotion, StageState
from apigw_canary.values import validation

LATEST = "$LATEST"


def _checked_version(version: object) -> str:
    if not isinstance(version, str) or not re.fullmatch("[0-9]{1,9}", version):
        validation.refuse("version", "the number of a published version, such as '8'", version)
    return version


@attrs.frozen(kw_only=True)
class CanaryRequest:
    """The canary that `enable_canary` was asked for."""

    percent: float = attrs.field(converter=validation.percent)
    version: str = attrs.field(converter=_checked_version)
    release: str | None = attrs.field(
        validator=[
            validation.checked(validation.text, or_none=True),
            validation.checked(check_text, or_none=True),
        ]
    )
    description: str | None = attrs.field(validator=validation.checked(check_text, or_none=True))
    policy: str | None = None
    """A fingerprint of the policy that the canary is to be observed with."""


def enable(control: AliasControl, request: CanaryRequest, only_if: Condition) -> AliasHandle:
    """A canary as requested, or the one that is running if it is that.

    Made only on a condition; the one that is running is returned on none.
    """
    seen = control.read()
    state = seen.stage
    if state.canary is not None:
        return _running(control, request, seen)
    last = seen.record
    last = last and last.settled_on(state)
    _check_release(request, last)
    only_if(seen)
    if state.deployment_id == LATEST:
        raise CallerError(
            f"The alias invokes {LATEST}, and AWS splits invocations between published versions "
            "only.",
            remedy="Publish a version and let the alias invoke it.",
        )
    if state.deployment_id == request.version:
        validation.refuse("version", "another version than the alias's own", request.version)
    control.alias.check_version(request.version)
    if provisioned := control.alias.provisioned():
        raise CallerError(
            f"The alias has provisioned concurrency ({provisioned}), and AWS takes no weights on "
            "an alias that has.",
            remedy="Provision the versions instead of the alias, or use a Stage with one alias for "
            "each version and a stage variable that names the alias.",
        )
    begun = AliasRecord(
        id=new_id(control.records.place),
        release=request.release,
        started_at=seen.at,
        step_started_at=seen.at,
        percent=request.percent,
        policy=request.policy,
        before=state.deployment_id,
        after=request.version,
        promoted=last.last_promotion() if last else None,
        past=last.remembered() if last else "",
    )
    canary = CanaryState(deployment_id=request.version, percent=request.percent)
    enabled = control.change(
        seen,
        attrs.evolve(state, canary=canary),
        begun,
        f"enabling a canary of version {request.version} at {request.percent:g} %",
        text=request.description,
    )
    return control.handle(enabled)


def _check_release(request: CanaryRequest, last: AliasRecord | None) -> None:
    """Refuse a release that has had its rollout, as far as the record remembers."""
    outcome = last.ended(request.release) if last and request.release else None
    if outcome is not None and request.release is not None:
        raise had_its_rollout("alias", request.release, outcome)


def _running(control: AliasControl, request: CanaryRequest, seen: RecordedAlias) -> AliasHandle:
    """The canary that is running, if it is the one requested."""
    handle, state = control.handle(seen), seen.stage
    release = handle.release
    if request.release != release or (release is None and request.version != handle.version):
        canary = state.canary
        assert canary is not None
        happened = (
            f"The alias routes {canary.percent:g} % to version {canary.deployment_id} already, of "
            f"release {release or 'unknown'}, and AWS allows no third version. It was not changed."
        )
        raise already_enabled("alias", happened, canary, seen.at - state.updated_at)
    if request.version != handle.version:
        how = f"{handle.version} instead of {request.version}"
        raise StageChangedError(
            f"The canary of release {release} is running, but it is not as requested: version: "
            f"{how}.",
            differences={"canary.deployment_id": how},
            remedy="End it with alias.rollback(), then enable the canary with another release "
            "name.",
        )
    return handle


def shift(
    control: AliasControl,
    handle: AliasHandle,
    percent: float,
    *,
    only_if: Condition = unconditionally,
) -> AliasHandle:
    """Sets the canary's percent; success if the alias and its record have that percent already."""
    seen = control.present()
    canary = control.own_canary(handle, seen)
    record = seen.readable
    if canary.percent == percent and (record is None or record.percent == percent):
        return handle
    only_if(seen)
    check_production(control.production_changes(handle, seen))
    record = attrs.evolve(control.own(handle, seen), percent=percent, step_started_at=seen.at)
    shifted = attrs.evolve(seen.stage, canary=attrs.evolve(canary, percent=percent))
    control.change(seen, shifted, record, f"setting the canary's percent to {percent:g}")
    return handle._replace(record=record)


def promote(
    control: AliasControl, handle: AliasHandle, *, only_if: Condition = unconditionally
) -> Promotion:
    """Makes the canary's version the alias's own, in one call with the record of it."""
    seen = control.present()
    state, record = seen.stage, seen.record
    if state.canary is None and state.deployment_id == handle.version:
        known = handle.record is None or (record is not None and record.id == handle.record.id)
        if record is None or not known or record.outcome is not Outcome.PROMOTED:
            raise promoted_outside(handle.release)
        return _receipt(control, record)
    control.own_canary(handle, seen)
    only_if(seen)
    check_production(control.production_changes(handle, seen))
    record = attrs.evolve(
        control.own(handle, seen),
        outcome=Outcome.PROMOTED,
        hold_since=None,
        step_started_at=seen.at,
    )
    promoted = attrs.evolve(state, deployment_id=handle.version, canary=None)
    control.change(seen, promoted, record, "making the canary's version the alias's own")
    return _receipt(control, record)


def _receipt(control: AliasControl, record: AliasRecord) -> Promotion:
    promoted = LastPromotion(record.before, record.after, record.step_started_at)
    receipt = _receipt_of(control, promoted)
    return attrs.evolve(receipt, release=record.release, rollout_id=record.id)


def _receipt_of(control: AliasControl, promoted: LastPromotion) -> Promotion:
    """The receipt of a promotion whose rollout is not on record any more."""
    return Promotion(
        region=control.alias.region,
        rest_api_id=control.alias.function,
        stage=control.alias.name,
        deployment_before=promoted.before,
        deployment_after=promoted.after,
        variables_before={},
        variables_after={},
        begun_at=promoted.at,
    )


def annotate(control: AliasControl, handle: AliasHandle, **changes: Any) -> AliasHandle:
    """The handle with a change of its record: one GetAlias and one UpdateAlias."""
    seen = control.present()
    control.own_canary(handle, seen)
    record = attrs.evolve(control.own(handle, seen), **changes)
    control.note(seen, record)
    return handle._replace(record=record, before=record.before)


def hold(control: AliasControl, handle: AliasHandle, reason: str) -> AliasHandle:
    """Records an operator's hold; one that is in force keeps its start."""
    seen = control.present()
    record = seen.readable
    since = record.hold_since if record is not None and record.runs_on(seen.stage) else None
    return annotate(
        control, handle, hold_since=since or seen.at.replace(microsecond=0), hold_reason=reason
    )


def resume(control: AliasControl, handle: AliasHandle) -> AliasHandle:
    """Ends an operator's hold; success where there is none."""
    seen = control.present()
    record = seen.readable
    held = record.held_for(seen.at) if record is not None else timedelta(0)
    return annotate(control, handle, hold_since=None, hold_reason=None, held=held)


def failing(control: AliasControl, handle: AliasHandle, since: datetime | None) -> AliasHandle:
    """Records since when metrics or alarms cannot be read; only `records` can hold it."""
    return annotate(control, handle, failing_since=since) if control.records.is_stored else handle


def accept_production(control: AliasControl, handle: AliasHandle) -> AliasHandle:
    """Records the alias's own version as it is now."""
    return annotate(control, handle, before=control.present().stage.deployment_id)


def roll_back(
    control: AliasControl,
    handle: AliasHandle | None,
    *,
    by: EndedBy,
    outcome: Outcome = Outcome.ROLLED_BACK,
    tries: int = SENDINGS,
) -> bool:
    """Ends the canary; without a handle, whichever it is. Whether there was one: none is success.

    Waits for nothing: not for a record, and not for what else changes the alias meanwhile.
    """
    seen = control.present()
    state = seen.stage
    if state.canary is None:
        promoted = handle is not None and state.deployment_id == handle.version
        if handle is not None and promoted and outcome is not Outcome.DISABLED:
            raise is_promoted("alias", handle.release, Outcome.PROMOTED)
        return False
    if handle is not None:
        control.own_canary(handle, seen)
    record = seen.readable
    if record is not None and record.runs_on(state):
        record = attrs.evolve(
            record, outcome=outcome, ended_by=by, hold_since=None, step_started_at=seen.at
        )
    try:
        wanted = attrs.evolve(state, canary=None)
        control.change(seen, wanted, record, "ending the canary", to_end=True)
    except StageChangedError:
        if tries == 1:
            raise
        return roll_back(control, handle, by=by, outcome=outcome, tries=tries - 1)
    except RecordError as error:
        log.warning("alias %s: ended, and not on record: %s", control.alias.name, error)
    return True


def revert(
    control: AliasControl, promotion: Promotion | None, *, dry_run: bool = False
) -> Promotion:
    """Undoes a promotion: the one of the receipt, or the latest one on record. Returns it."""
    seen = control.read()
    state, record = seen.stage, seen.record
    if promotion is not None:
        alias = control.alias
        check_place(promotion, "alias", (alias.region, alias.function, alias.name))
    if state.canary is not None and not (promotion and promotion.is_undone_on(state)):
        happened = "A promotion cannot be undone while a canary is enabled."
        raise already_enabled("alias", happened, state.canary, seen.at - state.updated_at)
    if promotion is None:
        promotion = _on_record(control, record, state)
    if promotion.is_undone_on(state):
        return promotion
    if not promotion.is_done_on(state):
        how = f"{state.deployment_id} instead of {promotion.deployment_after}"
        raise StageChangedError(
            f"The alias was changed since the promotion: deployment_id: {how}.",
            differences={"deployment_id": how},
            remedy=f"Before the promotion it invoked version {promotion.deployment_before}: "
            "restore it with UpdateAlias, or enable a canary of it.",
        )
    control.alias.check_version(promotion.deployment_before)
    if not dry_run:
        control.change(
            seen,
            attrs.evolve(state, deployment_id=promotion.deployment_before),
            _reverted(control, promotion, record, seen),
            f"restoring version {promotion.deployment_before}",
        )
    return promotion


def _on_record(control: AliasControl, record: AliasRecord | None, state: StageState) -> Promotion:
    """The latest promotion, behind rollouts that ended without one."""
    if record is not None and record.outcome in {Outcome.PROMOTED, Outcome.REVERTED}:
        return _receipt(control, record)
    found = record.settled_on(state).last_promotion() if record is not None else None
    if found is None:
        raise NothingToRevertError(
            "No promotion is on record.",
            remedy="Give alias.revert() the receipt that promote() returned.",
        )
    return _receipt_of(control, found)


def _reverted(
    control: AliasControl, promotion: Promotion, record: AliasRecord | None, seen: RecordedAlias
) -> AliasRecord:
    """The record of a revert, of a rollout that may not be the latest one."""
    if record is not None and record.id == promotion.rollout_id:
        return attrs.evolve(record, outcome=Outcome.REVERTED, step_started_at=seen.at)
    return AliasRecord(
        id=new_id(control.records.place),
        release=promotion.release,
        started_at=promotion.begun_at,
        step_started_at=seen.at,
        percent=0.0,
        before=promotion.deployment_before,
        after=promotion.deployment_after,
        outcome=Outcome.REVERTED,
        past=record.settled_on(seen.stage).remembered() if record else "",
    )
