"""CloudWatch: minutes of both arms from the metrics that API Gateway publishes."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import get_args

from apigw_canary.aws.calls import Calls, Session
from apigw_canary.judge.observation import Measurements, MetricSource, Overlap
from apigw_canary.judge.signals import Signal
from apigw_canary.metrics.comparison import nothing, window
from apigw_canary.metrics.published import published
from apigw_canary.metrics.ratio import CloudWatchRatio, ratios_of
from apigw_canary.metrics.reader import ERRORS, Reader
from apigw_canary.metrics.source import AwsSource
from apigw_canary.model.comparison import Comparison
from apigw_canary.model.state import StageState
from apigw_canary.values import validation


class CloudWatchMetrics(AwsSource):
    """Requests, errors and latency of both variants, from `AWS/ApiGateway`, and your own metrics.

    `canary_stage`: the value of the dimension `Stage` under which the canary's requests are
    published, with `{stage}` for the stage's name. AWS does not document it.

    `overlap`: whether the series of the stage count the canary's requests too: "included",
    "excluded", or "unknown", which AWS's documentation leaves it at. Then it is found out from the
    data, and until it is, both interpretations are evaluated. An overlap that is stated and
    contradicted by the data is suspect.

    `api_name`: the name of the API, under which the metrics are published; None asks API Gateway
    once, and whether another API has the same name.

    `routes`: also measure each route, a method of a resource, as in "GET /orders/{id}": True for
    all that had requests in the last three hours, or those of a list. The stage needs detailed
    metrics for it, and each metric is billed at each observation: the notes state how much.

    `ratios`: signal name to two metrics of your own, a `CloudWatchRatio`, which are read in the
    same calls.

    `session`: a boto3 session; None takes the stage's.
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
            validation.refuse("canary_stage", "a text with one {stage} in it", canary_stage)
        validation.choice(overlap, "overlap", get_args(Overlap))
        if not isinstance(routes, bool):
            _check_routes(routes)
        self._ratios = ratios_of(ratios, reserved=ERRORS)
        self._overlap: Overlap = overlap
        self._canary_stage = canary_stage
        self._api_name = api_name
        self._routes = routes if isinstance(routes, bool) else tuple(routes)

    def _forget(self) -> None:
        self._readers: dict[tuple[str, str], Reader] = {}

    def minutes(
        self, stage: StageState, signals: Sequence[Signal], start: datetime, end: datetime
    ) -> Measurements:
        """The minutes of each signal in [start, end).

        One GetMetricData for each 500 series and 100,800 datapoints; the first time also
        GetRestApis, GetStages, and another GetMetricData where the baseline sets a limit of
        latency: it does so in the first hour of the time asked for. Minutes older than 15 days
        before the end are not kept by CloudWatch, and left out with a note.

        Raises `MetricsError` where CloudWatch gives half an answer, `InvalidInputError` for a
        signal that it cannot read.
        """
        start, end = validation.aware(start, "start"), validation.aware(end, "end")
        known = [*ERRORS, *self._ratios]
        for signal in signals:
            if signal.name not in known and not signal.is_latency:
                expected = f"of {', '.join(known)} and latency, or named in ratios"
                validation.refuse("signals", expected, signal.name)
        return self._reader(stage).read(stage, signals, start, end, self._overlap)

    def compare(
        self, stage: StageState, start: datetime, end: datetime, *, at: datetime
    ) -> Comparison:
        """Both variants side by side in [start, end), as far as it is complete `at` that time.

        One GetMetricData, and the first time what `minutes` asks. Raises what it raises.
        """
        asked = window(start, end, at)
        if asked.start == asked.end:
            return nothing(stage, asked)
        return self._reader(stage).compare(stage, asked, self._overlap)

    def _reader(self, stage: StageState) -> Reader:
        key = (stage.rest_api_id, stage.name)
        reader = self._readers.get(key)
        if reader is None or reader.is_doubted:  # what is doubted may have been mended
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


def _check_routes(routes: Sequence[str]) -> None:
    if isinstance(routes, str) or not all(re.fullmatch(r"[A-Z]+ /.*", route) for route in routes):
        validation.refuse("routes", 'True, False, or a list as in ["GET /orders/{id}"]', routes)


def cloudwatch_of(metrics: MetricSource, calls: Calls) -> CloudWatchMetrics:
    """What compares the variants of a stage: its own source, if that is CloudWatch."""
    return metrics if isinstance(metrics, CloudWatchMetrics) else CloudWatchMetrics().using(calls)
