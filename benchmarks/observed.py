"""Rollouts of `scenarios` as a user's policy meets them: an `Observation` after each minute."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np

from apigw_canary import Minute, Observation, RolloutPolicy, Signal
from apigw_canary.judge.findings import Analysis
from apigw_canary.judge.kept import Cache, keep_in
from scenarios import Rollouts

MINUTE = timedelta(minutes=1)
START = datetime(2026, 1, 5, 10, tzinfo=UTC)
"""The first minute that is judged; the canary was enabled a minute before."""


def policy_of(
    signals: Sequence[Signal], *, false_rollback: float, false_promotion: float = 0.05
) -> RolloutPolicy:
    return RolloutPolicy.canary(
        5, MINUTE, signals=signals, false_rollback=false_rollback, false_promotion=false_promotion
    )


def rows(seen: Rollouts, number: int, *, history: bool = True) -> list[Minute]:
    """The minutes of one rollout: the hour before it as one, then each of it."""
    counts = np.stack([each[number] for each in (seen.n_b, seen.x_b, seen.n_c, seen.x_c)], axis=1)
    minutes = [Minute(START + i * MINUTE, *row) for i, row in enumerate(counts.tolist())]
    before = Minute(START - 10 * MINUTE, seen.history_requests, int(seen.history_bad[number]), 0, 0)
    return [before, *minutes] if history else minutes


def analyses(
    policy: RolloutPolicy,
    minutes: Mapping[str, Sequence[Minute]],
    shares: Sequence[float],
    looks: Iterable[int],
) -> Iterator[Analysis]:
    """What the policy finds after so many minutes, one process for all of them."""
    cache = Cache()
    for now in looks:
        step = next(i for i in range(now)[::-1] if i == 0 or shares[i - 1] != shares[now - 1])
        end = START + now * MINUTE
        seen = Observation(
            at=end + policy.metric_delay,
            started_at=START - MINUTE,
            step_started_at=START + step * MINUTE - (not step) * MINUTE,
            percent=100 * shares[now - 1],
            minutes={
                each.name: [row for row in minutes[each.name] if row.at < end]
                for each in policy.signals
            },
        )
        yield policy.analyze(keep_in(cache, seen))


def worse_at(
    policy: RolloutPolicy,
    minutes: Mapping[str, Sequence[Minute]],
    shares: Sequence[float],
    looks: Iterable[int],
) -> int:
    """In which minute, counted from 1, the evidence reaches "worse"; 0 for never."""
    for found in analyses(policy, minutes, shares, looks):
        if found.worse_at is not None:
            return round((found.worse_at - START) / MINUTE) + 1
    return 0
