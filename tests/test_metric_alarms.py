"""Alarms that PutMetricAlarm makes, evaluated by the metrics of a rehearsal."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from apigw_canary import Rollback, RolloutPolicy
from apigw_canary.testing import Backend, RehearsalError, rehearsal
from apigw_canary.testing.evaluation import Rule

CANARY = [{"Name": "ApiName", "Value": "rehearsal"}, {"Name": "Stage", "Value": "prod/Canary"}]
ALARM: dict[str, Any] = {
    "AlarmName": "canary-errors",
    "Namespace": "AWS/ApiGateway",
    "MetricName": "5XXError",
    "Dimensions": CANARY,
    "Statistic": "Average",
    "Period": 60,
    "EvaluationPeriods": 3,
    "Threshold": 0.02,
    "ComparisonOperator": "GreaterThanThreshold",
}

# After the tables of "Configuring how CloudWatch alarms treat missing data", from memory and not
# recorded: the values of five periods ("0" within the threshold, "X" beyond it, "-" missing), and
# the state for missing, ignore, breaching and notBreaching; "=" keeps the one from before.
THREE_OF_THREE = [
    ("0-X-X", "OK", "OK", "OK", "OK"),
    ("----0", "OK", "OK", "OK", "OK"),
    ("-----", "INSUFFICIENT_DATA", "=", "ALARM", "OK"),
    ("0XX-X", "ALARM", "ALARM", "ALARM", "ALARM"),
    ("--X--", "ALARM", "=", "ALARM", "OK"),
]
TWO_OF_THREE = [
    ("0-X-X", "ALARM", "ALARM", "ALARM", "ALARM"),
    ("00X0X", "ALARM", "ALARM", "ALARM", "ALARM"),
    ("0-X--", "OK", "OK", "ALARM", "OK"),
    ("----0", "OK", "OK", "ALARM", "OK"),
    ("---X-", "ALARM", "=", "ALARM", "OK"),
    ("---XX", "ALARM", "ALARM", "ALARM", "ALARM"),
]


@pytest.mark.parametrize("before", ["OK", "ALARM", "INSUFFICIENT_DATA"])
@pytest.mark.parametrize(
    "needed, row",
    [*((3, row) for row in THREE_OF_THREE), *((2, row) for row in TWO_OF_THREE)],
)
def test_states_by_the_tables(needed: int, row: tuple[str, ...], before: Any) -> None:
    values = [{"0": 0.0, "X": 1.0, "-": None}[each] for each in row[0]]
    for missing, state in zip(
        ("missing", "ignore", "breaching", "notBreaching"), row[1:], strict=True
    ):
        rule = Rule({**ALARM, "DatapointsToAlarm": needed, "TreatMissingData": missing})
        assert rule.evaluated(values, before) == (before if state == "=" else state), missing


@pytest.mark.traced
@pytest.mark.long
def test_an_alarm_follows_the_canary() -> None:
    """It fires for the canary's errors, recovers after its end, and rolls back meanwhile."""
    policy = RolloutPolicy.canary(10, bake=timedelta(hours=2), alarms=["canary-errors"])
    with rehearsal(backends={"alias=v2": Backend(errors_5xx=0.06)}) as aws:
        cloudwatch: Any = aws.session.client("cloudwatch")
        cloudwatch.put_metric_alarm(**ALARM, TreatMissingData="notBreaching")
        aws.sleep(600)
        canary = aws.stage.enable_canary(10, variables={"alias": "v2"}, policy=policy)
        enabled = aws.now()
        aws.sleep(480)
        decision = policy.decide(canary.observe(policy))
        assert isinstance(decision, Rollback)
        canary.apply(decision)
        aws.sleep(1800)
        history = cloudwatch.describe_alarm_history(
            AlarmName="canary-errors", HistoryItemType="StateUpdate"
        )["AlarmHistoryItems"]
        summaries = [item["HistorySummary"] for item in reversed(history)]
        fired = next(i["Timestamp"] for i in reversed(history) if "to ALARM" in i["HistorySummary"])
        assert summaries[0] == "Alarm updated from INSUFFICIENT_DATA to OK"
        assert summaries[-1] == "Alarm updated from ALARM to OK"
        assert timedelta(minutes=4) <= fired - enabled <= timedelta(minutes=7)
        cloudwatch.delete_alarms(AlarmNames=["canary-errors", "missing"])
        assert cloudwatch.describe_alarms()["MetricAlarms"] == []


def test_an_alarm_is_changed() -> None:
    """Put again it keeps its state until the next evaluation, with statistics and periods."""
    with rehearsal() as aws:
        cloudwatch: Any = aws.session.client("cloudwatch")

        def state() -> str:
            (alarm,) = cloudwatch.describe_alarms(AlarmNames=["canary-errors"])["MetricAlarms"]
            return str(alarm["StateValue"])

        slow: dict[str, Any] = {
            **ALARM,
            "MetricName": "Latency",
            "Dimensions": CANARY[:1],
            "Period": 300,
            "ExtendedStatistic": "p90",
        }
        del slow["Statistic"]
        cloudwatch.put_metric_alarm(**slow | {"Threshold": 50})
        assert state() == "INSUFFICIENT_DATA"
        aws.sleep(60)
        assert state() == "ALARM"
        cloudwatch.put_metric_alarm(**slow | {"Threshold": 5000})
        assert state() == "ALARM"
        aws.sleep(60)
        assert state() == "OK"
        aws.alarm("canary-errors", "ALARM")
        assert state() == "ALARM"
        aws.sleep(60)
        assert state() == "OK"


@pytest.mark.parametrize(
    "changed, expected",
    [
        ({"ActionsEnabled": False}, "does not simulate ActionsEnabled"),
        ({"Period": 10}, "a period of 10 s"),
        ({"Period": 90}, "a period of 90 s"),
        ({"ComparisonOperator": "GreaterThanUpperThreshold"}, "a constant threshold"),
        ({"Namespace": "Elsewhere"}, "has no metrics of"),
    ],
)
def test_what_is_not_simulated(changed: dict[str, Any], expected: str) -> None:
    with rehearsal() as aws:
        cloudwatch: Any = aws.session.client("cloudwatch")

        def asked() -> None:
            cloudwatch.put_metric_alarm(**ALARM | changed)
            aws.sleep(60)
            cloudwatch.describe_alarms()

        with pytest.raises(RehearsalError, match=expected):
            asked()
