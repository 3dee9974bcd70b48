"""Undoing a promotion."""

from collections.abc import Mapping

import attrs

from apigw_canary.aws import Deployment, explained, log, restore_patch
from apigw_canary.changes.control import Control
from apigw_canary.changes.sending import already_enabled, check_place, listed
from apigw_canary.errors import (
    CanaryError,
    NotFoundError,
    NothingToRevertError,
    StageChangedError,
)
from apigw_canary.model import NO_RECORD, Outcome, Promotion, StageState


def revert(
    control: Control, promotion: Promotion | None, *, dry_run: bool = False
) -> Promotion | None:
    """Undoes a promotion: the one of the receipt, or the last one the record knows.

    Returns it; None where it has been undone already and no receipt of it is known.
    """
    seen = control.read()
    state = seen.stage
    if promotion is not None:
        check_place(promotion, "stage", (state.region, state.rest_api_id, state.name))
        if promotion.is_undone_on(state) and not promotion.is_done_on(state):
            return promotion
    if state.canary is not None:
        happened = "A promotion cannot be undone while a canary is enabled."
        raise already_enabled("stage", happened, state.canary, seen.at - state.updated_at)
    deployments = {deployment.id: deployment for deployment in control.gateway.deployments()}
    if promotion is None:
        promotion = _last_promotion(control, deployments, state)
        if promotion is None:
            return None
    _check_revertible(promotion, deployments, state)
    if dry_run:
        return promotion
    target = deployments[promotion.deployment_before]
    mark = attrs.evolve(control.readable(target), reverted_from=promotion.deployment_after)
    with explained(CanaryError, "", "Fix that and run the same line again."):
        control.records.save(target, mark)
    restore(control, promotion, state)
    # Of a promotion of variables only the mark is in the same record, and suffices but for a
    # rollback that was announced.
    if promotion.rollout_id is not None and (
        promotion.deployment_after != target.id or mark.announced()
    ):
        _note_reverted(control, promotion)
    return promotion


def _note_reverted(control: Control, promotion: Promotion) -> None:
    """Record it with the rollout too, as far as that is possible."""
    try:
        deployment = control.gateway.deployment(promotion.deployment_after)
        record = control.record(deployment)
        if record.rollout is not None and record.rollout.id == promotion.rollout_id:
            control.records.save(deployment, record.ending(Outcome.REVERTED))
    except CanaryError as error:
        log.warning("deployment %s: reverted: %s", promotion.deployment_after, error)


def _last_promotion(
    control: Control, deployments: Mapping[str, Deployment], state: StageState
) -> Promotion | None:
    """The promotion that brought the stage where it is; None if it has been undone."""
    record = NO_RECORD
    if state.deployment_id in deployments:
        record = control.record(deployments[state.deployment_id])
    promotion = record.promotion
    if record.reverted_from is not None and (
        record.reverted_from != state.deployment_id
        or (promotion is not None and promotion.is_undone_on(state))
    ):
        return None
    if promotion is None or promotion.deployment_after != state.deployment_id:
        raise NothingToRevertError(
            f"No promotion of deployment {state.deployment_id} is recorded.",
            remedy="If nothing was promoted, there is nothing to revert. Otherwise give "
            "stage.revert() the receipt that promote() returned.",
        )
    return promotion


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
        names = ", ".join(promotion.variables_after)
        raise StageChangedError(
            f"The stage was changed since the promotion: {listed(changed)}.",
            differences=changed,
            remedy="Before the promotion production served deployment "
            f"{promotion.deployment_before}"
            + (f", with other values of {names}" if names else "")
            + ". Undo the later change and run the same line again, or restore production yourself "
            "with the values in the receipt.",
        )
    if promotion.deployment_before not in deployments:
        survivors = sorted(deployments.values(), key=lambda d: d.created_at, reverse=True)
        left = ", ".join(f"{d.id} of {d.created_at:%Y-%m-%d %H:%M}" for d in survivors[:10])
        raise NotFoundError(
            f"Deployment {promotion.deployment_before}, which production served before, has been "
            "deleted.",
            remedy=f"The remaining deployments, newest first: {left}. stage.enable_canary(..., "
            "deployment_id=...) enables a canary of one of them.",
        )


AGAIN = "Run the same line again, or call stage.revert(): each finishes it."


def restore(control: Control, promotion: Promotion, state: StageState, remedy: str = AGAIN) -> None:
    """Gives production back what the promotion overwrote, unless another process has done that."""
    wanted = promotion.undone_on(state)
    patch = restore_patch(state, wanted)
    if not patch:
        return
    control.change(
        patch,
        state,
        wanted,
        f"restoring deployment {promotion.deployment_before} and its variables",
        remedy,
    )
