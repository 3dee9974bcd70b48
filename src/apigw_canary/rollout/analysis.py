"""From minutes to findings and a verdict."""

import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, assert_never

import attrs

from apigw_canary.rollout import evidence, inputs, shares
from apigw_canary.rollout.evidence import Row
from apigw_canary.rollout.explained import Explained
from apigw_canary.rollout.observation import Minute, Observation, Overlap
from apigw_canary.rollout.plain import Plain
from apigw_canary.rollout.signals import Signal
from apigw_canary.rollout.words import share

if TYPE_CHECKING:
    from apigw_canary.rollout.policy import RolloutPolicy

_RECENT = 5
"""Minutes that tell whether the baseline is sick now."""

_LATELY = 30
"""Minutes in which a baseline that exceeds the limit shows."""

_LOG_LARGEST = 690.0
"""Odds beyond e^690 are given as that: the next power of ten or so is beyond a float."""


class Verdict(StrEnum):
    """What the evidence says of the canary."""

    WORSE = "worse"
    """Worse than tolerated, with at most `false_rollback` risk of saying so wrongly."""
    NOT_WORSE = "not_worse"
    """Not worse by the margin, with at most `false_promotion` risk of saying so wrongly."""
    UNDECIDED = "undecided"
    """It cannot be told yet."""


@attrs.frozen(kw_only=True)
class Finding(Plain):
    """The evidence of one signal."""

    signal: str
    """The signal's name."""
    verdict: Verdict
    """What this signal says by itself."""
    baseline_requests: float
    """The baseline's requests in the minutes judged, and below the bad ones among them."""
    baseline_bad: float
    canary_requests: float
    """The canary's requests in the minutes judged, and below the bad ones among them."""
    canary_bad: float
    worse_odds: float
    """How many times over the evidence speaks for "worse", at its strongest so far; 1 is none."""
    worse_needed: float
    """What `worse_odds` must reach for this signal alone to roll back."""
    not_worse_odds: float
    """How many times over the evidence speaks for "not worse" now; 1 is none."""
    not_worse_needed: float
    """What `not_worse_odds` must reach."""
    requests_needed: int | None
    """About how many more canary requests "not worse" needs at the present pace; None where it is
    reached or not in sight."""
    sick: bool
    """Whether the baseline is too sick itself for a comparison."""
    fits: bool
    """Whether the canary's part of the requests fits its share; else the counts are of something
    else, and not believed."""

    @property
    def baseline_rate(self) -> float | None:
        """The baseline's share of bad requests, 0 to 1; None without requests."""
        return self.baseline_bad / self.baseline_requests if self.baseline_requests else None

    @property
    def canary_rate(self) -> float | None:
        """The canary's share of bad requests, 0 to 1; None without requests."""
        return self.canary_bad / self.canary_requests if self.canary_requests else None

    def __str__(self) -> str:
        return (
            f"{self.signal}: canary {share(self.canary_rate, self.canary_requests)}, "
            f"baseline {share(self.baseline_rate, self.baseline_requests)}"
        )


@attrs.frozen(kw_only=True)
class Analysis(Explained):
    """The evidence of all signals, and what it comes to."""

    verdict: Verdict
    """WORSE from the weighted mean of all signals; NOT_WORSE if each critical one says so."""
    findings: tuple[Finding, ...]
    """One for each signal, in the policy's order."""
    worse_odds: float
    """The weighted mean of the signals' evidence for "worse", at its strongest so far."""
    worse_needed: float
    """What it must reach for a rollback: 1/`false_rollback`."""
    worse_at: datetime | None = attrs.field(default=None, validator=inputs.aware_field)
    """The minute with which it reached that; None where it has not."""

    def __str__(self) -> str:
        """The numbers, in words."""
        if not any(f.baseline_requests or f.canary_requests for f in self.findings):
            return "no minute of it has settled yet"
        return "; ".join(str(finding) for finding in self.findings)


def analyze(policy: "RolloutPolicy", observation: Observation) -> Analysis:
    """The evidence in the settled minutes of an observation."""
    gathered = gather(policy, observation)
    path = mean_path(gathered)
    strongest = max((log for _, log in path), default=0.0)
    needed = 1 / policy.false_rollback
    findings = tuple(
        _finding(g, worse_needed=1 / g.alpha, not_worse_needed=1 / policy.false_promotion)
        for g in gathered
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
        worse_odds=odds(strongest),
        worse_needed=needed,
        worse_at=next((at for at, log in path if log >= math.log(needed)), None),
    )


class Gathered(NamedTuple):
    """One signal's evidence. Where two readings of the series are open, the weaker of both."""

    signal: Signal
    alpha: float
    """What it may spend of the risk of a false rollback."""
    minutes: list[Minute]
    """The settled minutes, with the baseline's history."""
    rows: list[Row]
    """Their counts, of two separate arms."""
    worse: list[float]
    """Log capital after each of them."""
    confirmed: list[Minute]
    """Those of the minutes that are old enough to speak for the canary."""
    not_worse: list[float]
    """Log capital after each of these."""
    totals: Row
    sick: bool
    fits: bool
    """Whether the counts can be those of a canary with its share."""


def gather(policy: "RolloutPolicy", observation: Observation) -> list[Gathered]:
    """The evidence of each signal, in the policy's order."""
    total = sum(signal.weight for signal in policy.signals if not signal.report_only)
    # What each signal may spend of the risk: at its 1/alpha the weighted mean is at the policy's.
    alphas = [
        policy.false_rollback * (1 if signal.report_only else signal.weight / total)
        for signal in policy.signals
    ]
    return [
        _gather(signal, observation, policy, alpha)
        for signal, alpha in zip(policy.signals, alphas, strict=True)
    ]


def _gather(
    signal: Signal, observation: Observation, policy: "RolloutPolicy", alpha: float
) -> Gathered:
    settled = observation.settled(signal.name, policy.settle)
    confirmed = observation.settled(signal.name, policy.confirm_settle)
    overlap, fits = reading(confirmed, observation)
    readings = _readings(settled, overlap)
    not_worse = [
        evidence.not_worse(rows, ratio=signal.ratio, margin=signal.margin, noise=signal.noise)
        for rows in _readings(confirmed, overlap)
    ]
    return Gathered(
        signal=signal,
        alpha=alpha,
        minutes=settled,
        rows=readings[0],
        worse=_weakest(_worse_path(rows, signal, alpha) for rows in readings),
        confirmed=confirmed,
        not_worse=_weakest(not_worse),
        totals=_totals(readings[0], settled, observation),
        sick=all(_is_sick(rows, signal, policy.false_rollback) for rows in readings),
        fits=fits,
    )


def reading(minutes: Sequence[Minute], observation: Observation) -> tuple[Overlap, bool]:
    """How the series is to be read, and whether the counts fit the share then.

    An unknown overlap is found out where the data settle it: where the canary had more than the
    series that would include it, or where its part of the requests fits the share in one reading
    only. It does so from shares of about a half; at small ones both readings say the same.
    """
    if observation.overlap == "unknown" and any(m.apart() is None for m in minutes):
        return "excluded", _fits(minutes, observation, "excluded")
    stated: tuple[Overlap, ...] = (
        ("excluded", "included") if observation.overlap == "unknown" else (observation.overlap,)
    )
    fitting: list[Overlap] = [each for each in stated if _fits(minutes, observation, each)]
    if len(fitting) == 1:
        return fitting[0], True
    return observation.overlap, bool(fitting)


def _fits(minutes: Sequence[Minute], observation: Observation, overlap: Overlap) -> bool:
    """Whether the canary's part of the requests of this step is about its share."""
    step = [minute for minute in minutes if minute.at >= observation.step_judged_from()]
    canary = sum(minute.canary_requests for minute in step)
    baseline = sum(minute.baseline_requests for minute in step)
    total = max(baseline, canary) if overlap == "included" else baseline + canary
    return not shares.contradict(canary, total, observation.percent / 100)


def _readings(minutes: Sequence[Minute], overlap: Overlap) -> list[list[Row]]:
    """The minutes as rows of two separate arms, in each reading that is open."""
    apart = [_row(minute) for minute in minutes]
    # A minute that does not fit counts as one without requests: no evidence, and no history.
    subtracted = [_row(minute.apart()) for minute in minutes]
    match overlap:
        case "excluded":
            return [apart]
        case "included":
            return [subtracted]
        case "unknown":
            return [apart, subtracted]
        case _:
            assert_never(overlap)


def _row(minute: Minute | None) -> Row:
    if minute is None:
        return Row(0, 0, 0, 0)
    return Row(
        minute.baseline_requests, minute.baseline_bad, minute.canary_requests, minute.canary_bad
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


def _weakest(paths: Iterable[list[float]]) -> list[float]:
    return [min(values) for values in zip(*paths, strict=True)]


def _totals(rows: Sequence[Row], minutes: Sequence[Minute], observation: Observation) -> Row:
    first = observation.judged_from()
    judged = [row for row, minute in zip(rows, minutes, strict=True) if minute.at >= first]
    return Row(*(sum(row[i] for row in judged) for i in range(4)))


def mean_path(gathered: Iterable[Gathered]) -> list[tuple[datetime, float]]:
    """The log of the weighted mean of the signals' capital, after each minute any of them has.

    Of the signals that may decide. A mean of e-processes is one, whatever their dependence; a
    product would not be.
    """
    gathered = [g for g in gathered if not g.signal.report_only]
    total = sum(g.signal.weight for g in gathered)
    weights = [g.signal.weight / total for g in gathered]
    at: dict[datetime, list[tuple[int, float]]] = {}
    for i, g in enumerate(gathered):
        for minute, log in zip(g.minutes, g.worse, strict=True):
            at.setdefault(minute.at, []).append((i, log))
    current = [0.0] * len(gathered)
    path = []
    for time in sorted(at):
        for i, log in at[time]:
            current[i] = log
        path.append((time, evidence.log_mean(current, weights)))
    return path


def _finding(g: Gathered, *, worse_needed: float, not_worse_needed: float) -> Finding:
    strongest = max(g.worse, default=0.0)
    not_worse = g.not_worse[-1] if g.not_worse else 0.0
    if strongest >= math.log(worse_needed):
        verdict = Verdict.WORSE
    elif not_worse >= math.log(not_worse_needed):
        verdict = Verdict.NOT_WORSE
    else:
        verdict = Verdict.UNDECIDED
    return Finding(
        signal=g.signal.name,
        verdict=verdict,
        baseline_requests=g.totals.baseline_requests,
        baseline_bad=g.totals.baseline_bad,
        canary_requests=g.totals.canary_requests,
        canary_bad=g.totals.canary_bad,
        worse_odds=odds(strongest),
        worse_needed=worse_needed,
        not_worse_odds=odds(not_worse),
        not_worse_needed=not_worse_needed,
        requests_needed=_requests_needed(g.confirmed, not_worse, math.log(not_worse_needed)),
        sick=g.sick,
        fits=g.fits,
    )


def _requests_needed(confirmed: Iterable[Minute], log_now: float, log_needed: float) -> int | None:
    """How many more canary requests, if the evidence goes on growing as it has so far."""
    if log_now <= 0 or log_now >= log_needed:
        return None
    so_far = sum(minute.canary_requests for minute in confirmed)
    return math.ceil(so_far * (log_needed / log_now - 1))


def odds(log: float) -> float:
    """From a log capital, cut off at what a float can hold."""
    return math.exp(min(log, _LOG_LARGEST))
