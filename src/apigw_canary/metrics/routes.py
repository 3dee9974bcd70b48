"""The metrics of each route, a method of a resource, where detailed metrics are on."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from apigw_canary.aws import Calls
from apigw_canary.errors import AccessDeniedError
from apigw_canary.judge import ROUTE, Minute
from apigw_canary.metrics.source import NAMESPACE, Dimensions, Query, Series, fetched
from apigw_canary.values import validation

READ_AGAIN = timedelta(minutes=15)
"""How much of what was read is read again at the next observation: values converge for minutes."""

USD_PER_METRIC = 0.01 / 1000
"""What GetMetricData costs for each metric asked for ("Amazon CloudWatch pricing", most regions,
November 2026)."""

_ACTIVE = "PT3H"
"""ListMetrics knows this span only: metrics that had data within the last three hours."""

_SETTLED = {"PR": 100.0}
"""What a statistic of bad requests is where none was bad, by how it begins; 0 for the others."""

ByRoute = Mapping[str, Mapping[str, tuple[Minute, ...]]]
MinutesOf = Callable[[Mapping[str, Series]], Mapping[str, tuple[Minute, ...]]]


class Routes:
    """Reads what the stage is read by, for each of its routes.

    Routes are those with requests when they are first searched. In a process that stays, each
    observation reads the newest minutes only.
    """

    def __init__(self, calls: Calls, api_name: str, stage: str, only: Sequence[str] | None) -> None:
        self._calls = calls
        self._dimensions = (("ApiName", api_name), ("Stage", stage))
        self._only = only
        self._known: list[str] | None = None
        self._asked: Sequence[Query] = ()
        self._start: datetime | None = None
        self._until: datetime | None = None
        self._series: dict[str, dict[datetime, float]] = {}

    def read(
        self, queries: Sequence[Query], start: datetime, end: datetime, minutes_of: MinutesOf
    ) -> tuple[ByRoute | None, str]:
        """The minutes of each route, and a sentence on what was read; None where they are unknown.

        `queries` are the stage's, `minutes_of` what makes minutes of their series. A route whose
        canary had no bad request is given by one minute of its baseline: more would add nothing.
        """
        if self._known is None or not set(self._only or ()) <= set(self._known):
            try:
                self._known = self._listed()
            except AccessDeniedError as error:
                return None, f"which routes there are is not known: {error}"
        if not self._known:
            which = "route" if self._only is None else "route of the list"
            return None, f"no {which} has metrics: turn on detailed metrics for the stage"
        asked = [_of(route, i, query) for i, route in enumerate(self._known) for query in queries]
        self._fetch(asked, start, end)
        routes = {}
        for i, route in enumerate(self._known):
            series = {query.id: self._series[_of(route, i, query).id] for query in queries}
            routes[route] = minutes_of(series if _has_bad(queries, series) else _first(series))
        cost = len(asked) * USD_PER_METRIC
        return routes, (
            f"{len(self._known)} routes: {len(asked):,} metrics are read at each observation, "
            f"which costs about {cost:.2g} USD"
        )

    def _fetch(self, asked: Sequence[Query], start: datetime, end: datetime) -> None:
        since = start
        if (start, asked) == (self._start, self._asked) and self._until and self._until <= end:
            since = max(start, self._until - READ_AGAIN)
        new = fetched(self._calls, asked, since, end)
        if since == start:
            self._series = {}
        for query in asked:
            kept = self._series.setdefault(query.id, {})
            for at in [at for at in kept if at >= since]:
                del kept[at]
            kept.update(new[query.id])
        self._asked, self._start, self._until = asked, start, end

    def _listed(self) -> list[str]:
        """The routes that CloudWatch has series of: a ListMetrics for each 500 of them."""
        request: dict[str, Any] = {
            "Namespace": NAMESPACE,
            "MetricName": "Count",
            "Dimensions": [
                *({"Name": name, "Value": value} for name, value in self._dimensions),
                {"Name": "Method"},
                {"Name": "Resource"},
            ],
            "RecentlyActive": _ACTIVE,
        }
        routes: set[str] = set()
        for answer in self._calls.pages("cloudwatch", "ListMetrics", "NextToken", **request):
            for metric in answer["Metrics"]:
                of = {each["Name"]: each["Value"] for each in metric["Dimensions"]}
                if {"Method", "Resource"} <= of.keys():
                    routes.add(f"{of['Method']} {of['Resource']}")
        return sorted(routes if self._only is None else routes & set(self._only))


def _of(route: str, number: int, query: Query) -> Query:
    return query._replace(
        id=f"{query.id}_route{number}", dimensions=(*query.dimensions, *dimensions_of(route))
    )


def dimensions_of(route: str) -> Dimensions:
    """What the series of a route have besides those of the stage."""
    method, _, resource = route.partition(" ")
    return ("Method", method), ("Resource", resource)


def check_routes(*, routes: bool | Sequence[str]) -> bool | tuple[str, ...]:
    """What a source is given as `routes`: True, False, or the routes that it measures."""
    if isinstance(routes, bool):
        return routes
    if isinstance(routes, str) or not all(re.fullmatch(ROUTE, route) for route in routes):
        validation.refuse("routes", 'True, False, or a list such as ["GET /orders/{id}"]', routes)
    return tuple(routes)


def without_data(only: Sequence[str] | None, routes: ByRoute | None, why: str) -> dict[str, str]:
    """The routes of a source's list that it has no data of, each with `why`."""
    return {route: why for route in only or () if route not in (routes or {})}


def _has_bad(queries: Sequence[Query], series: Mapping[str, Series]) -> bool:
    """Whether the canary had any bad request, of whatever kind."""
    return any(
        value != _SETTLED.get(query.statistic[:2], 0.0)
        for query in queries
        if query.id.startswith("canary_") and query.metric != "Count"
        for value in series[query.id].values()
    )


def _first(series: Mapping[str, Series]) -> Mapping[str, Series]:
    """The first minute of the baseline, which shows that there was one before the canary."""
    first = min(series["baseline_requests"], default=None)
    return {
        name: {at: value for at, value in points.items() if at == first}
        for name, points in series.items()
    }
