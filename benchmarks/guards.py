"""How often the guard at 100 % fires on healthy days, and how soon on a failure: `make guards`.

Healthy days: the usual rate times a daily cycle of up to 1.8, with three incidents; a day counts if
the guard would have rolled back after any of its minutes. On AR(1) days the rate varies from minute
to minute instead. Failures: after a healthy hour at 100 %, the minute after which the guard rolls
back, and the two minutes until that minute is complete. DAYS=n, 1000 unless said otherwise.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from random import Random

from apigw_canary import Minute
from apigw_canary.judge.guard import Gross
from apigw_canary.planning.simulation import binomial, whole

START = datetime(2026, 1, 5, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
DAY = 24 * 60
METRIC_DELAY = 2
LATEST = 60


def incidents(rng: Random, *, length: int, times: float) -> list[float]:
    """The rate in each minute of a day, relative to its mean."""
    phase = rng.random() * DAY
    level = [1 + 0.8 * math.sin(2 * math.pi * (minute + phase) / DAY) for minute in range(DAY)]
    begins = [rng.randrange(DAY - length) for _ in range(3)]
    struck = {begin + i for begin in begins for i in range(length)}
    return [level[minute] * (times if minute in struck else 1) for minute in range(DAY)]


def correlated(rng: Random, *, variation: float, memory: float = 0.9) -> list[float]:
    """A day of an AR(1) process in the log of the rate, of that coefficient of variation."""
    sigma = math.sqrt(math.log1p(variation**2))
    step, state = sigma * math.sqrt(1 - memory**2), rng.gauss(0, sigma)
    level = []
    for _ in range(DAY):
        state = memory * state + rng.gauss(0, step)
        level.append(math.exp(state - sigma**2 / 2))
    return level


Level = Callable[[Random], list[float]]
DAYS: tuple[tuple[str, Level], ...] = (
    ("three incidents of 8 min", lambda rng: incidents(rng, length=8, times=30)),
    ("three incidents of 15 min", lambda rng: incidents(rng, length=15, times=30)),
    ("three incidents of 40 min", lambda rng: incidents(rng, length=40, times=30)),
    ("AR(1), variation 0.5", lambda rng: correlated(rng, variation=0.5)),
    ("AR(1), variation 1", lambda rng: correlated(rng, variation=1.0)),
)
TRAFFIC = ((50, 0.001), (500, 0.001), (5000, 0.001), (500, 0.003), (500, 0.01))
"""Requests a minute, and the usual rate."""
RATES = (0.12, 0.2, 0.3, 0.5, 1.0)
"""Of the failures."""


def day(rng: Random, per_minute: int, base: float, level: Level) -> Iterator[tuple[float, float]]:
    """A day's minutes at 100 %: requests and bad ones."""
    for times in level(rng):
        n = whole(rng, per_minute)
        yield n, binomial(rng, n, min(base * times, 1.0))


def past(rng: Random, per_minute: int, base: float) -> float:
    """The past rate, as learned from an hour."""
    requests = 60 * per_minute
    return (binomial(rng, requests, base) + 0.5) / (requests + 200)


def fires(number: int, per_minute: int, base: float, level: Level) -> bool:
    rng = Random(f"{number}/{per_minute}/{base}")
    known = past(rng, per_minute, base)
    return any(gross_minutes(day(rng, per_minute, base, level), known))


def gross_minutes(counts: Iterable[tuple[float, float]], known: float) -> Iterator[int]:
    """After each minute, how many of the latest show a gross failure."""
    gross = Gross(known, START)
    for i, (requests, bad) in enumerate(counts):
        yield gross.add(Minute(START + i * MINUTE, 0, 0, requests, bad))


def minutes_until(number: int, per_minute: int, rate: float) -> float:
    """Until a canary that fails so often is rolled back; infinite if it is not within an hour."""
    rng = Random(f"{number}/{per_minute}/{rate}")
    known = past(rng, per_minute, 0.001)
    counts = [(per_minute, binomial(rng, per_minute, 0.001)) for _ in range(60)]
    counts += [(per_minute, binomial(rng, per_minute, rate)) for _ in range(LATEST)]
    found = list(gross_minutes(counts, known))[60:]
    return next((i + 1 + METRIC_DELAY for i, needed in enumerate(found) if needed), math.inf)


def shown(minutes: float) -> str:
    return "never" if math.isinf(minutes) else f"{minutes:g}"


def healthy_row(name: str, level: Level, days: int) -> str:
    """On how many of the healthy days the guard fires, for each kind of traffic."""
    cells = [
        str(sum(fires(number, *traffic, level) for number in range(days))) for traffic in TRAFFIC
    ]
    return f"| {name} | {' | '.join(cells)} |"


def failing_row(per_minute: int, days: int) -> str:
    """Minutes until a failure is rolled back, median and 90 %, for each rate."""
    cells = []
    for rate in RATES:
        found = sorted(minutes_until(number, per_minute, rate) for number in range(days))
        cells.append(f"{shown(statistics.median_low(found))} / {shown(found[int(0.9 * days)])}")
    return f"| {per_minute:,} | {' | '.join(cells)} |"


def main() -> None:
    """Print both tables."""
    days = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    columns = [f"{100 * base:g} %, {per_minute:,}" for per_minute, base in TRAFFIC]
    print(
        f"Days of {days} on which the guard fires, by the usual rate and the requests a minute.\n"
    )
    print(f"| healthy days | {' | '.join(columns)} |")
    print(f"|---|{'---|' * len(columns)}")
    for name, level in DAYS:
        print(healthy_row(name, level, days), flush=True)
    print(f"\nMinutes until a failure is rolled back: median and 90 % of {days}, after 0.1 %.\n")
    print(f"| requests a minute | {' | '.join(f'{rate:.0%}' for rate in RATES)} |")
    print(f"|---|{'---|' * len(RATES)}")
    for per_minute in (5, 50, 500, 5000):
        print(failing_row(per_minute, days), flush=True)


if __name__ == "__main__":
    main()
