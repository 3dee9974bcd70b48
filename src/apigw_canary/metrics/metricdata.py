"""GetMetricData: what is asked, in how many calls, and series from the answers."""

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from apigw_canary.aws.calls import Calls
from apigw_canary.errors import MetricsError
from apigw_canary.values import validation

NAMESPACE = "AWS/ApiGateway"
PERIOD = timedelta(minutes=1)
"""The services publish by the minute."""

KEPT = timedelta(days=15)
"""How long CloudWatch keeps data of one-minute periods."""

_MOST_QUERIES = 500
_MOST_DATAPOINTS = 100_800
"""What one GetMetricData takes and gives ("GetMetricData", CloudWatch API reference)."""

Series = Mapping[datetime, float]
Dimensions = tuple[tuple[str, str], ...]
"""Names and values, such as `(("ApiName", "orders"), ("Stage", "prod"))`."""


class Query(NamedTuple):
    """One statistic of one series, by the minute unless it has another period."""

    id: str
    """Letters, digits and `_`, the first a small letter; of its own among those asked together."""
    metric: str
    statistic: str
    dimensions: Dimensions
    namespace: str = NAMESPACE
    period: timedelta = PERIOD
    """A whole number of minutes."""


def fetched(
    calls: Calls, queries: Sequence[Query], start: datetime, end: datetime
) -> dict[str, Series]:
    """The series of each query in [start, end), by its id, in as few calls as CloudWatch allows.

    Raises `MetricsError` for half an answer: what is missing in it would look like no errors.
    """
    series: dict[str, Series] = {}
    for planned in plan(queries, start, end):
        series.update(_answered(calls, planned, start, end))
    return series


def plan(queries: Sequence[Query], start: datetime, end: datetime) -> list[Sequence[Query]]:
    """The queries of each call: no more of them than it takes, nor of the datapoints it gives."""
    minutes = max(math.ceil((end - start) / PERIOD), 1)
    most = max(min(_MOST_QUERIES, _MOST_DATAPOINTS // minutes), 1)
    return [queries[first : first + most] for first in range(0, len(queries), most)]


def _answered(
    calls: Calls, queries: Sequence[Query], start: datetime, end: datetime
) -> Mapping[str, Series]:
    request: dict[str, Any] = {
        "MetricDataQueries": [_as_sent(query) for query in queries],
        "StartTime": start,
        "EndTime": end,
        "ScanBy": "TimestampAscending",
    }
    series: dict[str, dict[datetime, float]] = {}
    for answer in calls.pages("cloudwatch", "GetMetricData", "NextToken", **request):
        for result in answer["MetricDataResults"]:
            _check_status(result, last=not answer.get("NextToken"))
            points = series.setdefault(result["Id"], {})
            for at, value in _points(result):
                if points.setdefault(at, value) != value:
                    raise _nonsense(result, f"{points[at]:g} and {value:g} for {at}")
    missing = [query.id for query in queries if query.id not in series]
    if missing:
        raise MetricsError(
            f"CloudWatch did not answer for {', '.join(missing)}.",
            remedy="Observe again in a minute.",
        )
    return series


def _as_sent(query: Query) -> dict[str, Any]:
    return {
        "Id": query.id,
        "MetricStat": {
            "Metric": {
                "Namespace": query.namespace,
                "MetricName": query.metric,
                "Dimensions": [{"Name": name, "Value": value} for name, value in query.dimensions],
            },
            "Period": int(query.period.total_seconds()),
            "Stat": query.statistic,
        },
    }


def _points(result: Mapping[str, Any]) -> Iterator[tuple[datetime, float]]:
    times, values = result["Timestamps"], result["Values"]
    if len(times) != len(values):
        raise _nonsense(result, f"{len(times)} times and {len(values)} values")
    for at, value in zip(times, values, strict=True):
        if not 0 <= value < math.inf or at.timestamp() % PERIOD.total_seconds():
            raise _nonsense(result, f"{value} at {at}")
        yield validation.utc(at), value


def _nonsense(result: Mapping[str, Any], what: str) -> MetricsError:
    return MetricsError(
        f"CloudWatch's answer for {result['Id']} cannot be: {what}.",
        remedy="Check for a proxy or an endpoint that answers in AWS's place.",
    )


def _check_status(result: Mapping[str, Any], *, last: bool) -> None:
    status = result.get("StatusCode", "Complete")
    if status != "Complete" and (last or status != "PartialData"):
        texts = "; ".join(message["Value"] for message in result.get("Messages", []))
        raise MetricsError(
            f"CloudWatch answered {status} for {result['Id']}{': ' if texts else ''}{texts}.",
            remedy="Observe again in a minute.",
        )
