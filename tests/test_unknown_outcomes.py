"""Requests whose outcome could not be read: what they count for, and what is said of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apigw_canary import Minute, Observation, Report, RolloutPolicy, Signal, Verdict
from apigw_canary.judge.analysis import gather_evidence
from apigw_canary.judge.guard import UnknownOutcomes, unknown_outcomes
from apigw_canary.planning.simulation import binomial

MINUTE = timedelta(minutes=1)
START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
POLICY = RolloutPolicy.canary(10, 10 * MINUTE, signals=[Signal.errors_5xx()])


def observed(
    *,
    baseline: tuple[float, float, float] = (900, 1, 0),
    canary: tuple[float, float, float] = (100, 0, 0),
    minutes: int = 60,
    overlap: str = "excluded",
) -> Observation:
    """Minutes alike: requests, bad ones, and those of unknown outcome, of each variant."""
    (n_b, x_b, u_b), (n_c, x_c, u_c) = baseline, canary
    rows = [Minute(START - (60 - i) * MINUTE, n_b, x_b, 0, 0, u_b) for i in range(60)]
    rows += [Minute(START + (i + 1) * MINUTE, n_b, x_b, n_c, x_c, u_b, u_c) for i in range(minutes)]
    if overlap == "included":
        rows = [row.with_canary_added() for row in rows]
    return Observation(
        at=START + (minutes + 6) * MINUTE,
        started_at=START,
        step_started_at=START,
        percent=10,
        minutes={"errors_5xx": rows},
        overlap=overlap,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("overlap", ["excluded", "included"])
def test_a_finding_counts_and_names_them(overlap: str) -> None:
    """Rates are those of the requests of known outcome."""
    finding = POLICY.analyze(
        observed(baseline=(900, 9, 90), canary=(100, 1, 20), overlap=overlap)
    ).findings[0]
    assert (finding.baseline_unknown, finding.canary_unknown) == (60 * 90, 60 * 20)
    assert finding.baseline_rate == pytest.approx(9 / 810)
    assert finding.canary_rate == pytest.approx(1 / 80)
    assert str(finding) == (
        "errors_5xx: canary 1.25 % of 4,800, baseline 1.11 % of 48,600 (the outcome of 1,200 "
        "canary and 5,400 baseline requests is unknown)"
    )


def test_a_canary_of_which_nothing_is_known_has_no_rate() -> None:
    """Not 0.00 %, which would look healthy."""
    finding = POLICY.analyze(observed(canary=(100, 0, 100))).findings[0]
    assert finding.canary_rate is None
    assert "canary no known outcome, baseline 0.11 %" in str(finding)


def test_without_them_nothing_is_said() -> None:
    """As ever."""
    assert "unknown" not in str(POLICY.analyze(observed()).findings[0])


def test_a_report_draws_what_is_known() -> None:
    """The table of the chart gives the requests of known outcome."""
    page = Report([observed(canary=(100, 2, 20))], POLICY).html()
    assert "2.50 % of 4,800" in page


def test_unknown_requests_of_the_canary_confirm_nothing() -> None:
    """A canary without a known error whose unknown part is above the margin is not confirmed."""
    confirmed = POLICY.analyze(observed(minutes=90))
    hidden = POLICY.analyze(observed(minutes=90, canary=(100, 0, 1)))
    assert confirmed.verdict is Verdict.NOT_WORSE
    assert hidden.verdict is Verdict.UNDECIDED
    assert hidden.findings[0].not_worse_evidence < 1


def test_unknown_requests_of_the_baseline_speak_against_the_baseline_only() -> None:
    """A canary that fails is not found where the baseline may have failed as often."""
    found = POLICY.analyze(observed(canary=(100, 5, 0)))
    hidden = POLICY.analyze(observed(canary=(100, 5, 0), baseline=(900, 1, 90)))
    assert found.verdict is Verdict.WORSE
    assert hidden.verdict is Verdict.UNDECIDED


@pytest.mark.long
def test_intervals_hold_both_completions() -> None:
    """With unknown outcomes the interval is wider at both ends."""
    known = POLICY.analyze(observed(canary=(100, 3, 0)), intervals=True).findings[0].difference
    hidden = (
        POLICY.analyze(observed(canary=(100, 3, 2), baseline=(900, 1, 9)), intervals=True)
        .findings[0]
        .difference
    )
    assert known is not None
    assert hidden is not None
    assert hidden.low < known.low
    assert hidden.high is not None
    assert known.high is not None
    assert hidden.high > known.high


def outcomes(seen: Observation) -> UnknownOutcomes:
    return unknown_outcomes(gather_evidence(POLICY, seen).signals[0], seen)


@pytest.mark.parametrize("scale", [0.01, 1, 10_000])
@pytest.mark.parametrize(
    "unknown, suspect", [(0, False), (0.0024, False), (0.0026, True), (0.5, True), (1, True)]
)
def test_above_half_the_margin_they_are_suspect(
    scale: float, unknown: float, suspect: bool
) -> None:
    """Half of the default margin is 0.25 %; at 1, 100 and 10⁶ canary requests a minute."""
    canary = (100 * scale, 0, 100 * scale * unknown)
    found = outcomes(observed(baseline=(900 * scale, 0, 0), canary=canary))
    assert found.suspect is suspect
    assert found.canary_part == pytest.approx(unknown)
    assert found.canary_requests == pytest.approx(1000 * scale)


def test_what_is_said_of_them() -> None:
    found = outcomes(observed(baseline=(900, 1, 9), canary=(100, 0, 20)))
    assert str(found) == (
        "the outcome of 20.00 % of 1,000 canary requests and of 1.00 % of 9,000 baseline requests "
        "could not be read, in the last 10 complete minutes with requests"
    )
    silent = outcomes(observed(canary=(0, 0, 0)))
    assert silent.canary_part is None
    assert not silent.suspect
    assert str(silent).startswith("the outcome of no canary requests and of 0.00 % of 9,000 base")


@pytest.mark.parametrize(
    "canary, baseline, clock",
    [
        (1.0, 0.0, True),  # of the canary nothing can be read
        (1.0, 1.0, False),  # of neither variant
        (0.05, 0.0, True),
        (0.05, 0.05, False),
        (0.05, 0.02, True),
        (0.05, 0.2, False),
        (0.004, 0.0, False),  # below the margin
    ],
)
@pytest.mark.parametrize("overlap", ["excluded", "included"])
def test_the_unobserved_clock(canary: float, baseline: float, clock: bool, overlap: str) -> None:
    """It runs only where more of the canary cannot be read than of the baseline."""
    seen = observed(
        baseline=(9000, 0, 9000 * baseline), canary=(1000, 0, 1000 * canary), overlap=overlap
    )
    since = outcomes(seen).unobserved_since
    assert since == (START + MINUTE if clock else None)


def test_the_clock_starts_with_the_first_such_minute_and_stops() -> None:
    """Ten minutes after the last unknown outcome nothing is left of it."""
    seen = observed(minutes=90)
    rows = [
        attrs.evolve(row, canary_bad=0, canary_unknown=20)
        if START + 30 * MINUTE <= row.at < START + 60 * MINUTE
        else row
        for row in seen.minutes["errors_5xx"]
    ]
    for minutes, since in ((30, None), (40, 30), (60, 30), (70, None)):
        part = [row for row in rows if row.at < START + minutes * MINUTE]
        at = START + (minutes + 2) * MINUTE
        found = outcomes(attrs.evolve(seen, at=at, minutes={"errors_5xx": part}))
        assert found.unobserved_since == (None if since is None else START + since * MINUTE)


def test_without_a_baseline_its_latest_minutes_are_compared() -> None:
    """As at 100 %: where its outcomes were as often unknown before, no clock runs."""
    for part, clock in ((0.2, False), (0, True)):
        seen = observed(baseline=(900, 0, 900 * part), canary=(100, 0, 20))
        rows = [
            row
            if row.at < START
            else attrs.evolve(row, baseline_requests=0, baseline_bad=0, baseline_unknown=0)
            for row in seen.minutes["errors_5xx"]
        ]
        found = outcomes(attrs.evolve(seen, minutes={"errors_5xx": rows}))
        assert (found.unobserved_since is not None) is clock


small = st.integers(0, 12)


@given(small, small, small, small, st.data())
def test_subtracting_the_canary_leaves_room_for_the_truth(
    bad_b: int, good_b: int, bad_c: int, good_c: int, data: st.DataObject
) -> None:
    """Whatever is unknown in the stage's series, in the canary's, or in both alike."""
    truth = Minute(START, bad_b + good_b, bad_b, bad_c + good_c, bad_c)
    hidden_bad_c, hidden_good_c = (data.draw(st.integers(0, n)) for n in (bad_c, good_c))
    n_b, n_c = bad_b + good_b + bad_c + good_c, bad_c + good_c
    canary = (n_c, bad_c - hidden_bad_c, hidden_bad_c + hidden_good_c)
    bad = bad_b + bad_c
    kind = data.draw(st.sampled_from(["all", "none", "alike"]))
    if kind == "all":  # no datapoint of the stage's series
        stage = (n_b, 0, n_b)
    elif kind == "none":  # none of the canary's
        stage, canary = (n_b, bad, 0), (n_c, 0, n_c)
    else:
        more_bad, more_good = (data.draw(st.integers(0, n)) for n in (bad_b, good_b))
        unknown = hidden_bad_c + hidden_good_c + more_bad + more_good
        stage = (n_b, bad - hidden_bad_c - more_bad, unknown)
    (n_b, x_b, u_b), (n_c, x_c, u_c) = stage, canary
    minute = Minute(START, n_b, x_b, n_c, x_c, u_b, u_c).with_canary_subtracted()
    assert minute is not None
    assert minute.baseline_requests == truth.baseline_requests
    assert minute.baseline_bad <= bad_b <= minute.baseline_bad + minute.baseline_unknown
    assert (minute.canary_bad, minute.canary_unknown) == (x_c, u_c)


def test_subtracting_notices_what_cannot_be() -> None:
    """Unknown outcomes are no excuse for a canary with more errors than they leave room for."""
    for minute in (
        Minute(START, 100, 3, 50, 9, 5),
        Minute(START, 100, 90, 50, 0, 10),
        Minute(START, 10, 0, 50, 0, 10, 50),
    ):
        assert minute.with_canary_subtracted() is None


def test_few_unknown_requests_start_no_clock() -> None:
    """One or two of ten may be chance; all of ten are not."""
    for unknown, clock in ((0.1, False), (1, True)):
        found = outcomes(observed(baseline=(9, 0, 0), canary=(1, 0, unknown)))
        assert (found.unobserved_since is not None) is clock


@pytest.mark.long
@pytest.mark.no_cover
def test_like_parts_of_both_never_run_the_clock_for_half_an_hour() -> None:
    """Unknown at random, in six rollouts of two hours, at 1 and at 20 %."""
    rng = Random(3)
    for part in (0.01, 0.2):
        for _ in range(6):
            rows = [
                Minute(
                    START + (1 + i) * MINUTE,
                    900,
                    0,
                    100,
                    0,
                    binomial(rng, 900, part),
                    binomial(rng, 100, part),
                )
                for i in range(120)
            ]
            seen = observed()
            for minutes in range(30, 121, 15):
                at = START + (minutes + 2) * MINUTE
                found = outcomes(attrs.evolve(seen, at=at, minutes={"errors_5xx": rows[:minutes]}))
                since = found.unobserved_since
                assert since is None or at - since < 30 * MINUTE


def test_an_open_overlap_takes_the_least_of_the_baseline() -> None:
    """And starts the clock only where each interpretation does."""
    seen = observed(baseline=(900, 0, 90), canary=(100, 0, 90))
    either = outcomes(attrs.evolve(seen, overlap="unknown"))
    excluded, included = (
        outcomes(attrs.evolve(seen, overlap=overlap)) for overlap in ("excluded", "included")
    )
    assert either.baseline_part == min(excluded.baseline_part or 0, included.baseline_part or 0)
    assert either.unobserved_since is not None
