"""Sending one change: what is known of the stage, refusals, what became of it, and its log.

The log is one record of the logger `apigw_canary` for each change of a stage or alias, at INFO.
Beside its text each has an attribute `apigw_canary`: a mapping of texts with the keys of `Change`,
for programs that read logs. No values of stage variables.
"""

import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import Any, Concatenate, Generic, NamedTuple, ParamSpec, Protocol, TypeVar, cast

import attrs

from apigw_canary.aws import log
from apigw_canary.errors import (
    AccessDeniedError,
    CanaryAlreadyEnabledError,
    CanaryError,
    CredentialsError,
    KnownState,
    NoCanaryError,
    RolloutEndedError,
    StageAsRead,
    StageChangedError,
    ThrottledError,
    UnansweredError,
    UnconfirmedChangeError,
    UnreachableError,
)
from apigw_canary.model import ENDINGS, CanaryState, Outcome, Promotion, StageState
from apigw_canary.values import validation

_REMEMBERED = 16
"""Own changes that are remembered, to recognize them: more than threads make at once."""


class Snapshot(Protocol):
    """A stage as it was read, and AWS's time when it was."""

    @property
    def stage(self) -> StageState:
        """The stage."""
        ...

    @property
    def at(self) -> datetime:
        """When it was like that."""
        ...


_Snapshot = TypeVar("_Snapshot", bound=Snapshot)


class _Own(NamedTuple):
    """A change of this process."""

    before: StageState
    wanted: StageState


class _Call(Generic[_Snapshot]):
    """One call of the library, in one thread."""

    def __init__(self) -> None:
        self.reads = False
        self.seen: _Snapshot | None = None
        self.sent: list[str] = []
        self.made: list[str] = []


class Known(Generic[_Snapshot]):
    """Reads and changes of one stage, of all threads of this process.

    `dated`: AWS states when it was changed last, as it does for stages and not for aliases.
    """

    def __init__(self, *, dated: bool = True) -> None:
        self._dated = dated
        self._lock = threading.Lock()
        self._local = threading.local()
        self.last: _Snapshot | None = None
        """The newest read."""
        self._own: list[_Own] = []

    def copy(self) -> "Known[_Snapshot]":
        """Another one that knows the same, for a dry run."""
        other = Known[_Snapshot](dated=self._dated)
        with self._lock:
            other.last, other._own = self.last, self._own
        return other

    def _call(self) -> _Call[_Snapshot]:
        """The call that this thread is in; outside of one, an unused one."""
        return getattr(self._local, "call", None) or _Call()

    @contextmanager
    def call(self) -> Iterator[None]:
        """One call of the library: an error that leaves it gets what is known of the stage."""
        if getattr(self._local, "call", None) is not None:  # within another call, which does it
            yield
            return
        call = self._local.call = _Call[_Snapshot]()
        try:
            yield
        except CanaryError as error:
            if call.reads and error.state is None:
                error.located(self.state(call))
            raise
        finally:
            self._local.call = None

    def state(self, call: "_Call[_Snapshot]") -> KnownState:
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
        self._call().reads = True

    def saw(self, seen: _Snapshot) -> None:
        """The stage was read, or is in AWS's answer to a change."""
        self._call().seen = seen
        with self._lock:
            last = self.last
            if last is None or not self._dated or seen.stage.updated_at >= last.stage.updated_at:
                self.last = seen

    def sending(self, what: str, before: StageState, wanted: StageState) -> None:
        """A change is about to be sent."""
        self._call().sent.append(what)
        with self._lock:
            self._own = [*self._own, _Own(before, wanted)][-_REMEMBERED:]

    def refused(self, what: str) -> None:
        """AWS refused the change that was sent last: it was not carried out."""
        with suppress(ValueError):  # outside of a call nothing is remembered
            self._call().sent.remove(what)

    def is_sent(self, what: str) -> bool:
        """Whether the change was sent by this call, and nothing has shown that it took effect."""
        return what in self._call().sent

    def made(self, what: str) -> None:
        """The change was carried out, as its answer or a read shows."""
        call = self._call()
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
def without_log() -> Iterator[None]:
    """Log no changes meanwhile: none is made."""
    token = _act.set(_Act(is_dry=True))
    try:
        yield
    finally:
        _act.reset(token)


def log_made(before: StageState, wanted: StageState, at: datetime) -> None:
    """Log a change that was made."""
    _write(before, wanted, at.isoformat(), DONE)


def log_failed(before: StageState, wanted: StageState, error: CanaryError) -> None:
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


SENDINGS = 3
"""How often a write is sent that, as reading shows, did not happen."""

_CERTAIN = (AccessDeniedError, CredentialsError, ThrottledError, UnreachableError)
"""Refusals that have nothing to do with what the stage is like."""


Condition = Callable[[Snapshot], None]
"""Raises where a change must not be made to the stage as it was read."""


def unconditionally(_: Snapshot) -> None:
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
    known: Known[_Snapshot],
    send: Callable[[], _Snapshot],
    read: Callable[[], _Snapshot],
    *,
    what: str,
    before: StageState,
    wanted: StageState,
    remedy: str,
) -> _Snapshot:
    """Sends a change and returns the stage as it then is, which is as asked; both are logged.

    After a change whose answer is lost the stage is read, and the change sent again if it did not
    happen. The first error is the one that is raised.
    """
    sending = _Sending(known, send, read, what, before, wanted, remedy)
    try:
        seen = sending.settled()
    except CanaryError as error:
        log_failed(before, wanted, error)
        raise
    log_made(before, wanted, seen.at)
    return seen


@attrs.frozen
class _Sending(Generic[_Snapshot]):
    """One change that is sent, as often as it takes."""

    known: Known[_Snapshot]
    send: Callable[[], _Snapshot]
    read: Callable[[], _Snapshot]
    what: str
    before: StageState
    wanted: StageState
    remedy: str

    def settled(self) -> _Snapshot:
        """The stage, which is as asked."""
        sent, seen = 0, None
        while seen is None:
            sent += 1
            seen = self._once(sent)
        if differences := missing(seen.stage, self.before, self.wanted):
            raise UnconfirmedChangeError(
                f"The change was sent, but the stage is not as requested: {listed(differences)}.",
                differences=differences,
                remedy=f"Another process may have changed it at the same time. {self.remedy}",
            )
        if self.known.is_sent(self.what):  # the answer was lost, and the read shows it
            self.known.made(self.what)
        return seen

    def _once(self, sent: int) -> _Snapshot | None:
        """The stage after one sending; None where it did not happen, and is to be sent again."""
        self.known.sending(self.what, self.before, self.wanted)
        try:
            seen = self.send()
        except UnansweredError as lost:
            with kept(lost.within("", self.remedy)):
                seen = self.read()
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
                seen = self.read()
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
        raise first.within(f"The next call failed too: {later.happened}") from later


def listed(differences: Mapping[str, str]) -> str:
    """Differences for a message."""
    return "; ".join(f"{name}: {how}" for name, how in differences.items())


def check_production(changes: Mapping[str, str]) -> None:
    """Refuse to shift or promote beside changes of production that were not accepted."""
    if changes:
        raise StageChangedError(
            f"Production was changed outside this rollout: {listed(changes)}.",
            differences=changes,
            remedy="If that change is intended, call canary.accept_production_changes(), then "
            "observe and decide again, or run the same line again. Otherwise canary.rollback() "
            "ends the canary.",
        )


def changed_outside(place: str, differences: Mapping[str, str]) -> StageChangedError:
    """The error for a `place`, "stage" or "alias", that is not as the change expects it."""
    return StageChangedError(
        f"The {place} was changed outside this rollout: {listed(differences)}.",
        differences=differences,
        remedy=f"Check {place}.describe(). {place}.canary() returns the running canary, and "
        f"{place}.rollback() ends it.",
    )


def no_canary(place: str, *, promoted: bool) -> NoCanaryError:
    """The error for a canary that has ended."""
    return NoCanaryError(
        f"The canary does not exist any more: it was {'promoted' if promoted else 'ended'}.",
        remedy=f"{place}.enable_canary(...) with another release name starts a new one.",
    )


def already_enabled(
    place: str, happened: str, canary: CanaryState, age: timedelta
) -> CanaryAlreadyEnabledError:
    """The error for another canary, which is in the way."""
    return CanaryAlreadyEnabledError(
        happened,
        deployment_id=canary.deployment_id,
        percent=canary.percent,
        age=age,
        remedy=f"Wait for the canary to end, or end it with {place}.rollback().",
    )


def had_its_rollout(place: str, release: str, outcome: Outcome) -> RolloutEndedError:
    """The error for a release that is not started again."""
    undo = f"{place}.revert() undoes the promotion. "
    return RolloutEndedError(
        f"The rollout of release {release} has ended: {ENDINGS[outcome]}.",
        release=release,
        outcome=outcome.value,
        remedy=(undo if outcome is Outcome.PROMOTED else "")
        + f"To release it again, use another release name, such as release={release + '-again'!r}.",
    )


def is_promoted(place: str, release: str | None, outcome: Outcome) -> RolloutEndedError:
    """The error for ending a canary that was promoted."""
    return RolloutEndedError(
        "The canary was promoted, so there is no canary to end.",
        release=release or "unknown",
        outcome=outcome.value,
        remedy=f"{place}.revert() undoes the promotion.",
    )


def promoted_outside(release: str | None) -> RolloutEndedError:
    """The error for a finished promotion of which no receipt is known."""
    return RolloutEndedError(
        "The canary was promoted outside this library; what production served before is not "
        "recorded.",
        release=release or "unknown",
        outcome=Outcome.PROMOTED_OUTSIDE.value,
        remedy="There is nothing left to promote.",
    )


def check_place(promotion: Promotion, place: str, ours: tuple[str, str, str]) -> None:
    """Refuse a receipt of another stage or alias; `ours` is region, API or function, and name."""
    theirs = (promotion.region, promotion.rest_api_id, promotion.stage)
    if ours != theirs:
        validation.refuse("promotion", f"of {place} {'/'.join(ours)}", "/".join(theirs))
