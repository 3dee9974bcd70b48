"""The first full minute of a canary: evidence against it, where no earlier canary can be in it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import attrs
import pytest

from apigw_canary import Minute, Observation, Promote, RolloutPolicy, Signal, Verdict
from apigw_canary.judge.analysis import gather_evidence
from apigw_canary.planning.simulation import binomial

MINUTE = timedelta(minutes=1)
START = datetime(2026, 11, 23, 12, 0, 30, tzinfo=UTC)
FIRST = datetime(2026, 11, 23, 12, 1, tzinfo=UTC)
POLICY = RolloutPolicy.canary(25, 30 * MINUTE, signals=[Signal.errors_5xx()])


def rows(per_minute: int, canary: Sequence[float], *, usual: float = 0.0) -> list[Minute]:
    """An hour of the baseline and the minute of the start, then a minute for each of these rates.

    The canary has a quarter of the requests.
    """
    n_c = max(per_minute // 4, 1)
    n_b = max(per_minute - n_c, 1)
    before = [
        Minute(FIRST - i * MINUTE, per_minute, per_minute * usual, 0, 0) for i in range(61, 1, -1)
    ]
    start = Minute(FIRST - MINUTE, n_b, n_b * usual, n_c // 2, n_c // 2)
    after = [
        Minute(FIRST + i * MINUTE, n_b, n_b * usual, n_c, n_c * rate)
        for i, rate in enumerate(canary)
    ]
    return [*before, start, *after]


def seen(minutes: Sequence[Minute], *, name: str = "errors_5xx", **fields: Any) -> Observation:
    """After the last of these minutes is complete."""
    given: dict[str, Any] = {
        "at": minutes[-1].at + 3 * MINUTE,
        "started_at": START,
        "step_started_at": START,
        "percent": 25,
        "minutes": {name: minutes},
        **fields,
    }
    return Observation(**given)


def counts(with_it: Observation, policy: RolloutPolicy = POLICY) -> bool:
    """Whether the evidence would be another one without the first minute."""
    minutes = {
        name: [row for row in given if row.at != FIRST] for name, given in with_it.minutes.items()
    }
    without = attrs.evolve(with_it, minutes=minutes)
    logs = [gather_evidence(policy, each).signals[0].worse for each in (with_it, without)]
    assert len(logs[0]) == len(logs[1]), "it is no minute of its own"
    return logs[0] != logs[1]


@pytest.mark.parametrize("started", [START, FIRST, FIRST - timedelta(microseconds=1)])
@pytest.mark.parametrize("per_minute, rate", [(2, 1.0), (100, 0.04), (10**6, 0.00023)])
def test_it_counts_against_the_canary(per_minute: int, rate: float, started: datetime) -> None:
    """With the next minute, not before it. (What is found with that alone needs it no more.)"""
    minutes = rows(per_minute, [rate, rate])
    if started == FIRST:
        minutes = [row for row in minutes if row.at >= FIRST or not row.canary_requests]
    assert counts(seen(minutes, started_at=started, step_started_at=started))
    early = seen(minutes[:-1], started_at=started, step_started_at=started)
    assert not counts(early)


def test_a_failure_of_two_minutes_is_found_with_the_second() -> None:
    minutes = rows(80, [0.1, 0.1])
    analysis = POLICY.analyze(seen(minutes))
    assert (analysis.verdict, analysis.worse_at) == (Verdict.WORSE, FIRST + MINUTE)
    alone = POLICY.analyze(seen([row for row in minutes if row.at != FIRST]))
    assert alone.verdict is not Verdict.WORSE


def test_the_minute_of_the_start_never_counts() -> None:
    """An earlier canary may have ended in it."""
    minutes = rows(100, [0.0, 0.0, 0.0])
    other = [
        attrs.evolve(row, canary_bad=0) if row.at == FIRST - MINUTE else row for row in minutes
    ]
    paths = [gather_evidence(POLICY, seen(each)).signals[0].worse for each in (minutes, other)]
    assert paths[0] == paths[1]


@pytest.mark.parametrize("minutes_before", [1, 2, 59])
def test_not_where_an_earlier_canary_had_requests(minutes_before: int) -> None:
    minutes = rows(100, [1.0, 1.0])
    minutes = [
        attrs.evolve(row, canary_requests=1)
        if row.at == FIRST - (minutes_before + 1) * MINUTE
        else row
        for row in minutes
    ]
    assert not counts(seen(minutes))


@pytest.mark.parametrize("past", ["none", "without requests", "of unknown outcome"])
def test_not_without_a_past(past: str) -> None:
    """Nothing shows then that there was no earlier canary, or that production is healthy."""
    minutes = rows(100, [1.0, 1.0])
    before = [row for row in minutes if row.at < FIRST - MINUTE]
    later = minutes[len(before) :]
    kept = {
        "none": [],
        "without requests": [attrs.evolve(row, baseline_requests=0) for row in before],
        "of unknown outcome": [
            attrs.evolve(row, baseline_unknown=row.baseline_requests) for row in before
        ],
    }[past]
    assert not counts(seen([*kept, *later]))


def test_not_while_production_is_unhealthy_in_the_next_minute() -> None:
    """An incident that began within the first minute would count more for one of the variants."""
    ill = [
        row if row.at <= FIRST else attrs.evolve(row, baseline_bad=0.5 * row.baseline_requests)
        for row in rows(1000, [0.5, 0.5, 0.5])
    ]
    assert not counts(seen(ill))
    well = rows(1000, [0.5, 0.0, 0.0])
    assert counts(seen(well))


@pytest.mark.parametrize(
    "signal",
    [Signal.errors_4xx(critical=True), Signal.latency(over=800), Signal.custom("refunds")],
    ids=lambda signal: signal.name,
)
def test_only_errors(signal: Signal) -> None:
    """The first requests of a canary are slow by nature; of other counts nothing is known."""
    policy = attrs.evolve(POLICY, signals=[attrs.evolve(signal, critical=True)])
    minutes = rows(1000, [0.01] * 3)
    assert counts(seen(minutes, name=signal.name), policy) is (signal.name == "errors_4xx")


def test_a_missing_first_minute() -> None:
    minutes = [row for row in rows(100, [1.0] * 3) if row.at != FIRST]
    assert not counts(seen(minutes))


def test_it_never_counts_for_the_canary() -> None:
    minutes = rows(4000, [0.0] * 40, usual=0.001)
    whole = gather_evidence(POLICY, seen(minutes)).signals[0]
    without = gather_evidence(POLICY, seen([row for row in minutes if row.at != FIRST])).signals[0]
    assert whole.not_worse == without.not_worse
    assert whole.totals == without.totals
    assert isinstance(POLICY.decide(seen(minutes, at=minutes[-1].at + 6 * MINUTE)), Promote)


@pytest.mark.parametrize("overlap", ["included", "unknown"])
def test_where_the_series_of_the_stage_include_the_canary(overlap: Any) -> None:
    minutes = [row.with_canary_added() for row in rows(1000, [0.004] * 3)]
    assert counts(seen(minutes, overlap=overlap))


@pytest.mark.no_cover
@pytest.mark.long
@pytest.mark.parametrize("times", [1, 30])
def test_healthy_canaries(times: int) -> None:
    """Also with an incident of both variants from the first or the second minute on."""
    rng, rolled_back, rollouts = Random(times), 0, 300
    for i in range(rollouts):
        minutes = []
        for number in range(-60, 12):
            n_c = 1250 * (number >= 0)
            rate = 0.01 * (times if number >= i % 2 else 1)
            n_b = 5000 - n_c
            counts = (n_b, binomial(rng, n_b, rate), n_c, binomial(rng, n_c, rate))
            minutes.append(Minute(FIRST + number * MINUTE, *counts))
        rolled_back += POLICY.analyze(seen(minutes)).verdict is Verdict.WORSE
    assert rolled_back <= 0.05 * rollouts
