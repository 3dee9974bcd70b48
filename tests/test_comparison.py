"""Both variants side by side, against what the rehearsal's requests really were."""

from __future__ import annotations

import json
import math
import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

import attrs
import pytest

from acting import V2, fresh
from apigw_canary import (
    AccessLogs,
    CloudWatchMetrics,
    ComparedValue,
    Comparison,
    Report,
    RolloutPolicy,
    Stage,
)
from apigw_canary.errors import InvalidInputError, MetricsError, StageChangedError
from apigw_canary.metrics.comparison import window
from apigw_canary.model.comparison import LatencyStatistics, VariantMetrics
from apigw_canary.testing import Backend, Rehearsal, rehearsal
from cloud import MINUTE, STAGE, START, Aws, at

BOTH: Sequence[Literal["excluded", "included"]] = ("excluded", "included")
SLOW = {"alias=v2": Backend(latency_ms=200, errors_5xx=0.01)}
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
NONE_KNOWN = LatencyStatistics()


def is_percentile(value: float, latencies: Sequence[float], share: float) -> bool:
    """By definition: that share is not above it, and no more than that share is below it."""
    ordered, number = sorted(latencies), len(latencies)
    return (
        bisect_right(ordered, value) >= share * number - 1e-6
        and bisect_left(ordered, value) <= share * number + 1e-6
    )


def check_latency(found: LatencyStatistics, latencies: Sequence[float]) -> None:
    if not latencies:
        assert found == NONE_KNOWN
        return
    assert found.mean == pytest.approx(statistics.fmean(latencies))
    assert found.p50 == statistics.median_low(latencies)
    for name, share in PERCENTILES.items():
        assert is_percentile(getattr(found, name), latencies, share)
    if len(latencies) >= 2000:
        cuts = statistics.quantiles(latencies, n=100)
        assert found.p90 == pytest.approx(cuts[89], rel=0.05)
        assert found.p99 == pytest.approx(cuts[98], rel=0.05)


def truth(aws: Rehearsal, arm: str, start: datetime, end: datetime) -> tuple[int, int, int]:
    """Requests, 4xx and 5xx of a variant."""
    rows = [row for row in aws.served if row.arm == arm and start <= row.at < end]
    return (
        sum(row.requests for row in rows),
        sum(row.errors_4xx for row in rows),
        sum(row.errors_5xx for row in rows),
    )


def check_counts(found: VariantMetrics, requests: int, bad_4xx: int, bad_5xx: int) -> None:
    assert found.requests == requests
    if requests:
        assert (found.errors_4xx, found.errors_5xx) == (bad_4xx, bad_5xx)
        assert found.errors_4xx_rate == pytest.approx(bad_4xx / requests)
        assert found.errors_5xx_rate == pytest.approx(bad_5xx / requests)
    else:
        assert (found.errors_5xx, found.errors_5xx_rate) == (None, None)


def check(aws: Rehearsal, compared: Comparison) -> None:
    """Each value is the one of the requests; what a mixture hides is None, and said to be."""
    start, end = compared.start, compared.end
    mixed = compared.baseline_includes_canary is not False
    for arm, found in (("baseline", compared.baseline), ("canary", compared.canary)):
        latencies = aws.latencies(arm, start, end)  # type: ignore[arg-type]
        if arm == "baseline" and compared.baseline_includes_canary is None:
            continue  # of the series as it is
        check_counts(found, *truth(aws, arm, start, end))
        assert found.requests_per_minute == pytest.approx(len(latencies) / ((end - start) / MINUTE))
        inner = [max(each - 3, 0) for each in latencies]  # as the rehearsal has it
        if arm == "baseline" and mixed:
            for statistic, values in (
                (found.latency, latencies),
                (found.integration_latency, inner),
            ):
                expected = statistics.fmean(values) if values else None
                assert (statistic.p50, statistic.p90, statistic.p99) == (None, None, None)
                assert statistic.mean == (
                    None if expected is None else pytest.approx(expected, rel=1e-6)
                )
        else:
            check_latency(found.latency, latencies)
            check_latency(found.integration_latency, inner)
    if mixed:
        assert any("has no percentiles" in note for note in compared.notes)
    for minute in compared.minutes:
        latencies = aws.latencies("canary", minute.at, minute.at + MINUTE)
        check_latency(minute.canary.latency, latencies)
        if not mixed:
            latencies = aws.latencies("baseline", minute.at, minute.at + MINUTE)
            check_latency(minute.baseline.latency, latencies)
            check_counts(minute.baseline, *truth(aws, "baseline", minute.at, minute.at + MINUTE))


def rehearsed(rate: float, overlap: Any, percent: float, minutes: int, **options: Any) -> None:
    with rehearsal(
        requests_per_minute=rate,
        overlap=overlap,
        backends=SLOW,
        history=20 * MINUTE if rate > 1000 else timedelta(hours=1),
        **options,
    ) as aws:
        canary = aws.stage.enable_canary(percent, variables=V2)
        aws.sleep(60 * (minutes + 5))
        compared = canary.compare()
        assert (compared.end - compared.start) == minutes * MINUTE
        assert compared.percentiles == "window"
        check(aws, compared)
        served = truth(aws, "canary", compared.start, compared.end)[0]
        if percent == 0:
            assert (served, compared.canary.requests) == (0, 0)
            assert compared.baseline_includes_canary is False
        elif rate >= 100:
            assert compared.baseline_includes_canary == (overlap == "included")


@pytest.mark.parametrize("percent", [0, 5, 50, 100])
@pytest.mark.parametrize("overlap", BOTH)
class TestAgainstTheRequests:
    def test_one_request_a_minute(self, overlap: str, percent: float) -> None:
        """Where there is next to nothing each value is still that of the requests."""
        rehearsed(1, overlap, percent, 60)

    def test_five_hundred(self, overlap: str, percent: float) -> None:
        """At ordinary traffic."""
        rehearsed(500, overlap, percent, 15)

    @pytest.mark.long
    @pytest.mark.no_cover
    def test_fifty_thousand(self, overlap: str, percent: float) -> None:
        """At high traffic."""
        rehearsed(50_000, overlap, percent, 3)


@pytest.mark.parametrize("overlap", BOTH)
def test_a_step_of_100(overlap: Literal["excluded", "included"]) -> None:
    """At 100 % the baseline has no requests, and so nothing that a healthy one would have."""
    with rehearsal(overlap=overlap, backends=SLOW) as aws:
        canary = aws.stage.enable_canary(100, variables=V2)
        aws.sleep(1200)
        compared = canary.compare()
        assert compared.baseline.requests == 0
        assert compared.baseline.errors_5xx_rate is None
        assert compared.baseline.latency == NONE_KNOWN
        assert {value.difference for value in compared.values() if value.unit == "ms"} == {None}


class TestWindow:
    def test_buckets_by_the_clock(self) -> None:
        """Where CloudWatch's periods begin elsewhere, percentiles are a median of minutes."""
        with rehearsal(buckets="clock", backends=SLOW, start=START + 7 * MINUTE) as aws:
            canary = aws.stage.enable_canary(50, variables=V2)
            aws.sleep(60 * 21)
            compared = canary.compare()
            assert compared.percentiles == "median of minutes"
            assert any("median of the minutes" in note for note in compared.notes)
            medians = [minute.canary.latency.p99 for minute in compared.minutes]
            assert compared.canary.latency.p99 in medians
            latencies = aws.latencies("canary", compared.start, compared.end)
            assert compared.canary.latency.p50 == pytest.approx(
                statistics.median(latencies), rel=0.05
            )
            assert compared.canary.latency.mean == pytest.approx(statistics.fmean(latencies))
            assert "a median of minutes" in Report(compared).text()

    @pytest.mark.long
    def test_one_bucket_of_other_minutes(self) -> None:
        """One value that is of other minutes too is not taken for that of the window."""
        with rehearsal(buckets="clock", history=timedelta(hours=2)) as aws:
            start = START - timedelta(hours=1, minutes=30)
            # 45 minutes from 07:30: periods begin at 06:45 and 07:30; then 40 minutes from there.
            assert aws.stage.compare(start, start + 45 * MINUTE).percentiles == "window"
            compared = aws.stage.compare(start, start + 40 * MINUTE)
            assert compared.percentiles == "median of minutes"

    @pytest.mark.traced
    @pytest.mark.long
    def test_longer_than_a_day(self) -> None:
        """CloudWatch has no period of more than a day."""
        with rehearsal(requests_per_minute=2, history=timedelta(hours=30)) as aws:
            end = aws.now() - timedelta(minutes=10)
            assert aws.stage.compare(end - timedelta(hours=24), end).percentiles == "window"
            compared = aws.stage.compare(end - timedelta(hours=25), end)
            assert compared.percentiles == "median of minutes"
            assert compared.canary.requests == 0
            assert compared.baseline.requests == truth(aws, "baseline", compared.start, end)[0]

    def test_complete_minutes_only(self) -> None:
        """Partial and young minutes are left out, and old ones that CloudWatch does not keep."""
        now = START + timedelta(days=20, seconds=30)
        found = window(START + timedelta(seconds=1), now, now)
        assert found.start == START + timedelta(days=5, minutes=1)
        assert found.end == START + timedelta(days=20) - 5 * MINUTE
        assert len(found.notes) == 2
        assert window(now, now + MINUTE, now).start == window(now, now + MINUTE, now).end
        past = window(START, START + MINUTE, START + timedelta(days=1))
        assert (past.start, past.end, past.notes) == (START, START + MINUTE, ())

    def test_too_young(self) -> None:
        """In the first minutes nothing is known, which no value hides."""
        with rehearsal() as aws:
            canary = aws.stage.enable_canary(50, variables=V2)
            aws.sleep(120)
            compared = canary.compare()
            assert compared.start == compared.end
            assert compared.baseline == compared.canary == VariantMetrics()
            assert "not known" in str(compared)
            assert "younger than 5 min" in Report(compared).markdown()
            assert "0 minutes" in compared.title

    def test_naive_or_reversed(self) -> None:
        """A window is in aware times, and ends after it begins."""
        with rehearsal() as aws:
            now = aws.now()
            for place in (aws.stage, rehearsal_alias(aws)):
                with pytest.raises(InvalidInputError, match="end"):
                    place.compare(now, now)
                with pytest.raises(InvalidInputError, match="start"):
                    place.compare(now.replace(tzinfo=None), now)


def rehearsal_alias(aws: Rehearsal) -> Any:
    return aws.alias("live")


class TestWhoseRequests:
    def test_after_the_rollout(self) -> None:
        """After its end a canary's comparison is of the time in which it had requests."""
        with rehearsal(backends=SLOW) as aws:
            canary = aws.stage.enable_canary(25, variables=V2)
            aws.sleep(1230)
            canary.rollback()
            ended = aws.now()
            aws.sleep(3600)
            compared = canary.compare()
            assert compared.end == ended.replace(second=0)
            check(aws, compared)

    def test_another_canary(self) -> None:
        """Where another canary has taken the place nothing is compared."""
        with rehearsal(backends=SLOW) as aws:
            canary = aws.stage.enable_canary(25, variables=V2)
            canary.rollback()
            aws.sleep(60)
            aws.stage.enable_canary(25, variables={"alias": "v3"})
            with pytest.raises(StageChangedError):
                canary.compare()

    @pytest.mark.long
    def test_a_past_window(self) -> None:
        """A stage compares whichever canaries ran, also none."""
        with rehearsal(backends=SLOW) as aws:
            before = aws.stage.compare(START - 30 * MINUTE, START)
            assert before.canary.requests == 0
            assert before.baseline_includes_canary is False
            aws.stage.enable_canary(25, variables=V2)
            aws.sleep(1800)
            aws.stage.rollback()
            aws.sleep(1800)
            check(aws, aws.stage.compare(START + 5 * MINUTE, START + 25 * MINUTE))

    def test_source_of_access_logs(self) -> None:
        """A stage that is judged by access logs is compared by CloudWatch all the same."""
        with rehearsal(backends=SLOW) as aws:
            canary = fresh(aws, metrics=AccessLogs()).enable_canary(25, variables=V2)
            aws.sleep(1200)
            check(aws, canary.compare())

    def test_canary_without_a_series(self) -> None:
        """A canary whose series is missing has no requests that are known, not none."""
        with rehearsal(backends=SLOW) as aws:
            metrics = CloudWatchMetrics(canary_stage="{stage}-other")
            canary = fresh(aws, metrics=metrics).enable_canary(25, variables=V2)
            aws.sleep(1800)
            compared = canary.compare()
            assert compared.canary == VariantMetrics()
            assert compared.baseline_includes_canary is None
            assert any("is missing" in note for note in compared.notes)

    def test_a_statement_that_is_contradicted(self) -> None:
        """What is stated and contradicted makes the counts suspect, in every form."""
        with rehearsal(backends=SLOW) as aws:
            metrics = CloudWatchMetrics(overlap="included")
            canary = fresh(aws, metrics=metrics).enable_canary(50, variables=V2)
            aws.sleep(1800)
            compared = canary.compare()
            assert compared.suspect is not None
            assert "The counts are suspect" in Report(compared).text()


FULL = dict.fromkeys(map(at, range(10)), 100.0)
SOME = dict.fromkeys(list(FULL)[:4], 100.0)


def compare(
    series: dict[tuple[str, str], Any], *, overlap: Any = "excluded", **options: Any
) -> Comparison:
    aws = Aws(series, **options)
    return CloudWatchMetrics(session=aws, overlap=overlap).compare(STAGE, START, at(10), at=at(60))


class TestMissing:
    def test_errors_that_never_came(self) -> None:
        """Minutes without a number of errors are left out of the rate, and counted."""
        errors = dict.fromkeys(list(FULL)[:5], 1.0)
        compared = compare(
            {
                ("Count", "prod"): FULL,
                ("Count", "prod/Canary"): FULL,
                ("5XXError", "prod"): FULL | dict.fromkeys(FULL, 0.0),
                ("5XXError", "prod/Canary"): errors,
            }
        )
        assert compared.canary.errors_5xx_rate == pytest.approx(0.01)
        assert compared.canary.errors_5xx == 5
        assert "no 5XXError of 500 requests of the canary" in " ".join(compared.notes)
        assert compared.minutes[-1].canary.errors_5xx is None

    def test_no_errors_at_all(self) -> None:
        """No datapoint of errors is no good news."""
        compared = compare({("Count", "prod"): FULL, ("Count", "prod/Canary"): FULL}, zeros=False)
        assert compared.canary.errors_5xx is None
        assert compared.canary.errors_5xx_rate is None

    def test_latencies_of_some(self) -> None:
        """Of how many requests the latency is known is said."""
        compared = compare(
            {("Count", "prod"): FULL, ("SampleCount", "prod"): SOME, ("Sum", "prod"): SOME}
        )
        assert "Latency of 400 of the 1,000 requests of the baseline's" in " ".join(compared.notes)

    def test_nothing_at_all(self) -> None:
        """Without any datapoint nothing is known, not even that there were no requests."""
        compared = compare({})
        assert compared.baseline == compared.canary == VariantMetrics()
        assert compared.minutes == ()
        assert "not known" in str(compared)

    def test_more_of_the_canary_than_of_the_stage(self) -> None:
        """Where it should be included and is more, no number below zero comes out."""
        one = {at(0): 150.0}
        compared = compare(
            {("Count", "prod"): FULL, ("Count", "prod/Canary"): one}, overlap="included"
        )
        assert compared.minutes[0].baseline.requests is None
        assert "1 minutes are left out, in which the canary has more" in " ".join(compared.notes)
        gone = {time: 100.0 for time in FULL if time != at(3)}
        compared = compare(
            {("Count", "prod"): gone, ("Count", "prod/Canary"): {at(3): 10.0}}, overlap="included"
        )
        assert compared.minutes[3].baseline.requests is None

    def test_half_an_answer(self) -> None:
        """What CloudWatch does not answer is no value."""
        with pytest.raises(MetricsError):
            compare(
                {("Count", "prod"): FULL},
                trouble={"baseline_requests": {"StatusCode": "InternalError"}},
            )

    def test_cache(self) -> None:
        """Hits and misses of a stage that has a cache."""
        compared = compare(
            {
                ("Count", "prod"): FULL,
                ("Count", "prod/Canary"): FULL,
                ("CacheHitCount", "prod"): dict.fromkeys(FULL, 60.0),
                ("CacheMissCount", "prod"): dict.fromkeys(FULL, 40.0),
                ("CacheHitCount", "prod/Canary"): dict.fromkeys(FULL, 10.0),
            },
            overlap="included",
        )
        assert (compared.baseline.cache_hits, compared.canary.cache_hits) == (500, 100)
        assert (compared.baseline.cache_misses, compared.canary.cache_misses) == (400, None)
        shown = {value.name: value for value in compared.values()}
        assert shown["cache hits"].difference == -400
        assert shown["cache misses"].difference is None


class TestAlias:
    def test_versions_side_by_side(self) -> None:
        """Of an alias the latency is the duration, of each version, also after the rollout."""
        versions = [Backend(latency_ms=50), Backend(latency_ms=150, errors_5xx=0.02)]
        with rehearsal(versions=versions, variables={"alias": "live"}) as aws:
            alias = aws.alias("live")
            canary = alias.enable_canary(20, version="2")
            aws.sleep(1200)
            compared = canary.compare()
            assert compared.canary.latency.p50 == pytest.approx(150, rel=0.1)
            assert compared.baseline.latency.p50 == pytest.approx(50, rel=0.1)
            assert compared.baseline_includes_canary is False
            both = compared.baseline.requests, compared.canary.requests
            assert (
                sum(map(float, filter(None, both)))
                == truth(aws, "baseline", compared.start, compared.end)[0]
            )
            # The rehearsal's API takes 3 ms of each.
            latencies = [x - 3 for x in aws.latencies("baseline", compared.start, compared.end)]
            assert (compared.canary.latency.mean or 0) * (both[1] or 0) + (
                compared.baseline.latency.mean or 0
            ) * (both[0] or 0) == pytest.approx(math.fsum(latencies))
            assert compared.canary.errors_4xx is None
            assert alias.compare(compared.start, aws.now()) == compared
            canary.rollback()
            ended = aws.now()
            aws.sleep(1800)
            after = canary.compare()
            assert after.end == ended
            assert after.canary.latency.p50 == pytest.approx(150, rel=0.1)
            # The alias itself knows its own version only by now.
            alone = alias.compare(compared.start, compared.end)
            assert alone.canary.requests == 0
            assert alone.baseline.requests == compared.baseline.requests
            with_own = type(alias)("orders", "live", session=aws.session, metrics=Nothing())
            assert with_own.compare(compared.start, compared.end) == alone
            assert canary_of(aws).compare().start == canary_of(aws).compare().end

    def test_a_canary_of_another_tool(self) -> None:
        """Without a record its start is when it was first seen."""
        with rehearsal(versions=[Backend(), Backend()], variables={"alias": "live"}) as aws:
            client = aws.session.client("lambda")
            client.update_alias(
                FunctionName="orders",
                Name="live",
                RoutingConfig=weights({"2": 0.2}),
            )
            canary = aws.alias("live").canary()
            assert canary is not None
            aws.sleep(1200)
            assert canary.compare().canary.requests
            client.update_alias(FunctionName="orders", Name="live", RoutingConfig=weights({}))
            assert canary.compare().canary.requests is None  # when it ended is not known


def weights(by_version: dict[str, float]) -> Any:
    return {"AdditionalVersionWeights": by_version}


def canary_of(aws: Rehearsal) -> Any:
    return aws.alias("live").enable_canary(10, version="2")


class Nothing:
    """A source that measures nothing."""

    def minutes(self, *_: object) -> dict[str, Any]:
        return {}


@pytest.fixture(scope="module")
def compared() -> Comparison:
    with rehearsal(backends=SLOW) as aws:
        canary = aws.stage.enable_canary(50, variables=V2)
        aws.sleep(1800)
        return canary.compare()


class TestForms:
    @pytest.mark.long
    def test_is_a_value(self, compared: Comparison) -> None:
        """Immutable, hashable, and plain JSON."""
        assert Comparison.from_dict(json.loads(json.dumps(compared.to_dict()))) == compared
        assert hash(compared) == hash(attrs.evolve(compared))

    def test_text_has_each_value(self, compared: Comparison) -> None:
        """Each value stands beside the other's, with its difference."""
        text = Report(compared).text(100)
        line = next(line for line in text.splitlines() if line.startswith("latency p99  "))
        p99 = {value.name: value for value in compared.values()}["latency p99"]
        assert f"{p99.baseline:.1f} ms" in line
        assert f"{p99.difference:+.1f} ms" in line
        assert str(compared) in Report(compared).json()
        assert json.loads(Report(compared).json())["data"]["differences"]["latency p99"] == (
            p99.difference
        )

    def test_page_has_charts(self, compared: Comparison) -> None:
        """Latency over time, a chart for each statistic; a notebook shows the same."""
        page = Report(compared).html()
        assert page.count('class="chart"') == 3
        assert "Is the canary slower on average?" in page
        assert 'class="chart"' in (compared._repr_html_() or "")
        assert "| latency p50 |" in Report(compared).markdown()

    def test_page_without_notes(self, compared: Comparison) -> None:
        """Where nothing is to be said of how the values were measured, no section is."""
        plain = attrs.evolve(compared, notes=(), suspect=None)
        assert "How they were measured" not in Report(plain).markdown()
        noted = attrs.evolve(compared, notes=("the API is new",), suspect="lines are missing")
        text = Report(noted).markdown()
        assert "The counts are suspect: lines are missing" in text
        assert "the API is new" in text

    @pytest.mark.long
    def test_chart_of_one_variant(self, compared: Comparison) -> None:
        """Where the baseline's percentiles are not known only the canary's are drawn."""
        with rehearsal(overlap="included", backends=SLOW) as aws:
            canary = aws.stage.enable_canary(50, variables=V2)
            aws.sleep(1800)
            mixed = canary.compare()
        assert mixed.minutes[0].at == compared.minutes[0].at
        page = Report(mixed).html()
        assert page.count('class="chart"') == 3
        assert "baseline not known" in page

    @pytest.mark.traced
    @pytest.mark.long
    def test_part_of_a_rollout(self, compared: Comparison) -> None:
        """A rollout's report has it as a part, and only a rollout's."""
        policy = RolloutPolicy.canary(50, timedelta(minutes=10))
        with rehearsal(backends=SLOW) as aws:
            canary = aws.stage.enable_canary(50, variables=V2)
            aws.sleep(1800)
            look = canary.observe(policy)
        report = Report([look], policy, comparison=compared)
        assert "Both variants, side by side" in report.markdown()
        assert json.loads(report.json())["data"]["comparison"]["differences"]
        assert "Both variants" not in Report([look], policy).markdown()
        with pytest.raises(InvalidInputError, match="comparison"):
            Report([look], policy, comparison="none")  # type: ignore[arg-type]
        with pytest.raises(InvalidInputError, match="comparison"):
            Report(compared, comparison=compared)
        with pytest.raises(InvalidInputError, match="policy"):
            Report(compared, policy)

    @pytest.mark.parametrize(
        "value, shown",
        [
            (ComparedValue("x", "", 1000.0, 1250.0), "+250"),
            (ComparedValue("x", "ms", 80.25, 79.0), "-1.2 ms"),
            (ComparedValue("x", "%", 0.1, 0.4), "+0.30 %"),
            (ComparedValue("x", "ms", None, 79.0), "not known"),
        ],
    )
    def test_differences(self, value: ComparedValue, shown: str) -> None:
        """The canary's less the baseline's, with its sign."""
        from apigw_canary.model.comparison import formatted

        assert formatted(value.difference, value.unit, signed=True) == shown


def test_any_stage_can_be_compared() -> None:
    """A second process compares the rollout that the first one began."""
    with rehearsal(backends=SLOW) as aws:
        first = aws.stage.enable_canary(25, release="r1", variables=V2)
        aws.sleep(1200)
        second = Stage(aws.rest_api_id, "prod", session=aws.session, sleep=aws.sleep).canary()
        assert second is not None
        assert second.compare() == first.compare()
