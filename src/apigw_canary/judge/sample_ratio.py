"""Whether counts can be those of a canary with the share it has.

Counts of something else (a wrong dimension, two APIs of one name, a series that includes the
canary's requests and is read as if it did not) give themselves away by the canary's part of them.
"""

import math

TOLERANCE = 0.1
"""How far, relative to the share in force, the canary's part of the counts may be from it: late
and restated minutes, and requests that are not split quite evenly, are no contradiction."""

CONTRADICTION = math.log(1e4)
"""The evidence, in logs, from which counts are not believed: wrongly in one of 10,000 rollouts."""

NOT_BY_CHANCE = 10
"""A canary without data is called dark once that has a chance of e^-10, one in 22,000, or less."""


def darkness(baseline: float, share: float) -> float:
    """How surprising it is that a canary with that share, 0 to 1, has no request beside these.

    The negative log of its chance, which is (1 - share)^n: each request goes to it by itself.
    """
    return -math.log1p(-min(share, 1 - 1e-4)) * baseline


def is_dark(baseline: float, share: float) -> bool:
    """Whether a canary with that share, 0 to 1, must have had requests beside the baseline's."""
    return darkness(baseline, share) >= NOT_BY_CHANCE


def contradict(canary: float, total: float, share: float) -> bool:
    """Whether `canary` of `total` requests contradict the share, 0 to 1.

    The evidence is a mixture of all shares over the best of those within the tolerance: an
    e-process for each of these, so one may look as often as one likes.
    """
    if not share > 0 or total <= 0:
        return False
    least, most = _possible(share * (1 - TOLERANCE)), _possible(share * (1 + TOLERANCE))
    best = min(max(canary / total, least), most)
    rest = max(total - canary, 0.0)
    of_mixture = math.lgamma(canary + 1) + math.lgamma(rest + 1) - math.lgamma(canary + rest + 2)
    of_best = canary * math.log(best) + rest * math.log1p(-best)
    return of_mixture - of_best >= CONTRADICTION


def _possible(share: float) -> float:
    return min(max(share, 1e-9), 1 - 1e-9)
