"""A rate that has risen above a limit lately: an e-detector for one series of counts.

For each excess of `evidence.EXCESSES` it follows R = L * (0.9 R + 0.1), with L the likelihood ratio
of the minute for that excess against the limit. What lies ten minutes back counts about a third, so
that hours of health do not delay the detection. If the rate is at the limit, the mean over the
excesses has an expectation of at most the number of minutes; a threshold on it is a choice that is
measured, not a bound on the probability of a false detection.
"""

import math

from apigw_canary.judge import evidence
from apigw_canary.judge.signals import Signal

_KEPT, _ADDED = math.log(0.9), math.log(0.1)
"""What is kept of R from a minute to the next, and what is added anew."""

_MOST = 50.0
"""R is cut off at e^50, so that it falls again in a few healthy minutes."""

UNHEALTHY = math.log(20)
"""The evidence from which production is unhealthy."""
_DRIFT = 2.0
"""Times the past rate that production may drift to by itself, with the margin on top."""
_MOST_LIMIT = 0.9
PRIOR_BAD, PRIOR_REQUESTS = 0.5, 200.0
"""What a past rate starts from, as in `evidence`."""


class Detector:
    """The evidence that a rate is above its limit now, minute by minute."""

    def __init__(self) -> None:
        self._logs = [-math.inf] * len(evidence.EXCESSES)

    def add(self, requests: float, bad: float, limit: float) -> float:
        """The log of R after a minute more. `limit`: above 0 and below 1."""
        gains = evidence.gains_above(limit, requests, bad)
        self._logs = [
            min(evidence.log_sum((_KEPT + log, _ADDED)) + gain, _MOST)
            for log, gain in zip(self._logs, gains, strict=True)
        ]
        return evidence.log_mean(self._logs, [weight for _, weight in evidence.EXCESSES])


def highest_healthy(signal: Signal, past_bad: float, past_requests: float) -> float:
    """The highest rate at which production counts as healthy, from its past counts."""
    past_rate = (past_bad + PRIOR_BAD) / (past_requests + PRIOR_REQUESTS)
    return min(_DRIFT * past_rate + signal.margin, _MOST_LIMIT)
