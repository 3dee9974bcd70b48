"""Rules where data is missing, outside the stated error rates.

- Where the canary has no baseline beside it, at a step at 100 % or in a minute of few requests, it
  is compared with the baseline's own past. That is no test: the past is another time of day, so no
  error probability can be promised, and it is only done for signals that are rare by nature (5xx
  errors) and were rare in the past. The constants are from measurements of healthy days with a
  daily cycle of times 1.8 and three incidents a day of times 30 for 8 minutes.
- The evidence carries requests whose outcome could not be read at their worst (`evidence.Row`).
  That keeps both risks, but it does not show that something is wrong with the data. These rules
  do: too many of them on the canary make the data suspect, and with more of them on the canary than
  on the baseline the canary counts as unobserved.
"""

import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from apigw_canary.judge import evidence
from apigw_canary.judge.analysis import SignalEvidence
from apigw_canary.judge.evidence import (
    PRIOR_BAD,
    PRIOR_REQUESTS,
    Detector,
    Row,
)
from apigw_canary.judge.observation import Minute, Observation
from apigw_canary.judge.production import Past
from apigw_canary.judge.signals import Signal
from apigw_canary.values import share

MOST_PAST = 0.02
"""The past rate up to which the past is a measure: at 5 % a daily cycle keeps healthy canaries from
being confirmed in a third of the rollouts."""

RECENT = 10
"""The canary's latest minutes with requests that must be within what is tolerated."""

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


def past_rate(g: SignalEvidence, observation: Observation) -> float | None:
    """The baseline's rate of bad requests before the present step, 0 to 1; None without requests.

    The least of the open interpretations of the overlap.
    """
    return min(_pasts(g, observation), default=None)


def gross_failure(g: SignalEvidence, observation: Observation) -> GrossFailure | None:
    """A gross failure at 100 %; None where there is none, below 100 %, or with a past above 2 %.

    The rate must exceed 10 %, and ten times the odds of the past, in both of the last two minutes;
    or ten times the odds of that limit (53 % for 10 %) in the last one. Requests of unknown outcome
    count as good. Where errors come later than requests, the minutes that are old enough for a
    promotion show it, so these are enough as well.
    """
    if observation.percent < 100:
        return None
    pasts = _pasts(g, observation)
    highest = max(pasts, default=PRIOR_BAD / PRIOR_REQUESTS)
    if highest > MOST_PAST:
        return None
    for fold in (g.folds[0], g.confirmed_folds[0]):  # the canary's counts are the same in each
        gross = fold.after(Gross, highest, observation.step_judged_from())
        if gross.minutes:
            requests, bad = sums(gross.latest[-gross.minutes :])
            threshold = gross.limits[2 - gross.minutes]
            return GrossFailure(requests, bad, gross.minutes, min(pasts, default=None), threshold)
    return None


class Gross:
    """Whether the canary's latest minutes since a time show a gross failure."""

    def __init__(self, past: float, first: datetime) -> None:
        """`past`: the past rate, 0 to 1."""
        self._first = first
        odds = max(_LEAST_ODDS, _TIMES_PAST_ODDS * past / (1 - past))
        self.limits: tuple[float, float] = (_from_odds(odds), _from_odds(_FURTHER * odds))
        """The rate of a gross failure in two minutes, and in one."""
        self._in_two, self._in_one = Detector(), Detector()
        self.latest: list[tuple[float, float]] = []
        self.minutes: int = 0
        """How many of the latest minutes show one: 2, or else 1; 0 where there is none."""

    def add(self, minute: Minute, _: object = None) -> int:
        """Add a minute more: the number of minutes that show one."""
        if minute.at >= self._first and (requests := minute.canary_requests):
            bad, (lower, upper) = minute.canary_bad, self.limits
            self.latest = [*self.latest[-1:], (requests, bad)]
            logs = self._in_two.add(requests, bad, lower), self._in_one.add(requests, bad, upper)
            both = len(self.latest) == 2 and all(bad > lower * n for n, bad in self.latest)
            if logs[0] >= _GROSS and both:
                self.minutes = 2
            else:
                self.minutes = int(logs[1] >= _GROSS and bad > upper * requests)
        return self.minutes


def confirmed_by_past(
    g: SignalEvidence, observation: Observation, false_promotion: float
) -> AgainstPast | None:
    """The canary at 100 % against the baseline's past; None below 100 %.

    One-sample evidence against "the canary's rate is at least ratio x the past rate + margin", over
    all complete minutes of the step, with the past rate as it was when the step began. Requests of
    unknown outcome count as bad.
    """
    if observation.percent < 100:
        return None
    past = past_rate(g, observation)
    p = PRIOR_BAD / PRIOR_REQUESTS if past is None else past
    tolerated = g.signal.ratio * p + g.signal.margin
    applies = past is not None and past <= MOST_PAST and tolerated < 1
    minutes = _of_step(g.confirmed, observation)
    requests, bad = sums(_pessimistic(minutes))
    n_recent, x_recent = sums(_pessimistic(minutes[-RECENT:]))
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


def exceeds_past(g: SignalEvidence, observation: Observation) -> PastExcess | None:
    """The canary's last ten minutes with requests, if they exceed what the past tolerates.

    For signals that the past is no measure for otherwise. Unknown outcomes count as bad.
    """
    past = past_rate(g, observation)
    if past is None:
        return None
    tolerated = g.signal.ratio * past + g.signal.margin
    requests, bad = sums(_pessimistic(_of_step(g.confirmed, observation)[-RECENT:]))
    return PastExcess(requests, bad, past, tolerated) if bad > tolerated * requests else None


def canary_only_excess(g: SignalEvidence, observation: Observation) -> CanaryOnly | None:
    """The minutes with canary requests only, where they forbid a shift or promotion; else None.

    They are no evidence for either side; but a canary that fails in them is not shifted up. They
    forbid from an evidence of 20 on until the last five of them together are within what the
    baseline's past minutes tolerate. Unknown outcomes count as bad. Where the interpretation of the
    overlap is open, they forbid if they do in any.
    """
    for fold in g.folds:
        alone = fold.after(_Alone, g.signal, observation.judged_from())
        if alone.since is not None:
            requests, bad = sums(alone.counts)
            return CanaryOnly(requests, bad, alone.tolerated, alone.since)
    return None


class _Alone:
    """The minutes with canary requests only, since they began to forbid."""

    def __init__(self, signal: Signal, judged_from: datetime) -> None:
        self._signal, self._first = signal, judged_from
        self._bad, self._requests = PRIOR_BAD, PRIOR_REQUESTS
        self._detector = Detector()
        self.since: datetime | None = None
        self.counts: list[tuple[float, float]] = []
        self.tolerated = _MOST_TOLERATED

    def add(self, minute: Minute, row: Row) -> None:
        if minute.at >= self._first and minute.canary_requests and not row.baseline_requests:
            rate = self._bad / self._requests
            self.tolerated = min(self._signal.ratio * rate + self._signal.margin, _MOST_TOLERATED)
            n, x = minute.canary_requests, minute.canary_bad + minute.canary_unknown
            if self._detector.add(n, x, self.tolerated) >= _FORBIDS and self.since is None:
                self.since = minute.at
            self.counts = [*self.counts, (n, x)] if self.since else []
            requests, bad = sums(self.counts[-_ALLOWS:])
            if len(self.counts) >= _ALLOWS and bad <= self.tolerated * requests:
                self._detector, self.since = Detector(), None
        self._bad, self._requests = (
            self._bad + row.baseline_bad,
            self._requests + row.baseline_known,
        )


def has_comparable_minute(g: SignalEvidence, observation: Observation) -> bool:
    """Whether a complete minute of this canary had requests of both variants, of known outcome.

    In each open interpretation of the overlap.
    """
    first = observation.judged_from()
    return all(
        any(
            minute.at >= first and row.baseline_known > 0 and row.canary_known > 0
            for minute, row in zip(g.confirmed, rows, strict=True)
        )
        for rows in g.confirmed_interpretations
    )


def _pasts(g: SignalEvidence, observation: Observation) -> list[float]:
    """The past rate in each interpretation of the overlap in which the baseline had requests.

    Before the present step, with the prior on top.
    """
    pasts = (fold.after(Past, observation.step_started_at) for fold in g.folds)
    return [
        (past.bad + PRIOR_BAD) / (past.requests + PRIOR_REQUESTS) for past in pasts if past.requests
    ]


def _of_step(minutes: Iterable[Minute], observation: Observation) -> list[Minute]:
    """The minutes of the present step in which the canary had requests."""
    first = observation.step_judged_from()
    return [minute for minute in minutes if minute.at >= first and minute.canary_requests]


def _pessimistic(minutes: Iterable[Minute]) -> list[tuple[float, float]]:
    return [(m.canary_requests, m.canary_bad + m.canary_unknown) for m in minutes]


def sums(counts: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The sum of each of the two counts, such as requests and bad ones."""
    return sum([first for first, _ in counts]), sum([second for _, second in counts])


def _from_odds(odds: float) -> float:
    return odds / (1 + odds)


def _log_against(tolerated: float, past: float, requests: float, bad: float) -> float:
    """Log evidence against "the rate is at least `tolerated`", with the bets of `evidence`.

    Each bet is fixed beforehand, and multiplies by at most 1 on average under the null.
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


RECENT_OUTCOMES = 10
"""Complete minutes, the latest with requests of the variant, that are judged."""

_NOT_BY_CHANCE = 3.0
"""Standard deviations by which the canary's unknown requests must exceed those that the baseline's
part predicts, before the canary counts as unobserved. Equal parts of both differ by more in one
of 700 observations, and would have to for all of `max_unobserved` to roll back."""


class UnknownOutcomes(NamedTuple):
    """The unknown outcomes of one signal in the latest minutes, and what they mean."""

    canary_unknown: float
    """The canary's requests of unknown outcome, in its last ten complete minutes with requests."""
    canary_requests: float
    """The canary's requests in these minutes."""
    baseline_unknown: float
    """The baseline's requests of unknown outcome, in its last ten complete minutes with any."""
    baseline_requests: float
    """The baseline's requests in these minutes."""
    suspect: bool
    """Whether the canary's unknown part is above half the signal's margin."""
    unobserved_since: datetime | None
    """The minute since which, without a break, the canary's unknown part has exceeded both the
    margin and the baseline's unknown part; None where it does not."""

    @property
    def canary_part(self) -> float | None:
        """The unknown part of the canary's requests, 0 to 1; None without requests."""
        return self.canary_unknown / self.canary_requests if self.canary_requests else None

    @property
    def baseline_part(self) -> float | None:
        """The unknown part of the baseline's requests, 0 to 1; None without requests."""
        return self.baseline_unknown / self.baseline_requests if self.baseline_requests else None

    def __str__(self) -> str:
        canary = _part_of("canary", self.canary_part, self.canary_requests)
        baseline = _part_of("baseline", self.baseline_part, self.baseline_requests)
        return (
            f"the outcome of {canary} and of {baseline} could not be read, in the last "
            f"{RECENT_OUTCOMES} complete minutes with requests"
        )


def _part_of(variant: str, part: float | None, requests: float) -> str:
    return (
        f"no {variant} requests" if part is None else f"{share(part, requests)} {variant} requests"
    )


def unknown_outcomes(g: SignalEvidence, observation: Observation) -> UnknownOutcomes:
    """The unknown outcomes of a signal in the complete minutes of an observation.

    Where the interpretation of the overlap is open, the one with the least of them on the
    baseline is described, and the canary counts as unobserved only if it does in each.
    """
    found = [
        fold.after(_Latest, g.signal, observation.judged_from()).outcomes() for fold in g.folds
    ]
    if len(found) == 1:
        return found[0]
    since = [each.unobserved_since for each in found if each.unobserved_since is not None]
    least = min(found, key=lambda each: each.baseline_part or 0.0)
    return least._replace(unobserved_since=max(since) if len(since) == len(found) else None)


class _Latest:
    """The latest minutes with requests, of either variant: unknown requests, and all."""

    def __init__(self, signal: Signal, judged_from: datetime) -> None:
        self._signal, self._first = signal, judged_from
        self._canary: list[tuple[float, float]] = []
        self._baseline: list[tuple[float, float]] = []
        self._since: datetime | None = None

    def add(self, minute: Minute, row: Row) -> None:
        if row.baseline_requests:
            latest = (row.baseline_unknown, row.baseline_requests)
            self._baseline = [*self._baseline, latest][-RECENT_OUTCOMES:]
        # The canary's counts are the same in each interpretation of the overlap.
        if minute.at >= self._first and minute.canary_requests:
            latest = (minute.canary_unknown, minute.canary_requests)
            self._canary = [*self._canary, latest][-RECENT_OUTCOMES:]
            exceeds = any(unknown for unknown, _ in self._canary) and _exceeds(
                self._signal, sums(self._canary), sums(self._baseline)
            )
            self._since = (self._since or minute.at) if exceeds else None

    def outcomes(self) -> UnknownOutcomes:
        """What they come to."""
        (u_c, n_c), (u_b, n_b) = sums(self._canary), sums(self._baseline)
        suspect = u_c > self._signal.margin / 2 * n_c
        return UnknownOutcomes(u_c, n_c, u_b, n_b, suspect, self._since)


def _exceeds(signal: Signal, canary: tuple[float, float], baseline: tuple[float, float]) -> bool:
    """Whether the canary's unknown part is above the margin, and above the baseline's.

    Above the baseline's by more than the signal's ratio and chance explain: like parts of both
    differ by a little, and must not roll a healthy canary back.
    """
    (u_c, n_c), (u_b, n_b) = canary, baseline
    if u_c <= signal.margin * n_c:
        return False
    odds = signal.ratio * n_c / n_b if n_b else 0.0
    expected = odds * u_b
    return u_c - expected > _NOT_BY_CHANCE * math.sqrt(expected * (1 + odds) + 1)
