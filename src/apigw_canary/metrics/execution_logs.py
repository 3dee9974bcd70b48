"""Execution logs: why API Gateway could not answer, by the request id that each line begins with.

The forms of the lines are those of AWS's knowledge center ("How do I resolve HTTP 502 errors from
API Gateway REST APIs with Lambda proxy integration?" and its articles on 504 and 429) and of logs
that users have published.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from apigw_canary.aws import USD_PER_GB, Calls, Found, Insights, Row, count, existing
from apigw_canary.errors import NotFoundError
from apigw_canary.model import (
    CANARY_GROUP,
    UNREADABLE,
    FailureCause,
    Failures,
    Kind,
    execution_log_group,
    ranked,
)

_CAUSES: tuple[tuple[FailureCause, str], ...] = (
    ("timeout", "Task timed out|Execution failed due to a timeout error"),
    (
        "throttling",
        "Lambda invocation failed with status: 429|Rate Exceeded|limit exceeded",
    ),
    ("permission", "Invalid permissions|does not have permission|not authorized"),
    (
        "mapping",
        "Malformed Lambda proxy response|Unable to transform|[Oo]utput mapping",
    ),
    ("function_error", "Lambda execution failed with status"),
)
"""A cause, and what the line that states it has; the first that is found counts."""

_ID = r"^\([^)]*\) "
_SAID = (
    "Execution failed due to configuration error: [A-Za-z ]+|Execution failed due to [A-Za-z ]+|"
    "Lambda execution failed with status|Lambda invocation failed with status: [0-9]+|"
    "No match for output mapping|Output mapping refers to|[A-Za-z ]+ limit exceeded"
)
"""The text of a line that states a failure. It is bound to the beginning of the line: what follows
may be a text of the backend, and other lines have what the client has sent."""

_QUERY = rf"""
parse @message /^\((?<apigwRequest>[^)\s]+)\) /
| parse @message /{_ID}API Key .*authorized because method '(?<apigwRoute>[A-Z]+ [^']+)'/
| parse @message /{_ID}HTTP Method: (?<apigwAsked>[A-Z]+, Resource Path: \S+)/
| parse @message /{_ID}Method completed with status: (?<apigwStatus>[0-9]+)/
| parse @message /{_ID}(?<apigwSaid>{_SAID})/
| parse @message /{_ID}Lambda execution failed .*(?<apigwTimedOut>Task timed out)/
| parse @log /(?<apigwGroup>\{CANARY_GROUP})$/
| fields coalesce(apigwRequest, "-") as apigwId,
    coalesce(apigwRoute, apigwAsked, "~") as apigwWhere,
    coalesce(apigwStatus, "-") as apigwEnd,
    coalesce(apigwTimedOut, apigwSaid, "-") as apigwWhy
| filter ispresent(apigwRoute) or ispresent(apigwAsked) or ispresent(apigwStatus)
    or ispresent(apigwSaid) or not ispresent(apigwRequest)
| stats count(*) as lines, count(apigwGroup) as canaryLines, sortsFirst(apigwWhere) as route,
    sortsLast(apigwEnd) as status, sortsLast(apigwWhy) as why by apigwId
| stats count(*) as requests, sum(lines) as allLines,
    sortsFirst(apigwId) as firstId, sortsLast(apigwId) as lastId by route, status, why, canaryLines
"""
"""First by request, then by what the requests have in common: the rows do not grow with them."""


class _Counted(NamedTuple):
    """The requests of one variant, by kind, and a few ids of each."""

    kinds: Counter[Kind]
    ids: defaultdict[Kind, list[str]]


def find(
    calls: Calls,
    rest_api_id: str,
    stage: str,
    start: datetime,
    end: datetime,
    *,
    limit: int,
) -> Failures:
    """The canary's failing requests, from both groups of the stage: one query.

    A request that the group `/Canary` has is the canary's, wherever else it is. Raises
    `NotFoundError` where the stage has no execution logs.
    """
    group = execution_log_group(rest_api_id, stage)
    groups = [group, group + CANARY_GROUP]
    there = sorted(existing(calls, groups))
    if not there:
        raise NotFoundError(
            f"The stage {stage} of API {rest_api_id} has no execution logs: there is no log group "
            f"{group}.",
            remedy="Turn execution logs on for the stage (level ERROR or INFO), or use "
            'canary.failures(source="access").',
        )
    found = Insights(calls).find(there[0], _QUERY, start, end, *there[1:])
    variants, unreadable = _counted(found)
    canary, baseline = variants
    return Failures(
        items=ranked(canary.kinds, baseline.kinds, limit, canary.ids, baseline.ids),
        source="execution",
        start=start,
        end=end,
        scanned_bytes=found.scanned,
        usd=found.scanned / 1e9 * USD_PER_GB,
        unreadable_lines=unreadable,
        notes=tuple(_notes(variants, there, groups[1])),
    )


def _counted(found: Found) -> tuple[tuple[_Counted, _Counted], int]:
    """The canary's requests and the baseline's, and how many lines could not be read."""
    variants = (
        _Counted(Counter(), defaultdict(list)),
        _Counted(Counter(), defaultdict(list)),
    )
    unreadable = 0
    for row in found.rows:
        if row.get("firstId", "-") == "-":  # lines without a request id are no requests
            unreadable += count(row, "allLines")
            continue
        kind = _kind(row)
        if kind.status == UNREADABLE and kind.cause is None:
            # A request that had not ended within the time, or whose line of the end is not there.
            unreadable += count(row, "allLines")
            continue
        counted = variants[0 if count(row, "canaryLines") else 1]
        counted.kinds[kind] += count(row, "requests")
        ids = dict.fromkeys([row["firstId"], row.get("lastId", row["firstId"])])
        counted.ids[kind] += [each for each in ids if each not in counted.ids[kind]]
    return variants, unreadable


def _kind(row: Row) -> Kind:
    where = re.match(r"([A-Z]+)(?:, Resource Path:)? (.+)", row.get("route", ""))
    status, why = row.get("status", "-"), row.get("why", "-")
    causes: list[FailureCause] = [cause for cause, said in _CAUSES if re.search(said, why)]
    return Kind(
        where[1] if where else None,
        where[2] if where else None,
        int(status) if re.fullmatch("[1-5][0-9]{2}", status) else UNREADABLE,
        None,
        None if why == "-" else why.strip(),
        None if why == "-" else (causes[0] if causes else "other"),
    )


def _notes(variants: Sequence[_Counted], there: Sequence[str], of_canary: str) -> list[str]:
    notes = []
    if of_canary not in there:
        notes.append(
            f"There is no log group {of_canary}, so no request is known as the canary's. API "
            "Gateway creates it with the canary's first line."
        )
    if not any(kind.cause is None for each in variants for kind in each.kinds):
        notes.append(
            "The execution logs have only failed requests, so the numbers of requests are no "
            "totals. At the level INFO they have all requests."
        )
    return notes
