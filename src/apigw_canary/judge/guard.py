"""Rules beside the evidence: counts that are compared with limits, outside the stated error rates.

- Production, both variants together, fails far more than it did before the canary. What hits both
  variants is no evidence against the canary, and the canary may still be its cause: it may have
  broken a table that both of them read. So nothing is shifted up while production is unhealthy. The
  limit is a choice (drifts of twice the past rate are tolerated), and how often healthy canaries
  are held by it was measured.
- Where the canary has no baseline beside it, at a step at 100 % or in a minute of few requests, it
  is compared with the baseline's own past. That is no test: the past is another time of day, so no
  error probability can be promised, and it is only done for signals that are rare by nature (5xx
  errors) and were rare in the past. The constants are from measurements of healthy days with a
  daily cycle of times 1.8 and three incidents a day of times 30 for 8 minutes.
- How many more requests a canary has failed than it would have at production's rate is a cost, and
  no test: `max_failed_requests` is held against it.
- The evidence carries requests whose outcome could not be read at their worst (`evidence.Row`).
  That keeps both risks, but it does not show that something is wrong with the data. These rules
  do: too many of them on the canary make the data suspect, and with more of them on the canary than
  on the baseline the canary counts as unobserved.
"""

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from apigw_canary.judge import evidence
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
from apigw_canary.judge.signals import Signal
from apigw_canary.values import share

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


def has_history(g: SignalEvidence, observation: Observation) -> bool:
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


def unhealthy(
    g: SignalEvidence, observation: Observation, *, period: timedelta
) -> Unhealthy | None:
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
    pasts = _pasts(g, observation)
    highest = max(pasts, default=PRIOR_BAD / PRIOR_REQUESTS)
    if observation.percent < 100 or highest > MOST_PAST:
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
    """Whether a complete minute of this canary had requests of both variants.

    In each open interpretation of the overlap.
    """
    first = observation.judged_from()
    return all(
        any(
            minute.at >= first and row.baseline_requests > 0 and row.canary_requests > 0
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
