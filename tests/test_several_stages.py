"""Several stages with traffic in one rehearsal: rollouts side by side, and what belongs to whom."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import attrs
import pytest

from apigw_canary import AccessLogs, Decision, Promote, Rollback, RolloutPolicy, Signal, Stage
from apigw_canary.testing import (
    Backend,
    Conditions,
    Rehearsal,
    RehearsalError,
    Served,
    rehearsal,
)

MINUTE = timedelta(minutes=1)
DETAILED: dict[str, Any] = {"methodSettings": {"*/*": {"metricsEnabled": True}}}
ROUTES = {"GET /orders": 3.0, "POST /orders": 1.0}
POLICY = RolloutPolicy.canary(20, bake=timedelta(minutes=10), signals=[Signal.errors_5xx()])


def bad_in_beta(now: Conditions) -> Backend:
    return Backend(errors_5xx=0.1 if now.stage == "beta" else 0.001)


def rolled_out(aws: Rehearsal) -> dict[str, Decision]:
    """The last decisions of rollouts side by side, each with looks in the middle of minutes."""
    # Each as if in a process of its own: its pauses are not the other one's.
    stages = {
        name: Stage(aws.rest_api_id, name, session=aws.session, sleep=lambda _: None)
        for name in aws.stages
    }
    decisions: dict[str, Decision] = {}
    for _ in range(60):
        for seconds, (name, stage) in zip((13, 31), stages.items(), strict=False):
            aws.sleep(seconds)
            if name not in decisions or not decisions[name].final:
                canary = stage.enable_canary(
                    20, release=f"r-{name}", variables={"alias": "v2"}, policy=POLICY
                )
                decisions[name] = POLICY.decide(canary.observe(POLICY))
                canary.apply(decisions[name])
        aws.sleep(60 - aws.now().second)
    return decisions


def of(aws: Rehearsal, stage: str) -> list[Served]:
    return [row for row in aws.served if row.stage == stage]


@pytest.mark.long
@pytest.mark.no_cover
@pytest.mark.parametrize("rate", [0, 1, 300, 20_000])
def test_neither_of_two_rollouts_influences_the_other(rate: float) -> None:
    """The one of prod is, request by request, the one without beta; beta's ends by its own."""
    backends = {"alias=v2": bad_in_beta}
    with rehearsal(backends=backends) as alone:
        expected = rolled_out(alone)
        rows = [attrs.evolve(row, deployment_id="") for row in alone.served]
    with rehearsal(backends=backends, stages={"beta": rate}) as aws:
        assert list(aws.stages) == ["prod", "beta"]
        decisions = rolled_out(aws)
        states = {name: stage.describe() for name, stage in aws.stages.items()}
        assert [attrs.evolve(row, deployment_id="") for row in of(aws, "prod")] == rows
        assert [row.at for row in aws.served] == sorted(row.at for row in aws.served)
    assert decisions["prod"].reason == expected["prod"].reason
    assert isinstance(decisions["prod"], Promote)
    assert dict(states["prod"].variables) == {"alias": "v2"}
    assert dict(states["beta"].variables) == {"alias": "v1"}
    if rate >= 300:
        assert isinstance(decisions["beta"], Rollback)
        assert states["beta"].canary is None
    else:
        assert not isinstance(decisions["beta"], Promote)


def published(aws: Rehearsal, **dimensions: str) -> float:
    """The requests that a series counts, of all minutes until five minutes ago."""
    metric = {
        "Namespace": "AWS/ApiGateway",
        "MetricName": "Count",
        "Dimensions": [{"Name": name, "Value": value} for name, value in dimensions.items()],
    }
    cloudwatch: Any = aws.session.client("cloudwatch")
    answer = cloudwatch.get_metric_data(
        StartTime=aws.now() - timedelta(hours=3),
        EndTime=aws.now() - 5 * MINUTE,
        MetricDataQueries=[
            {"Id": "a", "MetricStat": {"Metric": metric, "Period": 60, "Stat": "SampleCount"}}
        ],
    )
    return math.fsum(answer["MetricDataResults"][0]["Values"])


def test_metrics_of_each_stage() -> None:
    """By stage, variant and method; the API's own are the sum."""
    with rehearsal(stages={"beta": 100}, routes=ROUTES, settings=DETAILED) as aws:
        for percent, stage in zip((10, 40), aws.stages.values(), strict=True):
            stage.enable_canary(percent, variables={"alias": "v2"})
        aws.sleep(1800)
        served: Counter[str] = Counter()
        for row in aws.served:
            if row.at < aws.now() - 5 * MINUTE:
                served[row.stage + "/Canary" * (row.arm == "canary")] += row.requests
        assert len(served) == 4
        for name, requests in served.items():
            given: dict[str, str] = {"ApiName": "rehearsal", "Stage": name}
            assert published(aws, **given) == requests
            by_method = [
                published(aws, **given, Method=verb, Resource=path)
                for verb, path in map(str.split, ROUTES)
            ]
            assert sum(by_method) == requests
            assert by_method[0] / requests == pytest.approx(0.75, abs=0.1)
        assert published(aws, ApiName="rehearsal") == sum(served.values())
        cloudwatch: Any = aws.session.client("cloudwatch")
        listed = cloudwatch.list_metrics(
            Namespace="AWS/ApiGateway", MetricName="Count", Dimensions=[{"Name": "Method"}]
        )["Metrics"]
        assert len(listed) == 8


@pytest.mark.long
def test_alarms_of_each_stage() -> None:
    """One of each stage's canary: only the one whose canary fails goes off."""
    with rehearsal(backends={"alias=v2": bad_in_beta}, stages={"beta": 300}) as aws:
        cloudwatch: Any = aws.session.client("cloudwatch")
        for name in aws.stages:
            cloudwatch.put_metric_alarm(
                AlarmName=name,
                Namespace="AWS/ApiGateway",
                MetricName="5XXError",
                Dimensions=[
                    {"Name": "ApiName", "Value": "rehearsal"},
                    {"Name": "Stage", "Value": f"{name}/Canary"},
                ],
                Statistic="Average",
                Period=60,
                EvaluationPeriods=3,
                Threshold=0.03,
                ComparisonOperator="GreaterThanThreshold",
                TreatMissingData="notBreaching",
            )
        aws.sleep(600)
        decisions = {}
        for name, stage in aws.stages.items():
            policy = RolloutPolicy.canary(20, bake=timedelta(hours=2), alarms=[name])
            decisions[name] = (stage.enable_canary(20, variables={"alias": "v2"}), policy)
        aws.sleep(480)
        found = {each["AlarmName"]: each for each in cloudwatch.describe_alarms()["MetricAlarms"]}
        assert {name: each["StateValue"] for name, each in found.items()} == {
            "prod": "OK",
            "beta": "ALARM",
        }
        for name, (canary, policy) in decisions.items():
            rolls_back = isinstance(policy.decide(canary.observe(policy)), Rollback)
            assert rolls_back == (name == "beta")


@pytest.mark.long
def test_logs_of_each_stage() -> None:
    """Access logs and execution logs are in groups of each stage's own."""
    with rehearsal(
        backends={"alias=v2": bad_in_beta}, stages={"beta": 60}, execution_logs="INFO"
    ) as aws:
        canaries = {
            name: Stage(
                aws.rest_api_id, name, session=aws.session, sleep=aws.sleep, metrics=AccessLogs()
            ).enable_canary(50, variables={"alias": "v2"})
            for name in aws.stages
        }
        aws.sleep(1200)
        groups, failed = [], []
        for name, canary in canaries.items():
            served = {row.at: row for row in of(aws, name) if row.arm == "canary"}
            seen = [row for at, row in served.items() if at < aws.now() - 2 * MINUTE]
            failed.append(sum(row.errors_5xx for row in seen))
            for found in (canary.failures(), canary.failures(source="execution")):
                bad = sum(each.canary_failed for each in found if each.status >= 500)
                assert failed[-1] <= bad <= failed[-1] + 10
            rows = canary.observe(POLICY).minutes["errors_5xx"]
            counts = [row.canary_requests for row in rows if row.at in served]
            assert len(counts) > 10
            assert counts == [row.requests for row in served.values()][: len(counts)]
            groups += [group.name for group in aws.stages[name].log_groups() if group.exists]
        assert failed[1] > 10 * failed[0]
        assert len(set(groups)) == len(groups) == 8


def test_a_backend_is_shared() -> None:
    """A leak grows for both stages with the time since the first request of either."""
    since: dict[str, list[float]] = {"prod": [], "beta": [], "test-invoke-stage": []}

    def leak(now: Conditions) -> Backend:
        since[now.stage].append(now.since / MINUTE)
        return Backend()

    late: Callable[[Any], float] = lambda at: 100 if at.minute >= 5 else 0  # noqa: E731
    with rehearsal(
        api=leak, requests_per_minute=late, stages={"beta": 100}, history=timedelta(0)
    ) as aws:
        aws.sleep(600)
        aws.stage.smoke_test(["GET /orders"])
    assert since["beta"] == list(range(10))
    assert since["prod"] == [5, 6, 7, 8, 9]
    assert since["test-invoke-stage"] == [10]


def test_latencies_of_each_stage() -> None:
    """Of the first stage, unless another one is named."""
    with rehearsal(stages={"beta": 7}) as aws:
        window = ("baseline", aws.now() - timedelta(hours=1), aws.now())
        counts = [sum(row.requests for row in of(aws, name)) for name in ("prod", "beta", "beta")]
        assert counts[0] == len(aws.latencies(*window))  # type: ignore[arg-type]
        assert counts[1] == len(aws.latencies(*window, stage="beta"))  # type: ignore[arg-type]


def test_stages_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="stages must be stages other than 'prod'"):
        rehearsal(stages={"prod": 5}).__enter__()
    with pytest.raises(RehearsalError, match="a stage named 'a b'"):
        rehearsal(stages={"a b": 5}).__enter__()


def test_a_stage_that_is_made_later_has_no_traffic() -> None:
    with rehearsal(stages={"beta": 5}) as aws:
        gateway: Any = aws.session.client("apigateway")
        state = aws.stages["beta"].describe()
        gateway.create_stage(
            restApiId=aws.rest_api_id, stageName="later", deploymentId=state.deployment_id
        )
        gateway.update_stage(
            restApiId=aws.rest_api_id,
            stageName="later",
            patchOperations=[{"op": "replace", "path": "/variables/alias", "value": "v2"}],
        )
        aws.sleep(600)
        assert {row.stage for row in aws.served} == {"prod", "beta"}
