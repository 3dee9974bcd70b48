"""Any two CloudWatch metrics as a signal, read together with those of API Gateway."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from apigw_canary import (
    CloudWatchMetrics,
    CloudWatchRatio,
    Measurements,
    Minute,
    Observation,
    Rollback,
    RolloutPolicy,
    Signal,
)
from apigw_canary.errors import InvalidInputError
from cloud import END, MINUTE, STAGE, START, Aws, at

ORDERS = CloudWatchRatio(
    "Shop",
    bad="OrdersFailed",
    requests="OrdersPlaced",
    baseline={"Version": "v1", "Shop": "north"},
    canary={"Version": "v2", "Shop": "north"},
)
FAILED = Signal.custom("orders_failed")
SIGNALS = (Signal.errors_5xx(), FAILED)


def series(**points: dict[str, Any]) -> dict[tuple[str, str], dict[Any, float]]:
    """By version its metrics, each a number for ten minutes or the numbers by minute."""
    found = {}
    for version, metrics in points.items():
        for name, value in metrics.items():
            every = value if isinstance(value, dict) else dict.fromkeys(range(10), value)
            found[name, version] = {at(n): float(number) for n, number in every.items()}
    return found


def read(aws: Aws, ratio: CloudWatchRatio = ORDERS, **options: Any) -> Measurements:
    metrics = CloudWatchMetrics(session=aws, ratios={"orders_failed": ratio})
    stage = options.get("stage", STAGE)
    return metrics.minutes(stage, SIGNALS, START, options.get("end", END))


def test_is_read_in_the_same_call() -> None:
    """One GetMetricData has the stage's metrics and the two of each variant, summed."""
    aws = Aws(
        series(
            v1={"OrdersPlaced": 90, "OrdersFailed": 2},
            v2={"OrdersPlaced": 10, "OrdersFailed": 1},
            prod={"Count": 500},
        )
    )
    found = read(aws)
    assert found["orders_failed"] == tuple(Minute(at(n), 90, 2, 10, 1) for n in range(10))
    assert len(found["errors_5xx"]) == 10
    assert len(aws.asked) == 1
    asked = [q["MetricStat"] for q in aws.asked[0]["MetricDataQueries"] if "ratio" in q["Id"]]
    assert {(q["Metric"]["Namespace"], q["Metric"]["MetricName"], q["Stat"]) for q in asked} == {
        ("Shop", "OrdersPlaced", "Sum"),
        ("Shop", "OrdersFailed", "Sum"),
    }
    assert [len(q["Metric"]["Dimensions"]) for q in asked] == [2, 2, 2, 2]


def test_one_metric_counts_both() -> None:
    """Without `requests` each value of `bad` is a request, and their sum are the bad ones."""
    ratio = attrs.evolve(ORDERS, requests=None, baseline={"Version": "v1"})
    aws = Aws(series(v1={"OrdersFailed": 7}, v2={"OrdersFailed": 7}))
    read(aws, ratio)
    asked = [q["MetricStat"] for q in aws.asked[0]["MetricDataQueries"] if "ratio" in q["Id"]]
    assert [(q["Metric"]["MetricName"], q["Stat"]) for q in asked] == [
        ("OrdersFailed", "SampleCount"),
        ("OrdersFailed", "Sum"),
    ] * 2


def test_a_missing_number_is_not_zero() -> None:
    """Requests without a number of bad ones are of unknown outcome, unless the metric is sparse."""
    points = series(
        v1={"OrdersPlaced": 90, "OrdersFailed": {0: 0, 1: 1}},
        v2={"OrdersPlaced": 10},
    )
    rows = read(Aws(points))["orders_failed"]
    assert rows[0] == Minute(at(0), 90, 0, 10, 0, 0, 10)
    assert rows[2] == Minute(at(2), 90, 0, 10, 0, 90, 10)
    sparse = read(Aws(points), attrs.evolve(ORDERS, sparse=True))["orders_failed"]
    assert [row.baseline_bad for row in sparse] == [0, 1, *[0] * 8]
    assert not any(row.baseline_unknown or row.canary_unknown for row in sparse)


def test_more_bad_than_requests_is_unknown() -> None:
    """A number that cannot be is none; in a young minute it may still be late."""
    points = series(v1={"OrdersPlaced": 5, "OrdersFailed": 9}, v2={})
    rows = read(Aws(points))["orders_failed"]
    assert [row.at for row in rows] == [at(n) for n in range(5)]
    assert rows[0] == Minute(at(0), 9, 0, 0, 0, 9, 0)


def test_dimensions_follow_the_stage_variables() -> None:
    """One source serves every release: the values that each variant's variables have."""
    ratio = attrs.evolve(
        ORDERS,
        baseline={"Version": "${stageVariables.alias}"},
        canary={"Version": "${stageVariables.alias}"},
    )
    assert STAGE.canary is not None
    canary = attrs.evolve(STAGE.canary, variables={"alias": "v2"})
    stage = attrs.evolve(STAGE, variables={"alias": "v1"}, canary=canary)
    aws = Aws(series(v1={"OrdersPlaced": 90, "OrdersFailed": 2}, v2={"OrdersPlaced": 10}))
    assert read(aws, ratio, stage=stage)["orders_failed"][0].baseline_requests == 90
    alone = read(aws, ratio, stage=attrs.evolve(stage, canary=None))["orders_failed"]
    assert alone[0] == Minute(at(0), 90, 2, 0, 0)
    with pytest.raises(InvalidInputError, match="different from the baseline's"):
        read(aws, ratio, stage=attrs.evolve(stage, canary=STAGE.canary))
    with pytest.raises(InvalidInputError, match="variables that the stage has"):
        read(aws, ratio)


def test_beside_a_series_that_includes_the_canary() -> None:
    """Where the stage's series count the canary's requests, these are made to count them too."""
    aws = Aws(
        series(
            v1={"OrdersPlaced": 90, "OrdersFailed": 2},
            v2={"OrdersPlaced": 10, "OrdersFailed": 1},
        )
    )
    metrics = CloudWatchMetrics(session=aws, ratios={"orders_failed": ORDERS}, overlap="included")
    found = metrics.minutes(STAGE, [FAILED], START, END)
    assert found["orders_failed"][0] == Minute(at(0), 100, 3, 10, 1)
    assert found.overlap == "included"


def test_a_canary_that_loses_orders_is_rolled_back() -> None:
    """Although each of its requests is answered with 200."""
    policy = RolloutPolicy.canary(10, 10 * MINUTE, signals=SIGNALS)
    points = series(
        v1={
            "OrdersPlaced": dict.fromkeys(range(90), 900),
            "OrdersFailed": dict.fromkeys(range(90), 9),
        },
        v2={
            "OrdersPlaced": dict.fromkeys(range(61, 90), 100),
            "OrdersFailed": dict.fromkeys(range(61, 90), 30),
        },
        prod={"Count": dict.fromkeys(range(90), 900)},
    )
    found = read(
        Aws({**points, ("Count", "prod/Canary"): points["OrdersPlaced", "v2"]}), end=at(90)
    )
    decision = policy.decide(
        Observation(
            at=at(90),
            started_at=at(60),
            step_started_at=at(60),
            percent=10,
            minutes=found.minutes,
            overlap=found.overlap,
        )
    )
    assert isinstance(decision, Rollback)
    assert "orders_failed: canary 30.00 %" in decision.reason


@pytest.mark.parametrize(
    "wrong",
    [
        {"namespace": ""},
        {"bad": 3},
        {"requests": ""},
        {"baseline": {}},
        {"canary": "v2"},
        {"canary": {"Version": ""}},
        {"sparse": 1},
        {"requests": None, "sparse": True},
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    """An argument that means nothing is an error that names it."""
    with pytest.raises(InvalidInputError):
        attrs.evolve(ORDERS, **wrong)


def test_names_of_ratios() -> None:
    """A ratio has a name of its own."""
    wrong: list[Any] = [{"errors_5xx": ORDERS}, {"orders": "Shop"}, {"": ORDERS}]
    for ratios in wrong:
        with pytest.raises(InvalidInputError):
            CloudWatchMetrics(ratios=ratios)
    assert hash(ORDERS) == hash(attrs.evolve(ORDERS))
