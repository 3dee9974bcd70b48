"""CloudWatch: minutes of both arms from the metrics that API Gateway publishes."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, get_args

from apigw_canary.aws.apigateway import ApiGateway
from apigw_canary.aws.calls import Calls, Session
from apigw_canary.errors import MetricsError
from apigw_canary.rollout import inputs
from apigw_canary.rollout.observation import Measured, Minute, Overlap
from apigw_canary.rollout.signals import ERRORS_4XX, ERRORS_5XX, Signal
from apigw_canary.rollout.state import StageState

NAMESPACE = "AWS/ApiGateway"
PERIOD = 60
"""Seconds; API Gateway publishes by the minute."""

_ERRORS = {ERRORS_5XX: "5XXError", ERRORS_4XX: "4XXError"}
_COUNT = "Count"

_DENSE = 0.9
"""The part of the minutes with requests that have a number of errors where all are to have one."""

_Series = Mapping[datetime, float]


class _Query(NamedTuple):
    """One series of one arm."""

    id: str
    metric: str
    statistic: str
    stage: str


class CloudWatchMetrics:
    """Requests and errors of both arms, from `AWS/ApiGateway`.

    `canary_stage`: the value of the dimension `Stage` under which the canary's requests are
    published, with `{stage}` for the stage's name. AWS does not document it.

    `overlap`: whether the series of the stage count the canary's requests too: "included",
    "excluded", or "unknown", which AWS's documentation leaves it at. Then both readings are
    judged, and a verdict is what both give: valid, and slower at large shares.

    `api_name`: the name of the API, under which the metrics are published; None asks API Gateway
    once. `session`: a boto3 session; None takes the stage's.
    """

    def __init__(
        self,
        *,
        canary_stage: str = "{stage}/Canary",
        overlap: Overlap = "unknown",
        api_name: str | None = None,
        session: Session | None = None,
    ) -> None:
        if not re.fullmatch(r"[^{}]*\{stage\}[^{}]*", canary_stage):
            inputs.refuse("canary_stage", "a text with one {stage} in it", canary_stage)
        inputs.choice(overlap, "overlap", get_args(Overlap))
        self._overlap: Overlap = overlap
        self._canary_stage = canary_stage
        self._api_name = api_name
        self._session = session
        self._calls: Calls | None = None

    def using(self, calls: Calls) -> "CloudWatchMetrics":
        """The same, calling AWS as its stage does; in its own session if it was given one."""
        bound = CloudWatchMetrics(
            canary_stage=self._canary_stage,
            overlap=self._overlap,
            api_name=self._api_name,
            session=self._session,
        )
        bound._calls = calls.within(self._session) if self._session is not None else calls
        return bound

    def minutes(
        self, stage: StageState, signals: Sequence[Signal], start: datetime, end: datetime
    ) -> Measured:
        """The minutes of each signal in [start, end): one GetMetricData, and GetRestApi once.

        Raises `MetricsError` where CloudWatch gives half an answer, `InvalidInputError` for a
        signal that it cannot read.
        """
        inputs.aware(start, "start")
        inputs.aware(end, "end")
        if self._calls is None:
            self._calls = Calls(self._session)
        for signal in signals:
            if signal.name not in _ERRORS:
                inputs.refuse(
                    "signals", f"of {', '.join(_ERRORS)} to be read from CloudWatch", signal.name
                )
        arms = {
            "baseline": stage.name,
            "canary": self._canary_stage.format(stage=stage.name),
        }
        queries = [
            _Query(id=f"{arm}_{name}", metric=metric, statistic=statistic, stage=value)
            for arm, value in arms.items()
            for name, metric, statistic in (
                ("requests", _COUNT, "SampleCount"),
                *((signal.name, _ERRORS[signal.name], "Sum") for signal in signals),
            )
        ]
        series = self._series(self._calls, self._name(self._calls, stage), queries, start, end)
        minutes = {
            signal.name: tuple(
                joined(
                    series["baseline_requests"],
                    series[f"baseline_{signal.name}"],
                    series["canary_requests"],
                    series[f"canary_{signal.name}"],
                )
            )
            for signal in signals
        }
        return Measured(minutes, overlap=self._overlap)

    def _name(self, calls: Calls, stage: StageState) -> str:
        if self._api_name is None:
            self._api_name = ApiGateway(calls, stage.rest_api_id, stage.name).api_name()
        return self._api_name

    def _series(
        self,
        calls: Calls,
        api_name: str,
        queries: Sequence[_Query],
        start: datetime,
        end: datetime,
    ) -> Mapping[str, _Series]:
        request = {
            "MetricDataQueries": [_as_sent(query, api_name) for query in queries],
            "StartTime": start,
            "EndTime": end,
            "ScanBy": "TimestampAscending",
        }
        series: dict[str, dict[datetime, float]] = {query.id: {} for query in queries}
        while True:
            answer = calls.call("cloudwatch", "GetMetricData", **request)
            for result in answer["MetricDataResults"]:
                _check(result, last="NextToken" not in answer)
                series[result["Id"]].update(
                    zip(result["Timestamps"], result["Values"], strict=True)
                )
            if "NextToken" not in answer:
                return series
            request["NextToken"] = answer["NextToken"]


def _as_sent(query: _Query, api_name: str) -> dict[str, Any]:
    return {
        "Id": query.id,
        "MetricStat": {
            "Metric": {
                "Namespace": NAMESPACE,
                "MetricName": query.metric,
                "Dimensions": [
                    {"Name": "ApiName", "Value": api_name},
                    {"Name": "Stage", "Value": query.stage},
                ],
            },
            "Period": PERIOD,
            "Stat": query.statistic,
        },
    }


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
    baseline: _Series, baseline_bad: _Series, canary: _Series, canary_bad: _Series
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


def _published_until(count: _Series, bad: _Series, other_bad: _Series) -> datetime:
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
