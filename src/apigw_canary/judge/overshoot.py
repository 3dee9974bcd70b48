"""Capital beyond what rejects is of no use, so it is taken back and bet.

A capital that jumps over 1/alpha wastes the part above (Wald's overshoot). Cut off there, its
expectation falls below what the null hypothesis allows, and what is missing may be given to the
outcomes that were not cut off: all are multiplied by the same factor. After Fischer and Ramdas,
"Improving the (approximate) sequential probability ratio test by avoiding overshoot" (2024).

The law needed for "what is missing" is that of the canary's part x of the minute's bad requests m.
Given m it is Fisher's noncentral hypergeometric, for requests of an arm that run the same risk.

Why it is valid. Let V(x) be the capital after the minute, rising in x; C the capital that rejects;
E the capital before; h the law in which a canary request has `ratio` times the odds of being bad;
and W = min(B * V, C) with the B for which E_h[W] = min(E_h[V], E).

- If the true odds ratio is `ratio` or less: W rises in x, so for every m its expectation is at most
  that under h, which is E at most.
- If it is more (the null allows it, by slack and at high rates): W - V is positive up to some x and
  negative from there, or negative everywhere. With an expectation of 0 or less under h it has one
  of 0 or less at any larger odds ratio. So W has at most the expectation of V, a supermartingale.

For `ratio` 1 it holds for requests of unequal risk too, if both arms get the same mixture of them.
"""

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from apigw_canary.judge.noise import Damping

MOST_REQUESTS = 10_000_000
"""Requests of both arms in a minute up to which the correction is worth its computation."""
_NEGLIGIBLE = 1e-14
"""Probability, relative to the most likely outcome, below which outcomes are left out."""
_LEAST_WASTE = 1e-4
"""The part of the capital that is worth taking back. Less, in each of 40 minutes, is 0.1 % of the
log capital that a rollback takes at an alpha of 0.01."""
_WIDE = 6.0
"""Standard deviations of x, in requests, from which on it is estimated first whether so much would
be cut off: an estimate costs as much as the law itself at this one."""
_GRID = tuple((z / 2, math.exp(-z * z / 8)) for z in range(-16, 17))
"""Standard scores, and the normal density there relative to the highest, for the estimate."""
_LARGEST = 600.0
"""Logs of capital are cut off there, below what a float can hold. It makes the factor smaller."""
_LEAST = -690.0
"""The least log of a factor, whatever rounding does."""


class Split(NamedTuple):
    """The bad requests of a minute, m of all, and where they can have fallen."""

    n_b: int
    n_c: int
    m: int
    odds: float
    """How many times the odds of being bad are higher on the canary."""


Part = tuple[float, float, float]
"""A part of the capital, and what the minute makes of it, in logs; x is the canary's part of the
bad requests: what it is before, in units of the capital that rejects, of which more is of no use;
what it is multiplied by if x is 0; and what each of x adds. The last two are not damped."""


def after(parts: Sequence[Part], damping: Damping, x: float) -> list[float]:
    """The logs of the parts after the minute."""
    divisor = damping.of(x)
    return [before + (still + slope * x) / divisor for before, still, slope in parts]


def _capital(parts: Sequence[Part], damping: Damping, x: float) -> float:
    """The sum of the parts after the minute."""
    logs = after(parts, damping, x)
    if max(logs) > _LARGEST:
        logs = [min(log, _LARGEST) for log in logs]
    return sum(map(math.exp, logs))


def log_factor(split: Split, parts: Sequence[Part], damping: Damping, before: float) -> float:
    """The log of what the capital after the minute may be multiplied by, before it is cut off at 1.

    `before`: the capital before the minute. It and the `parts` are in units of the capital that
    rejects. The factor depends on the minute's total of bad requests only, not on their split.
    """
    middle = _mode(split)
    if _is_negligible(split, middle, parts, damping):
        return 0.0
    first, law = _law(split, middle)
    capital = [_capital(parts, damping, x) for x in range(first, first + len(law))]
    kept = list(accumulate([h * v for h, v in zip(law, capital, strict=True)]))
    if kept[-1] <= 0:
        return 0.0  # all but lost, whatever the outcome
    target = min(kept[-1], before)
    cut, last = 0.0, len(law) - 1
    # From the largest x down: what comes to more than 1 is cut off, the rest makes up the target.
    while last > 0 and kept[last - 1] > 0 and (target - cut) * capital[last] > kept[last]:
        cut += law[last]
        last -= 1
    rest = target - cut
    return max(math.log(rest) - math.log(kept[last]), _LEAST) if rest > 0 else _LEAST


def _is_negligible(split: Split, middle: int, parts: Sequence[Part], damping: Damping) -> bool:
    """Whether about nothing would be cut off, with a normal distribution in place of a wide law.

    Not to multiply is always valid, and whether to depends on what the factor depends on.
    """
    n_b, n_c, m, _ = split
    cells = (middle, m - middle, n_c - middle, n_b - m + middle)
    spread = 1 / math.sqrt(sum(1 / (cell + 1) for cell in cells))
    if spread < _WIDE:
        return False
    total = cut = 0.0
    for score, density in _GRID:
        x = min(max(middle + score * spread, 0.0), float(m))
        capital = _capital(parts, damping, x)
        total += density * capital
        cut += density * max(capital - 1, 0.0)
    return cut <= _LEAST_WASTE * total


def _law(split: Split, middle: int) -> tuple[int, list[float]]:
    """Fisher's noncentral hypergeometric: the first outcome that matters, and probabilities."""
    n_b, n_c, m, odds = split
    lowest, highest = max(0, m - n_b), min(m, n_c)
    upward = [1.0]
    x, h = middle, 1.0
    while x < highest and h >= _NEGLIGIBLE:
        h *= odds * (m - x) * (n_c - x) / ((x + 1) * (n_b - m + x + 1))
        upward.append(h)
        x += 1
    downward = []
    x, h = middle, 1.0
    while x > lowest and h >= _NEGLIGIBLE:
        h *= x * (n_b - m + x) / (odds * (m - x + 1) * (n_c - x + 1))
        downward.append(h)
        x -= 1
    law = [*reversed(downward), *upward]
    total = sum(law)
    return x, [h / total for h in law]


def _mode(split: Split) -> int:
    """The most likely outcome: the smaller root of h(x) = h(x - 1), rounded down."""
    n_b, n_c, m, odds = split
    square = odds - 1
    linear = odds * (m + n_c + 2) + n_b - m
    constant = odds * (m + 1) * (n_c + 1)
    root = math.sqrt(max(linear * linear - 4 * square * constant, 0.0))
    return min(max(int(2 * constant / (linear + root)), m - n_b, 0), m, n_c)
