"""The same comparison for each route: a method of a resource.

A route that fails while all others do well is hidden in the stage's counts. A part of the capital
that bets against the canary is divided evenly among the routes. So the error rate holds over all of
them, and each needs more evidence than a stage without routes would. What a signal of one route
counts there (`Signal.route`) is judged by that signal alone.
"""

import math
from collections.abc import Sequence
from datetime import datetime
from operator import add
from typing import NamedTuple

from apigw_canary.judge import evidence
from apigw_canary.judge.eligibility import Changes, FirstMinute, Warmth, changes_of
from apigw_canary.judge.evidence import Row
from apigw_canary.judge.findings import Finding, Verdict
from apigw_canary.judge.kept import INTERPRETATIONS, Interpretation, Kept, Series, weakest
from apigw_canary.judge.observation import Minute, Observation
from apigw_canary.judge.overlap import reading
from apigw_canary.judge.plan import Plan
from apigw_canary.judge.signals import Signal

MOST_JUDGED = 50
"""Series that are judged at a time: those with the largest excess. All others count as if their
capital were lost. That is on the safe side, whichever they are, and costs next to nothing: capital
does not grow where the canary fails no more often than its baseline."""

LISTED = 10
"""Routes that an analysis names."""


class WeightedEvidence(NamedTuple):
    """A part of the capital that bets against the canary."""

    weight: float
    """How large a part."""
    times: list[datetime]
    """Its minutes."""
    worse: list[float]
    """The log of what it has become after each minute."""


class RouteEvidence(NamedTuple):
    """One signal of one route."""

    route: str
    signal: str
    part: WeightedEvidence
    totals: Row
    worse_threshold: float
    not_worse_threshold: float


Limited = tuple[float, datetime | None]
"""A limit, and the time from which on all requests are the canary's; None below 100 %."""


class Worse:
    """The evidence for "worse", as a fold.

    `first`: the first minute, judged after the next one; None where it is not judged.
    """

    def __init__(
        self,
        signal: Signal,
        alpha: float,
        limited: Limited | None,
        changes: Changes,
        first: Row | None = None,
    ) -> None:
        limit = None if limited is None else limited[0]
        self._alone_from = None if limited is None else limited[1]
        self._evidence = evidence.WorseEvidence(
            ratio=signal.ratio, slack=signal.slack, noise=signal.noise, alpha=alpha, limit=limit
        )
        self._warmth = Warmth(changes)
        self._first = FirstMinute(signal, first)
        self._log = 0.0

    def add(self, minute: Minute, row: Row) -> float:
        """Add a minute more: the log capital after it."""
        alone = self._alone_from is not None and minute.at >= self._alone_from
        if self._warmth.add(minute):
            self._log = self._evidence.add(row, alone=alone)
        first = self._first.after(minute, row)
        if first is not None:
            self._log = self._evidence.add(first)
        return self._log


class Totals:
    """The counts of the minutes that are this canary's."""

    def __init__(self, judged_from: datetime) -> None:
        self._first = judged_from
        self._counts = [0.0] * len(Row._fields)

    def add(self, minute: Minute, row: Row) -> None:
        """Add a minute more."""
        if minute.at >= self._first:
            self._counts = list(map(add, self._counts, row))

    def row(self) -> Row:
        """They as one row."""
        return Row(*self._counts)


def evidence_of(policy: Plan, observation: Observation, kept: Kept) -> list[RouteEvidence]:
    """The evidence of the most suspicious series."""
    known = _known_before(observation)
    judged = [s for s in policy.signals if not s.report_only and s.route is None]
    total = sum(signal.weight for signal in judged) * len(known)
    found = []
    for route, signal, series in _suspects(policy, observation, judged, known, kept):
        # The stage's minutes say how those of its routes are to be read.
        stage = kept.series(observation, signal.name)
        confirmed = stage.count(observation.at - policy.promotion_metric_delay)
        overlap, _ = reading(stage, confirmed, observation)
        count = series.count(observation.at - policy.metric_delay)
        folds = [Interpretation(series, each, count) for each in INTERPRETATIONS[overlap]]
        weight = policy.route_weight * signal.weight / total
        alpha = policy.false_rollback * (weight or signal.weight / total)
        worse = weakest(
            [
                fold.path(Worse, signal, alpha, None, changes_of(signal, observation))
                for fold in folds
            ]
        )
        found.append(
            RouteEvidence(
                route,
                signal.name,
                WeightedEvidence(weight, series.times[:count], worse),
                folds[0].after(Totals, observation.judged_from()).row(),
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
    kept: Kept,
) -> list[tuple[str, Signal, Series]]:
    """The series in which the canary exceeds what is tolerated, the largest excesses first."""
    excesses = []
    own = {(signal.route, signal.counted) for signal in policy.signals if not signal.report_only}
    for route in known:
        for signal in (each for each in judged if (route, each.name) not in own):
            series = kept.series(observation, signal.name, route=route)
            count = series.count(observation.at - policy.metric_delay)
            excess = Interpretation(series, "excluded", count).after(_Compared).excess(signal)
            if excess > 0:
                excesses.append((excess, route, signal, series))
    excesses.sort(key=lambda each: -each[0])
    return [(route, signal, series) for _, route, signal, series in excesses[:MOST_JUDGED]]


class _Compared:
    """The counts of the minutes in which the canary had requests."""

    def __init__(self) -> None:
        self._n_b = self._x_b = self._n_c = self._x_c = 0.0

    def add(self, minute: Minute, _: Row) -> None:
        if minute.canary_requests:
            self._n_b += minute.baseline_requests
            self._x_b += minute.baseline_bad + minute.baseline_unknown
            self._n_c += minute.canary_requests
            self._x_c += minute.canary_bad

    def excess(self, signal: Signal) -> float:
        """The canary's bad requests beyond the tolerated ones, in about standard deviations."""
        tolerated = 0.0
        if self._n_b:
            tolerated = signal.ratio * self._x_b * self._n_c / self._n_b + signal.slack * self._n_c
        return (self._x_c - tolerated) / math.sqrt(tolerated + 1)


def findings(found: Sequence[RouteEvidence]) -> tuple[Finding, ...]:
    """Its findings, the worst first."""
    said = [_finding(each) for each in found]
    said.sort(key=lambda finding: finding.worse_evidence / finding.worse_threshold, reverse=True)
    return tuple(said[:LISTED])


def _finding(found: RouteEvidence) -> Finding:
    e_value = evidence.e_value(max(found.part.worse, default=0.0))
    return Finding(
        route=found.route,
        signal=found.signal,
        verdict=Verdict.WORSE if e_value >= found.worse_threshold else Verdict.UNDECIDED,
        **found.totals._asdict(),
        worse_evidence=e_value,
        worse_threshold=found.worse_threshold,
        not_worse_evidence=1.0,
        not_worse_threshold=found.not_worse_threshold,
    )
