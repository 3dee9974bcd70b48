"""What a rehearsal promises to whoever tests a rollout with it."""

from __future__ import annotations

import math
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from statistics import NormalDist
from typing import Any, Final, Literal

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ParamValidationError, UnknownServiceError

from apigw_canary.planning.simulation import binomial
from apigw_canary.testing import (
    Backend,
    Conditions,
    Method,
    Rehearsal,
    RehearsalError,
    RehearsalWarning,
    rehearsal,
)
from apigw_canary.testing.traffic import poisson

MINUTE = timedelta(minutes=1)
START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
PROMOTION = [
    {"op": "copy", "from": "/canarySettings/deploymentId", "path": "/deploymentId"},
    {"op": "copy", "from": "/canarySettings/stageVariableOverrides", "path": "/variables"},
]


@pytest.fixture
def aws() -> Iterator[Rehearsal]:
    with rehearsal() as rehearsed:
        yield rehearsed


def gateway(aws: Rehearsal) -> Any:
    return aws.session.client("apigateway")


def replace(path: str, value: str) -> dict[str, str]:
    return {"op": "replace", "path": path, "value": value}


def remove(path: str) -> dict[str, str]:
    return {"op": "remove", "path": path}


def patch(aws: Rehearsal, *operations: dict[str, str]) -> Any:
    return gateway(aws).update_stage(
        restApiId=aws.rest_api_id, stageName="prod", patchOperations=list(operations)
    )


def canary(aws: Rehearsal, percent: float, **overrides: str) -> str:
    """A canary of a new deployment, by the safe way in; its deployment's id."""
    deployment_id: str = gateway(aws).create_deployment(restApiId=aws.rest_api_id)["id"]
    patch(
        aws,
        replace("/canarySettings/deploymentId", deployment_id),
        replace("/canarySettings/percentTraffic", str(percent)),
        *(
            replace(f"/canarySettings/stageVariableOverrides/{name}", value)
            for name, value in overrides.items()
        ),
    )
    return deployment_id


def query(metric: str, stat: str, stage: str | None = "prod", **more: Any) -> dict[str, Any]:
    """A metric query whose Id is not to be relied on; `more` goes into MetricStat."""
    dimensions = [{"Name": "ApiName", "Value": "rehearsal"}]
    if stage:
        dimensions.append({"Name": "Stage", "Value": stage})
    named = {"Namespace": "AWS/ApiGateway", "MetricName": metric, "Dimensions": dimensions}
    return {"Id": "q", "MetricStat": {"Metric": named, "Period": 60, "Stat": stat, **more}}


def data(aws: Rehearsal, *queries: dict[str, Any], **parameters: Any) -> Any:
    """GetMetricData of the last three hours, oldest first."""
    asked = {
        "StartTime": aws.now() - timedelta(hours=3),
        "EndTime": aws.now(),
        "ScanBy": "TimestampAscending",
        **parameters,
    }
    client: Any = aws.session.client("cloudwatch")
    return client.get_metric_data(
        MetricDataQueries=[{**each, "Id": f"q{n}"} for n, each in enumerate(queries)], **asked
    )


def points(
    aws: Rehearsal, metric: str, stat: str, stage: str | None = "prod", **parameters: Any
) -> dict[datetime, float]:
    (result,) = data(aws, query(metric, stat, stage), **parameters)["MetricDataResults"]
    return dict(zip(result["Timestamps"], result["Values"], strict=True))


def share(aws: Rehearsal, since: datetime) -> float:
    """The canary's share of the requests."""
    rows = [row for row in aws.served if row.at >= since]
    canary_requests = sum(row.requests for row in rows if row.arm == "canary")
    return canary_requests / sum(row.requests for row in rows)


def refused(call: Any, **parameters: Any) -> str:
    """How AWS refuses: code, status and text."""
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    error = caught.value.response
    status = error["ResponseMetadata"]["HTTPStatusCode"]
    return f"{error['Error']['Code']} {status} {error['Error']['Message']}"


class TestTraffic:
    @pytest.mark.parametrize("percent", [5, 33.33, 50, 90, 100])
    def test_splits_by_percent(self, aws: Rehearsal, percent: float) -> None:
        """The canary gets its percentage of the requests, give or take chance."""
        canary(aws, percent)
        aws.sleep(3600)

        assert share(aws, START) == pytest.approx(percent / 100, abs=0.015)

    def test_nothing_goes_to_a_canary_at_0(self, aws: Rehearsal) -> None:
        """A paused canary serves nothing and has no datapoints."""
        canary(aws, 0)
        aws.sleep(600)

        assert share(aws, START) == 0
        assert points(aws, "Count", "SampleCount", "prod/Canary") == {}

    def test_changes_count_from_the_second_they_are_made(self, aws: Rehearsal) -> None:
        """A minute in which the split changed has the requests of both halves."""
        aws.sleep(30)
        first = canary(aws, 100)
        aws.sleep(15)
        second = canary(aws, 100)
        aws.sleep(15)

        rows = [row for row in aws.served if row.at == START]
        assert {row.arm for row in rows} == {"baseline", "canary"}
        assert [row.deployment_id for row in rows[1:]] == [first, second]
        assert rows[0].requests == pytest.approx(250, abs=80)
        assert rows[1].requests == pytest.approx(125, abs=60)

    def test_rows_of_one_deployment_are_added_up(self, aws: Rehearsal) -> None:
        """A write in mid-minute does not split the row of a deployment that serves on."""
        aws.sleep(30)
        gateway(aws).create_deployment(restApiId=aws.rest_api_id)
        assert all(row.at < START for row in aws.served), "the minute is not over"
        aws.sleep(30)

        (row,) = (row for row in aws.served if row.at == START)
        assert row.requests == pytest.approx(500, abs=100)

    def test_a_deployment_captures_the_api_as_it_was(self, aws: Rehearsal) -> None:
        """Editing the API changes later deployments and leaves those that are there alone."""
        aws.edit(Backend(errors_5xx=0.5, errors_4xx=0.5))
        deployment_id = canary(aws, 50)
        aws.edit(Backend(errors_5xx=0))
        aws.sleep(600)

        rows = [row for row in aws.served if row.arm == "canary"]
        assert {row.deployment_id for row in rows} == {deployment_id}
        requests, bad = sum(r.requests for r in rows), sum(r.errors_5xx for r in rows)
        assert bad / requests == pytest.approx(0.5, abs=0.05)
        assert sum(r.errors_4xx for r in rows) + bad == requests
        baseline = [row for row in aws.served if row.arm == "baseline"]
        assert sum(r.errors_5xx for r in baseline) < 0.01 * sum(r.requests for r in baseline)

    def test_a_stage_variable_decides_over_the_deployment(self) -> None:
        """Requests fare as the backend they reach through their stage variables."""
        broken = Backend(errors_5xx=1, errors_4xx=0)
        with rehearsal(backends={"alias=v2": broken}) as aws:
            canary(aws, 20, alias="v2")
            aws.sleep(300)

            rows = [row for row in aws.served if row.arm == "canary"]
            assert rows
            assert all(row.errors_5xx == row.requests for row in rows)
            assert all(r.errors_5xx < 10 for r in aws.served if r.arm == "baseline")

    def test_a_backend_that_no_request_reached(self) -> None:
        """A rehearsal with canary requests says at its end which backends got none."""
        backends = {"alias=v2": Backend(), "alias=v3": Backend()}

        def rehearse(*, with_canary: bool) -> None:
            with rehearsal(backends=backends) as aws:
                if with_canary:
                    canary(aws, 20, alias="v2")
                aws.sleep(60)

        with pytest.warns(RehearsalWarning, match="reached the backends alias=v3: "):
            rehearse(with_canary=True)
        rehearse(with_canary=False)  # nothing is known of them then

    def test_the_rate_may_follow_the_clock(self) -> None:
        """A rate of zero means minutes without requests, and so without datapoints."""

        def night(at: datetime) -> float:
            return 0 if at.hour == 9 else 300

        with rehearsal(requests_per_minute=night) as aws:
            aws.sleep(2 * 3600)

            assert {row.at.hour for row in aws.served} == {8, 10}
            assert set(points(aws, "5XXError", "Sum")) == {
                row.at for row in aws.served if row.at <= aws.now() - 3 * MINUTE
            }

    @pytest.mark.long
    def test_same_seed_same_traffic(self) -> None:
        """The seed decides, and looking does not disturb; another seed is another run."""

        def run(*, seed: int, naps: int) -> Any:
            with rehearsal(seed=seed, history=5 * MINUTE) as aws:
                deployment_id = canary(aws, 10)
                for _ in range(naps):
                    aws.sleep(1800 / naps)
                    points(aws, "Latency", "p99")
                return deployment_id, aws.served

        assert run(seed=1, naps=6) == run(seed=1, naps=300)
        assert run(seed=1, naps=6) != run(seed=2, naps=6)

    def test_history_is_the_baselines(self) -> None:
        """Before the start there was only the first deployment, for as long as asked."""
        with rehearsal(history=timedelta(minutes=7)) as aws:
            assert [row.at for row in aws.served] == [START - n * MINUTE for n in range(7, 0, -1)]
            assert {row.arm for row in aws.served} == {"baseline"}

    @pytest.mark.parametrize("probability", [0, 0.001, 0.3, 0.5, 0.97, 1])
    def test_binomial_has_the_right_mean_and_variance(self, probability: float) -> None:
        """The sampler is exact; here its first two moments, within five standard errors."""
        rng, rounds, trials = random.Random(1), 4000, 200
        drawn = [binomial(rng, trials, probability) for _ in range(rounds)]
        check_moments(drawn, trials * probability, trials * probability * (1 - probability))

    @pytest.mark.parametrize("mean", [0, 0.2, 3, 50, 4000])
    def test_poisson_has_the_right_mean_and_variance(self, mean: float) -> None:
        """The sampler is exact; here its first two moments, within five standard errors."""
        rng = random.Random(1)
        check_moments([poisson(rng, mean) for _ in range(4000)], mean, mean)


def check_moments(drawn: list[int], mean: float, variance: float) -> None:
    n = len(drawn)
    found = sum(drawn) / n
    spread = sum((each - found) ** 2 for each in drawn) / n
    assert found == pytest.approx(mean, abs=5 * math.sqrt(variance / n) + 1e-9)
    # The fourth moment of both distributions is 3 variance² + about one variance.
    error = math.sqrt((2 * variance**2 + variance) / n)
    assert spread == pytest.approx(variance, abs=5 * error + 1e-9)


class TestMetrics:
    @pytest.mark.parametrize("overlap", ["excluded", "included"])
    def test_series_by_overlap(self, overlap: Any) -> None:
        """The stage's series has the canary's requests or not; the API's total always has."""
        with rehearsal(overlap=overlap) as aws:
            canary(aws, 40)
            aws.sleep(600)
            stage, own, total = (
                points(aws, "Count", "SampleCount", series, StartTime=START)
                for series in ("prod", "prod/Canary", None)
            )
            truth = {(row.at, row.arm): row.requests for row in aws.served}

        assert len(total) == 9
        for at, requests in total.items():
            baseline, canaries = truth[at, "baseline"], truth[at, "canary"]
            assert requests == baseline + canaries
            assert own[at] == canaries
            assert stage[at] == (baseline if overlap == "excluded" else requests)

    def test_names_are_published_in_ascii(self) -> None:
        """As on AWS; a name of which nothing is left is not simulated."""
        with rehearsal(api_name="caf\u00e9") as aws:
            client = aws.session.client("cloudwatch")
            listed = client.list_metrics(Namespace="AWS/ApiGateway", MetricName="Count")["Metrics"]
        assert {m["Dimensions"][0]["Value"] for m in listed} == {"caf"}
        with pytest.raises(RehearsalError, match="under an API's id"), rehearsal(api_name="\u6ce8"):
            pass

    @pytest.mark.traced
    @pytest.mark.long
    @pytest.mark.parametrize("ranks", [True, False])
    def test_ranks_of_latency_may_come_back_empty(self, *, ranks: bool) -> None:
        """Nobody has recorded what CloudWatch answers; percentiles are there in any case."""
        with rehearsal(latency_ranks=ranks) as aws:
            for statistic in ("PR(:80)", "TC(:80)"):
                assert bool(points(aws, "Latency", statistic)) == ranks
            assert points(aws, "Latency", "p99")

    def test_errors_come_later_than_counts(self, aws: Rehearsal) -> None:
        """A young minute has its Count and not yet its errors."""
        assert max(points(aws, "Count", "Sum")) == START - 2 * MINUTE
        assert max(points(aws, "5XXError", "Sum")) == START - 3 * MINUTE
        aws.sleep(59)
        assert max(points(aws, "Count", "Sum")) == START - 2 * MINUTE
        aws.sleep(1)
        assert max(points(aws, "Count", "Sum")) == START - MINUTE

    def test_the_lag_of_one_metric_can_be_set(self) -> None:
        """Metrics that are not named keep their lag."""
        with rehearsal(lag={"5XXError": timedelta(minutes=9)}) as aws:
            assert max(points(aws, "5XXError", "Sum")) == START - 10 * MINUTE
            assert max(points(aws, "4XXError", "Sum")) == START - 3 * MINUTE

    def test_start_is_rounded_down_and_end_is_exclusive(self, aws: Rehearsal) -> None:
        """A minute belongs to the range if it starts in it; the first may have begun before."""
        eight = START - timedelta(hours=1)
        found = points(
            aws,
            "Count",
            "Sum",
            StartTime=eight + timedelta(seconds=61),
            EndTime=eight + 4 * MINUTE,
        )
        assert list(found) == [eight + n * MINUTE for n in (1, 2, 3)]

    def test_times_may_be_given_as_boto3_takes_them(self, aws: Rehearsal) -> None:
        """A text, another time zone: what matters is the moment."""
        elsewhere = START.astimezone(timezone(timedelta(hours=5)))
        found = points(aws, "Count", "Sum", StartTime="2026-01-05T08:30:00Z", EndTime=elsewhere)
        assert min(found) == START - 30 * MINUTE
        assert aws.calls[-1].parameters["StartTime"] == START - 30 * MINUTE

    def test_newest_first_unless_asked_otherwise(self, aws: Rehearsal) -> None:
        """ScanBy, and its default."""
        answer = data(aws, query("Count", "Sum"), ScanBy="TimestampDescending")
        oldest_first = data(aws, query("Count", "Sum"))
        (result,), (other,) = answer["MetricDataResults"], oldest_first["MetricDataResults"]
        assert result["Timestamps"] == sorted(result["Timestamps"], reverse=True)
        assert result["Values"] == other["Values"][::-1]

    def test_counts_and_errors_are_the_truth(self, aws: Rehearsal) -> None:
        """Sum counts the errors, Average is their rate; every minute with requests has both."""
        truth = {row.at: row for row in aws.served}
        errors, rate = points(aws, "4XXError", "Sum"), points(aws, "4XXError", "Average")
        count = points(aws, "Count", "Sum")
        assert len(errors) == 58
        for at, bad in errors.items():
            assert bad == truth[at].errors_4xx
            assert count[at] == truth[at].requests
            assert rate[at] == pytest.approx(bad / truth[at].requests)
        assert points(aws, "5XXError", "Sum") == {at: truth[at].errors_5xx for at in errors}

    @pytest.mark.long
    def test_statistics_of_latency_agree(self, aws: Rehearsal) -> None:
        """Percentiles, ranks and counts are of the same values, however they are asked for."""
        p90, count = points(aws, "Latency", "p90"), points(aws, "Latency", "SampleCount")
        low, high = points(aws, "Latency", "Minimum"), points(aws, "Latency", "Maximum")
        assert p90 == points(aws, "Latency", "p90.0")
        assert high == points(aws, "Latency", "p100")
        assert low == points(aws, "Latency", "p0")
        at, limit = next(iter(p90.items()))
        up_to = {kind: points(aws, "Latency", f"{kind}(:{limit})")[at] for kind in ("PR", "TC")}
        over = {kind: points(aws, "Latency", f"{kind}({limit}:)")[at] for kind in ("PR", "TC")}
        all_of_them = f"({low[at] - 1}:{high[at]})"
        assert 90 <= up_to["PR"] < 91
        assert up_to["PR"] + over["PR"] == pytest.approx(100)
        assert up_to["TC"] + over["TC"] == count[at]
        assert up_to["TC"] == pytest.approx(count[at] * up_to["PR"] / 100)
        assert points(aws, "Latency", f"PR{all_of_them}")[at] == 100
        assert points(aws, "Latency", f"TC{all_of_them}")[at] == count[at]
        assert low[at] < points(aws, "Latency", "Average")[at] < high[at]

    @pytest.mark.long
    def test_latency_is_lognormal_around_its_median(self) -> None:
        """The median is as asked, and the integration's latency is a little less."""
        backend = Backend(latency_ms=200, latency_spread=0.3)
        with rehearsal(requests_per_minute=5000, api=backend) as aws:
            (at, median), *_ = points(aws, "Latency", "p50").items()
            assert median == pytest.approx(200, rel=0.05)
            p84 = points(aws, "Latency", "p84.1345")[at]
            assert math.log(p84 / median) == pytest.approx(0.3, rel=0.1)
            assert 0 < median - points(aws, "IntegrationLatency", "p50")[at] < 10

    @pytest.mark.long
    def test_a_million_requests_have_the_latencies_of_their_backend(self) -> None:
        """Shares and percentiles are as exact as those of so many requests, minute by minute."""
        backend = Backend(latency_ms=200, latency_spread=0.3)
        stats = ("PR(380:)", "TC(0:)", "p99")
        with rehearsal(requests_per_minute=10**6, api=backend) as aws:
            asked = [query("Latency", stat) for stat in stats]
            lately = {"StartTime": aws.now() - timedelta(minutes=8)}
            results = data(aws, *asked, query("Count", "Sum"), **lately)["MetricDataResults"]
        shares, counts, p99s, real = (result["Values"] for result in results)
        normal = NormalDist(math.log(200), 0.3)
        slow = 100 * (1 - normal.cdf(math.log(380)))
        assert len(shares) > 3
        assert shares == pytest.approx([slow] * len(shares), abs=0.05)
        assert p99s == pytest.approx([math.exp(normal.inv_cdf(0.99))] * len(shares), rel=0.01)
        assert counts == real[: len(counts)]

    @pytest.mark.traced
    @pytest.mark.long
    def test_each_request_of_many_has_a_latency(self) -> None:
        """Of more than 10,000 in a minute several have the same one, in no order."""
        with rehearsal(requests_per_minute=20_500) as aws:
            (at, count), *_ = points(aws, "Latency", "SampleCount").items()
            latencies = aws.latencies("baseline", at, at + MINUTE)
            assert len(latencies) == count
            assert count / 3 - 1 < len(set(latencies)) <= count / 3 + 1
            assert latencies[: len(set(latencies))] != sorted(set(latencies))

    def test_longer_periods_take_several_minutes_together(self, aws: Rehearsal) -> None:
        """A period of five minutes has the sum of its minutes, as far as they are visible."""
        fives = data(aws, query("Count", "Sum", Period=300))["MetricDataResults"][0]
        ones = points(aws, "Count", "Sum")
        assert fives["Timestamps"][-1] == START - 5 * MINUTE
        assert fives["Values"][-1] == sum(ones[START - n * MINUTE] for n in (5, 4, 3, 2))
        assert sum(fives["Values"]) == sum(ones.values())

    @pytest.mark.traced
    @pytest.mark.long
    @pytest.mark.parametrize("limit", [1, 7, 58, 1000])
    def test_pages_add_up(self, aws: Rehearsal, limit: int) -> None:
        """Pages have the datapoints of one answer, each once, even if the clock moves on."""
        queries = [query("Count", "Sum"), query("Count", "Sum", "other"), query("Latency", "p9")]
        whole = data(aws, *queries)
        span = {"StartTime": START - timedelta(hours=3), "EndTime": START + timedelta(hours=1)}
        page = data(aws, *queries, MaxDatapoints=limit, ScanBy="TimestampDescending", **span)
        collected: dict[str, list[float]] = {}
        while True:
            aws.sleep(60)
            results = page["MetricDataResults"]
            assert sum(len(result["Values"]) for result in results) <= limit
            for result in results:
                collected.setdefault(result["Id"], []).extend(result["Values"])
            unfinished = [r["Id"] for r in results if r["StatusCode"] == "PartialData"]
            assert not unfinished or "NextToken" in page
            if "NextToken" not in page:
                break
            token = page["NextToken"]
            page = data(aws, *queries, MaxDatapoints=limit, NextToken=token,
                        ScanBy="TimestampDescending", **span)  # fmt: skip
        assert collected == {r["Id"]: r["Values"][::-1] for r in whole["MetricDataResults"]}
        assert collected["q1"] == []

    def test_what_nobody_publishes_is_empty(self, aws: Rehearsal) -> None:
        """An unknown stage, metric or set of dimensions is no error, on AWS either."""
        answer = data(aws, query("Count", "Sum", "PROD"), query("Cuont", "Sum"))
        for result in answer["MetricDataResults"]:
            assert (result["Values"], result["StatusCode"]) == ([], "Complete")

    def test_labels_and_hidden_queries(self, aws: Rehearsal) -> None:
        """ReturnData false leaves a query out; a label comes back."""
        hidden = {**query("Count", "Sum"), "ReturnData": False}
        labelled = {**query("Count", "Sum"), "Label": "requests"}
        (result,) = data(aws, hidden, labelled)["MetricDataResults"]
        assert (result["Id"], result["Label"], result["Messages"]) == ("q1", "requests", [])

    @pytest.mark.parametrize(
        "parameters, text",
        [
            ({"StartTime": START}, "StartTime must be less"),
            ({"MaxDatapoints": 0}, "MaxDatapoints must be between"),
            ({"MetricDataQueries": [query("Count", "Sum")] * 501}, "size greater than 500"),
            ({"MetricDataQueries": [query("Count", "Sum")] * 2}, "not unique"),
            ({"MetricDataQueries": [{**query("Count", "Sum"), "Id": "Q"}]}, "not matching"),
        ],
    )
    def test_refuses_as_cloudwatch(self, aws: Rehearsal, parameters: Any, text: str) -> None:
        """Limits and formats of GetMetricData."""
        asked = {
            "MetricDataQueries": [query("Count", "Sum")],
            "StartTime": START - MINUTE,
            "EndTime": START,
            **parameters,
        }
        message = refused(aws.session.client("cloudwatch").get_metric_data, **asked)
        assert message.startswith("ValidationError 400 ")
        assert text in message

    @pytest.mark.parametrize(
        "asked, parameters",
        [
            (query("Latency", "tm99"), {}),
            (query("Latency", "p101"), {}),
            (query("Latency", "PR(1%:2%)"), {}),
            (query("Latency", "PR(:)", "nobody's"), {}),
            (query("Count", "Sum", Period=30), {}),
            (query("Count", "Sum", Period=90), {}),
            (query("Count", "Sum", Unit="Count"), {}),
            ({**query("Count", "Sum"), "AccountId": "123456789012"}, {}),
            (query("Count", "Sum"), {"LabelOptions": {"Timezone": "+0000"}}),
        ],
    )
    def test_does_not_ignore_what_it_does_not_know(
        self, aws: Rehearsal, asked: Any, parameters: Any
    ) -> None:
        """A parameter without a simulation is an error, not a plausible answer."""
        with pytest.raises(RehearsalError):
            data(aws, asked, **parameters)

    def test_other_namespaces_are_motos(self, aws: Rehearsal) -> None:
        """Custom metrics work, in calls of their own."""
        client: Any = aws.session.client("cloudwatch")
        custom = {"MetricName": "refunds", "Timestamp": START - 5 * MINUTE, "Value": 3.0}
        client.put_metric_data(Namespace="shop", MetricData=[custom])
        metric = {"Namespace": "shop", "MetricName": "refunds"}
        asked = {"MetricStat": {"Metric": metric, "Period": 60, "Stat": "Sum"}}

        (result,) = data(aws, asked)["MetricDataResults"]
        assert result["Values"] == [3.0]
        (listed,) = client.list_metrics(Namespace="shop")["Metrics"]
        assert listed["MetricName"] == "refunds"
        with pytest.raises(RehearsalError, match="with another namespace in one"):
            data(aws, asked, query("Count", "Sum"))

    def test_the_older_call_for_statistics_is_not_answered(self, aws: Rehearsal) -> None:
        """GetMetricStatistics of moto would show no traffic, which would look like an answer."""
        client: Any = aws.session.client("cloudwatch")
        asked = {
            "MetricName": "Count",
            "StartTime": START - MINUTE,
            "EndTime": START,
            "Period": 60,
            "Statistics": ["Sum"],
        }
        assert client.get_metric_statistics(Namespace="shop", **asked)["Datapoints"] == []
        with pytest.raises(RehearsalError, match="GetMetricStatistics"):
            client.get_metric_statistics(Namespace="AWS/ApiGateway", **asked)

    def test_list_metrics_lags(self, aws: Rehearsal) -> None:
        """A canary's series is listed a quarter of an hour after its first minute."""
        client: Any = aws.session.client("cloudwatch")

        def stages(**more: Any) -> set[str]:
            listed = client.list_metrics(Namespace="AWS/ApiGateway", **more)["Metrics"]
            return {d["Value"] for m in listed for d in m["Dimensions"] if d["Name"] == "Stage"}

        canary(aws, 10)
        aws.sleep(900)
        assert stages() == {"prod"}
        aws.sleep(60)
        assert stages() == {"prod", "prod/Canary"}
        assert stages(MetricName="Count", Dimensions=[{"Name": "Stage"}]) == stages()
        assert stages(Dimensions=[{"Name": "Stage", "Value": "prod"}]) == {"prod"}
        assert stages(Dimensions=[{"Name": "Method"}]) == set()
        assert stages(MetricName="CacheHitCount") == set()
        with pytest.raises(RehearsalError, match="RecentlyActive"):
            stages(RecentlyActive="PT3H")


class TestGateway:
    def test_dates_come_from_the_virtual_clock(self, aws: Rehearsal) -> None:
        """The Date header and the dates in answers, moto's header too; dates in whole seconds."""
        aws.sleep(90.7)
        deployment = gateway(aws).create_deployment(restApiId=aws.rest_api_id)
        aws.sleep(10)
        stage = patch(aws, replace("/canarySettings/percentTraffic", "5"))

        assert deployment["createdDate"] == START + timedelta(seconds=90)
        assert stage["lastUpdatedDate"] == START + timedelta(seconds=100)
        assert stage["createdDate"] == START - timedelta(hours=1)
        moto = aws.session.client("sqs").list_queues()
        with pytest.raises(ClientError) as caught:
            gateway(aws).get_stage(restApiId=aws.rest_api_id, stageName="none")
        for answer in (stage, moto, caught.value.response):
            headers = answer["ResponseMetadata"]["HTTPHeaders"]
            assert parsedate_to_datetime(headers["date"]) == START + timedelta(seconds=100)

    def test_every_call_is_recorded_before_it_is_answered(self, aws: Rehearsal) -> None:
        """Refused calls and moto's included, calls that boto3 itself refuses not."""
        assert aws.calls == []
        client = gateway(aws)
        settings = {"percentTraffic": 10}
        refused(client.create_deployment, restApiId=aws.rest_api_id, canarySettings=settings)
        settings["percentTraffic"] = 99  # what was sent does not change afterwards
        aws.sleep(5)
        aws.session.client("sqs").create_queue(QueueName="q")
        with pytest.raises(ParamValidationError):
            patch(aws, {"op": "replace", "path": "/deploymentId", "value": 5})  # type: ignore[dict-item]

        first, second = aws.calls
        assert (first.service, first.operation) == ("apigateway", "CreateDeployment")
        assert first.parameters["canarySettings"] == {"percentTraffic": 10}
        assert (second.service, second.operation) == ("sqs", "CreateQueue")
        assert second.at - first.at == timedelta(seconds=5)

    def test_answers_look_like_botocores(self, aws: Rehearsal) -> None:
        """Metadata, typed exceptions and modelled error members are where they are on AWS."""
        client = gateway(aws)
        metadata = client.get_rest_api(restApiId=aws.rest_api_id)["ResponseMetadata"]
        assert (metadata["HTTPStatusCode"], metadata["RetryAttempts"]) == (200, 0)
        assert metadata["RequestId"] == metadata["HTTPHeaders"]["x-amzn-requestid"]
        with pytest.raises(client.exceptions.NotFoundException) as caught:
            client.get_rest_api(restApiId="nope")
        assert caught.value.response["message"] == caught.value.response["Error"]["Message"]
        existing = client.get_stage(restApiId=aws.rest_api_id, stageName="prod")
        with pytest.raises(client.exceptions.ConflictException):
            client.create_stage(
                restApiId=aws.rest_api_id, stageName="prod", deploymentId=existing["deploymentId"]
            )

    def test_answers_are_the_callers_own(self, aws: Rehearsal) -> None:
        """Changing an answer changes nothing on the stage."""
        client = gateway(aws)
        client.get_stage(restApiId=aws.rest_api_id, stageName="prod")["variables"].clear()
        (stage,) = client.get_stages(restApiId=aws.rest_api_id)["item"]
        assert stage["variables"] == {"alias": "v1"}

    def test_an_ordinary_deployment_replaces_production(self, aws: Rehearsal) -> None:
        """Trap 6: without a canary, at once and wholly; trap 5: with one, not at all."""
        client = gateway(aws)
        deploy = {"restApiId": aws.rest_api_id, "stageName": "prod"}
        deployment_id = client.create_deployment(**deploy, description="now")["id"]
        stage = client.get_stage(**deploy)
        assert stage["deploymentId"] == deployment_id
        assert stage["variables"] == {"alias": "v1"}
        canary(aws, 5)
        assert refused(client.create_deployment, **deploy) == (
            "BadRequestException 400 Invalid deployment content specified."
            "Non canary deployment not supported on stage prod because Canary is enabled. "
            "Provide CanarySettings in deploymentInput."
        )

    def test_a_refused_deployment_leaves_no_trace(self, aws: Rehearsal) -> None:
        """What is refused, wholly or in its last operation, changes nothing."""
        before = gateway(aws).get_deployments(restApiId=aws.rest_api_id)["items"]
        settings = {"percentTraffic": 5}
        refused(gateway(aws).create_deployment, restApiId=aws.rest_api_id, canarySettings=settings)
        with pytest.raises(ClientError, match="Deployment id does not exist"):
            patch(aws, replace("/variables/alias", "v9"), replace("/deploymentId", "nope"))
        assert gateway(aws).get_deployments(restApiId=aws.rest_api_id)["items"] == before
        stage = gateway(aws).get_stage(restApiId=aws.rest_api_id, stageName="prod")
        assert stage["variables"] == {"alias": "v1"}

    def test_promotion_by_copies(self, aws: Rehearsal) -> None:
        """Copies promote and merge; the canary stays until it is removed; then one can go back."""
        first = gateway(aws).get_stage(restApiId=aws.rest_api_id, stageName="prod")
        deployment_id = canary(aws, 25, alias="v2", extra="1")
        patch(aws, replace("/canarySettings/useStageCache", "true"))
        promoted = patch(aws, *PROMOTION)
        assert promoted["deploymentId"] == deployment_id
        assert promoted["variables"] == {"alias": "v2", "extra": "1"}
        assert promoted["canarySettings"]["useStageCache"] is True
        ended = patch(aws, remove("/canarySettings"))
        assert "canarySettings" not in ended
        reverted = patch(
            aws,
            replace("/deploymentId", first["deploymentId"]),
            replace("/variables/alias", "v1"),
            remove("/variables/extra"),
        )
        assert reverted["variables"] == {"alias": "v1"}
        assert reverted["deploymentId"] == first["deploymentId"]

    def test_absent_is_absent(self, aws: Rehearsal) -> None:
        """Removing the last override or variable removes the map."""
        canary(aws, 5, alias="v2", extra="1")
        one = patch(aws, remove("/canarySettings/stageVariableOverrides/extra"))
        assert one["canarySettings"]["stageVariableOverrides"] == {"alias": "v2"}
        none = patch(aws, remove("/canarySettings/stageVariableOverrides/alias"))
        assert "stageVariableOverrides" not in none["canarySettings"]
        assert "variables" not in patch(aws, remove("/variables/alias"))

    @pytest.mark.long
    def test_deployments_are_listed_in_pages(self, aws: Rehearsal) -> None:
        """25 to a page by default; boto3's paginator finds them all, in an order of no meaning."""
        client = gateway(aws)
        made = [
            client.create_deployment(restApiId=aws.rest_api_id, description=f"d{n}")["id"]
            for n in range(30)
        ]
        page = client.get_deployments(restApiId=aws.rest_api_id)
        assert len(page["items"]) == 25
        pages = client.get_paginator("get_deployments").paginate(
            restApiId=aws.rest_api_id, PaginationConfig={"PageSize": 4}
        )
        listed = [item["id"] for item in pages.search("items[]")]
        assert sorted(listed[:]) == sorted({*made, *listed})
        assert set(made) < set(listed)
        assert len(listed) == 31
        apis = client.get_rest_apis()["items"]
        assert [(api["id"], api["name"]) for api in apis] == [(aws.rest_api_id, "rehearsal")]

    def test_descriptions_can_be_replaced(self, aws: Rehearsal) -> None:
        """A deployment's description is what it was last set to."""
        client = gateway(aws)
        deployment = {
            "restApiId": aws.rest_api_id,
            "deploymentId": client.create_deployment(restApiId=aws.rest_api_id)["id"],
        }
        assert "description" not in client.get_deployment(**deployment)
        long = "x" * 64 * 1024
        client.update_deployment(**deployment, patchOperations=[replace("/description", long)])
        assert client.get_deployment(**deployment)["description"] == long

    def test_deployments_in_use_stay(self, aws: Rehearsal) -> None:
        """A deployment that a stage or a canary uses cannot be deleted; another one can."""
        client = gateway(aws)
        api = {"restApiId": aws.rest_api_id}
        production = client.get_stage(**api, stageName="prod")["deploymentId"]
        in_canary = canary(aws, 5)
        for used in (production, in_canary):
            assert refused(client.delete_deployment, **api, deploymentId=used) == (
                "BadRequestException 400 "
                "Active stages pointing to this deployment must be moved or deleted"
            )
        patch(aws, remove("/canarySettings"))
        answer = client.delete_deployment(**api, deploymentId=in_canary)
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 202
        assert refused(client.get_deployment, **api, deploymentId=in_canary) == (
            "NotFoundException 404 Invalid Deployment identifier specified"
        )

    def test_what_is_not_there(self, aws: Rehearsal) -> None:
        """Unknown APIs and stages are named as AWS names them."""
        client = gateway(aws)
        assert refused(client.get_stage, restApiId=aws.rest_api_id, stageName="nope") == (
            "NotFoundException 404 Invalid stage identifier specified"
        )
        assert refused(client.get_stages, restApiId="nope") == (
            "NotFoundException 404 Invalid API identifier specified 123456789012:nope"
        )

    @pytest.mark.traced
    @pytest.mark.long
    @pytest.mark.parametrize(
        "name, value, text",
        [
            ("alias", "$LATEST", "Invalid stage variable value"),
            ("alias", "x" * 513, "Invalid stage variable value"),
            ("a-b", "v2", "Invalid stage variable name"),
            ("a" * 65, "v2", "Invalid stage variable name"),
        ],
    )
    def test_stage_variables_are_checked(
        self, aws: Rehearsal, name: str, value: str, text: str
    ) -> None:
        """Names and values that API Gateway would not take, in variables as in overrides."""
        patch(aws, replace("/canarySettings/percentTraffic", "0"))
        for path in ("variables", "canarySettings/stageVariableOverrides"):
            with pytest.raises(ClientError, match=text):
                patch(aws, replace(f"/{path}/{name}", value))


class TestUnknown:
    """What nobody has recorded, or what is not simulated, is refused loudly."""

    @pytest.mark.parametrize(
        "percent, operations",
        [
            (None, []),
            (None, [remove("/canarySettings")]),
            (None, [remove("/variables/nope")]),
            (None, [remove("/description")]),
            (None, [replace("/tracingEnabled", "true")]),
            (None, [replace("/canarySettings/useStageCache", "true")]),
            (None, [replace("/canarySettings/stageVariableOverrides/alias", "v2")]),
            (None, [replace("/canarySettings/percentTraffic", "100.5")]),
            (None, [replace("/canarySettings/percentTraffic", "5.001")]),
            (None, [replace("/canarySettings/percentTraffic", "5e0")]),
            (None, [{"op": "replace", "path": "/variables/alias"}]),
            (None, [{"op": "move", "path": "/variables", "from": "/variables"}]),
            (5, [replace("/deploymentId", "x")]),
            (5, [replace("/canarySettings/useStageCache", "yes")]),
            (5, [remove("/canarySettings/stageVariableOverrides/alias")]),
            (5, [remove("/canarySettings"), replace("/deploymentId", "x")]),
            (5, [*PROMOTION, remove("/canarySettings")]),
        ],
    )
    def test_patches(self, aws: Rehearsal, percent: float | None, operations: Any) -> None:
        """UpdateStage where its outcome is not known."""
        if percent is not None:
            canary(aws, percent)
        with pytest.raises(RehearsalError):
            patch(aws, *operations)

    def test_the_message_says_what_is_unknown(self, aws: Rehearsal) -> None:
        """It is a failed assertion, not an AWS error that could be caught."""
        canary(aws, 5)
        with pytest.raises(AssertionError, match="AWS's behavior here is unknown: replace /depl"):
            patch(aws, replace("/deploymentId", "x"))

    def test_too_many_variables(self) -> None:
        """Only the limit is known, not what AWS says there."""
        with (
            pytest.raises(RehearsalError, match="more than 100"),
            rehearsal(variables={f"v{n}": "x" for n in range(101)}),
        ):
            pass  # pragma: no cover - it does not begin

    @pytest.mark.parametrize(
        "operation, parameters",
        [
            ("create_deployment", {"stageName": "prod", "variables": {"a": "b"}}),
            ("create_deployment", {"stageName": "prod", "canarySettings": {}}),
            ("create_deployment", {"stageName": "prod", "canarySettings": {"percentTraffic": 5}}),
            ("create_deployment", {"stageName": "new stage"}),
            ("create_deployment", {"tracingEnabled": True}),
            ("create_deployment", {"description": ""}),
            ("create_deployment", {"description": "x" * (64 * 1024 + 1)}),
            ("get_deployments", {"limit": 501}),
            ("get_models", {}),
            ("get_resources", {}),
        ],
    )
    def test_operations(self, aws: Rehearsal, operation: str, parameters: Any) -> None:
        """Parameters and operations whose effect is not known or not simulated."""
        canary(aws, 5, alias="v2")
        with pytest.raises(RehearsalError):
            getattr(gateway(aws), operation)(restApiId=aws.rest_api_id, **parameters)

    def test_embed(self, aws: Rehearsal) -> None:
        """Nothing but the summary of a deployment's methods can be embedded in it."""
        with pytest.raises(RehearsalError, match="embed"):
            gateway(aws).get_deployment(
                restApiId=aws.rest_api_id, deploymentId=canary(aws, 5), embed=["all"]
            )

    def test_update_deployment(self, aws: Rehearsal) -> None:
        """Nothing but one replacement of the description."""
        deployment_id = canary(aws, 5)
        with pytest.raises(RehearsalError, match="other than replace /description"):
            gateway(aws).update_deployment(
                restApiId=aws.rest_api_id,
                deploymentId=deployment_id,
                patchOperations=[remove("/description")],
            )


_NAMED: list[str] = []


def _note(event_name: str, **_: object) -> None:
    _NAMED.append(event_name.partition(".")[0])


class TestClients:
    """Clients are copies of shared ones, which nobody may notice but by the time it takes."""

    @pytest.mark.parametrize("register", ["register_first", "register", "register_last"])
    @pytest.mark.parametrize("looked_up", ["before", "after"])
    def test_handlers_are_a_clients_own(
        self, aws: Rehearsal, register: str, looked_up: str
    ) -> None:
        """Also of events that reach moto, also at a client that has made calls, and removable."""
        one, other = aws.session.client("sqs"), aws.session.client("sqs")
        events = one.meta.events
        one.create_queue(QueueName="q")
        seen: list[str] = []

        def look(event_name: str, **_: object) -> None:
            seen.append(event_name)

        for event in ("before-call.sqs", "before-send.sqs"):
            getattr(events if looked_up == "before" else one.meta.events, register)(event, look)
        for client in (other, one, aws.session.client("sqs")):
            assert len(client.list_queues()["QueueUrls"]) == 1
        assert seen == ["before-call.sqs.ListQueues", "before-send.sqs.ListQueues"]

        for event in ("before-call.sqs", "before-send.sqs"):
            events.unregister(event, look)
        assert one.list_queues()["QueueUrls"]
        assert len(seen) == 2
        assert [call.operation for call in aws.calls] == ["CreateQueue", *["ListQueues"] * 4]

    def test_named_handlers_are_a_clients_own(self, aws: Rehearsal) -> None:
        """Those of a unique id, which clients of several rehearsals share, beside any other."""
        _NAMED.clear()
        seen: list[str] = []
        plain, one = gateway(aws), gateway(aws)
        with rehearsal(seed=2) as another:
            for client in (one, gateway(another)):
                client.meta.events.register_last("before-parameter-build", _note, unique_id="note")
                client.get_rest_apis()
            plain.get_rest_apis()
            assert len(_NAMED) == 2
            assert len(aws.calls) == 2
            assert len(another.calls) == 1
        one.meta.events.register("after-call", lambda model, **_: seen.append(model.name))
        one.meta.events.register_last("after-call", _note, unique_id="another")
        one.get_rest_apis()
        assert (_NAMED[2:], seen) == (["before-parameter-build", "after-call"], ["GetRestApis"])

    def test_a_handler_that_is_there_can_be_removed(self, aws: Rehearsal) -> None:
        """From one client, as its first change."""
        one, other = gateway(aws), gateway(aws)
        one.meta.events.unregister("before-parameter-build", unique_id="none-such")
        for client in (one, other):
            assert client.get_stage(restApiId=aws.rest_api_id, stageName="prod")["variables"]

    def test_a_sessions_handlers_are_its_clients(self, aws: Rehearsal) -> None:
        """Those registered before a client was made, and not those of another rehearsal."""
        early, seen = gateway(aws), []
        aws.session.events.register("after-call", lambda model, **_: seen.append(model.name))
        with rehearsal() as another:
            for client in (early, gateway(aws), gateway(another)):
                client.get_rest_apis()
        assert seen == ["GetRestApis"]

    def test_the_rest_of_a_session_is_boto3s(self, aws: Rehearsal) -> None:
        """It is made when it is asked for; what boto3 does not have is missing."""
        assert "sqs" in aws.session.get_available_resources()
        with pytest.raises(AttributeError, match="none_such"):
            _ = aws.session.none_such  # type: ignore[attr-defined]

    def test_each_answers_for_its_own_rehearsal(self) -> None:
        """Clients of two sessions, used in turns."""
        with rehearsal(seed=1) as one, rehearsal(seed=2) as two:
            clients = [(aws, gateway(aws)) for aws in (one, two)]
            for aws, client in clients * 2:
                assert [api["id"] for api in client.get_rest_apis()["items"]] == [aws.rest_api_id]
            assert len(one.calls) == len(two.calls) == 2

    def test_options_are_a_clients_own(
        self, aws: Rehearsal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Those of `config`, of the environment and of other arguments."""

        def retries(**options: Any) -> Any:
            client: Any = aws.session.client("apigateway", **options)
            return client.meta.config.retries["mode"]

        usual = retries()
        assert retries(config=Config(retries={"mode": "adaptive"})) == "adaptive" != usual
        assert retries() == usual
        monkeypatch.setenv("AWS_RETRY_MODE", "adaptive")
        assert retries() == "adaptive"
        client: Any = aws.session.client("apigateway", "eu-west-1")
        assert client.meta.region_name == "eu-west-1"
        assert client.get_stages(restApiId=aws.rest_api_id)["item"]

    def test_attributes_are_a_clients_own(self, aws: Rehearsal) -> None:
        """A method that a test replaces is replaced at one client, for good; unknown ones fail."""
        one, other = gateway(aws), gateway(aws)
        one.get_stages = lambda **_: "mine"
        one.meta.events.register("before-call", lambda **_: None)
        assert one.get_stages() == "mine"
        assert other.get_stages(restApiId=aws.rest_api_id)["item"]
        with pytest.raises(AttributeError, match="get_stagess"):
            _ = other.get_stagess

    def test_services_that_are_not_there(self, aws: Rehearsal) -> None:
        """The error is boto3's."""
        service: Any = "none-such"
        with pytest.raises(UnknownServiceError, match="none-such"):
            aws.session.client(service)


class TestSurroundings:
    def test_moto_answers_other_services(self, aws: Rehearsal) -> None:
        """The session's other clients are moto's, and nothing of theirs stays behind."""
        aws.session.client("sqs").create_queue(QueueName="q")
        assert len(aws.session.client("sqs").list_queues()["QueueUrls"]) == 1
        assert aws.session.region_name == "eu-central-1"

    def test_the_users_configuration_is_not_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A profile that does not exist, an endpoint of one's own: the rehearsal does not care."""
        monkeypatch.setenv("AWS_PROFILE", "none-such")
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://localhost:1")
        with rehearsal() as aws:
            client = gateway(aws)
            assert client.meta.endpoint_url == "https://apigateway.eu-central-1.amazonaws.com"
            assert client.get_stages(restApiId=aws.rest_api_id)["item"]

    def test_rehearsals_do_not_meet(self) -> None:
        """Two at a time have their own gateways and clocks."""
        with rehearsal(seed=1) as one, rehearsal(seed=2) as two:
            one.sleep(60)
            assert one.now() - two.now() == MINUTE
            assert one.rest_api_id != two.rest_api_id

    def test_threads_may_share_it(self, aws: Rehearsal) -> None:
        """Calls from several threads are answered one after the other."""
        client = gateway(aws)

        def deploy() -> None:
            for _ in range(10):
                client.create_deployment(restApiId=aws.rest_api_id)
                aws.sleep(1)

        threads = [threading.Thread(target=deploy) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(client.get_deployments(restApiId=aws.rest_api_id, limit=500)["items"]) == 41
        assert aws.now() == START + timedelta(seconds=40)

    def test_the_stage_is_the_librarys(self, aws: Rehearsal) -> None:
        """`stage` is bound to the rehearsal's API and session, and is always the same object."""
        assert aws.stage.region == "eu-central-1"
        assert aws.stage.describe().variables == {"alias": "v1"}
        assert aws.stage is aws.stage

    def test_time_does_not_run_backwards(self, aws: Rehearsal) -> None:
        """As `time.sleep`, and time stands still unless somebody sleeps."""
        with pytest.raises(ValueError, match="non-negative"):
            aws.sleep(-1)
        assert aws.now() == START

    @pytest.mark.parametrize(
        "arguments, text",
        [
            ({"start": datetime(2026, 1, 5, 9)}, "aware"),
            ({"backends": {"alias": Backend()}}, "alias=v2"),
            ({"lag": {"Cuont": MINUTE}}, "Cuont"),
        ],
    )
    def test_bad_arguments(self, arguments: Any, text: str) -> None:
        """Arguments that mean nothing are errors that say what they should be."""
        with pytest.raises(ValueError, match=text), rehearsal(**arguments):
            pass  # pragma: no cover - it does not begin

    @pytest.mark.parametrize(
        "arguments",
        [
            {"errors_5xx": -0.1},
            {"errors_4xx": 1.1},
            {"errors_5xx": 0.6, "errors_4xx": 0.6},
            {"latency_ms": 0},
            {"latency_spread": -1},
        ],
    )
    def test_bad_backends(self, arguments: Any) -> None:
        """Probabilities are between 0 and 1, also together."""
        with pytest.raises(ValueError, match="must be"):
            Backend(**arguments)

    @pytest.mark.long
    def test_importing_it_imports_neither_boto3_nor_moto(self) -> None:
        """Both are imported when a rehearsal begins."""
        program = (
            "import sys, apigw_canary.testing; "
            "print({'boto3', 'botocore', 'moto', 'pytest'} & sys.modules.keys())"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        assert done.stdout == "set()\n"


@pytest.mark.parametrize("absent", ["unknown", "refused", "ignored"])
def test_removal_of_an_absent_canary(absent: Literal["unknown", "refused", "ignored"]) -> None:
    """Nobody knows what AWS does about it, so a test says what it is to be."""
    with rehearsal(absent_canary=absent) as aws:
        aws.stage.enable_canary(10)
        client: Any = aws.session.client("apigateway")

        def remove() -> dict[str, Any]:
            answer: dict[str, Any] = client.update_stage(
                restApiId=aws.rest_api_id,
                stageName="prod",
                patchOperations=[{"op": "remove", "path": "/canarySettings"}],
            )
            return answer

        assert "canarySettings" not in remove()
        if absent == "ignored":
            assert "canarySettings" not in remove()
        else:
            error = RehearsalError if absent == "unknown" else ClientError
            with pytest.raises(error, match="canary"):
                remove()


class TestTrafficLikeLife:
    """Backends that change with time, load and route, and traffic of several methods."""

    ROUTES: Final = {"GET /orders": 3.0, "POST /orders": 1.0}
    DETAILED: Final = {"methodSettings": {"*/*": {"metricsEnabled": True}}}

    @staticmethod
    def rate(aws: Rehearsal, arm: str = "canary") -> list[float]:
        """5xx rates of the minutes of a variant."""
        return [row.errors_5xx / row.requests for row in aws.served if row.arm == arm]

    def test_a_leak(self) -> None:
        """It grows with the time since the first request, of whichever variant."""

        def leak(now: Conditions) -> Backend:
            return Backend(errors_5xx=min(1, 0.02 * (now.since / timedelta(minutes=1))))

        with rehearsal(backends={"alias=v2": leak}, requests_per_minute=10_000) as aws:
            aws.sleep(600)
            aws.stage.enable_canary(50, variables={"alias": "v2"})
            aws.sleep(1200)
            rates = self.rate(aws)
        assert rates[0] == 0
        assert rates[10] == pytest.approx(0.2, abs=0.03)
        assert sorted(rates) == rates

    def test_a_bad_hour_and_load(self) -> None:
        """Time and load are those of the minute."""

        def overloaded(now: Conditions) -> Backend:
            return Backend(errors_5xx=1 if now.requests_per_minute > 150 else 0, errors_4xx=0)

        def bad_hour(now: Conditions) -> Backend:
            return Backend(errors_5xx=now.at.minute < 10, errors_4xx=0)

        backends = {"alias=v2": overloaded, "alias=v1": bad_hour}
        with rehearsal(backends=backends, requests_per_minute=1000, history=timedelta(0)) as aws:
            canary = aws.stage.enable_canary(5, variables={"alias": "v2"})
            aws.sleep(600)
            canary.shift(50)
            aws.sleep(600)
            assert self.rate(aws) == [0] * 10 + [1] * 10
            assert self.rate(aws, "baseline") == [1] * 10 + [0] * 10

    def test_one_bad_route(self) -> None:
        """CloudWatch has the series of each method where detailed metrics are on."""

        def bad_route(now: Conditions) -> Backend:
            return Backend(errors_5xx=0.5 if now.method == "POST /orders" else 0)

        with rehearsal(
            backends={"alias=v2": bad_route}, routes=self.ROUTES, settings=self.DETAILED
        ) as aws:
            aws.stage.enable_canary(50, variables={"alias": "v2"})
            aws.sleep(1800)
            cloudwatch: Any = aws.session.client("cloudwatch")
            listed = cloudwatch.list_metrics(
                Namespace="AWS/ApiGateway",
                MetricName="5XXError",
                Dimensions=[{"Name": "Method"}, {"Name": "Stage", "Value": "prod/Canary"}],
            )["Metrics"]
            sums = {}
            for metric in listed:
                values = {each["Name"]: each["Value"] for each in metric["Dimensions"]}
                stat = {"Metric": metric, "Period": 60, "Stat": "Average"}
                answer = cloudwatch.get_metric_data(
                    StartTime=aws.now() - timedelta(minutes=20),
                    EndTime=aws.now() - timedelta(minutes=10),
                    MetricDataQueries=[{"Id": "a", "MetricStat": stat}],
                )
                found = answer["MetricDataResults"][0]["Values"]
                sums[f"{values['Method']} {values['Resource']}"] = sum(found) / len(found)
        assert sums == {"GET /orders": 0, "POST /orders": pytest.approx(0.5, abs=0.1)}

    def test_methods_share_the_requests(self) -> None:
        """By their weights; the total is as without methods, and logs name them."""
        with (
            rehearsal(routes=self.ROUTES, requests_per_minute=10_000) as aws,
            rehearsal(requests_per_minute=10_000) as plain,
        ):
            assert [row.requests for row in aws.served] == [row.requests for row in plain.served]
            logs: Any = aws.session.client("logs")
            started = logs.start_query(
                logGroupName="rehearsal-access-logs",
                startTime=int(aws.now().timestamp()) - 3000,
                endTime=int(aws.now().timestamp()) - 600,
                queryString="stats count(*) as n by httpMethod",
            )
            logs.get_query_results(queryId=started["queryId"])  # it is running
            answer = logs.get_query_results(queryId=started["queryId"])
            rows = [{each["field"]: each["value"] for each in row} for row in answer["results"]]
            counts = {row["httpMethod"]: int(row["n"]) for row in rows}
        assert counts["GET"] / sum(counts.values()) == pytest.approx(0.75, abs=0.01)

    def test_minutes_in_which_a_method_is_not_called(self) -> None:
        """Of one request a minute one method gets it, and each request is of one method."""
        begins = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
        with rehearsal(routes=self.ROUTES, requests_per_minute=1, settings=self.DETAILED) as aws:
            aws.stage.enable_canary(10, variables={"alias": "v2"})
            aws.sleep(3600)
            rows = [row for row in aws.served if row.at >= begins]
        assert 20 < sum(row.requests for row in rows) < 120

    def test_a_version_that_changes(self) -> None:
        """So can a version of a function, and what a smoke test meets."""

        def slow_start(now: Conditions) -> Backend:
            return Backend(errors_5xx=now.since < timedelta(minutes=3), errors_4xx=0)

        with rehearsal(versions=[slow_start], history=timedelta(0)) as aws:
            aws.sleep(600)
            assert self.rate(aws, "baseline") == [1] * 3 + [0] * 7
        with rehearsal(api=slow_start) as aws:
            (result,) = aws.stage.smoke_test(["GET /orders"])
            assert result.status == 200

    def test_routes_are_methods_of_the_api(self) -> None:
        """They are added where the methods are left out; a smoke test reaches them."""
        with rehearsal(routes={"GET /new": 1}, versions=[Backend()]) as aws:
            (result,) = aws.stage.smoke_test(["GET /new"])
            assert result.status == 200
        with rehearsal(routes={"GET /new": 1}, methods={"ANY /new": Method()}):
            pass
        with pytest.raises(ValueError, match="the API has no method 'GET /new' of routes"):
            rehearsal(routes={"GET /new": 1}, methods={"GET /orders": Method()}).__enter__()

    @pytest.mark.parametrize("routes", [{}, {"GET /orders": 0}, {"GET /orders": -1.0}])
    def test_routes_that_mean_nothing(self, routes: dict[str, float]) -> None:
        with pytest.raises(ValueError, match="routes must be methods with weights above 0"):
            rehearsal(routes=routes).__enter__()
