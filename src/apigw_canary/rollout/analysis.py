"""From minutes to findings and a verdict."""

import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import attrs

from apigw_canary.rollout import evidence, intervals, routes
from apigw_canary.rollout.evidence import Row
from apigw_canary.rollout.findings import Analysis, Finding, Verdict
from apigw_canary.rollout.observation import Minute, Observation
from apigw_canary.rollout.readings import as_rows, reading, weakest
from apigw_canary.rollout.routes import Voice, totals
from apigw_canary.rollout.signals import Signal

if TYPE_CHECKING:
    from apigw_canary.rollout.policy import RolloutPolicy

_RECENT = 5
"""Minutes that tell whether the baseline is sick now."""

_LATELY = 30
"""Minutes in which a baseline that exceeds the limit shows."""


def analyze(
    policy: "RolloutPolicy", observation: Observation, *, with_intervals: bool = False
) -> Analysis:
    """The evidence in the settled minutes of an observation."""
    deciding = sum(signal.weight for signal in policy.signals if not signal.report_only)
    routed = policy.route_weight if observation.routes is not None else 0.0
    weights = [
        0.0 if signal.report_only else (1 - routed) * signal.weight / deciding
        for signal in policy.signals
    ]
    # What each signal may spend of the risk: at its 1/alpha the weighted mean is at the policy's.
    alphas = [policy.false_rollback * (weight or 1) for weight in weights]
    gathered = [
        _gather(signal, observation, policy, alpha)
        for signal, alpha in zip(policy.signals, alphas, strict=True)
    ]
    of_routes = routes.evidence_of(policy, observation)
    voices = [Voice(w, g.minutes, g.worse) for w, g in zip(weights, gathered, strict=True) if w]
    path = _mean_path([*voices, *(route.voice for route in of_routes if route.voice.weight)])
    strongest = max((log for _, log in path), default=0.0)
    needed = 1 / policy.false_rollback
    findings = tuple(
        _finding(g, worse_needed=1 / alpha, not_worse_needed=1 / policy.false_promotion)
        for g, alpha in zip(gathered, alphas, strict=True)
    )
    if with_intervals:
        findings = tuple(
            _with_intervals(f, g, policy.false_rollback)
            for f, g in zip(findings, gathered, strict=True)
        )
    critical = [f for f, g in zip(findings, gathered, strict=True) if g.signal.critical]
    if strongest >= math.log(needed):
        verdict = Verdict.WORSE
    elif all(f.not_worse_odds >= f.not_worse_needed for f in critical):
        verdict = Verdict.NOT_WORSE
    else:
        verdict = Verdict.UNDECIDED
    return Analysis(
        verdict=verdict,
        findings=findings,
        worse_odds=evidence.odds(strongest),
        worse_needed=needed,
        routes=routes.findings(of_routes),
        worse_at=next((at for at, log in path if log >= math.log(needed)), None),
    )


class _Gathered(NamedTuple):
    """One signal's evidence. Where two readings of the series are open, the weaker of both."""

    signal: Signal
    minutes: list[Minute]
    """The settled minutes, with the baseline's history."""
    readings: list[list[Row]]
    """They as rows, in each reading that is open."""
    worse: list[float]
    """Log capital after each of them."""
    not_worse: float
    confirmed_requests: float
    """The canary's requests behind `not_worse`."""
    pace: float
    """The canary's requests a minute, as of late and at the present share."""
    totals: Row
    sick: bool
    fits: bool
    """Whether the counts can be those of a canary with its share."""


def _gather(
    signal: Signal, observation: Observation, policy: "RolloutPolicy", alpha: float
) -> _Gathered:
    settled = observation.settled(signal.name, policy.settle)
    confirmed = observation.settled(signal.name, policy.confirm_settle)
    overlap, fits = reading(confirmed, observation)
    readings = as_rows(settled, overlap)
    not_worse = [
        evidence.not_worse(rows, ratio=signal.ratio, margin=signal.margin, noise=signal.noise)
        for rows in as_rows(confirmed, overlap)
    ]
    return _Gathered(
        signal=signal,
        minutes=settled,
        readings=readings,
        worse=weakest(_worse_path(rows, signal, alpha) for rows in readings),
        not_worse=min(path[-1] if path else 0.0 for path in not_worse),
        confirmed_requests=sum(minute.canary_requests for minute in confirmed),
        pace=_pace(readings[0], observation.percent),
        totals=totals(readings[0], settled, observation),
        sick=all(_is_sick(rows, signal, policy.false_rollback) for rows in readings),
        fits=fits,
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
    """The log of the weighted mean of all capital, after each minute that any of it has.

    A mean of e-processes is one, whatever their dependence; a product would not be.
    """
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


def _finding(g: _Gathered, *, worse_needed: float, not_worse_needed: float) -> Finding:
    strongest = max(g.worse, default=0.0)
    if strongest >= math.log(worse_needed):
        verdict = Verdict.WORSE
    elif g.not_worse >= math.log(not_worse_needed):
        verdict = Verdict.NOT_WORSE
    else:
        verdict = Verdict.UNDECIDED
    more = _requests_needed(g, math.log(not_worse_needed))
    return Finding(
        signal=g.signal.name,
        verdict=verdict,
        baseline_requests=g.totals.baseline_requests,
        baseline_bad=g.totals.baseline_bad,
        canary_requests=g.totals.canary_requests,
        canary_bad=g.totals.canary_bad,
        worse_odds=evidence.odds(strongest),
        worse_needed=worse_needed,
        not_worse_odds=evidence.odds(g.not_worse),
        not_worse_needed=not_worse_needed,
        requests_needed=more,
        minutes_needed=more / g.pace if more is not None and g.pace else None,
        sick=g.sick,
        fits=g.fits,
    )


def _with_intervals(finding: Finding, g: _Gathered, alpha: float) -> Finding:
    return attrs.evolve(
        finding,
        ratio=intervals.ratio(g.readings, noise=g.signal.noise, alpha=alpha),
        difference=intervals.difference(g.readings, noise=g.signal.noise, alpha=alpha),
    )


def _requests_needed(g: _Gathered, log_needed: float) -> int | None:
    """How many more canary requests, if the evidence goes on growing as it has so far."""
    if g.not_worse <= 0 or g.not_worse >= log_needed:
        return None
    return math.ceil(g.confirmed_requests * (log_needed / g.not_worse - 1))
