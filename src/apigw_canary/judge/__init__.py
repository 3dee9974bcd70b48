"""Compares the two variants: minutes to evidence, evidence to findings and a verdict.

Nothing in this package, in `rollout` and in `values` and `model` calls a clock, sleeps, draws
random numbers or does I/O; it imports the standard library and attrs only.
"""

from apigw_canary.judge.analysis import (
    Paths,
    SignalEvidence,
    SignalPath,
    analyze,
    gather_evidence,
    latest,
    parts,
    paths,
    summarize,
)
from apigw_canary.judge.evidence import Row, e_value
from apigw_canary.judge.findings import Analysis, Finding, Interval, Verdict
from apigw_canary.judge.guard import (
    MOST_PAST,
    AgainstPast,
    UnknownOutcomes,
    canary_only_excess,
    confirmed_by_past,
    exceeds_past,
    gross_failure,
    has_comparable_minute,
    unknown_outcomes,
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
    floor_minute,
    remarks_on_alarms,
)
from apigw_canary.judge.overlap import Totals
from apigw_canary.judge.plan import LIFETIME, LONGEST_ROLLOUT, Plan, Step
from apigw_canary.judge.production import DRIFT, Unhealthy, excess, unhealthy
from apigw_canary.judge.signals import ERRORS_4XX, ERRORS_5XX, ROUTE, Signal

__all__ = [
    "DRIFT",
    "ERRORS_4XX",
    "ERRORS_5XX",
    "HISTORY",
    "LIFETIME",
    "LONGEST_ROLLOUT",
    "MINUTE",
    "MOST_PAST",
    "ROUTE",
    "AgainstPast",
    "Alarm",
    "AlarmState",
    "Analysis",
    "Basis",
    "Cache",
    "Finding",
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
    "SignalEvidence",
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
    "e_value",
    "exceeds_past",
    "excess",
    "floor_minute",
    "gather_evidence",
    "gross_failure",
    "has_comparable_minute",
    "keep_in",
    "kept_of",
    "latest",
    "parts",
    "paths",
    "remarks_on_alarms",
    "summarize",
    "unhealthy",
    "unknown_outcomes",
]
