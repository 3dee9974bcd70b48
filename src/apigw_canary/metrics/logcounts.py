"""Queries of access logs that count by variant, and minutes from their rows."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import attrs

from apigw_canary.aws import Found, Row, count, text
from apigw_canary.errors import MetricsError
from apigw_canary.judge import MINUTE, Minute
from apigw_canary.metrics.logformat import (
    ALIAS,
    IS_CANARY,
    METHOD,
    PATH,
    ROUTE_ALIAS,
    UNKNOWN,
    AccessLog,
)
from apigw_canary.metrics.source import kept_minute

REACH = 3
"""Minutes by which a request's line and its part of `Count` are apart at most. A REST API answers
within 29 s by default, so they are in the same minute or in neighboring ones; what one of several
such minutes in a row lacks may be in another."""

BY_MINUTE = "bin(1m)"
ARM = ALIAS[IS_CANARY]
ARMS = {"true": "canary", "1": "canary", "false": "baseline", "0": "baseline", "-": "baseline"}
"""While no canary is enabled there is no `isCanaryRequest`. 1 and 0 stand for a JSON boolean."""


class Counted(NamedTuple):
    """How a signal is counted: bad are the lines for which `bad` is true."""

    signal: str
    bad: str
    field: str
    """What a line must have for its outcome to be known."""
    own: bool = False
    """Whether `bad` is an expression of the caller's, which may be about fields that no line has:
    then it has no sum, and no line is bad."""
    route: str | None = None
    """The route whose lines alone are counted. A line without a route may be one of
    them: it is a request of unknown outcome."""

    def columns(self, index: int) -> str:
        """What a query counts: the signal's requests, those of known outcome, and the bad ones."""
        if self.route is None:
            return f"count({self.field}) as known_{index}, sum({self.bad}) as bad_{index}"
        method, _, path = self.route.partition(" ")
        (is_method, no_method), (is_path, no_path) = (
            (f"{alias} = {text(value)}", f"{alias} = {text(UNKNOWN)}")
            for alias, value in ((ROUTE_ALIAS[METHOD], method), (ROUTE_ALIAS[PATH], path))
        )
        exact = f"{is_method} and {is_path}"
        return (
            f"sum(({is_method} or {no_method}) and ({is_path} or {no_path})) as requests_{index}, "
            f"sum({exact} and ispresent({self.field})) as known_{index}, "
            f"sum({exact} and ({self.bad})) as bad_{index}"
        )


class Tally(NamedTuple):
    """How many lines a row counts."""

    lines: int
    of: tuple[tuple[int, int, int], ...]
    """For each signal: requests, those of known outcome among them, and bad ones among these."""

    def plus(self, other: "Tally") -> "Tally":
        """Those of both."""
        pairs = zip(self.of, other.of, strict=True)
        return Tally(
            self.lines + other.lines,
            tuple((a + d, b + e, c + f) for (a, b, c), (d, e, f) in pairs),
        )


ByArm = Mapping[str, Tally]
"""By the lines' `isCanaryRequest`."""


class Counts(NamedTuple):
    """The lines of one minute."""

    arms: dict[str, Tally]
    """Of the whole stage."""
    routes: dict[str, dict[str, Tally]]
    """Of each route, where the query distinguishes routes."""
    without_route: int = 0
    """Lines without a route, where the query distinguishes routes."""


def query_of(log: AccessLog, columns: Sequence[str], *commands: str) -> str:
    """A query of the stage's lines, with the variant as a column and what else is given."""
    fields = [f"fields {', '.join(each)}" for each in (log.columns(), columns) if each]
    scope = [f"filter {condition}" for condition in log.scope]
    return " | ".join([*log.parses(), *fields, *scope, *commands])


def arm_of(row: Row) -> str | None:
    """The variant that a row counts; None where its lines have none."""
    said = row.get(ARM, "")
    if said == UNKNOWN:
        return None
    if said not in ARMS:
        raise MetricsError(f"{IS_CANARY} is {said!r} in the access logs, neither true nor false.")
    return ARMS[said]


def by_minute(
    found: Found, by: Sequence[str], counted: Sequence[Counted], start: datetime, end: datetime
) -> dict[datetime, Counts]:
    """What the rows count, by the minute; `by` are the columns that the query groups by."""
    minutes: dict[datetime, Counts] = {}
    seen: set[tuple[str | None, ...]] = set()
    tallies: dict[Tally, Tally] = {}  # equal ones are kept once: there are many of small routes
    times: dict[str, datetime] = {}  # a minute has a row for each route
    for row in found.rows:
        written = row.get(BY_MINUTE, "")
        if written not in times:
            times[written] = _time(written)
        at = times[written]
        arm_of(row)
        key = tuple(row.get(name) for name in by)
        if not start <= at < end or key in seen or None in key:
            raise MetricsError(
                f"Logs Insights returned a row for {row.get(BY_MINUTE)!r} that was not requested, "
                "that lacks a column, or that it had returned before."
            )
        seen.add(key)
        tally = _tally(row, counted)
        tally = tallies.setdefault(tally, tally)
        minutes[at] = _with_row(minutes.get(at, Counts({}, {})), row, tally)
    return minutes


def _time(written: str) -> datetime:
    """The minute of a row; one that no query asks for where it cannot be read."""
    try:
        return datetime.fromisoformat(written).replace(tzinfo=UTC)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)


def _with_row(counts: Counts, row: Row, tally: Tally) -> Counts:
    said = row[ARM]
    _add(counts.arms, said, tally)
    method, path = (row.get(alias) for alias in ROUTE_ALIAS.values())
    if method is None or path is None:  # the query does not tell routes apart
        return counts
    if UNKNOWN in (method, path):
        return counts._replace(without_route=counts.without_route + tally.lines)
    if "-" not in (method, path):  # a request that no method of the API takes has no route
        _add(counts.routes.setdefault(f"{method} {path}", {}), said, tally)
    return counts


def _add(arms: dict[str, Tally], said: str, tally: Tally) -> None:
    arms[said] = arms[said].plus(tally) if said in arms else tally


def _tally(row: Row, counted: Sequence[Counted]) -> Tally:
    lines, of = count(row, "requests"), []
    for index, each in enumerate(counted):
        requests = lines if each.route is None else count(row, f"requests_{index}")
        known = count(row, f"known_{index}")
        # A sum over no line that has the fields is not there.
        summed = f"bad_{index}" in row or (known and not each.own)
        bad = count(row, f"bad_{index}") if summed else 0
        if not bad <= known <= requests <= lines:
            raise MetricsError(
                f"Logs Insights counts more bad requests than requests at {row[BY_MINUTE]}."
            )
        of.append((requests, known, bad))
    return Tally(lines, tuple(of))


def minute_of(at: datetime, arms: ByArm, index: int, *, to_canary: bool) -> Minute:
    """A minute of one signal.

    A line whose status cannot be read is a request of unknown outcome. One whose variant cannot be
    read counts for the baseline, so that it is no evidence against the canary, and with `to_canary`
    for the canary as well, so that it is none for it.
    """
    requests, bad, unknown = Counter[str](), Counter[str](), Counter[str]()
    for said, tally in arms.items():
        lines, known, failed = tally.of[index]
        arm = ARMS.get(said)
        if arm is not None:
            requests[arm] += lines
            bad[arm] += failed
            unknown[arm] += lines - known
            continue
        for each in ("baseline", "canary") if to_canary else ("baseline",):
            requests[each] += lines
            unknown[each] += lines
    return kept_minute(
        at,
        requests["baseline"],
        bad["baseline"],
        requests["canary"],
        bad["canary"],
        unknown["baseline"],
        unknown["canary"],
    )


def routes_of(
    rows: Mapping[datetime, Counts], counted: Sequence[Counted], only: Sequence[str] | None
) -> dict[str, dict[str, tuple[Minute, ...]]]:
    """The minutes of each route, of each signal of the whole stage.

    A route whose canary had no bad request is given by one minute of its baseline: more would
    add nothing.
    """
    found: dict[str, list[tuple[datetime, ByArm]]] = {}
    suspects = set()
    for at, counts in sorted(rows.items()):
        for route, arms in counts.routes.items():
            if only is None or route in only:
                found.setdefault(route, []).append((at, arms))
                if any(bad for arm in _canary(arms) for _, _, bad in arm.of):
                    suspects.add(route)
    return {
        route: {
            each.signal: tuple(
                minute_of(at, arms, index, to_canary=False)
                for at, arms in (minutes if route in suspects else _first_of_baseline(minutes))
            )
            for index, each in enumerate(counted)
            if each.route is None
        }
        for route, minutes in found.items()
    }


def _first_of_baseline(minutes: Sequence[tuple[datetime, ByArm]]) -> list[tuple[datetime, ByArm]]:
    """A minute which shows that there was a baseline before the canary."""
    return [each for each in minutes if any(ARMS.get(said) == "baseline" for said in each[1])][:1]


def _canary(arms: ByArm) -> Iterator[Tally]:
    return (tally for said, tally in arms.items() if ARMS.get(said) == "canary")


def without_variant(arms: ByArm, index: int | None = None) -> int:
    """How many lines of a minute have no variant; with `index` those of that signal."""
    return sum(_lines(tally, index) for said, tally in arms.items() if said not in ARMS)


def of_canary(arms: ByArm, index: int | None = None) -> int:
    """How many lines of a minute are the canary's; with `index` those of that signal."""
    return sum(_lines(tally, index) for tally in _canary(arms))


def without_outcome(arms: ByArm, index: int) -> int:
    """How many lines of a minute have no variant, or no outcome in a signal."""
    return without_variant(arms, index) + sum(
        lines - known
        for said, tally in arms.items()
        if said in ARMS
        for lines, known, _ in [tally.of[index]]
    )


def _lines(tally: Tally, index: int | None) -> int:
    return tally.lines if index is None else tally.of[index][0]


def without_line(
    counts: Mapping[datetime, float], lines: Mapping[datetime, int]
) -> dict[datetime, int]:
    """How many requests that CloudWatch counts have no line, by the minute.

    A request may be counted in one minute and have its line in another: lines beyond a minute's
    count make up for what is missing within `REACH`, the earliest first. A minute without a count
    has no requests, or, after the last one with a count, is not counted yet.
    """
    missing: dict[datetime, int] = {}
    beyond: dict[datetime, int] = {}
    for at in sorted(at for at in {*counts, *lines} if at <= max(counts)):
        short = round(counts.get(at, 0)) - lines.get(at, 0)
        mine, others = (missing, beyond) if short > 0 else (beyond, missing)
        left = abs(short)
        for minute in range(REACH, 0, -1):
            other = at - minute * MINUTE
            used = min(left, others.get(other, 0))
            if used:
                left -= used
                others[other] -= used
        mine[at] = left
    return {at: number for at, number in missing.items() if number}


def with_missing(minutes: Sequence[Minute], missing: Mapping[datetime, int]) -> tuple[Minute, ...]:
    """The minutes with the canary's requests that have no line, which are of unknown outcome."""
    found = {minute.at: minute for minute in minutes}
    for at, number in missing.items():
        minute = found.get(at, Minute(at, 0, 0, 0, 0))
        found[at] = attrs.evolve(
            minute,
            canary_requests=minute.canary_requests + number,
            canary_unknown=minute.canary_unknown + number,
        )
    return tuple(found[at] for at in sorted(found))
