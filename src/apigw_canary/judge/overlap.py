"""Whether the counts of the stage include the canary's requests, found from the data.

AWS does not document it. Four signs show it, each in its own circumstances. Where none has
appeared, or they contradict each other, both interpretations are evaluated.
"""

import math
from collections.abc import Iterable, Sequence, Sized
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from apigw_canary.judge.kept import INTERPRETATIONS, Interpretation, Series
from apigw_canary.judge.observation import Minute, Observation, Overlap, baseline_alone

TOLERANCE = 0.1
"""How far, relative to the traffic percentage, the canary's part of the counts may be from it: late
and restated minutes, and requests that are not split quite evenly, are no contradiction."""

CONTRADICTION = math.log(1e4)
"""The evidence, in logs, from which counts are not trusted: wrongly in one of 10,000 rollouts."""

NOT_BY_CHANCE = 10
"""A canary counts as without data once that has a chance of e^-10, one in 22,000, or less."""


def surprise_of_no_data(baseline: float, share: float) -> float:
    """How surprising it is that a canary with that fraction, 0 to 1, has no request beside these.

    The negative log of its chance, which is `(1 - share)^n`: each request goes to it by itself.
    """
    return -math.log1p(-min(share, 1 - 1e-4)) * baseline


def lacks_data(baseline: float, share: float) -> bool:
    """Whether a canary with that fraction, 0 to 1, must have had requests beside the baseline's."""
    return surprise_of_no_data(baseline, share) >= NOT_BY_CHANCE


def contradict(canary: float, total: float, share: float) -> bool:
    """Whether `canary` of `total` requests contradict the fraction, 0 to 1.

    The evidence is a mixture of all fractions over the best of those within the tolerance: an
    e-process for each of these, so the number of observations does not matter.
    """
    if not share > 0 or total <= 0:
        return False
    least, most = _possible(share * (1 - TOLERANCE)), _possible(share * (1 + TOLERANCE))
    best = min(max(canary / total, least), most)
    rest = max(total - canary, 0.0)
    of_mixture = math.lgamma(canary + 1) + math.lgamma(rest + 1) - math.lgamma(canary + rest + 2)
    of_best = canary * math.log(best) + rest * math.log1p(-best)
    return of_mixture - of_best >= CONTRADICTION


def _possible(share: float) -> float:
    return min(max(share, 1e-9), 1 - 1e-9)


KnownOverlap = Literal["excluded", "included"]

ENOUGH = 3
"""Minutes that must agree: one or two may lack a number that CloudWatch lost or is late
with."""

_EITHER: tuple[KnownOverlap, KnownOverlap] = ("excluded", "included")
_NO_TIME = datetime.min.replace(tzinfo=UTC)
_INCLUDED = "the stage's series include the canary's requests"


class Sign(NamedTuple):
    """What the data show, and why."""

    overlap: KnownOverlap
    ground: str

    def __str__(self) -> str:
        verb = "include" if self.overlap == "included" else "do not include"
        return f"the stage's series {verb} the canary's requests: {self.ground}"


class Totals(NamedTuple):
    """The requests of a whole API in one minute, of all its stages, and of all their canaries."""

    at: datetime
    api: float
    stages: float
    canaries: float


class Found:
    """The signs that have appeared; what was found out once stays so."""

    def __init__(self) -> None:
        self._signs: dict[KnownOverlap, Sign] = {}

    def __bool__(self) -> bool:
        return bool(self._signs)

    def add(self, signs: Iterable[Sign | None]) -> None:
        """Keep the signs of an observation, the first for each interpretation."""
        for sign in signs:
            if sign is not None:
                self._signs.setdefault(sign.overlap, sign)

    def contrary(self, stated: Overlap) -> Sign | None:
        """What contradicts a stated interpretation."""
        if stated == "unknown":
            return None
        return next((sign for sign in self._signs.values() if sign.overlap != stated), None)

    def read(self, stated: Overlap) -> tuple[Overlap, str]:
        """The interpretation, and a sentence on how it was found; a contradicted one is void."""
        signs = list(self._signs.values())
        if len(signs) > 1:
            return "unknown", f"the signs contradict each other: {'; '.join(map(str, signs))}"
        if signs:
            return ("unknown" if self.contrary(stated) else signs[0].overlap), str(signs[0])
        if stated == "unknown":
            return stated, f"whether {_INCLUDED} is not known: the data have not shown it yet"
        return stated, f"whether {_INCLUDED} was stated ({stated}): the data have not confirmed it"


def by_excess(
    minutes: Iterable[Minute], alone_from: datetime | None, *, enough: int = ENOUGH
) -> Sign | None:
    """More requests or errors of the canary than of the stage, which so cannot include them.

    `alone_from`: since when the canary has had 100 %.
    """
    return _of_excess({minute.at for minute in minutes if _is_excess(minute, alone_from)}, enough)


def by_share(minutes: Sequence[Minute], percent: float) -> Sign | None:
    """The canary's part of the requests of a step, where it fits in one interpretation only."""
    part = _Part(_NO_TIME, percent)
    for minute in minutes:
        part.add(minute)
    return part.sign()


def by_all(minutes: Iterable[Minute], percent: float) -> Sign | None:
    """At 100 % the stage's series is equal to the canary's, or else empty, which is an excess."""
    served = [minute for minute in minutes if minute.canary_requests]
    if percent < 100 or len(served) < ENOUGH:
        return None
    if any(minute.baseline_requests != minute.canary_requests for minute in served):
        return None
    return Sign("included", f"at 100 % it is equal to the canary's in all {len(served)} minutes")


def by_totals(minutes: Iterable[Totals]) -> Sign | None:
    """The API's total is the sum of its stages, or that and the canaries: one of them, exactly.

    A minute in which neither holds shows that not all is known. Then there is no sign.
    """
    said: list[KnownOverlap | None] = []
    for _, api, stages, canaries in minutes:
        if canaries and api == stages:
            said.append("included")
        elif canaries:
            said.append("excluded" if api == stages + canaries else None)
    if len(said) < ENOUGH or len(set(said)) > 1 or said[0] is None:
        return None
    sum_of = {"included": "its stages", "excluded": "its stages and their canaries"}[said[0]]
    return Sign(said[0], f"in {len(said)} minutes the API's total is exactly that of {sum_of}")


def reading(series: Series, count: int, observation: Observation) -> tuple[Overlap, bool]:
    """How an observation's minutes are to be read, and whether they fit the percent then.

    Of the series' first `count` minutes. An unknown overlap is found out where the minutes
    themselves show it: from about 50 %; at small percents both interpretations come to the
    same. One minute of excess is enough here: this lasts for one observation, and a canary with
    more errors than the stage is not to be waited for. What a source states is trusted until some
    minutes contradict it: left out as impossible, they would be the very ones in which the canary
    failed.
    """
    counts, overlap = Interpretation(series, "excluded", count), observation.overlap
    first = observation.step_judged_from()
    part = counts.after(_Part, first, observation.percent)
    if overlap != "excluded":
        times = counts.after(_Excess, first if observation.percent == 100 else None).times
        if overlap == "unknown":
            sign = _of_excess(times, 1) or part.sign()
            overlap = sign.overlap if sign else "unknown"
        elif _of_excess(times, ENOUGH):
            overlap = "excluded"
    return overlap, any(map(part.fits, INTERPRETATIONS[overlap]))


def _is_excess(minute: Minute, alone_from: datetime | None) -> bool:
    """A stage without a request is none below 100 %: its minute may be lost."""
    if baseline_alone(minute) is not None:
        return False
    return minute.baseline_requests > 0 or (alone_from is not None and minute.at >= alone_from)


def _of_excess(times: Sized, enough: int) -> Sign | None:
    if len(times) < enough:
        return None
    return Sign("excluded", f"in {len(times)} minutes the canary has more than the stage")


class _Excess:
    """The minutes in which the canary has more than the stage."""

    def __init__(self, alone_from: datetime | None) -> None:
        self._alone_from = alone_from
        self.times: list[datetime] = []

    def add(self, minute: Minute, _: object) -> None:
        if _is_excess(minute, self._alone_from):
            self.times.append(minute.at)


class _Part:
    """The requests of both variants since a time, the first minute with that traffic percentage.

    Without minutes that must have had requests of the baseline and show none: they are lost.
    """

    def __init__(self, first: datetime, percent: float) -> None:
        self._first, self._percent = first, percent
        self._canary = self._baseline = 0.0

    def add(self, minute: Minute, _: object = None) -> None:
        lost = not minute.baseline_requests and lacks_data(
            minute.canary_requests, 1 - self._percent / 100
        )
        if minute.at >= self._first and not lost:
            self._canary += minute.canary_requests
            self._baseline += minute.baseline_requests

    def fits(self, overlap: Overlap) -> bool:
        """Whether the canary's part of them is about its traffic percentage."""
        most = max(self._baseline, self._canary)
        total = most if overlap == "included" else self._baseline + self._canary
        return not contradict(self._canary, total, self._percent / 100)

    def sign(self) -> Sign | None:
        """The interpretation in which it fits, where that is one only."""
        fitting: list[KnownOverlap] = [overlap for overlap in _EITHER if self.fits(overlap)]
        if len(fitting) != 1:
            return None
        ground = f"only then is the canary's part of the requests {self._percent:g} %"
        return Sign(fitting[0], ground)
