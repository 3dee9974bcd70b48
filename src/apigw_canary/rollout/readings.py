"""How a source's minutes are to be read: as those of two separate arms, or of the stage and a part.

Where it is not known whether the stage's series counts the canary's requests too, both readings
are judged, and the weaker evidence counts: valid whichever is true.
"""

from collections.abc import Iterable, Sequence
from typing import assert_never

from apigw_canary.rollout import shares
from apigw_canary.rollout.evidence import Row
from apigw_canary.rollout.observation import Minute, Observation, Overlap


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


def as_rows(minutes: Sequence[Minute], overlap: Overlap) -> list[list[Row]]:
    """The minutes as rows of two separate arms, in each reading that is open."""
    match overlap:
        case "excluded":
            return [[_row(minute) for minute in minutes]]
        case "included":
            # A minute that does not fit counts as one without requests: no evidence, no history.
            return [[_row(minute.apart()) for minute in minutes]]
        case "unknown":
            return [*as_rows(minutes, "excluded"), *as_rows(minutes, "included")]
        case _:
            assert_never(overlap)


def _row(minute: Minute | None) -> Row:
    if minute is None:
        return Row(0, 0, 0, 0)
    return Row(
        minute.baseline_requests, minute.baseline_bad, minute.canary_requests, minute.canary_bad
    )


def weakest(paths: Iterable[list[float]]) -> list[float]:
    """The evidence that all readings give."""
    return [min(values) for values in zip(*paths, strict=True)]
