"""`Signal.limit`: the canary exceeds it, and fares worse than the baseline in the same minutes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from apigw_canary import Decision, Minute, Observation, Rollback, RolloutPolicy, Signal
from apigw_canary.planning.simulation import binomial

MINUTE = timedelta(minutes=1)
START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)


def decide(
    *,
    seed: int,
    per_minute: int,
    percent: float,
    baseline: float,
    canary: float,
    limit: float = 0.05,
    minutes: int = 60,
    healthy: int = 0,
) -> Decision:
    """After an hour at 0.2 %, and some more such minutes, each variant has its rate."""
    rng = Random(f"{seed}")
    rows = []
    for t in range(-60, minutes):
        if t == 0:  # not all the canary's
            continue
        n_c = binomial(rng, per_minute, percent / 100) if t > 0 else 0
        n_b = per_minute - n_c
        p_b, p_c = (baseline, canary) if t > healthy else (0.002, 0.002)
        counts = (n_b, binomial(rng, n_b, p_b), n_c, binomial(rng, n_c, p_c))
        rows.append(Minute(START + t * MINUTE, *counts))
    policy = RolloutPolicy.canary(
        50,
        20 * MINUTE,
        signals=[Signal.errors_5xx(limit=limit)],
        on_production_unhealthy="hold",  # the evidence alone
    )
    return policy.decide(
        Observation(
            at=START + (minutes + 2) * MINUTE,
            started_at=START,
            step_started_at=START,
            percent=percent,
            minutes={"errors_5xx": rows},
        )
    )


@pytest.mark.long
@pytest.mark.parametrize(
    "per_minute, percent",
    [(10, 50), (10, 90), (5, 97), (50, 50), (50, 80), (500, 90), (10_000, 50)],
)
def test_an_incident_of_both_variants_does_not_roll_back(per_minute: int, percent: float) -> None:
    """Both at 20 % for an hour. Minutes without a baseline request are left out.

    About 1 in 100 rollouts is rolled back by chance.
    """
    rolled_back = [
        isinstance(
            decide(seed=seed, per_minute=per_minute, percent=percent, baseline=0.2, canary=0.2),
            Rollback,
        )
        for seed in range(12)
    ]
    assert sum(rolled_back) <= 1


@pytest.mark.long
@pytest.mark.parametrize(
    "per_minute, percent, rates, minutes",
    [
        (500, 25, (0.001, 0.03), 8),
        (500, 25, (0.01, 0.03), 25),
        (500, 25, (0.0, 0.025), 8),
        (10**6, 5, (0.001, 0.03), 2),
        (2, 50, (0.0, 1.0), 15),
    ],
)
def test_a_canary_above_the_limit_is_rolled_back(
    per_minute: int, percent: float, rates: tuple[float, float], minutes: int
) -> None:
    """A limit of 2 %: in nine rollouts of ten within so many minutes."""
    rolled_back = [
        isinstance(
            decide(
                seed=seed,
                per_minute=per_minute,
                percent=percent,
                baseline=rates[0],
                canary=rates[1],
                limit=0.02,
                minutes=minutes,
            ),
            Rollback,
        )
        for seed in range(10)
    ]
    assert sum(rolled_back) >= 9


@pytest.mark.parametrize("per_minute", [1, 100, 10**6])
def test_at_100_percent_it_is_judged_by_itself(per_minute: int) -> None:
    """There is no baseline by design, so what it would say cannot be waited for."""
    at_100 = {"per_minute": per_minute, "percent": 100, "minutes": 30, "seed": 1}
    assert isinstance(decide(**at_100, baseline=0.5, canary=0.5), Rollback)
    assert not isinstance(decide(**at_100, baseline=0.01, canary=0.01), Rollback)
