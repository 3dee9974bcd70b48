"""Sending one change, and making sure of what became of it."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Protocol, TypeVar

from apigw_canary.changes import journal
from apigw_canary.errors import (
    AccessDeniedError,
    CanaryError,
    CredentialsError,
    ThrottledError,
    UnansweredError,
    UnconfirmedChangeError,
    UnreachableError,
)
from apigw_canary.rollout.state import StageState

SENDINGS = 3
"""How often a write is sent that, as reading shows, did not happen."""

_CERTAIN = (AccessDeniedError, CredentialsError, ThrottledError, UnreachableError)
"""Refusals that have nothing to do with what the stage is like."""


class Look(Protocol):
    """A stage as it was read, and AWS's time when it was."""

    @property
    def stage(self) -> StageState:
        """The stage."""
        ...

    @property
    def at(self) -> datetime:
        """When it was like that."""
        ...


_Look = TypeVar("_Look", bound=Look)

Condition = Callable[[Look], None]
"""Raises where a change must not be made to the stage as it was seen."""


def unconditionally(_: Look) -> None:
    """The condition that always holds."""


def looked(read: Callable[[], _Look], last: _Look | None) -> _Look:
    """What is there now; an error tells what was seen last, where anything was."""
    try:
        return read()
    except CanaryError as error:
        if last is not None:
            seen = f"Seen last, at {last.at:%H:%M:%S}: {last.stage}"
            error.within(f"Nothing was changed by this call. {seen}")
        raise


def carried_out(
    send: Callable[[], _Look],
    look: Callable[[], _Look],
    *,
    before: StageState,
    wanted: StageState,
    remedy: str,
    so_far: str = "Nothing was changed.",
) -> _Look:
    """Sends a change and returns the stage as it then is, which is as `wanted`; both are logged.

    A change whose answer is lost is settled by reading, and sent again if it did not happen.
    `so_far` says what the operation has changed before this, for the error.
    """
    try:
        seen = _carried_out(send, look, before=before, wanted=wanted, remedy=remedy, so_far=so_far)
    except CanaryError as error:
        journal.failed(before, wanted, error)
        raise
    journal.changed(before, wanted, seen.at)
    return seen


def _carried_out(
    send: Callable[[], _Look],
    look: Callable[[], _Look],
    *,
    before: StageState,
    wanted: StageState,
    remedy: str,
    so_far: str,
) -> _Look:
    sent = 0
    while True:
        sent += 1
        try:
            seen = send()
        except UnansweredError as lost:
            seen = _read_after(lost, look, before, remedy)
            if not seen.stage.differences(before):
                if sent < SENDINGS:
                    continue
                raise lost.within(f"{so_far} {before}", remedy) from lost.__cause__
        except CanaryError as error:
            if sent == 1 and isinstance(error, _CERTAIN):
                raise error.within(f"{so_far} {before}", remedy) from error.__cause__
            # An earlier sending, or somebody else's, may have done it; then AWS refuses.
            seen = look()
            if seen.stage.differences(wanted):
                raise error.within(f"{so_far} {seen.stage}", remedy) from error.__cause__
        if differences := seen.stage.differences(wanted):
            raise UnconfirmedChangeError(
                f"The change was sent, and the stage is not as asked: {listed(differences)}.",
                differences=differences,
                state=str(seen.stage),
                remedy=f"Somebody else may have changed it at the same time. {remedy}",
            )
        return seen


def _read_after(
    lost: UnansweredError, look: Callable[[], _Look], before: StageState, remedy: str
) -> _Look:
    try:
        return look()
    except CanaryError as error:
        raise lost.within(
            "Whether AWS carried it out is not known, because reading failed too "
            f"({error.happened}) Before: {before}",
            remedy,
        ) from error


def listed(differences: Mapping[str, str]) -> str:
    """Differences for a message."""
    return "; ".join(f"{name}: {how}" for name, how in differences.items())
