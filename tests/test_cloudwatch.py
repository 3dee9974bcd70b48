"""Minutes from CloudWatch: what is asked, what is made of the answers, what is not believed."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, ClassVar, Literal

import attrs
import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from apigw_canary import (
    CanaryState,
    CloudWatchMetrics,
    Hold,
    Minute,
    Observation,
    Promote,
    RolloutPolicy,
    Signal,
    Stage,
)
from apigw_canary.errors import AccessDeniedError, InvalidInputError, MetricsError
from apigw_canary.metrics.source import Query, kept_minute, plan
from apigw_canary.testing import Backend, Rehearsal, rehearsal
from cloud import END, MINUTE, SIGNALS, STAGE, START, Aws, at, read


class TestMinutes:
    def test_both_arms_of_each_signal(self) -> None:
        """Each signal gets the requests of both arms, and its own bad ones among them."""
        aws = Aws(
            {
                ("Count", "prod"): {at(0): 900.0, at(1): 800.0},
                ("5XXError", "prod"): {at(0): 9.0, at(1): 8.0},
                ("4XXError", "prod"): {at(0): 90.0, at(1): 80.0},
                ("Count", "prod/Canary"): {at(0): 100.0, at(1): 70.0},
                ("5XXError", "prod/Canary"): {at(0): 1.0, at(1): 0.0},
                ("4XXError", "prod/Canary"): {at(0): 10.0, at(1): 7.0},
            }
        )
        assert read(aws) == {
            "errors_5xx": [Minute(at(0), 900, 9, 100, 1), Minute(at(1), 800, 8, 70, 0)],
            "errors_4xx": [Minute(at(0), 900, 90, 100, 10), Minute(at(1), 800, 80, 70, 7)],
        }

    def test_a_minute_that_is_read_again_is_the_same_object(self) -> None:
        """One that CloudWatch has restated is another one, and so is one of whole numbers."""
        series = {
            ("Count", "prod"): {at(0): 900.0, at(1): 800.0},
            ("5XXError", "prod"): {at(0): 9.0, at(1): 8.0},
        }
        restated = {**series, ("5XXError", "prod"): {at(0): 9.0, at(1): 7.0}}
        first, second, third = (
            read(Aws(each), SIGNALS[:1])["errors_5xx"] for each in (series, series, restated)
        )
        assert all(one is other for one, other in zip(first, second, strict=True))
        assert third[0] is first[0]
        assert third[1] == Minute(at(1), 800, 7, 0, 0) != first[1]
        whole = kept_minute(at(0), 900, 9, 0, 0, 0, 0)
        assert whole == first[0]
        assert isinstance(whole.baseline_requests, int)

    def test_errors_without_a_count_are_not_known_yet(self) -> None:
        """A young minute with errors and no count, or the reverse, is still being published."""
        aws = Aws(
            {
                ("Count", "prod"): {at(6): 900.0, at(7): 900.0},
                ("Count", "prod/Canary"): {at(7): 100.0, at(8): 100.0},
                ("5XXError", "prod"): {at(6): 0.0, at(7): 1.0, at(9): 3.0},
                ("5XXError", "prod/Canary"): {at(5): 3.0, at(7): 0.0},
            }
        )
        assert read(aws, SIGNALS[:1])["errors_5xx"] == [
            Minute(at(6), 900, 0, 0, 0),
            Minute(at(7), 900, 1, 100, 0),
        ]

    @pytest.mark.parametrize("arm", ["prod", "prod/Canary"])
    def test_more_errors_than_requests_are_no_count(self, arm: str) -> None:
        """A minute that contradicts itself may still be being published: it is left out as long as
        it is young, and then one of which nothing is known. Left out for good, the minutes in which
        the canary failed could be the ones that are missing.
        """
        counts = {at(n): 5.0 for n in (0, 1, 2, 7)}
        aws = Aws(
            {
                ("Count", "prod"): counts,
                ("Count", "prod/Canary"): counts,
                ("5XXError", arm): {at(0): 0.0, at(1): 6.0, at(2): 5.0, at(3): 4.0, at(7): 6.0},
            }
        )
        rows = read(aws, SIGNALS[:1])["errors_5xx"]
        found = {
            row.at: (row.baseline_requests, row.baseline_bad, row.baseline_unknown)
            if arm == "prod"
            else (row.canary_requests, row.canary_bad, row.canary_unknown)
            for row in rows
        }
        assert found == {at(0): (5, 0, 0), at(1): (6, 0, 6), at(2): (5, 5, 0), at(3): (4, 0, 4)}

    def test_without_data_there_are_no_minutes(self) -> None:
        """Nothing published is nothing known: no minute says that there were no requests."""
        assert read(Aws()) == {"errors_5xx": [], "errors_4xx": []}

    @given(
        *[st.dictionaries(st.integers(0, 9), st.integers(0, 20), max_size=10) for _ in range(4)],
        st.integers(1, 9),
    )
    def test_any_series(
        self,
        baseline: dict[int, int],
        bad: dict[int, int],
        canary: dict[int, int],
        canary_bad: dict[int, int],
        page: int,
    ) -> None:
        """Whatever comes in whatever pages: a settled minute with requests or errors is there, and
        each request of it is a good one, a bad one, or one of unknown outcome. Where there is a
        number, it counts; what has none is a good one only if 0 is never published.
        """
        names = ("Count", "prod"), ("5XXError", "prod"), ("Count", "prod/Canary")
        every = (
            {n: count for n, count in baseline.items() if count},
            bad,
            {n: count for n, count in canary.items() if count},
            canary_bad,
        )
        series = {
            name: {at(n): float(value) for n, value in points.items()}
            for name, points in zip((*names, ("5XXError", "prod/Canary")), every, strict=True)
        }
        rows = {row.at: row for row in read(Aws(series, page=page), SIGNALS[:1])["errors_5xx"]}
        zeros = 0 in {*bad.values(), *canary_bad.values()}
        for n in range(10):
            row, known = rows.get(at(n)), True
            for arm, counts, errors in (
                ("baseline", every[0], every[1]),
                ("canary", every[2], every[3]),
            ):
                count, number = counts.get(n), errors.get(n)
                if count is None and number is None:
                    expected = (0, 0, 0)
                elif count is not None and number is not None and number <= count:
                    expected = (count, number, 0)
                else:
                    known = False
                    most = max(count or 0, number or 0)
                    expected = (most, 0, most)
                if row is not None:
                    each = tuple(getattr(row, f"{arm}_{x}") for x in ("requests", "bad", "unknown"))
                    assert each == expected or (each == (count, 0, 0) and not zeros)
            if n >= 5:
                assert known or row is None
            elif known and (n in every[0] or n in every[2]):
                assert row is not None

    def test_minutes_whose_errors_are_late(self) -> None:
        """A young minute whose errors have not come is left out, one that had the time for it has
        requests of unknown outcome: those minutes may be the ones in which requests failed.
        """
        counts = {at(n): 9.0 for n in range(10)}
        late = {at(n): 0.0 for n in range(3)}
        aws = Aws(
            {
                ("Count", "prod"): counts,
                ("Count", "prod/Canary"): counts,
                ("5XXError", "prod"): late,
                ("5XXError", "prod/Canary"): late,
            }
        )
        assert read(aws, SIGNALS[:1])["errors_5xx"] == [
            *(Minute(at(n), 9, 0, 9, 0) for n in range(3)),
            *(Minute(at(n), 9, 0, 9, 0, 9, 9) for n in range(3, 5)),
        ]

    @pytest.mark.parametrize(
        "arm, others", [("prod", 0.0), ("prod/Canary", 0.0), ("prod/Canary", 2.0)]
    )
    @pytest.mark.parametrize("known", [{}, {at(0): 0.0, at(1): 2.0, at(3): 1.0}])
    def test_errors_of_one_arm_that_do_not_come(
        self, arm: str, known: dict[Any, float], others: float
    ) -> None:
        """Each good request has a number of none, so a minute without a number is not a healthy
        one; nor is a canary without any number beside a baseline that has one each minute.
        """
        counts = {at(n): 9.0 for n in range(10)}
        other = "prod" if arm == "prod/Canary" else "prod/Canary"
        aws = Aws(
            {
                ("Count", "prod"): counts,
                ("Count", "prod/Canary"): counts,
                ("5XXError", other): {at(n): others for n in range(10)},
                ("5XXError", arm): known,
            }
        )
        name = "baseline" if arm == "prod" else "canary"
        rows = read(aws, SIGNALS[:1])["errors_5xx"]
        assert [row.at for row in rows] == [at(n) for n in range(5)]
        assert [getattr(row, f"{name}_unknown") for row in rows] == [
            0 if at(n) in known else 9 for n in range(5)
        ]
        assert [getattr(row, f"{name}_bad") for row in rows] == [
            known.get(at(n), 0) for n in range(5)
        ]

    def test_where_none_is_never_published(self) -> None:
        """Where no minute has a number of none, one without a number has none if the nearest
        minutes with requests have a number; what is not between two such is unknown.
        """
        counts = {at(n): 9.0 for n in range(10)}
        aws = Aws({("Count", "prod"): counts, ("5XXError", "prod"): {at(0): 3.0, at(2): 1.0}})
        rows = read(aws, SIGNALS[:1])["errors_5xx"]
        assert [(row.baseline_bad, row.baseline_unknown) for row in rows] == [
            (3, 0),
            (0, 0),
            (1, 0),
            (0, 9),
            (0, 9),
        ]

    def test_a_metric_that_is_missing_is_suspect(self) -> None:
        """Thousands of requests without one datapoint of their errors are missing data: named, and
        of each signal of which that is so.
        """
        counts = {at(n): 200.0 for n in range(10)}
        series = {("Count", "prod"): counts, ("Count", "prod/Canary"): counts}
        metrics = CloudWatchMetrics(session=Aws(series, zeros=False))
        assert metrics.minutes(STAGE, SIGNALS, START, at(9)).suspect is None  # 1,600 in 4 minutes
        found = metrics.minutes(STAGE, SIGNALS, START, END)
        assert found.suspect is not None
        assert "no datapoint of 5XXError and 4XXError" in found.suspect
        assert "2,000 requests since 2026-01-05 09:00 UTC" in found.suspect
        assert found["errors_5xx"][0] == Minute(at(0), 200, 0, 200, 0, 200, 200)
        one = {("5XXError", "prod/Canary"): {at(3): 0.0}}
        found = CloudWatchMetrics(session=Aws(series | one, zeros=False)).minutes(
            STAGE, SIGNALS, START, END
        )
        assert "no datapoint of 4XXError, of neither" in (found.suspect or "")

    @pytest.mark.parametrize("arm", ["prod", "prod/Canary"])
    def test_zero_errors_without_a_count_are_not_known_yet(self, arm: str) -> None:
        """An error datapoint, even of zero, says that there were requests: without their number
        the minute is left out, and not given as one without requests.
        """
        other = "prod" if arm == "prod/Canary" else "prod/Canary"
        aws = Aws(
            {
                ("5XXError", arm): {at(n): 0.0 for n in (0, 1, 2, 7, 8)},
                ("5XXError", other): {at(n): 0.0 for n in (1, 2, 7, 8)},
                ("Count", arm): {at(2): 5.0, at(8): 5.0},
                ("Count", other): {at(n): 9.0 for n in (1, 2, 7, 8)},
            }
        )
        assert [row.at for row in read(aws, SIGNALS[:1])["errors_5xx"]] == [at(2), at(8)]


class TestRequest:
    def test_is_what_aws_takes(self) -> None:
        """Sums of errors and sample counts by the minute, of both stages; and the API's total."""
        aws = Aws()
        read(aws, SIGNALS[:1])
        (request,) = aws.asked
        asked = {
            (
                query["MetricStat"]["Metric"]["Namespace"],
                query["MetricStat"]["Metric"]["MetricName"],
                *(d["Value"] for d in query["MetricStat"]["Metric"]["Dimensions"]),
                query["MetricStat"]["Stat"],
                query["MetricStat"]["Period"],
            )
            for query in request["MetricDataQueries"]
        }
        assert asked == {
            ("AWS/ApiGateway", "Count", "orders", "SampleCount", 60),
            ("AWS/ApiGateway", "Count", "orders", "prod", "SampleCount", 60),
            ("AWS/ApiGateway", "5XXError", "orders", "prod", "Sum", 60),
            ("AWS/ApiGateway", "Count", "orders", "prod/Canary", "SampleCount", 60),
            ("AWS/ApiGateway", "5XXError", "orders", "prod/Canary", "Sum", 60),
        }
        assert (request["StartTime"], request["EndTime"]) == (START, END)

    def test_asks_for_the_signals_only(self) -> None:
        """Every metric asked for is billed: a signal that is not in the policy is not asked for."""
        aws = Aws()
        read(aws, [Signal.errors_4xx()])
        metrics = [q["MetricStat"]["Metric"]["MetricName"] for q in aws.asked[0][QUERIES]]
        assert sorted(metrics) == ["4XXError", "4XXError", "Count", "Count", "Count"]

    def test_reads_all_pages(self) -> None:
        """A long answer comes in pages, and the pages are one answer."""
        points = {at(n): 10.0 for n in range(10)}
        aws = Aws({("Count", "prod"): points, ("Count", "prod/Canary"): points}, page=14)
        assert len(read(aws, SIGNALS[:1])["errors_5xx"]) == 10
        assert len(aws.asked) == 3  # 4 series of 10, and one without any
        assert [request.get("NextToken") for request in aws.asked] == [None, "14", "28"]

    def test_name_is_asked_once(self) -> None:
        """API Gateway is asked for names once, however often one looks."""
        aws = Aws()
        metrics = CloudWatchMetrics(session=aws)
        for _ in range(3):
            metrics.minutes(STAGE, SIGNALS, START, END)
        assert aws.named == ["GetRestApis", "GetStages a1b2c3d4e5"]
        assert len(aws.asked) == 3

    def test_given_name_saves_the_call(self) -> None:
        """With `api_name` API Gateway is not asked for it; the metrics are those of that name."""
        aws = Aws()
        read(aws, api_name="invoices")
        assert aws.named == ["GetStages a1b2c3d4e5"]
        names = {
            query["MetricStat"]["Metric"]["Dimensions"][0]["Value"]
            for query in aws.asked[0][QUERIES]
        }
        assert names == {"invoices"}

    def test_canary_stage_can_be_told(self) -> None:
        """AWS does not document the canary's dimension, so another one can be given."""
        aws = Aws({("Count", "canary-of-prod-1"): {at(0): 7.0}})
        rows = read(aws, canary_stage="canary-of-{stage}-1")["errors_5xx"]
        assert rows == [Minute(at(0), 0, 0, 7, 0)]

    @pytest.mark.parametrize(
        "bad", ["", "prod/Canary", "{Stage}", "{stage", "{stage}{x}", "{stage}/{0}", "{stage}}"]
    )
    def test_canary_stage_is_checked(self, bad: str) -> None:
        """A pattern that the stage's name cannot be put into is refused when it is given."""
        with pytest.raises(InvalidInputError) as raised:
            CloudWatchMetrics(canary_stage=bad)
        assert raised.value.field == "canary_stage"
        assert repr(bad) in str(raised.value)

    @pytest.mark.parametrize("bad", ["both", "", None, True])
    def test_overlap_is_checked(self, bad: Any) -> None:
        """The overlap is one of three, and a refusal names them."""
        with pytest.raises(InvalidInputError, match="excluded, included, unknown") as e:
            CloudWatchMetrics(overlap=bad)
        assert e.value.field == "overlap"

    @pytest.mark.parametrize("signal", [Signal.custom("refunds"), Signal(name="slow")])
    def test_other_signals_are_refused(self, signal: Signal) -> None:
        """A signal that CloudWatch does not have is refused by name, before anything is sent."""
        aws = Aws()
        with pytest.raises(InvalidInputError) as raised:
            read(aws, [Signal.errors_5xx(), signal])
        assert raised.value.field == "signals"
        assert repr(signal.name) in str(raised.value)
        assert "errors_5xx, errors_4xx" in str(raised.value)
        assert (aws.asked, aws.named) == ([], [])

    @pytest.mark.parametrize(
        "window", [{"start": datetime(2026, 1, 5, 9)}, {"end": datetime(2026, 1, 5, 10)}]
    )
    def test_naive_times_are_refused(self, window: dict[str, datetime]) -> None:
        """A time without a zone would be read as the machine's: another hour's metrics."""
        aws = Aws()
        with pytest.raises(InvalidInputError):
            read(aws, **window)  # type: ignore[arg-type]
        assert aws.asked == []


QUERIES = "MetricDataQueries"


class TestHalfAnswers:
    @pytest.mark.parametrize("status", ["PartialData", "InternalError", "Forbidden"])
    @pytest.mark.parametrize(
        "query",
        ["baseline_requests", "canary_requests", "canary_errors_5xx", "baseline_errors_5xx"],
    )
    def test_are_refused(self, status: str, query: str) -> None:
        """Half an answer would look like minutes without errors: it is an error, in AWS's words."""
        message = {"Code": "Oops", "Value": "An internal error occurred for this query"}
        aws = Aws(
            {("Count", "prod"): {at(0): 5.0}},
            trouble={query: {"StatusCode": status, "Messages": [message]}},
        )
        with pytest.raises(MetricsError) as raised:
            read(aws)
        assert status in str(raised.value)
        assert "An internal error occurred for this query" in str(raised.value)
        assert raised.value.remedy

    def test_without_a_message(self) -> None:
        """Where CloudWatch gives no reason, the message is whole all the same."""
        aws = Aws(trouble={"canary_requests": {"StatusCode": "InternalError"}})
        with pytest.raises(MetricsError, match="InternalError for canary_requests\\."):
            read(aws)

    def test_error_on_an_earlier_page(self) -> None:
        """An error counts on whichever page it stands."""
        aws = Aws(
            {("Count", "prod"): {at(n): 5.0 for n in range(10)}},
            page=3,
            trouble={"baseline_requests": {"StatusCode": "Forbidden"}},
        )
        with pytest.raises(MetricsError, match="Forbidden"):
            read(aws)

    def test_partial_within_pages_is_whole(self) -> None:
        """A series that goes on on the next page is no half answer."""
        points = {at(n): 5.0 for n in range(10)}
        aws = Aws({("Count", "prod"): points}, page=4)
        assert len(read(aws, SIGNALS[:1])["errors_5xx"]) == 10

    def test_refusals_come_through(self) -> None:
        """A missing permission is told as such, with the action."""

        class Denied(Aws):
            def get_metric_data(self, **request: Any) -> dict[str, Any]:
                text = "User: x is not authorized to perform: cloudwatch:GetMetricData"
                error: Any = {"Error": {"Code": "AccessDenied", "Message": text}}
                raise ClientError(error, "GetMetricData")

        with pytest.raises(AccessDeniedError, match="Allow cloudwatch:GetMetricData"):
            read(Denied())


class TestHostileAnswers:
    """What AWS would not answer is an error, and no minute; see also `TestHalfAnswers`."""

    @pytest.mark.parametrize(
        "points",
        [
            {"Timestamps": [at(0)], "Values": [float("nan")]},
            {"Timestamps": [at(0)], "Values": [float("inf")]},
            {"Timestamps": [at(0)], "Values": [-1.0]},
            {"Timestamps": [at(0)], "Values": []},
            {"Timestamps": [at(0) + timedelta(seconds=7)], "Values": [1.0]},
            {"Timestamps": [at(0), at(0)], "Values": [1.0, 2.0]},
        ],
    )
    def test_numbers_that_cannot_be(self, points: dict[str, Any]) -> None:
        """Not a number, less than none, not at a minute, or twice and different."""
        with pytest.raises(MetricsError, match="answer for canary_errors_5xx is not valid"):
            read(Aws(trouble={"canary_errors_5xx": points}))

    def test_a_series_without_an_answer(self) -> None:
        """Errors that were asked for and are not answered for are not none."""

        class Forgetful(Aws):
            def get_metric_data(self, **request: Any) -> dict[str, Any]:
                answer = super().get_metric_data(**request)
                answer["MetricDataResults"].pop(1)
                return answer

        with pytest.raises(MetricsError, match="did not answer for baseline_errors_5xx"):
            read(Forgetful())

    def test_twice_the_same_in_any_order(self) -> None:
        """Repeated and unsorted datapoints are the same datapoints."""
        times = [at(2), at(0), at(1), at(0)]
        points = {"Timestamps": times, "Values": [3.0, 1.0, 2.0, 1.0]}
        rows = read(Aws(trouble={"baseline_requests": points}), SIGNALS[:1])["errors_5xx"]
        assert [(row.at, row.baseline_requests) for row in rows] == [
            (at(n), n + 1) for n in range(3)
        ]


class TestPlan:
    @given(st.integers(0, 2500), st.integers(1, 20_000))
    def test_calls_are_within_the_limits(self, count: int, minutes: int) -> None:
        """All queries, each once, in calls of at most 500 queries and 100,800 datapoints; and
        hardly more calls than those limits need.
        """
        queries = [Query(f"q{n}", "Count", "Sum", ()) for n in range(count)]
        calls = plan(queries, START, START + minutes * MINUTE)
        assert [query for call in calls for query in call] == queries
        assert all(0 < len(call) <= 500 and len(call) * minutes <= 100_800 for call in calls)
        least = max(-(-count // 500), -(-count * minutes // 100_800))
        assert len(calls) <= 1.25 * least + 1

    def test_a_long_window_is_read_in_several_calls(self) -> None:
        """Seven series of 13 days are more than one call gives, and come together all the same."""
        days = {START + n * timedelta(days=1): 9.0 for n in range(13)}
        aws = Aws({("Count", "prod"): days, ("5XXError", "prod"): days})
        rows = read(aws, end=START + timedelta(days=13))["errors_5xx"]
        assert [(row.at, row.baseline_bad) for row in rows] == list(days.items())
        assert [len(request[QUERIES]) for request in aws.asked] == [5, 2]


class TestHorizon:
    def test_what_is_no_longer_kept_is_said(self) -> None:
        """CloudWatch keeps minutes for 15 days: older ones are not asked for, with a note."""
        aws = Aws({("Count", "prod"): {at(0): 9.0}})
        metrics = CloudWatchMetrics(session=aws)
        found = metrics.minutes(STAGE, SIGNALS, END - timedelta(days=16), END)
        assert {request["StartTime"] for request in aws.asked} == {END - timedelta(days=15)}
        assert "CloudWatch no longer keeps the minutes before 2025-12-21 09:10 UTC: left out" in (
            found.notes
        )
        assert len(found["errors_5xx"]) == 1


class TestNames:
    @pytest.mark.parametrize(
        "name, published",
        [
            ("orders", "orders"),
            ("café ☕ eu", "caf  eu"),
            ("注文", "a1b2c3d4e5"),
            (" ☕", "a1b2c3d4e5"),
        ],
    )
    def test_what_is_not_ascii(self, name: str, published: str) -> None:
        """AWS leaves it out of the dimension, and takes the id where nothing is left."""
        for aws, api_name in ((Aws(apis={STAGE.rest_api_id: name}), None), (Aws(), name)):
            read(aws, api_name=api_name)
            names = {
                query["MetricStat"]["Metric"]["Dimensions"][0]["Value"]
                for query in aws.asked[0][QUERIES]
            }
            assert names == {published}

    @pytest.mark.parametrize("other", ["orders", "orders☕"])
    def test_that_are_shared(self, other: str) -> None:
        """Another API whose stage of the same name is counted too: suspect, with a remedy.

        Renamed, it is none.
        """
        aws = Aws(apis={STAGE.rest_api_id: "orders", "twin": other, "third": "invoices"})
        metrics = CloudWatchMetrics(session=aws)
        found = metrics.minutes(STAGE, SIGNALS, START, END)
        assert found.suspect is not None
        assert "has the same name, 'orders', as twin" in found.suspect
        assert "CloudWatchMetrics(api_name='orders')" in found.suspect
        assert read(aws, api_name="orders")
        aws.apis = {**aws.apis, "twin": "orders-old"}
        assert metrics.minutes(STAGE, SIGNALS, START, END).suspect is None

    def test_that_are_stated_are_not_doubted(self) -> None:
        """Who says which name is right is believed."""
        aws = Aws(apis={STAGE.rest_api_id: "orders", "twin": "orders"})
        metrics = CloudWatchMetrics(session=aws, api_name="orders")
        assert metrics.minutes(STAGE, SIGNALS, START, END).suspect is None

    def test_shared_with_an_api_of_other_stages(self) -> None:
        """Its stages are counted apart; only the API's total is not ours alone, and not used."""

        class Other(Aws):
            def get_stages(self, *, restApiId: str) -> dict[str, Any]:  # noqa: N803 - boto3's name
                return {"item": [{"stageName": "beta"}]}

        aws = Other(apis={STAGE.rest_api_id: "orders", "other": "orders"})
        found = CloudWatchMetrics(session=aws).minutes(STAGE, SIGNALS, START, END)
        assert found.suspect is None
        assert "as other, which have no stage prod" in found.notes[0]
        assert not any(query["Id"] == "api_requests" for query in aws.asked[0][QUERIES])

    @pytest.mark.parametrize(
        "code, doubted", [("AccessDenied", True), ("NotFoundException", False)]
    )
    def test_shared_with_an_api_that_cannot_be_seen(self, code: str, *, doubted: bool) -> None:
        """What may not be looked at is not known to be harmless; what is gone is."""

        class Hidden(Aws):
            def get_stages(self, *, restApiId: str) -> dict[str, Any]:  # noqa: N803 - boto3's name
                raise refused(code, "GetStages")

        aws = Hidden(apis={STAGE.rest_api_id: "orders", "other": "orders"})
        found = CloudWatchMetrics(session=aws).minutes(STAGE, SIGNALS, START, END)
        assert (found.suspect is not None) == doubted

    def test_of_metrics_in_another_account(self) -> None:
        """Where API Gateway does not know the API, a stated name is enough to read its metrics."""

        class Elsewhere(Aws):
            def get_stages(self, *, restApiId: str) -> dict[str, Any]:  # noqa: N803 - boto3's name
                raise refused("NotFoundException", "GetStages")

        aws = Elsewhere({("Count", "prod"): {at(0): 9.0}})
        metrics = CloudWatchMetrics(session=aws, api_name="orders")
        found = metrics.minutes(STAGE, SIGNALS, START, END)
        assert len(found["errors_5xx"]) == 1
        assert "cannot be compared with its stages" in found.notes[0]

    def test_that_cannot_be_compared(self) -> None:
        """Without permission to list the APIs the metrics are read, and a note says what is not
        known.
        """

        class Denied(Aws):
            def get_rest_apis(self, *, limit: int) -> dict[str, Any]:
                raise refused("AccessDeniedException", "GetRestApis")

        aws = Denied({("Count", "prod"): {at(0): 9.0}})
        found = CloudWatchMetrics(session=aws).minutes(STAGE, SIGNALS, START, END)
        assert len(found["errors_5xx"]) == 1
        assert found.suspect is None
        assert "that no other API has the same name could not be checked" in found.notes[0]

    @pytest.mark.long
    def test_doubts_hold(self) -> None:
        """A rollout of an API that shares its name is never promoted, until it is renamed."""
        policy = RolloutPolicy.canary(10, 10 * MINUTE)
        with rehearsal(api_name="orders") as aws:
            client = aws.session.client("apigateway")
            twin = client.create_rest_api(name="orders")["id"]
            client.create_deployment(restApiId=twin, stageName="prod")
            canary = aws.stage.enable_canary(10, variables={"alias": "v2"})
            aws.sleep(3600)
            decision = policy.decide(canary.observe(policy))
            assert isinstance(decision, Hold)
            assert f"the metrics are suspect: the API has the same name, 'orders', as {twin}" in (
                decision.reason
            )
            stated = CloudWatchMetrics(api_name="orders")
            stage = Stage(aws.rest_api_id, "prod", session=aws.session, metrics=stated)
            believed = stage.canary()
            assert believed is not None
            assert isinstance(policy.decide(believed.observe(policy)), Promote)


def refused(code: str, operation: str) -> ClientError:
    error: Any = {"Error": {"Code": code, "Message": "no"}}
    return ClientError(error, operation)


class TestMissingSeries:
    """A canary with a share and without requests: in the wrong place, or without traffic."""

    BUSY: ClassVar = {("Count", "prod"): {at(n): 900.0 for n in range(10)}}

    @pytest.mark.parametrize(
        "listed, said",
        [
            (["prod", "prod/Canary2"], "is missing: of 'orders' CloudWatch knows prod, prod/Can"),
            ([], "is missing: of 'orders' CloudWatch knows none"),
            (["prod", "prod/Canary"], "the series prod/Canary exists, without requests"),
        ],
    )
    def test_is_told_from_no_traffic(self, listed: list[str], said: str) -> None:
        """ListMetrics says which stages there are."""
        aws = Aws(self.BUSY, listed=listed)
        found = CloudWatchMetrics(session=aws).minutes(STAGE, SIGNALS, START, END)
        assert any(said in note for note in found.notes)

    def test_is_looked_for_every_five_minutes(self) -> None:
        """By the rollout's time, however often one looks."""
        aws = Aws(self.BUSY)
        metrics = CloudWatchMetrics(session=aws)
        for minute in (10, 10, 11, 14, 15, 16):
            metrics.minutes(STAGE, SIGNALS, START, at(minute))
        assert aws.named.count("ListMetrics") == 2

    def test_without_permission(self) -> None:
        """Then a note says that it is not known."""

        class Denied(Aws):
            def list_metrics(self, **request: Any) -> dict[str, Any]:
                raise refused("AccessDenied", "ListMetrics")

        found = CloudWatchMetrics(session=Denied(self.BUSY)).minutes(STAGE, SIGNALS, START, END)
        assert any("whether CloudWatch has a series prod/Canary" in note for note in found.notes)

    @pytest.mark.parametrize("percent", [0.0, 0.01, None])
    def test_is_not_looked_for_without_need(self, percent: float | None) -> None:
        """A canary that may well have had no requests, or none at all, has nothing to miss."""
        canary = None if percent is None else CanaryState(deployment_id="new222", percent=percent)
        aws = Aws(self.BUSY)
        stage = attrs.evolve(STAGE, canary=canary)
        CloudWatchMetrics(session=aws).minutes(stage, SIGNALS, START, END)
        assert "ListMetrics" not in aws.named

    def test_in_a_rehearsal(self) -> None:
        """A wrong dimension is told, with those that there are."""
        wrong = CloudWatchMetrics(canary_stage="{stage}-canary")
        with rehearsal() as aws:
            stage = Stage(aws.rest_api_id, "prod", session=aws.session, metrics=wrong)
            canary = stage.enable_canary(10, variables={"alias": "v2"})
            aws.sleep(1800)
            notes = canary.observe(RolloutPolicy.canary(10, 10 * MINUTE)).notes
        assert any("CloudWatch knows prod, prod/Canary (" in note for note in notes)


class TestWithAStage:
    @pytest.mark.long
    def test_overlap_is_carried_into_the_observation(self) -> None:
        """What was said of the overlap is what the judge reads; unsaid, it is unknown."""
        for overlap in ("included", "excluded", "unknown"):
            with rehearsal() as aws:
                metrics = CloudWatchMetrics(overlap=overlap)
                assert observed(aws, metrics).overlap == overlap
        with rehearsal() as aws:
            assert observed(aws, None).overlap == "unknown"

    def test_session_of_its_own_is_used(self) -> None:
        """Metrics in another account are read with the session that was given for them."""
        other = Aws({("Count", "prod"): {START - MINUTE: 77.0}}, region="us-east-1")
        with rehearsal() as aws:
            seen = observed(aws, CloudWatchMetrics(session=other))
            assert not any(call.service == "cloudwatch" for call in aws.calls)
        assert seen.minutes["errors_5xx"] == (Minute(START - MINUTE, 77, 0, 0, 0),)
        assert seen.failure is None

    def test_without_one_the_stage_s_is_used(self) -> None:
        """By default the stage's own session reads the metrics."""
        with rehearsal() as aws:
            observed(aws, CloudWatchMetrics(api_name="rehearsal"))
            operations = [call.operation for call in aws.calls]
        assert operations.count("GetMetricData") == 2  # the limit of latency, and the minutes
        assert "GetRestApi" not in operations

    @pytest.mark.long
    def test_one_object_serves_several_stages(self) -> None:
        """The same metrics object given to two stages does not mix them up."""
        metrics = CloudWatchMetrics()
        with (
            rehearsal(api_name="orders", requests_per_minute=100) as one,
            rehearsal(api_name="invoices", requests_per_minute=1000) as other,
        ):
            few, many = observed(one, metrics), observed(other, metrics)
        assert sum(row.baseline_requests for row in few.minutes["errors_5xx"]) < sum(
            row.baseline_requests for row in many.minutes["errors_5xx"]
        )

    def test_half_an_answer_is_a_failure_in_the_observation(self) -> None:
        """`observe` does not raise: what could not be read is said in the observation."""
        other = Aws(trouble={"canary_requests": {"StatusCode": "InternalError"}})
        with rehearsal() as aws:
            seen = observed(aws, CloudWatchMetrics(session=other))
        assert seen.minutes == {}
        assert seen.failure is not None
        assert "InternalError" in seen.failure


def observed(aws: Rehearsal, metrics: CloudWatchMetrics | None) -> Observation:
    stage = Stage(aws.rest_api_id, "prod", session=aws.session, metrics=metrics, sleep=aws.sleep)
    canary = stage.enable_canary(10, variables={"alias": "v2"})
    return canary.observe(RolloutPolicy.canary(10, 10 * MINUTE))


@pytest.mark.parametrize("overlap", ["excluded", "included"])
@pytest.mark.parametrize("seed", range(3))
def test_minutes_are_the_truth(overlap: Literal["excluded", "included"], seed: int) -> None:
    """Settled minutes have what was really served, by arm, whether the series overlap or not."""
    sick = Backend(errors_5xx=0.1, errors_4xx=0.2)
    with rehearsal(
        requests_per_minute=60, backends={"alias=v2": sick}, overlap=overlap, seed=seed
    ) as aws:
        aws.sleep(40)
        aws.stage.enable_canary(30, variables={"alias": "v2"})
        aws.sleep(900)
        aws.stage.rollback()
        aws.sleep(305)
        start, end = aws.now() - timedelta(hours=1), aws.now()
        metrics = CloudWatchMetrics(session=aws.session, overlap=overlap)
        found = metrics.minutes(aws.stage.describe(), SIGNALS, start, end)
        served = aws.served

    settled = end - 3 * MINUTE  # a minute, and two until its errors are there
    first = start.replace(second=0)
    true: dict[str, dict[datetime, list[int]]] = {"errors_5xx": {}, "errors_4xx": {}}
    for row in served:
        if first <= row.at <= settled:
            for name, rows in true.items():
                sums = rows.setdefault(row.at, [0, 0, 0, 0])
                if row.arm == "baseline" or overlap == "included":
                    sums[0] += row.requests
                    sums[1] += getattr(row, name)
                if row.arm == "canary":
                    sums[2] += row.requests
                    sums[3] += getattr(row, name)
    for name, rows in true.items():
        assert sum(sums[3] for sums in rows.values()) > 10
        assert [row for row in found[name] if row.at <= settled] == [
            Minute(minute, *sums) for minute, sums in sorted(rows.items())
        ]


@pytest.mark.long
def test_a_canary_whose_errors_are_missing_is_never_promoted() -> None:
    """Every second request fails, and CloudWatch has no series of errors: no good news."""
    policy = RolloutPolicy.linear(10, 40, timedelta(minutes=10))
    never = timedelta(days=30)
    with rehearsal(lag={"5XXError": never}, backends={"alias=v2": Backend(errors_5xx=0.5)}) as aws:
        canary = aws.stage.enable_canary(10, variables={"alias": "v2"})
        for _ in range(60):
            seen = canary.observe(policy)
            assert "no datapoint of 5XXError" in (seen.suspect or "")
            assert isinstance(policy.decide(seen), Hold)
            aws.sleep(60)
        last = canary.observe(policy).minutes["errors_5xx"][-1]
    assert last.canary_unknown == last.canary_requests > 0
    assert last.baseline_unknown == last.baseline_requests > 0


def test_minutes_whose_errors_are_missing_are_unknown_outcomes() -> None:
    """The canary's failures are published in no minute in which there were any: nothing is good."""
    with rehearsal(
        backends={"alias=v2": Backend(errors_5xx=0.5)},
        unpublished=lambda metric, stage, at: (
            (metric, stage) == ("5XXError", "prod/Canary") and at >= START + 10 * MINUTE
        ),
    ) as aws:
        canary = aws.stage.enable_canary(10, variables={"alias": "v2"})
        policy = RolloutPolicy.canary(10, timedelta(minutes=10))
        aws.sleep(20 * 60)
        rows = {row.at: row for row in canary.observe(policy).minutes["errors_5xx"]}
    assert rows[at(9)].canary_bad > 0 == rows[at(9)].canary_unknown
    assert rows[at(11)].canary_unknown == rows[at(11)].canary_requests > 0
    assert rows[at(11)].baseline_unknown == 0
