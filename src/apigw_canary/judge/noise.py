"""What varies by itself from minute to minute in one arm only: a cold container, a bad host.

Variation that both arms share (incidents, the time of day) needs nothing: the null hypotheses hold
minute by minute.
"""

from typing import NamedTuple

_LEAST_SCATTER = 0.3
"""Minutes with less scatter by chance (about one bad request) say nothing of the noise."""
_MOST_SURPRISE = 9.0
"""How many times the expected one a minute's squared scatter counts at most: one burst is no
habit. Of what is normally distributed it cuts off 0.3 %."""
_MOST_TIMES = 4.0
"""How many times the tolerated variance may be learned: twice the coefficient of variation. A
canary that is worse in bursts must not pass as a noisy one."""

_PRIOR_MINUTES = 0.3
"""How many minutes of full weight the tolerated value counts for. With 0.1 healthy canaries were
rolled back too often at a tolerated coefficient of 0.2, with 1 little was learned in time."""


class Damping(NamedTuple):
    """How many times less a minute tells than without noise, from the canary's bad requests.

    It may rise with the canary's bad requests, but with nothing else that the minute brings: then a
    multiplier that rises with them too keeps its expectation of at most 1 when its logarithm is
    divided by it. (Where the multiplier is above 1 the divisor is no less than where it equals 1,
    and below no more; with that one divisor everywhere it is Jensen's inequality.)
    """

    still: float
    """Without a bad canary request, 1 or more."""
    canary_bad: float
    """What each of them adds."""

    def of(self, canary_bad: float) -> float:
        """The damping of a minute with so many."""
        return self.still + self.canary_bad * canary_bad


class Noise:
    """The variance of an arm's rate around its mean, relative to the mean squared.

    It starts at the tolerated value and follows how far past minutes scattered around the running
    share of bad requests, beyond chance: with u the variance by chance of the canary's part of
    the bad requests, its squared scatter is expected to be u * (1 + 2 * variance * u). Estimated by
    weighted least squares, the tolerated value counting for a part of one minute.
    """

    def __init__(self, tolerated: float) -> None:
        """`tolerated`: the coefficient of variation per minute that is to be expected."""
        self._tolerated = tolerated * tolerated
        # A minute weighs 2u^2 / (1 + 2 * tolerated * u)^2, so at most 0.5 / tolerated^2.
        full = 0.5 / self._tolerated**2 if tolerated > 1e-6 else 0.0
        self._weight = _PRIOR_MINUTES * full
        self._weighted = self._weight * self._tolerated
        self._canary_bad = 0.0
        self._expected_bad = 0.0

    def damping(self, expected_bad: float, share: float) -> Damping:
        """The damping of a minute.

        `expected_bad`: the baseline's bad requests as expected from the past; `share`: the canary's
        share of the requests.
        """
        if not self._weight:
            return Damping(1.0, 0.0)
        learned = max(self._weighted / self._weight, 0.0)
        variance = min(learned, _MOST_TIMES * self._tolerated)
        each = 2 * variance * share * (1 - share)
        return Damping(1 + each * expected_bad, each)

    def add(self, canary_bad: float, bad: float, share: float) -> None:
        """Learn from a minute, after it has been judged. `bad`: bad requests of both arms."""
        if not self._weight:
            return
        odds = (self._canary_bad + 2) / (self._expected_bad + 2) * share
        expected = odds / (odds + 1 - share)
        chance = bad * expected * (1 - expected)
        if chance > _LEAST_SCATTER:
            off = canary_bad - bad * expected
            # 1 by chance; and the running share is itself known only so well.
            unexplained = 1 + chance / (self._expected_bad * (1 - share) + 2)
            usual = unexplained + 2 * self._tolerated * chance
            surprise = min(off * off / chance, _MOST_SURPRISE * usual) - unexplained
            certainty = chance / (usual * usual)
            self._weighted += certainty * surprise
            self._weight += 2 * certainty * chance
        self._canary_bad += canary_bad
        self._expected_bad += bad * share
