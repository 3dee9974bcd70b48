"""A fixed sample of `make fuzz`: any counts give a number, equal to what they gave before."""

from __future__ import annotations

import pytest

from fuzz_evidence import LEFT_OUT, agrees, evidence_before, paths, run, series

FOUND = (13098,)
"""Series that once gave a wrong number: nothing but errors of the baseline, so that the capital
after the boosted minute is too small for a float."""


@pytest.mark.long
@pytest.mark.no_cover
def test_any_series_gives_a_decision_and_numbers() -> None:
    """And, where the history is at hand, the numbers of commit 6e9fb79 for "worse"."""
    with evidence_before() as before:
        counts = run([*range(250), *FOUND], before)
    assert counts["series"] == 250 + len(FOUND)
    assert counts["with unknown outcomes"] > 100
    assert [what for what in counts if what.startswith("WRONG")] == []
    if before is not None:
        assert counts["equal to the code before"] > 100


def test_a_path_that_differs_is_noticed() -> None:
    """By more than a minute's correction for overshoot that may be left out."""
    path = paths(series(1))["worse"]
    assert agrees(path, path)
    assert not agrees(path, [log + 2 * LEFT_OUT for log in path])
