"""How soon the evidence comes, against the least that any test needs."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterable, Iterator
from random import Random
from statistics import median
from typing import Any

import pytest

from apigw_canary import Signal
from apigw_canary.judge.evidence import NotWorse, Row, WorseEvidence, worse
from apigw_canary.planning.simulation import binomial

ROLLOUTS = 40
TOLERANCE: dict[str, Any] = {"ratio": 1.1, "slack": 0.0002, "noise": 0.05, "alpha": 0.05}
SIGNALS = (Signal.errors_5xx(), Signal.errors_5xx(ratio=1.0, slack=0.0, noise=0.0))


def divergence(p: float, q: float) -> float:
    """Of Kullback and Leibler, of a rate from another."""
    found = (1 - p) * math.log((1 - p) / (1 - q))
    return found + p * math.log(p / q) if p else found


def to_the_null(p: float, n_b: float, n_c: float, signal: Signal) -> float:
    """The divergence of a minute in which both variants have the rate p from the nearest null."""

    def away(q: float) -> float:
        return n_b * divergence(p, q) + n_c * divergence(p, signal.ratio * q + signal.margin)

    low, high = max((p - signal.margin) / signal.ratio, 0.0), p
    return min(away(low + (high - low) * (i + 0.5) / 2000) for i in range(2000))


@pytest.mark.parametrize("signal", SIGNALS, ids=("defaults", "plain"))
@pytest.mark.parametrize("rate", [0.0, 0.001, 0.01, 0.05, 0.1, 0.3])
def test_a_healthy_canary_is_confirmed_near_the_limit_at_any_rate(
    rate: float, signal: Signal
) -> None:
    """Its requests are at most 1.25 times log(1/beta) over the divergence from the nearest null.

    With a traffic at which that is about 30 minutes, at a share of 10 %.
    """
    rng = Random(f"{rate} {signal.ratio}")
    n_c = round(math.log(20) / to_the_null(rate, 9, 1, signal) / 30)
    n_b = 9 * n_c
    per_minute = n_b + n_c
    least = math.ceil(math.log(20) / to_the_null(rate, n_b, n_c, signal))
    taken = []
    for _ in range(ROLLOUTS):
        game = NotWorse(ratio=signal.ratio, margin=signal.margin, noise=signal.noise)
        hour = 60 * per_minute
        log = game.add(Row(hour, binomial(rng, hour, rate), 0, 0))
        minutes = 0
        while log < math.log(20) and minutes < 8 * least:
            row = Row(n_b, binomial(rng, n_b, rate), n_c, binomial(rng, n_c, rate))
            log, minutes = game.add(row), minutes + 1
        taken.append(minutes)
    assert median(taken) <= 1.25 * least


def test_a_copy_goes_on_by_itself() -> None:
    """And gives the same numbers as the one it was made from."""
    game = NotWorse(ratio=1.1, margin=0.005, noise=0.05)
    game.add(Row(5000, 5, 500, 1))
    twin = copy.copy(game)
    game.add(Row(500, 50, 500, 0))
    assert twin.add(Row(400, 1, 100, 0)) != game.add(Row(400, 1, 100, 0))
    again = NotWorse(ratio=1.1, margin=0.005, noise=0.05)
    again.add(Row(5000, 5, 500, 1))
    again.add(Row(400, 1, 100, 0))
    assert again.add(Row(400, 0, 100, 0)) == twin.add(Row(400, 0, 100, 0))


def late(
    rng: Random, after: int, per_minute: int, share: float, rates: tuple[float, float]
) -> Iterator[Row]:
    """An hour of the baseline, healthy minutes, and then a canary that has the second rate."""
    n_c = round(per_minute * share)
    n_b, hour = per_minute - n_c, 60 * per_minute
    yield Row(hour, binomial(rng, hour, rates[0]), 0, 0)
    for minute in itertools.count():
        rate = rates[minute >= after]
        yield Row(n_b, binomial(rng, n_b, rates[0]), n_c, binomial(rng, n_c, rate))


def found_after(rows: Iterable[Row]) -> int:
    """How many minutes until the canary is found worse, by the defaults."""
    game = WorseEvidence(**TOLERANCE)
    return next(i for i, row in enumerate(rows) if game.add(row) >= math.log(20))


@pytest.mark.no_cover
@pytest.mark.parametrize(
    "after, per_minute, share, rates, most",
    [
        (60, 500, 0.25, (0.001, 0.02), 7),
        (60, 2500, 0.05, (0.001, 0.02), 6),
        pytest.param(600, 500, 0.25, (0.001, 0.02), 9, marks=pytest.mark.long),
        pytest.param(600, 2500, 0.05, (0.001, 0.02), 7, marks=pytest.mark.long),
        pytest.param(600, 500, 0.25, (0.3, 0.6), 9, marks=pytest.mark.long),
        pytest.param(600, 5, 0.5, (0.0, 1.0), 4, marks=pytest.mark.long),
        (60, 10**6, 0.1, (0.001, 0.02), 6),
    ],
)
def test_a_late_change_is_found(
    after: int, per_minute: int, share: float, rates: tuple[float, float], most: int
) -> None:
    """The median of some rollouts; the capital of the healthy hours need not be won back."""
    rng = Random(f"{after} {per_minute} {share}")
    taken = [found_after(late(rng, after, per_minute, share, rates)) - after for _ in range(15)]
    assert 0 < median(taken) <= most


@pytest.mark.no_cover
@pytest.mark.long
def test_bursts_of_one_variant() -> None:
    """Two hot containers in ten hours: a tenth of the canary at 20 times its rate for 3 minutes."""
    rng, found, rollouts = Random("hot"), 0, 40
    for _ in range(rollouts):
        hot = {start + i for start in rng.sample(range(600), 2) for i in range(3)}
        rates = [0.01 * (2.9 if minute in hot else 1) for minute in range(600)]
        rows = (Row(3750, binomial(rng, 3750, 0.01), 1250, binomial(rng, 1250, p)) for p in rates)
        path = worse([Row(300_000, 3000, 0, 0), *rows], **TOLERANCE)
        found += path[-1] >= math.log(20)
    assert found <= 0.12 * rollouts


def exceeding(n_b: int, n_c: int, usual: float) -> float:
    """The least canary rate that is no chance within 15 minutes, nor in any one of them.

    It exceeds what the margin and twice the signal's noise tolerate: by 11 standard deviations in
    all of them, and by 2.5 in each.
    """
    tolerated = SIGNALS[0].ratio * (1 + 2 * SIGNALS[0].noise) * usual + SIGNALS[0].margin
    rate = tolerated
    while rate < 1:
        spread = max(tolerated * (1 - tolerated), rate * (1 - rate))
        deviation = math.sqrt(n_c * spread * (1 + n_c / n_b))
        if (rate - tolerated) * n_c >= max(11 / math.sqrt(15), 2.5) * deviation:
            break
        rate = min(1.02 * rate + 1e-4, 1.0)
    return rate


@pytest.mark.no_cover
@pytest.mark.long
@pytest.mark.parametrize("after", [20, 60, 360])
@pytest.mark.parametrize("usual", [0.0, 0.001, 0.05, 0.3, 0.6])
@pytest.mark.parametrize("per_minute", [100, 14_000, 10**6])
def test_what_exceeds_the_margin_plainly_is_found_within_fifteen_minutes(
    per_minute: int, usual: float, after: int
) -> None:
    """Whenever it begins. With half of the evidence, as beside one more signal."""
    for share in (0.05, 0.5, 0.9):
        n_c = round(per_minute * share)
        rates = usual, exceeding(per_minute - n_c, n_c, usual)
        rng = Random(f"{per_minute} {usual} {after} {share}")
        game = WorseEvidence(**{**TOLERANCE, "alpha": 0.025})
        rows = itertools.islice(late(rng, after, per_minute, share, rates), after + 16)
        path = [game.add(row) for row in rows]
        assert path[after] < math.log(40) <= path[-1] or rates[1] == 1, share
