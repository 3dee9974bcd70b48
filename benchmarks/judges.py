"""The judges compared: this library's, and others from their published rules.

A judge takes rollouts and says in which minute, counted from 1, it rolls each back; 0 for never.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from apigw_canary import Signal, Verdict
from observed import analyses, policy_of, rows, worse_at
from scenarios import Rollouts

Minutes = NDArray[np.int64]
Judge = Callable[[Rollouts], Minutes]
Flags = NDArray[np.bool_]


def _first(fired: Flags) -> Minutes:
    return np.where(fired.any(axis=1), fired.argmax(axis=1) + 1, 0)


def apigw_canary(signal: Signal, alpha: float, *, history: bool = True) -> Judge:
    """This library, through observations and a policy of this one signal."""
    policy = policy_of([signal], false_rollback=alpha)

    def judge(seen: Rollouts) -> Minutes:
        last = len(seen.shares)
        # When the evidence sufficed is part of the analysis, so a later look tells it as well.
        looks = [*takewhile(lambda now: now < last, (10 * 2**i for i in range(last))), last]
        return np.array(
            [
                worse_at(policy, {signal.name: rows(seen, i, history=history)}, seen.shares, looks)
                for i in range(len(seen.n_b))
            ]
        )

    return judge


def ever_confirmed(signal: Signal, beta: float, seen: Rollouts) -> float:
    """The share of rollouts this library finds "not worse" in any minute."""
    policy, looks = policy_of([signal], false_rollback=0.01, false_promotion=beta), seen.shares
    confirmed = [
        any(
            found.verdict is Verdict.NOT_WORSE
            for found in analyses(
                policy, {signal.name: rows(seen, i)}, seen.shares, range(1, len(looks) + 1)
            )
        )
        for i in range(len(seen.n_b))
    ]
    return float(np.mean(confirmed))


def reference(ratio: float, slack: float, noise: float, alpha: float) -> Judge:
    """The simplest valid test by betting: fixed alternatives, fixed capital, no boost."""
    alternatives = ((1.25, 0.2), (1.7, 0.25), (2.5, 0.25), (5, 0.15), (15, 0.1), (1000, 0.05))

    def judge(seen: Rollouts) -> Minutes:
        n_b, x_b, n_c, x_c = (a.astype(float) for a in (seen.n_b, seen.x_b, seen.n_c, seen.x_c))
        both = (n_b > 0) & (n_c > 0)
        before = np.cumsum(n_b, axis=1) - n_b + seen.history_requests + 200
        bad_before = np.cumsum(x_b, axis=1) - x_b + seen.history_bad[:, None] + 0.5
        b0 = bad_before / before
        c0 = ratio * b0 + slack
        k = np.where(both, ratio * n_c / np.maximum(n_b, 1), 1.0)
        share = n_c / np.maximum(n_b + n_c, 1)
        damping = 1 + 2 * noise**2 * (x_b + x_c) * share * (1 - share)
        logs = []
        for r, weight in alternatives:
            a = np.minimum((r - 1) / (r * k + 1) / (1 - c0), 0.97 / c0)
            a = np.minimum(a, 0.97 / (k * (1 - b0)))
            b = a * k
            gain = x_c * np.log1p(a * (1 - c0)) + (n_c - x_c) * np.log1p(-a * c0)
            gain += x_b * np.log1p(-b * (1 - b0)) + (n_b - x_b) * np.log1p(b * b0)
            logs.append(math.log(weight) + np.cumsum(np.where(both, gain / damping, 0), axis=1))
        return _first(special.logsumexp(logs, axis=0) >= math.log(1 / alpha))

    return judge


def _difference(seen: Rollouts) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The difference of the rates so far, and its variance, minute by minute (Mantel–Haenszel).

    Totals over all minutes would compare an incident with another hour where the split changes.
    """
    both = (seen.n_b > 0) & (seen.n_c > 0)
    n = np.maximum(seen.n_b + seen.n_c, 2).astype(float)
    bad, share = (seen.x_b + seen.x_c).astype(float), seen.n_c / n
    excess = np.cumsum(np.where(both, seen.x_c - bad * share, 0), axis=1)
    chance = bad * share * (1 - share) * (n - bad) / (n - 1)
    variance = np.cumsum(np.where(both, chance, 0), axis=1)
    information = np.maximum(_information(seen), 1e-9)
    return excess / information, variance / information**2


def _information(seen: Rollouts) -> NDArray[np.float64]:
    n = np.maximum(seen.n_b + seen.n_c, 1)
    return np.cumsum(seen.n_b * seen.n_c / n, axis=1)


def every_minute(alpha: float) -> Judge:
    """A one-sided z-test of two proportions, looked at every minute."""

    def judge(seen: Rollouts) -> Minutes:
        difference, variance = _difference(seen)
        threshold = stats.norm.isf(alpha)
        return _first((variance > 0) & (difference > threshold * np.sqrt(variance)))

    return judge


def group_sequential(alpha: float, every: int = 5) -> Judge:
    """O'Brien–Fleming boundaries by Lan–DeMets spending, a look every `every` minutes."""

    def judge(seen: Rollouts) -> Minutes:
        difference, variance = _difference(seen)
        looks = np.arange(every - 1, seen.n_b.shape[1], every)
        planned = np.maximum(np.median(_information(seen), axis=0), 1e-9)
        times = tuple(np.round(planned[looks] / planned[looks[-1]], 6).tolist())
        bounds = np.full(seen.n_b.shape[1], np.inf)
        bounds[looks] = _boundaries(alpha, times)
        with np.errstate(invalid="ignore"):
            return _first((variance > 0) & (difference > bounds * np.sqrt(variance)))

    return judge


@cache
def _boundaries(alpha: float, times: tuple[float, ...]) -> NDArray[np.float64]:
    """z-values at information times, so that the spent risk follows O'Brien and Fleming."""
    rng = np.random.default_rng(1)
    alive = np.zeros(400_000)
    total, spent, last, bounds = len(alive), 0.0, 0.0, []
    for time in times:
        alive = alive + rng.standard_normal(len(alive)) * math.sqrt(max(time - last, 0))
        due = 2 * stats.norm.sf(stats.norm.isf(alpha / 2) / math.sqrt(max(time, 1e-9)))
        crossing = round((due - spent) * total)
        last = time
        if crossing < 1:
            bounds.append(np.inf)
            continue
        bound = np.partition(alive, -crossing)[-crossing]
        bounds.append(bound / math.sqrt(max(time, 1e-9)))
        spent += crossing / total
        alive = alive[alive < bound]
    return np.array(bounds)


def normal_msprt(alpha: float) -> Judge:
    """Johari, Pekelis and Walsh: a normal mixture, its width the baseline's rate in the hour before
    (an effect of +100 %); one-sided.
    """

    def judge(seen: Rollouts) -> Minutes:
        difference, variance = _difference(seen)
        tau = ((seen.history_bad + 0.5) / seen.history_requests)[:, None] ** 2
        safe = np.maximum(variance, 1e-300)
        log = 0.5 * np.log(safe / (safe + tau))
        log += tau * difference**2 / (2 * safe * (safe + tau))
        return _first((variance > 0) & (difference > 0) & (log >= math.log(1 / alpha)))

    return judge


def lindon_malek(alpha: float) -> Judge:
    """Lindon and Malek: is the split of the bad requests that of the traffic? A uniform prior, one
    for each step of the plan, as the test knows no change of split.
    """

    def judge(seen: Rollouts) -> Minutes:
        share = seen.n_c / np.maximum(seen.n_b + seen.n_c, 1)
        usual = np.median(share, axis=0)
        log = np.zeros(seen.n_b.shape)
        done = np.zeros(len(log))
        start = 0
        while start < len(usual):
            stop = start + int(np.argmax(np.append(np.abs(usual[start:] - usual[start]), 1) > 0.01))
            x_c = np.cumsum(np.where(seen.n_b > 0, seen.x_c, 0)[:, start:stop], axis=1)
            x_b = np.cumsum(np.where(seen.n_c > 0, seen.x_b, 0)[:, start:stop], axis=1)
            s = usual[start]
            log[:, start:stop] = done[:, None]
            if s > 0:
                log[:, start:stop] += special.betaln(x_c + 1, x_b + 1)
                log[:, start:stop] -= x_c * math.log(s) + x_b * math.log1p(-s)
            done, start = log[:, stop - 1], stop
        difference, _ = _difference(seen)
        return _first((difference > 0) & (log >= math.log(1 / alpha)))

    return judge


def kayenta(seen: Rollouts) -> Minutes:
    """Netflix's automated canary analysis judge, every 10 minutes: the minutes' rates as unordered
    samples; High if the 98 % interval of the Mann–Whitney shift lies above a quarter of it.
    """
    found = np.zeros(len(seen.n_b), dtype=np.int64)
    z = stats.norm.isf(0.01)
    for i in range(len(found)):
        both = (seen.n_b[i] > 0) & (seen.n_c[i] > 0)
        canary = seen.x_c[i] / np.maximum(seen.n_c[i], 1)
        baseline = seen.x_b[i] / np.maximum(seen.n_b[i], 1)
        for look in range(10, len(both) + 1, 10):
            used = np.flatnonzero(both[:look])
            if not (n := len(used)):
                continue
            shifts = np.sort(np.subtract.outer(canary[used], baseline[used]), axis=None)
            lowest = math.floor(n * n / 2 - z * math.sqrt(n * n * (2 * n + 1) / 12))
            if lowest >= 0 and shifts[lowest] > 0.25 * abs(np.median(shifts)):
                found[i] = look
                break
    return found


def flagger(seen: Rollouts) -> Minutes:
    """Flagger: a minute with less than 99 % success or no data fails; five failures, not
    necessarily in a row, roll back.
    """
    failed = (seen.n_c == 0) | (seen.x_c > 0.01 * seen.n_c)
    return _first(np.cumsum(failed, axis=1) >= 5)


def argo(seen: Rollouts) -> Minutes:
    """Argo Rollouts: a minute with less than 95 % success fails; more than three abort."""
    return _first(np.cumsum(seen.x_c > 0.05 * seen.n_c, axis=1) > 3)


def alarm(seen: Rollouts) -> Minutes:
    """A CloudWatch alarm on the canary: over 1 % in two of three minutes."""
    over = (seen.x_c > 0.01 * seen.n_c).astype(int)
    recent = over + np.roll(over, 1, axis=1) + np.roll(over, 2, axis=1)
    recent[:, :2] = 0
    return _first(recent >= 2)
