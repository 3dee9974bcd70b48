"""The evidence of each signal, of the routes, and of all of them together, minute by minute."""

import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from apigw_canary.rollout import evidence, routes
from apigw_canary.rollout.evidence import Row
from apigw_canary.rollout.observation import Minute, Observation
from apigw_canary.rollout.overlap import reading
from apigw_canary.rollout.readings import as_rows, weakest
from apigw_canary.rollout.routes import RouteEvidence, Voice, totals
from apigw_canary.rollout.signals import Signal

if TYPE_CHECKING:
    from apigw_canary.rollout.policy import RolloutPolicy

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


def gather(policy: "RolloutPolicy", observation: Observation) -> Evidence:
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


def _gather(
    signal: Signal, observation: Observation, policy: "RolloutPolicy", weight: float
) -> Gathered:
    # What it may spend of the risk: at its 1/alpha the weighted mean is at the policy's.
    alpha = policy.false_rollback * (weight or 1)
    settled = observation.settled(signal.name, policy.metric_delay)
    confirmed = observation.settled(signal.name, policy.promotion_metric_delay)
    overlap, sample_ratio_ok = reading(confirmed, observation)
    readings = as_rows(settled, overlap)
    not_worse = (
        evidence.not_worse(rows, ratio=signal.ratio, margin=signal.margin, noise=signal.noise)
        for rows in as_rows(confirmed, overlap)
    )
    return Gathered(
        signal=signal,
        weight=weight,
        alpha=alpha,
        minutes=settled,
        readings=readings,
        worse=weakest(_worse_path(rows, signal, alpha) for rows in readings),
        confirmed=confirmed,
        not_worse=weakest(not_worse),
        pace=_pace(readings[0], observation.percent),
        totals=totals(readings[0], settled, observation),
        baseline_unhealthy=all(_is_sick(rows, signal, policy.false_rollback) for rows in readings),
        sample_ratio_ok=sample_ratio_ok,
    )


def _worse_path(rows: Sequence[Row], signal: Signal, alpha: float) -> list[float]:
    """The evidence against the canary: by comparison and, half of it, by the signal's limit."""
    compared = evidence.worse(
        rows,
        ratio=signal.ratio,
        slack=signal.slack,
        noise=signal.noise,
        alpha=alpha if signal.limit is None else alpha / 2,
    )
    if signal.limit is None:
        return compared
    limited = evidence.above(_canary_alone_over(signal.limit, rows), limit=signal.limit)
    return [evidence.log_mean(pair, (0.5, 0.5)) for pair in zip(compared, limited, strict=True)]


def _canary_alone_over(limit: float, rows: Sequence[Row]) -> Iterator[tuple[float, float]]:
    """The canary's counts, without minutes in which the baseline exceeds the limit as well.

    What both arms suffer from is no reason to end one of them.
    """
    for row in rows:
        both = row.baseline_bad > limit * row.baseline_requests
        yield (0.0, 0.0) if both else (row.canary_requests, row.canary_bad)


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
