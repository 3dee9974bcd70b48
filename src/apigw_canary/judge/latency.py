"""Latency: a limit that the baseline sets, the share above it, and minutes of warm containers."""

import math
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from itertools import pairwise
from types import MappingProxyType

from apigw_canary.judge.observation import MINUTE, Minute, Observation
from apigw_canary.judge.signals import Signal

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


WARM_UP = timedelta(minutes=5)
"""How long after the start or a shift a canary's containers may be new: they start with the first
requests that need them. A choice; benchmarks/latency.py has what comes of it."""

_BUSY = range(5, 16)
"""How many minutes ago the canary must have been as busy. AWS does not document for how long an
idle container stays warm."""

_RISE = 1.25
"""Times the requests of the busiest of these minutes that need no new containers. The busiest of
eleven like minutes is above their mean already."""

Changes = tuple[datetime, ...]
"""When a canary began, and when it got its present percent; nothing where a signal is not latency,
whose minutes all count."""


def changes_of(signal: Signal, observation: Observation) -> Changes:
    """After which changes the minutes of a signal do not count."""
    if not signal.is_latency:
        return ()
    return observation.started_at, observation.step_started_at


def is_warm_up(minute: Minute, changes: Changes) -> bool:
    """Whether the canary has requests in it and its containers may be new after a change."""
    return minute.canary_requests > 0 and any(
        at - MINUTE < minute.at < at + WARM_UP for at in changes
    )


class Warmth:
    """Whether a minute counts against the canary: of latency, whether its containers are warm.

    After the warm-up, a minute counts if the canary had requests in each of the five minutes before
    it, and in one of the minutes from five to fifteen before it at least 1 / 1.25 times as many. So
    the minutes after earlier shifts, of which an observation does not have the times, do not count
    either, nor those of a canary so small that each of its requests may start a container.

    Which minutes count depends on times and on numbers of requests up to the minute, and not on how
    many were slow. Given these numbers, each minute's multiplier has an expectation of at most 1
    under the null hypothesis, so the capital bet in a part of the minutes is a supermartingale too.
    """

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self._recent: list[tuple[datetime, float]] = []

    def add(self, minute: Minute) -> bool:
        """Whether one more minute counts."""
        if not self._changes:
            return True
        before = {at: n for at, n in self._recent if at >= minute.at - _BUSY[-1] * MINUTE}
        requests = [before.get(minute.at - i * MINUTE, 0.0) for i in range(1, _BUSY[-1] + 1)]
        self._recent = [*before.items(), (minute.at, minute.canary_requests)]
        if not minute.canary_requests:
            return True
        if is_warm_up(minute, self._changes) or min(requests[: _BUSY[0]]) <= 0:
            return False
        return minute.canary_requests <= _RISE * max(requests[_BUSY[0] - 1 :])
