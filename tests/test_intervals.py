"""Intervals of the ratio and the difference: what the evidence has not ruled out."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apigw_canary import Finding, Interval, Minute, Observation, RolloutPolicy, Signal
from apigw_canary.judge import evidence, intervals
from apigw_canary.judge.evidence import Row

MINUTE = timedelta(minutes=1)
START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
ALPHA = 0.05


def drawn(rng: Random, requests: int, rate: float) -> int:
    return sum(rng.random() < rate for _ in range(requests))


def rows(
    baseline: float,
    canary: float,
    *,
    minutes: int = 30,
    seed: int = 0,
    n_b: int = 450,
    n_c: int = 50,
) -> list[Row]:
    """An hour of the baseline alone, in one row, and minutes of both arms."""
    rng = Random(seed)
    past = Row(60 * n_b, 60 * n_b * baseline // 1, 0, 0)
    return [
        past,
        *(
            Row(n_b, drawn(rng, n_b, baseline), n_c, drawn(rng, n_c, canary))
            for _ in range(minutes)
        ),
    ]


def both(minutes: list[Row], noise: float = 0.0) -> tuple[Interval | None, Interval | None]:
    return (
        intervals.ratio([minutes], noise=noise, alpha=ALPHA),
        intervals.difference([minutes], noise=noise, alpha=ALPHA),
    )


@pytest.mark.no_cover
@pytest.mark.long
def test_they_hold_the_truth_in_most_rollouts() -> None:
    """Of 30 rollouts each, no more miss it than a risk of 5 % makes likely (p < 0.001 beyond)."""
    for baseline, canary in ((0.02, 0.02), (0.02, 0.06), (0.06, 0.02)):
        missed = [0, 0]
        for seed in range(30):
            ratio, difference = both(rows(baseline, canary, minutes=8, seed=seed))
            for i, (found, truth) in enumerate(
                ((ratio, canary / baseline), (difference, canary - baseline))
            ):
                high = math.inf if found is None or found.high is None else found.high
                missed[i] += found is None or not found.low <= truth <= high
        assert max(missed) <= 6


def test_they_agree_with_the_verdict() -> None:
    """Where "at most 1.5 times" is rejected, the interval begins above 1.5; and the reverse."""
    minutes = rows(0.02, 0.08)
    ratio, _ = both(minutes)
    assert ratio is not None
    for times, above in ((0.98 * ratio.low, True), (1.02 * ratio.low, False)):
        path = evidence.worse(minutes, ratio=times, slack=0, noise=0, alpha=ALPHA / 2)
        assert (max(path) >= math.log(2 / ALPHA)) == above


@pytest.mark.long
def test_a_better_canary_has_a_difference_below_zero() -> None:
    """Both ends are negative, and the ratio's below 1."""
    ratio, difference = both(rows(0.1, 0.01, n_c=450))
    assert ratio is not None
    assert ratio.high is not None
    assert difference is not None
    assert difference.high is not None
    assert ratio.high < 1
    assert difference.high < 0


@pytest.mark.long
def test_more_minutes_narrow_them() -> None:
    """What was ruled out stays so: a longer rollout's intervals lie within the shorter one's."""
    minutes = rows(0.02, 0.03, minutes=60)
    ends = []
    for count in (5, 20, 61):
        ratio, difference = both(minutes[:count])
        assert ratio is not None
        assert difference is not None
        ends.append((ratio.low, -(ratio.high or 1e9), difference.low, -(difference.high or 1e9)))
    for few, more in pairwise(ends):
        assert all(a <= b + 0.01 * abs(b) for a, b in zip(few, more, strict=True))


def test_without_bad_requests_the_ratio_may_be_any() -> None:
    """Nothing over nothing; the difference is known all the same."""
    ratio, difference = both(rows(0.0, 0.0))
    assert ratio == Interval(low=0.0, high=None, confidence=0.95)
    assert str(ratio) == "0 to any (95 %)"
    assert difference is not None
    assert -0.01 < difference.low < 0 < (difference.high or 1) < 0.01


def test_without_minutes_everything_is_possible() -> None:
    """The widest intervals."""
    assert both([]) == (
        Interval(low=0.0, high=None, confidence=0.95),
        Interval(low=-1.0, high=1.0, confidence=0.95),
    )


def test_total_failure_is_beyond_the_values_looked_at() -> None:
    """A canary that answers nothing but errors: the lowest ratio is the largest looked at."""
    ratio, difference = both(rows(1e-5, 1.0, n_c=450))
    assert ratio is not None
    assert difference is not None
    assert ratio.low == pytest.approx(1000)
    assert difference.low > 0.9


@pytest.mark.traced
@pytest.mark.long
def test_no_ratio_fits_a_canary_that_turns() -> None:
    """Ten times better for an hour, then ten times worse: no one ratio or difference is true."""
    turned = [*rows(0.1, 0.01, n_c=450), *rows(0.01, 0.1, n_c=450, seed=1)[1:]]
    assert both(turned) == (None, None)


@pytest.mark.long
def test_noise_widens_them() -> None:
    """Where single arms vary by themselves, less can be ruled out."""
    minutes = rows(0.1, 0.2, n_c=450)
    (calm, _), (noisy, _) = both(minutes), both(minutes, noise=0.5)
    assert calm is not None
    assert noisy is not None
    assert noisy.low < calm.low


@pytest.mark.long
def test_an_unknown_overlap_takes_both_readings() -> None:
    """The interval holds that of either reading."""
    minutes = rows(0.02, 0.1, n_c=200)
    exclusive, inclusive = (
        minutes,
        [minutes[0]]
        + [Row(n_b - n_c, max(x_b - x_c, 0), n_c, x_c) for n_b, x_b, n_c, x_c, *_ in minutes[1:]],
    )
    either = intervals.ratio([exclusive, inclusive], noise=0, alpha=ALPHA)
    assert either is not None
    for one in (exclusive, inclusive):
        single = intervals.ratio([one], noise=0, alpha=ALPHA)
        assert single is not None
        assert either.low <= single.low


@pytest.mark.traced
@pytest.mark.long
@given(
    st.lists(
        st.builds(
            lambda n_b, n_c, b, c: Row(n_b, min(b, n_b), n_c, min(c, n_c)),
            st.integers(0, 500),
            st.integers(0, 500),
            st.integers(0, 500),
            st.integers(0, 500),
        ),
        max_size=5,
    )
)
@settings(max_examples=25)
def test_any_counts_have_intervals(minutes: list[Row]) -> None:
    """Whatever was counted: ends in order, within what is possible, and plain data."""
    ratio, difference = both(minutes)
    for found, lowest in ((ratio, 0.0), (difference, -1.0)):
        if found is not None:
            assert lowest <= found.low <= (math.inf if found.high is None else found.high)
            assert Interval.from_dict(found.to_dict()) == found


@pytest.mark.traced
@pytest.mark.long
def test_a_finding_has_them_when_asked_for() -> None:
    """Only then: a decision does not pay for them."""
    policy = RolloutPolicy.canary(10, 10 * MINUTE, signals=[Signal.errors_5xx(noise=0)])
    minutes = [
        Minute(START + (i + 1) * MINUTE, *row)
        for i, row in enumerate(rows(0.02, 0.08, minutes=20)[1:])
    ]
    observation = Observation(
        at=START + 40 * MINUTE,
        started_at=START,
        step_started_at=START,
        percent=10,
        minutes={"errors_5xx": minutes},
    )

    (plain,) = policy.analyze(observation).findings
    (asked,) = policy.analyze(observation, intervals=True).findings
    assert (plain.ratio, plain.difference) == (None, None)
    assert asked.ratio is not None
    assert asked.ratio.low > 1
    assert asked.difference is not None
    assert asked.difference.confidence == 1 - policy.false_rollback
    assert Finding.from_dict(asked.to_dict()) == asked
