"""What latency as a default signal costs and finds, over the conditions of the judges' table.

The default policy, with and without `Signal.latency()`, is given the minutes of all its signals as
an `Observation`. Without it the weights are those that errors had then (0.5 and 0.2), so that 5xx
errors have the same part of `false_rollback` in both columns. Each signal varies by itself under
the condition of its row; 1 % of the requests are answered with a 4xx status, and 1 % are slower
than the baseline's p99. Containers do not start cold here: `make latency` has these.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from apigw_canary import RolloutPolicy, Signal
from judges import Minutes
from observed import MINUTE, policy_of, rows, worse_at
from scenarios import HEALTHY, NOISY, STANDARD_PLAN, Healthy, Rollouts, rollouts, worse_canaries

ALPHA = 0.05
OTHERS = 0.01
"""The share of requests that are bad in the signals other than 5xx errors."""
LATEST = 8
"""As in run.py."""

ERRORS = (Signal.errors_5xx(), Signal.errors_4xx(weight=0.2))
ALL = RolloutPolicy.canary(5, MINUTE).signals
STANDARD = Healthy(500, 0.001)


def _found(
    seen: dict[str, Rollouts], shares: Sequence[float], looks: list[int]
) -> tuple[Minutes, Minutes]:
    """The minute of each rollback, without and with latency."""
    policies = [policy_of(signals, false_rollback=ALPHA) for signals in (ERRORS, ALL)]
    found: tuple[list[int], list[int]] = ([], [])
    for number in range(len(seen[ALL[0].name].n_b)):
        minutes = {name: rows(each, number) for name, each in seen.items()}
        for policy, ends in zip(policies, found, strict=True):
            ends.append(worse_at(policy, minutes, shares, looks))
    return np.array(found[0]), np.array(found[1])


def _drawn(
    seed: int,
    count: int,
    scenario: Healthy,
    *,
    noisy: bool = False,
    worse: dict[str, float] | None = None,
) -> dict[str, Rollouts]:
    """Rollouts of each signal; `worse`: the canary's rate of bad requests, by the signal."""
    return {
        signal.name: rollouts(
            np.random.default_rng([seed, number]),
            count=count,
            requests=scenario.requests,
            shares=scenario.shares(),
            base=OTHERS if number else scenario.base,
            canary=(worse or {}).get(signal.name),
            spread=scenario.spread,
            incidents=scenario.incidents,
            missing=scenario.missing,
            noise=signal.noise if noisy else 0.0,
        )
        for number, signal in enumerate(ALL)
    }


def _healthy(count: int, *, noisy: bool) -> list[float]:
    rates = []
    for seed, scenario in enumerate(NOISY if noisy else HEALTHY):
        seen, shares = _drawn(seed, count, scenario, noisy=noisy), scenario.shares()
        rates.append([float(np.mean(each > 0)) for each in _found(seen, shares, [len(shares)])])
    return [max(each) for each in zip(*rates, strict=True)]


def _times_limit(count: int, every: int) -> Iterator[list[float]]:
    """The canary's requests until a rollback over the limit: for each condition, both columns."""
    signal = ALL[0]
    for seed, each in enumerate(worse_canaries(signal.ratio, signal.slack, ALPHA)):
        if seed % every:
            continue
        limit = math.ceil(each.limit)
        scenario = Healthy(each.requests, each.base, LATEST * limit, each.share)
        seen = _drawn(seed, count, scenario, worse={signal.name: each.canary})
        looks = [math.ceil(times * limit) for times in (1, 1.5, 2, 3, 5, LATEST)]
        found = _found(seen, scenario.shares(), looks)
        yield [float(np.mean(np.where(m > 0, m, LATEST * limit))) / limit for m in found]


def _in_the_plan(count: int, base: float, signal: Signal, canary: float) -> tuple[str, ...]:
    """What of the worse canaries is found within the standard plan, and its failures until then."""
    scenario = Healthy(STANDARD.requests, base)
    seen = _drawn(7, count, scenario, worse={signal.name: canary})
    looks = [i for i in range(1, len(STANDARD_PLAN) + 1) if not i % 10]
    cells = []
    for minutes in _found(seen, STANDARD_PLAN, looks):
        last = np.where(minutes > 0, minutes, len(STANDARD_PLAN))
        served = np.arange(1, len(STANDARD_PLAN) + 1) <= last[:, None]
        bad = np.mean(np.sum(seen[signal.name].x_c * served, axis=1))
        cells.append(f"{100 * np.mean(minutes > 0):.0f} % / {bad:,.1f}")
    return tuple(cells)


def main(count: int, limit_count: int, every: int) -> None:
    """Print the table."""
    print(
        f"\n{count} rollouts each, {limit_count} for x limit\n\n"
        f"| Default policy, alpha {ALPHA:g} | without latency | with latency |\n|---|---|---|"
    )

    def row(title: str, *cells: str) -> None:
        print(f"| {title} | {' | '.join(cells)} |", flush=True)

    row("healthy", *(f"{100 * each:.1f} %" for each in _healthy(count, noisy=False)))
    row("noisy", *(f"{100 * each:.1f} %" for each in _healthy(count, noisy=True)))
    columns = list(zip(*_times_limit(limit_count, every), strict=True))
    row("x limit", *(f"{np.median(each):.2f}" for each in columns))
    row("worst", *(f"{max(each):.2f}" for each in columns))
    errors, _, latency = ALL
    row("x5 of .1 % 5xx: found / failed", *_in_the_plan(count, 0.001, errors, 0.005))
    row("x2 of 1 % 5xx: found / failed", *_in_the_plan(count, 0.01, errors, 0.02))
    row("6.5 % above the p99: found / slow", *_in_the_plan(count, 0.001, latency, 0.065))
    row("all above the p99: found / slow", *_in_the_plan(count, 0.001, latency, 1.0))
    print()
