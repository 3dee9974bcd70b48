"""CloudWatch's view of the traffic: GetMetricData and ListMetrics of AWS/ApiGateway."""

from __future__ import annotations

import math
import operator
import re
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import accumulate, pairwise
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeAlias

from apigw_canary.testing.answers import Json, Refusal, RehearsalError, check_simulated, unknown
from apigw_canary.testing.traffic import MINUTE, Arm, Segment, Traffic

NAMESPACE = "AWS/ApiGateway"
LAG: Mapping[str, timedelta] = MappingProxyType(
    {
        "Count": timedelta(seconds=60),
        "4XXError": timedelta(seconds=120),
        "5XXError": timedelta(seconds=120),
        "Latency": timedelta(seconds=120),
        "IntegrationLatency": timedelta(seconds=120),
    }
)
"""How long after the end of a minute its datapoint appears; errors later than counts, as on AWS."""

_LISTED_AFTER = timedelta(minutes=15)  # ListMetrics may lag that long: the worst that is promised
_OVERHEAD_MS = 3.0  # what API Gateway itself adds to the integration's latency
_MOST_QUERIES = 500
_MOST_DATAPOINTS = 100_800

_Dimensions: TypeAlias = frozenset[tuple[str, str]]
_Bucket: TypeAlias = tuple[datetime, datetime]
"""Beginning and end of a period."""


class _Values(NamedTuple):
    """Published values: the distinct ones in order, and how many there are up to each."""

    values: list[float]
    up_to: list[int]

    def total(self) -> float:
        """The sum of all."""
        counts = (b - a for a, b in pairwise([0, *self.up_to]))
        return math.fsum(map(operator.mul, self.values, counts))

    def count(self, high: float = math.inf) -> int:
        """How many there are up to `high`."""
        i = bisect_right(self.values, high)
        return self.up_to[i - 1] if i else 0


_Statistic: TypeAlias = Callable[[_Values], float]

Buckets: TypeAlias = Literal["start", "clock"]
"""Where the periods of more than a minute begin: at StartTime, or at whole multiples of the period
since 1970, so that the first and the last one may hold minutes that were not asked for."""


class Published:
    """Metrics of one namespace, made from the traffic, as CloudWatch gives them out."""

    def __init__(
        self,
        traffic: Traffic,
        *,
        namespace: str,
        lag: Mapping[str, timedelta],
        series: Mapping[_Dimensions, tuple[Arm, ...]],
        ranks: bool = True,
        buckets: Buckets = "start",
        unpublished: Callable[[str, str, datetime], bool] | None = None,
    ) -> None:
        self._traffic = traffic
        self._buckets = buckets
        self._unpublished = unpublished
        self._ranks = ranks
        self._namespace = namespace
        self._lag = lag
        self._series = series
        self._computed = defaultdict[tuple[object, ...], dict[_Bucket, float]](dict)

    def answer(self, operation: str, parameters: Json, now: datetime) -> Json | None:
        """Answer for the namespace; None for anything else."""
        if operation == "ListMetrics" and parameters.get("Namespace") == self._namespace:
            return self._list_metrics(parameters, now)
        if operation == "GetMetricStatistics" and parameters["Namespace"] == self._namespace:
            raise RehearsalError("the rehearsal does not simulate GetMetricStatistics")
        if operation == "GetMetricData":
            namespaces = {
                query.get("MetricStat", {}).get("Metric", {}).get("Namespace")
                for query in parameters["MetricDataQueries"]
            }
            if namespaces == {self._namespace}:
                return self._get_metric_data(parameters, now)
            if self._namespace in namespaces:
                raise RehearsalError(
                    f"the rehearsal does not simulate {self._namespace} with another "
                    "namespace in one GetMetricData"
                )
        return None

    def _list_metrics(self, p: Json, now: datetime) -> Json:
        simulated = {"Namespace", "MetricName", "Dimensions"}
        if any(wanted["Name"] == "Method" for wanted in p.get("Dimensions", ())):
            if not any("Method" in dict(dimensions) for dimensions in self._series):
                return {"Metrics": []}  # detailed metrics are off
            simulated.add("RecentlyActive")  # all of them are, for as long as there is traffic
        check_simulated("ListMetrics", p, simulated)
        metrics = [
            {
                "Namespace": self._namespace,
                "MetricName": metric,
                "Dimensions": [
                    {"Name": name, "Value": value} for name, value in sorted(dimensions)
                ],
            }
            for dimensions, arms in self._series.items()
            for metric in self._lag
            if (first := self._traffic.first(arms, _stage_of(dimensions)))
            if first + MINUTE + _LISTED_AFTER <= now
            if p.get("MetricName", metric) == metric
            if all(
                any(
                    name == wanted["Name"] and value == wanted.get("Value", value)
                    for name, value in dimensions
                )
                for wanted in p.get("Dimensions", ())
            )
        ]
        return {"Metrics": metrics}

    def _get_metric_data(self, p: Json, now: datetime) -> Json:
        _check_request(p)
        skip = 0
        if "NextToken" in p:
            # As of the first page: datapoints that have appeared since must not shift the pages.
            as_of, _, skipped = p["NextToken"].partition("|")
            now, skip = datetime.fromisoformat(as_of), int(skipped)
        limit = p.get("MaxDatapoints", _MOST_DATAPOINTS)
        newest_first = p.get("ScanBy", "TimestampDescending") == "TimestampDescending"
        queries = [query for query in p["MetricDataQueries"] if query.get("ReturnData", True)]
        # A query without datapoints still has its place, and an empty result, in the pages.
        entries: list[tuple[Json, tuple[datetime, float] | None]] = []
        statistics: dict[object, set[str]] = {}
        periods = {
            period: self._periods(period, p)
            for period in {query["MetricStat"]["Period"] for query in queries}
        }
        for query in queries:
            statistics.setdefault(_of_one(query["MetricStat"]), set()).add(
                query["MetricStat"]["Stat"]
            )
        for query in queries:
            together = statistics[_of_one(query["MetricStat"])]
            buckets = periods[query["MetricStat"]["Period"]]
            points = self._datapoints(query["MetricStat"], together, buckets, now)[
                :: -1 if newest_first else 1
            ]
            entries += [(query, point) for point in points] or [(query, None)]
        page, rest = entries[skip : skip + limit], entries[skip + limit :]
        results: dict[str, Json] = {}
        for query, point in page:
            result = results.get(query["Id"])
            if result is None:
                result = results[query["Id"]] = _empty_result(query)
            if point:
                result["Timestamps"].append(point[0])
                result["Values"].append(point[1])
        answer: Json = {"MetricDataResults": list(results.values()), "Messages": []}
        if rest:
            answer["NextToken"] = f"{now.isoformat()}|{skip + limit}"
            results.get(rest[0][0]["Id"], {})["StatusCode"] = "PartialData"
        return answer

    def _datapoints(
        self, stat: Json, together: Iterable[str], buckets: Sequence[_Bucket], now: datetime
    ) -> list[tuple[datetime, float]]:
        """One statistic; those asked `together` with it are computed from the same values."""
        metric, dimensions = stat["Metric"]["MetricName"], _dimensions(stat)
        if metric not in self._lag:
            return []
        if stat["Stat"].startswith(("PR(", "TC(")) and not self._ranks:
            return []
        visible = _minute(now - self._lag[metric])
        points: list[tuple[datetime, float]] = []
        stage = dict(dimensions).get("Stage", "")
        computed = self._computed[stat["Stat"], metric, dimensions]
        for at, end in buckets:
            if at >= visible:
                break
            bucket = at, end if end < visible else visible  # noqa: FURB136 - min() takes longer
            # Minutes that are over do not change, and a rollout asks for them again every minute.
            if bucket not in computed:
                published = self._values(metric, dimensions, *bucket)
                for each in together:
                    of_each = self._computed[each, metric, dimensions]
                    of_each[bucket] = _statistic(each)(published)
            value = computed[bucket]
            left_out = self._unpublished is not None and self._unpublished(metric, stage, at)
            if not math.isnan(value) and not left_out:
                points.append((at, value))
        return points

    def _periods(self, seconds: int, p: Json) -> list[_Bucket]:
        """The periods that are asked for."""
        period = timedelta(seconds=seconds)
        at, end = _minute(p["StartTime"]), p["EndTime"].astimezone(UTC)
        if self._buckets == "clock":
            at -= timedelta(seconds=at.timestamp() % seconds)
        buckets = []
        while at < end:
            buckets.append((at, at + period))
            at += period
        return buckets

    def _values(
        self, metric: str, dimensions: _Dimensions, start: datetime, end: datetime
    ) -> _Values:
        """What was published in that time: one value per request."""
        counts = Counter[float]()
        while start < end:
            for segment in self._segments(dimensions, start):
                _publish(metric, segment, counts)
            start += MINUTE
        values = sorted([value for value, count in counts.items() if count])
        return _Values(values, list(accumulate(map(counts.__getitem__, values))))

    def _segments(self, dimensions: _Dimensions, minute: datetime) -> Iterable[Segment]:
        """What a series counts in a minute."""
        given, arms = dict(dimensions), self._series.get(dimensions, ())
        segments = self._traffic.segments(minute, arms, _stage_of(dimensions))
        if "Method" not in given:
            return segments
        method = f"{given['Method']} {given['Resource']}"
        return [segment for segment in segments if segment.method == method]


class Metrics(Published):
    """CloudWatch's metrics of the traffic of the API and its stages."""

    def __init__(
        self,
        traffic: Traffic,
        *,
        api_name: str,
        overlap: Literal["excluded", "included"],
        lag: Mapping[str, timedelta],
        latency_ranks: bool,
        buckets: Buckets = "start",
        unpublished: Callable[[str, str, datetime], bool] | None = None,
        detailed: bool = False,
    ) -> None:
        if unknown_lags := lag.keys() - LAG.keys():
            raise ValueError(
                f"lag must be for the metrics {', '.join(LAG)}, not {', '.join(unknown_lags)}"
            )
        both: tuple[Arm, ...] = ("baseline", "canary")
        published = "".join(character for character in api_name if character.isascii())
        if not published.strip():
            raise RehearsalError("the rehearsal does not publish metrics under an API's id")
        name = ("ApiName", published)
        own: tuple[Arm, ...] = both if overlap == "included" else ("baseline",)
        of_canary: tuple[Arm, ...] = ("canary",)
        by_stage: dict[_Dimensions, tuple[Arm, ...]] = {
            frozenset({name, ("Stage", f"{stage}{variant}")}): arms
            for stage in traffic.rates
            for variant, arms in (("", own), ("/Canary", of_canary))
        }
        by_method = {
            dimensions | {("Method", verb), ("Resource", path)}: arms
            for dimensions, arms in by_stage.items()
            for verb, _, path in (method.partition(" ") for method in traffic.routes)
            if detailed
        }
        super().__init__(
            traffic,
            namespace=NAMESPACE,
            lag={**LAG, **lag},
            series={frozenset({name}): both, **by_stage, **by_method},
            ranks=latency_ranks,
            buckets=buckets,
            unpublished=unpublished,
        )


def _publish(metric: str, segment: Segment, counts: Counter[float]) -> None:
    """Add the values of a segment, and how often each occurs."""
    requests = segment.served.requests
    match metric:
        case "Count" | "Invocations":
            counts[1.0] += requests
        case "4XXError":
            _publish_errors(segment.served.errors_4xx, requests, counts)
        case "5XXError" | "Errors":
            _publish_errors(segment.served.errors_5xx, requests, counts)
        case "Latency" | "Duration" | "IntegrationLatency":
            drawn = segment.drawn_latencies()
            if metric != "Latency":
                drawn = array("d", [max(0.0, ms - _OVERHEAD_MS) for ms in drawn])
            times, rest = divmod(requests, len(drawn))
            if times == 1:
                counts.update(drawn)  # as below, and faster
            else:
                counts.update({ms: times * number for ms, number in Counter(drawn).items()})
            counts.update(drawn[:rest])


def _publish_errors(errors: int, requests: int, counts: Counter[float]) -> None:
    counts.update({1.0: errors, 0.0: requests - errors})


def _check_request(p: Json) -> None:
    """Refuse what CloudWatch refuses, and what the rehearsal cannot answer."""
    request = frozenset(
        {"MetricDataQueries", "StartTime", "EndTime", "NextToken", "ScanBy", "MaxDatapoints"}
    )
    check_simulated("GetMetricData", p, request)
    queries, start, end = p["MetricDataQueries"], p["StartTime"], p["EndTime"]
    if len(queries) > _MOST_QUERIES:
        raise _invalid(
            f"The collection MetricDataQueries must not have a size greater than {_MOST_QUERIES}."
        )
    if len({query["Id"] for query in queries}) < len(queries):
        raise _invalid("The values for parameter id in MetricDataQueries are not unique.")
    if start >= end:
        raise _invalid("The parameter StartTime must be less than the parameter EndTime.")
    if not 1 <= p.get("MaxDatapoints", _MOST_DATAPOINTS) <= _MOST_DATAPOINTS:
        raise _invalid(f"The parameter MaxDatapoints must be between 1 and {_MOST_DATAPOINTS}.")
    for query in queries:
        if not re.fullmatch(r"[a-z][A-Za-z0-9_]*", query["Id"]):
            raise _invalid(
                f"The value {query['Id']} for parameter Id is not matching ^[a-z][a-zA-Z0-9_]*$."
            )
        check_simulated(
            "a metric query", query, frozenset({"Id", "MetricStat", "Label", "ReturnData"})
        )
        check_simulated("MetricStat", query["MetricStat"], frozenset({"Metric", "Period", "Stat"}))
        _statistic(query["MetricStat"]["Stat"])  # refused even if there is nothing to compute
        period = query["MetricStat"]["Period"]
        if period < 60 or period % 60:
            unknown(f"a period of {period} s for one-minute data")


def _invalid(message: str) -> Refusal:
    return Refusal("ValidationError", message)


def _empty_result(query: Json) -> Json:
    return {
        "Id": query["Id"],
        "Label": query.get("Label", query["MetricStat"]["Metric"]["MetricName"]),
        "Timestamps": [],
        "Values": [],
        "StatusCode": "Complete",
        "Messages": [],
    }


def _dimensions(stat: Json) -> _Dimensions:
    return frozenset(
        (dimension["Name"], dimension["Value"])
        for dimension in stat["Metric"].get("Dimensions", ())
    )


def _stage_of(dimensions: _Dimensions) -> str | None:
    """The stage that a series is of; None where it is of them all."""
    return dict(dimensions).get("Stage", "").partition("/")[0] or None


def _of_one(stat: Json) -> tuple[object, ...]:
    """What the statistics of one series in one period have in common."""
    return stat["Metric"]["MetricName"], _dimensions(stat), stat["Period"]


def _minute(time: datetime) -> datetime:
    return time.astimezone(UTC).replace(second=0, microsecond=0)


@lru_cache
def _statistic(name: str) -> _Statistic:
    """A statistic of values; of none it is NaN, as there is no datapoint."""
    number = r"(\d+(?:\.\d+)?)"
    if name in _SIMPLE:
        return lambda given: _SIMPLE[name](given) if given.values else math.nan
    if (percentile := re.fullmatch(f"p{number}", name)) and float(percentile[1]) <= 100:
        share = float(percentile[1]) / 100
        # Nearest rank: the smallest value that at least that share of values does not exceed.
        return lambda given: (
            given.values[bisect_left(given.up_to, math.ceil(share * given.count()))]
            if given.values
            else math.nan
        )
    if bounds := re.fullmatch(rf"(PR|TC)\((?!:\)){number}?:{number}?\)", name):
        kind, low, high = bounds[1], float(bounds[2] or "-inf"), float(bounds[3] or "inf")

        def between(given: _Values) -> float:
            """Of the values, those above the lower bound and up to the upper one."""
            if not given.values:
                return math.nan
            count = given.count(high) - given.count(low)
            return 100 * count / given.count() if kind == "PR" else float(count)

        return between
    raise RehearsalError(f"the rehearsal does not simulate the statistic {name}")


_SIMPLE: Mapping[str, _Statistic] = MappingProxyType(
    {
        "SampleCount": lambda given: float(given.count()),
        "Sum": lambda given: given.total(),
        "Average": lambda given: given.total() / given.count(),
        "Minimum": lambda given: given.values[0],
        "Maximum": lambda given: given.values[-1],
    }
)
