"""CloudWatch alarms: what state they are in, and whether they fired between two observations."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, get_args

import attrs

from apigw_canary.aws.calls import Calls
from apigw_canary.errors import MetricsError, NotFoundError
from apigw_canary.judge import Alarm, AlarmState
from apigw_canary.values import moment

_TYPES = ("MetricAlarm", "CompositeAlarm", "LogAlarm")
"""Asked for by name: by default AWS leaves composite alarms and their history out. An older
botocore, which does not know log alarms, leaves them out of the answers."""

_MOST_NAMES = 100
"""The most that one DescribeAlarms takes (Amazon CloudWatch API Reference)."""

_EARLIER = timedelta(minutes=1)
"""How much earlier than the rollout the history is read: that its times are the alarm's own to the
millisecond is documented nowhere."""

_STATES = get_args(AlarmState)


def read_alarms(calls: Calls, names: Sequence[str], start: datetime) -> tuple[Alarm, ...]:
    """The alarms of these names, with when they last began firing since `start`.

    One DescribeAlarms for a hundred names, and one DescribeAlarmHistory for each alarm that does
    not fire and has changed its state since `start`. Raises `NotFoundError` where AWS does not know
    a name, `MetricsError` where its answer is not understood.
    """
    described = require_alarms(calls, names)
    alarms = (as_alarm(described[name]) for name in names)
    return tuple(_with_history(calls, alarm, start) for alarm in alarms)


def alarms_now(calls: Calls, names: Sequence[str]) -> dict[str, Alarm | None]:
    """Each name with its alarm, None where AWS shows none: one DescribeAlarms for a hundred."""
    described = _described(calls, names)
    return {name: as_alarm(described[name]) if name in described else None for name in names}


def require_alarms(calls: Calls, names: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
    """As AWS describes each alarm; `NotFoundError` where AWS does not know a name.

    One DescribeAlarms for a hundred names.
    """
    described = _described(calls, names)
    unknown = [name for name in names if name not in described]
    if unknown:
        raise NotFoundError(
            f"CloudWatch in {calls.region} shows no alarm called {', '.join(map(repr, unknown))}.",
            remedy="Correct the policy's `alarms`, or create them in this account and region. AWS "
            "shows composite alarms only to identities that may call DescribeAlarms on all "
            "resources. Log alarms need a botocore that has them, such as 1.44.8.",
        )
    return described


def _described(calls: Calls, names: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for first in range(0, len(names), _MOST_NAMES):
        chunk = list(names[first : first + _MOST_NAMES])
        for page in calls.pages(
            "cloudwatch", "DescribeAlarms", "NextToken", AlarmNames=chunk, AlarmTypes=list(_TYPES)
        ):
            for kind in _TYPES:
                found.update((alarm["AlarmName"], alarm) for alarm in page.get(f"{kind}s", ()))
    return found


def _with_history(calls: Calls, alarm: Alarm, start: datetime) -> Alarm:
    """The alarm, with when it fired if it has stopped again since `start`."""
    if alarm.in_alarm_since is not None or alarm.since < start:
        return alarm
    pages = calls.pages(
        "cloudwatch",
        "DescribeAlarmHistory",
        "NextToken",
        AlarmName=alarm.name,
        AlarmTypes=list(_TYPES),
        HistoryItemType="StateUpdate",
        StartDate=start - _EARLIER,
    )
    items = [item for page in pages for item in page.get("AlarmHistoryItems", ())]
    return attrs.evolve(alarm, fired_at=last_fired(alarm, items))


def as_alarm(described: Mapping[str, Any]) -> Alarm:
    """An alarm from an entry of DescribeAlarms.

    An `EvaluationState` exists only if the last evaluation was not a full one; `StateValue` may
    then be of long ago. It is not trusted, except that an alarm in ALARM began firing.

    Where AWS does not report when the state changed, the time of its last update is taken. It is
    never earlier, so no alarm that began firing is missed, and one from before may be taken for it.
    """
    state: Any = described.get("StateValue")
    since = described.get("StateTransitionedTimestamp") or described.get("StateUpdatedTimestamp")
    evaluation: Any = described.get("EvaluationState")
    if state not in _STATES or since is None or not re.fullmatch("[A-Z_]*", str(evaluation or "")):
        raise MetricsError(
            f"CloudWatch reports the alarm {described['AlarmName']} as {state} since "
            f"{since} (evaluation: {evaluation}), which is not understood."
        )
    if not evaluation:
        return Alarm(described["AlarmName"], state, since=since)
    return Alarm(
        described["AlarmName"],
        "INSUFFICIENT_DATA",
        since=since,
        fired_at=since if state == "ALARM" else None,
        evaluation=evaluation,
    )


def last_fired(alarm: Alarm, items: Iterable[Mapping[str, Any]]) -> datetime | None:
    """When an alarm that does not fire last began to, from the items of its history."""
    became = [_became(item) for item in items]
    if alarm.state == "OK" and all(state != "OK" for state, _ in became):
        # Nothing is OK from the beginning: what it was before is not there yet, or not shown.
        raise MetricsError(
            f"The alarm {alarm.name} has been OK since {moment(alarm.since)}, but its history has "
            "no entry for that, so it is not known whether it fired before.",
            remedy="Observe again in a minute. AWS shows the history of composite alarms only to "
            "identities that may call DescribeAlarmHistory on all resources.",
        )
    return max((at for state, at in became if state == "ALARM"), default=None)


def _became(item: Mapping[str, Any]) -> tuple[str, datetime]:
    """What state an alarm went to, and when."""
    try:
        state = json.loads(item["HistoryData"])["newState"]["stateValue"]
        return _STATES[_STATES.index(state)], item["Timestamp"]
    except (KeyError, TypeError, ValueError) as error:
        raise MetricsError(
            f"The history of the alarm {item.get('AlarmName')} is not understood: its entry of "
            f"{item.get('Timestamp')} names no state."
        ) from error
