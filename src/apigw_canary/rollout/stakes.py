"""How `evidence.worse` stakes its capital on the coming minute, and on which alternatives.

An alternative says that the canary's rate of bad requests is so many times the tolerated one. Each
has a bet of its own, the one that grows fastest if it is true, and the capital is divided by how
long the alternative would take to be found: what takes five minutes to an hour gets most, for what
takes seconds is found with next to no capital, and what takes days is not found with any.

Traffic of the minute itself may be used, and the past; never the bad requests of the minute.
"""

import math
from typing import NamedTuple

ALTERNATIVES = tuple(math.exp(0.12 * 50 ** (j / 7)) for j in range(8))
"""The canary's rate as multiples of the tolerated one: 1.13, 1.23, 1.44, 1.90, 3.1, 7.1, 31 and
403. The closer to 1, the denser: there a wrong stake costs most."""

_SOON, _LATE = 4.0, 80.0
"""Minutes. Alternatives found later than the one and sooner than the other share the capital about
evenly. Tuned on the benchmark's scenarios, which end after 5 to 90 minutes."""
_STEADY = 0.05
"""The capital spread evenly, for the guess of the time may be wrong."""

_CAUTION = 0.97
"""The most of the capital that one request may cost: a loss of all could never be won back."""


class Bet(NamedTuple):
    """A bet on one minute. The log of what the capital is multiplied by is linear in the counts."""

    quiet: float
    """It for a minute without bad requests."""
    canary_bad: float
    """What each bad canary request adds."""
    baseline_bad: float
    """What each bad baseline request adds; negative."""


class Null(NamedTuple):
    """What is tolerated: a canary rate of at most `ratio` times the baseline's + `slack`."""

    ratio: float
    slack: float


def bets(n_b: float, n_c: float, rate: float, null: Null) -> tuple[list[Bet], list[float]]:
    """The bet of each alternative on a minute, and its growth if the alternative is true.

    `n_b`, `n_c`: the minute's requests of baseline and canary. `rate`: the baseline's rate as
    guessed from the past, above 0. The growth is the expected log of the multiplier.

    Whatever the guess: with stakes a and b = a * ratio * n_c / n_b a canary request multiplies the
    capital by 1 + a(y - c), a baseline request by 1 - b(y - q), where y is 1 if it was bad and 0 if
    not, and c = ratio * q + slack. By 1 + z <= exp(z) the minute's expectation is at most
    exp(a * n_c * (p_c - ratio * p_b - slack)), which the null hypothesis keeps from exceeding 1.
    """
    ratio, slack = null
    k = ratio * n_c / n_b
    highest = 0.9 / max(ratio, 1.0)
    p = min(rate, highest)
    tolerated = ratio + slack / p
    all_bets, growths = [], []
    for alternative in ALTERNATIVES:
        times = alternative * tolerated
        if times * p > 0.95:
            times = max(0.95 / p, 1.0001 * tolerated)
        stake = _fastest_stake(times, tolerated, k, slack / p)
        # The rate at which the null comes closest to the alternative: centred there, a bet is the
        # likelihood ratio of the two for rare errors.
        q = min(p / (1 - k * stake), (1 - slack) * highest)
        c = ratio * q + slack
        a = min(stake / (1 - c), _CAUTION / c, _CAUTION / (k * (1 - q)))
        b = a * k
        good_canary, good_baseline = math.log1p(-a * c), math.log1p(b * q)
        bet = Bet(
            quiet=n_c * good_canary + n_b * good_baseline,
            canary_bad=math.log1p(a * (1 - c)) - good_canary,
            baseline_bad=math.log1p(-b * (1 - q)) - good_baseline,
        )
        all_bets.append(bet)
        growths.append(
            bet.quiet + n_c * min(times * p, 1.0) * bet.canary_bad + n_b * p * bet.baseline_bad
        )
    return all_bets, growths


def _fastest_stake(times: float, tolerated: float, k: float, slack: float) -> float:
    """The stake of the fastest growth for rare errors, if the canary has `times` the baseline's.

    All rates in units of the baseline's. Setting the derivative of the growth to zero,
    times/(1 + a) - ratio/(1 - ka) = slack, gives k*slack*a^2 - (k*times + tolerated - k*slack)*a +
    (times - tolerated) = 0; this is the smaller root, in the form that subtracts no equal numbers.
    """
    excess = times - tolerated
    linear = k * times + tolerated - k * slack
    root = math.sqrt(max(linear * linear - 4 * k * slack * excess, 0.0))
    return min(2 * excess / (linear + root), 0.999 / k)


def division(growths: list[float], enough: float) -> list[float]:
    """The part of the capital each alternative should have, from its growth in a minute.

    `enough`: the log capital at which the null is rejected; over the growth it is the time until
    the alternative is found, in minutes like this one.
    """
    parts = []
    for growth in growths:
        minutes = enough / max(growth, 1e-12)
        sooner, later = _SOON / minutes, minutes / _LATE
        later *= later
        parts.append(1 / ((1 + sooner * sooner) * (1 + later * later)))
    total = sum(parts)
    steady = _STEADY / len(parts)
    return [(1 - _STEADY) * part / total + steady for part in parts]
