"""CloudWatch: minutes of both arms from the metrics that API Gateway publishes."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import get_args

from apigw_canary.aws.apigateway import ApiGateway
from apigw_canary.aws.calls import Calls, Session
from apigw_canary.aws.series import Query, joined, read_series
from apigw_canary.rollout import inputs
from apigw_canary.rollout.observation import Measured, Overlap
from apigw_canary.rollout.signals import ERRORS_4XX, ERRORS_5XX, Signal
from apigw_canary.rollout.state import StageState

NAMESPACE = "AWS/ApiGateway"

_ERRORS = {ERRORS_5XX: "5XXError", ERRORS_4XX: "4XXError"}
_COUNT = "Count"


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
        api_name = self._name(self._calls, stage)
        queries = [
            Query(
                id=f"{arm}_{name}",
                namespace=NAMESPACE,
                metric=metric,
                statistic=statistic,
                dimensions={"ApiName": api_name, "Stage": value},
            )
            for arm, value in arms.items()
            for name, metric, statistic in (
                ("requests", _COUNT, "SampleCount"),
                *((signal.name, _ERRORS[signal.name], "Sum") for signal in signals),
            )
        ]
        series = read_series(self._calls, queries, start, end)
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
