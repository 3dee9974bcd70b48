"""The language of Logs Insights, as far as this library writes it; anything else is refused."""

from __future__ import annotations

import math
import operator
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import NamedTuple, NoReturn, TypeAlias

from apigw_canary.testing.answers import Json, RehearsalError

Value: TypeAlias = str | float | bool | None
_Expression: TypeAlias = "Callable[[Line], Value]"

_TOKEN = re.compile(
    r"""\s*(?: (?P<string>"[^"\\]*"|'[^'\\]*') | (?P<number>\d+(?:\.\d+)?)
    | (?P<pattern>/(?:[^/\\]|\\.)+/) | (?P<name>`[^`]+`|@?[A-Za-z][\w.]*)
    | (?P<sign><=|>=|!=|[=<>()\[\],|*]) )""",
    re.VERBOSE,
)
_ORDERS: Mapping[str, Callable[[float, float], bool]] = MappingProxyType(
    {
        "=": operator.eq,
        "!=": operator.ne,
        "<": operator.lt,
        "<=": operator.le,
        ">": operator.gt,
        ">=": operator.ge,
    }
)


class Line(NamedTuple):
    """Lines that are alike."""

    at: datetime
    fields: dict[str, str | None]
    """Field to value; None is one that the rehearsal does not simulate."""
    times: int
    """How many lines there are."""
    message: str = ""
    """The line as it was written."""
    log: str = ""
    """The account and the log group, as `@log` has them."""


class Folded(NamedTuple):
    """Lines that are alike for a query: its groups and columns have the same values for each."""

    key: tuple[Value, ...]
    """The values that the query groups by; None for the minute, which is that of `at`."""
    at: datetime
    values: tuple[Value, ...]
    """The values of which the columns are aggregates."""


_Evaluated: TypeAlias = "tuple[tuple[Value, ...], tuple[Value, ...]] | None"
"""The key and values of a line; None if it is filtered out."""

_KEPT_LINES = 4096
"""Lines of which a query keeps what they are to it: most differ in their latency alone."""

_Weighted: TypeAlias = "tuple[Value, datetime, int]"
"""A value, the time of its lines, and how many lines have it."""


class _Column(NamedTuple):
    name: str
    value: _Expression
    aggregate: Callable[[Sequence[_Weighted]], Value]


class _Stats:
    """What comes up to one stats command, and that command."""

    def __init__(self) -> None:
        self.aliases: dict[str, _Expression] = {}
        self.filters: list[_Expression] = []
        self.columns: list[_Column] = []
        self.groups: list[tuple[str, _Expression]] = []
        self.minute: int | None = None
        """The place of the minute among the groups, if they are by the minute."""

    def evaluated(self, line: Line) -> _Evaluated:
        if not all(condition(line) for condition in self.filters):
            return None
        return (
            tuple([value(line) for _, value in self.groups]),
            tuple([each.value(line) for each in self.columns]),
        )

    def rows(self, found: Iterable[tuple[Folded, int]]) -> list[dict[str, Value]]:
        groups: dict[tuple[Value, ...], list[tuple[Folded, int]]] = {} if self.groups else {(): []}
        for folded, times in found:
            key, place = folded.key, self.minute
            if place is not None:
                minute = f"{folded.at:%Y-%m-%d %H:%M:%S}.000"
                key = (*key[:place], minute, *key[place + 1 :])
            groups.setdefault(key, []).append((folded, times))
        return [
            dict(zip((name for name, _ in self.groups), key, strict=True))
            | {
                each.name: each.aggregate([(m.values[i], m.at, times) for m, times in members])
                for i, each in enumerate(self.columns)
            }
            for key, members in groups.items()
        ]


def _folded(lines: Iterable[Line], evaluated: Callable[[Line], _Evaluated]) -> Counter[Folded]:
    found: Counter[Folded] = Counter()
    for line in lines:
        made = evaluated(line)
        if made is not None:
            key, values = made
            found[Folded(key, line.at, values)] += line.times
    return found


class Query:
    """parse, fields, filter and up to two stats commands, in the forms that the library sends."""

    def __init__(self, query: str) -> None:
        self._query = query
        self._tokens: list[tuple[str, str]] = []
        position = 0
        while query[position:].strip():
            found = _TOKEN.match(query, position)
            if found is None:
                self._refuse(query[position:])
            self._tokens.append((str(found.lastgroup), found[str(found.lastgroup)]))
            position = found.end()
        self._read: set[str] = set()
        self._read_by: dict[str, set[str]] = {}
        """Alias to the names and patterns that its value is computed from."""
        self._stages = [_Stats()]
        self._known: dict[tuple[str, str], _Evaluated] = {}
        while self._tokens:
            self._command()
            if self._tokens:
                self._take("|")

        used, left = set[str](), [*self._read]
        while left:
            name = left.pop()
            used.add(name)
            left += self._read_by.get(name, set()) - used
        self._used = used

    def reads(self, fields: Iterable[str]) -> bool:
        """Whether the rows depend on one of them: by its name, or by a pattern that names it."""
        return any(field in each for field in fields for each in self._used)

    def results(self, lines: Iterable[Line]) -> list[list[Json]]:
        """The rows, in no order that means anything."""
        return self.results_of(self.folded(lines).items())

    def folded(self, lines: Iterable[Line]) -> Counter[Folded]:
        """The lines that the query counts, as far as its rows depend on them."""
        return _folded(lines, self._evaluated)

    def _evaluated(self, line: Line) -> _Evaluated:
        """The same for a line that was written before in another minute."""
        written = line.message, line.log
        if written not in self._known:
            if len(self._known) == _KEPT_LINES:
                self._known.clear()
            self._known[written] = self._stages[0].evaluated(line)
        return self._known[written]

    def results_of(self, found: Iterable[tuple[Folded, int]]) -> list[list[Json]]:
        """The rows of lines that are folded, with how many lines each is."""
        first, *others = self._stages
        rows = first.rows(found)
        for stage in others:
            cells = [{name: _text(value) for name, value in row.items()} for row in rows]
            lines = (Line(_NO_TIME, each, 1) for each in cells)
            rows = stage.rows(_folded(lines, stage.evaluated).items())
        return [
            [
                {"field": name, "value": _text(value)}
                for name, value in row.items()
                if value is not None
            ]
            for row in rows[::-1]
        ]

    def _command(self) -> None:
        match self._take():
            case "fields":
                self._listed(self._alias)
            case "parse" if self._next() in ("@message", "@log"):
                self._parse("log" if self._take() == "@log" else "message")
            case "filter":
                self._stages[-1].filters.append(self._either())
            case "stats" if len(self._stages) == 1 or not self._stages[-1].columns:
                if self._stages[-1].columns:
                    self._stages.append(_Stats())
                self._listed(self._column)
                if self._next() == "by":
                    self._take()
                    self._listed(self._group)
            case other:
                self._refuse(other)

    def _listed(self, item: Callable[[], None]) -> None:
        item()
        while self._next() == ",":
            self._take()
            item()

    def _alias(self) -> None:
        read, self._read = self._read, set()
        value = self._value()
        self._take("as")
        name = self._take()
        self._stages[-1].aliases[name] = value
        self._read_by.setdefault(name, set()).update(self._read)
        self._read = read

    def _parse(self, where: str) -> None:
        kind, pattern = self._tokens[0] if self._tokens else ("end", "")
        self._take()
        try:
            sought = re.compile(pattern[1:-1].replace("(?<", "(?P<"))
        except re.error:
            self._refuse(pattern)
        if kind != "pattern" or len(sought.groupindex) != 1 or sought.groups != 1:
            self._refuse(pattern)
        (name,) = sought.groupindex

        def found(line: Line) -> Value:
            match = sought.search(getattr(line, where))
            return match[name] if match else None

        self._stages[-1].aliases[name] = found
        self._read_by.setdefault(name, set()).add(pattern)

    def _column(self) -> None:
        function = self._take()
        self._take("(")
        value, aggregate = self._aggregate(function)
        self._take(")")
        self._take("as")
        self._stages[-1].columns.append(_Column(self._take(), value, aggregate))

    def _aggregate(
        self, function: str
    ) -> tuple[_Expression, Callable[[Sequence[_Weighted]], Value]]:
        if function == "count" and self._next() == "*":
            self._take()
            return lambda _: True, _count
        if function not in {"count", "sum", "pct", *_ONE_OF}:
            self._refuse(function)
        value = self._either()
        if function in _ONE_OF:
            return value, lambda found: _ONE_OF[function](
                (str(each), at) for each, at, _ in found if each is not None
            )
        if function == "pct":
            self._take(",")
            percentile = float(self._take())
            return value, lambda found: _percentile(found, percentile)
        if function == "sum":
            return value, _sum
        return lambda line: None if value(line) is None else True, _count

    def _group(self) -> None:
        name = self._take()
        if name == "bin":
            for expected in ("(", "1", "m", ")"):
                self._take(expected)
            self._stages[-1].minute = len(self._stages[-1].groups)
            self._stages[-1].groups.append(("bin(1m)", lambda _: None))
        else:
            self._stages[-1].groups.append((name, self._field(name)))

    def _either(self) -> _Expression:
        found = self._both()
        while self._next() == "or":
            self._take()
            found = _or(found, self._both())
        return found

    def _both(self) -> _Expression:
        found = self._condition()
        while self._next() == "and":
            self._take()
            found = _and(found, self._condition())
        return found

    def _condition(self) -> _Expression:
        match self._next():
            case "not":
                self._take()
                inner = self._condition()
                return lambda line: not inner(line)
            case "(":
                self._take()
                inner = self._either()
                self._take(")")
                return inner
            case "ispresent":
                self._take()
                inner = self._condition()
                return lambda line: inner(line) is not None
        value = self._value()
        sign = self._next()
        if sign in _ORDERS:
            self._take()
            return _compared(value, sign, self._value())
        if sign in ("in", "not"):
            if self._take() == "not":
                self._take("in")
            self._take("[")
            members: list[_Expression] = []
            self._listed(lambda: members.append(self._value()))
            self._take("]")
            return lambda line: (value(line) in [each(line) for each in members]) == (sign == "in")
        return value

    def _value(self) -> _Expression:
        kind, text = self._tokens[0] if self._tokens else ("end", "")
        self._take()
        if kind == "string":
            content = text[1:-1]
            return lambda _: content
        if kind == "number":
            constant = float(text)
            return lambda _: constant
        if kind != "name":
            self._refuse(text)
        if text == "coalesce":
            self._take("(")
            choices: list[_Expression] = []
            self._listed(lambda: choices.append(self._value()))
            self._take(")")
            return lambda line: next(
                (found for each in choices if (found := each(line)) is not None), None
            )
        return self._field(text.strip("`"))

    def _field(self, name: str) -> _Expression:
        aliases = self._stages[-1].aliases
        self._read.add(name)

        def value(line: Line) -> Value:
            if name in aliases:
                return aliases[name](line)
            found = line.fields.get(name, "")
            if found is None:
                raise RehearsalError(f"the rehearsal does not simulate what is logged as {name}")
            return found or None

        return value

    def _next(self) -> str:
        return self._tokens[0][1] if self._tokens else ""

    def _take(self, expected: str | None = None) -> str:
        if not self._tokens or expected not in (None, self._next()):
            self._refuse(self._next())
        return self._tokens.pop(0)[1]

    def _refuse(self, what: str) -> NoReturn:
        raise RehearsalError(
            f"the rehearsal does not simulate {what!r} at this place of a query: {self._query}"
        )


def _text(value: Value) -> str | None:
    return value if isinstance(value, str) or value is None else f"{value:.15g}"


_Found: TypeAlias = "Iterable[tuple[str, datetime]]"

_ONE_OF: Mapping[str, Callable[[_Found], str | None]] = MappingProxyType(
    {
        "sortsFirst": lambda found: min((text for text, _ in found), default=None),
        "sortsLast": lambda found: max((text for text, _ in found), default=None),
        "earliest": lambda found: next(iter(sorted(found, key=lambda each: each[1])), (None,))[0],
        "latest": lambda found: next(
            iter(sorted(found, key=lambda each: each[1], reverse=True)), (None,)
        )[0],
    }
)
"""Functions that give one of the values: by its text, or by the time of its line."""

_NO_TIME = datetime(1970, 1, 1, tzinfo=UTC)


def _or(one: _Expression, other: _Expression) -> _Expression:
    return lambda line: bool(one(line)) or bool(other(line))


def _and(one: _Expression, other: _Expression) -> _Expression:
    return lambda line: bool(one(line)) and bool(other(line))


def _compared(one: _Expression, sign: str, other: _Expression) -> _Expression:
    def compare(line: Line) -> Value:
        left, right = one(line), other(line)
        if left is None or right is None:
            return None
        if sign in {"=", "!="} and isinstance(right, str):
            return (left == right) == (sign == "=")
        try:
            return _ORDERS[sign](float(left), float(right))
        except ValueError:
            raise RehearsalError(f"what {left!r} {sign} {right!r} is on AWS is unknown") from None

    return compare


def _count(found: Sequence[_Weighted]) -> float:
    return float(sum(times for value, _, times in found if value is not None))


def _sum(found: Sequence[_Weighted]) -> float | None:
    known = [float(value or 0) * times for value, _, times in found if value is not None]
    return math.fsum(known) if known else None


def _percentile(found: Sequence[_Weighted], percentile: float) -> float | None:
    known = sorted((float(value or 0), times) for value, _, times in found if value is not None)
    rank, passed = max(1, math.ceil(percentile / 100 * sum(times for _, times in known))), 0
    for value, times in known:
        passed += times
        if passed >= rank:
            return value
    return None
