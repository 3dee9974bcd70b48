"""AWS as far as the metrics need it, a plain object; and what it is read with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from apigw_canary import CanaryState, CloudWatchMetrics, Minute, Signal, StageState

MINUTE = timedelta(minutes=1)
START = datetime(2026, 1, 5, 9, tzinfo=UTC)
END = START + 10 * MINUTE
SIGNALS = (Signal.errors_5xx(), Signal.errors_4xx())
STAGE = StageState(
    region="eu-central-1",
    rest_api_id="a1b2c3d4e5",
    name="prod",
    deployment_id="old111",
    canary=CanaryState(deployment_id="new222", percent=10.0),
    updated_at=START,
)

Points = Mapping[datetime, float]


class Aws:
    """AWS as far as it is asked here, a plain object: series by metric and stage, in pages.

    Metrics of one's own have a dimension `Version` instead of `Stage`.

    Errors of which no series is given are 0 in each minute with requests, as AWS publishes them;
    `zeros=False` for an AWS that does not.
    """

    def __init__(
        self,
        series: Mapping[tuple[str, str], Points] | None = None,
        *,
        page: int = 10**6,
        trouble: Mapping[str, Any] | None = None,
        region: str = "eu-central-1",
        apis: Mapping[str, str] | None = None,
        stages: Sequence[str] = ("prod",),
        listed: Sequence[str] = (),
        zeros: bool = True,
    ) -> None:
        self.zeros = zeros
        self.listed = listed
        self.apis = {STAGE.rest_api_id: "orders"} if apis is None else apis
        self.stages = stages
        self.series = series or {}
        self.page = page
        self.trouble = trouble or {}
        self.meta = SimpleNamespace(region_name=region)
        self.asked: list[dict[str, Any]] = []
        self.named: list[str] = []

    def client(self, service_name: Any, *, config: Any = None) -> Aws:
        assert service_name in {"apigateway", "cloudwatch"}
        return self

    def get_rest_apis(self, *, limit: int) -> dict[str, Any]:
        self.named.append("GetRestApis")
        return {"items": [{"id": id_, "name": name} for id_, name in self.apis.items()]}

    def get_rest_api(self, *, restApiId: str) -> dict[str, Any]:  # noqa: N803 - boto3's name
        self.named.append(f"GetRestApi {restApiId}")
        return {"id": restApiId, "name": "orders"}

    def get_stages(self, *, restApiId: str) -> dict[str, Any]:  # noqa: N803 - boto3's name
        self.named.append(f"GetStages {restApiId}")
        return {"item": [{"stageName": name} for name in self.stages]}

    def list_metrics(self, **request: Any) -> dict[str, Any]:
        self.named.append("ListMetrics")
        assert request["Dimensions"] == [{"Name": "ApiName", "Value": "orders"}]
        page = int(request.get("NextToken", 0))
        dimensions = [{"Name": "ApiName", "Value": "orders"}]
        if page:  # the first page has the API's total only
            dimensions = [*dimensions, {"Name": "Stage", "Value": self.listed[page - 1]}]
        answer: dict[str, Any] = {"Metrics": [{"Dimensions": dimensions}]}
        return answer | ({"NextToken": str(page + 1)} if page < len(self.listed) else {})

    def get_metric_data(self, **request: Any) -> dict[str, Any]:
        self.asked.append({**request, "MetricDataQueries": list(request["MetricDataQueries"])})
        entries: list[tuple[str, tuple[datetime, float] | None]] = []
        for query in request["MetricDataQueries"]:
            metric = query["MetricStat"]["Metric"]
            dimensions = {d["Name"]: d["Value"] for d in metric["Dimensions"]}
            stage = dimensions.get("Stage", dimensions.get("Version", ""))
            statistic = query["MetricStat"]["Stat"]
            name = statistic if metric["MetricName"] == "Latency" else metric["MetricName"]
            points = self.series.get((name, stage))
            if points is None:
                filled = self.zeros and name in {"5XXError", "4XXError"}
                points = dict.fromkeys(self.series.get(("Count", stage), {}), 0.0) if filled else {}
            found = sorted(
                p for p in points.items() if request["StartTime"] <= p[0] < request["EndTime"]
            )
            entries += [(query["Id"], point) for point in found] or [(query["Id"], None)]
        first = int(request.get("NextToken", 0))
        results: dict[str, Any] = {}
        for name, point in entries[first : first + self.page]:
            result = results.setdefault(
                name,
                {
                    "Id": name,
                    "Timestamps": [],
                    "Values": [],
                    "StatusCode": "Complete",
                    "Messages": [],
                }
                | self.trouble.get(name, {}),
            )
            if point:
                result["Timestamps"].append(point[0])
                result["Values"].append(point[1])
        answer: dict[str, Any] = {"MetricDataResults": list(results.values()), "Messages": []}
        rest = entries[first + self.page :]
        if rest:
            if rest[0][0] in results:
                results[rest[0][0]]["StatusCode"] = "PartialData"
            answer["NextToken"] = str(first + self.page)
        return answer


def read(
    aws: Aws,
    signals: Sequence[Signal] = SIGNALS,
    *,
    stage: StageState = STAGE,
    start: datetime = START,
    end: datetime = END,
    **options: Any,
) -> dict[str, list[Minute]]:
    found = CloudWatchMetrics(session=aws, **options).minutes(stage, signals, start, end)
    return {name: list(rows) for name, rows in found.items()}


def at(minute: int) -> datetime:
    return START + minute * MINUTE
