"""Any traffic, any rates, in any order: evidence is a number, and what is bad is found."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from apigw_canary import Hold, Minute, Observation, Rollback, RolloutPolicy, Signal
from apigw_canary.judge.evidence import Row, worse
from apigw_canary.testing import Backend, rehearsal

MINUTE = timedelta(minutes=1)
START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)


def turned_bad(
    per_minute: int, percent: float, *, healthy: int, bad: float, minutes: int = 1
) -> Observation:
    """A canary that was as good as its baseline (0.1 %) for some minutes, and then was not."""
    canary = max(round(per_minute * percent / 100), 1)
    baseline = max(per_minute - canary, 1)
    rows = [
        Minute(START - (60 - i) * MINUTE, per_minute, per_minute // 1000, 0, 0) for i in range(60)
    ]
    for i in range(healthy + minutes):
        rate = 0.001 if i < healthy else bad
        counts = (baseline, baseline // 1000, canary, round(canary * rate))
        rows.append(Minute(START + (1 + i) * MINUTE, *counts))
    return Observation(
        at=START + (healthy + minutes + 3) * MINUTE,
        started_at=START,
        step_started_at=START,
        percent=percent,
        minutes={"errors_5xx": rows},
    )


def test_a_minute_with_more_requests_than_floats_count_teaches_nothing() -> None:
    first, absurd, last = Row(950, 9, 50, 0), Row(1e16, 1e16, 50, 0), Row(950, 1, 50, 40)
    paths = [
        worse(rows, ratio=1.1, slack=0.0002, noise=0.05, alpha=0.05)
        for rows in ([first, absurd, last], [first, last])
    ]
    assert paths[0][-1] == paths[1][-1] > 1


@pytest.mark.no_cover
@pytest.mark.parametrize("bad", [0.05, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("percent", [5, 20, 50, 99])
@pytest.mark.parametrize("per_minute", [20_000, 100_000, 10**6, 10**9])
def test_a_canary_that_breaks_at_high_traffic_is_rolled_back(
    per_minute: int, percent: float, bad: float
) -> None:
    """After a few healthy minutes by three bad ones, after an hour by another hour.

    At 10⁹ requests a minute each healthy minute costs so much that only a few can be made up for.
    """
    policy = RolloutPolicy.canary(percent, 90 * MINUTE, signals=[Signal.errors_5xx()])
    for healthy, minutes in ((0, 1), (3, 3), (20, 20), (60, 60)):
        if healthy > 3 and per_minute == 10**9:
            continue
        seen = turned_bad(per_minute, percent, healthy=healthy, bad=bad, minutes=minutes)
        assert isinstance(policy.decide(seen), Rollback), healthy


@pytest.mark.parametrize("healthy", [0, 20, 60])
@pytest.mark.parametrize("per_minute", [1, 2, 100, 10**6])
def test_a_canary_that_fails_always_is_rolled_back_at_any_traffic(
    per_minute: int, healthy: int
) -> None:
    """With a request of each arm a minute it takes 20 minutes, else two."""
    policy = RolloutPolicy.canary(50, 90 * MINUTE)
    minutes = 20 if per_minute < 100 else 2
    seen = turned_bad(per_minute, 50, healthy=healthy, bad=1.0, minutes=minutes)
    assert isinstance(policy.decide(seen), Rollback)


def test_evidence_that_hardly_grows_is_no_time_that_overflows() -> None:
    """One request a minute for one minute: how long it takes is not in sight, or a number."""
    policy = RolloutPolicy.canary(50, MINUTE, signals=[Signal.errors_5xx(margin=0.0003)])
    for requests in (1e-6, 1e-3, 1, 1e9):
        rows = [Minute(START + i * MINUTE, requests, 0, requests, 0) for i in range(1, 4)]
        seen = Observation(
            at=START + 10 * MINUTE,
            started_at=START,
            step_started_at=START,
            percent=50,
            minutes={"errors_5xx": rows},
        )
        decision = policy.decide(seen)
        assert "needed" in decision.reason or "not worse" in decision.reason


@pytest.mark.long
@pytest.mark.no_cover
@pytest.mark.parametrize("per_minute, observations", [(200, 6), (20_000, 3)])
def test_the_documented_loop_rolls_back_a_canary_that_breaks_after_forty_minutes(
    per_minute: int, observations: int
) -> None:
    """It ends within three observations, once the first bad minute is complete."""
    breaks_at = START + 40 * MINUTE
    backends = {"alias=v2": Backend(errors_5xx=0.001)}
    with rehearsal(requests_per_minute=per_minute, backends=backends) as aws:
        policy = RolloutPolicy.canary(20, bake=timedelta(hours=1))
        canary = aws.stage.enable_canary(20, release="r", variables={"alias": "v2"})
        made = 0
        while True:
            decision = policy.decide(canary.observe(policy))
            canary.apply(decision)
            made += aws.now() >= breaks_at + MINUTE + policy.metric_delay
            if decision.final:
                break
            assert isinstance(decision, Hold)
            aws.sleep(decision.wait.total_seconds())
            if aws.now() >= breaks_at:
                aws._traffic._by_variable["alias", "v2"] = Backend(errors_5xx=0.98)
        assert isinstance(decision, Rollback)
        assert 0 < made <= observations
        assert aws.stage.describe().canary is None
