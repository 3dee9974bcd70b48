"""What decides where the canary has no baseline beside it: a step at 100 %, or a quiet minute.

At 100 % the canary is compared with the baseline's own past. That is no test: the past is another
time of day, so no error probability can be promised, and it is only done for signals that are rare
by nature (5xx errors) and were rare in the past. The constants are from measurements of healthy
days with a daily cycle of times 1.8 and three incidents a day of times 30 for 8 minutes.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from apigw_canary.judge import evidence
from apigw_canary.judge.detector import Detector
from apigw_canary.judge.evidence import Row
from apigw_canary.judge.gathering import Gathered
from apigw_canary.judge.observation import Minute, Observation
from apigw_canary.values.formatting import share

MOST_PAST = 0.02
"""The past rate up to which the past is a measure: at 5 % a daily cycle keeps healthy canaries from
being confirmed in a third of the rollouts."""

RECENT = 10
"""The canary's latest minutes with requests that must be within what is tolerated."""

_PRIOR_BAD, _PRIOR_REQUESTS = 0.5, 200.0
"""What the past rate starts from, as in `evidence`."""

_LEAST_ODDS, _TIMES_PAST_ODDS = 1 / 9, 10.0
"""A gross failure is a rate of at least 10 %, and of at least ten times the odds of the past."""
_FURTHER = 10.0
"""Times the odds at which one minute is enough, instead of two."""
_GROSS = math.log(1000)
"""The detector's evidence for a gross failure."""

_FORBIDS = math.log(20)
"""The detector's evidence with which minutes without a baseline forbid a shift or promotion."""
_ALLOWS = 5
"""They forbid it no longer when so many of them together, since then, are within what is
tolerated."""
_MOST_TOLERATED = 0.9


class GrossFailure(NamedTuple):
    """At 100 %, the canary fails far more than production did before."""

    requests: float
    """The canary's requests in the minutes that show it."""
    bad: float
    """Bad ones among them."""
    minutes: int
    """How many minutes these are, the latest with requests: 1 or 2."""
    past_rate: float | None
    """The baseline's rate before this step, 0 to 1; None where it had no requests."""
    threshold: float
    """The rate that each of the minutes exceeds."""

    @property
    def rate(self) -> float:
        """The canary's rate in these minutes, 0 to 1."""
        return self.bad / self.requests

    def __str__(self) -> str:
        latest = "last minute" if self.minutes == 1 else f"last {self.minutes} minutes"
        before = (
            "the baseline had no requests before this step"
            if self.past_rate is None
            else f"before this step they were {100 * self.past_rate:.2f} % on the baseline"
        )
        return f"{100 * self.rate:.2f} % of {self.requests:,.0f} requests in the {latest}; {before}"


class AgainstPast(NamedTuple):
    """At 100 %, the canary compared with the baseline's past: what a promotion needs."""

    applies: bool
    """Whether the past is a measure: the baseline had requests, and at most 2 % of them bad."""
    confirmed: bool
    """Whether the evidence suffices, and the canary is within what is tolerated in all complete
    minutes of the step together, and in the last ten."""
    requests: float
    """The canary's requests in all complete minutes of the step."""
    bad: float
    """Bad ones among them."""
    unknown: float
    """Those of unknown outcome, which count as bad here."""
    past_rate: float | None
    """The baseline's rate before the step, 0 to 1; None where it had no requests."""
    tolerated: float
    """The rate that is tolerated: ratio x the past rate + margin."""
    log_evidence: float
    """The log of the evidence for "not worse than the past"."""
    log_threshold: float
    """What it must reach."""
    recent_rate: float | None
    """The canary's rate in the last ten minutes with requests, with unknown outcomes as bad; None
    without such minutes."""

    def __str__(self) -> str:
        rate = (
            f"{share(self.bad / self.requests, self.requests)} requests"
            if self.requests
            else "no requests"
        )
        past = "none" if self.past_rate is None else f"{100 * self.past_rate:.2f} %"
        unknown = f" ({self.unknown:,.0f} unknown)" if self.unknown else ""
        return (
            f"canary {rate}{unknown} at 100 %, "
            f"the baseline's past {past}, tolerated {100 * self.tolerated:.2f} %"
        )


class PastExcess(NamedTuple):
    """The canary's latest minutes exceed what the baseline's past tolerates."""

    requests: float
    bad: float
    """Bad requests and those of unknown outcome."""
    past_rate: float
    tolerated: float


class CanaryOnly(NamedTuple):
    """Minutes in which only the canary had requests, and in which it fails too often."""

    requests: float
    """The canary's requests in these minutes, since the excess began."""
    bad: float
    """Bad ones among them, and those of unknown outcome."""
    tolerated: float
    since: datetime
    """The minute with which the excess showed."""

    def __str__(self) -> str:
        rate = self.bad / self.requests
        return (
            f"{share(rate, self.requests)} canary requests failed in minutes without a "
            f"baseline request (tolerated {100 * self.tolerated:.2f} %)"
        )


def past_rate(g: Gathered, observation: Observation) -> float | None:
    """The baseline's rate of bad requests before the present step, 0 to 1; None without requests.

    The least of the open interpretations of the overlap.
    """
    return min(_pasts(g, observation), default=None)


def gross_failure(g: Gathered, observation: Observation) -> GrossFailure | None:
    """A gross failure at 100 %; None where there is none, below 100 %, or with a past above 2 %.

    The rate must exceed 10 %, and ten times the odds of the past, in both of the last two minutes;
    or ten times these odds (53 %) in the last one. Requests of unknown outcome count as good. Where
    errors come later than requests, the minutes that are old enough for a promotion show it, so
    these are enough as well.
    """
    pasts = _pasts(g, observation)
    highest = max(pasts, default=_PRIOR_BAD / _PRIOR_REQUESTS)
    if observation.percent < 100 or highest > MOST_PAST:
        return None
    for minutes in (g.minutes, g.confirmed):
        counts = [(m.canary_requests, m.canary_bad) for m in _of_step(minutes, observation)]
        needed = [0, *gross_minutes(counts, highest)][-1]
        if needed:
            requests, bad = _sums(counts[-needed:])
            threshold = _gross_limits(highest)[needed]
            return GrossFailure(requests, bad, needed, min(pasts, default=None), threshold)
    return None


def gross_minutes(counts: Iterable[tuple[float, float]], past: float) -> Iterator[int]:
    """After each minute (requests, bad ones), how many of the latest show a gross failure.

    2, or else 1; 0 where there is none. `past`: the past rate, 0 to 1.
    """
    limits = _gross_limits(past)
    detectors = {needed: Detector() for needed in limits}
    above = dict.fromkeys(limits, 0)
    for requests, bad in counts:
        found = 0
        for needed, limit in limits.items():
            log = detectors[needed].add(requests, bad, limit)
            above[needed] = above[needed] + 1 if bad > limit * requests else 0
            if not found and log >= _GROSS and above[needed] >= needed:
                found = needed
        yield found


def _gross_limits(past: float) -> dict[int, float]:
    """The rate of a gross failure, by how many minutes must exceed it."""
    odds = max(_LEAST_ODDS, _TIMES_PAST_ODDS * past / (1 - past))
    return {2: _from_odds(odds), 1: _from_odds(_FURTHER * odds)}


def confirmed_by_past(
    g: Gathered, observation: Observation, false_promotion: float
) -> AgainstPast | None:
    """The canary at 100 % against the baseline's past; None below 100 %.

    One-sample evidence against "the canary's rate is at least ratio x the past rate + margin", over
    all complete minutes of the step, with the past rate as it was when the step began. Requests of
    unknown outcome count as bad.
    """
    if observation.percent < 100:
        return None
    past = past_rate(g, observation)
    p = _PRIOR_BAD / _PRIOR_REQUESTS if past is None else past
    tolerated = g.signal.ratio * p + g.signal.margin
    applies = past is not None and past <= MOST_PAST and tolerated < 1
    minutes = _of_step(g.confirmed, observation)
    requests, bad = _sums(_pessimistic(minutes))
    n_recent, x_recent = _sums(_pessimistic(minutes[-RECENT:]))
    log = _log_against(tolerated, p, requests, bad) if applies else 0.0
    threshold = -math.log(false_promotion)
    return AgainstPast(
        applies=applies,
        confirmed=applies
        and log >= threshold
        and bad <= tolerated * requests
        and x_recent <= tolerated * n_recent,
        requests=requests,
        bad=sum(minute.canary_bad for minute in minutes),
        unknown=sum(minute.canary_unknown for minute in minutes),
        past_rate=past,
        tolerated=tolerated,
        log_evidence=log,
        log_threshold=threshold,
        recent_rate=x_recent / n_recent if n_recent else None,
    )


def exceeds_past(g: Gathered, observation: Observation) -> PastExcess | None:
    """The canary's last ten minutes with requests, if they exceed what the past tolerates.

    For signals that the past is no measure for otherwise. Unknown outcomes count as bad.
    """
    past = past_rate(g, observation)
    if past is None:
        return None
    tolerated = g.signal.ratio * past + g.signal.margin
    requests, bad = _sums(_pessimistic(_of_step(g.confirmed, observation)[-RECENT:]))
    return PastExcess(requests, bad, past, tolerated) if bad > tolerated * requests else None


def canary_only_excess(g: Gathered, observation: Observation) -> CanaryOnly | None:
    """The minutes with canary requests only, where they forbid a shift or promotion; else None.

    They are no evidence for either side; but a canary that fails in them is not shifted up. They
    forbid from an evidence of 20 on until the last five of them together are within what the
    baseline's past minutes tolerate. Unknown outcomes count as bad. Where the interpretation of the
    overlap is open, they forbid if they do in any.
    """
    first = observation.judged_from()
    for rows in g.readings:
        x_b, n_b = _PRIOR_BAD, _PRIOR_REQUESTS
        detector = Detector()
        since: datetime | None = None
        alone: list[tuple[float, float]] = []
        tolerated = _MOST_TOLERATED
        for minute, row in zip(g.minutes, rows, strict=True):
            if minute.at >= first and minute.canary_requests and not row.baseline_requests:
                tolerated = min(g.signal.ratio * x_b / n_b + g.signal.margin, _MOST_TOLERATED)
                n, x = minute.canary_requests, minute.canary_bad + minute.canary_unknown
                if detector.add(n, x, tolerated) >= _FORBIDS and since is None:
                    since = minute.at
                alone = [*alone, (n, x)] if since else []
                requests, bad = _sums(alone[-_ALLOWS:])
                if len(alone) >= _ALLOWS and bad <= tolerated * requests:
                    detector, since = Detector(), None
            x_b, n_b = x_b + row.baseline_bad, n_b + row.baseline_known
        if since is not None:
            requests, bad = _sums(alone)
            return CanaryOnly(requests, bad, tolerated, since)
    return None


def has_comparable_minute(g: Gathered, observation: Observation) -> bool:
    """Whether a complete minute of this canary had requests of both variants.

    In each open interpretation of the overlap.
    """
    first = observation.judged_from()
    return all(
        any(
            minute.at >= first and row.baseline_requests > 0 and row.canary_requests > 0
            for minute, row in zip(g.confirmed, rows, strict=True)
        )
        for rows in g.confirmed_readings
    )


def past_counts(g: Gathered, rows: Sequence[Row], observation: Observation) -> tuple[float, float]:
    """The baseline's bad requests and requests before the present step, with the prior on top."""
    before = observation.step_started_at
    past = [row for minute, row in zip(g.minutes, rows, strict=True) if minute.at < before]
    return (
        sum(row.baseline_bad for row in past) + _PRIOR_BAD,
        sum(row.baseline_known for row in past) + _PRIOR_REQUESTS,
    )


def _pasts(g: Gathered, observation: Observation) -> list[float]:
    """The past rate in each interpretation of the overlap in which the baseline had requests."""
    counts = (past_counts(g, rows, observation) for rows in g.readings)
    return [bad / requests for bad, requests in counts if requests > _PRIOR_REQUESTS]


def _of_step(minutes: Iterable[Minute], observation: Observation) -> list[Minute]:
    """The minutes of the present step in which the canary had requests."""
    first = observation.step_judged_from()
    return [minute for minute in minutes if minute.at >= first and minute.canary_requests]


def _pessimistic(minutes: Iterable[Minute]) -> list[tuple[float, float]]:
    return [(m.canary_requests, m.canary_bad + m.canary_unknown) for m in minutes]


def _sums(counts: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return sum(requests for requests, _ in counts), sum(bad for _, bad in counts)


def _from_odds(odds: float) -> float:
    return odds / (1 + odds)


def _log_against(tolerated: float, past: float, requests: float, bad: float) -> float:
    """Log evidence against "the rate is at least `tolerated`", with the stakes of `evidence`.

    Each stake is fixed beforehand, and multiplies by at most 1 on average under the null.
    """
    p = min(past, 0.98 * tolerated)
    fastest = min(
        0.95 * (tolerated - p) / (tolerated * (1 - tolerated)), evidence.CAUTION / (1 - tolerated)
    )
    logs = [a * tolerated * requests + bad * math.log1p(-a) for a in evidence.STAKES]
    logs.append(
        bad * math.log1p(-fastest * (1 - tolerated))
        + (requests - bad) * math.log1p(fastest * tolerated)
    )
    return evidence.log_mean(logs, evidence.NOT_WORSE_WEIGHTS)
