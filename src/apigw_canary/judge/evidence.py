"""Evidence from counts: betting e-processes for two arms.

Each function follows a capital that starts at 1 and is bet, minute by minute, against a null
hypothesis. If the null holds the capital is a non-negative supermartingale, so it ever reaches
1/alpha with probability alpha at most (Ville), however often it is observed. Everything is in logs.

Null hypotheses, with `p_b`, `p_c` the arms' rates of bad requests, in every minute:

- `worse`: p_c <= ratio * p_b + slack. Its rejection is the verdict that the canary is worse.
- `not_worse`: p_c >= ratio * p_b + margin. Its rejection is the verdict that it is not worse.
- `above`: p <= limit, for one arm by itself.
- `worse` with a limit, of which half of the capital is: in each minute p_c <= limit, or p_c <=
  ratio * p_b + slack.

The objects that follow a capital keep no history, and what they keep is replaced and never changed
in place, so that a copy of them goes on by itself.

`Detector` is an e-detector for one series of counts: whether its rate is above a limit lately.
For each excess of `EXCESSES` it follows R = L * (0.9 R + 0.1), with L the likelihood ratio of the
minute for that excess against the limit. What lies ten minutes back counts about a third, so that
hours of health do not delay the detection. If the rate is at the limit, the mean over the excesses
has an expectation of at most the number of minutes; a threshold on it is a choice that is measured,
not a bound on the probability of a false detection.

Bets come from past minutes only; a bad guess costs speed, never validity. Sources: Waudby-Smith
and Ramdas, "Estimating means of bounded random variables by betting" (2024); Turner, Ly and
Grünwald, "Generic e-variables for exact sequential k-sample tests" (2024).
"""

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from apigw_canary.judge import betting, overshoot
from apigw_canary.judge.noise import Damping, Noise
from apigw_canary.judge.signals import Signal

EXCESSES = ((1.25, 0.20), (1.7, 0.25), (2.5, 0.25), (5.0, 0.15), (15.0, 0.10), (1000.0, 0.05))
"""How many times its limit an arm's rate may be, and the capital of `above` that bets on it: from
the smallest excess worth finding to an arm that answers nothing but errors."""

STAKES = (0.05, 0.15, 0.4, 0.9)
"""Bets for `not_worse` that do not depend on the guess of the baseline's rate."""
_STAKES = tuple((a, math.log1p(-a)) for a in STAKES)
"""Each with the log of what a bad canary request multiplies it by."""
_STAKE_CAPITAL = 0.06
_GUESSED_CAPITAL = 0.76
"""The rest is bet for the baseline's rate as it was (`_nearest_null`). With 0.72 a promotion takes
1 % more requests at a rate of 1 %, with 0.9 canaries at the margin are confirmed more often."""
NOT_WORSE_WEIGHTS = (*(_STAKE_CAPITAL for _ in STAKES), _GUESSED_CAPITAL)
_EXCESS_WEIGHTS = tuple(weight for _, weight in EXCESSES)

CAUTION = 0.97
"""The most of the capital that one request may cost: a loss of all could never be won back."""

_MOST_MARGIN = 0.999
"""Bets are made as if a larger margin were this one: the null becomes larger."""
_HALVINGS = 20
"""Bisections for the nearest null: with ten more a promotion takes equally many requests."""

PRIOR_BAD, PRIOR_REQUESTS = 0.5, 200.0
"""The guess of a baseline rate before any request: half a bad request in 200."""

_FEWEST, _MOST = 1e-6, 1e15
"""Requests of an arm in a minute, outside of which the minute is not judged: what would be a
rounding error, and what floats no longer count exactly."""

RESERVE = 0.1
"""The part of the capital kept for a canary that becomes worse later. With 0.2 a change after ten
hours is found a minute sooner, and one at the start takes 2 % more requests."""
_LOG_RESERVE = math.log(RESERVE)
_RESERVE_MINUTES = 30.0
"""After n judged minutes so many over n + so many of the reserve is left. 10 to 300 differ by a
minute at most."""

_BURST_MINUTES = 3
"""Consecutive judged minutes that one burst, such as a hot container, is taken to last."""
_BESIDES_BURST = 0.2
"""The evidence that must remain without the burst is the number of judged minutes to this power:
the more of them, the likelier it had risen by chance before the burst. With a constant e a rollback
in the first 90 minutes takes 2 % longer; with e^0.5 two bursts in ten hours roll back 10 % of
healthy canaries in place of 6."""
_ALWAYS_COUNTS = 10
"""Judged minutes within which evidence counts however it came. From 20 on, bursts in the first hour
rolled back more often than without a reserve; from the start a rollback takes 5 % longer."""
_PLAINLY = 0.05
"""How far the canary's rate must be above the baseline's in two minutes for it to count anyway."""

_MIN_LOG_CAPITAL_FOR_CORRECTION = math.log(0.003)
"""Log capital, in units of 1/alpha, below which the correction brings nothing (measured)."""

_EACH_TOTAL = 20
"""Unknown requests of a minute, up to which the correction is made for each total of bad ones."""
_BETWEEN_TOTALS = 0.001
"""Beyond them it is computed for the least and the largest total, and lowered by this much, in
logs: in 286 random settings a total between the two gave less in 3, by 0.0001 at most."""

_LOG_LARGEST = 690.0
"""Evidence beyond e^690 is given as that: the next power of ten or so is beyond a float."""
_LOG_SMALLEST = -700.0
"""Parts of the capital below e^-700 are left out of the correction, which lowers it."""
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


class _Comparison:
    """What each comparison keeps: the baseline's counts in the minutes before.

    Unknown outcomes are left out.
    """

    def __init__(self) -> None:
        self._bad, self._requests = PRIOR_BAD, PRIOR_REQUESTS

    def _learn(self, row: Row) -> None:
        requests, bad, _, _, unknown, _ = row
        if requests <= _MOST:
            self._bad += bad
            self._requests += requests - unknown


def e_value(log: float) -> float:
    """The evidence of which this is the log."""
    return math.exp(min(log, _LOG_LARGEST))


def log_add(a: float, b: float) -> float:
    """The log of the sum of two numbers given by their logs, the first of them above 0."""
    return a + math.log1p(math.exp(b - a)) if b < a else b + math.log1p(math.exp(a - b))


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
    """The log capital that counts after each row (`WorseEvidence`).

    Rows with one arm only carry no evidence; the baseline's teach its rate. `no_baseline_from`: the
    row from which on there is no baseline by design, a step at 100 %; there the limit is judged by
    itself.
    """
    process = WorseEvidence(ratio=ratio, slack=slack, noise=noise, alpha=alpha, limit=limit)
    first = math.inf if no_baseline_from is None else no_baseline_from
    return [process.add(row, alone=i >= first) for i, row in enumerate(rows)]


class WorseEvidence:
    """The evidence for "worse" of one signal, minute by minute: the log capital that counts.

    Once it is at 1/`alpha` it stays where it is. With a `limit` half of the capital is bet against
    "in each minute within the limit, or no worse than tolerated" (`Limit`). What rests on a single
    burst does not count (`Sustained`).
    """

    def __init__(
        self, *, ratio: float, slack: float, noise: float, alpha: float, limit: float | None = None
    ) -> None:
        # A little above 1/alpha, so that rounding does not keep a mean of signals from it.
        self._threshold = -math.log(alpha) + 1e-9
        alone = alpha if limit is None else alpha / 2
        self._compared = Worse(ratio=ratio, slack=slack, noise=noise, alpha=alone)
        self._compared_lasts = Sustained()
        self._limited = None if limit is None else Limit(limit)
        self._limit_lasts = Sustained()
        self._log = 0.0

    def add(self, row: Row, *, alone: bool = False) -> float:
        """The log capital after one more row. `alone`: it is of a step at 100 %."""
        if self._log >= self._threshold:
            return self._log
        comparable = _comparable(row)
        log = self._compared.add(row)
        if comparable:
            self._compared_lasts = self._compared_lasts.with_minute(log, row)
        self._log = self._compared_lasts.counted(log)
        if self._limited is not None:
            log = self._limited.add(row, self._compared.multiplier, alone=alone)
            if comparable or alone:
                self._limit_lasts = self._limit_lasts.with_minute(log, row)
            self._log = log_mean((self._log, self._limit_lasts.counted(log)), (0.5, 0.5))
        return self._log


class Worse(_Comparison):
    """The capital bet against "the canary is no worse than tolerated", minute by minute.

    It rides on several alternatives. Before each minute it is divided anew, by how well each has
    done so far and how soon it would be found now (`betting`): a division made beforehand keeps the
    expectation. For each alternative a part of the capital is kept back and bet a little more of it
    each minute (`_released`): what was bet before a late onset may be all but lost by then. The
    minute's factor is damped for the noise of single arms (`noise`), and multiplied by what capital
    beyond 1/alpha would be wasted (`overshoot`); the capital beyond is given up. At 1/alpha that
    ends, and the capital may grow on.

    Unknown requests count as good on the canary and as bad on the baseline. The capital rises with
    the canary's bad requests, damping included, and falls with the baseline's.
    """

    def __init__(
        self, *, ratio: float, slack: float, noise: float, alpha: float, reserve: float = RESERVE
    ) -> None:
        """`reserve`: the part of the capital that is kept for a later onset, 0 to 1."""
        super().__init__()
        self._null = betting.Null(ratio, slack)
        self._noise = Noise.tolerated(noise)
        self._threshold = -math.log(alpha) + 1e-9
        self._reserve = math.log(reserve) if reserve else -math.inf
        self._minutes = 0
        self._gained = [math.log1p(-reserve)] * len(betting.ALTERNATIVES)
        self._log = 0.0
        self.multiplier: float = 0.0
        """The log of what the last row made of the capital that was bet, without the correction."""

    def add(self, row: Row) -> float:
        """The log capital after one more row."""
        self.multiplier = 0.0
        if _comparable(row):
            self._log = self._after(row)
        self._learn(row)
        return self._log

    def _after(self, row: Row) -> float:
        n_b, x_b, n_c, x_c, unknown_b, _ = row
        share, rate = n_c / (n_b + n_c), self._bad / self._requests
        damping = self._noise.damping(min(rate, 1.0) * n_b, share)
        self._noise = self._noise.with_minute(x_c, x_b + x_c, share)
        bets, growths = betting.bets(n_b, n_c, rate, self._null)
        divisor, bad_b = damping.of(x_c), x_b + unknown_b
        self._minutes += 1
        released, kept = _released(self._reserve, self._minutes)
        gained = [log_add(log, released) for log in self._gained]
        self._gained = [
            log + (without_errors + x_c * canary_bad + bad_b * baseline_bad) / divisor
            for log, (without_errors, canary_bad, baseline_bad) in zip(gained, bets, strict=True)
        ]
        division = betting.division(growths, self._threshold)
        bet, grown = log_mean(gained, division), log_mean(self._gained, division)
        self.multiplier = grown - bet
        whole = log_add(bet, kept)
        kept -= whole
        if self._requests < 2 * PRIOR_REQUESTS:
            # The rate is a guess more than it is known, and it may be far off: half the capital
            # sits it out.
            whole += _LOG_2
            kept = log_add(kept, 0.0) - _LOG_2
        log = self._log + log_add(grown - whole, kept)
        before = self._log - self._threshold
        if before >= 0:
            return log
        if before >= _MIN_LOG_CAPITAL_FOR_CORRECTION and _is_corrected(row):
            logs = [
                math.log(part) + log - whole for part, log in zip(division, gained, strict=True)
            ]
            staked = [*zip(logs, bets, strict=True), (kept, betting.NO_BET)]
            log += self._overshoot_correction(row, before, staked, damping)
        return min(log, self._threshold)

    def _overshoot_correction(
        self, row: Row, before: float, staked: list[tuple[float, betting.Bet]], damping: Damping
    ) -> float:
        """The log of the factor for what would be wasted beyond 1/alpha.

        It depends on the minute's total of bad requests: of the totals that the unknown requests
        leave open, the smallest factor. `before`: the log capital, in units of 1/alpha; `staked`:
        the parts of it and their bets.
        """
        n_b, x_b, n_c, x_c, *unknown = row
        staked = [(before + log, bet) for log, bet in staked if log > _LOG_SMALLEST]
        least, most = int(x_b + x_c), int(x_b + x_c + sum(unknown))
        few = most - least <= _EACH_TOTAL
        totals = range(least, most + 1) if few else (least, most)
        factors = [
            self._factor(
                overshoot.Split(int(n_b), int(n_c), m, self._null.ratio), before, staked, damping
            )
            for m in totals
        ]
        return min(factors) if few else min(*factors, 0.0) - _BETWEEN_TOTALS

    def _factor(
        self,
        split: overshoot.Split,
        before: float,
        staked: list[tuple[float, betting.Bet]],
        damping: Damping,
    ) -> float:
        if not split.m:
            return 0.0  # the capital can only fall
        parts = [
            (log, without_errors + split.m * baseline_bad, canary_bad - baseline_bad)
            for log, (without_errors, canary_bad, baseline_bad) in staked
        ]
        return overshoot.log_factor(split, parts, damping, math.exp(before))


def _comparable(row: Row) -> bool:
    """Whether both arms had requests, in numbers that can be counts."""
    n_b, n_c = row.baseline_requests, row.canary_requests
    return _FEWEST <= n_b <= _MOST and _FEWEST <= n_c <= _MOST


def _is_corrected(row: Row) -> bool:
    """Whether capital may be wasted in a minute, and by a law that is known and not too wide."""
    n_b, x_b, n_c, x_c, *unknown = row
    may_be_bad = x_b + x_c + sum(unknown) > 0
    return may_be_bad and n_b + n_c <= overshoot.MOST_REQUESTS and not any(n % 1 for n in row)


def not_worse(rows: Iterable[Row], *, ratio: float, margin: float, noise: float) -> list[float]:
    """Log capital after each row, against "the canary is worse by the margin".

    Its current value counts, not its maximum: what is promoted is the canary as it is now.
    """
    process = NotWorse(ratio=ratio, margin=margin, noise=noise)
    return [process.add(row) for row in rows]


class NotWorse(_Comparison):
    """The evidence for "not worse", minute by minute.

    Most of the capital is bet on the likelihood ratio of "both variants have the baseline's past
    rate" against the rates of the null hypothesis that come closest to that. A canary request
    multiplies it by 1 - a(y - c), a baseline request by 1 + b(y - q), with b = a * k and
    c = ratio * q + margin; so the expectation is at most exp(a * n_c * (ratio * p_b + margin -
    p_c)), whatever q is. The rest is on fixed bets, in case the past rate is no guide.

    Unknown requests count as bad on the canary and as good on the baseline.
    """

    def __init__(self, *, ratio: float, margin: float, noise: float) -> None:
        super().__init__()
        self._ratio, self._margin, self._noise = ratio, margin, noise
        self._logs = [0.0] * len(NOT_WORSE_WEIGHTS)
        self._log = 0.0

    def add(self, row: Row) -> float:
        """The log capital after one more row."""
        if _comparable(row):
            n_b, x_b, n_c, x_c, _, unknown_c = row
            x_c += unknown_c
            k = self._ratio * n_c / n_b
            # From the expected number of bad requests: with the number that came, the mean of the
            # capital could exceed 1 under the null.
            rate = min(self._bad / self._requests, 1.0)
            share = n_c / (n_b + n_c)
            variance = self._noise * self._noise
            damping = 1 + 2 * variance * rate * (n_b + n_c) * share * (1 - share)
            gains = [
                a * self._margin * n_c + x_c * of_bad + x_b * math.log1p(a * k)
                for a, of_bad in _STAKES
            ]
            a, b, q, c = _guessed_bet(rate, n_b, n_c, self._ratio, self._margin)
            gains.append(
                x_c * math.log1p(-a * (1 - c))
                + (n_c - x_c) * math.log1p(a * c)
                + x_b * math.log1p(b * (1 - q))
                + (n_b - x_b) * math.log1p(-b * q)
            )
            self._logs = [log + gain / damping for log, gain in zip(self._logs, gains, strict=True)]
            self._log = log_mean(self._logs, NOT_WORSE_WEIGHTS)
        self._learn(row)
        return self._log


def _guessed_bet(
    rate: float, n_b: float, n_c: float, ratio: float, margin: float
) -> tuple[float, float, float, float]:
    """The bets on canary and baseline, and the rates of both that they are made around.

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
    # It is n_b (p - q) c (1 - c) - ratio n_c (c - p) q (1 - q), here in powers of q, with
    # c = ratio * q + margin.
    k, of_c = ratio * n_c, ratio * (1 - 2 * margin)
    still = n_b * p * margin * (1 - margin)
    linear = n_b * (p * of_c - margin * (1 - margin)) - k * (margin - p)
    square = -n_b * (p * ratio * ratio + of_c) + k * (margin - p - ratio)
    cube = ratio * (n_b * ratio + k)
    for _ in range(_HALVINGS):
        q = (low + high) / 2
        if ((cube * q + square) * q + linear) * q + still > 0:
            low = q
        else:
            high = q
    return (low + high) / 2


def _released(reserve: float, minutes: int) -> tuple[float, float]:
    """The logs of what is released before the minute of that number, and of what is left then.

    `reserve`: the log of the part of the capital that is not bet at first. A little of it is
    released before each minute. So the capital of an alternative is a mixture over the minutes in
    which it may have begun to be true. What is released depends on nothing but the number of
    minutes.
    """
    left = reserve + math.log(_RESERVE_MINUTES / (minutes + _RESERVE_MINUTES))
    return left - math.log(minutes + _RESERVE_MINUTES - 1), left


class Sustained(NamedTuple):
    """Whether the evidence against the canary rests on more than a single burst.

    Capital that is kept for a late onset finds any, a hot container of three minutes too. After ten
    judged minutes evidence counts only if it has grown enough since its lowest without its best
    three consecutive minutes, or if the canary's rate is clearly above the baseline's in the last
    two. It is a condition on top, so it can only make rollbacks rarer.
    """

    minutes: int = 0
    """Judged minutes."""
    lowest: float = math.inf
    last: float = 0.0
    """The log capital: its lowest value so far, and the last one."""
    burst: float = math.inf
    """The largest gain of three consecutive minutes since the lowest; infinite before there are."""
    lately: tuple[float, ...] = ()
    """The latest gains since the lowest, three at most."""
    row: Row = Row(0, 0, 0, 0)
    is_plain: bool = False

    def with_minute(self, log: float, row: Row) -> "Sustained":
        """After one more judged minute, and with the log capital after it."""
        is_plain = _is_plainly_worse(self.row, row)
        if log < self.lowest:
            return Sustained(self.minutes + 1, log, log, math.inf, (), row, is_plain)
        lately = (*self.lately, log - self.last)[-_BURST_MINUTES:]
        burst = self.burst
        if len(lately) == _BURST_MINUTES:
            burst = sum(lately) if burst == math.inf else max(burst, sum(lately))
        return Sustained(self.minutes + 1, self.lowest, log, burst, lately, row, is_plain)

    def counted(self, log: float) -> float:
        """The log capital that counts, of the one after the last minute."""
        if self.minutes <= _ALWAYS_COUNTS or self.is_plain:
            return log
        besides = _BESIDES_BURST * math.log(self.minutes)
        return log if log - self.lowest - self.burst >= besides else min(log, 0.0)


def _is_plainly_worse(before: Row, row: Row) -> bool:
    """Unknown requests count as good on the canary and as bad on the baseline."""
    n_b = before.baseline_requests + row.baseline_requests
    x_b = before.baseline_bad + row.baseline_bad
    u_b = before.baseline_unknown + row.baseline_unknown
    tolerated = (x_b + u_b) / n_b + _PLAINLY if n_b else _PLAINLY
    return before.canary_bad + row.canary_bad > tolerated * (
        before.canary_requests + row.canary_requests
    )


class Limit:
    """The capital bet against the canary's limit, minute by minute, fed beside `Worse`.

    The null hypothesis: in each minute the canary is within the limit, or no worse than tolerated.
    A minute's multiplier is the lesser of the one against the limit and the one of the comparison:
    whichever of the two holds, its mean is at most 1, and the lesser is no more than it. So an
    incident of both arms is no evidence. Unknown requests count as good. A part of the capital is
    kept for a later onset, as by `Worse`.

    A minute in which the baseline happens to have no request is left out: the canary may exceed the
    limit in it for the baseline's reasons.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._minutes = 0
        self._gained = [math.log1p(-RESERVE)] * len(EXCESSES)
        self._bet = math.log1p(-RESERVE)
        self._log = 0.0

    def add(self, row: Row, compared: float, *, alone: bool) -> float:
        """The log capital after one more row.

        `compared`: the comparison's `multiplier` for it. `alone`: the row is of a step at 100 %.
        """
        comparable = _comparable(row)
        if comparable or (alone and _FEWEST <= row.canary_requests <= _MOST):
            gains = gains_above(self._limit, row.canary_requests, row.canary_bad)
            self._minutes += 1
            released, kept = _released(_LOG_RESERVE, self._minutes)
            gained = [log_add(log, released) for log in self._gained]
            self._gained = [log + gain for log, gain in zip(gained, gains, strict=True)]
            own = log_mean(self._gained, _EXCESS_WEIGHTS) - log_mean(gained, _EXCESS_WEIGHTS)
            self._bet = log_add(self._bet, released) + (min(own, compared) if comparable else own)
            self._log = log_add(self._bet, kept)
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
    path: list[float] = []
    for requests, bad in counts:
        gains = gains_above(limit, requests, bad)
        logs = [log + gain for log, gain in zip(logs, gains, strict=True)]
        path.append(log_mean(logs, _EXCESS_WEIGHTS))
    return path


_KEPT, _ADDED = 0.9, 0.1
"""What is kept of R from a minute to the next, and what is added anew."""

_MOST_LOG = 50.0
"""R is cut off at e^50, so that it falls again in a few healthy minutes."""

UNHEALTHY = math.log(20)
"""The evidence from which production is unhealthy."""
_DRIFT = 2.0
"""Times the past rate that production may drift to by itself, with the margin on top."""
_MOST_LIMIT = 0.9


class Detector:
    """The evidence that a rate is above its limit now, minute by minute."""

    def __init__(self) -> None:
        self._logs = [-math.inf] * len(EXCESSES)

    def add(self, requests: float, bad: float, limit: float) -> float:
        """The log of R after a minute more. `limit`: above 0 and below 1."""
        gains = gains_above(limit, requests, bad)
        self._logs = [
            min(math.log(_KEPT * math.exp(log) + _ADDED) + gain, _MOST_LOG)
            for log, gain in zip(self._logs, gains, strict=True)
        ]
        return log_mean(self._logs, _EXCESS_WEIGHTS)


def highest_healthy(signal: Signal, past_bad: float, past_requests: float) -> float:
    """The highest rate at which production counts as healthy, from its past counts."""
    past_rate = (past_bad + PRIOR_BAD) / (past_requests + PRIOR_REQUESTS)
    return min(_DRIFT * past_rate + signal.margin, _MOST_LIMIT)
