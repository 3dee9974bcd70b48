"""The evidence of each signal, of the routes, and of all of them together, minute by minute."""

import math
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from apigw_canary.judge import evidence, routes
from apigw_canary.judge.evidence import Row
from apigw_canary.judge.observation import Minute, Observation
from apigw_canary.judge.overlap import reading
from apigw_canary.judge.plan import Plan
from apigw_canary.judge.readings import as_rows, weakest
from apigw_canary.judge.routes import RouteEvidence, Voice, totals
from apigw_canary.judge.signals import Signal

_RECENT = 5
"""Minutes that tell whether the baseline is sick now."""

_LATELY = 30
"""Minutes in which a baseline that exceeds the limit shows."""


class Gathered(NamedTuple):
    """One signal's evidence. Where two readings of the series are open, the weaker of both."""

    signal: Signal
    weight: float
    """Its part of the capital that bets against the canary; 0 where it is only reported."""
    alpha: float
    """What it may spend of the risk of a false rollback."""
    minutes: list[Minute]
    """The settled minutes, with the baseline's history."""
    readings: list[list[Row]]
    """They as rows of two separate arms, in each reading that is open."""
    worse: list[float]
    """Log capital after each of them."""
    confirmed: list[Minute]
    """Those of the minutes that are old enough to speak for the canary."""
    confirmed_readings: list[list[Row]]
    """They as rows of two separate arms, in each reading that is open."""
    not_worse: list[float]
    """Log capital after each of these."""
    pace: float
    """The canary's requests a minute, as of late and at the present share."""
    totals: Row
    baseline_unhealthy: bool
    sample_ratio_ok: bool
    """Whether the counts can be those of a canary with its share."""


class Evidence(NamedTuple):
    """All there is."""

    signals: list[Gathered]
    """In the policy's order."""
    routes: list[RouteEvidence]

    def against(self) -> list[tuple[datetime, float]]:
        """The log of the weighted mean of all capital, after each minute that any of it has.

        A mean of e-processes is one, whatever their dependence; a product would not be.
        """
        voices = [Voice(g.weight, g.minutes, g.worse) for g in self.signals]
        voices += [route.voice for route in self.routes]
        return _mean_path([voice for voice in voices if voice.weight])


def gather(policy: Plan, observation: Observation) -> Evidence:
    """The evidence in the settled minutes of an observation."""
    deciding = sum(signal.weight for signal in policy.signals if not signal.report_only)
    routed = policy.route_weight if observation.routes is not None else 0.0
    weights = [
        0.0 if signal.report_only else (1 - routed) * signal.weight / deciding
        for signal in policy.signals
    ]
    return Evidence(
        [
            _gather(signal, observation, policy, weight)
            for signal, weight in zip(policy.signals, weights, strict=True)
        ],
        routes.evidence_of(policy, observation),
    )


def _gather(signal: Signal, observation: Observation, policy: Plan, weight: float) -> Gathered:
    # What it may spend of the risk: at its 1/alpha the weighted mean is at the policy's.
    alpha = policy.false_rollback * (weight or 1)
    settled = observation.settled(signal.name, policy.metric_delay)
    confirmed = observation.settled(signal.name, policy.promotion_metric_delay)
    overlap, sample_ratio_ok = reading(confirmed, observation)
    readings, confirmed_readings = as_rows(settled, overlap), as_rows(confirmed, overlap)
    not_worse = (
        evidence.not_worse(rows, ratio=signal.ratio, margin=signal.margin, noise=signal.noise)
        for rows in confirmed_readings
    )
    worse = (
        evidence.worse(
            rows,
            ratio=signal.ratio,
            slack=signal.slack,
            noise=signal.noise,
            alpha=alpha,
            limit=signal.limit,
            no_baseline_from=_no_baseline_from(settled, observation),
        )
        for rows in readings
    )
    return Gathered(
        signal=signal,
        weight=weight,
        alpha=alpha,
        minutes=settled,
        readings=readings,
        worse=weakest(worse),
        confirmed=confirmed,
        confirmed_readings=confirmed_readings,
        not_worse=weakest(not_worse),
        pace=_pace(readings[0], observation.percent),
        totals=totals(readings[0], settled, observation),
        baseline_unhealthy=all(_is_sick(rows, signal, policy.false_rollback) for rows in readings),
        sample_ratio_ok=sample_ratio_ok,
    )


def _no_baseline_from(minutes: Sequence[Minute], observation: Observation) -> int | None:
    """The first of the minutes that is all of a step at 100 %, if that is the present step."""
    if observation.percent < 100:
        return None
    return sum(minute.at < observation.step_judged_from() for minute in minutes)


def _is_sick(rows: Sequence[Row], signal: Signal, alpha: float) -> bool:
    """Whether the baseline, lately, exceeds the limit itself, or leaves no room to be worse."""
    served = [row for row in rows if row.baseline_requests > 0]
    bad, requests = (sum(row[i] for row in served[-_RECENT:]) for i in (1, 0))
    if requests and signal.ratio * bad / requests + signal.slack >= 1:
        return True
    if signal.limit is None:
        return False
    lately = ((row.baseline_requests, row.baseline_bad) for row in served[-_LATELY:])
    return max(evidence.above(lately, limit=signal.limit), default=0.0) >= math.log(1 / alpha)


def _pace(rows: Sequence[Row], percent: float) -> float:
    lately = rows[-_RECENT:]
    requests = sum(row.baseline_requests + row.canary_requests for row in lately)
    return requests / max(len(lately), 1) * percent / 100


def _mean_path(voices: Sequence[Voice]) -> list[tuple[datetime, float]]:
    at: dict[datetime, list[tuple[int, float]]] = {}
    for i, voice in enumerate(voices):
        for minute, log in zip(voice.minutes, voice.worse, strict=True):
            at.setdefault(minute.at, []).append((i, log))
    weights = [voice.weight for voice in voices]
    current = [0.0] * len(voices)
    path = []
    for time in sorted(at):
        for i, log in at[time]:
            current[i] = log
        path.append((time, evidence.log_mean(current, weights)))
    return path
