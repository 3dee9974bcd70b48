"""What the sources of metrics on AWS have in common: how they come to call it."""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple, Self, TypeVar

from apigw_canary.aws import Calls, Session
from apigw_canary.errors import MetricsError
from apigw_canary.judge import MINUTE, Measurements, MetricSource, Minute, Signal
from apigw_canary.model import StageState
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

    Raises `MetricsError` for partial results: missing errors would be taken for no errors.
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
        f"CloudWatch's answer for {result['Id']} is not valid: {what}.",
        remedy="Check for a proxy or an endpoint that answers instead of AWS.",
    )


def _check_status(result: Mapping[str, Any], *, last: bool) -> None:
    status = result.get("StatusCode", "Complete")
    if status != "Complete" and (last or status != "PartialData"):
        texts = "; ".join(message["Value"] for message in result.get("Messages", []))
        raise MetricsError(
            f"CloudWatch answered {status} for {result['Id']}{': ' if texts else ''}{texts}.",
            remedy="Observe again in a minute.",
        )


SETTLED = timedelta(minutes=5)
"""How long after its end a minute may still lack what CloudWatch has not published yet, and how old
it must be to show what its series are; as in a policy's `promotion_metric_delay`."""


_KEPT_MINUTES = 8192
"""How many minutes are kept, those of two days of three signals: an observation reads most of the
minutes of the one before it again, and gets the same objects."""

kept_minute: Callable[..., Minute] = lru_cache(_KEPT_MINUTES, typed=True)(Minute)


class Arms(NamedTuple):
    """The same of both variants."""

    baseline: Series
    canary: Series


class _Counts(NamedTuple):
    """One minute of one variant."""

    requests: float
    bad: float
    unknown: float


_NOTHING = _Counts(0.0, 0.0, 0.0)


def counted(requests: Arms) -> list[Minute]:
    """Minutes of requests alone."""
    return [
        kept_minute(at, requests.baseline.get(at, 0.0), 0.0, requests.canary.get(at, 0.0), 0.0)
        for at in sorted({*requests.baseline, *requests.canary})
    ]


def joined(requests: Arms, errors: Arms, end: datetime) -> Iterator[Minute]:
    """Minutes of errors, as of `end`.

    API Gateway and Lambda publish a 0 for each good request, so a minute with requests has a
    number of errors, if only of none. Where one lacks it, or has more errors than requests, it may
    still be on its way: the minute is left out until it is `SETTLED`, and is then one of unknown
    outcome. It is one without errors only if no minute of the series has a 0 (so that only those
    with errors have a number) and the nearest minutes with requests, before and after it, have one.
    """
    zeros = any(0 in bad.values() for bad in errors)
    healthy = [() if zeros else _between(*pair) for pair in zip(requests, errors, strict=True)]
    for at in sorted({at for series in (*requests, *errors) for at in series}):
        settled = at + MINUTE <= end - SETTLED
        yield from _minute(
            at,
            *(
                _counts(at, count, bad, healthy=at in quiet, settled=settled)
                for count, bad, quiet in zip(requests, errors, healthy, strict=True)
            ),
        )


def joined_shares(requests: Arms, shares: Arms, end: datetime) -> Iterator[Minute]:
    """Minutes of what is known as a fraction of the requests, 0 to 1, as of `end`.

    A variant with requests and without its fraction is not known, and its minute left out; so is
    one that has a fraction and no count yet. Once the minute is `SETTLED` its requests are of
    unknown outcome, if the variant has fractions in other minutes.
    """
    for at in sorted({*requests.baseline, *requests.canary}):
        settled = at + MINUTE <= end - SETTLED
        yield from _minute(
            at,
            *(
                _of_share(at, count, share, settled=settled)
                for count, share in zip(requests, shares, strict=True)
            ),
        )


def _minute(at: datetime, baseline: _Counts | None, canary: _Counts | None) -> Iterator[Minute]:
    if baseline and canary and (baseline.requests or canary.requests):
        yield kept_minute(
            at,
            baseline.requests,
            baseline.bad,
            canary.requests,
            canary.bad,
            baseline.unknown,
            canary.unknown,
        )


def _counts(
    at: datetime, count: Series, bad: Series, *, healthy: bool, settled: bool
) -> _Counts | None:
    """A minute of one variant; None as long as it may not be published in full."""
    requests, number = count.get(at), bad.get(at)
    if requests is None:
        if number is None:
            return _NOTHING
        # That there were requests is known, and that of these so many were bad.
        return _Counts(number, 0.0, number) if number and settled else None
    if number is not None and number <= requests:
        return _Counts(requests, number, 0.0)
    if not settled:
        return None
    if number is None and healthy:
        return _Counts(requests, 0.0, 0.0)
    known = max(requests, number or 0.0)
    return _Counts(known, 0.0, known)


def _between(count: Series, bad: Series) -> Collection[datetime]:
    """The minutes between two with requests, nearest before and after, that have errors."""
    order = sorted(count)
    nearest = zip(order, order[1:], order[2:], strict=False)
    return {at for before, at, after in nearest if before in bad and after in bad}


def _of_share(at: datetime, count: Series, share: Series, *, settled: bool) -> _Counts | None:
    requests, part = count.get(at), share.get(at)
    if requests is None:
        return _NOTHING if part is None else None
    if part is None:
        return _Counts(requests, 0.0, requests) if settled and share else None
    bad = round(requests * part, 6)  # a whole count came as a share, and is to be whole again
    return _Counts(requests, min(max(bad, 0.0), requests), 0.0)


class AwsSource(ABC):
    """A source that a stage lets call AWS as it does itself."""

    def __init__(self, session: Session | None = None) -> None:
        self._session = session
        self._calls: Calls | None = None
        self._forget()

    @abstractmethod
    def minutes(
        self, stage: StageState, signals: Sequence[Signal], start: datetime, end: datetime
    ) -> Measurements:
        """As `MetricSource` has it."""

    @abstractmethod
    def _forget(self) -> None:
        """Begin with nothing known of what was read."""

    def using(self, calls: Calls) -> Self:
        """A copy that calls AWS as `calls` does; in its own session if it was given one.

        A stage calls this when it is made. A source that wraps this one passes `calls` on.
        """
        bound = copy.copy(self)
        bound._bind(calls.within(self._session) if self._session is not None else calls)  # noqa: SLF001 - another of this class
        return bound

    def _bind(self, calls: Calls) -> None:
        self._calls = calls
        self._forget()

    def _own_calls(self) -> Calls:
        """How AWS is called; by itself, without a stage, as boto3 would."""
        if self._calls is None:
            self._calls = Calls(self._session)
        return self._calls


_Source = TypeVar("_Source", bound=AwsSource)


def source_of(kind: type[_Source], metrics: MetricSource, calls: Calls) -> _Source:
    """The source itself if it is of that kind, else one of that kind that calls AWS as `calls`."""
    return metrics if isinstance(metrics, kind) else kind().using(calls)


def bound_to(calls: Calls, source: MetricSource) -> MetricSource:
    """The source as a stage uses it: what its `using` gives, if it has one."""
    validation.source(source)
    using = getattr(source, "using", None)
    if using is None:
        return source
    bound: MetricSource = using(calls)
    validation.source(bound)
    return bound
