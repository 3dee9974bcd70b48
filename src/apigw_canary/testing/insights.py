"""The language of Logs Insights, as far as this library writes it; anything else is refused."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
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


class Query:
    """fields, filter and stats commands, in the forms that the library sends."""

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
        self._mentioned = {text.strip("`") for kind, text in self._tokens if kind == "name"}
        self._aliases: dict[str, _Expression] = {}
        self._filters: list[_Expression] = []
        self._columns: list[tuple[str, Callable[[Sequence[Line]], Value]]] = []
        self._groups: list[tuple[str, _Expression]] = []
        while self._tokens:
            self._command()
            if self._tokens:
                self._take("|")

    def mentions(self, fields: Iterable[str]) -> bool:
        """Whether the query reads one of them."""
        return not self._mentioned.isdisjoint(fields)

    def results(self, lines: Iterable[Line]) -> list[list[Json]]:
        """The rows, in no order that means anything."""
        groups: dict[tuple[Value, ...], list[Line]] = {} if self._groups else {(): []}
        for line in lines:
            if all(condition(line) for condition in self._filters):
                key = tuple(value(line) for _, value in self._groups)
                groups.setdefault(key, []).append(line)
        rows = []
        for key, members in groups.items():
            cells = [(name, value) for (name, _), value in zip(self._groups, key, strict=True)]
            cells += [(name, value(members)) for name, value in self._columns]
            rows.append(
                [
                    {"field": name, "value": value if isinstance(value, str) else f"{value:g}"}
                    for name, value in cells
                    if value is not None
                ]
            )
        return rows[::-1]

    def _command(self) -> None:
        match self._take():
            case "fields":
                self._listed(self._alias)
            case "parse" if self._next() == "@message":
                self._take()
                self._parse()
            case "filter":
                self._filters.append(self._either())
            case "stats" if not self._columns:
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
        value = self._value()
        self._take("as")
        self._aliases[self._take()] = value

    def _parse(self) -> None:
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
            match = sought.search(line.message)
            return match[name] if match else None

        self._aliases[name] = found

    def _column(self) -> None:
        function = self._take()
        self._take("(")
        aggregate = self._aggregate(function)
        self._take(")")
        self._take("as")
        self._columns.append((self._take(), aggregate))

    def _aggregate(self, function: str) -> Callable[[Sequence[Line]], Value]:
        if function == "count" and self._next() == "*":
            self._take()
            return lambda lines: float(sum(line.times for line in lines))
        if function not in {"count", "sum", "pct"}:
            self._refuse(function)
        value = self._either()
        if function == "sum":
            return lambda lines: _sum([(value(line), line.times) for line in lines])
        if function == "pct":
            self._take(",")
            percentile = float(self._take())
            return lambda lines: _percentile(
                [each for line in lines for each in [value(line)] * line.times], percentile
            )
        return lambda lines: float(sum(line.times for line in lines if value(line) is not None))

    def _group(self) -> None:
        name = self._take()
        if name == "bin":
            for expected in ("(", "1", "m", ")"):
                self._take(expected)
            self._groups.append(("bin(1m)", lambda line: f"{line.at:%Y-%m-%d %H:%M:%S}.000"))
        else:
            self._groups.append((name, self._field(name)))

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
            return lambda _: text[1:-1]
        if kind == "number":
            return lambda _: float(text)
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
        def value(line: Line) -> Value:
            if name in self._aliases:
                return self._aliases[name](line)
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


def _sum(values: Sequence[tuple[Value, int]]) -> float | None:
    known = [float(value or 0) * times for value, times in values if value is not None]
    return math.fsum(known) if known else None


def _percentile(values: Sequence[Value], percentile: float) -> float | None:
    known = sorted(float(value or 0) for value in values if value is not None)
    return known[max(0, math.ceil(percentile / 100 * len(known)) - 1)] if known else None
