"""How many healthy rollouts the rule about production delays or ends: `make production`.

The same traffic is decided with the rule and without it (`Signal.rare`): 5, 25 and 50 % for ten
minutes each, of a canary as good as its baseline. Every decision is `policy.decide`'s own.
ROLLOUTS=n for each condition, 1000 unless said otherwise.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from random import Random
from statistics import median

import attrs

from apigw_canary import Minute, Promote, RolloutPolicy, Signal, Step
from apigw_canary.judge.evidence import Row
from apigw_canary.planning.simulation import Ended, binomial, rolled_out

MINUTE = timedelta(minutes=1)
START = datetime(2026, 1, 5, tzinfo=UTC)
DAY = 1440
HISTORY = 60
TIMES = 30
"""How many times the usual rate an incident has."""
INCIDENTS_A_DAY = 3
AR = 0.9
"""What is kept of the logarithm of the rate from a minute to the next."""
PLAN = RolloutPolicy(
    [Step(5, 10 * MINUTE), Step(25, 10 * MINUTE), Step(50, 10 * MINUTE)],
    signals=[Signal.errors_5xx()],
)

Rates = Callable[[Random, int], list[float]]


def steady(base: float) -> Rates:
    """The same rate in each minute."""
    return lambda _, minutes: [base] * minutes


def daily(base: float) -> Rates:
    """A cycle of a day, up to 1.8 times the rate, from any hour on."""

    def rates(rng: Random, minutes: int) -> list[float]:
        begin = rng.random()
        return [
            base * (1.4 + 0.4 * math.sin(2 * math.pi * (begin + i / DAY))) / 1.4
            for i in range(minutes)
        ]

    return rates


def wandering(base: float, cv: float) -> Rates:
    """A logarithm that is an AR(1) process, with that coefficient of variation of the rate."""

    def rates(rng: Random, minutes: int) -> list[float]:
        variance = math.log(1 + cv * cv)
        x = rng.gauss(0, math.sqrt(variance))
        found = []
        for _ in range(minutes):
            x = AR * x + rng.gauss(0, math.sqrt(variance * (1 - AR * AR)))
            found.append(min(base * math.exp(x - variance / 2), 1.0))
        return found

    return rates


def with_incidents(usual: Rates, length: int) -> Rates:
    """The same with three incidents a day, at random times, that hit both variants alike."""

    def rates(rng: Random, minutes: int) -> list[float]:
        struck: set[int] = set()
        for begin in range(1 - length, minutes):
            if rng.random() < INCIDENTS_A_DAY / DAY:
                struck.update(range(begin, begin + length))
        found = usual(rng, minutes)
        return [min(TIMES * r, 1.0) if i in struck else r for i, r in enumerate(found)]

    return rates


Condition = tuple[str, int, Rates]
"""A name, the requests a minute, and the usual rates."""


def conditions() -> list[Condition]:
    found: list[Condition] = []
    for base, pace in ((0.001, 50), (0.001, 500), (0.01, 500)):
        name = f"{100 * base:g} %"
        found += [
            (f"{name}, steady", pace, steady(base)),
            (f"{name}, daily cycle", pace, daily(base)),
            (f"{name}, AR(1) with CV 0.5", pace, wandering(base, 0.5)),
            (f"{name}, AR(1) with CV 1", pace, wandering(base, 1)),
            *(
                (
                    f"{name}, incidents of {length} min",
                    pace,
                    with_incidents(steady(base), length),
                )
                for length in (8, 15, 40)
            ),
        ]
    return found


def row(condition: Condition, rollouts: int) -> str:
    name, pace, rates = condition
    delays, rolled_back = [], 0
    for number in range(rollouts):
        seed = f"{name}/{pace}/{number}"
        usual = rates(Random(seed), HISTORY + DAY + 10)
        with_rule, without = (_rolled_out(seed, pace, usual, rare=r) for r in (True, False))
        if "production's" in with_rule.decision.reason:
            rolled_back += 1
        elif with_rule.after > without.after and isinstance(without.decision, Promote):
            delays.append((with_rule.after - without.after) / MINUTE)
    by = f"{median(delays):g} / {max(delays):g} min" if delays else "–"
    return (
        f"| {name} | {pace:,} | {len(delays)} ({len(delays) / rollouts:.1%}) | {by} | "
        f"{rolled_back} ({rolled_back / rollouts:.1%}) |"
    )


def _rolled_out(seed: str, pace: int, usual: list[float], *, rare: bool) -> Ended:
    """A rollout of a canary like its baseline, the same traffic whatever the policy does."""

    def traffic(number: int, share: float) -> Mapping[str, Row]:
        rng = Random(f"{seed}/{number}")
        canary = binomial(rng, pace, share)
        rate = usual[HISTORY + number]
        arms = (pace - canary, canary)
        return {
            "errors_5xx": Row(
                arms[0], binomial(rng, arms[0], rate), arms[1], binomial(rng, arms[1], rate)
            )
        }

    rng = Random(f"{seed}/history")
    bad = sum(binomial(rng, pace, rate) for rate in usual[:HISTORY])
    policy = attrs.evolve(PLAN, signals=[Signal.errors_5xx(rare=rare)], on_inconclusive="hold")
    history = {"errors_5xx": [Minute(START - MINUTE, HISTORY * pace, bad, 0, 0)]}
    return rolled_out(policy, traffic, started_at=START, history=history, between=1)


def main() -> None:
    """Print a row for each condition."""
    rollouts = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    print(
        f"| usual 5xx | requests a minute | delayed, of {rollouts} | by, median / most | "
        "rolled back by the rule |\n|---|---|---|---|---|"
    )
    for condition in conditions():
        print(row(condition, rollouts), flush=True)


if __name__ == "__main__":
    main()
