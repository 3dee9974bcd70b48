"""Evidence from counts: betting e-processes for two arms.

Each function follows a capital that starts at 1 and is bet, minute by minute, against a null
hypothesis. If the null holds the capital is a non-negative supermartingale, so it ever reaches
1/alpha with probability alpha at most (Ville), however often one looks. Everything is in logs.

Null hypotheses, with `p_b`, `p_c` the arms' rates of bad requests, in every minute:

- `worse`: p_c <= ratio * p_b + slack. Its rejection says that the canary is worse.
- `not_worse`: p_c >= ratio * p_b + margin. Its rejection says that the canary is not worse.
- `above`: p <= limit, for one arm by itself.

Stakes come from past minutes only; a bad guess costs speed, never validity. Sources: Waudby-Smith
and Ramdas, "Estimating means of bounded random variables by betting" (2024); Turner, Ly and
Grünwald, "Generic e-variables for exact sequential k-sample tests" (2024).
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

ALTERNATIVES = ((1.25, 0.20), (1.7, 0.25), (2.5, 0.25), (5.0, 0.15), (15.0, 0.10), (1000.0, 0.05))
"""How many times worse than tolerated the canary may be, and the capital that bets on it: from
the smallest regression worth finding to a canary that answers nothing but errors."""

STAKES = (0.05, 0.15, 0.4, 0.9)
"""Stakes for `not_worse` that do not depend on the guess of the baseline's rate."""
_STAKE_CAPITAL = 0.07
_GUESSED_CAPITAL = 0.72
"""The rest rides on the stake that grows fastest if the baseline stays as it was."""

_CAUTION = 0.97
"""The most of the capital that one request may cost: a loss of all could never be won back."""

FEWEST = 1e-6
"""An arm with fewer requests in a minute has none: counts may be fractional, not infinitesimal."""

_PRIOR_BAD, _PRIOR_REQUESTS = 0.5, 200.0
"""The guess of a baseline rate nobody has seen yet: half a bad request in 200."""


class Row(NamedTuple):
    """One minute: requests and bad requests of baseline and canary."""

    baseline_requests: float
    baseline_bad: float
    canary_requests: float
    canary_bad: float


class _Baseline:
    """The baseline's rate as known from the minutes before."""

    def __init__(self) -> None:
        self._bad = _PRIOR_BAD
        self._requests = _PRIOR_REQUESTS

    @property
    def rate(self) -> float:
        return self._bad / self._requests

    def add(self, row: Row) -> None:
        self._bad += row.baseline_bad
        self._requests += row.baseline_requests


def log_mean(logs: Sequence[float], weights: Sequence[float]) -> float:
    """The log of a weighted sum of numbers given by their logs."""
    top = max(logs)
    return top + math.log(sum(w * math.exp(x - top) for x, w in zip(logs, weights, strict=True)))


def _damping(noise: float, bad: float, row: Row) -> float:
    """How much less a minute tells where one arm alone varies by `noise` from minute to minute."""
    n_b, n_c = row.baseline_requests, row.canary_requests
    share = n_b / (n_b + n_c)
    return 1 + 2 * noise * noise * bad * share * (1 - share)


def worse(rows: Iterable[Row], *, ratio: float, slack: float, noise: float) -> list[float]:
    """Log capital after each row, against "the canary is no worse than tolerated".

    Rows with one arm only carry no evidence; the baseline's teach its rate. So do minutes with a
    baseline so sick that the tolerated rate reaches 1, which no canary can exceed.
    """
    baseline = _Baseline()
    logs = [0.0] * len(ALTERNATIVES)
    weights = [weight for _, weight in ALTERNATIVES]
    path: list[float] = []
    for row in rows:
        n_b, x_b, n_c, x_c = row
        b0 = baseline.rate
        c0 = ratio * b0 + slack
        if min(n_b, n_c) >= FEWEST and c0 < 1:
            k = ratio * n_c / n_b
            damping = _damping(noise, x_b + x_c, row)
            most = min(_CAUTION / c0, _CAUTION / (k * (1 - b0)))
            for i, (r, _) in enumerate(ALTERNATIVES):
                a = min((r - 1) / (r * k + 1) / (1 - c0), most)
                b = a * k
                logs[i] += (
                    x_c * math.log1p(a * (1 - c0))
                    + (n_c - x_c) * math.log1p(-a * c0)
                    + x_b * math.log1p(-b * (1 - b0))
                    + (n_b - x_b) * math.log1p(b * b0)
                ) / damping
        baseline.add(row)
        path.append(log_mean(logs, weights))
    return path


def not_worse(rows: Iterable[Row], *, ratio: float, margin: float, noise: float) -> list[float]:
    """Log capital after each row, against "the canary is worse by the margin".

    Its current value counts, not its maximum: what is promoted is the canary as it is now.
    """
    baseline = _Baseline()
    logs = [0.0] * (len(STAKES) + 1)
    weights = [*(_STAKE_CAPITAL for _ in STAKES), _GUESSED_CAPITAL]
    path: list[float] = []
    for row in rows:
        n_b, x_b, n_c, x_c = row
        if min(n_b, n_c) >= FEWEST:
            k = ratio * n_c / n_b
            # From the expected number of bad requests: with the number that came, the mean of the
            # capital could exceed 1 under the null.
            rate = min(baseline.rate, 1.0)
            damping = _damping(noise, rate * (n_b + n_c), row)
            for i, a in enumerate((*STAKES, _fastest_stake(rate, k, margin))):
                logs[i] += (
                    a * margin * n_c + x_c * math.log1p(-a) + x_b * math.log1p(a * k)
                ) / damping
        baseline.add(row)
        path.append(log_mean(logs, weights))
    return path


def _fastest_stake(rate: float, k: float, margin: float) -> float:
    """The stake of the fastest growth if both arms keep the baseline's rate, a little less."""
    d = margin / rate
    q = d * k - d - 1 - k
    root = math.sqrt(q * q + 4 * d * d * k)
    # Two forms of the same root; each where the other would subtract almost equal numbers.
    stake = (root + q) / (2 * d * k) if q > 0 else 2 * d / (root - q)
    return min(0.95 * stake, _CAUTION)


def above(counts: Iterable[tuple[float, float]], *, limit: float) -> list[float]:
    """Log capital after each (requests, bad) of one arm, against "its rate is within the limit"."""
    logs = [0.0] * len(ALTERNATIVES)
    weights = [weight for _, weight in ALTERNATIVES]
    rates = [min(r * limit, (1 + limit) / 2) for r, _ in ALTERNATIVES]
    path: list[float] = []
    for requests, bad in counts:
        for i, rate in enumerate(rates):
            logs[i] += bad * math.log(rate / limit) + (requests - bad) * math.log(
                (1 - rate) / (1 - limit)
            )
        path.append(log_mean(logs, weights))
    return path
