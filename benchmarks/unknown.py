"""What unknown outcomes cost: `make unknown` (ROLLOUTS=n, 40 unless said otherwise).

Rollouts of 5, 25 and 50 %, ten minutes each, judged on 5xx errors alone through observations and
`policy.decide`, each minute in the first half hour and every 3 minutes after that, for two hours.
Outcomes are unknown at random, whatever they are. A cell: the share of the rollouts that is
promoted, or rolled back, and the median minute of these.
"""

from __future__ import annotations

import statistics
import sys
from datetime import UTC, datetime, timedelta
from random import Random
from typing import NamedTuple

from apigw_canary import Decision, Minute, Observation, RolloutPolicy, Shift, Signal, Step
from apigw_canary.judge import Cache, keep_in
from apigw_canary.planning.simulation import binomial

MINUTE = timedelta(minutes=1)
START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
POLICY = RolloutPolicy(
    [Step(percent, 10 * MINUTE) for percent in (5, 25, 50)], signals=[Signal.errors_5xx()]
)
LONGEST = 120
LOOKS = [*range(1, 31), *range(33, LONGEST + 1, 3)]
UNKNOWN = (0.0, 0.001, 0.003, 0.005, 0.01, 0.05)


class Scenario(NamedTuple):
    """Traffic, and the two variants' rates of 5xx errors."""

    name: str
    per_minute: int
    baseline: float
    canary: float


SCENARIOS = (
    Scenario("clean 0.1 %", 500, 0.001, 0.001),
    Scenario("clean 1 %", 500, 0.01, 0.01),
    Scenario("clean 0.1 %, 5,000 requests a minute", 5000, 0.001, 0.001),
    Scenario("×5 of 0.1 %", 500, 0.001, 0.005),
    Scenario("×20 of 0.1 %", 500, 0.001, 0.02),
    Scenario("×2 of 1 %", 500, 0.01, 0.02),
    Scenario("×5 of 1 %", 500, 0.01, 0.05),
)


def rollout(scenario: Scenario, unknown: tuple[float, float], seed: int) -> Decision | None:
    """The last decision; None where there is none within two hours."""
    rng = Random(f"{scenario}/{unknown}/{seed}")
    n_b, n_c = 60 * scenario.per_minute, 0
    rows = [_minute(rng, -1, (n_b, n_c), scenario, unknown)]
    percent, since, served, cache = POLICY.steps[0].percent, START, 0, Cache()
    for look in LOOKS:
        for minute in range(served, look):
            n_c = binomial(rng, scenario.per_minute, percent / 100)
            counts = (scenario.per_minute - n_c, n_c)
            rows.append(_minute(rng, minute, counts, scenario, unknown))
        served = look
        seen = Observation(
            at=START + look * MINUTE,
            started_at=START,
            step_started_at=since,
            percent=percent,
            minutes={"errors_5xx": rows},
        )
        decision = POLICY.decide(keep_in(cache, seen))
        if decision.final:
            return decision
        if isinstance(decision, Shift):
            percent, since = decision.percent, decision.at
    return None


def _minute(
    rng: Random,
    number: int,
    requests: tuple[int, int],
    scenario: Scenario,
    unknown: tuple[float, float],
) -> Minute:
    counts = []
    for n, rate, hidden in zip(
        requests, (scenario.baseline, scenario.canary), unknown, strict=True
    ):
        bad = binomial(rng, n, rate)
        lost = binomial(rng, bad, hidden)
        counts.append((n, bad - lost, lost + binomial(rng, n - bad, hidden)))
    (n_b, x_b, u_b), (n_c, x_c, u_c) = counts
    return Minute(START + number * MINUTE, n_b, x_b, n_c, x_c, u_b, u_c)


def cell(scenario: Scenario, unknown: tuple[float, float], rollouts: int) -> str:
    """How the rollouts ended."""
    ended = [rollout(scenario, unknown, seed) for seed in range(rollouts)]
    said = []
    for verb, name in (("promoted", "Promote"), ("rolled back", "Rollback")):
        after = [
            (decision.at - START) // MINUTE
            for decision in ended
            if decision is not None and type(decision).__name__ == name
        ]
        if after:
            said.append(f"{verb} {len(after) / rollouts:.0%} @{statistics.median(after):g}")
    return ", ".join(said) or "neither"


def row(scenario: Scenario, rollouts: int, *, both: bool) -> str:
    cells = [cell(scenario, (part * both, part), rollouts) for part in UNKNOWN]
    return f"| {scenario.name} | {' | '.join(cells)} |"


def main() -> None:
    """Print a table for outcomes unknown in both variants, and one for the canary alone."""
    rollouts = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    print(f"{rollouts} rollouts a cell.")
    for title, both in (("both variants", True), ("the canary alone", False)):
        print(f"\n| unknown in {title} | {' | '.join(f'{100 * part:g} %' for part in UNKNOWN)} |")
        print(f"|---|{'---|' * len(UNKNOWN)}")
        for scenario in SCENARIOS:
            print(row(scenario, rollouts, both=both), flush=True)


if __name__ == "__main__":
    main()
