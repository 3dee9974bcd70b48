"""What was read of one stage, or alias, and what was sent to it: where an error's state is from."""

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Concatenate, Generic, NamedTuple, ParamSpec, Protocol, TypeVar, cast

from apigw_canary.errors import CanaryError, KnownState, StageAsRead
from apigw_canary.model.state import StageState

_REMEMBERED = 16
"""Own changes that are told from changes outside this process: more than threads make at once."""


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


class _Own(NamedTuple):
    """A change of this process."""

    before: StageState
    wanted: StageState


class _Call(Generic[_Look]):
    """One call of the library, in one thread."""

    def __init__(self) -> None:
        self.reads = False
        self.seen: _Look | None = None
        self.sent: list[str] = []
        self.made: list[str] = []


class Known(Generic[_Look]):
    """Reads and changes of one stage, of all threads of this process.

    `dated`: AWS states when it was changed last, as it does for stages and not for aliases.
    """

    def __init__(self, *, dated: bool = True) -> None:
        self._dated = dated
        self._lock = threading.Lock()
        self._local = threading.local()
        self.last: _Look | None = None
        """The newest read."""
        self._own: list[_Own] = []

    def copy(self) -> "Known[_Look]":
        """Another one that knows the same, for a dry run."""
        other = Known[_Look](dated=self._dated)
        with self._lock:
            other.last, other._own = self.last, self._own
        return other

    def _call(self) -> "_Call[_Look] | None":
        return getattr(self._local, "call", None)

    @contextmanager
    def call(self) -> Iterator[None]:
        """One call of the library: an error that leaves it gets what is known of the stage."""
        if self._call() is not None:  # within another call, which does it
            yield
            return
        call = self._local.call = _Call[_Look]()
        try:
            yield
        except CanaryError as error:
            if call.reads and error.state is None:
                error.located(self.state(call))
            raise
        finally:
            self._local.call = None

    def state(self, call: "_Call[_Look]") -> KnownState:
        """What is known at the end of a call."""
        seen = call.seen or self.last
        return KnownState(
            # pyright takes the attrs converter of `variables` for its type.
            stage=cast("StageAsRead | None", seen.stage if seen else None),
            read_at=seen.at if seen else None,
            sent=tuple(dict.fromkeys(call.sent)),
            made=tuple(call.made),
            read_by_call=call.seen is not None,
        )

    def reading(self) -> None:
        """The stage is about to be read."""
        if (call := self._call()) is not None:
            call.reads = True

    def saw(self, seen: _Look) -> None:
        """The stage was read, or is in AWS's answer to a change."""
        if (call := self._call()) is not None:
            call.seen = seen
        with self._lock:
            last = self.last
            if last is None or not self._dated or seen.stage.updated_at >= last.stage.updated_at:
                self.last = seen

    def sending(self, what: str, before: StageState, wanted: StageState) -> None:
        """A change is about to be sent."""
        if (call := self._call()) is not None:
            call.sent.append(what)
        with self._lock:
            self._own = [*self._own, _Own(before, wanted)][-_REMEMBERED:]

    def refused(self, what: str) -> None:
        """AWS refused the change that was sent last: it was not carried out."""
        if (call := self._call()) is not None:
            call.sent.remove(what)

    def is_sent(self, what: str) -> bool:
        """Whether the change was sent by this call, and nothing has shown that it took effect."""
        call = self._call()
        return call is not None and what in call.sent

    def made(self, what: str) -> None:
        """The change was carried out, as its answer or a read shows."""
        if (call := self._call()) is not None:
            call.sent = [sent for sent in call.sent if sent != what]
            call.made.append(what)

    def own(self) -> tuple[StageState, ...]:
        """What the stage was asked to be by this process, latest last."""
        with self._lock:
            return tuple(own.wanted for own in self._own)

    def is_older(self, state: StageState) -> bool:
        """Whether this process has seen a later state of the stage, by AWS's date of it."""
        with self._lock:
            return self.last is not None and state.updated_at < self.last.stage.updated_at

    def may_be_older(self, state: StageState) -> bool:
        """Whether it is as before this process's last change, within the second of that change.

        AWS states whole seconds: it is then not known which of the two is the later one.
        """
        with self._lock:
            last, own = self.last, self._own[-1:]
        if last is None or state.updated_at != last.stage.updated_at or not own:
            return False
        return bool(state.differences(last.stage)) and not state.differences(own[0].before)


class _HasKnown(Protocol):
    @property
    def _known(self) -> Known[Any]: ...


_Self = TypeVar("_Self", bound=_HasKnown)
_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


def stated(
    method: Callable[Concatenate[_Self, _Parameters], _Result],
) -> Callable[Concatenate[_Self, _Parameters], _Result]:
    """A method whose errors carry what is known of the stage."""

    def call(self: _Self, /, *args: _Parameters.args, **named: _Parameters.kwargs) -> _Result:
        with self._known.call():
            return method(self, *args, **named)

    functools.update_wrapper(call, method)
    return call
