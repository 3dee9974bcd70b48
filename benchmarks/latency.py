"""What latency as a default signal finds, and costs: `make latency` (ROLLOUTS=n, 40 unless said).

Containers are simulated request by request: a request is served by the free container that was used
last, and by a new one where none is free, which takes 1 to 3 s longer. An idle container ends after
5 to 10 minutes, drawn for each time. The default policy, with and without its latency signal, is
given the minutes of all signals as CloudWatch has them; a canary is rolled back where its evidence
reaches "worse".
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from statistics import median
from typing import NamedTuple

from apigw_canary import Minute, Observation, RolloutPolicy, Signal
from apigw_canary.metrics.latency import weighted_median
from apigw_canary.planning.simulation import binomial

MINUTE = timedelta(minutes=1)
START = datetime(2026, 1, 5, 10, tzinfo=UTC)
SERVED_MS, SPREAD = 80.0, 0.5
COLD_MS = 1000.0, 3000.0
IDLE_MS = 5 * 60_000.0, 10 * 60_000.0
ERRORS_5XX, ERRORS_4XX = 0.001, 0.01
LOOK = 10
"""Minutes between two analyses."""

PLAN = ((5.0, 10), (25.0, 10), (45.0, 10), (65.0, 10), (85.0, 10))
"""Percents, and minutes at each."""


def _policies() -> tuple[RolloutPolicy, RolloutPolicy]:
    """Without latency, with the weights that errors had then, and the default."""
    errors = [Signal.errors_5xx(), Signal.errors_4xx(weight=0.2)]
    plan = RolloutPolicy.linear(5, 20, 10 * MINUTE)
    return RolloutPolicy(plan.steps, signals=errors), plan


class Case(NamedTuple):
    """A canary, its traffic and its plan."""

    canary: str
    per_minute: float
    plan: tuple[tuple[float, int], ...] = PLAN
    times_as_slow: float = 1.0
    errors_5xx: float = ERRORS_5XX
    errors_4xx: float = ERRORS_4XX
    fewer: int = 1
    """It gets so many times fewer rollouts."""


CASES = (
    *(Case("healthy", each, fewer=max(int(each) // 500, 1)) for each in (5, 50, 500, 5000)),
    Case("healthy, 20 % for 8 h", 5, ((20.0, 480),)),
    Case("healthy, 5 % for 8 h", 50, ((5.0, 480),)),
    Case("healthy, 5 % for 3 h", 500, ((5.0, 180),)),
    *(Case("25 times as slow", each, times_as_slow=25) for each in (5, 50, 500)),
    Case("3 times as slow", 500, times_as_slow=3),
    Case("1.5 times as slow", 500, times_as_slow=1.5),
    Case("0.5 % 5xx instead of 0.1 %", 500, errors_5xx=0.005),
    Case("2 % 5xx instead of 0.1 %", 50, errors_5xx=0.02),
    Case("3 % 4xx instead of 1 %", 500, errors_4xx=0.03),
)


class Containers:
    """Of one variant."""

    def __init__(self, rng: random.Random, times_as_slow: float = 1.0) -> None:
        self._rng = rng
        self._median = math.log(times_as_slow * SERVED_MS)
        # When each is free and when it ends, in milliseconds; the one used last at the end.
        self._pool: list[tuple[float, float]] = []

    def latency(self, at: float) -> float:
        """In milliseconds, of a request that comes at that time."""
        takes = self._rng.lognormvariate(self._median, SPREAD)
        self._pool = [each for each in self._pool if each[1] > at]
        free = next((i for i in range(len(self._pool))[::-1] if self._pool[i][0] <= at), None)
        if free is None:
            takes += self._rng.uniform(*COLD_MS)
        else:
            del self._pool[free]
        self._pool.append((at + takes, at + takes + self._rng.uniform(*IDLE_MS)))
        return takes


def _latencies(rng: random.Random, case: Case) -> Iterator[tuple[list[float], list[float]]]:
    """Of baseline and canary, by the minute: an hour without a canary, then the plan."""
    baseline, canary = Containers(rng), Containers(rng, case.times_as_slow)
    percents = [0.0] * 60 + [percent for percent, minutes in case.plan for _ in range(minutes)]
    for number, percent in enumerate(percents):
        found: tuple[list[float], list[float]] = ([], [])
        at = number * 60_000.0
        while (at := at + rng.expovariate(case.per_minute / 60_000)) < (number + 1) * 60_000:
            is_canary = rng.random() < percent / 100
            found[is_canary].append((canary if is_canary else baseline).latency(at))
        yield found


def _p99(latencies: list[float]) -> float:
    return sorted(latencies)[math.ceil(0.99 * len(latencies)) - 1]


def _minutes(rng: random.Random, case: Case) -> dict[str, list[Minute]]:
    """The minutes of each signal; latency has none where the baseline sets no limit."""
    found = list(_latencies(rng, case))
    limit = weighted_median(
        (_p99(baseline), len(baseline)) for baseline, _ in found[:50] if baseline
    )
    rows: dict[str, list[Minute]] = {"errors_5xx": [], "errors_4xx": [], "latency_p99": []}
    for number, (baseline, canary) in enumerate(found):
        at, n_b, n_c = START + (number - 60) * MINUTE, len(baseline), len(canary)
        if not n_b + n_c:
            continue
        for name, usual, its in (
            ("errors_5xx", ERRORS_5XX, case.errors_5xx),
            ("errors_4xx", ERRORS_4XX, case.errors_4xx),
        ):
            bad = binomial(rng, n_b, usual), binomial(rng, n_c, its)
            rows[name].append(Minute(at, n_b, bad[0], n_c, bad[1]))
        if limit is not None:
            slow = (sum(each > limit for each in arm) for arm in (baseline, canary))
            rows["latency_p99"].append(Minute(at, n_b, next(slow), n_c, next(slow)))
    return rows


def _rolled_back(policy: RolloutPolicy, rows: dict[str, list[Minute]], case: Case) -> float | None:
    """After how many minutes; None where it is not."""
    begins = [0, *accumulate(minutes for _, minutes in case.plan)]
    for now in range(LOOK, begins[-1] + 1, LOOK):
        step = max(i for i, begin in enumerate(begins[:-1]) if begin < now)
        at = START + now * MINUTE
        analysis = policy.analyze(
            Observation(
                at=at,
                started_at=START,
                step_started_at=START + begins[step] * MINUTE,
                percent=case.plan[step][0],
                minutes={name: [row for row in each if row.at < at] for name, each in rows.items()},
            )
        )
        if analysis.worse_at is not None:
            return (analysis.worse_at + MINUTE + policy.metric_delay - START) / MINUTE
    return None


def row(case: Case, rollouts: int) -> str:
    """One row of the table."""
    count = max(rollouts // case.fewer, 2)
    policies = _policies()
    found: tuple[list[float], list[float]] = ([], [])
    for number in range(count):
        rows = _minutes(random.Random(f"{case.canary}/{case.per_minute}/{number}"), case)
        for policy, times in zip(policies, found, strict=True):
            if (after := _rolled_back(policy, rows, case)) is not None:
                times.append(after)
    cells = [
        f"{len(times)} of {count}" + (f", after {median(times):g} min" if times else "")
        for times in found
    ]
    return f"| {case.canary} | {case.per_minute:,g} | {' | '.join(cells)} |"


def main() -> None:
    rollouts = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    print(
        "| Canary | Requests a minute | Rolled back without latency | Rolled back by default |\n"
        f"{'|---' * 4}|"
    )
    for case in CASES:
        print(row(case, rollouts), flush=True)


if __name__ == "__main__":
    main()
