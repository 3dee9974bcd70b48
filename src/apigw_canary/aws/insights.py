"""Logs Insights: a query from StartQuery to its rows, and how text gets into one."""

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import NamedTuple, NoReturn

from apigw_canary.aws.answers import Answer, misunderstood
from apigw_canary.aws.calls import Calls
from apigw_canary.errors import CanaryError, MetricsError, NotFoundError
from apigw_canary.values import validation

MOST_ROWS = 10_000
"""What one GetQueryResults gives at most, and what StartQuery is asked for."""

GROUP_NAME = r"[.\-_/#A-Za-z0-9]{1,512}"
"""What a log group may be called (StartQuery's logGroupName)."""

USD_PER_GB = 0.005
"""What scanning costs: AWS's list price for US East, 2026, and that of most regions."""

TIMEOUT = timedelta(minutes=1)
"""How long one query may take, unless a caller sets another time."""

_UNDER_WAY = ("Scheduled", "Running")
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 4.0
"""Seconds between two questions whether a query is done; each pause is twice the one before."""

Row = Mapping[str, str]


def field(name: str) -> str:
    """A field's name in a query.

    In backticks a name may have any characters ("Fields that contain special characters" in Logs
    Insights' documentation) but a backtick: how to write one is not documented.
    """
    return f"`{_quotable(name, 'a name of a log field', '`')}`"


def text(value: str) -> str:
    """A string in a query; how quotes in it are written is not documented."""
    return f'"{_quotable(value, "a text in a query", chr(34))}"'


def _quotable(value: str, what: str, quote: str) -> str:
    validation.text(value, what)
    if quote in value or "\\" in value:
        validation.refuse(what, f"without {quote} and \\", value)
    return value


class Found(NamedTuple):
    """What a query found."""

    rows: list[Row]
    """Column to value; a value that is missing has no key."""
    scanned: float
    """Bytes, which is what AWS bills."""
    at: datetime
    """AWS's time when it was asked."""
    is_whole: bool = True
    """Whether these are all rows; else there are more than `MOST_ROWS`, and it is not known which
    of them these are."""


class Insights:
    """Queries of log groups, one at a time, each given up after `timeout`."""

    def __init__(self, calls: Calls, timeout: timedelta = TIMEOUT) -> None:
        self._calls = calls
        self._timeout = timeout

    def find(self, group: str, query: str, start: datetime, end: datetime, *more: str) -> Found:
        """All rows of a query over [start, end): StartQuery, and GetQueryResults until it is done.

        `more`: further groups. Raises `MetricsError` where the answer is not whole. A query whose
        answer is not awaited any more, for whatever reason, is stopped.
        """
        found = self.find_most(group, query, start, end, *more)
        if not found.is_whole:
            _fail(
                f"A query of {group} found more than {MOST_ROWS:,} rows, and Logs Insights returns "
                "no more"
            )
        return found

    def find_most(
        self, group: str, query: str, start: datetime, end: datetime, *more: str
    ) -> Found:
        """As `find`; where there are more than `MOST_ROWS`, `Found.is_whole` is False."""
        try:
            started = self._calls.call(
                "logs",
                "StartQuery",
                **({"logGroupNames": [group, *more]} if more else {"logGroupName": group}),
                startTime=int(start.timestamp()),
                endTime=int(end.timestamp()) - 1,  # both ends are inclusive
                queryString=query,
                limit=MOST_ROWS,
            )
        except NotFoundError as error:
            raise error.within("", f"The request was for log group {group}.") from error.__cause__
        query_id = started["queryId"]
        if not query_id:
            raise misunderstood("StartQuery", "its queryId is empty")
        try:
            answer = self._awaited(query_id)
        except BaseException:
            with suppress(CanaryError):
                self._calls.call("logs", "StopQuery", queryId=query_id)
            raise
        if answer["status"] != "Complete":
            _fail(f"A query of {group} ended with the status {answer['status']}")
        return Found(
            rows=[
                {
                    cell["field"]: cell["value"]
                    for cell in row
                    if "field" in cell and "value" in cell
                }
                for row in answer["results"]
            ],
            scanned=float(answer.get("statistics", {}).get("bytesScanned", 0)),
            at=self._calls.now(started),
            is_whole=len(answer["results"]) < MOST_ROWS and "nextToken" not in answer,
        )

    def _awaited(self, query_id: str) -> Answer:
        waited, pause = 0.0, _FIRST_PAUSE
        while True:
            answer = self._calls.call("logs", "GetQueryResults", queryId=query_id)
            if answer["status"] not in _UNDER_WAY:
                return answer
            if waited >= self._timeout.total_seconds():
                _fail(f"A query was still {answer['status']} after {waited:g} s, and was stopped")
            self._calls.pause(pause)
            waited, pause = waited + pause, min(2 * pause, _LONGEST_PAUSE)


def existing(calls: Calls, names: Iterable[str]) -> set[str]:
    """Which of these log groups exist: a DescribeLogGroups each.

    They are listed by name, so the shortest name with a prefix comes first.
    """
    return {
        name
        for name in names
        for group in calls.call("logs", "DescribeLogGroups", logGroupNamePrefix=name, limit=1).get(
            "logGroups", ()
        )
        if group.get("logGroupName") == name
    }


def number(row: Row, column: str) -> float:
    """A number in a row, 0 or more."""
    try:
        found = float(row.get(column, "missing"))
    except ValueError:
        found = math.nan
    if not 0 <= found < math.inf:
        _fail(f"A row of Logs Insights has {row.get(column)!r} for {column}")
    return found


def count(row: Row, column: str) -> int:
    """A number of requests in a row."""
    return int(number(row, column))


def _fail(happened: str) -> NoReturn:
    raise MetricsError(f"{happened}.", remedy="Observe again in a minute.")
