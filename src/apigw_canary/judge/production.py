"""Rules about production, outside the stated error rates: its health, and what a canary costs it.

- Production, both variants together, fails far more than it did before the canary. What hits both
  variants is no evidence against the canary, and the canary may still be its cause: it may have
  broken a table that both of them read. So nothing is shifted up while production is unhealthy. The
  limit is a choice (drifts of twice the past rate are tolerated), and how often healthy canaries
  are held by it was measured.
- How many more requests a canary has failed than it would have at production's rate is a cost, and
  no test: `max_failed_requests` is held against it.
"""

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from apigw_canary.judge.analysis import SignalEvidence
from apigw_canary.judge.evidence import (
    PRIOR_BAD,
    PRIOR_REQUESTS,
    UNHEALTHY,
    Detector,
    Row,
    highest_healthy,
)
from apigw_canary.judge.kept import Interpretation
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
    healthy_baseline_rate: float | None = None
    """The baseline's own rate in an interpretation of the overlap by which it has been within the
    threshold since then; None where none is so. For the reason of a Hold only."""

    def __str__(self) -> str:
        return (
            f"rose from {100 * self.past_rate:.2f} % to {100 * self.rate:.2f} % at "
            f"{self.since.astimezone(UTC):%H:%M} UTC"
        )


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


def unhealthy(
    g: SignalEvidence, observation: Observation, *, period: timedelta
) -> Unhealthy | None:
    """Whether production is unhealthy in this signal, and since when; None where it is not.

    Without requests in the hour before the canary there is nothing to compare with, and the answer
    is None as well. Requests of unknown outcome are left out. Where the
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
        healthy_baseline_rate=next((each.baseline_rate for each in some if each.only_canary), None),
    )


def _unhealthy(
    g: SignalEvidence, fold: Interpretation, observation: Observation, period: timedelta
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


EXCESS_CAUTION = 4.0
"""Standard errors in the canary's favor, since it is judged every minute."""

DRIFT = 2.0
"""Times its past rate that production may drift to by itself, as for production that is unhealthy:
at 100 % only what is beyond that counts."""


class Excess(NamedTuple):
    """Bad requests of the canary beyond those at production's rate."""

    surely: float
    """The estimate less four of its standard errors, below 100 % and at 100 % each."""
    estimate: float
    at_100: float
    """What of the estimate is of the present step at 100 %; 0 below."""


def excess(g: SignalEvidence, observation: Observation) -> Excess:
    """The bad requests of the canary in excess; of the open interpretations the least.

    Below 100 % minute by minute beside the baseline, so that an incident of both variants does not
    count, whatever the percent. At 100 %, beyond twice the baseline's rate before the step, from
    the minute on that makes it most: healthy hours are no credit. Requests of unknown outcome count
    in the canary's favor.
    """
    return min(_excess(g, fold, observation) for fold in g.folds)


def _excess(g: SignalEvidence, fold: Interpretation, observation: Observation) -> Excess:
    first = observation.step_judged_from() if observation.percent == 100 else None
    beside = fold.after(_Beside, first)
    surely = beside.estimate - EXCESS_CAUTION * math.sqrt(beside.variance)
    if first is None:
        return Excess(surely, beside.estimate, 0.0)
    step = [(m.canary_requests, m.canary_bad) for m in g.minutes if m.at >= first]
    past = fold.after(Past, observation.step_started_at)
    at_100 = _beyond_past(step, past.bad + PRIOR_BAD, past.requests + PRIOR_REQUESTS)
    return Excess(
        max(surely, 0.0) + at_100.surely,
        max(beside.estimate, 0.0) + at_100.at_100,
        at_100.at_100,
    )


class _Beside:
    """The excess in the minutes with requests of both variants, before a step at 100 %."""

    def __init__(self, until: datetime | None) -> None:
        self._until = until
        self.estimate = self.variance = 0.0

    def add(self, minute: Minute, row: Row) -> None:
        if self._until is not None and minute.at >= self._until:
            return
        if row.baseline_requests and row.canary_requests:
            baseline_bad = row.baseline_bad + row.baseline_unknown
            times = row.canary_requests / row.baseline_requests
            self.estimate += row.canary_bad - times * baseline_bad
            # The baseline's part has the variance of both variants at one rate: a small baseline
            # without bad requests does not show that its rate is 0.
            rate = (row.canary_bad + baseline_bad) / (row.canary_requests + row.baseline_requests)
            self.variance += row.canary_bad + times * row.canary_requests * rate


def _beyond_past(
    step: Sequence[tuple[float, float]], past_bad: float, past_requests: float
) -> Excess:
    """Of all the ends of the step's minutes (requests, bad ones), the one that exceeds most."""
    most = Excess(0.0, 0.0, 0.0)
    requests = bad = 0.0
    for more, more_bad in reversed(step):
        requests, bad = requests + more, bad + more_bad
        times = DRIFT * requests / past_requests
        estimate = bad - times * past_bad
        surely = estimate - EXCESS_CAUTION * math.sqrt(bad + times * times * past_bad)
        most = max(most, Excess(surely, estimate, estimate))
    return most
