"""Queries of access logs that count by arm, and minutes from their rows."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import attrs

from apigw_canary.aws.insights import Found, Row, count
from apigw_canary.errors import MetricsError
from apigw_canary.judge.observation import MINUTE, Minute
from apigw_canary.metrics.logformat import ALIAS, IS_CANARY, UNKNOWN, AccessLog

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


def query_of(log: AccessLog, columns: Sequence[str], *commands: str) -> str:
    """A query of the stage's lines, with the arm as a column and what else is given."""
    fields = [f"fields {', '.join(each)}" for each in (log.columns(), columns) if each]
    scope = [f"filter {condition}" for condition in log.scope]
    return " | ".join([*log.parses(), *fields, *scope, *commands])


def arm_of(row: Row) -> str | None:
    """The variant that a row counts; None where its lines do not tell."""
    said = row.get(ARM, "")
    if said == UNKNOWN:
        return None
    if said not in ARMS:
        raise MetricsError(f"{IS_CANARY} is {said!r} in the access logs, neither true nor false.")
    return ARMS[said]


def by_minute(found: Found, start: datetime, end: datetime) -> dict[datetime, dict[str, Row]]:
    """The rows by minute and by what they say of `isCanaryRequest`."""
    minutes: dict[datetime, dict[str, Row]] = {}
    for row in found.rows:
        try:
            at = datetime.fromisoformat(row[BY_MINUTE]).replace(tzinfo=UTC)
        except (KeyError, ValueError):
            at = datetime.min.replace(tzinfo=UTC)
        arm_of(row)
        if not start <= at < end or row[ARM] in minutes.setdefault(at, {}):
            raise MetricsError(
                f"Logs Insights gave a row for {row.get(BY_MINUTE)!r} that was not asked for, or "
                "gave it twice."
            )
        minutes[at][row[ARM]] = row
    return minutes


def minute_of(
    at: datetime, arms: Mapping[str, Row], index: int, counted: Counted, *, to_canary: bool
) -> Minute:
    """A minute of one signal.

    A line whose status cannot be read is a request of unknown outcome. One whose variant cannot be
    read counts for the baseline, so that it is no evidence against the canary, and with `to_canary`
    for the canary as well, so that it is none for it.
    """
    requests, bad, unknown = Counter[str](), Counter[str](), Counter[str]()
    for row in arms.values():
        lines, known = count(row, "requests"), count(row, f"known_{index}")
        # A sum over no line that has the fields is not there.
        summed = f"bad_{index}" in row or (known and not counted.own)
        failed = count(row, f"bad_{index}") if summed else 0
        if not failed <= known <= lines:
            raise MetricsError(f"Logs Insights counts more bad requests than requests at {at}.")
        arm = arm_of(row)
        if arm is not None:
            requests[arm] += lines
            bad[arm] += failed
            unknown[arm] += lines - known
            continue
        for each in ("baseline", "canary") if to_canary else ("baseline",):
            requests[each] += lines
            unknown[each] += lines
    return Minute(
        at,
        requests["baseline"],
        bad["baseline"],
        requests["canary"],
        bad["canary"],
        unknown["baseline"],
        unknown["canary"],
    )


def without_variant(arms: Mapping[str, Row]) -> int:
    """How many lines of a minute do not tell their variant."""
    return sum(count(row, "requests") for row in arms.values() if arm_of(row) is None)


def of_canary(arms: Mapping[str, Row]) -> int:
    """How many lines of a minute are the canary's."""
    return sum(count(row, "requests") for row in arms.values() if arm_of(row) == "canary")


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
