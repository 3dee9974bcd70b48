"""A simulated rollout: minutes are drawn, and the policy's own decisions are carried out.

Draws are exact, without approximations: what a judge promises about rare errors can be tested.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from operator import attrgetter
from random import Random
from typing import NamedTuple

import attrs

from apigw_canary.judge import MINUTE, Cache, Minute, Observation, Plan, Row, keep_in
from apigw_canary.rollout.decisions import Decision, Promote, Shift
from apigw_canary.rollout.rules import decide

_MANY = 500_000
"""Trials from which on they are halved, which is faster than a bit for each."""


def binomial(rng: Random, trials: int, probability: float) -> int:
    """How many of that many trials succeed.

    A trial succeeds if a uniform number lies below the probability. The two are compared bit by
    bit, from the top, for all trials at once: each bit decides about half of them. Of very many
    trials the number in the middle of their order is drawn first, which is beta distributed and
    decides half of them (Relles 1972). Exact, and about log2(trials) steps.
    """
    successes = 0
    while trials > _MANY:
        half = trials // 2
        middle = rng.betavariate(half, trials + 1 - half)
        if middle < probability:
            successes += half
            trials -= half
            probability = (probability - middle) / (1 - middle)
        else:
            trials = half - 1
            probability /= middle
    while trials and probability:
        ones = rng.getrandbits(trials).bit_count()
        probability *= 2
        if probability >= 1:
            successes += trials - ones
            trials = ones
            probability -= 1
        else:
            trials -= ones
    return successes


def whole(rng: Random, mean: float) -> int:
    """A whole number next to `mean`, which is its mean."""
    return int(mean) + (rng.random() < mean % 1)


def divide(rng: Random, bad: int, arms: tuple[int, int], weights: tuple[float, float]) -> int:
    """How many of the `bad` requests are the second variant's, given each variant's requests.

    A request of a variant is bad in proportion to the variant's weight. With equal weights that is
    a random division of the same requests: hypergeometric.
    """
    first, second = arms
    for _ in range(bad):
        odds = second * weights[1]
        if rng.random() * (first * weights[0] + odds) < odds:
            second -= 1
        else:
            first -= 1
    return arms[1] - second


Traffic = Callable[[int, float], Mapping[str, Row]]
"""The counts of a minute, by its number since the start and the canary's fraction of the requests,
0 to 1: a row for each signal, none where the minute is not known. It is called once for each
minute, in order."""

BETWEEN = 5
"""Minutes between two observations while the bake goes on below 100 %. What ends a rollout then is
dated to the minute afterwards."""

_PATIENCE = 20
"""Minutes after the bake in which each is observed; later, one more is left out each 20 minutes."""


class Ended(NamedTuple):
    """How a simulated rollout ended."""

    decision: Decision
    """The last one; its numbers may be of a later observation than it was due at."""
    after: timedelta
    """When it was due, since the start."""
    until: datetime
    """The same as a time."""
    minutes: Mapping[str, Sequence[Minute]]
    """What was served; it may have gone on after the last decision was due."""

    @property
    def signal(self) -> str | None:
        """The signal with the most evidence against the canary, where that ended it."""
        analysis = self.decision.analysis
        if analysis is None or analysis.worse_at is None:
            return None
        return max(analysis.findings, key=lambda f: f.worse_evidence / f.worse_threshold).signal

    def failed(self, signal: str) -> float:
        """The canary's bad requests until the end."""
        return sum(row.canary_bad for row in self.minutes[signal] if row.at < self.until)


def whole_minutes(length: timedelta) -> int:
    """The full minutes until so much time has passed."""
    return math.ceil(length / MINUTE)


def schedule(policy: Plan) -> list[int]:
    """How many minutes each step lasts if nothing is wrong: its bake, and one complete minute."""
    settled = whole_minutes(policy.promotion_metric_delay) + 1
    lasting = [max(whole_minutes(step.bake), settled) for step in policy.steps]
    lasting[0] = max(lasting[0], settled + 1)  # its first minute is not all the canary's
    return lasting


def length(policy: Plan) -> timedelta:
    """What the plan takes: its bakes, and the time until minutes are complete."""
    return sum(schedule(policy)) * MINUTE + policy.promotion_metric_delay


def ended_by(share: float, rollouts: Sequence[Ended], kind: type[Decision]) -> timedelta | None:
    """When that fraction of the rollouts had ended with such a decision; None if it never had."""
    after = sorted(ended.after for ended in rollouts if isinstance(ended.decision, kind))
    last = math.ceil(round(share * len(rollouts), 6)) - 1
    return after[last] if last < len(after) else None


def rolled_out(
    policy: Plan,
    traffic: Traffic,
    *,
    started_at: datetime,
    history: Mapping[str, Sequence[Minute]],
    between: int = BETWEEN,
) -> Ended:
    """A rollout that starts at a full minute, until its last decision.

    `history`: the baseline's minutes before. Alarms are taken to be OK. Each minute is observed
    once the bake is over, for 20 minutes and then fewer and fewer, and at 100 %; before, one in
    `between` (1: each minute of all). What is left out costs accuracy only where a rule other than
    the evidence would have rolled back in these minutes and does not at their end.
    """
    # Alarms are of the real traffic; one that was not observed is never taken for OK.
    policy = attrs.evolve(policy, alarms=())
    minutes = {name: list(rows) for name, rows in history.items()}
    cache = Cache(recent=1)
    percent, since, observed, before = policy.steps[0].percent, 0, 0, 0

    def decided(now: int) -> Decision:
        end = started_at + now * MINUTE
        observation = Observation(
            at=end,
            started_at=started_at,
            step_started_at=started_at + since * MINUTE,
            percent=percent,
            minutes={
                name: rows[: bisect_left(rows, end, key=attrgetter("at"))]
                for name, rows in minutes.items()
            },
        )
        return decide(policy, keep_in(cache, observation))

    now, decision = 0, None
    while decision is None or not _is_over(decision):
        now += 1
        at = started_at + (now - 1) * MINUTE
        for name, row in traffic(now - 1, percent / 100).items():
            minutes.setdefault(name, []).append(Minute(at, *row))
        waited = now - since - whole_minutes(policy.step_at(percent).bake)
        left_out = between - 1 if waited < 0 and percent < 100 else waited // _PATIENCE
        if between > 1 and now - observed <= left_out and waited != 0:
            continue
        decision, before, observed = decided(now), observed, now
        if isinstance(decision, Shift):
            percent, since = decision.percent, now
    until = _by_evidence(decision, policy)
    if until is None:
        # A promotion needs no such search: before the bake is over there is none.
        unasked = range(before + 1, now) if not isinstance(decision, Promote) else ()
        earlier = ((n, found) for n in unasked if _is_over(found := decided(n)))
        now, decision = next(earlier, (now, decision))
        until = started_at + now * MINUTE
    return Ended(decision, until - started_at, until, minutes)


def _is_over(decision: Decision) -> bool:
    return decision.final or decision.waiting_for == "operator"  # after the deadline


def _by_evidence(decision: Decision, policy: Plan) -> datetime | None:
    """When the evidence rolled back; None where something else ended the rollout."""
    if decision.analysis is None or decision.analysis.worse_at is None:
        return None
    return decision.analysis.worse_at + (1 + whole_minutes(policy.metric_delay)) * MINUTE
