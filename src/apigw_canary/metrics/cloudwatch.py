"""CloudWatch: minutes of both variants from the metrics that API Gateway publishes."""

import re
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, get_args

from apigw_canary.aws import ApiGateway, Calls, Session, api_names, stage_names
from apigw_canary.errors import AccessDeniedError, NotFoundError
from apigw_canary.judge import (
    ERRORS_4XX,
    ERRORS_5XX,
    MINUTE,
    Measurements,
    Minute,
    Overlap,
    Signal,
    Totals,
    ceil_minute,
    overlap,
)
from apigw_canary.metrics import comparison
from apigw_canary.metrics.comparison import nothing, window
from apigw_canary.metrics.latency import Latencies, Shares
from apigw_canary.metrics.ratio import CloudWatchRatio, ratios_of
from apigw_canary.metrics.routes import (
    ByRoute,
    Routes,
    check_routes,
    dimensions_of,
    without_data,
)
from apigw_canary.metrics.source import (
    KEPT,
    NAMESPACE,
    SETTLED,
    Arms,
    AwsSource,
    Query,
    Series,
    counted,
    fetched,
    joined,
    joined_shares,
)
from apigw_canary.model import Comparison, StageState
from apigw_canary.values import moment, validation

_NO_REQUESTS = (
    "CloudWatch has no requests of {}: correct the {}, or turn on detailed metrics for the stage "
    "if they are off"
)

_EVERY = timedelta(minutes=5)
"""How often it is asked again: a new series is listed within 15 minutes."""


class Published(NamedTuple):
    """What API Gateway returns about an API, asked once."""

    api_name: str
    """The value of the dimension `ApiName`."""
    stages: tuple[str, ...]
    """All stages whose requests the API's total counts; empty where that is not known."""
    notes: tuple[str, ...] = ()
    suspect: str | None = None


def published_as(name: str, rest_api_id: str) -> str:
    """The value of `ApiName`: the name without what is not ASCII, or the id if nothing is left.

    "Amazon API Gateway dimensions and metrics", API Gateway Developer Guide.
    """
    kept = "".join(character for character in name if character.isascii())
    return kept if kept.strip() else rest_api_id


def published(calls: Calls, stage: StageState, stated: str | None) -> Published:
    """GetRestApis and GetStages; of further APIs of the same name GetStages each.

    Without permission for either the rest is found out all the same, and a note names what is not.
    A `stated` name is one that the caller gives as the right one.
    """
    if stated is not None:
        return _with_stages(calls, stage, Published(published_as(stated, stage.rest_api_id), ()))
    names: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    try:
        names = api_names(calls)
    except AccessDeniedError as error:
        notes = (f"that no other API has the same name could not be checked: {error}",)
    own = names.pop(stage.rest_api_id, None)
    if own is None:
        own = ApiGateway(calls, stage.rest_api_id, stage.name).api_name()
    found = Published(published_as(own, stage.rest_api_id), (), notes)
    same = [id_ for id_, name in names.items() if published_as(name, id_) == found.api_name]
    if not same:
        return _with_stages(calls, stage, found)
    others = f"the API has the same name, {found.api_name!r}, as {', '.join(sorted(same))}"
    twins, unread = _twins(calls, sorted(same), stage.name)
    if not twins:
        return found._replace(notes=(*notes, f"{others}, which have no stage {stage.name}"))
    counts, remedy = (
        ("may count", "allow GetStages of the other APIs, ") if unread else ("counts", "")
    )
    return found._replace(
        notes=(*notes, *unread),
        suspect=f"{others}, and CloudWatch {counts} the stages {stage.name} of "
        f"{stage.rest_api_id}, {', '.join(twins)} as one; {remedy}rename one of them, "
        "read access logs, or, if its counts are right, state the name: "
        f"CloudWatchMetrics(api_name={found.api_name!r})",
    )


def _with_stages(calls: Calls, stage: StageState, found: Published) -> Published:
    try:
        return found._replace(stages=stage_names(calls, stage.rest_api_id))
    except (AccessDeniedError, NotFoundError) as error:  # not found: by a session of its own
        note = f"the API's total cannot be compared with its stages, which were not found: {error}"
        return found._replace(notes=(*found.notes, note))


def _twins(
    calls: Calls, rest_api_ids: Sequence[str], stage: str
) -> tuple[Sequence[str], Sequence[str]]:
    """Those of the APIs that may have such a stage, and what is not known about them."""
    twins: list[str] = []
    unread: list[str] = []
    for rest_api_id in rest_api_ids:
        try:
            may_have = stage in stage_names(calls, rest_api_id)
        except NotFoundError:
            may_have = False  # deleted a moment ago
        except AccessDeniedError as error:
            may_have = True
            unread.append(f"which stages {rest_api_id} has could not be read: {error}")
        if may_have:
            twins.append(rest_api_id)
    return twins, unread


class Listing:
    """Searches a canary's series that has no data."""

    def __init__(self, calls: Calls, api_name: str, wanted: str) -> None:
        self._calls = calls
        self._api_name = api_name
        self._wanted = wanted
        self._asked: datetime | None = None
        self._note = ""

    def note(self, at: datetime) -> str:
        """What is known of the series at that time: one ListMetrics every five minutes."""
        if self._asked is None or not self._asked <= at < self._asked + _EVERY:
            try:
                known = self._known()
            except AccessDeniedError as error:
                self._note = f"whether CloudWatch has a series {self._wanted} is not known: {error}"
            else:
                self._note = self._compared(known)
            self._asked = at
        return self._note

    def _compared(self, known: set[str]) -> str:
        if self._wanted in known:
            return f"the series {self._wanted} exists, without requests"
        others = ", ".join(sorted(known)) or "none"
        return (
            f"the series {self._wanted} is missing: of {self._api_name!r} CloudWatch knows {others}"
            " (a new one can take 15 minutes to be listed); CloudWatchMetrics(canary_stage=…) "
            "states where the canary's requests are"
        )

    def _known(self) -> set[str]:
        request: dict[str, Any] = {
            "Namespace": NAMESPACE,
            "MetricName": "Count",
            "Dimensions": [{"Name": "ApiName", "Value": self._api_name}],
        }
        known: set[str] = set()
        for answer in self._calls.pages("cloudwatch", "ListMetrics", "NextToken", **request):
            for metric in answer["Metrics"]:
                dimensions = {each["Name"]: each["Value"] for each in metric["Dimensions"]}
                if dimensions.keys() == {"ApiName", "Stage"}:
                    known.add(dimensions["Stage"])
        return known


ERRORS = {ERRORS_5XX: "5XXError", ERRORS_4XX: "4XXError"}
"""Signals that have a metric of their own."""

ENOUGH = 2_000
"""Requests without one datapoint of an error metric from which that is missing data. API Gateway
publishes a 0 for each good request ("Amazon API Gateway dimensions and metrics": the average is the
rate), so one would do; so many are no coincidence of a few that are late."""


class _Asked(NamedTuple):
    """What one observation asks CloudWatch for, in [start, end)."""

    start: datetime
    end: datetime
    errors: Sequence[str]
    """The signals that are metrics of errors."""
    limits: Mapping[str, float]
    """Milliseconds by signal name."""
    ratios: Mapping[str, str]
    """The signals that are ratios, by what the ids of their queries begin with."""
    of_routes: Mapping[str, Signal]
    """The signals of single routes, by the same."""
    notes: Sequence[str]
    not_observed: Mapping[str, str]
    """Signal name to why it cannot be read."""


class Reader:
    """Reads the metrics of one stage, and remembers what was found out about them."""

    def __init__(
        self,
        calls: Calls,
        known: Published,
        canary_stage: str,
        stage: str,
        *,
        routes: bool | Sequence[str],
        ratios: Mapping[str, CloudWatchRatio],
    ) -> None:
        self._calls = calls
        self._known = known
        api = ("ApiName", known.api_name)
        self._api = (api,)
        arms = {
            name: {
                "baseline": (api, ("Stage", name)),
                "canary": (api, ("Stage", canary_stage.format(stage=name))),
            }
            for name in sorted({stage, *known.stages})
        }
        self._own = arms.pop(stage)
        self._others = list(arms.values())
        self._latencies = Latencies(calls, self._own)
        self._ratios = ratios
        self._listing = Listing(calls, known.api_name, canary_stage.format(stage=stage))
        self._only = None if isinstance(routes, bool) else routes
        self._routes = Routes(calls, known.api_name, stage, self._only) if routes else None
        self._found = overlap.Found()
        # A look depends on what the one before it found out; looks at other stages do not wait.
        self._lock = threading.Lock()

    @property
    def is_suspect(self) -> bool:
        """Whether the name was not the API's alone when it was read."""
        return self._known.suspect is not None

    def read(
        self,
        stage: StageState,
        signals: Sequence[Signal],
        start: datetime,
        end: datetime,
        stated: Overlap,
    ) -> Measurements:
        """The minutes of each signal in [start, end), and how they are to be read."""
        with self._lock:
            asked = self._ask(signals, start, end)
            return self._measurements(stage, asked, self._answers(stage, asked), stated)

    def _ask(self, signals: Sequence[Signal], start: datetime, end: datetime) -> _Asked:
        """What to ask for; the baseline's latencies are read where they set a limit."""
        kept_from = ceil_minute(end - KEPT)
        limits, notes, not_observed = self._latencies.limits(
            [s for s in signals if s.is_latency], start, kept_from
        )
        if start < kept_from:
            notes.append(
                f"CloudWatch no longer keeps the minutes before {moment(kept_from)}: left out"
            )
        ratios = [s.name for s in signals if s.name in self._ratios]
        of_routes = [s for s in signals if s.route is not None]
        return _Asked(
            max(start, kept_from),
            end,
            errors=[s.name for s in signals if s.name in ERRORS],
            limits=limits,
            ratios={f"ratio{i}": name for i, name in enumerate(ratios)},
            of_routes={f"own{i}": signal for i, signal in enumerate(of_routes)},
            notes=notes,
            not_observed=not_observed,
        )

    def _answers(self, stage: StageState, asked: _Asked) -> dict[str, Series]:
        """What CloudWatch answers: one GetMetricData, as far as one takes all series."""
        queries = self._queries(asked.errors)
        for key, name in asked.ratios.items():
            queries += self._ratios[name].queries(key, stage)
        for key, signal in asked.of_routes.items():
            queries += self._queries_of_route(key, signal)
        return self._latencies.answered(
            [*queries, *self._totals_queries()], asked.limits, asked.start, asked.end
        )

    def _measurements(
        self, stage: StageState, asked: _Asked, series: Mapping[str, Series], stated: Overlap
    ) -> Measurements:
        """The answers as minutes, and how they are to be read."""
        minutes, shares = self._minutes(series, asked.errors, asked.limits, asked.end)
        settled = [
            row
            for row in counted(_arms(series, "requests"))
            if row.at + MINUTE <= asked.end - SETTLED
        ]
        self._find_signs(stage, settled, {name: minutes[name] for name in asked.errors}, series)
        no_data = [self._listing.note(asked.end)] if _lacks_data(stage, settled) else []
        routes, read = self._of_routes(asked)
        by_route = _minutes_by_route(asked.of_routes, series, asked.end)
        interpretation, how = self._found.read(stated)
        measured = Measurements(
            {**minutes, **{name: rows for name, rows in by_route.items() if rows}},
            overlap=interpretation,
            notes=[*self._known.notes, *asked.notes, *shares.notes, *no_data, *read, how],
            suspect=self._suspect(stated, settled, asked.errors, series),
            routes=routes,
            not_observed={
                **asked.not_observed,
                **_routes_without_requests(asked.of_routes, by_route),
                **without_data(self._only, routes, _NO_REQUESTS.format("it", "list")),
                **shares.not_observed,
            },
        )
        return measured.merged_with(
            {
                name: self._ratios[name].minutes(key, series, asked.end)
                for key, name in asked.ratios.items()
            }
        )

    def _queries(self, errors: Sequence[str]) -> list[Query]:
        """Requests and errors of both variants."""
        return [
            Query(f"{arm}_{name}", metric, statistic, dimensions)
            for arm, dimensions in self._own.items()
            for name, metric, statistic in (
                ("requests", "Count", "SampleCount"),
                *((name, ERRORS[name], "Sum") for name in errors),
            )
        ]

    def _queries_of_route(self, key: str, signal: Signal) -> list[Query]:
        """Requests and errors of the route that a signal is about, of both variants."""
        route = dimensions_of(str(signal.route))
        return [
            Query(f"{arm}_{key}_{name}", metric, statistic, (*dimensions, *route))
            for arm, dimensions in self._own.items()
            for name, metric, statistic in (
                ("requests", "Count", "SampleCount"),
                ("bad", ERRORS[signal.counted], "Sum"),
            )
        ]

    def compare(self, stage: StageState, window: comparison.Window, stated: Overlap) -> Comparison:
        """Both variants side by side: one GetMetricData."""
        with self._lock:
            names = comparison.API_GATEWAY
            asked = [*comparison.queries(self._own, names, window), *self._totals_queries()]
            series = fetched(self._calls, asked, window.start, window.end)
            settled = counted(_arms(series, "requests"))
            errors = comparison.errors_of(series, names, window.end)
            self._find_signs(stage, settled, errors, series)
            without_data = _lacks_data(stage, settled)
            said = [self._listing.note(window.end)] if without_data else []
            reading, how = self._found.read(stated)
            return comparison.compared(
                stage,
                series,
                names,
                window._replace(notes=(*self._known.notes, *window.notes, how, *said)),
                overlap=reading,
                without_data=without_data,
                suspect=self._suspect(stated, settled, [*names.errors], series),
            )

    def _suspect(
        self,
        stated: Overlap,
        settled: Sequence[Minute],
        errors: Sequence[str],
        series: Mapping[str, Series],
    ) -> str | None:
        """Why the counts are not trusted."""
        if contrary := self._found.contrary(stated):
            return f"overlap={stated!r} was stated, but {contrary}; correct it or leave it out"
        return self._known.suspect or _without_errors(settled, errors, series)

    def _minutes(
        self,
        series: Mapping[str, Series],
        errors: Sequence[str],
        limits: Mapping[str, float],
        end: datetime,
    ) -> tuple[dict[str, tuple[Minute, ...]], Shares]:
        """The minutes of each signal, and how those of latency were read."""
        requests = _arms(series, "requests")
        minutes = {name: tuple(joined(requests, _arms(series, name), end)) for name in errors}
        shares = self._latencies.shares(limits, series, end)
        for name, arms in shares.of.items():
            minutes[name] = tuple(joined_shares(requests, arms, end))
        return minutes, shares

    def _of_routes(self, asked: _Asked) -> tuple[ByRoute | None, list[str]]:
        """The minutes of each route, where they are asked for, and what was read."""
        if self._routes is None:
            return None, []
        ranked = asked.limits if self._latencies.is_ranked else {}
        routes, read = self._routes.read(
            [*self._queries(asked.errors), *self._latencies.queries(ranked)],
            asked.start,
            asked.end,
            lambda series: self._minutes(series, asked.errors, ranked, asked.end)[0],
        )
        return routes, [read]

    def _totals_queries(self) -> list[Query]:
        """The requests of the whole API and of its other stages, until the overlap is known."""
        if self._found or not self._known.stages:
            return []
        arms = {"api": self._api} | {
            f"{arm}_{i}": dimensions
            for i, arms in enumerate(self._others)
            for arm, dimensions in arms.items()
        }
        return [
            Query(f"{name}_requests", "Count", "SampleCount", dimensions)
            for name, dimensions in arms.items()
        ]

    def _find_signs(
        self,
        stage: StageState,
        settled: Sequence[Minute],
        errors: Mapping[str, Sequence[Minute]],
        series: Mapping[str, Series],
    ) -> None:
        # A variant with errors and without requests has lost its count: it tells nothing.
        lost = {
            at
            for name in errors
            for count, bad in zip(_arms(series, "requests"), _arms(series, name), strict=True)
            for at in bad.keys() - count.keys()
        }
        settled = [row for row in settled if row.at not in lost]
        times = {row.at for row in settled}
        known = (
            row
            for minutes in errors.values()
            for row in minutes
            if row.at in times and not (row.baseline_unknown or row.canary_unknown)
        )
        rows = [*settled, *known]
        percent = stage.canary.percent if stage.canary else 0.0
        signs = (
            overlap.by_totals(_totals(series, len(self._others), times)),
            overlap.by_excess(rows, _step_from(stage) if percent == 100 else None),
            overlap.by_all(_of_step(stage, settled), percent),
            overlap.by_share(_of_step(stage, settled), percent),
        )
        self._found.add(signs)


def _routes_without_requests(
    of_routes: Mapping[str, Signal], by_route: Mapping[str, Sequence[Minute]]
) -> dict[str, str]:
    """The signals of a single route of which there is no minute, each with why."""
    return {
        signal.name: _NO_REQUESTS.format(signal.route, "route")
        for signal in of_routes.values()
        if not by_route[signal.name]
    }


def _minutes_by_route(
    of_routes: Mapping[str, Signal], series: Mapping[str, Series], end: datetime
) -> dict[str, tuple[Minute, ...]]:
    """The minutes of each signal of a single route, none where CloudWatch has no requests of it."""
    return {
        signal.name: tuple(
            joined(_arms(series, f"{key}_requests"), _arms(series, f"{key}_bad"), end)
        )
        for key, signal in of_routes.items()
    }


def _arms(series: Mapping[str, Series], name: str) -> Arms:
    return Arms(series[f"baseline_{name}"], series[f"canary_{name}"])


def _without_errors(
    settled: Sequence[Minute], errors: Iterable[str], series: Mapping[str, Series]
) -> str | None:
    """Why the counts are not trusted: requests, and not one datapoint of their errors."""
    requests = sum(row.baseline_requests + row.canary_requests for row in settled)
    missing = [ERRORS[name] for name in errors if not any(_arms(series, name))]
    if requests < ENOUGH or not missing:
        return None
    return (
        f"CloudWatch has no datapoint of {' and '.join(missing)}, of neither variant, for "
        f"{requests:,.0f} requests since {moment(settled[0].at)}, although API Gateway publishes "
        "one for each request; find out why CloudWatch lacks it, or read access logs"
    )


def _totals(
    series: Mapping[str, Series], others: int, times: Collection[datetime]
) -> Iterator[Totals]:
    """The minutes of which the API's total is known, where it was asked for."""
    stages, canaries = (
        [f"{arm}_requests", *(f"{arm}_{i}_requests" for i in range(others))]
        for arm in ("baseline", "canary")
    )
    for at, api in series.get("api_requests", {}).items():
        if at in times:
            yield Totals(
                at,
                api,
                sum(series[name].get(at, 0.0) for name in stages),
                sum(series[name].get(at, 0.0) for name in canaries),
            )


def _of_step(stage: StageState, rows: Sequence[Minute]) -> list[Minute]:
    """The minutes in which the canary has the percent it has now."""
    first = _step_from(stage)
    return [row for row in rows if row.at >= first]


def _step_from(stage: StageState) -> datetime:
    """The first minute in which the canary certainly has the percent it has now."""
    return ceil_minute(stage.updated_at + MINUTE)


def _lacks_data(stage: StageState, settled: Sequence[Minute]) -> bool:
    """Whether a canary that should have requests has none, and not by chance."""
    rows = _of_step(stage, settled)
    if stage.canary is None or any(row.canary_requests for row in rows):
        return False
    busy = sum(row.baseline_requests for row in rows)
    return overlap.lacks_data(busy, stage.canary.percent / 100)


class CloudWatchMetrics(AwsSource):
    """Read requests, errors and latency of both variants from `AWS/ApiGateway`, and your own
    metrics.

    `canary_stage` is the value of the dimension `Stage` under which CloudWatch has the canary's
    requests. `{stage}` in it stands for the stage's name. AWS does not document this value.

    `overlap` states whether the stage's series also count the canary's requests: "included",
    "excluded" or "unknown". AWS does not document it. With "unknown" it is inferred from the data;
    until then both interpretations are evaluated. If the data contradict the `overlap` that you
    stated, the metrics are suspect.

    `api_name` is the name of the API under which the metrics are published. None reads it from API
    Gateway once, and checks whether another API has the same name.

    `routes` also measures routes, such as "GET /orders/{id}": a list of them, or True for all that
    had requests in the last three hours. The stage needs detailed metrics for this. AWS bills each
    metric at each observation; the notes state the cost. A `Signal` of one route needs detailed
    metrics but not `routes`.

    `ratios` maps signal names to metrics of your own, each a `CloudWatchRatio`, which are read in
    the same calls.

    `session` is a boto3 session; None uses the stage's.
    """

    def __init__(
        self,
        *,
        canary_stage: str = "{stage}/Canary",
        overlap: Overlap = "unknown",
        api_name: str | None = None,
        routes: bool | Sequence[str] = False,
        ratios: Mapping[str, CloudWatchRatio] | None = None,
        session: Session | None = None,
    ) -> None:
        super().__init__(session)
        if not re.fullmatch(r"[^{}]*\{stage\}[^{}]*", canary_stage):
            validation.refuse("canary_stage", "a text that contains {stage} once", canary_stage)
        validation.choice(overlap, "overlap", get_args(Overlap))
        self._ratios = ratios_of(ratios, reserved=ERRORS)
        self._overlap: Overlap = overlap
        self._canary_stage = canary_stage
        self._api_name = api_name
        self._routes = check_routes(routes=routes)

    def _forget(self) -> None:
        self._readers: dict[tuple[str, str], Reader] = {}

    def minutes(
        self, stage: StageState, signals: Sequence[Signal], start: datetime, end: datetime
    ) -> Measurements:
        """Read the minutes of each signal in [start, end).

        It makes one GetMetricData for each 500 series and 100,800 datapoints. The first time it
        also makes GetRestApis, GetStages, and another GetMetricData if a latency limit is a
        quantile of the baseline, which is taken from the first hour of the window. Minutes more
        than 15 days before the end are left out with a note, because CloudWatch does not keep them.

        Raises `MetricsError` if CloudWatch returns partial results, and `InvalidInputError` for a
        signal that this source does not measure.
        """
        start, end = validation.aware(start, "start"), validation.aware(end, "end")
        known = [*ERRORS, *self._ratios]
        for signal in signals:
            if signal.route is not None and signal.counted not in ERRORS:
                expected = f"{' or '.join(ERRORS)} where they are of one route"
                validation.refuse("signals", expected, signal.name)
            if signal.counted not in known and not signal.is_latency:
                expected = f"{', '.join(known)} or latency, or be named in ratios"
                validation.refuse("signals", expected, signal.name)
        return self._reader(stage).read(stage, signals, start, end, self._overlap)

    def compare(
        self, stage: StageState, start: datetime, end: datetime, *, at: datetime
    ) -> Comparison:
        """Compare both variants in the minutes of [start, end) that are complete at the time `at`.

        It makes one GetMetricData, and the first time also the other calls of `minutes`. It raises
        the same errors.
        """
        asked = window(start, end, at)
        if asked.start == asked.end:
            return nothing(stage, asked)
        return self._reader(stage).compare(stage, asked, self._overlap)

    def _reader(self, stage: StageState) -> Reader:
        key = (stage.rest_api_id, stage.name)
        reader = self._readers.get(key)
        if reader is None or reader.is_suspect:  # what is suspect may have been corrected
            calls = self._own_calls()
            self._readers[key] = reader = Reader(
                calls,
                published(calls, stage, self._api_name),
                self._canary_stage,
                stage.name,
                routes=self._routes,
                ratios=self._ratios,
            )
        return reader
