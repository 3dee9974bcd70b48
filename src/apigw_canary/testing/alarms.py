"""CloudWatch's alarms: PutMetricAlarm, DeleteAlarms, DescribeAlarms and DescribeAlarmHistory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Literal, NamedTuple, TypeVar, get_args

from apigw_canary.judge.observation import MAX_NAME, AlarmState
from apigw_canary.testing.answers import Json, Refusal, RehearsalError, check_simulated
from apigw_canary.testing.evaluation import MetricData, Rule
from apigw_canary.testing.traffic import MINUTE
from apigw_canary.testing.wire import REGION
from apigw_canary.values import validation

_MOST_NAMES = 100
_PAGE = 50  # AWS's own is not documented; what matters is that there are pages

_ELSEWHERE = frozenset(
    {
        "DescribeAlarmsForMetric",
        "PutCompositeAlarm",
        "SetAlarmState",
    }
)
"""What moto would answer about alarms of its own."""


AlarmKind = Literal["MetricAlarm", "CompositeAlarm", "LogAlarm"]
Evaluation = Literal["PARTIAL_DATA", "EVALUATION_FAILURE", "EVALUATION_ERROR"]

_Item = TypeVar("_Item")


class _Change(NamedTuple):
    at: datetime
    old: AlarmState | None
    """None for an alarm that was created; AWS keeps no StateUpdate of that."""
    new: AlarmState


class _Alarm(NamedTuple):
    name: str
    kind: AlarmKind
    changes: list[_Change]
    evaluation: Evaluation | None = None
    rule: Rule | None = None
    """By which it is evaluated; None for one whose state a test sets."""

    def become(self, state: AlarmState, at: datetime) -> None:
        if self.changes[-1].new != state:
            self.changes.append(_Change(at, self.changes[-1].new, state))

    def described(self) -> Json:
        last = self.changes[-1]
        partly = {} if self.evaluation is None else {"EvaluationState": self.evaluation}
        return {
            "AlarmName": self.name,
            "AlarmArn": f"arn:aws:cloudwatch:{REGION}:123456789012:alarm:{self.name}",
            "StateValue": last.new,
            "StateReason": "rehearsed",
            "StateUpdatedTimestamp": last.at,
            "StateTransitionedTimestamp": last.at,
            **partly,
        }

    def history(self) -> list[Json]:
        """Newest first."""
        return [
            {
                "AlarmName": self.name,
                "AlarmType": self.kind,
                "Timestamp": at,
                "HistoryItemType": "StateUpdate",
                "HistorySummary": f"Alarm updated from {old} to {new}",
                "HistoryData": json.dumps(
                    {
                        "version": "1.0",
                        "oldState": {"stateValue": old, "stateReason": "rehearsed"},
                        "newState": {"stateValue": new, "stateReason": "rehearsed"},
                    }
                ),
            }
            for at, old, new in reversed(self.changes)
            if old is not None
        ]


class Alarms:
    """The alarms of the account, each with its history."""

    def __init__(self, metric_data: MetricData) -> None:
        self._alarms: dict[str, _Alarm] = {}
        self._metric_data = metric_data
        self._evaluated: dict[str, datetime] = {}
        """Until when each alarm with a rule is evaluated."""

    def set(
        self,
        name: str,
        state: AlarmState,
        at: datetime,
        *,
        kind: AlarmKind,
        evaluation: Evaluation | None,
    ) -> None:
        """Let an alarm be in a state from now on; a new one begins with INSUFFICIENT_DATA."""
        validation.text(name, "name", limit=MAX_NAME)
        validation.choice(state, "state", get_args(AlarmState))
        validation.choice(kind, "kind", get_args(AlarmKind))
        if evaluation is not None:
            validation.choice(evaluation, "evaluation", get_args(Evaluation))
            if kind == "CompositeAlarm":
                validation.refuse("evaluation", "None for a composite alarm", evaluation)
        created = _Alarm(name, kind, [_Change(at, None, "INSUFFICIENT_DATA")])
        alarm = self._alarms.get(name, created)
        alarm.become(state, at)
        self._alarms[name] = alarm._replace(evaluation=evaluation)

    def answer(self, operation: str, parameters: Json, now: datetime) -> Json | None:
        """Answer what is about alarms; None for anything else."""
        if "Alarm" in operation:
            self._evaluate(now)
        match operation:
            case "PutMetricAlarm":
                return self._put(parameters, now)
            case "DeleteAlarms":
                for name in parameters["AlarmNames"]:
                    self._alarms.pop(name, None)
                    self._evaluated.pop(name, None)
                return {}
            case "DescribeAlarms":
                return self._describe(parameters)
            case "DescribeAlarmHistory":
                return self._describe_history(parameters)
            case _ if operation in _ELSEWHERE:
                raise RehearsalError(
                    f"the rehearsal does not simulate {operation}; Rehearsal.alarm sets an alarm"
                )
            case _:
                return None

    def _put(self, p: Json, now: datetime) -> Json:
        name, rule = p["AlarmName"], Rule(p)
        created = _Alarm(name, "MetricAlarm", [_Change(now, None, "INSUFFICIENT_DATA")])
        self._alarms[name] = self._alarms.get(name, created)._replace(rule=rule)
        self._evaluated[name] = now
        return {}

    def _evaluate(self, now: datetime) -> None:
        """Bring the states up to date: each minute, CloudWatch evaluates each alarm."""
        for name, at in self._evaluated.items():
            alarm, minute = self._alarms[name], at
            assert alarm.rule is not None
            while (minute := minute + MINUTE) <= now:
                before = alarm.changes[-1].new
                alarm.become(alarm.rule.state(self._metric_data, minute, before), minute)
                self._evaluated[name] = minute

    def _of(self, p: Json) -> list[_Alarm]:
        """By name, of the types that are asked for: without being asked, no composite ones."""
        types = p.get("AlarmTypes", ["MetricAlarm"])
        return [alarm for _, alarm in sorted(self._alarms.items()) if alarm.kind in types]

    def _describe(self, p: Json) -> Json:
        simulated = frozenset({"AlarmNames", "AlarmTypes", "MaxRecords", "NextToken"})
        check_simulated("DescribeAlarms", p, simulated)
        names = p.get("AlarmNames")
        if names is not None and len(names) > _MOST_NAMES:
            raise Refusal(
                "ValidationError",
                f"The collection AlarmNames must not have a size greater than {_MOST_NAMES}.",
            )
        found = [alarm for alarm in self._of(p) if names is None or alarm.name in names]
        page, beside = _page(found, p)
        return {
            **{
                f"{kind}s": [alarm.described() for alarm in page if alarm.kind == kind]
                for kind in get_args(AlarmKind)
            },
            **beside,
        }

    def _describe_history(self, p: Json) -> Json:
        simulated = frozenset(
            {
                "AlarmName",
                "AlarmTypes",
                "EndDate",
                "HistoryItemType",
                "MaxRecords",
                "NextToken",
                "StartDate",
            }
        )
        check_simulated("DescribeAlarmHistory", p, simulated)
        if "AlarmName" not in p or p.get("HistoryItemType") != "StateUpdate":
            raise RehearsalError(
                "the rehearsal simulates DescribeAlarmHistory of one AlarmName and of the "
                "HistoryItemType StateUpdate"
            )
        items = [
            item
            for alarm in self._of(p)
            if alarm.name == p["AlarmName"]
            for item in alarm.history()
            if p.get("StartDate", item["Timestamp"]) <= item["Timestamp"]
            if item["Timestamp"] <= p.get("EndDate", item["Timestamp"])
        ]
        page, beside = _page(items, p)
        return {"AlarmHistoryItems": page, **beside}


def _page(items: Sequence[_Item], p: Json) -> tuple[Sequence[_Item], Json]:
    """A page, and the token of the next where there is one."""
    first, size = int(p.get("NextToken", 0)), p.get("MaxRecords", _PAGE)
    rest = items[first + size :]
    return items[first : first + size], {"NextToken": str(first + size)} if rest else {}
