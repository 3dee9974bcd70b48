"""Whether there is traffic enough for a policy to promote within its plan."""

import math
from collections.abc import Iterator
from datetime import timedelta
from typing import NamedTuple

from apigw_canary.judge.evidence import Row, not_worse
from apigw_canary.judge.observation import HISTORY, MINUTE, Measurements
from apigw_canary.judge.signals import Signal
from apigw_canary.policy import RolloutPolicy


class Outlook(NamedTuple):
    """What a canary as good as its baseline has to expect of one signal."""

    signal: str
    planned: float
    """Canary requests that the plan's steps below 100 % give."""
    bakes: timedelta
    """How long these steps are, in whole minutes."""
    needed: float
    """Canary requests that a promotion needs; of a rollout that ends before, what it gets."""
    takes: timedelta
    """How long until then, at the shares of the plan and then at the last one below 100 %."""
    in_time: bool
    """Whether that is before the deadline."""


def requests_per_minute(traffic: Measurements) -> float:
    """Of both arms, over the past hour; the most that any signal counts."""
    return max((_totals(traffic, name)[0] for name in traffic), default=0.0) / (HISTORY / MINUTE)


def never_given(policy: RolloutPolicy, traffic: Measurements) -> list[str]:
    """The critical signals of which there was no minute, where there were minutes of others."""
    if not any(traffic.values()):
        return []
    return [s.name for s in policy.signals if s.critical and not traffic.get(s.name)]


def past_rate(traffic: Measurements, name: str) -> float:
    """The rate of bad requests of both arms over the past hour, 0 to 1; 0 without requests."""
    requests, bad = _totals(traffic, name)
    return bad / requests if requests else 0.0


def outlook(policy: RolloutPolicy, traffic: Measurements) -> list[Outlook]:
    """For each signal that a promotion needs, as the past hour was."""
    return [
        _outlook(policy, signal, *_totals(traffic, signal.name))
        for signal in policy.signals
        if signal.critical
    ]


def _totals(traffic: Measurements, name: str) -> tuple[float, float]:
    """Requests and bad ones of both arms."""
    apart = traffic.overlap != "included"
    requests = bad = 0.0
    for row in traffic.get(name, ()):
        requests += row.baseline_requests + (row.canary_requests if apart else 0)
        bad += row.baseline_bad + (row.canary_bad if apart else 0)
    return requests, bad


def _outlook(policy: RolloutPolicy, signal: Signal, requests: float, bad: float) -> Outlook:
    per_minute = requests / (HISTORY / MINUTE)
    rate = bad / requests if requests else 0.0
    below = [step for step in policy.steps if step.percent < 100]
    planned_minutes = sum(math.ceil(step.bake / MINUTE) for step in below)
    shares = list(_shares(policy))
    history = Row(requests, bad, 0, 0)
    logs = not_worse(
        [history, *(_expected(per_minute, rate, share) for share in shares)],
        ratio=signal.ratio,
        margin=signal.margin,
        noise=signal.noise,
    )[1:]
    enough = math.log(1 / policy.false_promotion)
    minutes = next((i for i, log in enumerate(logs, 1) if log >= enough), None)
    return Outlook(
        signal=signal.name,
        planned=per_minute * sum(shares[:planned_minutes]),
        bakes=planned_minutes * MINUTE,
        needed=per_minute * sum(shares[:minutes]),
        takes=(minutes or len(shares)) * MINUTE,
        in_time=minutes is not None,
    )


def _shares(policy: RolloutPolicy) -> Iterator[float]:
    """The canary's share, 0 to 1, in each minute until the deadline, without a step at 100 %."""
    left = math.ceil(policy.effective_deadline / MINUTE)
    below = [step for step in policy.steps if step.percent < 100]
    for step in below:
        minutes = min(math.ceil(step.bake / MINUTE), left)
        left -= minutes
        yield from [step.percent / 100] * minutes
    yield from [below[-1].percent / 100] * left


def _expected(per_minute: float, rate: float, share: float) -> Row:
    baseline, canary = per_minute * (1 - share), per_minute * share
    return Row(baseline, rate * baseline, canary, rate * canary)
