"""Requests whose outcome could not be read: what they count for, and what is said of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from apigw_canary import Minute, Observation, Report, RolloutPolicy, Signal, Verdict

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
