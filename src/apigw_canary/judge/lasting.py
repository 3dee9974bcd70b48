"""A canary that exceeds the margin minute after minute, whatever the evidence.

Evidence of hours, or a high usual rate, can keep the e-value low for a long time after a late
onset. This rule is a heuristic outside the stated error rates: 15 minutes are longer than a hot
container, ten standard deviations are no chance, and each minute is compared with the baseline of
the same minute, so an incident of both variants is none of the canary's.
"""

import math
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

from apigw_canary.judge.evidence import Row
from apigw_canary.judge.gathering import Gathered
from apigw_canary.judge.observation import Minute, Observation
from apigw_canary.judge.signals import Signal
from apigw_canary.values.formatting import share

MINUTES = 15
"""The canary's latest complete minutes with requests; each must exceed the margin."""

_DEVIATIONS = 10.0
"""Standard deviations by which they must exceed it together."""


_NOISES = 2.0
"""Times the signal's noise by which its ratio is widened. Variants that drift by themselves for
minutes (AR(1) that keeps 0.9, each with the coefficient of variation that `noise` states) exceed
ratio x 30 % + margin for 15 minutes in 3 % of 1,000 rollouts of two hours, and the wider one in
none."""


class LastingExcess(NamedTuple):
    """The canary's latest 15 minutes, each of which exceeds the margin."""

    canary_requests: float
    canary_bad: float
    """Those of unknown outcome are not among them."""
    baseline_requests: float
    baseline_bad: float
    """Those of unknown outcome are among them."""
    unknown: float
    """Requests of unknown outcome, of both variants."""
    deviations: float
    """Standard deviations by which the canary exceeds the margin."""

    def __str__(self) -> str:
        canary = share(self.canary_bad / self.canary_requests, self.canary_requests)
        baseline = share(self.baseline_bad / self.baseline_requests, self.baseline_requests)
        favor = " (unknown outcomes count in the canary's favor)" if self.unknown else ""
        return (
            f"in each of the latest {MINUTES} minutes: canary {canary}, baseline {baseline}{favor}"
        )


def lasting_excess(g: Gathered, observation: Observation) -> LastingExcess | None:
    """The canary's latest 15 complete minutes with requests, if they exceed the margin; else None.

    The canary's rate must exceed `ratio` x (1 + 2 x `noise`) x the baseline's + `margin` in each of
    them, and by ten standard deviations (binomial, of both variants) in all of them together, in
    each open interpretation of the overlap. Unknown outcomes
    count in the canary's favor. Where errors come later than requests, the minutes that are old
    enough for a promotion show it, so these are enough as well.
    """
    for minutes, readings in (
        (g.minutes, g.readings),
        (g.confirmed, g.confirmed_readings),
    ):
        found = [_excess(g.signal, minutes, rows, observation) for rows in readings]
        some = [each for each in found if each is not None]
        if len(some) == len(found):
            return min(some, key=lambda each: each.deviations)
    return None


def exceeds(signal: Signal, row: Row) -> bool:
    """Whether a minute had requests of both variants, and the canary's exceed the margin."""
    if not row.baseline_requests or not row.canary_requests:
        return False
    return row.canary_bad > _tolerated(signal, row) * row.canary_requests


def _tolerated(signal: Signal, row: Row) -> float:
    bad = row.baseline_bad + row.baseline_unknown
    varied = signal.ratio * (1 + _NOISES * signal.noise)
    return varied * bad / row.baseline_requests + signal.margin


def _excess(
    signal: Signal, minutes: Sequence[Minute], rows: Sequence[Row], observation: Observation
) -> LastingExcess | None:
    first = observation.judged_from()
    served = (
        (minute, row)
        for minute, row in zip(reversed(minutes), reversed(rows), strict=True)
        if minute.canary_requests
    )
    latest = [row for minute, row in islice(served, MINUTES) if minute.at >= first][::-1]
    if len(latest) < MINUTES or not all(exceeds(signal, row) for row in latest):
        return None
    excess = variance = 0.0
    for row in latest:
        n_b, n_c, tolerated = row.baseline_requests, row.canary_requests, _tolerated(signal, row)
        # The rate of both variants as well: with few requests the tolerated one says too little.
        pooled = (row.baseline_bad + row.baseline_unknown + row.canary_bad) / (n_b + n_c)
        spread = max(tolerated * (1 - tolerated), pooled * (1 - pooled))
        excess += row.canary_bad - tolerated * n_c
        variance += n_c * spread * (1 + signal.ratio**2 * n_c / n_b)
    # Not 0: a minute with bad and good requests has a spread, and one with bad ones only tolerates
    # less than all.
    deviations = excess / math.sqrt(variance)
    if deviations < _DEVIATIONS:
        return None
    return LastingExcess(
        canary_requests=sum(row.canary_requests for row in latest),
        canary_bad=sum(row.canary_bad for row in latest),
        baseline_requests=sum(row.baseline_requests for row in latest),
        baseline_bad=sum(row.baseline_bad + row.baseline_unknown for row in latest),
        unknown=sum(row.baseline_unknown + row.canary_unknown for row in latest),
        deviations=deviations,
    )
