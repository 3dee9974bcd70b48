"""How many more requests a canary has failed than it would have at production's rate.

A cost, and no test: `max_failed_requests` is held against it. Outside the promise of the evidence.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from apigw_canary.judge.evidence import Row
from apigw_canary.judge.gathering import Gathered
from apigw_canary.judge.guard import past_counts
from apigw_canary.judge.observation import Observation

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
    return min(_excess(g, rows, observation) for rows in g.readings)


def _excess(g: Gathered, rows: Sequence[Row], observation: Observation) -> Excess:
    first = observation.step_judged_from() if observation.percent == 100 else None
    estimate = variance = 0.0
    step: list[tuple[float, float]] = []
    for minute, row in zip(g.minutes, rows, strict=True):
        if first is not None and minute.at >= first:
            step.append((minute.canary_requests, minute.canary_bad))
        elif row.baseline_requests and row.canary_requests:
            baseline_bad = row.baseline_bad + row.baseline_unknown
            times = row.canary_requests / row.baseline_requests
            estimate += row.canary_bad - times * baseline_bad
            # The baseline's part has the variance of both variants at one rate: a small baseline
            # without bad requests does not show that its rate is 0.
            rate = (row.canary_bad + baseline_bad) / (row.canary_requests + row.baseline_requests)
            variance += row.canary_bad + times * row.canary_requests * rate
    surely = estimate - CAUTION * math.sqrt(variance)
    if first is None:
        return Excess(surely, estimate, 0.0)
    at_100 = _beyond_past(step, *past_counts(g, rows, observation))
    return Excess(
        max(surely, 0.0) + at_100.surely, max(estimate, 0.0) + at_100.at_100, at_100.at_100
    )


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
