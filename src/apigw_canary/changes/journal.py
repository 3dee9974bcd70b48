"""The log of changes: one record of the logger `apigw_canary` for each change of a stage or alias.

Each is at INFO and has, beside its text, an attribute `apigw_canary`: a mapping of texts with the
keys of `Change`, for programs that read logs. No values of stage variables.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import NamedTuple

from apigw_canary.errors import CanaryError
from apigw_canary.model.state import StageState

log: logging.Logger = logging.getLogger("apigw_canary")

DONE = "done"
"""The outcome of a change that was made; any other outcome is the name of an error."""


class Change(NamedTuple):
    """One change of a stage or alias, or an attempt at one."""

    at: str
    """AWS's time of its answer, in ISO 8601; empty where there was none."""
    verb: str
    """`enable`, `shift`, `promote`, `end` or `revert`: what the change does to the canary."""
    stage: str
    """Region, API and stage, or region, function and alias: `eu-central-1/a1b2c3d4e5/prod`."""
    before: str
    """What served the requests before it, such as `d1 and c2 at 10 %`."""
    after: str
    """What was to serve them after it."""
    release: str
    """The release, as given to `enable_canary`; empty where it is not known."""
    reason: str
    """The reason of the decision that was applied; empty without a decision."""
    outcome: str
    """`done`, or the name of the error that was raised."""


class _Act(NamedTuple):
    release: str | None = None
    reason: str = ""
    is_dry: bool = False


_act: ContextVar[_Act] = ContextVar("apigw_canary_act", default=_Act())  # noqa: B039 - immutable


@contextmanager
def acting(release: str | None, reason: str = "") -> Iterator[None]:
    """State what the changes that are made meanwhile are about."""
    token = _act.set(_Act(release, reason or _act.get().reason))
    try:
        yield
    finally:
        _act.reset(token)


@contextmanager
def dry() -> Iterator[None]:
    """Log no changes meanwhile: none is made."""
    token = _act.set(_Act(is_dry=True))
    try:
        yield
    finally:
        _act.reset(token)


def changed(before: StageState, wanted: StageState, at: datetime) -> None:
    """Log a change that was made."""
    _write(before, wanted, at.isoformat(), DONE)


def failed(before: StageState, wanted: StageState, error: CanaryError) -> None:
    """Log a change that was asked for, and whose outcome is an error."""
    _write(before, wanted, "", type(error).__name__)


def _write(before: StageState, wanted: StageState, at: str, outcome: str) -> None:
    act = _act.get()
    if act.is_dry or not wanted.differences(before):
        return  # nothing was sent, or only a record was written
    change = Change(
        at=at,
        verb=_verb(before, wanted),
        stage=f"{before.region}/{before.rest_api_id}/{before.name}",
        before=_serving(before),
        after=_serving(wanted),
        release=act.release or "",
        reason=act.reason,
        outcome=outcome,
    )
    log.info(
        "%s %s: %s to %s: %s; release %s%s",
        change.verb,
        change.stage,
        change.before,
        change.after,
        change.outcome,
        change.release or "unknown",
        f"; {change.reason}" if change.reason else "",
        extra={"apigw_canary": change._asdict()},
    )


def _verb(before: StageState, wanted: StageState) -> str:
    if before.canary is None:
        return "revert" if wanted.canary is None else "enable"
    moves = before.deployment_id != wanted.deployment_id or before.variables != wanted.variables
    if moves:
        return "promote"
    return "end" if wanted.canary is None else "shift"


def _serving(state: StageState) -> str:
    if state.canary is None:
        return state.deployment_id
    return f"{state.deployment_id} and {state.canary.deployment_id} at {state.canary.percent:g} %"
