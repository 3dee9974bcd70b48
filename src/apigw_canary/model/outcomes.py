"""How rollouts ended: one answer for every caller."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from apigw_canary.model.record import EndedBy, Record
from apigw_canary.model.state import Outcome, StageState

_STRONGEST_FIRST = (
    Outcome.PROMOTED,
    Outcome.REVERTED,
    Outcome.PROMOTED_OUTSIDE,
    Outcome.ROLLED_BACK,
    Outcome.DISABLED,
    Outcome.REMOVED_OUTSIDE,
    Outcome.NEVER_STARTED,
)
"""Of several deployments of one release, made by runs at the same time, the promoted one counts."""


class Ending(NamedTuple):
    """How a rollout ended, and who ended its canary."""

    outcome: Outcome
    by: EndedBy | None = None


def ending(deployment_id: str, records: Mapping[str, Record], state: StageState) -> Ending | None:
    """How the latest rollout of a deployment ended; None while its canary runs.

    `records` are those of all deployments, by their ids. From the record where it has the ending;
    otherwise from what production serves now.
    """
    record = records[deployment_id]
    begun, promotion = record.rollout, record.begun_promotion()
    assert begun is not None
    if state.canary is not None and state.canary.deployment_id == deployment_id:
        return None
    reverted = any(other.reverted_from == deployment_id for other in records.values())
    if promotion is not None and promotion.is_done_on(state):
        return Ending(Outcome.PROMOTED)
    if begun.outcome is not None and not (begun.outcome is Outcome.PROMOTED and reverted):
        return Ending(begun.outcome, begun.ended_by)
    if reverted:
        return Ending(Outcome.REVERTED)
    moved_on = promotion is not None and not promotion.is_undone_on(state)
    if moved_on and (begun.ending is None or record.half_undone(state)):
        return Ending(Outcome.PROMOTED)  # announced, and production has moved on since
    if begun.production_changes(state, _names(begun.overrides)) and begun.is_promoted_on(
        state, deployment_id
    ):
        return Ending(Outcome.PROMOTED_OUTSIDE)
    if begun.ending is not None:
        return Ending(begun.ending, begun.ended_by)  # by a process that died before it noted that
    return Ending(Outcome.REMOVED_OUTSIDE if begun.enabled_at else Outcome.NEVER_STARTED)


def _names(fingerprints: Mapping[str, str]) -> dict[str, str]:
    return {name.partition(".")[2]: digest for name, digest in fingerprints.items()}


def of_release(release: str, records: Mapping[str, Record], state: StageState) -> Ending | None:
    """How a release ended; None where no deployment was made for it, or its canary runs."""
    found = []
    for deployment_id, record in records.items():
        if record.rollout is not None and record.rollout.release == release:
            ended = ending(deployment_id, records, state)
            if ended is None:
                return None
            found.append(ended)
        elif release in record.ended:
            found.append(Ending(record.ended[release]))
    return strongest(found)


def strongest(endings: Iterable[Ending]) -> Ending | None:
    """The one that counts."""
    return min(endings, key=lambda each: _STRONGEST_FIRST.index(each.outcome), default=None)


def latest(records: Mapping[str, Record], state: StageState) -> tuple[str, Ending] | None:
    """The deployment of the rollout that was begun last, and how it ended.

    A rollout whose canary was never enabled is left out.
    """
    found = []
    for deployment_id, record in records.items():
        begun = record.rollout
        if begun is None:
            continue
        ended = ending(deployment_id, records, state)
        if ended is not None and begun.release is not None:
            ended = of_release(begun.release, records, state)
        if ended is not None and ended.outcome is not Outcome.NEVER_STARTED:
            found.append((begun.started_at, deployment_id, ended))
    return max(found)[1:] if found else None
