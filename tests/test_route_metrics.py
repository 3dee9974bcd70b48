"""Routes read from CloudWatch: which there are, what is asked, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from botocore.exceptions import ClientError

import cloud
from apigw_canary import (
    CloudWatchMetrics,
    Measurements,
    Observation,
    Promote,
    Rollback,
    RolloutPolicy,
    Signal,
    Stage,
    StageState,
)
from apigw_canary.errors import InvalidInputError
from apigw_canary.testing import rehearsal
from cloud import MINUTE, SIGNALS, START

ENABLED = START + 60 * MINUTE
STAGE = attrs.evolve(cloud.STAGE, updated_at=ENABLED)

Count = Callable[[str, str, str, datetime], float | None]
"""Metric or statistic, stage and route to a datapoint, or None."""


class Aws:
    """API Gateway and CloudWatch, as far as routes need them; datapoints are made when asked."""

    def __init__(self, routes: list[str], count: Count, *, listed: bool = True) -> None:
        self.meta = SimpleNamespace(region_name="eu-central-1")
        self.routes = routes
        self.count = count
        self.listed = listed
        self.asked: list[dict[str, Any]] = []
        self.listings: list[dict[str, Any]] = []
        self.others: list[dict[str, Any]] = []

    def client(self, service_name: str, *, config: Any = None) -> Aws:
        return self

    def get_rest_apis(self, *, limit: int) -> dict[str, Any]:
        return {"items": [{"id": STAGE.rest_api_id, "name": "orders"}]}

    def get_stages(self, *, restApiId: str) -> dict[str, Any]:  # noqa: N803 - boto3's name
        return {"item": [{"stageName": "prod"}]}

    def list_metrics(self, **request: Any) -> dict[str, Any]:
        self.listings.append(request)
        if not self.listed:
            denied: Any = {"Error": {"Code": "AccessDenied", "Message": "not authorized"}}
            raise ClientError(denied, "ListMetrics")
        page = int(request.get("NextToken", 0))
        names = self.routes[page : page + 2]
        metrics = [
            {
                "Dimensions": [
                    {"Name": "Method", "Value": route.split(" ")[0]},
                    {"Name": "Resource", "Value": route.split(" ")[1]},
                ]
            }
            for route in names
        ]
        metrics += self.others
        more = {"NextToken": str(page + 2)} if page + 2 < len(self.routes) else {}
        return {"Metrics": metrics, **more}

    def get_metric_data(self, **request: Any) -> dict[str, Any]:
        self.asked.append(request)
        results = []
        for query in request["MetricDataQueries"]:
            stat = query["MetricStat"]
            of = {d["Name"]: d["Value"] for d in stat["Metric"]["Dimensions"]}
            name = stat["Metric"]["MetricName"]
            name = stat["Stat"] if name == "Latency" else name
            route = f"{of['Method']} {of['Resource']}" if "Method" in of else ""
            at, times, values = request["StartTime"], [], []
            while at < request["EndTime"]:
                value = self.count(name, of.get("Stage", ""), route, at)
                if value is not None:
                    times.append(at)
                    values.append(value)
                at += MINUTE
            results.append(
                {
                    "Id": query["Id"],
                    "Timestamps": times,
                    "Values": values,
                    "StatusCode": "Complete",
                    "Messages": [],
                }
            )
        return {"MetricDataResults": results, "Messages": []}


def healthy_but(bad: str) -> Count:
    """Ten requests of each route a minute on the baseline, one on the canary; one route fails."""

    def count(metric: str, stage: str, route: str, at: datetime) -> float | None:
        is_canary = stage == "prod/Canary"
        if is_canary and at < ENABLED + MINUTE:
            return None
        match metric:
            case "Count":
                return (1.0 if is_canary else 10.0) * (1 if route else 100)
            case "5XXError":
                return 1.0 if is_canary and route in {bad, ""} and bad else 0.0
            case "4XXError":
                return 0.0
        return 100.0 if not is_canary or route != "GET /slow" else 0.0

    return count


def read(
    aws: Aws,
    minutes: int = 30,
    metrics: CloudWatchMetrics | None = None,
    *,
    routes: Any = True,
    signals: Sequence[Signal] = SIGNALS,
) -> Measurements:
    metrics = metrics or CloudWatchMetrics(session=aws, routes=routes)
    return metrics.minutes(STAGE, signals, START, ENABLED + minutes * MINUTE)


def seen(measured: Measurements, minutes: int = 30) -> Observation:
    return Observation(
        at=ENABLED + minutes * MINUTE,
        started_at=ENABLED,
        step_started_at=ENABLED,
        percent=10,
        minutes=measured.minutes,
        overlap="excluded",
        routes=measured.routes,
    )


ROUTES = [f"GET /r{i}" for i in range(20)]
POLICY = RolloutPolicy.canary(10, 10 * MINUTE)


def test_a_failing_route_is_found() -> None:
    """One of twenty routes fails on the canary: the rollback names it."""
    found = read(Aws(ROUTES, healthy_but("GET /r7")))
    assert set(found.routes or {}) == set(ROUTES)
    decision = POLICY.decide(seen(found))
    assert isinstance(decision, Rollback)
    assert decision.analysis is not None
    assert decision.analysis.routes[0].route == "GET /r7"
    assert decision.analysis.routes[0].canary_bad == 27
    assert len(decision.analysis.routes) == 1


def test_a_route_without_failures_is_one_minute() -> None:
    """More of it could not speak against the canary; that it was there before has to be known."""
    found = read(Aws(ROUTES, healthy_but("GET /r7")))
    assert found.routes is not None
    assert [len(rows) for rows in found.routes["GET /r1"].values()] == [1, 1]
    (minute,) = found.routes["GET /r1"]["errors_5xx"]
    assert (minute.at, minute.baseline_requests, minute.canary_requests) == (START, 10, 0)
    assert len(found.routes["GET /r7"]["errors_5xx"]) == 90


def test_a_slow_route_is_found() -> None:
    """Shares above a limit are asked for by route too."""
    signals = (Signal.errors_5xx(), Signal.latency(over=500))
    aws = Aws([*ROUTES, "GET /slow"], healthy_but(""))
    found = read(aws, signals=signals)
    assert found.routes is not None
    policy = RolloutPolicy.canary(10, 10 * MINUTE, signals=signals)
    (finding,) = policy.analyze(seen(found)).routes
    assert (finding.route, finding.signal) == ("GET /slow", "latency_over_500ms")


def test_only_those_asked_for() -> None:
    """A list limits what is read, and so what is billed."""
    aws = Aws(ROUTES, healthy_but(""))
    found = read(aws, routes=["GET /r3", "GET /r4", "GET /gone"])
    assert set(found.routes or {}) == {"GET /r3", "GET /r4"}
    assert "2 routes: 12 metrics" in " ".join(found.notes)


def test_metrics_of_no_route_are_passed_over() -> None:
    """What ListMetrics answers beyond methods and resources is of no route."""
    aws = Aws(ROUTES, healthy_but("GET /r7"))
    aws.others = [{"Dimensions": [{"Name": "Stage", "Value": "prod"}]}]
    assert set(read(aws, 20).routes or {}) == set(ROUTES)


def test_they_are_listed_once() -> None:
    """By a filtered ListMetrics, in pages; a later look asks for the newest minutes only."""
    aws = Aws(ROUTES, healthy_but("GET /r7"))
    metrics = CloudWatchMetrics(session=aws, routes=True)
    first = read(aws, 20, metrics)
    assert len(aws.listings) == 10
    assert {"Name": "Stage", "Value": "prod"} in aws.listings[0]["Dimensions"]
    asked = len(aws.asked)
    second = read(aws, 30, metrics)
    assert len(aws.listings) == 10
    by_route = [call for call in aws.asked[asked:] if "route" in call["MetricDataQueries"][0]["Id"]]
    assert [call["StartTime"] for call in by_route] == [ENABLED + 5 * MINUTE]
    assert second.routes == read(aws, 30).routes
    assert first.routes is not None
    # Another rollout is read from its own start.
    metrics.minutes(STAGE, SIGNALS, START + MINUTE, ENABLED + 30 * MINUTE)
    assert aws.asked[-1]["StartTime"] == START + MINUTE


def test_restated_minutes_replace_old_ones() -> None:
    """What was read in the last quarter of an hour is read again, and may be gone."""
    restated: dict[datetime, float | None] = {}
    usual = healthy_but("GET /r7")

    def count(metric: str, stage: str, route: str, at: datetime) -> float | None:
        if metric == "5XXError" and stage == "prod/Canary" and at in restated and route:
            return restated[at]
        return usual(metric, stage, route, at)

    aws = Aws(ROUTES, count)
    metrics = CloudWatchMetrics(session=aws, routes=True)
    read(aws, 20, metrics)
    restated[ENABLED + 18 * MINUTE] = 0.0
    found = read(aws, 25, metrics)
    assert found.routes is not None
    bad = {row.at: row.canary_bad for row in found.routes["GET /r7"]["errors_5xx"]}
    assert bad[ENABLED + 18 * MINUTE] == 0
    assert bad[ENABLED + 17 * MINUTE] == 1


@pytest.mark.parametrize(
    "minutes, signals",
    [
        (30, (Signal.latency(over=50),)),  # other statistics under the same names
        (30, SIGNALS),  # a signal more
        (10, (Signal.latency(over=300),)),  # a time that has been read beyond
    ],
)
def test_another_question_is_not_answered_with_what_was_read(
    minutes: int, signals: Sequence[Signal]
) -> None:
    """What is kept of one look is no answer for a policy with other signals, or an earlier end."""

    def count(metric: str, stage: str, route: str, at: datetime) -> float | None:
        found = healthy_but("GET /a")(metric, stage, route, at)
        return 30.0 if metric == "PR(:50)" and found is not None else found

    aws = Aws(["GET /a", "GET /slow"], count)
    metrics = CloudWatchMetrics(session=aws, routes=True)
    read(aws, metrics=metrics, signals=(Signal.latency(over=300),))
    again = read(aws, minutes, metrics, signals=signals)
    assert again.routes == read(aws, minutes, signals=signals).routes


def test_without_detailed_metrics_a_note_says_so() -> None:
    """Not measured is not the same as healthy."""
    found = read(Aws([], healthy_but("")))
    assert found.routes is None
    assert "turn on detailed metrics" in " ".join(found.notes)


def test_without_permission_a_note_says_so() -> None:
    """The stage is judged all the same."""
    found = read(Aws(ROUTES, healthy_but(""), listed=False))
    assert found.routes is None
    assert "which routes there are is not known" in " ".join(found.notes)
    assert found["errors_5xx"]


def test_a_route_that_only_the_canary_has() -> None:
    """It is given without minutes of its baseline, and cannot be compared."""
    usual = healthy_but("")

    def count(metric: str, stage: str, route: str, at: datetime) -> float | None:
        if route == "GET /new" and stage == "prod":
            return None
        return usual(metric, stage, route, at)

    found = read(Aws([*ROUTES, "GET /new"], count))
    assert found.routes is not None
    assert not any(found.routes["GET /new"].values())


@pytest.mark.parametrize("routes", ["GET /orders", ["orders"], ["get /orders"], [""]])
def test_routes_are_checked(routes: Any) -> None:
    """Method and path, as CloudWatch has them."""
    with pytest.raises(InvalidInputError) as e:
        CloudWatchMetrics(routes=routes)
    assert e.value.field == "routes"


@pytest.mark.long
def test_calls_are_the_fewest_there_can_be() -> None:
    """300 routes and four signals: no more calls than queries and datapoints need."""
    signals = (*SIGNALS, Signal.latency(over=500), Signal.latency(over=2000))
    routes = [f"GET /r{i}" for i in range(300)]
    aws = Aws(routes, lambda *_: None)
    read(aws, 60, signals=signals)
    calls = [call for call in aws.asked if "route" in call["MetricDataQueries"][0]["Id"]]
    queries = sum(len(call["MetricDataQueries"]) for call in calls)
    assert queries == 300 * 2 * 5
    assert len(calls) == max(math.ceil(queries / 500), math.ceil(queries * 120 / 100_800))


@pytest.mark.long
def test_fifty_stages_side_by_side() -> None:
    """One source for all of them, in threads: each stage gets what it gets by itself."""
    stages = [attrs.evolve(STAGE, name=f"s{i}") for i in range(50)]

    def count(metric: str, stage: str, route: str, at: datetime) -> float | None:
        name, canary = stage.removesuffix("/Canary"), stage.endswith("/Canary")
        if not name.startswith("s") or (canary and at <= ENABLED):
            return None
        number = float(name[1:])
        return 1000 + number if metric == "Count" else (number if canary else 0.0)

    aws = Aws(ROUTES[:2], count)
    shared = CloudWatchMetrics(session=aws, routes=True)

    def judged(stage: StageState, metrics: CloudWatchMetrics) -> Any:
        found = metrics.minutes(stage, SIGNALS, START, ENABLED + 20 * MINUTE)
        return POLICY.analyze(attrs.evolve(seen(found, 20), percent=50))

    with ThreadPoolExecutor(50) as pool:
        together = list(pool.map(lambda stage: judged(stage, shared), stages))
    for i in (0, 1, 49):
        alone = CloudWatchMetrics(session=Aws(ROUTES[:2], count), routes=True)
        assert together[i] == judged(stages[i], alone)
    assert len({analysis.findings[0].canary_bad for analysis in together}) == 50


@pytest.mark.long
def test_a_rehearsed_stage_has_no_detailed_metrics() -> None:
    """A source that asks for routes is rehearsed too: a note says what to turn on."""
    with rehearsal() as aws:
        metrics = CloudWatchMetrics(routes=True)
        stage = Stage(aws.rest_api_id, "prod", session=aws.session, metrics=metrics)
        policy = RolloutPolicy.canary(20, 10 * MINUTE)
        canary = stage.enable_canary(20, variables={"alias": "v2"}, policy=policy)
        aws.sleep(1800)
        seen = canary.observe(policy)
        assert (seen.failure, seen.routes) == (None, None)
        assert any("turn on detailed metrics" in note for note in seen.notes)
        assert isinstance(policy.decide(seen), Promote)
