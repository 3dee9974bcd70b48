"""How many more requests a canary has failed: the budget of `max_failed_requests`."""

from __future__ import annotations

from random import Random
from typing import Any

import attrs
import pytest

from apigw_canary import Minute, Observation, Rollback, RolloutPolicy, Signal, Step
from apigw_canary.judge.analysis import gather_evidence
from apigw_canary.judge.production import Excess, excess
from apigw_canary.planning.simulation import binomial
from apigw_canary.rollout import rules
from apigw_canary.rollout.view import View
from test_decide import MINUTE, START
from test_rules import at_each_pace, served

PLAN = RolloutPolicy(
    [Step(50, 10 * MINUTE), Step(100, 60 * MINUTE)],
    signals=[Signal.errors_5xx()],
    max_failed_requests=20,
)
STEP: dict[str, Any] = {"step_started_at": START + 30 * MINUTE}


def seen(rows: list[Minute], percent: float, **fields: Any) -> Observation:
    """All of the minutes, complete."""
    given: dict[str, Any] = {
        "at": rows[-1].at + 6 * MINUTE,
        "started_at": START,
        "step_started_at": START,
        "percent": percent,
        "minutes": {"errors_5xx": rows},
        **fields,
    }
    return Observation(**given)


def found(rows: list[Minute], percent: float, **fields: Any) -> Excess:
    """The excess of the first signal."""
    observation = seen(rows, percent, **fields)
    return excess(gather_evidence(PLAN, observation).signals[0], observation)


def drawn(seed: int, pace: int, percent: float, rate: float) -> list[Minute]:
    """An hour before and an hour of two healthy variants."""
    now = Random(seed)
    n_c = round(pace * percent / 100)
    n_b = pace - n_c
    past = [
        Minute(START - i * MINUTE, pace, binomial(now, pace, rate), 0, 0) for i in range(60, 0, -1)
    ]
    return past + [
        Minute(START + i * MINUTE, n_b, binomial(now, n_b, rate), n_c, binomial(now, n_c, rate))
        for i in range(60)
    ]


@pytest.mark.long
@pytest.mark.no_cover
@pytest.mark.parametrize(
    "pace, percent, rate, most",
    [(100, 99, 0.01, 20), (500, 90, 0.002, 5), (500, 75, 0.002, 5)],
)
def test_a_small_baseline_does_not_show_that_its_rate_is_0(
    pace: int, percent: float, rate: float, most: float
) -> None:
    """Healthy canaries at a large share, looked at every five minutes."""
    for seed in range(12):
        rows = drawn(seed, pace, percent, rate)
        for end in range(65, 121, 5):
            assert found(rows[:end], percent).surely < most


@at_each_pace
@pytest.mark.parametrize("percent", [10, 50, 90])
def test_a_failing_canary_is_rolled_back_near_its_budget(pace: float, percent: float) -> None:
    """5 % against 0.1 %, by this rule alone."""
    rows = served(pace, percent, 600, canary=0.05)
    decided = [
        rules._too_many_failed(View(PLAN, seen(rows[:end], percent)))
        for end in (62, 65, 70, 80, 120, len(rows))
    ]
    hits = [isinstance(each, Rollback) for each in decided]
    assert hits == sorted(hits)
    if pace == 100:
        assert hits[-1]
        assert not hits[0]
    if pace > 100:
        assert hits[0]


def test_an_incident_of_both_variants_does_not_count() -> None:
    """Not even where the baseline has few requests, and happens to fail none of them."""
    rows = served(100, 99, 30, baseline=0, canary=lambda i: 0.3 if i >= 27 else 0)
    assert found(rows, 99).estimate > 80
    assert found(rows, 99).surely < 0
    level = served(1e6, 99, 30, baseline=0.3, canary=0.3)
    assert found(level, 99).surely < 0


def test_unknown_outcomes_count_in_the_canary_s_favor() -> None:
    """Those of the baseline as bad."""
    rows = served(1000, 50, 30, canary=0.05)
    hidden = [
        attrs.evolve(row, baseline_unknown=row.baseline_requests * 0.05) if row.at >= START else row
        for row in rows
    ]
    assert found(rows, 50).surely > 100
    assert found(hidden, 50).surely < 0


def at_100(pace: float, *, past: float = 0.001, bad: float, healthy: int = 60) -> list[Minute]:
    """Half an hour at 50 %, then at 100 % healthy minutes and half an hour of bad ones."""
    rows = served(pace, 50, 30, baseline=past, canary=past, past=past)
    after = served(
        pace, 100, healthy + 30, history=0, canary=lambda i: past if i < healthy else bad
    )
    return [*rows, *(attrs.evolve(row, at=row.at + 30 * MINUTE) for row in after)]


@at_each_pace
@pytest.mark.parametrize("healthy", [5, 60, 600])
@pytest.mark.parametrize("past", [0.001, 0.03])
def test_at_100_percent_it_counts_beyond_twice_the_past(
    pace: float, healthy: int, past: float
) -> None:
    """However long it was healthy there; a rate of up to twice the past is no excess."""
    broken = at_100(pace, past=past, bad=past + 0.09, healthy=healthy)
    decision = rules._too_many_failed(View(PLAN, seen(broken, 100, **STEP)))
    assert isinstance(decision, Rollback) == (pace > 1)
    if decision is not None:
        assert "of them at 100 %, counted beyond 2 times its rate before" in decision.reason
    drift = at_100(pace, past=past, bad=1.8 * past, healthy=healthy)
    assert found(drift, 100, **STEP).surely <= 0


def test_at_100_percent_minutes_before_the_step_count_beside_the_baseline() -> None:
    """What was surely failed there is part of the cost, and nothing else."""
    rows = served(1000, 50, 30, canary=0.05)
    after = served(1000, 100, 20, history=0)
    rows += [attrs.evolve(row, at=row.at + 30 * MINUTE) for row in after]
    cost = found(rows, 100, **STEP)
    assert cost.at_100 == 0
    assert cost.surely == pytest.approx(found(rows[:90], 50).surely)
