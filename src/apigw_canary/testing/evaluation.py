"""How CloudWatch evaluates a metric alarm: the state that follows from its datapoints."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

from apigw_canary.judge.observation import AlarmState
from apigw_canary.testing.answers import Json, check_simulated, unknown

MetricData = Callable[[Json, datetime], Json | None]
"""The parameters of GetMetricData and the time → its answer; None for a namespace without one."""

_EXCEEDS: Mapping[str, Callable[[float, float], bool]] = MappingProxyType(
    {
        "GreaterThanOrEqualToThreshold": operator.ge,
        "GreaterThanThreshold": operator.gt,
        "LessThanOrEqualToThreshold": operator.le,
        "LessThanThreshold": operator.lt,
    }
)
_PARAMETERS = {
    "AlarmName",
    "AlarmDescription",
    "ComparisonOperator",
    "DatapointsToAlarm",
    "Dimensions",
    "EvaluationPeriods",
    "ExtendedStatistic",
    "MetricName",
    "Namespace",
    "Period",
    "Statistic",
    "Threshold",
    "TreatMissingData",
}
_MORE_PERIODS = 2
"""How many periods beyond its own an alarm reads, for datapoints that are late. AWS documents
only that there are some; the tables of "Configuring how CloudWatch alarms treat missing data" have
five periods for an alarm of three."""


class Rule:
    """What PutMetricAlarm sets."""

    def __init__(self, parameters: Json) -> None:
        p = parameters
        check_simulated("PutMetricAlarm", p, _PARAMETERS)
        if p["ComparisonOperator"] not in _EXCEEDS or "Threshold" not in p:
            unknown("an alarm on anything but a constant threshold")
        if p["Period"] < 60 or p["Period"] % 60:
            unknown(f"an alarm with a period of {p['Period']} s")
        self._exceeds = _EXCEEDS[p["ComparisonOperator"]]
        self._threshold = p["Threshold"]
        self._period = timedelta(seconds=p["Period"])
        self._periods = int(p["EvaluationPeriods"])
        self._needed = int(p.get("DatapointsToAlarm", self._periods))
        self._missing = p.get("TreatMissingData", "missing")
        stat = {
            "Metric": {
                "Namespace": p["Namespace"],
                "MetricName": p["MetricName"],
                "Dimensions": p.get("Dimensions", []),
            },
            "Period": p["Period"],
            "Stat": p.get("Statistic") or p["ExtendedStatistic"],
        }
        self._query = {"Id": "alarm", "MetricStat": stat}

    def state(self, metric_data: MetricData, now: datetime, before: AlarmState) -> AlarmState:
        """The state at a time, by the datapoints that exist then."""
        end = datetime.fromtimestamp(
            now.timestamp() // self._period.total_seconds() * self._period.total_seconds(), UTC
        )
        range_ = self._periods + _MORE_PERIODS
        begin = end - range_ * self._period
        asked = {"MetricDataQueries": [self._query], "StartTime": begin, "EndTime": end}
        answer = metric_data(asked, now)
        if answer is None:
            unknown("an alarm on a namespace that the rehearsal has no metrics of")
        result = answer["MetricDataResults"][0]
        found = dict(zip(result["Timestamps"], result["Values"], strict=True))
        values = [found.get(begin + i * self._period) for i in range(range_)]
        return self.evaluated(values, before)

    def evaluated(self, values: Sequence[float | None], before: AlarmState) -> AlarmState:
        """The state that follows from the values of the evaluation range, oldest first."""
        known = [(age, value) for age, value in enumerate(reversed(values)) if value is not None]
        breaching = [age for age, value in known if self._exceeds(value, self._threshold)]
        if len(known) >= self._periods:
            latest = {age for age, _ in known[: self._periods]}
            return "ALARM" if len(latest.intersection(breaching)) >= self._needed else "OK"
        filled = self._periods - len(known)
        if self._missing == "breaching":
            return "ALARM" if len(breaching) + filled >= self._needed else "OK"
        if len(breaching) >= self._needed:
            return "ALARM"
        if self._missing == "notBreaching":
            return "OK"
        if not known:
            return before if self._missing == "ignore" else "INSUFFICIENT_DATA"
        if len(breaching) < len(known):
            return "OK"
        # All that is known breaches: an alarm if that began long enough ago.
        long_ago = breaching[-1] + 1 >= self._needed
        return "ALARM" if long_ago and self._missing == "missing" else before
