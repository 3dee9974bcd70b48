"""Compare the judges; prints a table. `--quick` for fewer rollouts.

Columns:

- healthy: the worst share, over the conditions in `scenarios.HEALTHY`, of healthy canaries rolled
  back, in %; and the same over `scenarios.NOISY`, where each arm varies by itself as much as
  `Signal.errors_5xx()` tolerates (the plain judges tolerate none).
- x limit: canary requests until rollback over the least possible (log(1/alpha) over the
  Kullback–Leibler divergence from what the judge tolerates), median and worst condition.
- found: the share, in %, of worse canaries rolled back within the standard plan (5, 25, 50 %, ten
  minutes each) at 500 requests a minute; and the canary's failed requests until then, on average.
- promoted: the worst share, in %, of canaries worse by exactly the margin (0.5 %) that pass: that
  are found not worse in any minute or, by judges that confirm nothing, not rolled back.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass

import numpy as np

import cost
import defaults
import judges
from apigw_canary.judge.signals import Signal
from judges import Judge
from scenarios import HEALTHY, NOISY, STANDARD_PLAN, rollouts, worse_canaries

ALPHA = 0.01
BETA = 0.05
LATEST = 8
"""A rollout that takes longer than so many times the limit counts as if it ended there."""
SIGNAL = Signal.errors_5xx()
PLAIN = Signal.errors_5xx(ratio=1.0, slack=0.0, noise=0.0)


@dataclass(frozen=True)
class Entry:
    """A judge, and what it is measured by."""

    name: str
    judge: Judge
    tolerance: tuple[float, float] = (1.0, 0.0)
    alpha: float = ALPHA
    every: int = 1
    """Every so many conditions are tried for "x limit"; 0 where it is meaningless."""
    slow: int = 1
    """It gets so many times fewer rollouts."""
    confirms: Signal | None = None
    """Promotes what this library's evidence finds not worse, not whatever was not rolled back."""


TOLERANT = (SIGNAL.ratio, SIGNAL.slack, SIGNAL.noise)
ENTRIES = (
    Entry("Kayenta-style Mann-Whitney, every 10 min", judges.kayenta, every=12, slow=5),
    Entry("Flagger, success >= 99 %, 5 failed checks", judges.flagger, every=0),
    Entry("Argo Rollouts, success >= 95 %, failureLimit 3", judges.argo, every=0),
    Entry("CloudWatch alarm 1 %, 2 of 3 minutes", judges.alarm, every=0),
    Entry("p < .05 looked at every minute", judges.every_minute(0.05), every=0),
    Entry("group-sequential O'Brien-Fleming", judges.group_sequential(ALPHA)),
    Entry("normal mSPRT", judges.normal_msprt(ALPHA)),
    Entry("Lindon-Malek (Netflix)", judges.lindon_malek(ALPHA)),
    Entry("reference, plain", judges.reference(1, 0, 0, ALPHA), confirms=PLAIN),
    Entry(
        "reference, tolerant, alpha .05",
        judges.reference(*TOLERANT, 0.05),
        tolerance=TOLERANT[:2],
        alpha=0.05,
        confirms=SIGNAL,
    ),
    Entry("apigw-canary, plain", judges.apigw_canary(PLAIN, ALPHA), confirms=PLAIN),
    Entry(
        "apigw-canary, plain, no history",
        judges.apigw_canary(PLAIN, ALPHA, history=False),
        confirms=PLAIN,
    ),
    Entry(
        "apigw-canary, errors_5xx(), alpha .05",
        judges.apigw_canary(SIGNAL, 0.05),
        tolerance=TOLERANT[:2],
        alpha=0.05,
        confirms=SIGNAL,
    ),
)


def healthy(entry: Entry, count: int, *, noisy: bool) -> float:
    rates = []
    for seed, scenario in enumerate(NOISY if noisy else HEALTHY):
        seen = rollouts(
            np.random.default_rng(seed),
            count=count,
            requests=scenario.requests,
            shares=scenario.shares(),
            base=scenario.base,
            spread=scenario.spread,
            incidents=scenario.incidents,
            missing=scenario.missing,
            noise=SIGNAL.noise if noisy else 0.0,
        )
        rates.append(float(np.mean(entry.judge(seen) > 0)))
    return max(rates)


def times_limit(entry: Entry, count: int, every: int) -> tuple[float, float] | None:
    if not entry.every:
        return None
    ratios = []
    for seed, scenario in enumerate(worse_canaries(*entry.tolerance, entry.alpha)):
        if seed % (every * entry.every):
            continue
        latest = LATEST * math.ceil(scenario.limit)
        seen = rollouts(
            np.random.default_rng(seed),
            count=count,
            requests=scenario.requests,
            shares=[scenario.share] * latest,
            base=scenario.base,
            canary=scenario.canary,
        )
        found = entry.judge(seen)
        minutes = np.where(found > 0, found, latest)
        ratios.append(float(np.mean(minutes)) / math.ceil(scenario.limit))
    return float(np.median(ratios)), max(ratios)


def in_the_plan(entry: Entry, count: int, base: float, canary: float) -> tuple[float, float]:
    """The share found, and the mean of the canary's failed requests until then."""
    seen = rollouts(
        np.random.default_rng(7),
        count=count,
        requests=500,
        shares=STANDARD_PLAN,
        base=base,
        canary=canary,
    )
    found = entry.judge(seen)
    last = np.where(found > 0, found, len(STANDARD_PLAN))
    served = np.arange(1, len(STANDARD_PLAN) + 1) <= last[:, None]
    return float(np.mean(found > 0)), float(np.mean(np.sum(seen.x_c * served, axis=1)))


def wrongly_promoted(entry: Entry, count: int) -> float:
    rates = []
    for base in (0.0, 0.001, 0.01, 0.05):
        ratio = entry.confirms.ratio if entry.confirms else 1.0
        seen = rollouts(
            np.random.default_rng(11),
            count=count,
            requests=500,
            shares=STANDARD_PLAN,
            base=base,
            canary=ratio * base + SIGNAL.margin,
        )
        if entry.confirms:
            rates.append(judges.ever_confirmed(entry.confirms, BETA, seen))
        else:
            rates.append(float(np.mean(entry.judge(seen) == 0)))
    return max(rates)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rollouts", type=int, default=600)
    parser.add_argument("--of", default="", help="only the judges whose names have this in them")
    options = parser.parse_args()
    rollouts_each, limit_each, every = options.rollouts, options.rollouts // 6, 1
    if options.quick:
        rollouts_each, limit_each, every = 100, 10, 6
    print(
        f"{rollouts_each} rollouts each, alpha .01 unless said, beta .05; {limit_each} for x limit"
    )
    print(
        f"{'judge':<47}{'healthy':>8}{'noisy':>7}{'x limit':>9}{'worst':>7}"
        f"{'x5 of .1 %':>12}{'failed':>8}{'x2 of 1 %':>11}{'failed':>8}{'promoted':>10}{'time':>7}"
    )
    for entry in (each for each in ENTRIES if options.of in each.name):
        began = time.monotonic()
        count, repeats = rollouts_each // entry.slow, limit_each // entry.slow
        clean, noisy = (100 * healthy(entry, count, noisy=flag) for flag in (False, True))
        limit = times_limit(entry, repeats, every)
        low, low_failed = in_the_plan(entry, count, 0.001, 0.005)
        high, high_failed = in_the_plan(entry, count, 0.01, 0.02)
        promoted = 100 * wrongly_promoted(entry, count)
        ratio = f"{limit[0]:>9.2f}{limit[1]:>7.2f}" if limit else f"{'-':>9}{'-':>7}"
        print(
            f"{entry.name:<47}{clean:>7.1f}%{noisy:>6.1f}%{ratio}{100 * low:>11.0f}%"
            f"{low_failed:>8.1f}{100 * high:>10.0f}%{high_failed:>8.0f}{promoted:>9.1f}%"
            f"{time.monotonic() - began:>6.0f}s",
            flush=True,
        )
    # All signals of a policy take several times as long as one, and are measured twice.
    defaults.main(rollouts_each // 2, limit_each // 2, every)
    cost.main()


if __name__ == "__main__":
    main()
