"""What the requests whose outcome could not be read are taken for.

The evidence carries them at their worst (`evidence.Row`). That keeps both risks, but it does not
say that something is wrong with the data. This does: too many of them on the canary make the data
suspect, and more of them on the canary than on the baseline are a canary that is not observed.
"""

import math
from datetime import datetime
from typing import NamedTuple

from apigw_canary.judge.analysis import Gathered
from apigw_canary.judge.evidence import Row
from apigw_canary.judge.guard import sums
from apigw_canary.judge.observation import Minute, Observation
from apigw_canary.judge.signals import Signal
from apigw_canary.values import share

RECENT = 10
"""Complete minutes, the latest with requests of the variant, that are looked at."""

_NOT_BY_CHANCE = 3.0
"""Standard deviations by which the canary's unknown requests must exceed those that the baseline's
part predicts, before the canary counts as unobserved. Like parts of both differ by more in one of
700 looks, and would have to for all of `max_unobserved` to roll back."""


class UnknownOutcomes(NamedTuple):
    """The unknown outcomes of one signal in the latest minutes, and what they mean."""

    canary_unknown: float
    """The canary's requests of unknown outcome, in its last ten complete minutes with requests."""
    canary_requests: float
    """The canary's requests in these minutes."""
    baseline_unknown: float
    """The baseline's requests of unknown outcome, in its last ten complete minutes with any."""
    baseline_requests: float
    """The baseline's requests in these minutes."""
    suspect: bool
    """Whether the canary's unknown part is above half the signal's margin."""
    unobserved_since: datetime | None
    """The minute since which, without a break, the canary's unknown part has exceeded both the
    margin and the baseline's unknown part; None where it does not."""

    @property
    def canary_part(self) -> float | None:
        """The unknown part of the canary's requests, 0 to 1; None without requests."""
        return self.canary_unknown / self.canary_requests if self.canary_requests else None

    @property
    def baseline_part(self) -> float | None:
        """The unknown part of the baseline's requests, 0 to 1; None without requests."""
        return self.baseline_unknown / self.baseline_requests if self.baseline_requests else None

    def __str__(self) -> str:
        canary = _of("canary", self.canary_part, self.canary_requests)
        baseline = _of("baseline", self.baseline_part, self.baseline_requests)
        return (
            f"the outcome of {canary} and of {baseline} could not be read, in the last {RECENT} "
            "complete minutes with requests"
        )


def _of(variant: str, part: float | None, requests: float) -> str:
    return (
        f"no {variant} requests" if part is None else f"{share(part, requests)} {variant} requests"
    )


def unknown_outcomes(g: Gathered, observation: Observation) -> UnknownOutcomes:
    """The unknown outcomes of a signal in the complete minutes of an observation.

    Where the interpretation of the overlap is open, the one with the least of them on the
    baseline is described, and the canary counts as unobserved only if it does in each.
    """
    found = [
        fold.after(_Latest, g.signal, observation.judged_from()).outcomes() for fold in g.folds
    ]
    since = [each.unobserved_since for each in found if each.unobserved_since is not None]
    least = min(found, key=lambda each: each.baseline_part or 0.0)
    return least._replace(unobserved_since=max(since) if len(since) == len(found) else None)


class _Latest:
    """The latest minutes with requests, of either variant: unknown requests, and all."""

    def __init__(self, signal: Signal, judged_from: datetime) -> None:
        self._signal, self._first = signal, judged_from
        self._canary: list[tuple[float, float]] = []
        self._baseline: list[tuple[float, float]] = []
        self._since: datetime | None = None

    def add(self, minute: Minute, row: Row) -> None:
        if row.baseline_requests:
            latest = (row.baseline_unknown, row.baseline_requests)
            self._baseline = [*self._baseline, latest][-RECENT:]
        # The canary's counts are the same in each interpretation of the overlap.
        if minute.at >= self._first and minute.canary_requests:
            latest = (minute.canary_unknown, minute.canary_requests)
            self._canary = [*self._canary, latest][-RECENT:]
            exceeds = any(unknown for unknown, _ in self._canary) and _exceeds(
                self._signal, sums(self._canary), sums(self._baseline)
            )
            self._since = (self._since or minute.at) if exceeds else None

    def outcomes(self) -> UnknownOutcomes:
        """What they come to."""
        (u_c, n_c), (u_b, n_b) = sums(self._canary), sums(self._baseline)
        suspect = u_c > self._signal.margin / 2 * n_c
        return UnknownOutcomes(u_c, n_c, u_b, n_b, suspect, self._since)


def _exceeds(signal: Signal, canary: tuple[float, float], baseline: tuple[float, float]) -> bool:
    """Whether the canary's unknown part is above the margin, and above the baseline's.

    Above the baseline's by more than the signal's ratio and chance explain: like parts of both
    differ by a little, and must not roll a healthy canary back.
    """
    (u_c, n_c), (u_b, n_b) = canary, baseline
    if u_c <= signal.margin * n_c:
        return False
    odds = signal.ratio * n_c / n_b if n_b else 0.0
    expected = odds * u_b
    return u_c - expected > _NOT_BY_CHANCE * math.sqrt(expected * (1 + odds) + 1)
