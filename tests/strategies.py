"""Generators for the domain: whatever the library accepts, by hypothesis.

Sizes are kept small; limits are tested where they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from hypothesis import strategies as st

from apigw_canary import (
    Alarm,
    Analysis,
    Backtest,
    Basis,
    CanaryState,
    CleanUp,
    CleanUpItem,
    CloudWatchRatio,
    ComparedMinute,
    ComparedValue,
    Comparison,
    Decision,
    Failure,
    Failures,
    FalseRollback,
    Finding,
    Forecast,
    Hold,
    Interval,
    InvocationPermission,
    LatencyStatistics,
    LogGroup,
    Measurements,
    MethodChange,
    Minute,
    Observation,
    Outcome,
    PlannedCall,
    Preflight,
    Problem,
    Promote,
    Promotion,
    Rollback,
    Rollout,
    RolloutPolicy,
    Shift,
    Signal,
    SimulatedRollout,
    SmokeRequest,
    SmokeResult,
    StageState,
    Step,
    VariableChange,
    VariantMetrics,
    Verdict,
)
from apigw_canary.judge.observation import AlarmState
from apigw_canary.model.record import Begun, OnHold, Record

VALUE_CHARACTERS = (
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~:/?#&=,"  # AWS's own list
)
NAME_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)

percents = st.integers(0, 10_000).map(lambda hundredths: hundredths / 100)
"""0 to 100, as AWS is known to keep them: to 0.01."""

shares = st.integers(1, 10_000).map(lambda hundredths: hundredths / 100)
"""The same, above 0."""

identifiers = st.text(NAME_CHARACTERS + "-", min_size=1, max_size=12)
variable_names = st.text(NAME_CHARACTERS, min_size=1, max_size=12)
variable_values = st.text(VALUE_CHARACTERS, min_size=1, max_size=12)
variables = st.dictionaries(variable_names, variable_values, max_size=4)

_ASCII = "".join(map(chr, range(0x21, 0x7F)))
_OTHERS = "äßñçÅøİıĳǆ½²Ⅷ٣४ΩжЯאعहไ中文字한かㄅ€£¥°±×÷←→∞≠“”«»…–—†🙂🚀𝒜ﬁｘ￼"
"""Letters, numbers, punctuation and symbols: of other scripts, of one byte and of four in UTF-8,
and such as change their length in another case."""

lines = st.text(st.sampled_from(_ASCII + _OTHERS + " " * 30), min_size=1, max_size=35).map(
    lambda text: " ".join(text.split()) or "x"
)
"""One line of printable text, such as a release or a reason."""

zones = st.sampled_from(
    [UTC] * 4 + [timezone(timedelta(minutes=n)) for n in (-840, -210, -1, 1, 60, 345, 840)]
)
times = st.builds(
    lambda seconds, micros, zone: datetime.fromtimestamp(seconds, zone).replace(microsecond=micros),
    st.integers(1_577_836_800, 2_208_988_800),
    st.sampled_from([0, 0, 1, 250_000, 999_999]),
    zones,
)
"""From 2020 to 2040."""

minute_times = st.builds(
    lambda minute, zone: datetime.fromtimestamp(60 * minute, zone),
    st.integers(26_000_000, 36_000_000),
    zones,
)
"""Beginnings of minutes, from 2019 to 2038."""


def durations(low: timedelta = timedelta(0), high: timedelta = 14 * DAY) -> Any:
    return st.timedeltas(low, high)


def floats(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False) | st.integers(int(low) + 1, int(high)).map(float)


counts = st.integers(0, 10**6) | st.floats(0, 1e6)
_fractions = st.just(0) | st.floats(0, 1)


@st.composite
def minutes(draw: st.DrawFn, at: st.SearchStrategy[datetime] = minute_times) -> Minute:
    baseline, canary = draw(counts), draw(counts)
    baseline_bad, canary_bad = baseline * draw(_fractions), canary * draw(_fractions)
    return Minute(
        draw(at),
        baseline,
        baseline_bad,
        canary,
        canary_bad,
        (baseline - baseline_bad) * draw(_fractions),
        (canary - canary_bad) * draw(_fractions),
    )


minute_rows = st.lists(minutes(), max_size=4, unique_by=lambda minute: minute.at)

signal_names = st.sampled_from(["errors_5xx", "errors_4xx"]) | lines


@st.composite
def signals(
    draw: st.DrawFn,
    names: st.SearchStrategy[str] = signal_names,
    critical: st.SearchStrategy[bool] = st.booleans(),  # noqa: B008 - a strategy is immutable
) -> Signal:
    is_critical = draw(critical)
    slack = draw(st.floats(0, 0.98))
    over = draw(st.none() | st.floats(1, 900_000))
    return Signal(
        name=draw(names),
        ratio=draw(st.floats(1, 100)),
        slack=slack,
        noise=draw(st.floats(0, 2)),
        margin=draw(st.floats(slack, 1, exclude_min=True)),
        limit=draw(st.none() | st.floats(1e-6, 0.999)),
        weight=draw(st.floats(1e-3, 1e3)),
        critical=is_critical,
        report_only=not is_critical and draw(st.booleans()),
        over=over,
        quantile=draw(st.none() | st.floats(0.5, 0.9999)) if over is None else None,
    )


alarm_states: st.SearchStrategy[AlarmState] = st.sampled_from(["OK", "ALARM", "INSUFFICIENT_DATA"])
alarms = st.builds(Alarm, lines, alarm_states, since=times, fired_at=st.none() | times)

bakes = st.timedeltas(timedelta(0), 14 * DAY)
short_bakes = st.timedeltas(timedelta(0), 2 * DAY)
"""So short that a plan of them may have a deadline."""

rising = (
    st.lists(shares, min_size=1, max_size=6, unique=True)
    .map(sorted)
    .filter(lambda steps: steps != [100])
)


def deadlines(steps: Iterable[Step]) -> st.SearchStrategy[timedelta | None]:
    """What a plan may have: none, or one that leaves time for all of it."""
    low = max(sum((step.bake for step in steps), timedelta(0)), MINUTE)
    return st.none() if low > 14 * DAY else st.none() | st.timedeltas(low, 14 * DAY)


@st.composite
def policies(draw: st.DrawFn) -> RolloutPolicy:
    metric_delay = draw(st.timedeltas(timedelta(0), timedelta(hours=1)))
    names = draw(st.lists(signal_names, min_size=1, max_size=3, unique=True))
    bake = draw(st.sampled_from([short_bakes, bakes]))
    steps = [Step(share, draw(bake)) for share in draw(rising)]
    return RolloutPolicy(
        steps,
        signals=[
            draw(signals(st.just(name), st.just(value=True) if i == 0 else st.booleans()))
            for i, name in enumerate(names)
        ],
        alarms=draw(st.lists(lines, max_size=2, unique=True)),
        false_rollback=draw(st.floats(1e-6, 0.5)),
        false_promotion=draw(st.floats(1e-6, 0.5)),
        deadline=draw(deadlines(steps)),
        on_inconclusive=draw(st.sampled_from(["hold", "rollback"])),
        max_unobserved=draw(st.timedeltas(MINUTE, 14 * DAY)),
        metric_delay=metric_delay,
        promotion_metric_delay=draw(st.timedeltas(metric_delay, timedelta(hours=1))),
    )


bases = st.builds(
    Basis,
    region=identifiers,
    rest_api_id=identifiers,
    stage=identifiers,
    rollout_id=st.none() | identifiers,
    deployment_id=identifiers,
    overrides=st.text("0123456789abcdef", min_size=8, max_size=8),
    percent=percents,
    release=st.none() | lines,
)

observations = st.builds(
    Observation,
    at=times,
    started_at=times,
    step_started_at=times,
    percent=percents,
    minutes=st.dictionaries(signal_names, minute_rows, max_size=3),
    overlap=st.sampled_from(["excluded", "included", "unknown"]),
    basis=st.none() | bases,
    phase=st.sampled_from(
        [
            "running",
            "promoting",
            "promoted",
            "rolled_back",
            "removed_outside",
            "replaced",
            "promoted_outside",
        ]
    ),
    production_changed=st.dictionaries(lines, lines, max_size=2),
    on_hold=st.none() | lines,
    held_for=st.timedeltas(timedelta(0), timedelta(days=14)),
    failure=st.none() | lines,
    failing_since=st.none() | times,
    last_complete_at=st.none() | times,
    notes=st.lists(lines, max_size=2),
    alarms=st.lists(alarms, max_size=2, unique_by=lambda alarm: alarm.name),
    routes=st.none()
    | st.dictionaries(lines, st.dictionaries(signal_names, minute_rows, max_size=2), max_size=2),
    suspect=st.none() | lines,
    not_observed=st.dictionaries(lines, lines, max_size=2),
)

measurements = st.builds(
    Measurements,
    st.dictionaries(signal_names, minute_rows, max_size=2),
    overlap=st.sampled_from(["excluded", "included", "unknown"]),
    notes=st.lists(lines, max_size=2),
    routes=st.none()
    | st.dictionaries(lines, st.dictionaries(signal_names, minute_rows, max_size=2), max_size=2),
    suspect=st.none() | lines,
    not_observed=st.dictionaries(lines, lines, max_size=2),
)

ratios = st.builds(
    CloudWatchRatio,
    lines,
    bad=lines,
    requests=lines,
    baseline=st.dictionaries(lines, lines, min_size=1, max_size=3),
    canary=st.dictionaries(lines, lines, min_size=1, max_size=3),
    sparse=st.booleans(),
)

outcomes = st.sampled_from(Outcome)

canary_states = st.builds(
    CanaryState,
    deployment_id=identifiers,
    percent=percents,
    variables=variables,
    use_stage_cache=st.booleans(),
)

rollouts = st.builds(
    Rollout,
    id=st.none() | identifiers,
    release=st.none() | lines,
    started_at=times,
    step_started_at=times,
    outcome=st.none() | outcomes,
)


def stage_states(
    canary: st.SearchStrategy[CanaryState | None] = st.none() | canary_states,  # noqa: B008
) -> st.SearchStrategy[StageState]:
    return st.builds(
        StageState,
        region=identifiers,
        rest_api_id=identifiers,
        name=identifiers,
        deployment_id=identifiers,
        variables=variables,
        canary=canary,
        updated_at=times,
        rollout=st.none() | rollouts,
    )


odds = st.floats(0, 1e300)

intervals = st.builds(
    Interval,
    low=st.floats(-1, 1e3),
    high=st.none() | st.floats(-1, 1e3),
    confidence=st.floats(0.5, 1),
)

findings = st.builds(
    Finding,
    signal=signal_names,
    route=st.none() | lines,
    verdict=st.sampled_from(Verdict),
    baseline_requests=counts,
    baseline_bad=counts,
    canary_requests=counts,
    canary_bad=counts,
    worse_evidence=odds,
    worse_threshold=odds,
    not_worse_evidence=odds,
    not_worse_threshold=odds,
    ratio=st.none() | intervals,
    difference=st.none() | intervals,
    baseline_unhealthy=st.booleans(),
    sample_ratio_ok=st.booleans(),
)

failures = st.builds(
    Failure,
    method=st.none() | lines,
    path=st.none() | lines,
    status=st.integers(400, 599),
    error_type=st.none() | lines,
    message=st.none() | lines,
    canary_failed=st.integers(0, 10**6),
    canary_requests=st.integers(0, 10**6),
    baseline_failed=st.integers(0, 10**6),
    baseline_requests=st.integers(0, 10**6),
)

analyses = st.builds(
    Analysis,
    verdict=st.sampled_from(Verdict),
    findings=st.lists(findings, max_size=2).map(tuple),
    routes=st.lists(findings, max_size=2).map(tuple),
    worse_evidence=odds,
    worse_threshold=odds,
    worse_at=st.none() | minute_times,
)


def decisions_of(kind: type[Decision]) -> st.SearchStrategy[Decision]:
    return st.builds(
        kind,
        at=times,
        reason=lines,
        percent=percents,
        wait=st.timedeltas(timedelta(0), timedelta(hours=1)),
        final=st.booleans(),
        analysis=st.none() | analyses,
        basis=st.none() | bases,
    )


_KINDS: tuple[type[Decision], ...] = (Hold, Shift, Promote, Rollback)
decisions: st.SearchStrategy[Decision] = st.one_of([decisions_of(kind) for kind in _KINDS])


@st.composite
def promotions(draw: st.DrawFn, stage: st.SearchStrategy[str] = identifiers) -> Promotion:
    after = draw(variables)
    before = {name: draw(st.none() | variable_values) for name in after}
    return Promotion(
        region=draw(identifiers),
        rest_api_id=draw(identifiers),
        stage=draw(stage),
        release=draw(st.none() | lines),
        rollout_id=draw(st.none() | identifiers),
        deployment_before=draw(identifiers),
        deployment_after=draw(identifiers),
        variables_before=before,
        variables_after=after,
        begun_at=draw(times),
    )


_digests = st.dictionaries(identifiers, st.from_regex(r"[0-9a-f]{8}", fullmatch=True), max_size=2)
_enders = st.sampled_from(["judge", "caller", "operator"])

begun = st.builds(
    Begun,
    id=identifiers,
    release=st.none() | lines,
    started_at=times,
    stage_updated_at=times,
    stage_deployment_id=identifiers,
    policy=st.none() | st.just("0123abcd"),
    enabled_at=st.none() | times,
    production=_digests,
    overrides=_digests,
    hold=st.none() | st.builds(OnHold, reason=lines, since=times),
    held=durations().map(lambda held: timedelta(seconds=held // timedelta(seconds=1))),
    failing_since=st.none() | times,
    outcome=st.none() | outcomes,
    ended_by=st.none() | _enders,
)


@st.composite
def records(draw: st.DrawFn, stage: str) -> Record:
    """What may be written on a deployment for this stage."""
    promotion = draw(st.none() | promotions(st.just(stage)))
    return Record(
        region=promotion.region if promotion else draw(st.none() | identifiers),
        rest_api_id=promotion.rest_api_id if promotion else draw(st.none() | identifiers),
        rollout=draw(st.none() | begun),
        promotion=promotion,
        reverted_from=draw(st.none() | identifiers),
        ended=draw(st.dictionaries(lines, outcomes, max_size=3)),
    )


_shares = st.floats(0, 1)
_maybe_after = st.none() | short_bakes

outlooks = st.builds(
    SimulatedRollout,
    times=st.floats(1, 1e6),
    promoted=_shares,
    promoted_after=_maybe_after,
    promoted_after_90=_maybe_after,
    rolled_back=_shares,
    rolled_back_after=_maybe_after,
    rolled_back_after_90=_maybe_after,
    failed_requests=st.floats(0, 1e9),
)

forecasts = st.builds(
    Forecast,
    requests_per_minute=st.floats(0.01, 1e6),
    bad_rates=st.fixed_dictionaries({"errors_5xx": _shares}),
    signal=st.just("errors_5xx"),
    length=short_bakes,
    clean=outlooks,
    worse=st.lists(outlooks, max_size=2).map(tuple),
    smallest_seen=st.none() | st.floats(1, 100),
    problems=st.lists(lines, max_size=2).map(tuple),
)

false_rollbacks = st.builds(
    FalseRollback, started_at=times, after=short_bakes, signal=st.none() | signal_names
)

backtests = st.builds(
    Backtest,
    since=times,
    until=times,
    noise=st.floats(0, 2),
    rollouts=st.integers(5, 100),
    rolled_back=st.lists(false_rollbacks, max_size=2).map(tuple),
    promoted=st.integers(0, 3),
    promoted_after=_maybe_after,
    false_rollback=_shares,
)


_known = st.none() | st.floats(0, 1e9)
_latencies = st.builds(LatencyStatistics, mean=_known, p50=_known, p90=_known, p99=_known)
_variants = st.builds(
    VariantMetrics,
    requests=_known,
    requests_per_minute=_known,
    errors_4xx=_known,
    errors_4xx_rate=st.none() | _shares,
    errors_5xx=_known,
    errors_5xx_rate=st.none() | _shares,
    latency=_latencies,
    integration_latency=_latencies,
    cache_hits=_known,
    cache_misses=_known,
)
_compared_minutes = st.builds(ComparedMinute, at=times, baseline=_variants, canary=_variants)

clean_up_items = st.builds(
    CleanUpItem,
    deployment_id=identifiers,
    created_at=times,
    release=st.none() | lines,
    outcome=st.sampled_from(["removed", "kept", "refused"]),
    reason=lines,
)

problems = st.builds(Problem, st.sampled_from(["error", "warning"]), lines, lines)
method_changes = st.builds(
    MethodChange,
    change=st.sampled_from(["added", "removed", "weakened"]),
    method=lines,
    detail=lines,
)
variable_changes = st.builds(
    VariableChange,
    name=identifiers,
    change=st.sampled_from(["added", "changed", "unchanged"]),
    integration=st.none() | lines,
    before=st.none() | lines,
    after=st.none() | lines,
    methods=st.lists(lines, max_size=2).map(tuple),
)
planned_calls = st.builds(PlannedCall, operation=lines, writes=st.booleans(), parameters=lines)

PUBLIC_VALUES: Mapping[type[Any], st.SearchStrategy[Any]] = {
    Alarm: alarms,
    Analysis: analyses,
    Backtest: backtests,
    Basis: bases,
    CanaryState: canary_states,
    CleanUp: st.builds(CleanUp, items=st.lists(clean_up_items, max_size=3).map(tuple)),
    CleanUpItem: clean_up_items,
    ComparedMinute: _compared_minutes,
    ComparedValue: st.builds(
        ComparedValue, lines, st.sampled_from(["", "%", "ms"]), _known, _known
    ),
    Comparison: st.builds(
        Comparison,
        region=identifiers,
        rest_api_id=identifiers,
        stage=identifiers,
        start=times,
        end=times,
        baseline=_variants,
        canary=_variants,
        minutes=st.lists(_compared_minutes, max_size=1).map(tuple),
        percentiles=st.sampled_from(["window", "median of minutes"]),
        baseline_includes_canary=st.none() | st.booleans(),
        suspect=st.none() | lines,
        notes=st.lists(lines, max_size=2).map(tuple),
    ),
    LatencyStatistics: _latencies,
    VariantMetrics: _variants,
    FalseRollback: false_rollbacks,
    Failure: failures,
    Failures: st.builds(
        Failures,
        items=st.lists(failures, max_size=2).map(tuple),
        source=st.sampled_from(["access", "execution"]),
        start=times,
        end=times,
        scanned_bytes=st.floats(0, 1e15),
        usd=st.floats(0, 1e6),
        unreadable_lines=st.integers(0, 10**9),
        notes=st.lists(lines, max_size=2).map(tuple),
    ),
    LogGroup: st.builds(
        LogGroup,
        source=st.sampled_from(["access", "execution"]),
        variant=st.sampled_from(["baseline", "canary"]),
        name=st.none() | lines,
        exists=st.booleans(),
    ),
    Finding: findings,
    InvocationPermission: st.builds(
        InvocationPermission,
        function_arn=lines,
        method=lines,
        source_arn=lines,
        statement_id=identifiers,
    ),
    Interval: intervals,
    Forecast: forecasts,
    Minute: minutes(),
    Observation: observations,
    SimulatedRollout: outlooks,
    MethodChange: method_changes,
    PlannedCall: planned_calls,
    Preflight: st.builds(
        Preflight,
        problems=st.lists(problems, max_size=2).map(tuple),
        method_changes=st.lists(method_changes, max_size=2).map(tuple),
        variable_changes=st.lists(variable_changes, max_size=2).map(tuple),
        calls=st.lists(planned_calls, max_size=2).map(tuple),
    ),
    Problem: problems,
    VariableChange: variable_changes,
    Promotion: promotions(),
    Rollout: rollouts,
    RolloutPolicy: policies(),
    Signal: signals(),
    SmokeRequest: st.builds(
        SmokeRequest,
        st.sampled_from(["GET", "POST"]),
        st.text("ab/%?=1", max_size=9).map("/".__add__),
        headers=st.dictionaries(st.text("aB-1", min_size=1), lines, max_size=2),
        body=st.none() | lines,
        status=st.none() | st.integers(100, 599),
        contains=st.none() | lines.filter(bool),
    ),
    SmokeResult: st.builds(
        SmokeResult,
        request=lines,
        outcome=st.sampled_from(["passed", "failed", "not testable"]),
        expected=lines,
        reason=lines,
        route=st.none() | lines,
        status=st.none() | st.integers(100, 599),
        latency=st.none() | st.timedeltas(timedelta(0), timedelta(seconds=35)),
        log=st.lists(lines, max_size=2).map(tuple),
    ),
    StageState: stage_states(),
    Step: st.builds(Step, shares, bakes),
    **{kind: decisions_of(kind) for kind in _KINDS},
}
"""Every public value class, and how to make one."""
