"""Slow requests from percentiles: a limit that the baseline sets, and the share above it."""

import math
from collections.abc import Iterable, Mapping
from itertools import pairwise
from types import MappingProxyType

LADDER: Mapping[str, float] = MappingProxyType(
    {
        "Minimum": 0.0,
        "p50": 0.5,
        "p75": 0.75,
        "p90": 0.9,
        "p95": 0.95,
        "p99": 0.99,
        "p99.9": 0.999,
        "Maximum": 1.0,
    }
)
"""Statistics of a minute's latencies, and the share of them that each is not exceeded by: closest
where limits usually lie."""

_ROUNDING = 1e-9
"""0.99 times 300 is a little above 297."""


def weighted_median(values: Iterable[tuple[float, float]]) -> float | None:
    """Of (value, weight): the smallest value with half the weight at or below it; None of none.

    An incident moves it only if it has half of all the requests.
    """
    ordered = sorted(values)
    half = sum(weight for _, weight in ordered) / 2
    below = 0.0
    for value, weight in ordered:
        below += weight
        if weight and below >= half:
            return value
    return None


def share_above(limit: float, rungs: Mapping[str, float], requests: float) -> float | None:
    """The share of so many latencies above a limit, 0 to 1, from the statistics of `LADDER`.

    A percentile is taken for the latency of its rank, and those between two of them for evenly
    spread: exact for a handful, where shares alone would count too few. None where a statistic is
    missing, or they do not rise.
    """
    if rungs.keys() != LADDER.keys() or requests < 1:
        return None
    steps = [
        (rungs[name], max(math.ceil(below * requests - _ROUNDING), 1))
        for name, below in LADDER.items()
    ]
    if steps != sorted(steps):
        return None
    if limit < steps[0][0]:
        return 1.0
    for (low, reached), (high, next_reached) in pairwise(steps):
        if low <= limit < high:
            between = max(next_reached - 1 - reached, 0) * (limit - low) / (high - low)
            return 1 - (reached + between) / requests
    return 0.0
