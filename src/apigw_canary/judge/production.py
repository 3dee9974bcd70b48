"""Whether production, both variants together, fails far more than it did before the canary.

What hits both variants is no evidence against the canary, and the canary may still be its cause: it
may have broken a table that both of them read. So nothing is shifted up while production is
unhealthy. None of this has an error probability: the limit is a choice (drifts of twice the past
rate are tolerated), and how often healthy canaries are held by it was measured.
"""

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from apigw_canary.judge.detector import Detector
from apigw_canary.judge.evidence import Row
from apigw_canary.judge.gathering import Gathered
from apigw_canary.judge.observation import MINUTE, Observation
from apigw_canary.judge.signals import Signal

AFTER_A_CHANGE = timedelta(minutes=5)
"""How soon after the canary's start, or a shift, a rise may be due to it."""

_DRIFT = 2.0
"""Times the past rate that production may drift to by itself, with the margin on top."""
_MOST_LIMIT = 0.9
UNHEALTHY = math.log(20)
"""The detector's evidence from which production is unhealthy."""
_HEALTHY_MINUTES = 5
"""It is healthy again when so many minutes together, since it began, are within the limit."""
_PRIOR_BAD, _PRIOR_REQUESTS = 0.5, 200.0
"""What the past rate starts from, as in `evidence`."""


class Unhealthy(NamedTuple):
    """Production fails more than it did before the canary."""

    since: datetime
    """The minute with which it began."""
    rate: float
    """Production's rate of bad requests since then, 0 to 1."""
    baseline_rate: float | None
    """The baseline's own rate since then; None where it had no requests."""
    past_rate: float
    """Production's rate in the hour before the canary."""
    threshold: float
    """The rate above which production counts as unhealthy."""
    follows: datetime | None
    """The canary's start, or the present step's, if it began within five minutes after it."""
    throughout: bool
    """Whether it began at least the period ago, and each of the period's minutes with requests is
    above the threshold; at least half of the period's minutes have requests."""
    only_canary: bool
    """Whether the baseline by itself has been within the threshold since then."""

    def __str__(self) -> str:
        return (
            f"rose from {100 * self.past_rate:.2f} % to {100 * self.rate:.2f} % at "
            f"{self.since.astimezone(UTC):%H:%M} UTC"
        )


def has_history(g: Gathered, observation: Observation) -> bool:
    """Whether the hour before the canary had requests of known outcome to compare with."""
    return all(_past(g, rows, observation)[1] > 0 for rows in g.readings)


def unhealthy(g: Gathered, observation: Observation, *, period: timedelta) -> Unhealthy | None:
    """Whether production is unhealthy in this signal, and since when; None where it is not.

    Without requests in the hour before the canary there is nothing to compare with, and the answer
    is None as well (`has_history`). Requests of unknown outcome are left out. Where the
    interpretation of the overlap is open, it is unhealthy if it is in any; `follows`,
    `throughout` and `only_canary` hold only if they do in each.
    """
    found = [_unhealthy(g, rows, observation, period) for rows in g.readings]
    some = [each for each in found if each is not None]
    if not some:
        return None
    in_each = len(some) == len(found)
    return some[0]._replace(
        follows=some[0].follows if in_each and all(each.follows for each in some) else None,
        throughout=in_each and all(each.throughout for each in some),
        only_canary=in_each and all(each.only_canary for each in some),
    )


def highest_healthy(signal: Signal, past_bad: float, past_requests: float) -> float:
    """The highest rate at which production counts as healthy, from its past counts."""
    past_rate = (past_bad + _PRIOR_BAD) / (past_requests + _PRIOR_REQUESTS)
    return min(_DRIFT * past_rate + signal.margin, _MOST_LIMIT)


def _past(g: Gathered, rows: Sequence[Row], observation: Observation) -> tuple[float, float]:
    """Bad requests and requests of known outcome, in the minutes before the canary."""
    history = [
        row
        for minute, row in zip(g.minutes, rows, strict=True)
        if minute.at < observation.started_at
    ]
    return sum(row.baseline_bad for row in history), sum(row.baseline_known for row in history)


def _unhealthy(
    g: Gathered, rows: Sequence[Row], observation: Observation, period: timedelta
) -> Unhealthy | None:
    past_bad, past_requests = _past(g, rows, observation)
    if not past_requests:
        return None
    limit = highest_healthy(g.signal, past_bad, past_requests)
    minutes = [
        (minute.at, row.baseline_known + row.canary_known, row.baseline_bad + row.canary_bad)
        for minute, row in zip(g.minutes, rows, strict=True)
    ]
    minutes = [each for each in minutes if each[1] > 0]
    began = _began(minutes, limit)
    if began is None:
        return None
    since_then = [each for each in minutes if each[0] >= began]
    baseline = [row for minute, row in zip(g.minutes, rows, strict=True) if minute.at >= began]
    baseline_bad = sum(row.baseline_bad for row in baseline)
    baseline_requests = sum(row.baseline_known for row in baseline)
    first = minutes[-1][0] + MINUTE - period
    lately = [(requests, bad) for at, requests, bad in minutes if at >= first]
    return Unhealthy(
        since=began,
        rate=sum(bad for _, _, bad in since_then) / sum(requests for _, requests, _ in since_then),
        baseline_rate=baseline_bad / baseline_requests if baseline_requests else None,
        past_rate=past_bad / past_requests,
        threshold=limit,
        follows=next(
            (
                change
                for change in (observation.step_started_at, observation.started_at)
                if change - MINUTE < began <= change + AFTER_A_CHANGE
            ),
            None,
        ),
        throughout=began <= first
        and 2 * len(lately) * MINUTE >= period
        and all(bad > limit * requests for requests, bad in lately),
        only_canary=baseline_bad <= limit * baseline_requests,
    )


def _began(minutes: Sequence[tuple[datetime, float, float]], limit: float) -> datetime | None:
    """Since when it has been unhealthy; None where it is not, or is healthy again."""
    detector, is_unhealthy = Detector(), False
    risen: list[tuple[datetime, float, float]] = []  # the minutes since the evidence rose above 1
    for minute in minutes:
        _, requests, bad = minute
        log = detector.add(requests, bad, limit)
        risen = [*risen, minute] if log > 0 or is_unhealthy else []
        is_unhealthy = is_unhealthy or log >= UNHEALTHY
        lately = risen[-_HEALTHY_MINUTES:]
        requests, bad = sum(n for _, n, _ in lately), sum(x for _, _, x in lately)
        if is_unhealthy and len(lately) == _HEALTHY_MINUTES and bad <= limit * requests:
            detector, is_unhealthy, risen = Detector(), False, []
    return risen[0][0] if is_unhealthy else None
