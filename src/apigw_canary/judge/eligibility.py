"""Which minutes are evidence, of those that a canary may have had requests in.

Of latency, minutes of warm containers. The first full minute after the start, for errors: it is not
among the judged minutes, because an earlier canary may have had requests in it, and a change takes
seconds to reach every place where requests are split. But where the hour before shows no earlier
canary, it is compared as well. It never counts for the canary.
"""

from datetime import datetime, timedelta

from apigw_canary.judge.evidence import UNHEALTHY, Detector, Row, highest_healthy
from apigw_canary.judge.observation import (
    MINUTE,
    Minute,
    Observation,
    ceil_minute,
    floor_minute,
)
from apigw_canary.judge.signals import ERRORS_4XX, ERRORS_5XX, Signal

WARM_UP = timedelta(minutes=5)
"""How long after the start or a shift a canary's containers may be new: they start with the first
requests that need them. A choice; benchmarks/latency.py has what comes of it."""

_NEAR, _FAR = 5, 15
"""How many minutes ago the canary must have been as busy, at least and at most. AWS does not
document for how long an idle container stays warm."""

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
        self._recent: list[tuple[datetime, float]] = []  # minutes with canary requests

    def add(self, minute: Minute) -> bool:
        """Whether one more minute counts."""
        if not self._changes or not minute.canary_requests:
            return True
        latest, earliest = minute.at - _NEAR * MINUTE, minute.at - _FAR * MINUTE
        before = [each for each in self._recent if each[0] >= earliest]
        self._recent = [*before, (minute.at, minute.canary_requests)]
        lately = before[-_NEAR:]
        # Its first minute is the one so long ago only if the canary had requests in each since.
        if is_warm_up(minute, self._changes) or len(lately) < _NEAR or lately[0][0] < latest:
            return False
        busiest = max(requests for at, requests in before if at <= latest)
        return minute.canary_requests <= _RISE * busiest


def first_minute(signal: Signal, observation: Observation) -> Minute | None:
    """The first full minute of an error signal, if no earlier canary can be in it.

    The minutes before the start must be known, and the canary must have no requests in them. (The
    minute of the start itself is left out: an earlier canary may have ended in it.)
    """
    if signal.counted not in (ERRORS_5XX, ERRORS_4XX):
        return None
    start = floor_minute(observation.started_at)
    first, has_history = ceil_minute(observation.started_at), False
    for minute in observation.minutes.get(signal.name, ()):
        if minute.at >= first:
            return minute if minute.at == first and has_history else None
        if minute.at < start:
            if minute.canary_requests:
                return None
            has_history = has_history or minute.baseline_requests > minute.baseline_unknown
    return None


class FirstMinute:
    """Hands the first minute out after the next one, if the baseline was not unhealthy in that.

    An incident that begins within the first minute counts more for one variant if the requests were
    split differently before and after. Whether the minute is handed out depends on other minutes
    only, so the capital that is bet in it keeps its expectation. Of the next minute the baseline's
    requests are asked alone: what only the canary fails in is none of an incident.
    """

    def __init__(self, signal: Signal, row: Row | None) -> None:
        self._signal, self._row = signal, row
        self._bad = self._requests = 0.0

    def after(self, minute: Minute, row: Row) -> Row | None:
        """What is to be judged after this minute, the next in order."""
        first = self._row
        if first is None:
            return None
        if not minute.canary_requests:
            self._bad += row.baseline_bad
            self._requests += row.baseline_known
            return None
        self._row = None
        limit = highest_healthy(self._signal, self._bad, self._requests)
        log = Detector().add(row.baseline_known, row.baseline_bad, limit)
        return first if log < UNHEALTHY else None
