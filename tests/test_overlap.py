"""Whether the stage's series include the canary's requests: found out, never wrongly, and said."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apigw_canary import (
    Analysis,
    CanaryState,
    CloudWatchMetrics,
    Hold,
    Measurements,
    Minute,
    Observation,
    Rollback,
    RolloutPolicy,
)
from apigw_canary.testing import Backend, Fault, Rehearsal, rehearsal
from cloud import SIGNALS, STAGE, START, Aws, at

pytestmark = pytest.mark.long

Truth = Literal["excluded", "included"]
Series = dict[tuple[str, str], dict[datetime, float]]

LATE = 5
"""Minutes for which the numbers of a minute may still change."""

both_truths = pytest.mark.parametrize("truth", ["excluded", "included"])


def published(
    truth: Truth, served: Sequence[tuple[int, int, int, int]], errors: Sequence[int] = ()
) -> Series:
    """The counts of baseline and canary of two stages, as CloudWatch has them if this is true.

    `errors` are the canary's, by the minute; the baseline has none.
    """
    series: Series = {
        (metric, stage): {}
        for metric in ("Count", "5XXError")
        for stage in ("", "prod", "prod/Canary", "beta", "beta/Canary")
    }
    for n, (baseline, canary, other, other_canary) in enumerate(served):
        included = truth == "included"
        counts = {
            "prod": baseline + canary * included,
            "prod/Canary": canary,
            "beta": other + other_canary * included,
            "beta/Canary": other_canary,
            "": baseline + canary + other + other_canary,
        }
        for stage, count in counts.items():
            if count:  # a minute without requests has no datapoint
                series["Count", stage][at(n)] = float(count)
                series["5XXError", stage][at(n)] = 0.0
        for stage, bad in (("prod/Canary", 1), ("prod", included)):
            if errors and errors[n] and bad:
                series["5XXError", stage][at(n)] = float(errors[n])
    return series


def look(
    series: Series, minutes: int, metrics: CloudWatchMetrics | None = None, **options: Any
) -> Measurements:
    """What is measured of the first so many minutes; in a process of its own, unless told."""
    percent = options.pop("percent", 10.0)
    aws = Aws(series, stages=["prod", "beta"])
    if metrics is None:
        metrics = CloudWatchMetrics(session=aws, **options)
    stage = attrs.evolve(STAGE, canary=CanaryState(deployment_id="new222", percent=percent))
    return metrics.minutes(stage, SIGNALS[:1], START, at(minutes))


def minute_of_a_tenth(total: int, more: int, other: int, other_canary: int) -> tuple[int, ...]:
    canary = max(min(total // 10 + more, total), 0)
    return total - canary, canary, other, other_canary


served_minutes = st.lists(
    st.builds(
        minute_of_a_tenth,
        st.integers(0, 200),
        st.integers(-1, 1),
        st.integers(0, 9),
        st.integers(0, 2),
    ),
    min_size=8,
    max_size=14,
)


@pytest.mark.no_cover
@given(st.sampled_from(["excluded", "included"]), served_minutes, st.data())
def test_what_is_found_out_is_never_wrong(
    truth: Truth, served: list[tuple[int, int, int, int]], data: st.DataObject
) -> None:
    """Whatever is late, half published or lost: the reading is the true one, or unknown."""
    errors = [data.draw(st.integers(0, canary)) for _, canary, *_ in served]
    whole = published(truth, served, errors)
    lost = data.draw(
        st.lists(st.tuples(st.sampled_from(sorted(whole)), st.integers(0, 13)), max_size=2)
    )
    for name, n in lost:
        whole[name].pop(at(n), None)
    aws = Aws(stages=["prod", "beta"])
    metrics = CloudWatchMetrics(session=aws)
    for minutes in range(8, len(served) + 1, 3):
        aws.series = {
            name: {
                time: value
                if time < at(minutes - LATE)
                else float(data.draw(st.integers(0, int(value))))
                for time, value in points.items()
                if time < at(minutes - LATE) or data.draw(st.booleans())
            }
            for name, points in whole.items()
        }
        found = metrics.minutes(STAGE, SIGNALS[:1], START, at(minutes))
        assert found.overlap in {truth, "unknown"}
        assert found.suspect is None


@both_truths
@pytest.mark.parametrize("canary", [1, 5, 10])
def test_three_minutes_of_totals_tell(truth: Truth, canary: int) -> None:
    """At any share three settled minutes are enough, and the notes say the verdict and why."""
    series = published(truth, [(0, 0, 7, 0)] * 2 + [(100 - canary, canary, 7, 1)] * 3)
    known = look(series, 5 + LATE, percent=canary)
    assert known.overlap == truth
    (note,) = known.notes
    assert ("do not include" in note) == (truth == "excluded")
    assert "3 minutes the API's total" in note
    unknown = look(series, 4 + LATE, percent=canary)
    assert unknown.overlap == "unknown"
    assert "the data have not shown it yet" in unknown.notes[0]


@both_truths
def test_a_total_that_fits_neither_tells_nothing(truth: Truth) -> None:
    """Where a minute's total is neither sum, something is missing, and nothing is concluded."""
    series = published(truth, [(95, 5, 7, 0)] * 10)
    series["Count", ""][at(2)] += 1
    assert look(series, 10 + LATE).overlap == "unknown"


@both_truths
def test_what_was_found_out_stays(truth: Truth) -> None:
    """Once it is known the other stages are not asked for, and what comes later changes nothing."""
    aws = Aws(published(truth, [(95, 5, 7, 0)] * 10), stages=["prod", "beta"])
    metrics = CloudWatchMetrics(session=aws)
    looks = [metrics.minutes(STAGE, SIGNALS[:1], START, at(n)) for n in (6, 12, 13, 14)]
    assert [found.overlap for found in looks] == ["unknown", truth, truth, truth]
    asked = [
        {
            d["Value"]
            for query in request["MetricDataQueries"]
            for d in query["MetricStat"]["Metric"]["Dimensions"]
        }
        for request in aws.asked
    ]
    own = {"orders", "prod", "prod/Canary"}
    assert asked == [own | {"beta", "beta/Canary"}] * 2 + [own] * 2


@both_truths
def test_another_process_finds_the_same(truth: Truth) -> None:
    """The same rows give the same reading, with the same grounds."""
    series = published(truth, [(95, 5, 7, 0)] * 10)
    assert look(series, 15) == look(series, 15)


@both_truths
def test_at_all_requests_the_stage_is_empty_or_equal(truth: Truth) -> None:
    """At 100 % the series tell by themselves, also where the API's total is of no use."""
    series = published(truth, [(0, 90, 0, 0)] * 10)
    del series["Count", ""]
    found = look(series, 15, percent=100)
    assert found.overlap == truth
    ground = {"included": "at 100 % it is equal to the canary's", "excluded": "has more than"}
    assert ground[truth] in found.notes[0]


def test_more_canary_than_stage_cannot_be_included() -> None:
    """Requests or errors: three minutes with more of the canary's than the stage's are enough."""
    requests = published("excluded", [(5, 95, 0, 0)] * 10)
    errors = published("excluded", [(100, 10, 0, 0)] * 10, errors=[1] * 10)
    for series in (requests, errors):
        del series["Count", ""]
        found = look(series, 15)
        assert found.overlap == "excluded"
        assert "minutes the canary has more than the stage" in found.notes[0]
        assert look(series, 2 + LATE).overlap == "unknown"


@both_truths
def test_lost_minutes_of_the_stage_are_no_sign(truth: Truth) -> None:
    """A stage without a datapoint beside a busy canary is one whose datapoint was lost."""
    series = published(truth, [(100, 900, 0, 0)] * 14, errors=[300] * 14)
    del series["Count", ""]
    for lost in (2, 3, 5, 6, 7, 9):
        for metric in ("Count", "5XXError"):
            del series[metric, "prod"][at(lost)]
    for minutes in range(6, 19):
        assert look(series, minutes, percent=90).overlap in {truth, "unknown"}
    assert look(series, 18, percent=90).overlap == truth


def test_signs_that_contradict_each_other() -> None:
    """Then nothing is known, both readings are judged, and the notes say what contradicts what."""
    aws = Aws(published("included", [(95, 5, 7, 0)] * 10), stages=["prod", "beta"])
    metrics = CloudWatchMetrics(session=aws)
    assert metrics.minutes(STAGE, SIGNALS[:1], START, at(15)).overlap == "included"
    aws.series = published("excluded", [(5, 95, 7, 0)] * 10)
    found = metrics.minutes(STAGE, SIGNALS[:1], START, at(15))
    assert found.overlap == "unknown"
    assert "contradict each other" in found.notes[0]


class TestStated:
    @both_truths
    def test_wins(self, truth: Truth) -> None:
        """What the caller says counts from the first minute."""
        series = published(truth, [(95, 5, 7, 0)] * 10)
        early, late = (look(series, n, overlap=truth) for n in (4, 15))
        assert (early.overlap, early.suspect) == (truth, None)
        assert f"stated ({truth})" in early.notes[0]
        assert (late.overlap, late.suspect) == (truth, None)

    @both_truths
    def test_is_not_believed_against_the_data(self, truth: Truth) -> None:
        """What the data contradict is not believed, and `suspect` states what they show."""
        stated = "included" if truth == "excluded" else "excluded"
        found = look(published(truth, [(95, 5, 7, 0)] * 10), 15, overlap=stated)
        assert found.overlap == "unknown"
        assert found.suspect is not None
        assert f"overlap='{stated}' was stated" in found.suspect
        assert "the API's total is exactly" in found.suspect


POLICY = RolloutPolicy.canary(10, timedelta(minutes=10))


def rolled_out(
    aws: Rehearsal,
    metrics: CloudWatchMetrics | None = None,
    *,
    policy: RolloutPolicy = POLICY,
    minutes: int = 60,
) -> list[Observation]:
    """The observations of a rollout to its end, or for some minutes."""
    stage = type(aws.stage)(
        aws.rest_api_id, "prod", session=aws.session, metrics=metrics, sleep=aws.sleep
    )
    canary = stage.enable_canary(policy.steps[0].percent, variables={"alias": "v2"})
    seen = []
    for _ in range(minutes):
        seen.append(canary.observe(policy))
        decision = policy.decide(seen[-1])
        canary.apply(decision)
        if decision.final:
            break
        aws.sleep(60)
    return seen


@pytest.mark.no_cover
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("errors", [0.001, 0.03])
def test_verdicts_do_not_depend_on_what_aws_counts(seed: int, errors: float) -> None:
    """The same traffic, read either way, comes to the same end, with the same counts."""
    ends: list[tuple[str, str]] = []
    analyses: list[Analysis] = []
    for truth in ("excluded", "included"):
        backends = {"alias=v2": Backend(errors_5xx=errors)}
        with rehearsal(overlap=truth, backends=backends, seed=seed) as aws:
            seen = rolled_out(aws)
            ends.append((truth, type(POLICY.decide(seen[-1])).__name__))
            aws.stage.rollback()
        with rehearsal(overlap=truth, backends=backends, seed=seed) as aws:
            aws.stage.enable_canary(10, variables={"alias": "v2"})
            aws.sleep(1200)
            canary = aws.stage.canary()
            assert canary is not None
            observation = canary.observe(POLICY)
            assert observation.overlap == truth
            analyses.append(POLICY.analyze(observation))
    assert ends[0][1] == ends[1][1] == ("Rollback" if errors > 0.01 else "Promote")
    assert analyses[0] == analyses[1]


@both_truths
def test_a_wrong_statement_holds(truth: Truth) -> None:
    """A rollout whose stated overlap the data contradict is never promoted, and says why."""
    wrong: Truth = "included" if truth == "excluded" else "excluded"
    with rehearsal(overlap=truth) as aws:
        seen = rolled_out(aws, CloudWatchMetrics(overlap=wrong), minutes=40)
    assert len(seen) == 40
    decision = POLICY.decide(seen[-1])
    assert isinstance(decision, Hold)
    assert "the metrics are suspect" in decision.reason
    assert "was stated, but the stage's series" in decision.reason


def test_a_bad_canary_is_rolled_back_whatever_is_doubted() -> None:
    """A suspect overlap prevents a shift, and never a rollback."""
    with rehearsal(backends={"alias=v2": Backend(errors_5xx=0.2)}) as aws:
        seen = rolled_out(aws, minutes=8)
    doubted = attrs.evolve(seen[-1], suspect="another API has the same name")
    assert isinstance(POLICY.decide(doubted), Rollback)


@both_truths
def test_without_permission_for_the_stages(truth: Truth) -> None:
    """Then a note says so, both readings are judged, and a share of a half tells in the end."""
    policy = RolloutPolicy.canary(50, timedelta(minutes=30))
    with rehearsal(overlap=truth) as aws:
        aws.fail("GetStages", Fault.ACCESS_DENIED)
        seen = rolled_out(aws, policy=policy, minutes=30)
    assert "apigateway:GET" in seen[0].notes[0]
    assert seen[0].overlap == "unknown"
    assert seen[-1].overlap == truth
    assert [each.failure for each in seen] == [None] * 30


def test_a_series_that_includes_what_is_interpolated() -> None:
    """Interpolated counts differ by a little: a canary with slightly more proves nothing."""
    row = next(iter(look(published("included", [(95, 5, 0, 0)] * 3), 9).minutes["errors_5xx"]))
    apart = attrs.evolve(row, baseline_bad=1.2, canary_bad=1.25).with_canary_subtracted()
    assert apart is not None
    assert (apart.baseline_requests, apart.baseline_bad) == (95, 0)
    assert attrs.evolve(row, baseline_bad=1, canary_bad=2).with_canary_subtracted() is None


@pytest.mark.parametrize("overlap", ["excluded", "included"])
def test_beside_another_source(overlap: Literal["excluded", "included"]) -> None:
    """Signals whose arms are apart are read as such, whatever the other source counts."""
    own = Minute(START, 95, 2, 5, 1)
    theirs = Minute(START, 95, 0, 5, 0) if overlap == "excluded" else Minute(START, 100, 0, 5, 0)
    found = Measurements({"errors_5xx": [theirs]}, overlap=overlap, notes=["said"])
    both = found.merged_with({"refunds": [own]})
    assert (both.overlap, both.notes, both["errors_5xx"]) == (overlap, ("said",), (theirs,))
    (row,) = both["refunds"]
    assert (row if overlap == "excluded" else row.with_canary_subtracted()) == own
