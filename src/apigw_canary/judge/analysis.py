"""The evidence in the minutes of an observation: of each signal, of all together, the verdict."""

import math
from collections.abc import Sequence
from datetime import datetime
from itertools import chain, islice
from typing import NamedTuple

import attrs

from apigw_canary.judge import evidence, intervals, routes
from apigw_canary.judge.eligibility import Changes, changes_of, first_minute, is_warm_up
from apigw_canary.judge.evidence import Row, e_value
from apigw_canary.judge.findings import Analysis, Finding, Verdict
from apigw_canary.judge.kept import INTERPRETATIONS, Interpretation, Kept, as_row, kept_of, weakest
from apigw_canary.judge.observation import Minute, Observation
from apigw_canary.judge.overlap import reading
from apigw_canary.judge.plan import Plan
from apigw_canary.judge.routes import RouteEvidence, Totals, WeightedEvidence, Worse
from apigw_canary.judge.signals import Signal

_RECENT = 5
"""Minutes from which it is found whether the baseline is unhealthy now."""

_LATELY = 30
"""Minutes in which a baseline that exceeds the limit shows."""


class SignalEvidence(NamedTuple):
    """One signal's evidence. Where two interpretations of it are open, the weaker of both."""

    signal: Signal
    weight: float
    """Its part of the capital that bets against the canary; 0 where it is only reported."""
    alpha: float
    """What it may spend of the risk of a false rollback."""
    minutes: list[Minute]
    """The complete minutes, with the baseline's history."""
    times: list[datetime]
    """When they began."""
    folds: list[Interpretation]
    """Those minutes in each interpretation that is open."""
    interpretations: list[list[Row]]
    """Those minutes as rows of two separate arms, in each interpretation that is open."""
    worse: list[float]
    """Log capital after each of them."""
    confirmed: list[Minute]
    """Those of the minutes that are old enough to be evidence for the canary."""
    confirmed_folds: list[Interpretation]
    """Those minutes in each interpretation that is open."""
    confirmed_interpretations: list[list[Row]]
    """Those minutes as rows of two separate arms, in each interpretation that is open."""
    not_worse: list[float]
    """Log capital after each of these."""
    totals: Row
    baseline_unhealthy: bool
    sample_ratio_ok: bool
    """Whether the counts can be those of a canary with its traffic percentage."""


class Evidence(NamedTuple):
    """All there is."""

    signals: list[SignalEvidence]
    """In the policy's order."""
    routes: list[RouteEvidence]
    times: list[datetime]
    """The minutes that any evidence is of."""
    against: list[float]
    """The log of the weighted mean of all capital, after each of them.

    A mean of e-processes is one, whatever their dependence; a product would not be. The weights sum
    to 1, so `false_rollback` holds for all signals together, and a signal alone rolls back at
    `false_rollback` times its weight. By default 5xx, 4xx and latency weigh 5/7, 1/7 and 1/7: 5xx
    has what it has beside 4xx alone at weights of 0.5 and 0.2, so latency takes none of its part.
    """


def parts(policy: Plan, routed: float = 0.0) -> list[float]:
    """The part of each signal in the capital that bets against the canary, and so the part of
    `false_rollback` that it may spend alone; `routed`: the part that the routes have.
    """
    deciding = sum(signal.weight for signal in policy.signals if not signal.report_only)
    return [
        0.0 if signal.report_only else (1 - routed) * signal.weight / deciding
        for signal in policy.signals
    ]


def gather_evidence(policy: Plan, observation: Observation, kept: Kept | None = None) -> Evidence:
    """The evidence in the complete minutes of an observation."""
    kept = kept or Kept()
    weights = parts(policy, policy.route_weight if observation.routes is not None else 0.0)
    signals = [
        _gather_evidence(signal, observation, policy, weight, kept)
        for signal, weight in zip(policy.signals, weights, strict=True)
    ]
    of_routes = routes.evidence_of(policy, observation, kept)
    weighted = [WeightedEvidence(g.weight, g.times, g.worse) for g in signals]
    weighted += [route.part for route in of_routes]
    return Evidence(signals, of_routes, *_mean([each for each in weighted if each.weight], kept))


def _gather_evidence(
    signal: Signal, observation: Observation, policy: Plan, weight: float, kept: Kept
) -> SignalEvidence:
    # What it may spend of the risk: at its 1/alpha the weighted mean is at the policy's.
    alpha = policy.false_rollback * (weight or 1)
    series = kept.series(observation, signal.name)
    settled, confirmed = (
        series.count(observation.at - delay)
        for delay in (policy.metric_delay, policy.promotion_metric_delay)
    )
    overlap, sample_ratio_ok = reading(series, confirmed, observation)
    folds, confirmed_folds = (
        [Interpretation(series, each, count) for each in INTERPRETATIONS[overlap]]
        for count in (settled, confirmed)
    )
    alone_from = observation.step_judged_from() if observation.percent == 100 else None
    changes = changes_of(signal, observation)
    limited = None if signal.limit is None else (signal.limit, alone_from)
    against = (signal, alpha, limited, changes)
    first = first_minute(signal, observation)
    interpretations = [fold.rows for fold in folds]
    return SignalEvidence(
        signal=signal,
        weight=weight,
        alpha=alpha,
        minutes=series.minutes[:settled],
        times=series.times[:settled],
        folds=folds,
        interpretations=interpretations,
        worse=weakest(
            [
                fold.path(Worse, *against, None if first is None else as_row(first, each))
                for fold, each in zip(folds, INTERPRETATIONS[overlap], strict=True)
            ]
        ),
        confirmed=series.minutes[:confirmed],
        confirmed_folds=confirmed_folds,
        confirmed_interpretations=[fold.rows for fold in confirmed_folds],
        not_worse=weakest([fold.path(_NotWorse, signal, changes) for fold in confirmed_folds]),
        totals=folds[0].after(Totals, observation.judged_from()).row(),
        baseline_unhealthy=all(
            _is_unhealthy(rows, signal, policy.false_rollback) for rows in interpretations
        ),
        sample_ratio_ok=sample_ratio_ok,
    )


class _NotWorse:
    """The evidence for "not worse"."""

    def __init__(self, signal: Signal, changes: Changes) -> None:
        self._evidence = evidence.NotWorse(
            ratio=signal.ratio, margin=signal.margin, noise=signal.noise
        )
        self._changes = changes
        self._log = 0.0

    def add(self, minute: Minute, row: Row) -> float:
        if not is_warm_up(minute, self._changes):
            self._log = self._evidence.add(row)
        return self._log


def latest(rows: Sequence[Row], of: int, count: int) -> list[Row]:
    """The latest rows, in order, in which that field is above 0."""
    return list(islice((row for row in reversed(rows) if row[of] > 0), count))[::-1]


def _is_unhealthy(rows: Sequence[Row], signal: Signal, alpha: float) -> bool:
    """Whether the baseline, lately, exceeds the limit itself, or has no rate left above its own."""
    served = latest(rows, 0, _LATELY if signal.limit is not None else _RECENT)
    bad, requests = (sum(row[i] for row in served[-_RECENT:]) for i in (1, 0))
    if requests and signal.ratio * bad / requests + signal.slack >= 1:
        return True
    if signal.limit is None:
        return False
    lately = ((row.baseline_requests, row.baseline_bad) for row in served)
    return max(evidence.above(lately, limit=signal.limit), default=0.0) >= math.log(1 / alpha)


def _mean(weighted: Sequence[WeightedEvidence], kept: Kept) -> tuple[list[datetime], list[float]]:
    """The times of all the weighted' minutes, and the log of their weighted mean after each."""
    times, weights = weighted[0].times, tuple(part.weight for part in weighted)
    if weights == (1.0,):
        return times, weighted[0].worse
    if all(part.times == times for part in weighted[1:]):
        columns = [part.worse for part in weighted]
    else:
        times = sorted({*chain.from_iterable(part.times for part in weighted)})
        columns = [_filled(part, times) for part in weighted]
    return times, kept.mapped(weights, columns, lambda *logs: evidence.log_mean(logs, weights))


def _filled(part: WeightedEvidence, times: Sequence[datetime]) -> list[float]:
    """The log at each of the times; where there is none, the one before, and none at first."""
    logs = dict(zip(part.times, part.worse, strict=True))
    found: list[float] = []
    for at in times:
        found.append(logs.get(at, found[-1] if found else 0.0))
    return found


def analyze(policy: Plan, observation: Observation, *, with_intervals: bool = False) -> Analysis:
    """The evidence in the complete minutes of an observation."""
    with kept_of(observation) as kept:
        return summarize(
            policy, gather_evidence(policy, observation, kept), with_intervals=with_intervals
        )


def summarize(policy: Plan, gathered: Evidence, *, with_intervals: bool = False) -> Analysis:
    """What the evidence comes to."""
    strongest = max(gathered.against, default=0.0)
    needed = 1 / policy.false_rollback
    is_worse = strongest >= math.log(needed)
    findings = tuple(
        _finding(g, worse_threshold=1 / g.alpha, not_worse_threshold=1 / policy.false_promotion)
        for g in gathered.signals
    )
    if with_intervals:
        findings = tuple(
            _with_intervals(f, g, policy.false_rollback)
            for f, g in zip(findings, gathered.signals, strict=True)
        )
    critical = [f for f, g in zip(findings, gathered.signals, strict=True) if g.signal.critical]
    if is_worse:
        verdict = Verdict.WORSE
    elif all(f.not_worse_evidence >= f.not_worse_threshold for f in critical):
        verdict = Verdict.NOT_WORSE
    else:
        verdict = Verdict.UNDECIDED
    return Analysis(
        verdict=verdict,
        findings=findings,
        worse_evidence=evidence.e_value(strongest),
        worse_threshold=needed,
        routes=routes.findings(gathered.routes),
        worse_at=_first(gathered, math.log(needed)) if is_worse else None,
    )


def _first(gathered: Evidence, needed: float) -> datetime:
    """The minute with which the evidence reached that."""
    path = zip(gathered.times, gathered.against, strict=True)
    return next(at for at, log in path if log >= needed)


def _finding(g: SignalEvidence, *, worse_threshold: float, not_worse_threshold: float) -> Finding:
    strongest = max(g.worse, default=0.0)
    not_worse = g.not_worse[-1] if g.not_worse else 0.0
    if strongest >= math.log(worse_threshold):
        verdict = Verdict.WORSE
    elif not_worse >= math.log(not_worse_threshold):
        verdict = Verdict.NOT_WORSE
    else:
        verdict = Verdict.UNDECIDED
    return Finding(
        signal=g.signal.name,
        verdict=verdict,
        **g.totals._asdict(),
        worse_evidence=evidence.e_value(strongest),
        worse_threshold=worse_threshold,
        not_worse_evidence=evidence.e_value(not_worse),
        not_worse_threshold=not_worse_threshold,
        baseline_unhealthy=g.baseline_unhealthy,
        sample_ratio_ok=g.sample_ratio_ok,
    )


def _with_intervals(finding: Finding, g: SignalEvidence, alpha: float) -> Finding:
    return attrs.evolve(
        finding,
        ratio=intervals.ratio(g.interpretations, noise=g.signal.noise, alpha=alpha),
        difference=intervals.difference(g.interpretations, noise=g.signal.noise, alpha=alpha),
    )


class SignalPath(NamedTuple):
    """One signal's minutes since the canary is judged, the baseline's history left out."""

    signal: Signal
    counts: list[tuple[datetime, Row]]
    """The complete minutes and what was counted in them, of two separate arms."""
    not_worse: list[tuple[datetime, float]]
    """The evidence for "not worse" after each minute that is old enough to count for the canary."""


class Paths(NamedTuple):
    """How the evidence of an observation came about."""

    worse: list[tuple[datetime, float]]
    """The evidence for "worse", all signals together, after each complete minute."""
    signals: list[SignalPath]
    """In the policy's order."""


def paths(policy: Plan, observation: Observation) -> Paths:
    """The evidence that `analyze` sums up, minute by minute."""
    gathered = gather_evidence(policy, observation)
    first = observation.judged_from()
    against = zip(gathered.times, gathered.against, strict=True)
    return Paths(
        [(at, e_value(log)) for at, log in against if at >= first],
        [
            SignalPath(
                g.signal,
                [
                    (minute.at, row)
                    for minute, row in zip(g.minutes, g.interpretations[0], strict=True)
                    if minute.at >= first
                ],
                [
                    (minute.at, e_value(log))
                    for minute, log in zip(g.confirmed, g.not_worse, strict=True)
                    if minute.at >= first
                ],
            )
            for g in gathered.signals
        ],
    )
