"""What varies by itself from minute to minute in one arm only: a cold container, a bad host.

Variation that is common to both arms (incidents, the time of day) needs nothing: the null
hypotheses hold minute by minute.
"""

from typing import NamedTuple

_LEAST_SCATTER = 0.3
"""Minutes with less scatter by chance (about one bad request) do not show the noise."""
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
    """How many times less evidence a minute is than without noise, from the canary's bad requests.

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


class Noise(NamedTuple):
    """The variance of an arm's rate around its mean, relative to the mean squared.

    It starts at the tolerated value and follows how far past minutes scattered around the running
    fraction of bad requests, beyond chance: with u the variance by chance of the canary's part of
    the bad requests, its squared scatter is expected to be u * (1 + 2 * variance * u). Estimated by
    weighted least squares, the tolerated value counting for a part of one minute.
    """

    variance: float
    """The tolerated one."""
    weight: float
    weighted: float
    """The minutes' estimates of the variance, each by its weight; and above the sum of these."""
    canary_bad: float = 0.0
    expected_bad: float = 0.0
    """The canary's bad requests so far, and what they would be at its part of all bad ones."""

    @classmethod
    def tolerated(cls, variation: float) -> "Noise":
        """Before any minute. `variation`: the coefficient of variation a minute to be expected."""
        variance = variation * variation
        # A minute weighs 2u^2 / (1 + 2 * tolerated * u)^2, so at most 0.5 / tolerated^2.
        full = 0.5 / variance**2 if variation > 1e-6 else 0.0
        return cls(variance, _PRIOR_MINUTES * full, _PRIOR_MINUTES * full * variance)

    def damping(self, expected_bad: float, share: float) -> Damping:
        """The damping of a minute.

        `expected_bad`: the baseline's bad requests as expected from the past; `share`: the canary's
        fraction of the requests.
        """
        if not self.weight:
            return Damping(1.0, 0.0)
        learned = max(self.weighted / self.weight, 0.0)
        variance = min(learned, _MOST_TIMES * self.variance)
        each = 2 * variance * share * (1 - share)
        return Damping(1 + each * expected_bad, each)

    def with_minute(self, canary_bad: float, bad: float, share: float) -> "Noise":
        """What is known after a minute, which has been judged. `bad`: bad ones of both arms."""
        tolerated, weight, weighted, so_far, expected_so_far = self
        if not weight:
            return self
        odds = (so_far + 2) / (expected_so_far + 2) * share
        expected = odds / (odds + 1 - share)
        chance = bad * expected * (1 - expected)
        if chance > _LEAST_SCATTER:
            off = canary_bad - bad * expected
            # 1 by chance; and the running share is itself known only so well.
            unexplained = 1 + chance / (expected_so_far * (1 - share) + 2)
            usual = unexplained + 2 * tolerated * chance
            surprise = min(off * off / chance, _MOST_SURPRISE * usual) - unexplained
            certainty = chance / (usual * usual)
            weighted += certainty * surprise
            weight += 2 * certainty * chance
        return Noise(
            tolerated, weight, weighted, so_far + canary_bad, expected_so_far + bad * share
        )
