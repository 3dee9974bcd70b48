"""Rollouts to judge: counts per minute of both arms, made with fixed seeds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
HISTORY = 60
"""Minutes of baseline before a rollout."""


@dataclass(frozen=True)
class Rollouts:
    """Many rollouts under the same conditions. Arrays: one row a rollout, one column a minute."""

    n_b: Counts
    x_b: Counts
    n_c: Counts
    x_c: Counts
    history_requests: int
    history_bad: Counts
    """One number a rollout."""
    shares: list[float]
    """The canary's, minute by minute."""


def rollouts(
    rng: np.random.Generator,
    *,
    count: int,
    requests: int,
    shares: list[float],
    base: float,
    canary: float | None = None,
    spread: float = 0.0,
    noise: float = 0.0,
    incidents: int = 0,
    missing: float = 0.0,
) -> Rollouts:
    """Make `count` rollouts of `len(shares)` minutes with `requests` a minute.

    `base`, `canary`: rates of bad requests. `spread`: coefficient of variation per minute of both
    arms together; `noise`: of each arm by itself. `incidents`: ten minutes each, both arms x20.
    `missing`: the share of minutes in which one arm's data is lost, and of those that lack some.
    """
    size = (count, len(shares))
    level = _gamma(rng, spread, size)
    minutes = np.arange(len(shares))
    for _ in range(incidents):
        start = rng.integers(0, len(shares), (count, 1))
        level = np.where((minutes >= start) & (minutes < start + 10), 20 * level, level)
    n_c = np.broadcast_to(np.round(requests * np.array(shares)).astype(np.int64), size).copy()
    n_b = requests - n_c
    worse = base if canary is None else canary
    p_b = np.minimum(base * level * _gamma(rng, noise, size), 0.9)
    p_c = np.minimum(worse * level * _gamma(rng, noise, size), 0.9)
    if missing:
        n_b[rng.random(size) < missing / 2] = 0
        n_c[rng.random(size) < missing / 2] = 0
        late = rng.random(size) < missing  # errors are published later than counts, of both arms
        p_b, p_c = np.where(late, 0.5 * p_b, p_b), np.where(late, 0.5 * p_c, p_c)
    seen = HISTORY * requests
    return Rollouts(
        n_b=n_b,
        x_b=rng.binomial(n_b, p_b),
        n_c=n_c,
        x_c=rng.binomial(n_c, p_c),
        history_requests=seen,
        history_bad=rng.binomial(seen, base, count),
        shares=shares,
    )


def _gamma(
    rng: np.random.Generator, variation: float, size: tuple[int, int]
) -> NDArray[np.float64]:
    """Factors of mean 1 with this coefficient of variation."""
    if not variation:
        return np.ones(size)
    return rng.gamma(variation**-2, variation**2, size)


STANDARD_PLAN = [0.05] * 10 + [0.25] * 10 + [0.5] * 10
"""The canary's share, minute by minute."""


@dataclass(frozen=True)
class Healthy:
    """A canary that is as good as its baseline."""

    requests: int
    base: float
    minutes: int = 180
    share: float | None = None
    """None for the standard plan (30 minutes)."""
    spread: float = 0.0
    incidents: int = 0
    missing: float = 0.0

    def shares(self) -> list[float]:
        """The canary's share in each minute."""
        return STANDARD_PLAN if self.share is None else [self.share] * self.minutes


HEALTHY = (
    Healthy(5, 0.05, share=0.5),
    Healthy(5, 0.01),
    Healthy(50, 0.0),
    Healthy(50, 0.001, share=0.25),
    Healthy(50, 0.05, share=0.1),
    Healthy(500, 0.0, share=0.1),
    Healthy(500, 0.001),
    Healthy(500, 0.001, share=0.05),
    Healthy(500, 0.01),
    Healthy(500, 0.01, share=0.5),
    Healthy(500, 0.05, share=0.1),
    Healthy(5000, 0.001, share=0.01),
    Healthy(5000, 0.01, share=0.25),
    Healthy(5000, 0.05),
    Healthy(500, 0.01, share=0.1, spread=0.5),
    Healthy(5000, 0.01, share=0.5, spread=1.0),
    Healthy(500, 0.001, share=0.1, incidents=3),
    Healthy(5000, 0.01, share=0.25, incidents=3, spread=0.3),
    Healthy(500, 0.01, incidents=1),
    Healthy(500, 0.01, share=0.25, missing=0.2),
    Healthy(5000, 0.001, share=0.1, missing=0.2, spread=0.3),
)
NOISY = (
    Healthy(500, 0.01, share=0.1),
    Healthy(5000, 0.01),
    Healthy(5000, 0.01, share=0.5),
    Healthy(5000, 0.05, share=0.1),
    Healthy(5000, 0.05, share=0.5),
    Healthy(50000, 0.02, share=0.5),
    Healthy(5000, 0.01, share=0.25, incidents=3),
)
"""Conditions for rollouts in which each arm varies by itself."""


@dataclass(frozen=True)
class Worse:
    """A canary that is worse, at a constant share."""

    requests: int
    share: float
    base: float
    canary: float
    limit: float
    """Minutes that no test with this risk can beat on average: log(1/alpha) / KL."""


def worse_canaries(ratio: float, slack: float, alpha: float) -> Iterator[Worse]:
    """Those whose limit lies between 5 and 90 minutes."""
    for requests in (500, 1500, 5000):
        for share in (0.01, 0.05, 0.1, 0.25, 0.5):
            for base in (0.001, 0.003, 0.01, 0.03, 0.1, 0.3):
                for times in (1.25, 1.5, 2, 3, 5, 10):
                    canary = base * times
                    if canary > 0.95 or canary <= ratio * base + slack:
                        continue
                    n_c = round(requests * share)
                    limit = math.log(1 / alpha) / _divergence(
                        requests - n_c, n_c, base, canary, ratio=ratio, slack=slack
                    )
                    if 5 <= limit <= 90:
                        yield Worse(requests, share, base, canary, limit)


def _divergence(
    n_b: int, n_c: int, base: float, canary: float, *, ratio: float, slack: float
) -> float:
    """The Kullback–Leibler divergence of a minute from the nearest tolerated rates, in nats."""

    def away(p: float) -> float:
        return n_b * _kl(base, p) + n_c * _kl(canary, ratio * p + slack)

    low, high = base / 2, min((1 - slack) / ratio - 1e-9, canary)
    for _ in range(100):
        third = (high - low) / 3
        if away(low + third) < away(high - third):
            high -= third
        else:
            low += third
    return away((low + high) / 2)


def _kl(p: float, q: float) -> float:
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
