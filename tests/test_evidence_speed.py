"""How soon the evidence comes, against the least that any test needs."""

from __future__ import annotations

import copy
import math
from random import Random
from statistics import median

import pytest

from apigw_canary import Signal
from apigw_canary.judge.evidence import NotWorse, Row
from apigw_canary.planning.chance import binomial

ROLLOUTS = 40
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
