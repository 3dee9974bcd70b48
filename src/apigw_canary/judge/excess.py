"""How many more requests a canary has failed than it would have at production's rate.

A cost, and no test: `max_failed_requests` is held against it. Outside the promise of the evidence.
"""

import math
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from apigw_canary.judge.detector import PRIOR_BAD, PRIOR_REQUESTS
from apigw_canary.judge.evidence import Row
from apigw_canary.judge.gathering import Gathered
from apigw_canary.judge.kept import Reading
from apigw_canary.judge.observation import Minute, Observation
from apigw_canary.judge.production import Past

CAUTION = 4.0
"""Standard errors in the canary's favor, since it is looked at every minute."""

DRIFT = 2.0
"""Times its past rate that production may drift to by itself, as for production that is unhealthy:
at 100 % only what is beyond that counts."""


class Excess(NamedTuple):
    """Bad requests of the canary beyond those at production's rate."""

    surely: float
    """The estimate less four of its standard errors, below 100 % and at 100 % each."""
    estimate: float
    at_100: float
    """What of the estimate is of the present step at 100 %; 0 below."""


def excess(g: Gathered, observation: Observation) -> Excess:
    """The bad requests of the canary in excess; of the open interpretations the least.

    Below 100 % minute by minute beside the baseline, so that an incident of both variants does not
    count, whatever the percent. At 100 %, beyond twice the baseline's rate before the step, from
    the minute on that makes it most: healthy hours are no credit. Requests of unknown outcome count
    in the canary's favor.
    """
    return min(_excess(g, fold, observation) for fold in g.folds)


def _excess(g: Gathered, fold: Reading, observation: Observation) -> Excess:
    first = observation.step_judged_from() if observation.percent == 100 else None
    beside = fold.after(_Beside, first)
    surely = beside.estimate - CAUTION * math.sqrt(beside.variance)
    if first is None:
        return Excess(surely, beside.estimate, 0.0)
    step = [(m.canary_requests, m.canary_bad) for m in g.minutes if m.at >= first]
    past = fold.after(Past, observation.step_started_at)
    at_100 = _beyond_past(step, past.bad + PRIOR_BAD, past.requests + PRIOR_REQUESTS)
    return Excess(
        max(surely, 0.0) + at_100.surely,
        max(beside.estimate, 0.0) + at_100.at_100,
        at_100.at_100,
    )


class _Beside:
    """The excess in the minutes with requests of both variants, before a step at 100 %."""

    def __init__(self, until: datetime | None) -> None:
        self._until = until
        self.estimate = self.variance = 0.0

    def add(self, minute: Minute, row: Row) -> None:
        if self._until is not None and minute.at >= self._until:
            return
        if row.baseline_requests and row.canary_requests:
            baseline_bad = row.baseline_bad + row.baseline_unknown
            times = row.canary_requests / row.baseline_requests
            self.estimate += row.canary_bad - times * baseline_bad
            # The baseline's part has the variance of both variants at one rate: a small baseline
            # without bad requests does not show that its rate is 0.
            rate = (row.canary_bad + baseline_bad) / (row.canary_requests + row.baseline_requests)
            self.variance += row.canary_bad + times * row.canary_requests * rate


def _beyond_past(
    step: Sequence[tuple[float, float]], past_bad: float, past_requests: float
) -> Excess:
    """Of all the ends of the step's minutes (requests, bad ones), the one that exceeds most."""
    most = Excess(0.0, 0.0, 0.0)
    requests = bad = 0.0
    for more, more_bad in reversed(step):
        requests, bad = requests + more, bad + more_bad
        times = DRIFT * requests / past_requests
        estimate = bad - times * past_bad
        surely = estimate - CAUTION * math.sqrt(bad + times * times * past_bad)
        most = max(most, Excess(surely, estimate, estimate))
    return most
