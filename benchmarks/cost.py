"""What a verdict costs in pure Python: processor time and memory; prints a table.

Linear in minutes, signals and routes. Of each time the least of three is given: what else runs on
the machine only ever adds.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random

from apigw_canary import Minute, Observation, RolloutPolicy, Signal
from apigw_canary.rollout.evidence import Row, Worse

MINUTE = timedelta(minutes=1)
START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
SIGNALS = (
    Signal.errors_5xx(),
    Signal.errors_4xx(),
    Signal.custom("slow"),
    Signal.custom("refused"),
)


def series(rng: Random, count: int, requests: int, rate: float) -> list[Minute]:
    """An hour of the baseline, and `count` minutes of both arms at 10 %."""

    def bad(n: int) -> int:
        return min(int(rng.expovariate(1) * n * rate + rng.random()), n)

    made = [Minute(START - i * MINUTE, requests, bad(requests), 0, 0) for i in range(1, 61)]
    for i in range(count):
        n_c = max(requests // 10, 1)
        n_b = requests - n_c
        made.append(Minute(START + (i + 1) * MINUTE, n_b, bad(n_b), n_c, bad(n_c)))
    return made


def observation(count: int, signals: int, routes: int) -> Observation:
    rng = Random(0)  # noqa: S311 - traffic, not secrets
    names = [signal.name for signal in SIGNALS[:signals]]
    return Observation(
        at=START + (count + 10) * MINUTE,
        started_at=START,
        step_started_at=START,
        percent=10,
        minutes={name: series(rng, count, 1000, 0.002) for name in names},
        routes={
            f"GET /route{i}": {name: series(rng, count, 50, 0.002) for name in names}
            for i in range(routes)
        }
        if routes
        else None,
    )


def least(act: Callable[[], object]) -> float:
    """Seconds of processor time."""
    taken = []
    for _ in range(3):
        began = time.process_time()
        act()
        taken.append(time.process_time() - began)
    return min(taken)


def main() -> None:
    print(f"\n{'cost of a verdict':<42}{'ms':>8}{'MB held':>10}{'MB more at work':>17}")
    for what, count, signals, routes in (
        ("3 h of one signal", 180, 1, 0),
        ("24 h of one signal", 1440, 1, 0),
        ("3 h of four signals", 180, 4, 0),
        ("1 h, 4 signals, 75 routes", 60, 4, 75),
        ("1 h, 4 signals, 150 routes", 60, 4, 150),
        ("1 h, 4 signals, 300 routes", 60, 4, 300),
        ("3 h, 4 signals, 300 routes", 180, 4, 300),
    ):
        policy = RolloutPolicy.canary(10, 60 * MINUTE, signals=SIGNALS[:signals])
        tracemalloc.start()
        seen = observation(count, signals, routes)
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        policy.decide(seen)
        more = tracemalloc.get_traced_memory()[1] - held
        tracemalloc.stop()

        def verdict(policy: RolloutPolicy = policy, seen: Observation = seen) -> object:
            return policy.decide(seen)

        print(f"{what:<42}{1000 * least(verdict):>8.1f}{held / 1e6:>10.1f}{more / 1e6:>17.1f}")
    policy = RolloutPolicy.canary(10, 60 * MINUTE, signals=LOOKED_AT)
    for count in (75, 150, 300):
        metrics, calls = look(policy, count)
        print(f"{f'a look at {count} routes, read and judged':<42}{1000 * metrics:>8.1f}{calls:>27}")
    game = Worse(ratio=1.1, slack=0.0002, noise=0.05, alpha=0.05)
    rows = [Row(900, 2, 100, i % 5 == 0) for i in range(2000)]
    step = least(lambda: [game.add(row) for row in rows]) / len(rows)
    print(f"{'a step from a kept state':<42}{1000 * step:>8.3f}")


if __name__ == "__main__":
    main()
