"""The stage's access logs, as Logs Insights answers for them: StartQuery to GetQueryResults."""

from __future__ import annotations

import json
import math
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from apigw_canary.metrics.logformat import VARIABLE, parsed
from apigw_canary.planning.chance import binomial
from apigw_canary.testing.answers import Json, Refusal, check_simulated, unknown
from apigw_canary.testing.gateway import ACCOUNT_ID
from apigw_canary.testing.insights import Line, Query
from apigw_canary.testing.traffic import MINUTE, Arm, Segment, Traffic
from apigw_canary.testing.wire import REGION

GROUP = "rehearsal-access-logs"
DESTINATION = f"arn:aws:logs:{REGION}:{ACCOUNT_ID}:log-group:{GROUP}"
LOG_LAG = timedelta(minutes=1)
"""AWS promises nothing; a minute or two is what people see."""

ACCESS_LOG_FORMAT = json.dumps(
    {
        "requestTime": "$context.requestTime",
        "requestId": "$context.extendedRequestId",
        "apiId": "$context.apiId",
        "stage": "$context.stage",
        "deploymentId": "$context.deploymentId",
        "isCanaryRequest": "$context.isCanaryRequest",
        "httpMethod": "$context.httpMethod",
        "resourcePath": "$context.resourcePath",
        "status": "$context.status",
        "responseLatency": "$context.responseLatency",
        "errorType": "$context.error.responseType",
        "errorMessage": "$context.error.message",
    }
)

_ARMS: dict[str, tuple[Arm, ...]] = {
    GROUP: ("baseline", "canary"),
    f"{GROUP}/Canary": ("canary",),  # the canary's lines a second time
}
_BYTES_A_LINE = 400
_LATENCY = "responseLatency"
_FAILED = {
    "502": ("INTEGRATION_FAILURE", "Internal server error"),
    "400": ("BAD_REQUEST_BODY", "Invalid request body"),
    "200": ("-", "-"),
}


class _Started(NamedTuple):
    results: list[list[Json]]
    lines: int
    asked: list[str]  # once for each GetQueryResults


class Logs:
    """The log groups of one stage. Each request is one line, with the beginning of its minute."""

    def __init__(
        self,
        traffic: Traffic,
        rest_api_id: str,
        stage: str,
        line: str,
        lag: timedelta,
        *,
        late_failures: timedelta,
        cut: Callable[[Arm, int], float],
    ) -> None:
        self._traffic = traffic
        self._late = late_failures
        self._cut = cut
        self._template = line
        self._fields = {field: variable for variable, field in parsed(line).items()}
        self._latency = [field for field, v in self._fields.items() if v == _LATENCY]
        self._same = {"apiId": rest_api_id, "stage": stage, "httpMethod": "GET"}
        self._same["resourcePath"] = "/orders"
        self._lag = lag
        self._started: dict[str, _Started] = {}

    def answer(self, operation: str, p: Json, now: datetime) -> Json | None:
        """Answer for the stage's groups and queries of them; None for anything else."""
        if operation == "StartQuery" and p.get("logGroupName") in _ARMS:
            return self._start_query(p, now)
        if p.get("queryId") not in self._started:
            return None
        query_id = p["queryId"]
        check_simulated(operation, p, frozenset({"queryId"}))
        if operation == "GetQueryResults":
            return self._results(self._started[query_id])
        # StopQuery; no other operation takes a query's id
        if len(self._started.pop(query_id).asked) > 1:
            raise Refusal("InvalidParameterException", f"Query {query_id} is not running")
        return {"success": True}

    def _start_query(self, p: Json, now: datetime) -> Json:
        expected = frozenset({"logGroupName", "startTime", "endTime", "queryString", "limit"})
        check_simulated("StartQuery", p, expected)
        if p["endTime"] < p["startTime"]:
            raise Refusal("InvalidParameterException", "End time should not be before start time")
        query = Query(p["queryString"])
        lines = list(self._lines(p, now, latencies=query.mentions(self._latency)))
        results = query.results(lines)
        if len(results) > p.get("limit", math.inf):
            unknown("which rows a query gives that finds more than its limit")
        query_id = f"query-{len(self._started)}-{now.timestamp():.0f}"
        number = sum(line.times for line in lines)
        self._started[query_id] = _Started(results, number, [])
        return {"queryId": query_id}

    def _results(self, started: _Started) -> Json:
        started.asked.append("asked")
        done = len(started.asked) > 1  # nobody is so quick that the first question finds it done
        return {
            "status": "Complete" if done else "Running",
            "results": started.results if done else started.results[: len(started.results) // 2],
            "statistics": {
                "recordsMatched": float(started.lines),
                "recordsScanned": float(started.lines),
                "bytesScanned": float(_BYTES_A_LINE * started.lines),
            },
        }

    def _lines(self, p: Json, now: datetime, *, latencies: bool) -> Iterator[Line]:
        """The lines that have arrived, without latencies unless somebody asks for them."""
        start = datetime.fromtimestamp(-(-p["startTime"] // 60) * 60, UTC)
        end = datetime.fromtimestamp(p["endTime"], UTC)
        first = self._traffic.first(("baseline", "canary"))
        at = max(start, first) if first else end + MINUTE
        while at <= end:
            for segment in self._traffic.segments(at, _ARMS[p["logGroupName"]]):
                yield from self._of(segment, now, latencies=latencies)
            at += MINUTE

    def _of(self, segment: Segment, now: datetime, *, latencies: bool) -> Iterator[Line]:
        served = segment.served
        all_ms = segment.latencies() if latencies else []
        healthy = served.requests - served.errors_5xx - served.errors_4xx
        for status, number in (
            ("502", served.errors_5xx),
            ("400", served.errors_4xx),
            ("200", healthy),
        ):
            ms, all_ms = all_ms[:number], all_ms[number:]
            late = self._lag / 2 if status == "200" else self._lag + self._late
            if served.at + MINUTE + late > now:
                continue
            values = {
                **self._same,
                "deploymentId": served.deployment_id,
                "isCanaryRequest": _said(segment),
                "status": status,
                "error.responseType": _FAILED[status][0],
                "error.message": _FAILED[status][1],
                "error.messageString": _quoted(_FAILED[status][1]),
            }
            share = self._cut(served.arm, int(status))
            cut = binomial(random.Random(f"{segment.seed}/{status}/cut"), number, share)
            if cut:
                head, _, _ = self._template.partition("$context.status")
                yield Line(served.at, {}, cut, _written(head, values))
            message = _written(self._template, values)
            fields = (
                {field: values.get(variable) for field, variable in self._fields.items()}
                if _is_json(message)
                else {}
            )
            if not latencies and number > cut:
                yield Line(served.at, fields, number - cut, message)
            for latency, times in Counter(f"{each:.0f}" for each in ms[cut:]).items():
                own = fields and fields | dict.fromkeys(self._latency, latency)
                yield Line(
                    served.at, own, times, _written(self._template, {**values, _LATENCY: latency})
                )


def _quoted(message: str) -> str:
    """As `$context.error.messageString` has it: with quotes of its own."""
    return message if message == "-" else json.dumps(message)


def _written(template: str, values: Mapping[str, str]) -> str:
    """A line; a variable that is not simulated is 0 in it, which breaks no format."""
    return re.sub(VARIABLE, lambda found: values.get(found[1], "0"), template)


def _is_json(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _said(segment: Segment) -> str:
    if not segment.canary_enabled:
        return "-"
    return "true" if segment.served.arm == "canary" else "false"
