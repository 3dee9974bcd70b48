"""CloudWatch's GetMetricData: series read whole, or not at all, and joined to minutes."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from apigw_canary.aws.calls import Calls
from apigw_canary.errors import MetricsError
from apigw_canary.rollout.observation import Minute

PERIOD = 60
"""Seconds; the services publish by the minute."""

_DENSE = 0.9
"""The part of the minutes with requests that have a number of errors where all are to have one."""

Series = Mapping[datetime, float]


class Query(NamedTuple):
    """One series of one arm."""

    id: str
    namespace: str
    metric: str
    statistic: str
    dimensions: Mapping[str, str]

    def as_sent(self) -> dict[str, Any]:
        """As GetMetricData takes it."""
        return {
            "Id": self.id,
            "MetricStat": {
                "Metric": {
                    "Namespace": self.namespace,
                    "MetricName": self.metric,
                    "Dimensions": [
                        {"Name": name, "Value": value} for name, value in self.dimensions.items()
                    ],
                },
                "Period": PERIOD,
                "Stat": self.statistic,
            },
        }


def read_series(
    calls: Calls, queries: Iterable[Query], start: datetime, end: datetime
) -> Mapping[str, Series]:
    """The series of [start, end) under their queries' ids: one GetMetricData, and its pages.

    Raises `MetricsError` where CloudWatch gives half an answer.
    """
    asked = list(queries)
    request = {
        "MetricDataQueries": [query.as_sent() for query in asked],
        "StartTime": start,
        "EndTime": end,
        "ScanBy": "TimestampAscending",
    }
    series: dict[str, dict[datetime, float]] = {query.id: {} for query in asked}
    while True:
        answer = calls.call("cloudwatch", "GetMetricData", **request)
        for result in answer["MetricDataResults"]:
            _check(result, last="NextToken" not in answer)
            series[result["Id"]].update(zip(result["Timestamps"], result["Values"], strict=True))
        if "NextToken" not in answer:
            return series
        request["NextToken"] = answer["NextToken"]


def _check(result: Mapping[str, Any], *, last: bool) -> None:
    """Refuse half an answer: what is missing in it would look like minutes without errors."""
    status = result.get("StatusCode", "Complete")
    if status != "Complete" and (last or status != "PartialData"):
        texts = "; ".join(message["Value"] for message in result.get("Messages", []))
        raise MetricsError(
            f"CloudWatch answered {status} for {result['Id']}{': ' if texts else ''}{texts}.",
            remedy="Look again in a minute.",
        )


def joined(
    baseline: Series, baseline_bad: Series, canary: Series, canary_bad: Series
) -> Iterator[Minute]:
    """Minutes from series.

    A missing count is no requests, and a missing number of errors none where the count is there.
    A minute with errors, be it none, and without a count, or with more errors than requests, is
    still being published, and left out; so are minutes that the errors have not come to yet.
    """
    until = _published_until(baseline, baseline_bad, canary_bad)
    for at in sorted({*baseline, *canary}):
        if at > until:
            return
        if (at in baseline_bad and at not in baseline) or (at in canary_bad and at not in canary):
            continue
        minute = (
            baseline.get(at, 0.0),
            baseline_bad.get(at, 0.0),
            canary.get(at, 0.0),
            canary_bad.get(at, 0.0),
        )
        if minute[1] <= minute[0] and minute[3] <= minute[2]:
            yield Minute(at, *minute)


def _published_until(count: Series, bad: Series, other_bad: Series) -> datetime:
    """The latest minute whose errors are published.

    Where each minute with requests has a number of errors, be it none, one that lacks it is late,
    not healthy. Where only some have, what lacks it has none.
    """
    newest = max([*bad, *other_bad], default=None)
    if newest is None:
        return datetime.max.replace(tzinfo=UTC)
    before = [at for at in count if at <= newest]
    has_all = sum(at in bad for at in before) >= _DENSE * len(before)
    return newest if before and has_all else datetime.max.replace(tzinfo=UTC)
