"""Whether production, both variants together, fails far more than it did before the canary.

What hits both variants is no evidence against the canary, and the canary may still be its cause: it
may have broken a table that both of them read. So nothing is shifted up while production is
unhealthy. None of this has an error probability: the limit is a choice (drifts of twice the past
rate are tolerated), and how often healthy canaries are held by it was measured.
"""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from apigw_canary.judge.detector import UNHEALTHY, Detector, highest_healthy
from apigw_canary.judge.evidence import Row
from apigw_canary.judge.gathering import Gathered
from apigw_canary.judge.kept import Reading
from apigw_canary.judge.observation import MINUTE, Minute, Observation

AFTER_A_CHANGE = timedelta(minutes=5)
"""How soon after the canary's start, or a shift, a rise may be due to it."""

_HEALTHY_MINUTES = 5
"""It is healthy again when so many minutes together, since it began, are within the limit."""


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
    return all(fold.after(Past, observation.started_at).requests > 0 for fold in g.folds)


class Past:
    """The baseline's requests of known outcome before a time."""

    def __init__(self, before: datetime) -> None:
        self._before = before
        self.bad: float = 0.0
        self.requests: float = 0.0

    def add(self, minute: Minute, row: Row) -> None:
        """Add a minute more."""
        if minute.at < self._before:
            self.bad += row.baseline_bad
            self.requests += row.baseline_known


def unhealthy(g: Gathered, observation: Observation, *, period: timedelta) -> Unhealthy | None:
    """Whether production is unhealthy in this signal, and since when; None where it is not.

    Without requests in the hour before the canary there is nothing to compare with, and the answer
    is None as well (`has_history`). Requests of unknown outcome are left out. Where the
    interpretation of the overlap is open, it is unhealthy if it is in any; `follows`,
    `throughout` and `only_canary` hold only if they do in each.
    """
    found = [_unhealthy(g, fold, observation, period) for fold in g.folds]
    some = [each for each in found if each is not None]
    if not some:
        return None
    in_each = len(some) == len(found)
    return some[0]._replace(
        follows=some[0].follows if in_each and all(each.follows for each in some) else None,
        throughout=in_each and all(each.throughout for each in some),
        only_canary=in_each and all(each.only_canary for each in some),
    )


def _unhealthy(
    g: Gathered, fold: Reading, observation: Observation, period: timedelta
) -> Unhealthy | None:
    past = fold.after(Past, observation.started_at)
    if not past.requests:
        return None
    limit = highest_healthy(g.signal, past.bad, past.requests)
    began = fold.after(_Incident, limit).began
    if began is None:
        return None
    rows = fold.rows
    minutes = [
        (minute.at, row.baseline_known + row.canary_known, row.baseline_bad + row.canary_bad)
        for minute, row in zip(g.minutes, rows, strict=True)
    ]
    minutes = [each for each in minutes if each[1] > 0]
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
        past_rate=past.bad / past.requests,
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


class _Incident:
    """Whether production is unhealthy, and since when it is."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._detector, self._is_unhealthy = Detector(), False
        self._rose: datetime | None = None  # the minute with which the evidence rose above 1
        self._lately: list[tuple[float, float]] = []

    def add(self, minute: Minute, row: Row) -> None:
        requests, bad = row.baseline_known + row.canary_known, row.baseline_bad + row.canary_bad
        if not requests > 0:
            return
        log = self._detector.add(requests, bad, self._limit)
        if not (log > 0 or self._is_unhealthy):
            self._rose, self._lately = None, []
            return
        self._rose = self._rose or minute.at
        self._is_unhealthy = self._is_unhealthy or log >= UNHEALTHY
        self._lately = [*self._lately, (requests, bad)][-_HEALTHY_MINUTES:]
        requests, bad = (sum(each[i] for each in self._lately) for i in (0, 1))
        is_full = self._is_unhealthy and len(self._lately) == _HEALTHY_MINUTES
        if is_full and bad <= self._limit * requests:
            self._detector, self._is_unhealthy = Detector(), False
            self._rose, self._lately = None, []

    @property
    def began(self) -> datetime | None:
        """The minute with which it began; None where it is healthy, or healthy again."""
        return self._rose if self._is_unhealthy else None
