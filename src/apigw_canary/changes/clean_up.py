"""Deleting the deployments that this library made and that nothing needs any more."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

import attrs

from apigw_canary.aws import Deployment, Serving
from apigw_canary.changes.control import Control
from apigw_canary.errors import (
    AccessDeniedError,
    AwsError,
    CanaryError,
    CredentialsError,
    NotFoundError,
    RecordError,
    ThrottledError,
    UnansweredError,
    UnreachableError,
)
from apigw_canary.model import CleanUp, CleanUpItem, Record, read_record, stages_in

REMEMBERED = timedelta(days=30)
"""How long a deployment is kept for its release: without its record `enable_canary` would start the
release again. Longer than a rollout, which ends after 14 days, and than most schedules."""

BEGINNING = timedelta(hours=1)
"""How long a new deployment is kept in any case: another process may be about to enable a canary of
it. `enable_canary` does so within seconds, or within its `retry_for`."""

WAYS_BACK = 2
"""How many promotions, from the last one back, can still be undone on each stage."""

_TICK = timedelta(seconds=1)
"""The resolution of the times AWS states."""

_FOR_ALL = (AccessDeniedError, CredentialsError, ThrottledError, UnreachableError)
"""Refusals that the next deletion would meet too."""


class _Candidate(NamedTuple):
    """A deployment that this library made for the stage."""

    deployment: Deployment
    record: Record


def clean_up(control: Control, keep: int, *, dry_run: bool) -> CleanUp:
    """Deletes what nothing needs, oldest first; what would be deleted where it is a dry run."""
    deployments = {each.id: each for each in control.gateway.deployments()}
    # Read after the deployments: one that has been put to use meanwhile is seen in use.
    serving, now = control.gateway.serving()
    if control.gateway.stage_name not in {each.stage for each in serving}:
        control.read()  # raises, with what there is
    needed = _needed(control, deployments, serving)
    candidates = sorted(
        _made_here(control, deployments.values()),
        key=lambda each: (each.deployment.created_at, each.deployment.id),
        reverse=True,
    )
    for each in candidates[:keep]:
        needed.setdefault(each.deployment.id, f"it is one of the {keep} newest")
    items = [
        _item(each, needed.get(each.deployment.id) or _kept_for(each, now)) for each in candidates
    ]
    return CleanUp(items=tuple(items if dry_run else _deleted(control, items)))


def _item(candidate: _Candidate, reason: str | None) -> CleanUpItem:
    rollout = candidate.record.rollout
    assert rollout is not None
    return CleanUpItem(
        deployment_id=candidate.deployment.id,
        created_at=candidate.deployment.created_at,
        release=rollout.release,
        outcome="removed" if reason is None else "kept",
        reason=reason or "no stage, canary, revert or recent release needs it",
    )


def _made_here(control: Control, deployments: Iterable[Deployment]) -> Iterator[_Candidate]:
    """The deployments that this library made for this stage, as far as that is certain.

    One that existed before its rollout began was made by another tool, or for an earlier rollout.
    One whose record cannot be read is left alone.
    """
    for deployment in deployments:
        if stages_in(deployment.description) != {control.gateway.stage_name}:
            continue
        record = control.readable(deployment)
        begun = record.rollout
        if begun is not None and deployment.created_at >= begun.started_at - _TICK:
            yield _Candidate(deployment, record)


def _kept_for(candidate: _Candidate, now: datetime) -> str | None:
    """Why a deployment that no stage needs is kept all the same."""
    record, created_at = candidate.record, candidate.deployment.created_at
    if now - created_at < BEGINNING:
        return "it is less than an hour old, and a canary of it may be about to begin"
    used_at = max(created_at, record.latest() or created_at)
    is_named = record.rollout is not None and record.rollout.release is not None
    if (is_named or record.ended) and now - used_at < REMEMBERED:
        return "it has the record of a release that is younger than 30 days"
    return None


def _needed(
    control: Control, deployments: Mapping[str, Deployment], serving: tuple[Serving, ...]
) -> dict[str, str]:
    """The deployments that stages, canaries and ways back need, and what needs them."""
    needed: dict[str, str] = {}
    for each in serving:
        for user, start in (("production", each.deployment_id), ("the canary", each.canary_id)):
            if start is None:
                continue
            needed.setdefault(start, f"{user} of stage {each.stage} serves it")
            back = {start}
            for _ in range(WAYS_BACK):
                try:
                    back = {
                        before
                        for deployment_id in back
                        for before in _before(control, deployments.get(deployment_id), each.stage)
                    }
                except RecordError as error:
                    return dict.fromkeys(
                        deployments, f"what stage {each.stage} needs is not known: {error.happened}"
                    )
                for before in back:
                    needed.setdefault(before, f"a revert needs it on stage {each.stage}")
    return needed


def _before(control: Control, deployment: Deployment | None, stage: str) -> Iterator[str]:
    """What the stage served before this deployment, as recorded. Raises `RecordError`."""
    if deployment is None:
        return
    if stage == control.gateway.stage_name:
        record = control.records.of(deployment)
    else:
        record = read_record(deployment.description, stage)
    if record.promotion is not None:
        yield record.promotion.deployment_before
    if record.rollout is not None:
        yield record.rollout.stage_deployment_id
    if record.reverted_from is not None:
        yield record.reverted_from


def _deleted(control: Control, items: list[CleanUpItem]) -> list[CleanUpItem]:
    """The same, with what came of each deletion."""
    found: dict[str, CleanUpItem] = {}
    stopped: CanaryError | None = None
    for item in reversed(items):
        if item.outcome != "removed":
            continue
        if stopped is not None:
            found[item.deployment_id] = _refused(
                item, f"not tried, because an earlier deletion failed: {stopped.happened}"
            )
            continue
        try:
            control.gateway.delete_deployment(item.deployment_id)
        except NotFoundError:
            pass  # another process has deleted it
        except UnansweredError as error:
            if _is_there(control, item.deployment_id):
                found[item.deployment_id] = _refused(item, error.happened)
        except AwsError as error:
            text = f"{error.happened} {error.remedy}".rstrip()
            found[item.deployment_id] = _refused(item, text)
            if isinstance(error, _FOR_ALL):
                stopped = error
    return [found.get(item.deployment_id, item) for item in items]


def _is_there(control: Control, deployment_id: str) -> bool:
    """Whether a deployment is still there, as far as that can be read."""
    try:
        return any(each.id == deployment_id for each in control.gateway.deployments())
    except CanaryError:
        return True


def _refused(item: CleanUpItem, reason: str) -> CleanUpItem:
    return attrs.evolve(item, outcome="refused", reason=reason)
