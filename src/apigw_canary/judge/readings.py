"""How a source's minutes are to be read: as those of two separate arms, or of the stage and a part.

Where it is not known whether the stage's series counts the canary's requests too, both
interpretations are evaluated, and the weaker evidence counts: valid whichever is true.
"""

from collections.abc import Mapping, Sequence

from apigw_canary.judge.evidence import Row
from apigw_canary.judge.observation import Minute, Overlap, baseline_alone

INTERPRETATIONS: Mapping[Overlap, Sequence[Overlap]] = {
    "excluded": ("excluded",),
    "included": ("included",),
    "unknown": ("excluded", "included"),
}
"""In which ways minutes can be read, by what is known of the overlap."""


def as_row(minute: Minute, overlap: Overlap) -> Row:
    """The minute as a row of two separate variants, in one interpretation of the overlap.

    One that does not fit counts as one without requests: no evidence, no history.
    """
    baseline: tuple[float, float, float] | None
    if overlap == "excluded":
        baseline = (minute.baseline_requests, minute.baseline_bad, minute.baseline_unknown)
    else:
        baseline = baseline_alone(minute)
    if baseline is None:
        return Row(0, 0, 0, 0)
    requests, bad, unknown = baseline
    return Row(
        requests,
        bad,
        minute.canary_requests,
        minute.canary_bad,
        unknown,
        minute.canary_unknown,
    )


def weakest(paths: Sequence[list[float]]) -> list[float]:
    """The evidence that all readings give."""
    if len(paths) == 1:
        return paths[0]
    return [min(values) for values in zip(*paths, strict=True)]
