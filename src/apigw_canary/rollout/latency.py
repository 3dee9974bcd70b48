"""Slow requests from percentiles: a limit that the baseline sets, and the share above it."""

from collections.abc import Iterable, Mapping
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


def share_above(limit: float, rungs: Mapping[str, float]) -> float | None:
    """The share of latencies above a limit, 0 to 1, from the statistics of `LADDER`.

    Linear between two of them. None where one is missing, or they do not rise.
    """
    if rungs.keys() != LADDER.keys():
        return None
    steps = [(rungs[name], below) for name, below in LADDER.items()]
    if steps != sorted(steps):
        return None
    low, below = steps[0]
    if limit < low:
        return 1.0
    for value, reached in steps[1:]:
        if limit < value:
            return 1 - below - (reached - below) * (limit - low) / (value - low)
        low, below = value, reached
    return 0.0
