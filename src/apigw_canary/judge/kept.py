"""What was computed from earlier observations, kept so that a later one costs its new minutes only.

A computation over the minutes of a signal is a fold: a state to which one minute after the other is
added. Its state after some of the latest minutes, and after every thirtieth, is kept with these
minutes. An observation goes on from the last state whose minutes are all equal, by value, to those
that it has itself. So the result is always that of a computation from scratch, also where minutes
were restated, left out or added later.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar

from apigw_canary.judge.evidence import Row
from apigw_canary.judge.observation import MINUTE, Minute, Observation, Overlap, baseline_alone

INTERPRETATIONS: Mapping[Overlap, Sequence[Overlap]] = {
    "excluded": ("excluded",),
    "included": ("included",),
    "unknown": ("excluded", "included"),
}
"""In which ways minutes can be read, by what is known of the overlap."""


def as_row(minute: Minute, overlap: Overlap) -> Row:
    """The minute as a row of two separate variants, in one interpretation of the overlap.

    One that does not fit counts as one without requests: no evidence, no history.
    """
    baseline: tuple[float, float, float] | None
    if overlap == "excluded":
        baseline = (minute.baseline_requests, minute.baseline_bad, minute.baseline_unknown)
    else:
        baseline = baseline_alone(minute)
    if baseline is None:
        return Row(0, 0, 0, 0)
    requests, bad, unknown = baseline
    return Row(
        requests,
        bad,
        minute.canary_requests,
        minute.canary_bad,
        unknown,
        minute.canary_unknown,
    )


def weakest(paths: Sequence[list[float]]) -> list[float]:
    """The evidence that all interpretations give."""
    if len(paths) == 1:
        return paths[0]
    return [min(values) for values in zip(*paths, strict=True)]


RECENT = 10
"""Minutes, the latest, after each of which a state is kept: metrics restate their latest minutes,
hardly ever older ones."""
_EVERY = 30
"""Of older minutes, after how many a state is kept: a restated one costs at most so many."""


class Fold(Protocol):
    """A state that minutes are added to. What is mutable in it is in its `__dict__`, in lists, or
    in objects of which the same is true.
    """

    def add(self, minute: Minute, row: Row, /) -> float | None:
        """Add a minute more; what is returned becomes a value of the fold's path."""


State = TypeVar("State", bound=Fold)
Item = TypeVar("Item")
Result = TypeVar("Result")


class _Path(Generic[State]):
    """The states of a fold after some of the minutes, and what it returned for each."""

    def __init__(self) -> None:
        self.marks: dict[int, State] = {}
        self.values: list[Any] = []

    def cut(self, count: int) -> None:
        """Forget what came after so many minutes."""
        self.marks = {n: state for n, state in self.marks.items() if n <= count}
        del self.values[count:]


class Series:
    """The judged minutes of one signal, the baseline's history first, and the folds over them."""

    def __init__(self, recent: int) -> None:
        self._recent = recent
        self._given: Sequence[Minute] = ()
        self.minutes: list[Minute] = []
        self.times: list[datetime] = []
        self._rows: dict[Overlap, list[Row]] = {}
        self._paths: dict[Hashable, _Path[Any]] = {}

    def update(self, given: Sequence[Minute], judged_from: datetime) -> None:
        """Take over the minutes of an observation.

        Without those in which another canary, or this one not yet everywhere, had requests.
        """
        same = _common(self._given, given)
        if same < len(self._given):
            count = bisect_left(self.times, self._given[same].at)
            del self.minutes[count:], self.times[count:]
            for rows in self._rows.values():
                del rows[count:]
            for path in self._paths.values():
                path.cut(count)
        for minute in given[same:]:
            if minute.at >= judged_from or not minute.canary_requests:
                self.minutes.append(minute)
                self.times.append(minute.at)
        self._given = given

    def count(self, until: datetime) -> int:
        """How many of the minutes have ended by then."""
        return bisect_right(self.times, until - MINUTE)

    def rows(self, overlap: Overlap) -> list[Row]:
        """The minutes as rows of two separate variants, in one interpretation of the overlap."""
        rows = self._rows.setdefault(overlap, [])
        if len(rows) < len(self.minutes):
            rows += [as_row(minute, overlap) for minute in self.minutes[len(rows) :]]
        return rows

    def path(
        self, make: Callable[..., State], key: Hashable, overlap: Overlap, count: int
    ) -> _Path[State]:
        """The path of the fold `make(*key)` over the first `count` minutes at least."""
        which = (make, key, overlap)
        path = self._paths.get(which) or self._paths.setdefault(which, _Path())
        if count not in path.marks:
            self._go_on(path, make, key, self.rows(overlap), count)
        return path

    def _go_on(
        self, path: _Path[State], make: Callable[..., State], key: Any, rows: list[Row], count: int
    ) -> None:
        marks, values = path.marks, path.values
        done = count - 1 if count - 1 in marks else max((n for n in marks if n < count), default=0)
        state = _copied(marks[done]) if done else make(*key)
        stops = (n for n in range(done + 1, count) if n % _EVERY == 0 or n > count - self._recent)
        for n in (*stops, count):
            minutes = zip(self.minutes[done:n], rows[done:n], strict=True)
            values[done:n] = [state.add(minute, row) for minute, row in minutes]
            marks[n] = state if n == count else _copied(state)
            done = n
        if len(marks) > 2 * (self._recent + count // _EVERY) + 2:
            for n in [n for n in marks if n % _EVERY and n <= count - self._recent]:
                del marks[n]


class Interpretation:
    """A signal's minutes up to some age, as rows in one interpretation of the overlap."""

    def __init__(self, series: Series, overlap: Overlap, count: int) -> None:
        self._series, self._count = series, count
        self._overlap: Overlap = overlap
        self.rows: list[Row] = series.rows(overlap)[:count]

    def after(self, fold: Callable[..., State], *key: Hashable) -> State:
        """The state of the fold `fold(*key)` after the minutes; only to be read."""
        path = self._series.path(fold, key, self._overlap, self._count)
        return path.marks[self._count]

    def path(self, fold: Callable[..., Fold], *key: Hashable) -> list[float]:
        """What the fold `fold(*key)` returned for each of the minutes."""
        path = self._series.path(fold, key, self._overlap, self._count)
        return path.values[: self._count]


class Kept:
    """The series of a rollout. It serves one computation at a time."""

    def __init__(self, recent: int = 1) -> None:
        self._recent = recent
        self._series: dict[Hashable, Series] = {}
        self._mapped: dict[Hashable, tuple[Sequence[Any], list[Any]]] = {}
        self._used: set[Hashable] = set()

    def series(self, observation: Observation, name: str, *, route: str | None = None) -> Series:
        """The minutes of a signal, of the whole stage or of a route."""
        first = observation.judged_from()
        key = (name, route, first)
        self._used.add(key)
        series = self._series.setdefault(key, Series(self._recent))
        minutes = observation.minutes if route is None else (observation.routes or {})[route]
        series.update(minutes.get(name, ()), first)
        return series

    def mapped(
        self, key: Hashable, columns: Sequence[list[Item]], function: Callable[..., Result]
    ) -> list[Result]:
        """The function's result for each row of the columns, which are of one length."""
        self._used.add(key)
        before, results = self._mapped.get(key, ((), []))
        same = min(map(_common, before, columns), default=0)
        results = [*results[:same], *map(function, *(column[same:] for column in columns))]
        self._mapped[key] = columns, results
        return results

    def forget_unused(self) -> None:
        """Forget what no computation has used since the last call."""
        self._series = {key: kept for key, kept in self._series.items() if key in self._used}
        self._mapped = {key: kept for key, kept in self._mapped.items() if key in self._used}
        self._used = set()


class Cache:
    """What is kept of one canary's observations. A copy of it, also a pickled one, is empty."""

    def __init__(self, recent: int = RECENT) -> None:
        self._recent = recent
        self._free: list[Kept] = []

    def __reduce__(self) -> tuple[type["Cache"], tuple[int]]:
        return Cache, (self._recent,)

    def take(self) -> Kept:
        """What is kept, or nothing where another thread has it."""
        try:
            return self._free.pop()
        except IndexError:
            return Kept(self._recent)

    def give_back(self, kept: Kept) -> None:
        """Keep it for the next observation."""
        kept.forget_unused()
        self._free = [kept]


@contextmanager
def kept_of(observation: Observation) -> Iterator[Kept]:
    """What is kept of earlier observations; nothing after an error, or without a cache."""
    cache = observation._cache  # noqa: SLF001 - it is set and read here only
    kept = cache.take() if isinstance(cache, Cache) else Kept()
    yield kept
    if isinstance(cache, Cache):
        cache.give_back(kept)


def keep_in(cache: Cache, observation: Observation) -> Observation:
    """The observation, which is computed with that cache from now on. Its value is the same."""
    object.__setattr__(observation, "_cache", cache)
    return observation


def _common(before: Sequence[Any], now: Sequence[Any]) -> int:
    """How many items at the beginning are equal."""
    most = min(len(before), len(now))
    if before[:most] == now[:most]:
        return most
    return next((i for i in range(most) if before[i] != now[i]), most)


_VALUES = frozenset((float, int, bool, tuple, datetime, type(None)))
"""Most of what a state keeps, and of which nothing is to be copied."""


def _copied(state: State) -> State:
    """The state, and what is mutable in it, once more."""
    twin = object.__new__(type(state))
    mine = twin.__dict__
    mine.update(state.__dict__)
    for name, value in state.__dict__.items():
        if type(value) in _VALUES:
            continue
        if isinstance(value, list):
            mine[name] = value.copy()
        elif hasattr(value, "__dict__"):
            mine[name] = _copied(value)
    return twin
