"""How near its limit the judge is: `make sharpness` (ROLLOUTS=n, 40 unless said).

Through `Observation` and `policy.decide`, with the default 5xx signal at `false_rollback` and
`false_promotion` of 0.05, and metrics that are complete at once. Three tables:

- Confirmation: canary requests until a healthy canary is promoted, over the least possible:
  log(1/false_promotion) over the Kullback-Leibler divergence to the nearest rates at which the
  canary is worse by the margin.
- A late change: minutes from the change until the rollback, after 1 and 10 hours.
- Bursts: healthy canaries rolled back within ten hours in which one minute in a hundred begins a
  burst of three minutes, in which a tenth of the canary's requests fail 20 times as often.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from statistics import median
from typing import NamedTuple

from apigw_canary import (
    Decision,
    Minute,
    Observation,
    Promote,
    Rollback,
    RolloutPolicy,
    Signal,
    Step,
)
from apigw_canary.judge import Cache, keep_in
from apigw_canary.planning.simulation import binomial

MINUTE = timedelta(minutes=1)
START = datetime(2026, 1, 5, 9, tzinfo=UTC)
ALPHA = BETA = 0.05
HISTORY = 60
LIMIT_MINUTES = 60
"""The traffic of a confirmation is such that the least possible time is so long."""
SIGNAL = Signal.errors_5xx()

Rates = Callable[[int], tuple[float, float]]
"""The rates of baseline and canary in a minute, by its number since the start."""


class Traffic(NamedTuple):
    """What both variants get each minute."""

    requests: int
    percent: float

    def minutes(self, rng: Random, rates: Rates) -> Iterator[Minute]:
        """An hour of the baseline alone, and the rollout's minutes without end."""
        number = -HISTORY
        while True:
            percent = self.percent if number >= 0 else 0
            of_baseline, of_canary = rates(number)
            canary = binomial(rng, self.requests, percent / 100)
            baseline = self.requests - canary
            yield Minute(
                START + number * MINUTE,
                baseline,
                binomial(rng, baseline, of_baseline),
                canary,
                binomial(rng, canary, of_canary),
            )
            number += 1


def policy_of(percent: float, bake: timedelta) -> RolloutPolicy:
    """One step, judged by 5xx alone as the default policy judges it."""
    return RolloutPolicy(
        [Step(percent, bake)],
        signals=[SIGNAL],
        false_rollback=ALPHA,
        false_promotion=BETA,
        metric_delay=timedelta(0),
        promotion_metric_delay=timedelta(0),
        deadline=timedelta(days=14),
    )


def decisions(
    policy: RolloutPolicy, traffic: Traffic, rng: Random, rates: Rates, observed: range
) -> Iterator[tuple[int, Decision, list[Minute]]]:
    """The decision after each of these numbers of minutes, and all minutes until then."""
    cache, minutes = Cache(), list[Minute]()
    for minute in traffic.minutes(rng, rates):
        minutes.append(minute)
        now = len(minutes) - HISTORY
        if now >= observed.stop:
            return
        if now in observed:
            seen = Observation(
                at=START + now * MINUTE,
                started_at=START,
                step_started_at=START,
                percent=traffic.percent,
                minutes={SIGNAL.name: minutes},
            )
            yield now, policy.decide(keep_in(cache, seen)), minutes


def divergence(p: float, q: float) -> float:
    """The Kullback-Leibler divergence of one request, in nats."""
    bad = p * math.log(p / q) if p else 0.0
    return bad + (1 - p) * math.log((1 - p) / (1 - q))


def least_requests(rate: float, percent: float) -> float:
    """The canary's requests that a confirmation takes at least."""
    share, margin = percent / 100, SIGNAL.margin
    nearest = math.inf
    steps = 20_000
    for i in range(steps + 1):
        q = max((rate - margin) / SIGNAL.ratio, 0.0)
        q += (rate - q) * i / steps
        c = SIGNAL.ratio * q + margin
        if q or not rate:
            both = (1 - share) * divergence(rate, q) if rate else 0.0
            nearest = min(nearest, both + share * divergence(rate, c))
    return share * math.log(1 / BETA) / nearest


def confirmation(rate: float, rollouts: int, percent: float = 25) -> str:
    least = least_requests(rate, percent)
    requests = round(least / LIMIT_MINUTES / percent * 100)
    policy = policy_of(percent, MINUTE)
    times = []
    for number in range(rollouts):
        rng = Random(f"confirmation {rate} {number}")
        found = decisions(
            policy,
            Traffic(requests, percent),
            rng,
            lambda _: (rate, rate),
            range(2, 8 * LIMIT_MINUTES),
        )
        ended = next((each for each in found if isinstance(each[1], Promote | Rollback)), None)
        if ended is None or isinstance(ended[1], Rollback):
            times.append(math.inf)
        else:
            # The first minute is not all the canary's, and is no evidence that it is healthy.
            times.append(sum(minute.canary_requests for minute in ended[2][HISTORY + 1 :]))
    return (
        f"| {100 * rate:g} % | {requests:,} | {least:,.0f} | {median(times) / least:.2f} | "
        f"{sum(map(math.isinf, times))} |"
    )


def late(before: float, after: float, onset: int, traffic: Traffic, rollouts: int) -> str:
    policy = policy_of(traffic.percent, timedelta(days=13))
    times, early = [], 0
    for number in range(rollouts):
        rng = Random(f"late {before} {after} {onset} {traffic} {number}")

        def rates(minute: int) -> tuple[float, float]:
            return before, after if minute >= onset else before

        at_first = True
        for now, decision, _ in decisions(policy, traffic, rng, rates, range(onset, onset + 600)):
            if isinstance(decision, Rollback):
                early += at_first
                times += [] if at_first else [now - onset]
                break
            at_first = False
        else:
            times.append(600)
    shown = f"{median(times):g} / {max(times)}" if times else "-"
    return (
        f"| {100 * before:g} to {100 * after:g} % | "
        f"{traffic.requests:,} at {traffic.percent:g} % | {onset // 60} h | {shown} | {early} |"
    )


def bursts(often: float, rollouts: int) -> str:
    traffic, rate = Traffic(5000, 25), 0.01
    policy = policy_of(traffic.percent, timedelta(days=13))
    rolled_back = 0
    for number in range(rollouts):
        rng = Random(f"bursts {often} {number}")
        hot = {i + j for i in range(600) if rng.random() < often for j in range(3)}

        def rates(minute: int, hot: set[int] = hot) -> tuple[float, float]:
            return rate, rate * (0.9 + 0.1 * 20) if minute in hot else rate

        found = decisions(policy, traffic, rng, rates, range(1, 600))
        rolled_back += any(isinstance(decision, Rollback) for _, decision, _ in found)
    return f"| {600 * often:g} | {rolled_back} of {rollouts} |"


CHANGES = (
    (0.001, 0.02, Traffic(500, 25)),
    (0.001, 0.02, Traffic(2500, 5)),
    (0.001, 0.005, Traffic(2500, 5)),
    (0.001, 0.3, Traffic(500, 25)),
)


def main() -> None:
    rollouts = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    print(
        "| Rate of both | Requests a minute | Canary requests needed at least | "
        "Times as many, median | Not promoted |\n|---|---|---|---|---|"
    )
    for rate in (0.0, 0.001, 0.01, 0.05, 0.1, 0.3):
        print(confirmation(rate, rollouts), flush=True)
    print(
        "\n| Canary's rate | Requests a minute | After | "
        "Minutes until the rollback, median / worst | Rolled back before |\n|---|---|---|---|---|"
    )
    for before, after, traffic in CHANGES:
        for hours in (1, 10):
            print(late(before, after, 60 * hours, traffic, rollouts), flush=True)
    print("\n| Bursts in ten hours | Healthy canaries rolled back |\n|---|---|")
    for often in (0.0, 2 / 600, 0.01):
        print(bursts(often, rollouts), flush=True)


if __name__ == "__main__":
    main()
