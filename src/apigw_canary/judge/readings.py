"""How a source's minutes are to be read: as those of two separate arms, or of the stage and a part.

Where it is not known whether the stage's series counts the canary's requests too, both readings
are judged, and the weaker evidence counts: valid whichever is true.
"""

from collections.abc import Iterable, Sequence
from typing import assert_never

from apigw_canary.judge.evidence import Row
from apigw_canary.judge.observation import Minute, Overlap


def as_rows(minutes: Sequence[Minute], overlap: Overlap) -> list[list[Row]]:
    """The minutes as rows of two separate arms, in each reading that is open."""
    match overlap:
        case "excluded":
            return [[_row(minute) for minute in minutes]]
        case "included":
            # A minute that does not fit counts as one without requests: no evidence, no history.
            return [[_row(minute.with_canary_subtracted()) for minute in minutes]]
        case "unknown":
            return [*as_rows(minutes, "excluded"), *as_rows(minutes, "included")]
        case _:
            assert_never(overlap)


def _row(minute: Minute | None) -> Row:
    if minute is None:
        return Row(0, 0, 0, 0)
    return Row(
        minute.baseline_requests,
        minute.baseline_bad,
        minute.canary_requests,
        minute.canary_bad,
        minute.baseline_unknown,
        minute.canary_unknown,
    )


def weakest(paths: Iterable[list[float]]) -> list[float]:
    """The evidence that all readings give."""
    return [min(values) for values in zip(*paths, strict=True)]
