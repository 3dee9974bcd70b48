"""Latency: the limit, the counts above it, and rollouts in which only latency gets worse."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Literal

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apigw_canary import (
    CloudWatchMetrics,
    Hold,
    Measurements,
    Minute,
    Observation,
    Promote,
    Rollback,
    RolloutPolicy,
    Signal,
)
from apigw_canary.errors import InvalidInputError, MetricsError
from apigw_canary.metrics.latency import LADDER, share_above, weighted_median
from apigw_canary.testing import Backend, Rehearsal, rehearsal
from cloud import END, MINUTE, STAGE, START, Aws, at

HOUR = timedelta(hours=1)
FIVE = Signal.errors_5xx()

Overlap = Literal["excluded", "included"]
both_overlaps = pytest.mark.parametrize("overlap", ["excluded", "included"])


class TestSignal:
    def test_several_stand_side_by_side(self) -> None:
        """Each has a name of its own, that says its limit."""
        signals = [
            Signal.latency(over=800),
            Signal.latency(over=812.5),
            Signal.latency(quantile=0.9),
            Signal.latency(quantile=0.99),
            Signal.latency(quantile=0.999),
        ]
        assert [signal.name for signal in signals] == [
            "latency_over_800ms",
            "latency_over_812_5ms",
            "latency_p90",
            "latency_p99",
            "latency_p99_9",
        ]
        signals[0] = Signal.latency(over=800, critical=True)
        assert RolloutPolicy.canary(10, MINUTE, signals=signals).signals == tuple(signals)

    def test_defaults_can_be_changed(self) -> None:
        """It is not critical and weighs less than errors, unless told otherwise."""
        assert not Signal.latency(over=800).critical
        assert Signal.latency(over=800).weight < FIVE.weight
        changed = Signal.latency(quantile=0.9, ratio=2, critical=False, report_only=True)
        assert (changed.ratio, changed.report_only) == (2, True)

    def test_is_a_default_signal(self) -> None:
        """A policy without signals of its own judges errors and latency."""
        assert RolloutPolicy.canary(5, MINUTE).signals == (
            Signal.errors_5xx(),
            Signal.errors_4xx(),
            Signal.latency(quantile=0.99),
        )

    def test_takes_nothing_from_5xx(self) -> None:
        """5xx has 5/7 of the evidence, as it had beside 4xx alone at weights of 0.5 and 0.2."""
        weights = [s.weight for s in RolloutPolicy.canary(5, MINUTE).signals]
        assert weights[0] / sum(weights) == pytest.approx(5 / 7)

    @pytest.mark.parametrize(
        "limit, field",
        [
            ({"over": 800, "quantile": 0.99}, "over"),
            ({"over": 0}, "over"),
            ({"over": "800"}, "over"),
            ({"over": float("nan")}, "over"),
            ({"over": 10**7}, "over"),
            ({"quantile": 99}, "quantile"),
            ({"quantile": 1}, "quantile"),
            ({"quantile": 0.2}, "quantile"),
            ({"quantile": "p99"}, "quantile"),
        ],
    )
    def test_needs_one_limit(self, limit: dict[str, Any], field: str) -> None:
        """At most one of the two, within its range; what is wrong is named."""
        with pytest.raises(InvalidInputError) as raised:
            Signal.latency(**limit)
        assert raised.value.field == field

    def test_has_not_two_limits(self) -> None:
        """However a signal is made, it has one limit at most."""
        with pytest.raises(InvalidInputError, match="quantile must be None if over"):
            attrs.evolve(Signal.latency(over=800), quantile=0.99)


values = st.lists(st.tuples(st.floats(1, 1e6), st.integers(0, 1000)), max_size=30)


@given(values)
def test_weighted_median(pairs: list[tuple[float, int]]) -> None:
    """Half of the weight is at or below it, and half at or above; there is none without weight."""
    median = weighted_median(pairs)
    total = sum(weight for _, weight in pairs)
    if median is None:
        assert total == 0
        return
    assert 2 * sum(weight for value, weight in pairs if value <= median) >= total
    assert 2 * sum(weight for value, weight in pairs if value >= median) >= total
    assert median in {value for value, weight in pairs if weight}


ladders = st.lists(st.floats(1, 1e5), min_size=len(LADDER), max_size=len(LADDER)).map(
    lambda rungs: dict(zip(LADDER, sorted(rungs), strict=True))
)


@given(ladders, st.floats(0, 2e5), st.floats(0, 2e5), st.integers(1, 5000))
def test_share_above(rungs: dict[str, float], one: float, other: float, requests: int) -> None:
    """Between 0 and 1, falling as the limit rises, and about between the rungs beside it."""
    low, high = sorted((one, other))
    above_low, above_high = (share_above(limit, rungs, requests) for limit in (low, high))
    assert above_low is not None
    assert above_high is not None
    assert 1 >= above_low >= above_high - 1e-9 >= -1e-9
    for (name, reached), (above_name, more) in pairwise(LADDER.items()):
        if rungs[name] < low < rungs[above_name]:
            assert 1 - more - 1 / requests <= above_low + 1e-9
            assert above_low <= 1 - reached + 1e-9


@given(st.lists(st.floats(1, 1000), min_size=1, max_size=8), st.floats(0, 1100))
def test_share_above_of_a_handful(latencies: list[float], limit: float) -> None:
    """Of few requests each is a rung, or beside one: the share is hardly ever off by a request."""
    ordered = sorted(latencies)
    n = len(ordered)
    rungs = {
        name: ordered[max(math.ceil(below * n - 1e-9), 1) - 1] for name, below in LADDER.items()
    }
    true = sum(latency > limit for latency in latencies)
    found = share_above(limit, rungs, n)
    assert found is not None
    if limit >= rungs["p75"]:
        assert found * n == pytest.approx(true, abs=1)
    if n <= 5 and limit >= rungs["p50"]:
        assert found * n == pytest.approx(true)


def test_share_above_is_exact_at_a_rung() -> None:
    """A limit that is a percentile has the share above that this percentile says."""
    rungs = {name: 100.0 * n for n, name in enumerate(LADDER, start=1)}
    for name, reached in list(LADDER.items())[1:]:
        assert share_above(rungs[name], rungs, 1000) == pytest.approx(1 - reached)
    assert share_above(rungs["p90"] + 50, rungs, 10**6) == pytest.approx(0.075, abs=1e-5)
    assert share_above(1, rungs, 1000) == 1


def test_share_above_of_what_cannot_be() -> None:
    """A rung that is missing, percentiles that fall, or no requests: nothing is known."""
    rungs = {name: 100.0 * n for n, name in enumerate(LADDER, start=1)}
    assert share_above(150, {**rungs, "p99": 10.0}, 100) is None
    assert share_above(150, rungs, 0) is None
    del rungs["p99"]
    assert share_above(150, rungs, 100) is None


def series(**points: Any) -> dict[tuple[str, str], dict[datetime, float]]:
    """Series of the fake AWS: `prod` and `canary` by statistic, each a number for ten minutes."""
    found = {}
    for arm, stage in (("prod", "prod"), ("canary", "prod/Canary")):
        for name, value in points.get(arm, {}).items():
            every = value if isinstance(value, dict) else dict.fromkeys(range(10), value)
            found[name, stage] = {at(n): float(number) for n, number in every.items()}
    return found


def measured(aws: Aws, *signals: Signal, **window: Any) -> Measurements:
    start, end = window.get("start", START), window.get("end", END)
    return CloudWatchMetrics(session=aws).minutes(STAGE, signals, start, end)


SLOW = Signal.latency(over=800)
RANK = "PR(:800)"


class TestCounts:
    def test_bad_is_what_is_above_the_limit(self) -> None:
        """Of each arm the requests that are not among the share up to the limit; whole counts are
        whole.
        """
        aws = Aws(series(prod={"Count": 700, RANK: 99}, canary={"Count": 30, RANK: 90}))
        rows = measured(aws, SLOW)["latency_over_800ms"]
        assert rows == tuple(Minute(at(n), 700, 7, 30, 3) for n in range(10))

    def test_interpolated_counts_are_fractional(self) -> None:
        """A share between two requests is kept as it is."""
        aws = Aws(series(prod={"Count": 700, RANK: 99.05}))
        assert measured(aws, SLOW)["latency_over_800ms"][0].baseline_bad == pytest.approx(6.65)

    def test_a_share_that_is_missing_is_not_zero(self) -> None:
        """A minute in which an arm has requests and no share, or a share and no requests, is not
        known yet. Once it is old enough its requests are of unknown outcome.
        """
        aws = Aws(
            series(
                prod={
                    "Count": dict.fromkeys(range(8), 9),
                    RANK: dict.fromkeys((0, 1, 3, 8, 9), 90),
                },
                canary={"Count": {0: 5, 1: 5, 2: 5}, RANK: {0: 80, 2: 80, 3: 80}},
            )
        )
        young = measured(aws, SLOW, end=at(5))["latency_over_800ms"]
        assert [row.at for row in young] == [at(0)]
        assert measured(aws, SLOW, end=at(10))["latency_over_800ms"] == (
            young[0],
            Minute(at(1), 9, 0.9, 5, 0, 0, 5),
            Minute(at(2), 9, 0, 5, 1, 9, 0),
            Minute(at(4), 9, 0, 0, 0, 9, 0),
        )

    def test_shares_beyond_all_are_an_error(self) -> None:
        """More than all of the requests is no answer, and nothing that could be left out."""
        aws = Aws(series(prod={"Count": 9, RANK: {0: 100, 1: 101, 2: 0}}))
        with pytest.raises(MetricsError, match="percentile rank of 101"):
            measured(aws, SLOW)

    def test_beside_errors(self) -> None:
        """Errors and several limits are read in one call."""
        aws = Aws(series(prod={"Count": 10, RANK: 90, "PR(:300)": 50, "5XXError": 2}))
        found = measured(aws, FIVE, SLOW, Signal.latency(over=300))
        assert {name: rows[0].baseline_bad for name, rows in found.items()} == {
            "errors_5xx": 2,
            "latency_over_800ms": 1,
            "latency_over_300ms": 5,
        }
        assert len(aws.asked) == 1

    def test_may_be_called_anything(self) -> None:
        """A signal with a limit is read whatever its name."""
        aws = Aws(series(prod={"Count": 10, RANK: 90}))
        assert measured(aws, Signal(name="zu langsam!", over=800))["zu langsam!"]


P99 = Signal.latency(quantile=0.99)


class TestLimitOfTheBaseline:
    def asked(self, p99: Mapping[int, float], count: Any = 100, **window: Any) -> Measurements:
        aws = Aws(series(prod={"Count": count, "p99": p99, "PR(:800)": 99}))
        return measured(aws, P99, **window)

    def test_is_the_median_weighted_by_requests(self) -> None:
        """A burst of slow minutes, or minutes with few requests, do not move it."""
        p99 = {0: 800, 1: 800, 2: 9000, 3: 9000, 4: 9000, 5: 20}
        found = self.asked(p99, {0: 900, 1: 900, 2: 300, 3: 300, 4: 300, 5: 100})
        assert found.notes[0].startswith(
            "latency_p99: over 800 ms, the median of the baseline's p99 in the minutes from "
            "2026-01-05 09:00 UTC to 2026-01-05 09:50 UTC"
        )
        assert found["latency_p99"][0].baseline_bad == 9

    def test_is_asked_for_once(self) -> None:
        """One more GetMetricData for a start that is new; several quantiles share it."""
        aws = Aws(series(prod={"Count": 100, "p99": 800, "p90": 300, "PR(:800)": 99}))
        metrics = CloudWatchMetrics(session=aws)
        for _ in range(3):
            metrics.minutes(STAGE, [P99, Signal.latency(quantile=0.9)], START, END)
        assert len(aws.asked) == 1 + 3
        window = aws.asked[0]["StartTime"], aws.asked[0]["EndTime"]
        assert window == (START, START + 50 * MINUTE)
        metrics.minutes(STAGE, [P99], START - MINUTE, END)
        assert len(aws.asked) == 1 + 3 + 2

    def test_does_not_move_with_what_comes_later(self) -> None:
        """A process that starts when the baseline has become slow finds the same limit."""
        slow_later = {n: 800.0 if n < 50 else 5000.0 for n in range(300)}
        aws = Aws(series(prod={"Count": dict.fromkeys(range(300), 100), "p99": slow_later}))
        notes = {
            measured(aws, P99, end=START + n * MINUTE).notes[0] for n in (55, 60, 61, 120, 300)
        }
        assert len(notes) == 1

    @pytest.mark.parametrize("count", [100, {}])
    def test_without_a_baseline(self, count: Any) -> None:
        """No latencies before the start, no limit: it is not observed, and the rest is read."""
        found = self.asked({} if count else {0: 5.0}, count)
        assert found.not_observed == {
            "latency_p99": "CloudWatch has no latencies of the baseline from 2026-01-05 09:00 UTC "
            "to 2026-01-05 09:50 UTC, which would set its limit"
        }
        assert dict(found) == {}

    def test_that_is_no_longer_kept(self) -> None:
        """The hour before a start of more than 15 days ago cannot be read."""
        found = self.asked({0: 5.0}, start=END - timedelta(days=16))
        assert found.not_observed["latency_p99"].endswith(
            "are no longer kept, which would set its limit"
        )


def ladder(scale: float) -> dict[str, float]:
    return {name: scale * (n + 1) for n, name in enumerate(LADDER)}


class TestPercentilesInstead:
    def test_where_ranks_come_back_empty(self) -> None:
        """Shares are taken from percentiles then, and the notes say so; asked for at once, and
        without a detour from then on.
        """
        aws = Aws(
            series(
                prod={"Count": dict.fromkeys(range(15), 1000)}
                | {name: dict.fromkeys(range(15), value) for name, value in ladder(200).items()},
                canary={"Count": {9: 100}} | {name: {9: v} for name, v in ladder(400).items()},
            )
        )
        metrics = CloudWatchMetrics(session=aws)
        found = metrics.minutes(STAGE, [SLOW], START, at(15))
        assert found["latency_over_800ms"][9] == Minute(at(9), 1000, 100, 100, 50)
        (note,) = [note for note in found.notes if "PR(:800)" in note]
        assert "estimated from Minimum, p50," in note
        assert len(aws.asked) == 2
        again = metrics.minutes(STAGE, [SLOW], START, at(15))
        assert again["latency_over_800ms"] == found["latency_over_800ms"]
        assert len(aws.asked) == 3

    def test_where_those_are_empty_too(self) -> None:
        """No minutes, and a note: never "no slow requests"; and ranks are looked for again."""
        counts = series(prod={"Count": dict.fromkeys(range(15), 1000)})
        aws = Aws(counts)
        metrics = CloudWatchMetrics(session=aws)
        found = metrics.minutes(STAGE, [FIVE, SLOW], START, at(15))
        assert found["latency_over_800ms"] == ()
        assert len(found["errors_5xx"]) == 15
        assert found.not_observed == {
            "latency_over_800ms": "CloudWatch has no latencies of the baseline"
        }
        aws.series = {**counts, **series(prod={RANK: 99})}
        assert metrics.minutes(STAGE, [FIVE, SLOW], START, at(15))["latency_over_800ms"]

    def test_not_before_ranks_are_due(self) -> None:
        """Ranks that are merely late are waited for."""
        aws = Aws(series(prod={"Count": 1000}))
        assert measured(aws, SLOW, end=at(9))["latency_over_800ms"] == ()
        assert len(aws.asked) == 1


POLICY = RolloutPolicy.canary(
    10, 15 * MINUTE, signals=[FIVE, Signal.latency(over=250), P99, Signal.latency(quantile=0.9)]
)


def rolled_out(aws: Rehearsal) -> tuple[list[Observation], Any]:
    canary = aws.stage.enable_canary(10, variables={"alias": "v2"})
    seen = []
    while True:
        seen.append(canary.observe(POLICY))
        decision = POLICY.decide(seen[-1])
        canary.apply(decision)
        if decision.final or len(seen) > 120:
            return seen, decision
        aws.sleep(60)


@pytest.mark.long
@both_overlaps
@pytest.mark.parametrize("ranks", [True, False])
def test_a_canary_that_is_only_slower(overlap: Overlap, ranks: bool) -> None:
    """It is rolled back, for its latency, whatever CloudWatch counts and answers."""
    with rehearsal(
        overlap=overlap, latency_ranks=ranks, backends={"alias=v2": Backend(latency_ms=110)}
    ) as aws:
        seen, decision = rolled_out(aws)
    assert isinstance(decision, Rollback)
    assert "the canary is worse: latency_" in decision.reason
    assert any("PR(:250)" in note for note in seen[-1].notes) == (not ranks)


@pytest.mark.long
@both_overlaps
@pytest.mark.parametrize("ranks", [True, False])
def test_a_canary_as_fast_as_the_baseline(overlap: Overlap, ranks: bool) -> None:
    """It is promoted; and another process finds the same limit on the way."""
    with rehearsal(overlap=overlap, latency_ranks=ranks) as aws:
        seen, decision = rolled_out(aws)
    assert isinstance(decision, Promote)
    assert (
        len({note for each in seen for note in each.notes if note.startswith("latency_p99:")}) == 1
    )


def test_without_latencies_nothing_goes_up() -> None:
    """A critical signal without data is never promoted."""
    with rehearsal(latency_ranks=False, lag={"Latency": timedelta(days=1)}) as aws:
        policy = RolloutPolicy.canary(
            10, 10 * MINUTE, signals=[FIVE, Signal.latency(over=250, critical=True)]
        )
        canary = aws.stage.enable_canary(10, variables={"alias": "v2"})
        aws.sleep(3600)
        observation = canary.observe(policy)
    decision = policy.decide(observation)
    assert isinstance(decision, Hold)
    assert "the metric source has given no minute of latency_over_250ms" in decision.reason
    assert "(latency_over_250ms is not observed: CloudWatch has no latencies" in decision.reason
    assert observation.minutes["latency_over_250ms"] == ()


def test_counts_are_the_truth() -> None:
    """What is counted from ranks is what the arms served, to the request."""
    slower = Backend(latency_ms=100, latency_spread=0.01)
    with rehearsal(
        api=Backend(latency_ms=50, latency_spread=0.01), backends={"alias=v2": slower}
    ) as aws:
        policy = RolloutPolicy.canary(
            30, 10 * MINUTE, signals=[Signal.latency(over=75, critical=True)]
        )
        canary = aws.stage.enable_canary(30, variables={"alias": "v2"})
        aws.sleep(600)
        rows = canary.observe(policy).minutes["latency_over_75ms"]
    lit = [row for row in rows if row.canary_requests]
    assert len(lit) > 5
    assert all(row.baseline_bad == 0 for row in rows)
    assert all(row.canary_bad == row.canary_requests for row in lit)


def test_a_rollout_without_history() -> None:
    """Without a baseline before the start only a limit of its own is judged, and each decision says
    so; the source has not failed.
    """
    with rehearsal(history=timedelta(0)) as aws:
        canary = aws.stage.enable_canary(10, variables={"alias": "v2"})
        aws.sleep(600)
        observation = canary.observe(POLICY)
    assert observation.failure is None
    assert observation.not_observed.keys() == {"latency_p99", "latency_p90"}
    decision = POLICY.decide(observation)
    assert isinstance(decision, Hold)
    assert "(latency_p99 is not observed: CloudWatch has no latencies" in decision.reason
    assert observation.minutes["latency_over_250ms"]
