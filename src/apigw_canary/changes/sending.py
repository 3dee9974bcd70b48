"""Sending one change, and making sure of what became of it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Generic, TypeVar

import attrs

from apigw_canary.changes import journal
from apigw_canary.changes.known import Known, Look
from apigw_canary.errors import (
    AccessDeniedError,
    CanaryError,
    CredentialsError,
    ThrottledError,
    UnansweredError,
    UnconfirmedChangeError,
    UnreachableError,
)
from apigw_canary.model.state import StageState

SENDINGS = 3
"""How often a write is sent that, as reading shows, did not happen."""

_CERTAIN = (AccessDeniedError, CredentialsError, ThrottledError, UnreachableError)
"""Refusals that have nothing to do with what the stage is like."""

_Look = TypeVar("_Look", bound=Look)

Condition = Callable[[Look], None]
"""Raises where a change must not be made to the stage as it was read."""


def unconditionally(_: Look) -> None:
    """The condition that always holds."""


def missing(found: StageState, before: StageState, wanted: StageState) -> dict[str, str]:
    """What of a change is not found on the stage; what was not asked for is left out of it.

    Changes of other variables, or of production beside a canary that is shifted, are none of the
    change's concern: another process may make them at the same time.
    """
    asked = {
        name
        for name in {*before.variables, *wanted.variables}
        if before.variables.get(name) != wanted.variables.get(name)
    }
    variables = {
        **{name: value for name, value in wanted.variables.items() if name not in asked},
        **{name: value for name, value in found.variables.items() if name in asked},
    }
    deployment_id = found.deployment_id
    if before.deployment_id == wanted.deployment_id:
        deployment_id = wanted.deployment_id
    relevant = attrs.evolve(found, variables=variables, deployment_id=deployment_id)
    return relevant.differences(wanted)


def carried_out(
    known: Known[_Look],
    send: Callable[[], _Look],
    look: Callable[[], _Look],
    *,
    what: str,
    before: StageState,
    wanted: StageState,
    remedy: str,
) -> _Look:
    """Sends a change and returns the stage as it then is, which is as asked; both are logged.

    A change whose answer is lost is settled by reading, and sent again if it did not happen. The
    first error is the one that is raised.
    """
    sending = _Sending(known, send, look, what, before, wanted, remedy)
    try:
        seen = sending.settled()
    except CanaryError as error:
        journal.failed(before, wanted, error)
        raise
    journal.changed(before, wanted, seen.at)
    return seen


@attrs.frozen
class _Sending(Generic[_Look]):
    """One change that is sent, as often as it takes."""

    known: Known[_Look]
    send: Callable[[], _Look]
    look: Callable[[], _Look]
    what: str
    before: StageState
    wanted: StageState
    remedy: str

    def settled(self) -> _Look:
        """The stage, which is as asked."""
        sent, seen = 0, None
        while seen is None:
            sent += 1
            seen = self._once(sent)
        if differences := missing(seen.stage, self.before, self.wanted):
            raise UnconfirmedChangeError(
                f"The change was sent, and the stage is not as asked: {listed(differences)}.",
                differences=differences,
                remedy=f"Another process may have changed it at the same time. {self.remedy}",
            )
        if self.known.is_sent(self.what):  # the answer was lost, and the read shows it
            self.known.made(self.what)
        return seen

    def _once(self, sent: int) -> _Look | None:
        """The stage after one sending; None where it did not happen, and is to be sent again."""
        self.known.sending(self.what, self.before, self.wanted)
        try:
            seen = self.send()
        except UnansweredError as lost:
            with kept(lost.within("", self.remedy)):
                seen = self.look()
            happened = missing(seen.stage, self.wanted, self.before)
            if happened or not missing(seen.stage, self.before, self.wanted):
                return seen
            if sent == SENDINGS:
                raise
            return None
        except CanaryError as error:
            self.known.refused(self.what)
            if sent == 1 and isinstance(error, _CERTAIN):
                raise error.within("", self.remedy) from error.__cause__
            # An earlier sending, or another process, may have done it; then AWS refuses.
            with kept(error.within("", self.remedy)):
                seen = self.look()
            if missing(seen.stage, self.before, self.wanted):
                raise
            return seen
        self.known.saw(seen)
        self.known.made(self.what)
        return seen


@contextmanager
def kept(first: CanaryError) -> Iterator[None]:
    """What is tried after an error. Where it fails too, the first error is the one to be raised."""
    try:
        yield
    except CanaryError as later:
        raise first.within(f"What was tried then failed too: {later.happened}") from later


def listed(differences: Mapping[str, str]) -> str:
    """Differences for a message."""
    return "; ".join(f"{name}: {how}" for name, how in differences.items())
