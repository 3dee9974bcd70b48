"""From minutes to findings and a verdict."""

import math
from datetime import datetime

import attrs

from apigw_canary.judge import evidence, intervals, routes
from apigw_canary.judge.findings import Analysis, Finding, Verdict
from apigw_canary.judge.gathering import Evidence, Gathered, gather
from apigw_canary.judge.kept import kept_of
from apigw_canary.judge.observation import Observation
from apigw_canary.judge.plan import Plan


def analyze(policy: Plan, observation: Observation, *, with_intervals: bool = False) -> Analysis:
    """The evidence in the settled minutes of an observation."""
    with kept_of(observation) as kept:
        return summarize(policy, gather(policy, observation, kept), with_intervals=with_intervals)


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
        worse_evidence=evidence.odds(strongest),
        worse_threshold=needed,
        routes=routes.findings(gathered.routes),
        worse_at=_first(gathered, math.log(needed)) if is_worse else None,
    )


def _first(gathered: Evidence, needed: float) -> datetime:
    """The minute with which the evidence reached that."""
    path = zip(gathered.times, gathered.against, strict=True)
    return next(at for at, log in path if log >= needed)


def _finding(g: Gathered, *, worse_threshold: float, not_worse_threshold: float) -> Finding:
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
        worse_evidence=evidence.odds(strongest),
        worse_threshold=worse_threshold,
        not_worse_evidence=evidence.odds(not_worse),
        not_worse_threshold=not_worse_threshold,
        baseline_unhealthy=g.baseline_unhealthy,
        sample_ratio_ok=g.sample_ratio_ok,
    )


def _with_intervals(finding: Finding, g: Gathered, alpha: float) -> Finding:
    return attrs.evolve(
        finding,
        ratio=intervals.ratio(g.readings, noise=g.signal.noise, alpha=alpha),
        difference=intervals.difference(g.readings, noise=g.signal.noise, alpha=alpha),
    )
