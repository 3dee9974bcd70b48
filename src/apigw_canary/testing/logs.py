"""The stage's access logs, as Logs Insights answers for them: StartQuery to GetQueryResults."""

from __future__ import annotations

import base64
import json
import random
import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from typing import Literal, NamedTuple

from apigw_canary.metrics.logformat import VARIABLE, parsed
from apigw_canary.model.failure import CANARY_GROUP, FailureCause, execution_log_group
from apigw_canary.planning.simulation import binomial
from apigw_canary.testing.answers import Json, Refusal, check_simulated
from apigw_canary.testing.gateway import ACCOUNT_ID
from apigw_canary.testing.insights import Folded, Line, Query
from apigw_canary.testing.traffic import MINUTE, Arm, Segment, Traffic
from apigw_canary.testing.wire import REGION

GROUP = "rehearsal-access-logs"
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

_REQUEST_IDS = ("requestId", "extendedRequestId")
_BYTES_A_LINE = 400
_KEPT_QUERIES = 8
"""A rollout asks the same few queries again and again."""
_KEPT_OUTCOMES = 4096
"""Of an hour of a dozen routes or so: what an observation reads again."""
_LATENCY = "responseLatency"
_HOLE = "\0"
"""Stands for the latency in a line, which is otherwise the same for many requests."""
_FAILED = {
    "500": ("API_CONFIGURATION_ERROR", "Internal server error"),
    "502": ("INTEGRATION_FAILURE", "Internal server error"),
    "504": ("INTEGRATION_TIMEOUT", "Endpoint request timed out"),
    "400": ("BAD_REQUEST_BODY", "Invalid request body"),
    "200": ("-", "-"),
}
_STATUSES: Mapping[FailureCause, str] = {
    "function_error": "502",
    "timeout": "504",
    "permission": "500",
    "mapping": "502",
    "throttling": "500",
    "other": "500",
}
_BY_FUNCTION = "due to customer function error: division by zero"
_REASONS: Mapping[FailureCause, tuple[str, ...]] = {
    "function_error": (
        f"Lambda execution failed with status 200 {_BY_FUNCTION}. Lambda request id: {{request}}",
    ),
    "timeout": ("Execution failed due to a timeout error",),
    "permission": (
        "Execution failed due to configuration error: Invalid permissions on Lambda function",
    ),
    "mapping": ("Execution failed due to configuration error: Malformed Lambda proxy response",),
    "throttling": (
        "Lambda invocation failed with status: 429. Lambda request id: {request}",
        "Execution failed due to configuration error: Rate Exceeded.",
    ),
    "other": (),
}
"""The execution logs' text before "Method completed with status", as users have published it."""

_NO_KEY = "does not require API Key. Request will not contribute to throttle or quota limits"

Level = Literal["ERROR", "INFO"]
"""How much is in the execution logs: lines of failures, or all lines."""


class _Started(NamedTuple):
    results: list[list[Json]]
    lines: int
    asked: list[str]  # once for each GetQueryResults


class Logs:
    """The log groups of each stage: a line of access logs for each request, lines of execution
    logs.

    Each has the beginning of the request's minute. `line` is the format of the access logs, `level`
    that of the execution logs; None where there are none.
    """

    def __init__(
        self,
        traffic: Traffic,
        rest_api_id: str,
        line: str | None,
        lag: timedelta,
        *,
        level: Level | None,
        late_failures: timedelta,
        cut: Callable[[Arm, int], float],
    ) -> None:
        self._traffic = traffic
        self._late = late_failures
        self._cut = cut
        self._template = line or ""
        self._fields = {field: variable for variable, field in parsed(line or "{}").items()}
        self._latency = [field for field, v in self._fields.items() if v == _LATENCY]
        self._ids = [field for field, v in self._fields.items() if v in _REQUEST_IDS]
        self._api = rest_api_id
        self._lag = lag
        self._started: dict[str, _Started] = {}
        self._level = level
        self._query = lru_cache(_KEPT_QUERIES)(_Asked)
        # The canary's lines are in both groups of a kind.
        self._groups: dict[str, tuple[str, tuple[Arm, ...]]] = {}
        self.destinations: dict[str, str] = {}
        """Where the access logs of each stage go to; the first one's group has no name of it."""
        for number, stage in enumerate(traffic.rates):
            group = f"{GROUP}-{stage}" if number else GROUP
            self.destinations[stage] = f"arn:aws:logs:{REGION}:{ACCOUNT_ID}:log-group:{group}"
            execution = execution_log_group(rest_api_id, stage)
            for name in [group] * (line is not None) + [execution] * (level is not None):
                self._groups[name] = (stage, ("baseline", "canary"))
                self._groups[name + CANARY_GROUP] = (stage, ("canary",))

    def answer(self, operation: str, p: Json, now: datetime) -> Json | None:
        """Answer for the stages' groups and queries of them; None for anything else."""
        if operation == "StartQuery":
            groups: list[str] = p.get("logGroupNames") or [p.get("logGroupName", "")]
            return self._start_query(p, groups, now) if self._groups.keys() >= {*groups} else None
        if operation == "DescribeLogGroups" and "logGroupNamePrefix" in p:
            return self._described(p)
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

    def _described(self, p: Json) -> Json | None:
        """The stages' groups; those of execution logs exist from the first request on."""
        check_simulated("DescribeLogGroups", p, frozenset({"logGroupNamePrefix", "limit"}))
        there = sorted(
            name
            for name, (stage, arms) in self._groups.items()
            if name.startswith(p["logGroupNamePrefix"])
            and (name.startswith(GROUP) or self._traffic.first(arms, stage))
        )
        found = [{"logGroupName": name} for name in there[: p["limit"]]]
        return {"logGroups": found} if found else None

    def _start_query(self, p: Json, groups: Sequence[str], now: datetime) -> Json:
        given = {"logGroupName", "logGroupNames"}
        expected = frozenset({"startTime", "endTime", "queryString", "limit", *given})
        check_simulated("StartQuery", p, expected)
        if p["endTime"] < p["startTime"]:
            raise Refusal("InvalidParameterException", "End time should not be before start time")
        asked = self._query(p["queryString"])
        parts = [part for group in groups for part in self._parts(p, group, asked, now)]
        asked.parts = dict([*asked.parts.items()][-_KEPT_OUTCOMES:])
        found = [each for part in parts for each in part.found]
        # Of more rows than the limit it gives so many, and does not say that there were more.
        results = asked.query.results_of(found)[: p.get("limit")]
        query_id = f"query-{len(self._started)}-{now.timestamp():.0f}"
        number = sum(part.lines for part in parts)
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

    def _parts(self, p: Json, group: str, asked: _Asked, now: datetime) -> Iterator[_Part]:
        """What a query makes of the lines of a group that have arrived."""
        start = datetime.fromtimestamp(-(-p["startTime"] // 60) * 60, UTC)
        end = datetime.fromtimestamp(p["endTime"], UTC)
        stage, arms = self._groups[group]
        first = self._traffic.first(("baseline", "canary"), stage)
        at = max(start, first) if first else end + MINUTE
        while at <= end:
            for segment in self._traffic.segments(at, arms, stage):
                latencies = cache(segment.latencies)
                for number, outcome in enumerate(_outcomes(segment)):
                    late = self._lag / 2 if outcome.status == "200" else self._lag + self._late
                    if segment.served.at + MINUTE + late > now:
                        continue
                    key = group, segment.seed, number
                    if key not in asked.parts:
                        lines = [*self._lines(group, segment, outcome, asked.query, latencies)]
                        found = [*asked.query.folded(lines).items()]
                        asked.parts[key] = _Part(sum(line.times for line in lines), found)
                    yield asked.parts[key]
            at += MINUTE

    def _lines(
        self,
        group: str,
        segment: Segment,
        outcome: _Outcome,
        query: Query,
        latencies: Callable[[], list[float]],
    ) -> Iterator[Line]:
        """The lines of requests that fared alike in a group."""
        if group.startswith(GROUP):
            return self._access(segment, outcome, query, latencies)
        return self._execution(segment, outcome, group)

    def _cut_of(self, segment: Segment, outcome: _Outcome) -> int:
        """How many of the lines end before the status."""
        share = self._cut(segment.served.arm, int(outcome.status))
        seed = f"{segment.seed}/{outcome.status}/cut"
        return binomial(random.Random(seed), len(outcome.requests), share)

    def _access(
        self,
        segment: Segment,
        outcome: _Outcome,
        query: Query,
        latencies: Callable[[], list[float]],
    ) -> Iterator[Line]:
        """The lines of the access logs: latencies and ids only if the rows depend on them."""
        served, status = segment.served, outcome.status
        all_ms = latencies() if query.reads(self._latency) else None
        values = {
            "apiId": self._api,
            "stage": served.stage,
            "httpMethod": segment.method.partition(" ")[0],
            "resourcePath": segment.method.partition(" ")[2],
            "deploymentId": served.deployment_id,
            "isCanaryRequest": _said(segment),
            "status": status,
            "error.responseType": _FAILED[status][0],
            "error.message": _FAILED[status][1],
            "error.messageString": _quoted(_FAILED[status][1]),
        }
        if reads_ids := query.reads(self._ids):
            values |= _ids(segment, outcome.requests[0])
        cut = self._cut_of(segment, outcome)
        if cut:
            head, _, _ = self._template.partition("$context.status")
            yield Line(served.at, {}, cut, _written(head, values))
        whole = outcome.requests[cut:]
        alike = [whole] if whole else []
        if status != "200" and reads_ids:
            alike = [whole[i : i + 1] for i in range(len(whole))]
        for requests in alike:
            own = values | (_ids(segment, requests[0]) if reads_ids else {})
            if all_ms is None:
                times = Counter({"": len(requests)})
            else:
                times = Counter(f"{all_ms[i]:.0f}" for i in requests)
                own[_LATENCY] = _HOLE
            message = _written(self._template, own)
            fields = {field: own.get(variable) for field, variable in self._fields.items()}
            if not _is_json(message.replace(_HOLE, "0")):
                fields = {}
            slots = [field for field, value in fields.items() if value == _HOLE]
            for latency, number in times.items():
                own_fields = fields | dict.fromkeys(slots, latency)
                yield Line(served.at, own_fields, number, message.replace(_HOLE, latency))

    def _execution(self, segment: Segment, outcome: _Outcome, group: str) -> Iterator[Line]:
        """The lines of each request; of a cut one the line of the end has lost its beginning."""
        cut = self._cut_of(segment, outcome)
        place = f"{self._api}/{segment.served.stage}"
        verb, _, path = segment.method.partition(" ")
        for number, request in enumerate(outcome.requests):
            ids = _ids(segment, request)
            name = ids["requestId"]
            begin = [
                f"Extended Request Id: {ids['extendedRequestId']}",
                f"Verifying Usage Plan for request: {name}. API Key:  API Stage: {place}",
                f"API Key  authorized because method '{segment.method}' {_NO_KEY}",
                f"Usage Plan check succeeded for API Key  and API Stage {place}",
                f"Starting execution for request: {name}",
                f"HTTP Method: {verb}, Resource Path: {path}",
            ]
            reasons = [reason.format(request=name) for reason in outcome.reasons]
            said = [f"({name}) {each}" for each in (*begin, *reasons)]
            end = f"({name}) Method completed with status: {outcome.status}"
            said.append(end if number >= cut else end[len(name) :])
            if self._level == "ERROR":
                said = [f"({name}) {each}" for each in reasons]
            for message in said:
                log = f"{ACCOUNT_ID}:{group}"
                yield Line(segment.served.at, {}, 1, message, log)


class _Part(NamedTuple):
    """What a query makes of the lines of requests that fared alike."""

    lines: int
    found: Sequence[tuple[Folded, int]]


class _Asked:
    """A query, and what it made of lines: they do not change once they have arrived."""

    def __init__(self, text: str) -> None:
        self.query = Query(text)
        self.parts: dict[tuple[str, str, int], _Part] = {}


class _Outcome(NamedTuple):
    """Requests of a segment that fared alike, by their numbers in it."""

    status: str
    requests: Sequence[int]
    reasons: tuple[str, ...] = ()


def _outcomes(segment: Segment) -> Iterator[_Outcome]:
    """How the requests fared: first those with a 5xx status, then 4xx, then the others."""
    served, causes = segment.served, segment.backend.causes
    bad, refused = served.errors_5xx, served.errors_5xx + served.errors_4xx
    found = [
        _Outcome(_STATUSES[cause], range(i, bad, len(causes)), _REASONS[cause])
        for i, cause in enumerate(causes)
    ]
    found += [
        _Outcome("400", range(bad, refused)),
        _Outcome("200", range(refused, served.requests)),
    ]
    yield from (each for each in found if each.requests)


def _ids(segment: Segment, request: int) -> dict[str, str]:
    """The ids of a request, the same in all logs."""
    bits = random.Random(f"{segment.seed}/id/{request}").getrandbits(128)
    return {
        "requestId": str(uuid.UUID(int=bits)),
        "extendedRequestId": f"{base64.b64encode(bits.to_bytes(16, 'big')).decode()[:15]}=",
    }


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
