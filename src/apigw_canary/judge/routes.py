"""The same comparison for each route: a method of a resource.

A route that fails while all others do well is lost in the stage's counts. The routes share a part
of the capital that bets against the canary, evenly, so the promise holds over all of them, and each
has to show more than a stage without routes would.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from apigw_canary.judge import evidence
from apigw_canary.judge.evidence import Row
from apigw_canary.judge.findings import Finding, Verdict
from apigw_canary.judge.observation import Minute, Observation, Overlap
from apigw_canary.judge.overlap import reading
from apigw_canary.judge.plan import Plan
from apigw_canary.judge.readings import as_rows, weakest
from apigw_canary.judge.signals import Signal

MOST_JUDGED = 50
"""Series that are judged at a look: those with the largest excess. All others count as if their
capital were lost. That is on the safe side, whichever they are, and costs next to nothing: capital
does not grow where the canary fails no more often than its baseline."""

LISTED = 10
"""Routes that an analysis names."""


class Voice(NamedTuple):
    """A part of the capital that bets against the canary."""

    weight: float
    """How large a part."""
    minutes: Sequence[Minute]
    worse: list[float]
    """The log of what it has become after each minute."""


class RouteEvidence(NamedTuple):
    """One signal of one route."""

    route: str
    signal: str
    voice: Voice
    totals: Row
    worse_threshold: float
    not_worse_threshold: float


def evidence_of(policy: Plan, observation: Observation) -> list[RouteEvidence]:
    """The evidence of the most suspicious series."""
    known = _known_before(observation)
    judged = [signal for signal in policy.signals if not signal.report_only]
    total = sum(signal.weight for signal in judged) * len(known)
    suspects = _suspects(policy, observation, judged, known)
    # The stage's minutes say how those of its routes are to be read.
    overlaps: dict[str, Overlap] = {
        name: reading(observation.settled(name, policy.promotion_metric_delay), observation)[0]
        for name in {signal.name for _, signal in suspects}
    }
    found = []
    for route, signal in suspects:
        minutes = observation.settled(signal.name, policy.metric_delay, route=route)
        readings = as_rows(minutes, overlaps[signal.name])
        weight = policy.route_weight * signal.weight / total
        alpha = policy.false_rollback * (weight or signal.weight / total)
        worse = weakest(
            evidence.worse(
                rows, ratio=signal.ratio, slack=signal.slack, noise=signal.noise, alpha=alpha
            )
            for rows in readings
        )
        found.append(
            RouteEvidence(
                route,
                signal.name,
                Voice(weight, minutes, worse),
                totals(readings[0], minutes, observation),
                worse_threshold=1 / alpha,
                not_worse_threshold=1 / policy.false_promotion,
            )
        )
    return found


def _known_before(observation: Observation) -> list[str]:
    """The routes that had requests before the canary was enabled.

    Their number divides the capital, so it must not depend on what comes later; and a route that
    only the canary has cannot be compared.
    """
    return [
        route
        for route, signals in (observation.routes or {}).items()
        if any(
            row.baseline_requests > 0
            for rows in signals.values()
            for row in rows
            if row.at < observation.started_at
        )
    ]


def _suspects(
    policy: Plan,
    observation: Observation,
    judged: Sequence[Signal],
    known: Sequence[str],
) -> list[tuple[str, Signal]]:
    """The series in which the canary exceeds what is tolerated, the largest excesses first."""
    excesses = [
        (
            _excess(observation.settled(signal.name, policy.metric_delay, route=route), signal),
            i,
            signal,
        )
        for i, route in enumerate(known)
        for signal in judged
    ]
    suspects = sorted((each for each in excesses if each[0] > 0), key=lambda each: -each[0])
    return [(known[i], signal) for _, i, signal in suspects[:MOST_JUDGED]]


def _excess(minutes: Sequence[Minute], signal: Signal) -> float:
    """The canary's bad requests beyond the tolerated ones, in about standard deviations."""
    lit = [row for row in minutes if row.canary_requests]
    n_b, n_c = sum(r.baseline_requests for r in lit), sum(r.canary_requests for r in lit)
    x_b, x_c = sum(r.baseline_bad + r.baseline_unknown for r in lit), sum(r.canary_bad for r in lit)
    tolerated = signal.ratio * x_b * n_c / n_b + signal.slack * n_c if n_b else 0.0
    return (x_c - tolerated) / math.sqrt(tolerated + 1)


def findings(found: Sequence[RouteEvidence]) -> tuple[Finding, ...]:
    """What it says, the worst first."""
    said = [_finding(each) for each in found]
    said.sort(key=lambda finding: finding.worse_evidence / finding.worse_threshold, reverse=True)
    return tuple(said[:LISTED])


def _finding(found: RouteEvidence) -> Finding:
    odds = evidence.odds(max(found.voice.worse, default=0.0))
    return Finding(
        route=found.route,
        signal=found.signal,
        verdict=Verdict.WORSE if odds >= found.worse_threshold else Verdict.UNDECIDED,
        **found.totals._asdict(),
        worse_evidence=odds,
        worse_threshold=found.worse_threshold,
        not_worse_evidence=1.0,
        not_worse_threshold=found.not_worse_threshold,
    )


def totals(rows: Sequence[Row], minutes: Sequence[Minute], observation: Observation) -> Row:
    """The counts of the minutes that are this canary's."""
    first = observation.judged_from()
    judged = [row for row, minute in zip(rows, minutes, strict=True) if minute.at >= first]
    return Row(*(sum(row[i] for row in judged) for i in range(len(Row._fields))))
