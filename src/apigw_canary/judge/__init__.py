"""Compares the two variants: minutes to evidence, evidence to findings and a verdict.

Nothing in this package, in `rollout` and in `values` and `model` calls a clock, sleeps, draws
random numbers or does I/O; it imports the standard library and attrs only.
"""

from apigw_canary.judge.analysis import (
    Gathered,
    Paths,
    SignalPath,
    analyze,
    gather,
    latest,
    paths,
    summarize,
)
from apigw_canary.judge.evidence import Row, odds
from apigw_canary.judge.findings import Analysis, Finding, Interval, Verdict
from apigw_canary.judge.guard import (
    DRIFT,
    MOST_PAST,
    AgainstPast,
    Unhealthy,
    canary_only_excess,
    confirmed_by_past,
    exceeds_past,
    excess,
    gross_failure,
    has_comparable_minute,
    unhealthy,
)
from apigw_canary.judge.kept import Cache, Kept, keep_in, kept_of
from apigw_canary.judge.observation import (
    HISTORY,
    MINUTE,
    Alarm,
    AlarmState,
    Basis,
    Measurements,
    MetricSource,
    Minute,
    Observation,
    Overlap,
    Phase,
    alarms_fired,
    alarms_without_data,
    ceil_minute,
    remarks_on_alarms,
)
from apigw_canary.judge.overlap import Totals
from apigw_canary.judge.plan import LIFETIME, LONGEST_ROLLOUT, Plan, Step
from apigw_canary.judge.signals import ERRORS_4XX, ERRORS_5XX, Signal
from apigw_canary.judge.unknown import UnknownOutcomes, unknown_outcomes

__all__ = [
    "DRIFT",
    "ERRORS_4XX",
    "ERRORS_5XX",
    "HISTORY",
    "LIFETIME",
    "LONGEST_ROLLOUT",
    "MINUTE",
    "MOST_PAST",
    "AgainstPast",
    "Alarm",
    "AlarmState",
    "Analysis",
    "Basis",
    "Cache",
    "Finding",
    "Gathered",
    "Interval",
    "Kept",
    "Measurements",
    "MetricSource",
    "Minute",
    "Observation",
    "Overlap",
    "Paths",
    "Phase",
    "Plan",
    "Row",
    "Signal",
    "SignalPath",
    "Step",
    "Totals",
    "Unhealthy",
    "UnknownOutcomes",
    "Verdict",
    "alarms_fired",
    "alarms_without_data",
    "analyze",
    "canary_only_excess",
    "ceil_minute",
    "confirmed_by_past",
    "exceeds_past",
    "excess",
    "gather",
    "gross_failure",
    "has_comparable_minute",
    "keep_in",
    "kept_of",
    "latest",
    "odds",
    "paths",
    "remarks_on_alarms",
    "summarize",
    "unhealthy",
    "unknown_outcomes",
]
