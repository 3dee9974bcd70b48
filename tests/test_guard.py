"""Where the canary has no baseline beside it: a step at 100 %, and quiet minutes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import attrs
import pytest

from apigw_canary import Minute, Observation, RolloutPolicy, Signal, Step
from apigw_canary.judge import guard
from apigw_canary.judge.analysis import SignalEvidence, gather_evidence
from apigw_canary.planning.simulation import binomial

MINUTE = timedelta(minutes=1)
START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
FULL = START + 30 * MINUTE
"""When the canary got 100 %."""
SCALES = (1, 100, 10**6)
"""Requests a minute."""


def policy(**signal: Any) -> RolloutPolicy:
    steps = [Step(50, 30 * MINUTE), Step(100, 30 * MINUTE)]
    return RolloutPolicy(steps, signals=[Signal.errors_5xx(**signal)])


def past(per_minute: float, rate: float) -> list[Minute]:
    """The hour before, and 30 minutes at 50 %."""
    hour = [
        Minute(START - (60 - i) * MINUTE, per_minute, rate * per_minute, 0, 0) for i in range(60)
    ]
    half, bad = per_minute / 2, rate * per_minute / 2
    return hour + [Minute(START + (1 + i) * MINUTE, half, bad, half, bad) for i in range(29)]


def at_full(
    minutes: Sequence[tuple[float, ...]],
    before: Iterable[Minute] = (),
    *,
    percent: float = 100,
    **f: Any,
) -> tuple[SignalEvidence, Observation]:
    """Minutes of a step without a baseline: requests, bad ones and unknown ones of the canary."""
    rows = list(before)
    for i, (n, x, *unknown) in enumerate(minutes):
        rows.append(Minute(FULL + (1 + i) * MINUTE, 0, 0, n, x, 0, *unknown))
    seen = Observation(
        at=FULL + (1 + len(minutes) + 5) * MINUTE,
        started_at=START,
        step_started_at=FULL,
        percent=percent,
        minutes={"errors_5xx": rows},
    )
    return gather_evidence(policy(**f), seen).signals[0], seen


class TestGrossFailure:
    @pytest.mark.parametrize("per_minute", SCALES)
    @pytest.mark.parametrize("healthy", [0, 20, 600])
    def test_a_canary_that_answers_nothing_but_errors(self, per_minute: int, healthy: int) -> None:
        """At one request a minute it takes some minutes, else one."""
        failing = 12 if per_minute == 1 else 1
        minutes = [(per_minute, 0)] * healthy + [(per_minute, per_minute)] * failing
        failure = guard.gross_failure(*at_full(minutes, past(per_minute, 0)))
        assert failure is not None
        assert failure.rate == 1

    @pytest.mark.parametrize("per_minute", [500, 10**6])
    def test_thirty_percent_for_two_minutes(self, per_minute: int) -> None:
        """And not for one."""
        bad, good = (per_minute, 0.3 * per_minute), (per_minute, 0.001 * per_minute)
        history = past(per_minute, 0.001)
        failure = guard.gross_failure(*at_full([good] * 20 + [bad] * 2, history))
        assert failure is not None
        assert str(failure) == (
            f"30.00 % of {2 * per_minute:,} requests in the last 2 minutes; before this step "
            "they were 0.10 % on the baseline"
        )
        assert guard.gross_failure(*at_full([good] * 20 + [bad], history)) is None
        assert guard.gross_failure(*at_full([bad] * 9 + [good], history)) is None

    def test_one_minute_of_nothing_but_errors_is_enough(self) -> None:
        failure = guard.gross_failure(*at_full([(500, 0), (500, 500)], past(500, 0.001)))
        assert failure is not None
        assert str(failure).startswith("100.00 % of 500 requests in the last minute; before")

    @pytest.mark.parametrize("per_minute", SCALES)
    def test_errors_later_than_requests(self, per_minute: int) -> None:
        """The latest three minutes have no errors yet; the older ones show it."""
        failing = 15 if per_minute == 1 else 5
        minutes = [(per_minute, 0)] * 20 + [(per_minute, per_minute)] * failing
        minutes += [(per_minute, 0)] * 3
        g, seen = at_full(minutes, past(per_minute, 0))
        seen = attrs.evolve(seen, at=seen.at - 3 * MINUTE)  # the latest is two minutes old
        g = gather_evidence(policy(), seen).signals[0]
        assert len(g.minutes) == len(g.confirmed) + 3
        failure = guard.gross_failure(g, seen)
        assert failure is not None
        assert failure.rate == 1

    def test_without_any_past_the_prior_decides(self) -> None:
        failure = guard.gross_failure(*at_full([(500, 500)]))
        assert failure is not None
        assert failure.past_rate is None
        assert str(failure).endswith("the baseline had no requests before this step")

    def test_not_below_100_percent_and_not_with_a_past_that_fails(self) -> None:
        bad = [(500, 500)] * 5
        assert guard.gross_failure(*at_full(bad, past(500, 0.001), percent=99)) is None
        assert guard.gross_failure(*at_full(bad, past(500, 0.05))) is None
        assert guard.gross_failure(*at_full([], past(500, 0.001))) is None

    def test_the_past_raises_the_threshold(self) -> None:
        """Ten times the odds of a past of 1.9 % are 16 %."""
        minutes = [(5000, 650)] * 5
        assert guard.gross_failure(*at_full(minutes, past(5000, 0.001))) is not None
        assert guard.gross_failure(*at_full(minutes, past(5000, 0.019))) is None

    def test_unknown_outcomes_count_as_good(self) -> None:
        history = past(500, 0.001)
        assert guard.gross_failure(*at_full([(500, 40, 460)] * 5, history)) is None

    @pytest.mark.long
    @pytest.mark.no_cover
    @pytest.mark.parametrize("per_minute", [5, 50, 500, 5000])
    def test_healthy_days_with_incidents_pass(self, per_minute: int) -> None:
        """Three incidents of eight minutes at 30 times the usual 0.1 %, in each of three days."""
        rng = Random(f"day {per_minute}")
        for _ in range(3):
            rates = [0.001] * 1440
            for begin in (200, 600, 1000):
                rates[begin : begin + 8] = [0.03] * 8
            minutes = [(per_minute, binomial(rng, per_minute, rate)) for rate in rates]
            for end in (208, 604, 1440):
                assert guard.gross_failure(*at_full(minutes[:end], past(per_minute, 0.001))) is None


class TestConfirmedByPast:
    def confirmed(
        self, minutes: Sequence[tuple[float, ...]], before: Iterable[Minute], **f: Any
    ) -> guard.AgainstPast:
        found = guard.confirmed_by_past(*at_full(minutes, before, **f), 0.05)
        assert found is not None
        return found

    @pytest.mark.parametrize("per_minute, minutes", [(1, 1500), (100, 15), (10**6, 1)])
    def test_a_canary_like_the_past(self, per_minute: int, minutes: int) -> None:
        found = self.confirmed([(per_minute, 0.001 * per_minute)] * minutes, past(1e5, 0.001))
        assert found.applies
        assert found.confirmed
        assert found.log_evidence >= found.log_threshold
        assert found.recent_rate == pytest.approx(0.001)

    @pytest.mark.parametrize("per_minute", SCALES)
    def test_a_canary_at_the_margin_is_not(self, per_minute: int) -> None:
        """The sentence can never show a rate above what is tolerated."""
        found = self.confirmed([(per_minute, 0.0062 * per_minute)] * 100, past(1e5, 0.001))
        assert not found.confirmed
        assert found.tolerated == pytest.approx(0.0061, rel=1e-3)

    def test_the_latest_ten_minutes_must_be_within_as_well(self) -> None:
        good, bad = (10_000, 10), (10_000, 100)
        history = past(10_000, 0.001)
        assert self.confirmed([good] * 60, history).confirmed
        assert not self.confirmed([good] * 60 + [bad] * 10, history).confirmed
        assert self.confirmed([bad] * 5 + [good] * 60, history).confirmed

    def test_unknown_outcomes_count_as_bad(self) -> None:
        found = self.confirmed([(10_000, 10, 100)] * 60, past(10_000, 0.001))
        assert not found.confirmed
        assert str(found) == (
            "canary 0.10 % of 600,000 requests (6,000 unknown) at 100 %, the baseline's past "
            "0.10 %, tolerated 0.61 %"
        )

    def test_a_past_that_is_no_measure(self) -> None:
        """Above 2 %, without requests, or with a tolerance of everything."""
        good = [(10_000, 10)] * 60
        for before, f in (
            (past(10_000, 0.03), {}),
            ([], {}),
            (past(10_000, 0.001), {"margin": 1.0}),
        ):
            found = self.confirmed(good, before, **f)
            assert not found.applies
            assert not found.confirmed

    def test_without_a_minute_nothing_is_confirmed(self) -> None:
        found = self.confirmed([], past(10_000, 0.001))
        assert not found.confirmed
        assert found.recent_rate is None
        assert str(found).startswith("canary no requests requests at") or "no requests" in str(
            found
        )

    def test_not_below_100_percent(self) -> None:
        assert guard.confirmed_by_past(*at_full([(9, 0)], past(9, 0), percent=50), 0.05) is None

    @pytest.mark.long
    @pytest.mark.no_cover
    def test_canaries_at_the_margin_are_rarely_confirmed(self) -> None:
        """The past being right; asked after each minute for two hours."""
        rng, confirmed = Random(5), 0
        for _ in range(40):
            counts = [(500, binomial(rng, 500, 0.00611)) for _ in range(120)]
            path = (
                self.confirmed(counts[:end], past(1e6, 0.001)).confirmed
                for end in range(20, 121, 20)
            )
            confirmed += any(path)
        assert confirmed <= 6


class TestExceedsPast:
    def test_the_latest_ten_minutes_against_the_past(self) -> None:
        good, bad = (1000, 30), (1000, 60)
        history = past(10_000, 0.03)
        assert guard.exceeds_past(*at_full([bad] * 20 + [good] * 10, history)) is None
        found = guard.exceeds_past(*at_full([good] * 20 + [bad] * 10, history))
        assert found is not None
        assert (found.requests, found.bad) == (10_000, 600)
        assert found.tolerated == pytest.approx(1.1 * found.past_rate + 0.005)
        assert guard.exceeds_past(*at_full([bad] * 20)) is None


class TestCanaryOnlyMinutes:
    @pytest.mark.parametrize("per_minute", SCALES)
    def test_failing_ones_forbid_until_they_are_well_again(self, per_minute: int) -> None:
        failing = [(per_minute, per_minute)] * (5 if per_minute == 1 else 2)
        history = past(per_minute, 0)
        found = guard.canary_only_excess(*at_full(failing, history, percent=90))
        assert found is not None
        assert "100.00 % of" in str(found)
        assert "canary requests failed in minutes without a baseline request" in str(found)
        well = [*failing, *[(per_minute, 0)] * 4]
        assert guard.canary_only_excess(*at_full(well, history, percent=90)) is not None
        well += [(per_minute, 0)]
        assert guard.canary_only_excess(*at_full(well, history, percent=90)) is None

    def test_without_any_baseline_the_prior_decides(self) -> None:
        """Twelve of twelve canary requests fail, and there is no other minute."""
        assert guard.canary_only_excess(*at_full([(2, 2)] * 6, percent=70)) is not None
        assert guard.canary_only_excess(*at_full([(2, 0)] * 6, percent=70)) is None

    def test_unknown_outcomes_count_as_bad(self) -> None:
        hidden = [(2, 0, 2)] * 6
        assert guard.canary_only_excess(*at_full(hidden, percent=70)) is not None

    def test_comparable_minutes_do_not_forbid(self) -> None:
        """They are evidence, and leave it to the comparison."""
        rows = [Minute(FULL + (1 + i) * MINUTE, 1, 0, 50, 50) for i in range(10)]
        g, seen = at_full([], [*past(100, 0), *rows], percent=90)
        seen = Observation(**{**_fields(seen), "at": FULL + 30 * MINUTE})
        g = gather_evidence(policy(), seen).signals[0]
        assert guard.canary_only_excess(g, seen) is None


def _fields(seen: Observation) -> dict[str, Any]:
    return {
        "at": seen.at,
        "started_at": seen.started_at,
        "step_started_at": seen.step_started_at,
        "percent": seen.percent,
        "minutes": seen.minutes,
        "overlap": seen.overlap,
    }


class TestComparableMinutes:
    def test_one_is_enough(self) -> None:
        assert not guard.has_comparable_minute(*at_full([(5, 0)] * 9))
        assert not guard.has_comparable_minute(*at_full([(5, 0)] * 9, past(5, 0)[:60]))
        assert guard.has_comparable_minute(*at_full([(5, 0)] * 9, past(5, 0)[:61]))

    def test_in_each_interpretation_of_the_overlap(self) -> None:
        """The stage's series equal to the canary's is either no baseline, or a baseline."""
        rows = [Minute(FULL + (1 + i) * MINUTE, 1, 0, 1, 0) for i in range(9)]
        fields = _fields(at_full([], percent=50)[1])
        for overlap, comparable in (("excluded", True), ("included", False), ("unknown", False)):
            seen = Observation(
                **{
                    **fields,
                    "at": FULL + 30 * MINUTE,
                    "minutes": {"errors_5xx": rows},
                    "overlap": overlap,
                }
            )
            g = gather_evidence(policy(), seen).signals[0]
            assert guard.has_comparable_minute(g, seen) is comparable
