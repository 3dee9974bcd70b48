"""Forecasts and backtests against rollouts simulated on their own: `make forecasts`.

The simulation shares no code with them: it draws requests by itself, and asks `policy.decide` after
each minute, from scratch, with the minutes of the hour before one by one. ROLLOUTS=n, 200 unless
said otherwise; a share of 200 has a standard error of up to 3.5 percentage points.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from statistics import median
from typing import NamedTuple

from apigw_canary import Minute, Observation, RolloutPolicy, Shift, Signal, Step

MINUTE = timedelta(minutes=1)
START = datetime(2026, 1, 5, tzinfo=UTC)
HOUR = 60
THREE_STEPS = RolloutPolicy(
    [Step(5, 10 * MINUTE), Step(25, 10 * MINUTE), Step(50, 10 * MINUTE)],
    signals=[Signal.errors_5xx()],
)
AT_100 = RolloutPolicy(
    [Step(50, 10 * MINUTE), Step(100, 20 * MINUTE)], signals=[Signal.errors_5xx()]
)
CASES = (
    ("5, 25, 50 %", THREE_STEPS, 500, 0.001),
    ("5, 25, 50 %", THREE_STEPS, 500, 0.01),
    ("50, 100 %", AT_100, 2000, 0.001),
)
"""Steps, the policy, requests a minute, and the baseline's rate of errors."""
TIMES = (1, 2, 5)

Split = Callable[[Random, int, float], Minute]
"""A minute by its number since the start, and the canary's share."""


class Outcome(NamedTuple):
    """How a rollout ended, and after how many minutes."""

    kind: str
    minutes: float


def drawn(rng: Random, requests: int, rate: float) -> int:
    """How many requests are bad, by the gaps between them."""
    if rate >= 1:
        return requests
    count, at = 0, -1
    while True:
        at += 1 + int(math.log(1 - rng.random()) / math.log1p(-rate))
        if at >= requests:
            return count
        count += 1


def rollout(policy: RolloutPolicy, split: Split, rng: Random) -> Outcome:
    """One rollout, with an observation after each minute."""
    minutes = [split(rng, i, 0.0) for i in range(-HOUR, 0)]
    percent, since = policy.steps[0].percent, START
    for i in range(24 * HOUR):
        minutes.append(split(rng, i, percent / 100))
        at = START + (i + 1) * MINUTE
        decision = policy.decide(
            Observation(
                at=at,
                started_at=START,
                step_started_at=since,
                percent=percent,
                minutes={"errors_5xx": minutes},
            )
        )
        if decision.final:
            return Outcome(decision.kind, i + 1)
        if isinstance(decision, Shift):
            percent, since = decision.percent, at
    return Outcome("inconclusive", math.inf)


def independent(requests: int, rate: float, times: float) -> Split:
    """Requests that are independent of each other."""

    def split(rng: Random, number: int, share: float) -> Minute:
        canary = drawn(rng, requests, share) if share else 0
        baseline = requests - canary
        bad = drawn(rng, baseline, rate), drawn(rng, canary, min(rate * times, 1.0))
        return Minute(START + number * MINUTE, baseline, bad[0], canary, bad[1])

    return split


def divided(past: list[tuple[int, int]], first: int) -> Split:
    """The minutes of a past, of which `first` is the start, with the requests divided at random."""

    def split(rng: Random, number: int, share: float) -> Minute:
        requests, bad = past[first + number]
        canary = sum(rng.random() < share for _ in range(requests)) if share else 0
        of_canary = sum(each < canary for each in rng.sample(range(requests), bad))
        baseline = requests - canary
        return Minute(START + number * MINUTE, baseline, bad - of_canary, canary, of_canary)

    return split


def shown(part: float, minutes: float | None) -> str:
    """A share of the rollouts, and when half of all have ended so."""
    return f"{part:.0%}" + (f" @{minutes:g}" if minutes is not None else "")


def summary(ends: list[Outcome], kind: str) -> str:
    part = sum(each.kind == kind for each in ends) / len(ends)
    middle = median(each.minutes if each.kind == kind else math.inf for each in ends)
    return shown(part, middle if part > 0.5 else None)


def forecasts(rollouts: int) -> Iterator[str]:
    """A row for each policy, traffic and canary."""
    yield (
        "| steps | requests a minute, errors | canary | promoted: forecast | simulated | "
        "rolled back: forecast | simulated | s of the forecast | s simulated |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    for name, policy, requests, rate in CASES:
        began = time.process_time()
        found = policy.forecast(requests, rate, times=TIMES[1:], rollouts=rollouts)
        took = time.process_time() - began
        for times, each in zip(TIMES, (found.clean, *found.worse), strict=True):
            began = time.process_time()
            split = independent(requests, rate, times)
            ends = [rollout(policy, split, Random(f"{i}/{times}")) for i in range(rollouts)]
            alone = time.process_time() - began
            promoted = shown(each.promoted, _minutes(each.promoted_after))
            rolled_back = shown(each.rolled_back, _minutes(each.rolled_back_after))
            yield (
                f"| {name} | {requests:,}, {rate:.1%} | ×{times} | {promoted} | "
                f"{summary(ends, 'promote')} | {rolled_back} | {summary(ends, 'rollback')} | "
                f"{took:.1f} | {alone:.1f} |"
            )


def _minutes(after: timedelta | None) -> float | None:
    return None if after is None else after / MINUTE


def backtests(rollouts: int) -> Iterator[str]:
    """The same for a past with a daily cycle and an incident in every second rollout."""
    yield "\n| steps | past | promoted: backtest | simulated | rolled back: backtest | simulated |"
    yield "|---|---|---|---|---|---|"
    for name, policy, requests, rate in CASES[::2]:
        length, rng = 60, Random(f"past/{requests}")
        past = []
        for i in range(HOUR + length * rollouts + 24 * HOUR):
            level = 1 + 0.5 * math.sin(2 * math.pi * i / (24 * HOUR))
            struck = i % 120 in range(70, 78)
            n = int(requests * level)
            past.append((n, drawn(rng, n, 0.2 if struck else rate)))
        rows = [Minute(START + i * MINUTE, n, bad, 0, 0) for i, (n, bad) in enumerate(past)]
        found = policy.backtest({"errors_5xx": rows}, rollouts=rollouts)
        spread = range(HOUR, len(past) - 24 * HOUR, length)
        ends = [rollout(policy, divided(past, i), Random(f"{i}")) for i in spread]
        yield (
            f"| {name} | {requests:,} a minute, {rate:.1%} | "
            f"{found.promoted / found.rollouts:.0%} | {summary(ends, 'promote')} | "
            f"{len(found.rolled_back) / found.rollouts:.1%} | {summary(ends, 'rollback')} |"
        )


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    for line in forecasts(count):
        print(line, flush=True)
    for line in backtests(count):
        print(line, flush=True)
