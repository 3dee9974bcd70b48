"""How `evidence.worse` bets its capital on the coming minute, and on which alternatives.

An alternative is that the canary's rate of bad requests is a certain multiple of the tolerated one.
Each has its own bet, the one that grows fastest if the alternative is true. The capital is divided
by how long the alternative would take to be found: those of five minutes to an hour get most. Those
of seconds are found with little capital, and those of days are not found with any.

Traffic of the minute itself may be used, and the past; never the bad requests of the minute.
"""

from math import exp, log1p, sqrt
from typing import NamedTuple

ALTERNATIVES = tuple(exp(0.12 * 50 ** (j / 7)) for j in range(8))
"""The canary's rate as multiples of the tolerated one: 1.13, 1.23, 1.44, 1.90, 3.1, 7.1, 31 and
403. They are denser close to 1, where a wrong bet costs most."""

_SOON, _LATE = 4.0, 80.0
"""Minutes. Alternatives found later than the first and sooner than the second get about the same
part of the capital. Tuned on the benchmark's scenarios, which end after 5 to 90 minutes."""
_STEADY = 0.05
"""The capital spread evenly, for the guess of the time may be wrong."""

_SLOWEST = 1e-12
"""A growth in a minute below which an alternative is as good as never found."""

_CAUTION = 0.97
"""The most of the capital that one request may cost: a loss of all could never be won back."""


Bet = tuple[float, float, float]
"""A bet on one minute. The log of what the capital is multiplied by is linear in the counts: what
it is without bad requests, what each bad canary request adds, and what each bad baseline request
adds, which is negative."""

NO_BET: Bet = (0.0, 0.0, 0.0)


class Null(NamedTuple):
    """What is tolerated: a canary rate of at most `ratio` times the baseline's + `slack`."""

    ratio: float
    slack: float


def bets(n_b: float, n_c: float, rate: float, null: Null) -> tuple[list[Bet], list[float]]:
    """The bet of each alternative on a minute, and its growth if the alternative is true.

    `n_b`, `n_c`: the minute's requests of baseline and canary. `rate`: the baseline's rate as
    guessed from the past, above 0. The growth is the expected log of the multiplier.

    Whatever the guess: with bets a and b = a * ratio * n_c / n_b a canary request multiplies the
    capital by 1 + a(y - c), a baseline request by 1 - b(y - q), where y is 1 if it was bad and 0 if
    not, and c = ratio * q + slack. By 1 + z <= exp(z) the minute's expectation is at most
    exp(a * n_c * (p_c - ratio * p_b - slack)), which the null hypothesis keeps from exceeding 1.

    For rare errors the fastest bet is found with all rates in units of the baseline's. Setting the
    derivative of the growth to zero, times/(1 + a) - ratio/(1 - ka) = slack, gives
    k*slack*a^2 - (k*times + tolerated - k*slack)*a + (times - tolerated) = 0; the bet is the
    smaller root, in the form that subtracts no equal numbers.
    """
    ratio, slack = null
    k = ratio * n_c / n_b
    highest = 0.9 / max(ratio, 1.0)
    highest_null, highest_stake = (1 - slack) * highest, 0.999 / k
    p = min(rate, highest)
    slack_in_rates = slack / p
    tolerated = ratio + slack_in_rates
    most = max(0.95 / p, 1.0001 * tolerated)
    square, constant = 4 * k * slack_in_rates, tolerated - k * slack_in_rates
    expected_b, expected_c = n_b * p, n_c * p
    all_bets, growths = [], []
    for alternative in ALTERNATIVES:  # with min() and max() it would take a third longer
        times = alternative * tolerated
        if times > most:  # noqa: PLR1730
            times = most
        excess = times - tolerated
        linear = k * times + constant
        squared = linear * linear - square * excess
        root = sqrt(squared) if squared > 0 else 0.0
        stake = 2 * excess / (linear + root)
        if stake > highest_stake:  # noqa: PLR1730
            stake = highest_stake
        # The rate at which the null comes closest to the alternative: centred there, a bet is the
        # likelihood ratio of the two for rare errors.
        q = p / (1 - k * stake)
        if q > highest_null:  # noqa: PLR1730
            q = highest_null
        c = ratio * q + slack
        a = stake / (1 - c)
        if a * c > _CAUTION or a * k * (1 - q) > _CAUTION:
            a = min(_CAUTION / c, _CAUTION / (k * (1 - q)))
        b = a * k
        good_canary, good_baseline = log1p(-a * c), log1p(b * q)
        without_errors = n_c * good_canary + n_b * good_baseline
        canary_bad = log1p(a * (1 - c)) - good_canary
        baseline_bad = log1p(-b * (1 - q)) - good_baseline
        all_bets.append((without_errors, canary_bad, baseline_bad))
        growths.append(without_errors + expected_c * times * canary_bad + expected_b * baseline_bad)
    return all_bets, growths


def division(growths: list[float], enough: float) -> list[float]:
    """The part of the capital each alternative should have, from its growth in a minute.

    `enough`: the log capital at which the null is rejected; over the growth it is the time until
    the alternative is found, in minutes like this one.
    """
    parts = []
    for growth in growths:
        minutes = enough / growth if growth > _SLOWEST else enough / _SLOWEST
        sooner, later = _SOON / minutes, minutes * minutes / (_LATE * _LATE)
        parts.append(1 / ((1 + sooner * sooner) * (1 + later * later)))
    scale, steady = (1 - _STEADY) / sum(parts), _STEADY / len(parts)
    return [scale * part + steady for part in parts]
