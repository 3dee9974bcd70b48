"""What is recorded of a rollout while it runs: holds, accepted changes, failing reads."""

from collections.abc import Callable
from datetime import datetime

import attrs

from apigw_canary.aws import StageSnapshot, log
from apigw_canary.changes.control import CanaryHandle, Control
from apigw_canary.model import Begun, OnHold, Outcome, Promotion, Record, StageState


def hold(control: Control, handle: CanaryHandle, reason: str) -> CanaryHandle:
    """Records an operator's hold; one that is in force keeps its start."""

    def held(begun: Begun, seen: StageSnapshot) -> Begun:
        since = begun.hold.since if begun.hold else seen.at
        return attrs.evolve(begun, hold=OnHold(reason=reason, since=since))

    return annotated(control, handle, held)


def resume(control: Control, handle: CanaryHandle) -> CanaryHandle:
    """Ends an operator's hold; success where there is none."""
    return annotated(control, handle, lambda begun, seen: begun.resumed(seen.at))


def accept_production(control: Control, handle: CanaryHandle) -> CanaryHandle:
    """Records production as it is now."""

    def accepted(begun: Begun, seen: StageSnapshot) -> Begun:
        return begun.accepting(seen.stage, handle.variables)

    return annotated(control, handle, accepted)


def failing(control: Control, handle: CanaryHandle, since: datetime | None) -> CanaryHandle:
    """Records since when metrics or alarms cannot be read; None: they can."""
    return annotated(control, handle, lambda begun, _: attrs.evolve(begun, failing_since=since))


def annotated(
    control: Control, handle: CanaryHandle, change: Callable[[Begun, StageSnapshot], Begun]
) -> CanaryHandle:
    """The handle with its record changed and read back.

    The record of a canary that was enabled outside this library begins now. AWS replaces
    descriptions as a whole, without a condition: what a promotion recorded in between is put back.
    """
    seen = control.present()
    control.own_canary(handle, seen)
    deployment = control.gateway.deployment(handle.deployment.id)
    record = control.begun(handle, control.record(deployment), seen)
    assert record.rollout is not None
    changed = change(record.rollout, seen)
    if record.rollout != changed:
        record = _consistent(attrs.evolve(record, rollout=changed), deployment.id, seen.stage)
        deployment = control.records.save(deployment, record)
        keep_promotion(control, handle, seen.stage, changed)
    handle = handle._replace(deployment=deployment, record=record)
    control.verified(handle, seen.stage)
    return handle


def _consistent(record: Record, deployment_id: str, state: StageState) -> Record:
    """The record with a promotion that fits what was accepted.

    One that was announced and has no trace on the stage was of other production than is accepted
    now, and is announced anew. Of one that has begun, what it overwrote stays as it is.
    """
    promotion = record.begun_promotion()
    if promotion is None or record.contradiction(deployment_id) is None:
        return record
    if promotion.is_under_way_on(state) or promotion.has_moved(state):
        return record.promoting(promotion)
    return attrs.evolve(record, promotion=None)


def keep_promotion(
    control: Control, handle: CanaryHandle, before: StageState, begun: Begun
) -> None:
    """Put back what a promotion recorded, where the record was written at the same time."""
    seen = control.read()
    promoted = handle.is_promoted_on(seen.stage) and not handle.is_promoted_on(before)
    if not promoted:
        return
    deployment = control.gateway.deployment(handle.deployment.id)
    record: Record = control.record(deployment)
    if record.begun_promotion() is not None:
        return
    log.warning("deployment %s: a promotion was begun at the same time", deployment.id)
    receipt = Promotion.of(before, begun_at=seen.at, release=begun.release, rollout_id=begun.id)
    record = record.promoting(receipt)
    if seen.stage.canary is None:
        record = record.ending(Outcome.PROMOTED)
    control.records.save(deployment, record)
