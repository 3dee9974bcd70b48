"""Evidence from counts: betting e-processes for two arms.

Each function follows a capital that starts at 1 and is bet, minute by minute, against a null
hypothesis. If the null holds the capital is a non-negative supermartingale, so it ever reaches
1/alpha with probability alpha at most (Ville), however often one looks. Everything is in logs.

Null hypotheses, with `p_b`, `p_c` the arms' rates of bad requests, in every minute:

- `worse`: p_c <= ratio * p_b + slack. Its rejection says that the canary is worse.
- `not_worse`: p_c >= ratio * p_b + margin. Its rejection says that the canary is not worse.
- `above`: p <= limit, for one arm by itself.
- `worse` with a limit, of which half of the capital is: in each minute p_c <= limit, or p_c <=
  ratio * p_b + slack.

The objects that follow a capital keep no history, and what they keep is replaced and never changed
in place: `copy.copy` gives one that goes on by itself.

Stakes come from past minutes only; a bad guess costs speed, never validity. Sources: Waudby-Smith
and Ramdas, "Estimating means of bounded random variables by betting" (2024); Turner, Ly and
Grünwald, "Generic e-variables for exact sequential k-sample tests" (2024).
"""

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from apigw_canary.judge import betting, overshoot
from apigw_canary.judge.noise import Damping, Noise
from apigw_canary.judge.overshoot import Part

EXCESSES = ((1.25, 0.20), (1.7, 0.25), (2.5, 0.25), (5.0, 0.15), (15.0, 0.10), (1000.0, 0.05))
"""How many times its limit an arm's rate may be, and the capital of `above` that bets on it: from
the smallest excess worth finding to an arm that answers nothing but errors."""

STAKES = (0.05, 0.15, 0.4, 0.9)
"""Stakes for `not_worse` that do not depend on the guess of the baseline's rate."""
_STAKE_CAPITAL = 0.06
_GUESSED_CAPITAL = 0.76
"""The rest is bet for the baseline's rate as it was (`_nearest_null`). With 0.72 a promotion takes
1 % more requests at a rate of 1 %, with 0.9 canaries at the margin are confirmed more often."""
NOT_WORSE_WEIGHTS = (*(_STAKE_CAPITAL for _ in STAKES), _GUESSED_CAPITAL)

CAUTION = 0.97
"""The most of the capital that one request may cost: a loss of all could never be won back."""

_MOST_MARGIN = 0.999
"""A margin above it is taken for it where stakes are made: the null becomes larger."""
_HALVINGS = 20
"""Bisections for the nearest null: with ten more a promotion takes equally many requests."""

_PRIOR_BAD, _PRIOR_REQUESTS = 0.5, 200.0
"""The guess of a baseline rate nobody has seen yet: half a bad request in 200."""

_FEWEST, _MOST = 1e-6, 1e15
"""Requests of an arm in a minute, outside of which the minute is not judged: what would be a
rounding error, and what floats no longer count exactly."""

_BOOST_FROM = math.log(0.003)
"""Log capital, in units of 1/alpha, below which the boost brings nothing (measured)."""

_EACH_TOTAL = 20
"""Unknown requests of a minute up to which the boost is computed for each total of bad requests."""
_BETWEEN_TOTALS = 0.001
"""Beyond them it is computed for the least and the largest total, and lowered by this much, in
logs: in 286 random settings a total between the two gave less in 3, by 0.0001 at most."""

_LOG_LARGEST = 690.0
"""Odds beyond e^690 are given as that: the next power of ten or so is beyond a float."""
_LOG_SMALLEST = -700.0
"""Parts of the capital below e^-700 are left out of the boost, which lowers it."""
_LOG_2 = math.log(2)


class Row(NamedTuple):
    """One minute: requests and bad requests of baseline and canary.

    The unknown requests, whose outcome could not be read, are among the requests and not among the
    bad ones. What is computed from them is the least that any outcome of them would give. So the
    expectation of the capital is at most 1 however they came to be unknown, even if it depends on
    their outcome: the true capital has that expectation, and in each minute this one is no larger.
    """

    baseline_requests: float
    baseline_bad: float
    canary_requests: float
    canary_bad: float
    baseline_unknown: float = 0.0
    canary_unknown: float = 0.0

    @property
    def baseline_known(self) -> float:
        """The baseline's requests whose outcome is known."""
        return self.baseline_requests - self.baseline_unknown

    @property
    def canary_known(self) -> float:
        """The canary's requests whose outcome is known."""
        return self.canary_requests - self.canary_unknown


class _Baseline(NamedTuple):
    """The baseline's counts in the minutes before; unknown outcomes are left out."""

    bad: float = _PRIOR_BAD
    requests: float = _PRIOR_REQUESTS

    @property
    def rate(self) -> float:
        return self.bad / self.requests

    @property
    def is_new(self) -> bool:
        """Whether the rate is a guess more than it is known."""
        return self.requests < 2 * _PRIOR_REQUESTS

    def with_row(self, row: Row) -> "_Baseline":
        if row.baseline_requests > _MOST:
            return self
        return _Baseline(self.bad + row.baseline_bad, self.requests + row.baseline_known)


def odds(log: float) -> float:
    """The odds of which this is the log."""
    return math.exp(min(log, _LOG_LARGEST))


def log_sum(logs: Sequence[float]) -> float:
    """The log of the sum of numbers given by their logs."""
    top = max(logs)
    return top + math.log(sum([math.exp(log - top) for log in logs]))


def log_mean(logs: Sequence[float], weights: Sequence[float]) -> float:
    """The log of a weighted sum of numbers given by their logs; the weights are above 0."""
    top = max(logs)
    if top == -math.inf:
        return top
    return top + math.log(sum([w * math.exp(x - top) for x, w in zip(logs, weights, strict=True)]))


def worse(
    rows: Iterable[Row],
    *,
    ratio: float,
    slack: float,
    noise: float,
    alpha: float,
    limit: float | None = None,
    no_baseline_from: int | None = None,
) -> list[float]:
    """Log capital after each row, against "the canary is no worse than tolerated".

    It rejects at 1/`alpha` and stays there: the capital beyond is given up for reaching it sooner.
    Rows with one arm only carry no evidence; the baseline's teach its rate.

    With a `limit` half of the capital is bet against "in each minute within the limit, or no worse
    than tolerated" (`Limit`). `no_baseline_from`: the row from which on there is no baseline by
    design, a step at 100 %; there the limit is judged by itself.
    """
    game = WorseEvidence(ratio=ratio, slack=slack, noise=noise, alpha=alpha, limit=limit)
    return [
        game.add(row, alone=no_baseline_from is not None and i >= no_baseline_from)
        for i, row in enumerate(rows)
    ]


class WorseEvidence:
    """The evidence for "worse", with a limit or without one, minute by minute."""

    def __init__(
        self, *, ratio: float, slack: float, noise: float, alpha: float, limit: float | None = None
    ) -> None:
        if limit is not None:
            alpha /= 2
        self._compared = Worse(
            ratio=ratio, slack=slack, noise=noise, alpha=alpha, stops=limit is None
        )
        self._limited = None if limit is None else Limit(limit)

    def add(self, row: Row, *, alone: bool = False) -> float:
        """The log capital after one more row. `alone`: the row is of a step at 100 %."""
        log = self._compared.add(row)
        if self._limited is None:
            return log
        limited = self._limited.add(row, self._compared.multiplier, alone=alone)
        return log_mean((log, limited), (0.5, 0.5))


class Worse:
    """The evidence for "worse", minute by minute.

    The capital rides on several alternatives. Before each minute it is divided anew, by how well
    each has done so far and how soon it would be found now (`stakes`): a division made beforehand
    keeps the expectation. What the minute says is damped for the noise of single arms (`noise`),
    and multiplied by what capital beyond 1/alpha would be wasted (`boost`).

    Unknown requests count as good on the canary and as bad on the baseline. The capital rises with
    the canary's bad requests, damping included, and falls with the baseline's.
    """

    def __init__(
        self, *, ratio: float, slack: float, noise: float, alpha: float, stops: bool = True
    ) -> None:
        """`stops`: whether `multiplier` is no longer needed once 1/alpha is reached."""
        self._null = betting.Null(ratio, slack)
        self._noise = Noise.tolerated(noise)
        # A little above 1/alpha, so that rounding does not keep a mean of signals from it.
        self._enough = -math.log(alpha) + 1e-9
        self._baseline = _Baseline()
        self._gained = [0.0] * len(betting.ALTERNATIVES)
        self._log = 0.0
        self._stops = stops
        self.multiplier: float = 0.0
        """The log of what the last row made of the capital, without the boost and what sat out."""

    def add(self, row: Row) -> float:
        """The log capital after one more row."""
        self.multiplier = 0.0
        if _comparable(row) and not (self._stops and self._log >= self._enough):
            self._log = min(self._after(row), self._enough)
        self._baseline = self._baseline.with_row(row)
        return self._log

    def _after(self, row: Row) -> float:
        n_b, x_b, n_c, x_c, unknown_b, _ = row
        share, rate = n_c / (n_b + n_c), self._baseline.rate
        damping = self._noise.damping(min(rate, 1.0) * n_b, share)
        self._noise = self._noise.with_minute(x_c, x_b + x_c, share)
        bets, growths = betting.bets(n_b, n_c, rate, self._null)
        parts = self._divided(growths)
        divisor = damping.of(x_c)
        gains = [
            (quiet + x_c * canary_bad + (x_b + unknown_b) * baseline_bad) / divisor
            for quiet, canary_bad, baseline_bad in bets
        ]
        self._gained = [gained + gain for gained, gain in zip(self._gained, gains, strict=True)]
        self.multiplier = log_sum([part + gain for part, gain in zip(parts, gains, strict=True)])
        if self._log >= self._enough:
            return self._log
        if self._baseline.is_new:
            # With next to no history the guess may be far off: half the capital sits it out.
            parts = [*(part - _LOG_2 for part in parts), -_LOG_2]
            bets, gains = [*bets, betting.NO_BET], [*gains, 0.0]
        grown = log_sum([part + gain for part, gain in zip(parts, gains, strict=True)])
        return self._log + grown + self._boost(row, parts, bets, damping)

    def _divided(self, growths: list[float]) -> list[float]:
        """The log of the part of the capital on each alternative before the minute."""
        parts = [
            math.log(part) + gained
            for part, gained in zip(
                betting.division(growths, self._enough), self._gained, strict=True
            )
        ]
        total = log_sum(parts)
        return [part - total for part in parts]

    def _boost(
        self, row: Row, parts: list[float], bets: list[betting.Bet], damping: Damping
    ) -> float:
        """The log of the factor for what would be wasted beyond 1/alpha.

        It depends on the minute's total of bad requests: of the totals that the unknown requests
        leave open, the smallest factor.
        """
        n_b, x_b, n_c, x_c, *unknown = row
        before = self._log - self._enough
        if before < _BOOST_FROM or n_b + n_c > overshoot.MOST_REQUESTS or not _is_whole(row):
            return 0.0
        least, most = int(x_b + x_c), int(x_b + x_c + sum(unknown))
        few = most - least <= _EACH_TOTAL
        totals = range(least, most + 1) if few else (least, most)
        factors = [
            self._factor(
                overshoot.Split(int(n_b), int(n_c), m, self._null.ratio), parts, bets, damping
            )
            for m in totals
        ]
        return min(factors) if few else min(*factors, 0.0) - _BETWEEN_TOTALS

    def _factor(
        self,
        split: overshoot.Split,
        parts: list[float],
        bets: list[betting.Bet],
        damping: Damping,
    ) -> float:
        if not split.m:
            return 0.0  # the capital can only fall
        before = self._log - self._enough
        staked = [
            Part(
                before + part,
                bet.quiet + split.m * bet.baseline_bad,
                bet.canary_bad - bet.baseline_bad,
            )
            for part, bet in zip(parts, bets, strict=True)
            if part > _LOG_SMALLEST
        ]
        return overshoot.log_factor(split, staked, damping, math.exp(before))


def _comparable(row: Row) -> bool:
    """Whether both arms had requests, in numbers that are any request's and nobody's mistake."""
    low, high = sorted((row.baseline_requests, row.canary_requests))
    return low >= _FEWEST and high <= _MOST


def _is_whole(row: Row) -> bool:
    return all(count == int(count) for count in row)


def not_worse(rows: Iterable[Row], *, ratio: float, margin: float, noise: float) -> list[float]:
    """Log capital after each row, against "the canary is worse by the margin".

    Its current value counts, not its maximum: what is promoted is the canary as it is now.
    """
    game = NotWorse(ratio=ratio, margin=margin, noise=noise)
    return [game.add(row) for row in rows]


class NotWorse:
    """The evidence for "not worse", minute by minute.

    Most of the capital is bet on the likelihood ratio of "both variants have the baseline's past
    rate" against the rates of the null hypothesis that come closest to that. A canary request
    multiplies it by 1 - a(y - c), a baseline request by 1 + b(y - q), with b = a * k and
    c = ratio * q + margin; so the expectation is at most exp(a * n_c * (ratio * p_b + margin -
    p_c)), whatever q is. The rest is on fixed stakes, for a past rate that is no guide.

    Unknown requests count as bad on the canary and as good on the baseline.
    """

    def __init__(self, *, ratio: float, margin: float, noise: float) -> None:
        self._ratio, self._margin, self._noise = ratio, margin, noise
        self._baseline = _Baseline()
        self._logs = [0.0] * (len(STAKES) + 1)

    def add(self, row: Row) -> float:
        """The log capital after one more row."""
        if _comparable(row):
            n_b, x_b, n_c, x_c, _, unknown_c = row
            x_c += unknown_c
            k = self._ratio * n_c / n_b
            # From the expected number of bad requests: with the number that came, the mean of the
            # capital could exceed 1 under the null.
            rate = min(self._baseline.rate, 1.0)
            share = n_c / (n_b + n_c)
            variance = self._noise * self._noise
            damping = 1 + 2 * variance * rate * (n_b + n_c) * share * (1 - share)
            gains = [
                a * self._margin * n_c + x_c * math.log1p(-a) + x_b * math.log1p(a * k)
                for a in STAKES
            ]
            a, b, q, c = _guessed_bet(rate, n_b, n_c, self._ratio, self._margin)
            gains.append(
                x_c * math.log1p(-a * (1 - c))
                + (n_c - x_c) * math.log1p(a * c)
                + x_b * math.log1p(b * (1 - q))
                + (n_b - x_b) * math.log1p(-b * q)
            )
            self._logs = [log + gain / damping for log, gain in zip(self._logs, gains, strict=True)]
        self._baseline = self._baseline.with_row(row)
        return log_mean(self._logs, NOT_WORSE_WEIGHTS)


def _guessed_bet(
    rate: float, n_b: float, n_c: float, ratio: float, margin: float
) -> tuple[float, float, float, float]:
    """The stakes on canary and baseline, and the rates of the baseline and canary they are around.

    The growth-optimal ones if both variants have the `rate`, a little less.
    """
    margin = min(margin, _MOST_MARGIN)
    k = ratio * n_c / n_b
    p = min(rate, 0.98 * (1 - margin) / ratio)
    q = _nearest_null(p, n_b, n_c, ratio, margin)
    c = ratio * q + margin
    a = min(0.95 * (c - p) / (c * (1 - c)), CAUTION / (1 - c), CAUTION / (k * q))
    return a, a * k, q, c


def _nearest_null(p: float, n_b: float, n_c: float, ratio: float, margin: float) -> float:
    """The baseline's rate q at which (q, ratio * q + margin) is nearest to (p, p).

    In the Kullback-Leibler divergence of the minute's requests, by bisection of its derivative. How
    near it comes is a question of speed only.
    """
    low, high = max((p - margin) / ratio, 0.0), p
    for _ in range(_HALVINGS):
        q = (low + high) / 2
        c = ratio * q + margin
        if n_b * (p - q) * c * (1 - c) > ratio * n_c * (c - p) * q * (1 - q):
            low = q
        else:
            high = q
    return (low + high) / 2


class Limit:
    """The evidence that the canary exceeds its limit, minute by minute, fed beside `Worse`.

    The null hypothesis: in each minute the canary is within the limit, or no worse than tolerated.
    A minute's multiplier is the lesser of the one against the limit and the one of the comparison:
    whichever of the two holds, its mean is at most 1, and the lesser is no more than it. So an
    incident of both arms is no evidence. Unknown requests count as good.

    A minute in which the baseline happens to have no request is left out: the canary may exceed the
    limit in it for the baseline's reasons.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._gained = [math.log(weight) for _, weight in EXCESSES]
        self._log = 0.0

    def add(self, row: Row, compared: float, *, alone: bool) -> float:
        """The log capital after one more row.

        `compared`: the comparison's `multiplier` for it. `alone`: the row is of a step at 100 %.
        """
        comparable = _comparable(row)
        if comparable or (alone and _FEWEST <= row.canary_requests <= _MOST):
            before = log_sum(self._gained)
            gains = gains_above(self._limit, row.canary_requests, row.canary_bad)
            self._gained = [gained + gain for gained, gain in zip(self._gained, gains, strict=True)]
            own = log_sum(self._gained) - before
            self._log += min(own, compared) if comparable else own
        return self._log


def gains_above(limit: float, requests: float, bad: float) -> list[float]:
    """The log likelihood ratio of counts of one arm against the limit, for each of `EXCESSES`."""
    good = requests - bad
    return [bad * of_bad + good * of_good for of_bad, of_good in _logs_above(limit)]


@lru_cache(maxsize=1024)
def _logs_above(limit: float) -> list[tuple[float, float]]:
    """What a bad and a good request add, for each of `EXCESSES`."""
    rates = [min(times * limit, (1 + limit) / 2) for times, _ in EXCESSES]
    return [(math.log(rate / limit), math.log((1 - rate) / (1 - limit))) for rate in rates]


def above(counts: Iterable[tuple[float, float]], *, limit: float) -> list[float]:
    """Log capital after each (requests, bad) of one arm, against "its rate is within the limit"."""
    logs = [0.0] * len(EXCESSES)
    weights = [weight for _, weight in EXCESSES]
    path: list[float] = []
    for requests, bad in counts:
        gains = gains_above(limit, requests, bad)
        logs = [log + gain for log, gain in zip(logs, gains, strict=True)]
        path.append(log_mean(logs, weights))
    return path
