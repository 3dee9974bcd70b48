"""Access logs: exact counts of both variants by `$context.isCanaryRequest`, by Logs Insights."""

import math
import re
import threading
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

import attrs

from apigw_canary.aws import (
    GROUP_NAME,
    MOST_ROWS,
    TIMEOUT,
    USD_PER_GB,
    ApiGateway,
    Found,
    Insights,
    Row,
    Session,
    count,
    existing,
    number,
    text,
)
from apigw_canary.aws import field as quoted_field
from apigw_canary.errors import CanaryError, MetricsError
from apigw_canary.judge import (
    ERRORS_4XX,
    ERRORS_5XX,
    HISTORY,
    MINUTE,
    Measurements,
    Minute,
    Signal,
    ceil_minute,
)
from apigw_canary.metrics.cloudwatch import Published, published
from apigw_canary.metrics.logcounts import (
    ARM,
    ARMS,
    BY_MINUTE,
    ByArm,
    Counted,
    Counts,
    arm_of,
    by_minute,
    minute_of,
    of_canary,
    query_of,
    routes_of,
    with_missing,
    without_line,
    without_outcome,
    without_variant,
)
from apigw_canary.metrics.logformat import (
    ALIAS,
    ERROR_TYPE,
    LATENCY,
    MESSAGES,
    METHOD,
    PATH,
    ROUTE_ALIAS,
    STATUS,
    AccessLog,
    access_log,
)
from apigw_canary.metrics.routes import check_routes, without_data
from apigw_canary.metrics.source import AwsSource, Query, fetched
from apigw_canary.model import (
    CANARY_GROUP,
    UNREADABLE,
    Failures,
    FailureSource,
    Kind,
    LogGroup,
    StageState,
    execution_log_group,
    ranked,
)
from apigw_canary.values import moment, validation

SETTLED = timedelta(minutes=15)
"""How old a minute is that is not read again. Lines usually arrive within a minute or two; that
they do is not promised."""

RECENT = 10
"""Minutes, the latest with lines, in which lines that cannot be assigned count by themselves."""

AWAITED = timedelta(hours=1)
"""How old a minute is whose missing lines are not searched any more: the longest `lag`."""

_SPAN = (MOST_ROWS // 5) * MINUTE
"""What one query covers: a minute has up to four rows: "true", "false", "-" and "?"."""

_FIRST_SPAN = 5 * MINUTE
"""What the first query by routes covers, of which it is not known how many rows a minute has: up to
1,000 routes of two variants."""

_FILLED = 0.8
"""The part of `MOST_ROWS` that the next query by routes is to give, by the rows of the one before:
a minute with more of them than usual does not make it one that has to be asked again."""

_WIDENED = 4
"""How many times as long as the one before a query by routes may be: at night few routes have
requests."""

_KIND = ((STATUS,), (METHOD,), (PATH,), (ERROR_TYPE,), MESSAGES)
"""What failures are grouped by: variables, of which the first that the format has is taken."""

_REQUEST_IDS = ("requestId", "extendedRequestId")
"""The id that the execution logs have too, and the one that clients get."""
_ID = "apigwRequest"

_STATUSES = {ERRORS_5XX: (500, 600), ERRORS_4XX: (400, 500)}


class _Kept(NamedTuple):
    """Rows of minutes that do not change any more."""

    key: tuple[str, str]
    start: datetime
    until: datetime
    rows: dict[datetime, Counts]


class _Compared(NamedTuple):
    """The canary's lines, compared with what CloudWatch counts as its requests."""

    missing: Mapping[datetime, int]
    """Requests without a line, by the minute."""
    suspect: str | None = None
    note: str | None = None
    """Why they could not be compared."""


class _OfRoute(NamedTuple):
    """A critical signal of one route: the route, its place among what is counted, its margin."""

    route: str
    place: int
    margin: float


class AccessLogs(AwsSource):
    """Count requests and bad requests of both variants in the stage's access logs in CloudWatch
    Logs.

    `log_group` is the group's name; None takes it from the stage's settings. API Gateway writes
    canary requests both to this group and to `<group>/Canary`. Only the former is read, so no
    request is counted twice. `format` maps `$context` variables to the fields of a line, as in
    `{"isCanaryRequest": "canary", "status": "status", "responseLatency": "latency"}`. None takes it
    from the stage's settings; for a group that is not in them, each field has the name of its
    variable. Lines must be JSON. If the format has `apiId` and `stage`, lines of other stages in
    the group are left out.

    `bad` maps signal names to Logs Insights expressions that are true for a bad request, as in
    `{"refused": "errorType = 'WAF_FILTERED'"}`. If no line has the field, no request is bad. 4xx,
    5xx and latency signals need no expression.

    `lag` is how old a minute must be to be counted, up to 1 hour, by default 2 minutes, because log
    lines arrive late. If the stage's `Count` can be read from CloudWatch, the number of the
    canary's lines is compared with it. Requests without a line are of unknown outcome, and while
    lines of the latest ten minutes are missing, the counts are suspect. `timeout` limits the time
    of one query. `usd_per_gb` is the price of scanning a GB; the default of 0.005 is AWS's list
    price of 2026 in US East and most regions. `session` is a boto3 session; None uses the stage's.

    `routes` also counts routes, such as "GET /orders/{id}": a list of them, or True for all. The
    format needs `httpMethod` and `resourcePath`. Each line is scanned only once, but more queries
    may be needed: one returns at most 10,000 rows, and there is a row for each minute, route and
    variant. Detailed metrics are not needed. A `Signal` of one route needs both variables but not
    `routes`.

    Minutes older than 15 minutes are kept in memory and not scanned again. If lines of a minute are
    missing, it and the later minutes are scanned again for up to an hour.

    ```python
    from datetime import timedelta

    from apigw_canary import AccessLogs, RolloutPolicy, Signal, Stage

    logs = AccessLogs(bad={"refused": "errorType = 'BAD_REQUEST_BODY'"})
    signals = [Signal.errors_5xx(), Signal.custom("refused")]
    policy = RolloutPolicy.canary(20, timedelta(minutes=10), signals=signals)
    canary = Stage("a1b2c3d4e5", "prod", metrics=logs).enable_canary(20)
    print(canary.observe(policy).notes)
    ```
    """

    def __init__(
        self,
        log_group: str | None = None,
        *,
        format: Mapping[str, str] | None = None,  # noqa: A002 - API Gateway's name for it
        bad: Mapping[str, str] | None = None,
        routes: bool | Sequence[str] = False,
        lag: timedelta = timedelta(minutes=2),
        timeout: timedelta = TIMEOUT,
        usd_per_gb: float = USD_PER_GB,
        session: Session | None = None,
    ) -> None:
        super().__init__(session)
        if log_group is not None and not re.fullmatch(GROUP_NAME, str(log_group)):
            validation.refuse("log_group", "the name of a log group, not an ARN", log_group)
        self._group = log_group
        self._fields = None if format is None else dict(format)
        for name in (self._fields or {}).values():
            quoted_field(name)
        self._bad = {
            name: validation.text(each, "bad", limit=2000) for name, each in (bad or {}).items()
        }
        self._routes = check_routes(routes=routes)
        self._lag = validation.duration(lag, "lag", high=timedelta(hours=1))
        self._timeout = validation.duration(timeout, "timeout", high=timedelta(hours=1))
        self._usd_per_gb = validation.number(usd_per_gb, "usd_per_gb", low=0)

    @property
    def log_group(self) -> str | None:
        """The `log_group` that you passed; None if it is taken from the stage's settings."""
        return self._group

    def _forget(self) -> None:
        self._logs: dict[tuple[str, str], AccessLog] = {}
        self._limits: dict[tuple[str, float, datetime], float] = {}
        self._published: dict[tuple[str, str], Published] = {}
        self._kept: _Kept | None = None
        self._span = _FIRST_SPAN
        self._lock = threading.Lock()

    def minutes(
        self, stage: StageState, signals: Sequence[Signal], start: datetime, end: datetime
    ) -> Measurements:
        """Count the minutes of each signal in [start, end), with one query, and the first time a
        GetStage.

        A query is a StartQuery and two or more GetQueryResults. A signal with a `quantile` needs
        one more query, once. With `routes` it makes a query for each 10,000 rows. Raises
        `MetricsError` if Logs Insights returns partial results, and `InvalidInputError` if the log
        format lacks a variable that the variants, signals or routes need.
        """
        start = ceil_minute(validation.aware(start, "start"))
        end = ceil_minute(validation.aware(end, "end"))
        with self._lock:
            log = self._log(stage)
            notes: list[str] = []
            not_observed: dict[str, str] = {}
            counted = [
                each
                for signal in signals
                if (each := self._counted(signal, log, start, notes, not_observed)) is not None
            ]
            tells_routes = bool(self._routes) or any(each.route for each in counted)
            asked = log.telling_routes() if tells_routes else log
            rows, scanned = self._rows(asked, counted, start, end)
            arms = {at: counts.arms for at, counts in rows.items()}
            margin = _smallest_margin(signals)
            since = start + HISTORY + 2 * MINUTE
            compared = self._compared(log, stage, arms, margin=margin, since=since, end=end)
            awaited = [at for at in compared.missing if at >= end - AWAITED]
            if awaited:
                self._keep_until(min(awaited))
            if compared.note is not None:
                notes.append(compared.note)
        minutes, reasons = _of_signals(log, signals, counted, arms, compared.missing, start)
        not_observed |= {
            each.signal: f"{log.group} has no line of {each.route}: correct the route"
            for each in counted
            if each.signal not in minutes
        }
        first = next((index for index, each in enumerate(counted) if each.route is None), 0)
        unreadable = sum(without_outcome(each, first) for each in arms.values() if counted)
        if unreadable:
            notes.append(
                f"{unreadable:,.0f} lines of {log.group} do not give an outcome, because they are "
                "no JSON or lack a field. A quote in a value that is logged breaks its line; the "
                "format of the access logs in docs/access-logs.md has no such value."
            )
        if not log.scope:
            notes.append(
                f"The format has neither apiId nor stage, so all lines of {log.group} count as "
                "this stage's."
            )
        routes = None
        if self._routes:
            only = None if isinstance(self._routes, bool) else self._routes
            routes = routes_of(rows, counted, only)
            notes.append(_counted_routes(log, rows, len(routes)))
            why = f"{log.group} has no line of it: correct the list"
            not_observed |= without_data(only, routes, why)
        notes.append(self._cost(log, scanned))
        return Measurements(
            minutes,
            notes=notes,
            routes=routes,
            suspect=next(iter([*reasons, *filter(None, [compared.suspect])]), None),
            not_observed=not_observed,
        )

    def _compared(
        self,
        log: AccessLog,
        stage: StageState,
        rows: Mapping[datetime, ByArm],
        *,
        margin: float,
        since: datetime,
        end: datetime,
    ) -> _Compared:
        """The canary's lines compared with CloudWatch's `Count`, in all minutes older than `lag`.

        Lines of failed requests may come later than the others, or never, and would be taken for
        no failures. One GetMetricData of one metric.
        """
        until = (end - self._lag).replace(second=0, microsecond=0)
        if stage.canary is None or since >= until:
            return _Compared({})
        first = since - MINUTE  # its lines may be of requests that the next minute counts
        canary_stage = f"{stage.name}/Canary"
        key = stage.rest_api_id, stage.name
        try:
            if key not in self._published:
                self._published[key] = published(self._own_calls(), stage, None)
            name = ("ApiName", self._published[key].api_name)
            query = Query("canary", "Count", "SampleCount", (name, ("Stage", canary_stage)))
            counts = fetched(self._own_calls(), [query], first, until)["canary"]
        except CanaryError as error:
            return _Compared({}, note=f"Whether lines are late is not known: {error}")
        if self._published[key].suspect is not None or not counts:
            return _Compared(
                {},
                note="Whether lines are late is not known: CloudWatch has no Count of "
                f"{canary_stage} that is this stage's alone.",
            )
        lines = {at: of_canary(arms) for at, arms in rows.items() if first <= at < until}
        missing = {at: n for at, n in without_line(counts, lines).items() if at >= since}
        recent = max(since, until - RECENT * MINUTE)
        requests = sum(number for at, number in counts.items() if at >= recent)
        lacking = sum(number for at, number in missing.items() if at >= recent)
        known = {}
        for at, lacks in missing.items():
            # A line that does not tell its variant is one of unknown outcome of the canary already.
            left = lacks - without_variant(rows.get(at, {}))
            # A young minute without any line is one that the logs do not have yet.
            if left > 0 and (at in rows or at < until - SETTLED):
                known[at] = left
        if lacking <= max(1.0, margin / 2 * requests):
            return _Compared(known)
        return _Compared(
            known,
            f"{log.group} has {requests - lacking:,.0f} lines of the canary's {requests:,.0f} "
            f"requests from {moment(recent)} to {moment(until)} (CloudWatch's Count); lines that "
            "are late or missing may be those of failures: wait, or raise lag and the policy's "
            "metric_delay",
        )

    def _keep_until(self, until: datetime) -> None:
        """Scan the minutes from then on again at the next observation."""
        kept = self._kept
        if kept and kept.start <= until < kept.until:
            rows = {at: arms for at, arms in kept.rows.items() if at < until}
            self._kept = kept._replace(until=until, rows=rows)

    def failures(
        self, stage: StageState, start: datetime, end: datetime, *, limit: int = 20
    ) -> Failures:
        """Find the canary's failed requests in [start, end) by kind, new kinds first, with one
        query.
        """
        with self._lock:
            log = self._log(stage)
            names = [f"{ARM}{i}" for i in range(len(_KIND))]
            columns = [
                f"{log.column(*variables)} as {name}"
                for variables, name in zip(_KIND, names, strict=True)
            ]
            counts = ["count(*) as requests"]
            if any(name in log.fields for name in _REQUEST_IDS):
                columns.append(f"{log.column(*_REQUEST_IDS)} as {_ID}")
                counts += [f"earliest({_ID}) as {_ID}0", f"latest({_ID}) as {_ID}1"]
            query = query_of(
                log, columns, f"stats {', '.join(counts)} by {', '.join([ARM, *names])}"
            )
            found = self._insights().find(log.group, query, start, end)
        kinds: dict[str, Counter[Kind]] = {"canary": Counter(), "baseline": Counter()}
        ids: dict[str, defaultdict[Kind, list[str]]] = {arm: defaultdict(list) for arm in kinds}
        unreadable = 0
        for row in found.rows:
            kind, requests, arm = _kind(row, names), count(row, "requests"), arm_of(row)
            if arm is None or kind.status == UNREADABLE:
                unreadable += requests
            # A request whose variant is not told is shown as one of the canary's.
            kinds[arm or "canary"][kind] += requests
            examples = ids[arm or "canary"][kind]
            for name in (f"{_ID}0", f"{_ID}1"):
                if row.get(name, "-") not in ("-", *examples):
                    examples.append(row[name])
        return Failures(
            items=ranked(kinds["canary"], kinds["baseline"], limit, ids["canary"], ids["baseline"]),
            source="access",
            start=start,
            end=end,
            scanned_bytes=found.scanned,
            usd=found.scanned / 1e9 * self._usd_per_gb,
            unreadable_lines=unreadable,
        )

    def _insights(self) -> Insights:
        return Insights(self._own_calls(), self._timeout)

    def _log(self, stage: StageState) -> AccessLog:
        key = stage.rest_api_id, stage.name
        if key not in self._logs:
            settings = None
            if self._group is None or self._fields is None:
                settings = ApiGateway(self._own_calls(), *key).stage().settings
            self._logs[key] = access_log(stage, settings, self._group, self._fields)
        return self._logs[key]

    def _counted(
        self,
        signal: Signal,
        log: AccessLog,
        start: datetime,
        notes: list[str],
        not_observed: dict[str, str],
    ) -> Counted | None:
        """How a signal is counted; None where it is not observed."""
        name, route = signal.counted, signal.route
        if name in self._bad:
            # An expression is about fields, which only a line has that is JSON.
            return Counted(signal.name, self._bad[name], log.field(STATUS), own=True, route=route)
        if signal.is_latency:
            if not signal.critical and LATENCY not in log.fields:
                not_observed[signal.name] = f"the format of {log.group} has no {LATENCY}"
                return None
            log.field(LATENCY)
            limit = signal.over
            if signal.quantile is not None:
                limit = self._limit(log, signal.quantile, start)
                if limit is None:
                    not_observed[signal.name] = (
                        f"{log.group} has no requests of the baseline in the hour from "
                        f"{moment(start)}, which would set its limit"
                    )
                    return None
                notes.append(
                    f"{signal.name}: a request is bad if it takes more than {limit:g} ms, the "
                    f"{signal.quantile:g} quantile of the baseline in the hour from "
                    f"{moment(start)}."
                )
            latency = ALIAS[LATENCY]
            return Counted(signal.name, f"{latency} > {limit:.12g}", latency)
        if name not in _STATUSES:
            known = ", ".join([*_STATUSES, *self._bad])
            validation.refuse(
                "signals",
                f"{known} or a latency signal; define other signals with bad=",
                signal.name,
            )
        low, high = _STATUSES[name]
        status = ALIAS[STATUS]
        bad = f"{status} >= {low} and {status} < {high}"
        return Counted(signal.name, bad, status, route=route)

    def _limit(self, log: AccessLog, quantile: float, start: datetime) -> float | None:
        """The baseline's quantile of latency in the hour before the canary, fixed once found; None
        where there is none.
        """
        key = log.group, quantile, start
        if key not in self._limits:
            canary = ", ".join(text(value) for value, arm in ARMS.items() if arm == "canary")
            latency, percentile = log.field(LATENCY), f"{100 * quantile:.10g}"
            query = query_of(
                log,
                [],
                f"filter {ARM} not in [{canary}]",
                f"stats count({latency}) as requests, pct({latency}, {percentile}) as high",
            )
            rows = self._insights().find(log.group, query, start, start + HISTORY).rows
            if not rows or count(rows[0], "requests") == 0:
                return None
            self._limits[key] = number(rows[0], "high")
        return self._limits[key]

    def _rows(
        self, log: AccessLog, counted: Sequence[Counted], start: datetime, end: datetime
    ) -> tuple[dict[datetime, Counts], float]:
        """The counts by minute, and the bytes scanned for them.

        What has been read is kept even if a later query fails: a long window takes several.
        """
        stats = ", ".join(["count(*) as requests", *(e.columns(i) for i, e in enumerate(counted))])
        by = [BY_MINUTE, ARM, *(ROUTE_ALIAS.values() if self._routes else ())]
        query = query_of(log, [], f"stats {stats} by {', '.join(by)}")
        kept = self._kept
        if kept is None or kept.key != (log.group, query) or not kept.start <= start <= kept.until:
            kept = _Kept((log.group, query), start, start, {})
        rows = {at: counts for at, counts in kept.rows.items() if start <= at}
        since, scanned = kept.until, 0.0
        while since < end:
            until = min(since + (self._span if self._routes else _SPAN), end)
            find = self._found_routes if self._routes else self._insights().find
            found = find(log.group, query, since, until)
            scanned += found.scanned
            if not found.is_whole:
                self._span = max((until - since) // MINUTE // 2, 1) * MINUTE
                continue
            new = by_minute(found, by, counted, since, until)
            rows.update(
                (at, counts) for at, counts in new.items() if at + MINUTE <= found.at - self._lag
            )
            settled = (found.at - max(SETTLED, self._lag)).replace(second=0, microsecond=0)
            if kept.until == since:
                kept = kept._replace(until=max(since, min(until, settled)))
                known = {at: counts for at, counts in rows.items() if at < kept.until}
                self._kept = kept = kept._replace(start=start, rows=known)
            self._span = _next_span(found, until - since)
            since = until
        return {at: counts for at, counts in rows.items() if at < end}, scanned

    def _found_routes(self, group: str, query: str, start: datetime, end: datetime) -> Found:
        """The rows of a query by routes; where a minute alone has too many, `MetricsError`."""
        found = self._insights().find_most(group, query, start, end)
        if not found.is_whole and end - start <= MINUTE:
            raise MetricsError(
                f"A query of {group} found more than {MOST_ROWS:,} rows in the minute from "
                f"{moment(start)}, and Logs Insights returns no more: the lines have too many "
                "routes.",
                remedy="Log $context.resourcePath in its field, not the path of the request, or "
                "give AccessLogs no routes.",
            )
        return found

    def _cost(self, log: AccessLog, scanned: float) -> str:
        return (
            f"Logs Insights scanned {scanned / 1e6:,.3g} MB of {log.group} for this observation, "
            f"about {scanned / 1e9 * self._usd_per_gb:.2g} USD."
        )


def log_groups(gateway: ApiGateway) -> tuple[LogGroup, ...]:
    """The groups of access and execution logs of both variants: GetStage, a call for each group."""
    written = gateway.stage().settings.access_log_group
    groups: list[tuple[FailureSource, str | None]] = [
        ("access", written),
        ("execution", execution_log_group(gateway.rest_api_id, gateway.stage_name)),
    ]
    named = [
        LogGroup(source=source, variant=variant, name=name and name + suffix, exists=False)
        for source, name in groups
        for variant, suffix in _SUFFIXES
    ]
    there = existing(gateway.calls, (each.name for each in named if each.name))
    return tuple(attrs.evolve(each, exists=each.name in there) for each in named)


_SUFFIXES: tuple[tuple[Literal["baseline", "canary"], str], ...] = (
    ("baseline", ""),
    ("canary", CANARY_GROUP),
)


def _kind(row: Row, names: Sequence[str]) -> Kind:
    status, *said = (row.get(alias, "-") for alias in names)
    known = int(status) if re.fullmatch("[1-5][0-9]{2}", status) else UNREADABLE
    method, path, error_type, message = (None if x == "-" else x for x in said)
    return Kind(method, path, known, error_type, message)


def _next_span(found: Found, span: timedelta) -> timedelta:
    """What the next query by routes covers, by the rows of one that was whole."""
    busiest = max(Counter(row.get(BY_MINUTE) for row in found.rows).values(), default=1)
    fitting = int(_FILLED * MOST_ROWS / busiest)
    return max(min(fitting, _WIDENED * math.ceil(span / MINUTE)), 1) * MINUTE


def _counted_routes(log: AccessLog, rows: Mapping[datetime, Counts], number: int) -> str:
    without = sum(counts.without_route for counts in rows.values())
    said = f"{number:,} routes are counted from {log.group}."
    if without:
        said += f" {without:,} lines have no route, so they count only for the whole stage."
    return said


def _smallest_margin(signals: Sequence[Signal]) -> float:
    """Of the signals of the whole stage, if there are any."""
    margins = [each.margin for each in signals if each.route is None]
    return min(margins or [each.margin for each in signals], default=0.0)


def _of_signals(  # noqa: PLR0917 - what was read, once
    log: AccessLog,
    signals: Sequence[Signal],
    counted: Sequence[Counted],
    arms: Mapping[datetime, ByArm],
    missing: Mapping[datetime, int],
    start: datetime,
) -> tuple[dict[str, tuple[Minute, ...]], list[str]]:
    """The minutes of each signal, and why the counts are not trusted.

    A signal of a route without any line has no minutes, and one with some has those alone in which
    the route had requests: in the others nothing is known of it.
    """
    since = start + HISTORY  # before it no request was this canary's
    own = {at: each for at, each in arms.items() if at >= since}
    suspect = _unassigned(log, own, _smallest_margin(signals))
    reasons = [suspect]
    margins = {each.name: each.margin for each in signals if each.critical}
    minutes: dict[str, tuple[Minute, ...]] = {}
    for index, each in enumerate(counted):
        reason = suspect
        if each.route is not None and each.signal in margins:
            of_route = _OfRoute(each.route, index, margins[each.signal])
            reason = reason or _unassigned(log, own, of_route.margin, of_route)
            reasons += [reason, _unlogged(log, own, missing, of_route)]
        found = [
            minute_of(at, by_arm, index, to_canary=reason is None and at >= since)
            for at, by_arm in sorted(arms.items())
        ]
        if each.route is None:
            minutes[each.signal] = with_missing(found, missing)
        elif found := [row for row in found if row.baseline_requests or row.canary_requests]:
            minutes[each.signal] = tuple(found)
    return minutes, [reason for reason in reasons if reason is not None]


def _unassigned(
    log: AccessLog,
    rows: Mapping[datetime, ByArm],
    margin: float,
    of_route: _OfRoute | None = None,
) -> str | None:
    """Why the counts are not trusted: lines that do not show whether they are the canary's.

    They are too many where they would raise the canary's rate by half of the margin if all were
    failures of its own, in the latest minutes or in all. Then nothing is promoted, and they are not
    counted among the canary's requests: of a small canary they would seem to be so large a part
    that a healthy one would be rolled back as unobserved. With `of_route` it is about the lines
    that are that route's, or may be.
    """
    index, of = None, ""
    if of_route is not None:
        index, of = of_route.place, f" of {of_route.route}"
    latest = sorted(
        at for at, arms in rows.items() if of_canary(arms, index) or without_variant(arms, index)
    )
    for times in (latest[-RECENT:], latest):
        unknown = sum(without_variant(rows[at], index) for at in times)
        canary = sum(of_canary(rows[at], index) for at in times)
        if unknown > margin / 2 * (canary + unknown):
            return (
                f"{unknown:,} lines of {log.group} since {moment(times[0])} do not show whether "
                f"they are the canary's, which has {canary:,} lines{of}; correct the format of the "
                "access logs"
            )
    return None


def _unlogged(
    log: AccessLog,
    rows: Mapping[datetime, ByArm],
    missing: Mapping[datetime, int],
    of_route: _OfRoute,
) -> str | None:
    """Why the counts of a route are not trusted: each request without a line may be one of its own.

    More than one is missing, and if all of them were failures of the route, they would raise the
    canary's rate there by half of the signal's margin. They are not taken for requests of the
    route: most are not, and a healthy canary would be rolled back as unobserved.
    """
    lacking = sum(missing.values())
    canary = sum(of_canary(arms, of_route.place) for arms in rows.values())
    if lacking <= max(1.0, of_route.margin / 2 * (canary + lacking)):
        return None
    return (
        f"{lacking:,} requests of the canary have no line in {log.group}, and each of them may be "
        f"one of {of_route.route}, of which the canary has {canary:,} lines; wait for the missing "
        "lines, or give the signal a wider margin"
    )
