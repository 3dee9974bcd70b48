"""What a canary's failing requests look like, beside the baseline's."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acting import V2, fresh, sent
from apigw_canary import AccessLogs, Failure
from apigw_canary.errors import InvalidInputError, MetricsError, StageChangedError
from apigw_canary.model.failure import Kind, ranked
from apigw_canary.testing import Backend, rehearsal
from cloud import END, STAGE, START
from test_logs import FORMAT, Aws

GET = Kind("GET", "/orders", 502, "INTEGRATION_FAILURE", "Internal server error")
FINE = Kind("GET", "/orders", 200, None, None)

kinds = st.builds(
    Kind,
    method=st.sampled_from(["GET", "POST", None]),
    path=st.sampled_from(["/", "/orders/{id}"]),
    status=st.sampled_from([200, 302, 400, 404, 502]),
    error_type=st.none() | st.just("THROTTLED"),
    message=st.none() | st.text(max_size=5),
)
counters = st.dictionaries(kinds, st.integers(1, 1000), max_size=8).map(Counter)


@pytest.mark.long
@given(counters, counters, st.integers(1, 10))
def test_order(canary: Counter[Kind], baseline: Counter[Kind], limit: int) -> None:
    """All of the canary's kinds of failure, each once: new ones first, then by excess."""
    found = ranked(canary, baseline, 1000)
    assert sorted(each.canary_failed for each in found) == sorted(
        number for kind, number in canary.items() if kind.status >= 400
    )
    assert ranked(canary, baseline, limit) == found[:limit]
    order = [(not each.is_new, -each.excess) for each in found]
    assert order == sorted(order)
    for each in found:
        kind = Kind(each.method, each.path, each.status, each.error_type, each.message, each.cause)
        assert each.is_new == (kind not in baseline)
        assert 0 < each.canary_failed <= each.canary_requests <= sum(canary.values())
        assert each.baseline_failed <= each.baseline_requests <= sum(baseline.values())


def test_rates_are_of_the_route() -> None:
    """Counts stand beside all requests of the same method and path."""
    other = FINE._replace(path="/health")
    (found,) = ranked(
        Counter({GET: 12, FINE: 388, other: 5000}), Counter({GET: 4, FINE: 796, other: 50}), 20
    )
    assert (found.canary_failed, found.canary_requests) == (12, 400)
    assert (found.baseline_failed, found.baseline_requests) == (4, 800)
    assert found.excess == pytest.approx(10)
    assert str(found) == (
        "GET /orders 502 INTEGRATION_FAILURE Internal server error: "
        "canary 3.00 % of 400, baseline 0.50 % of 800"
    )


def test_a_new_kind_says_so() -> None:
    """What the baseline does not have is new, also where it has no requests at all."""
    (found,) = ranked(Counter({Kind(None, None, 500, None, None): 1}), Counter(), 20)
    assert str(found) == "new: 500: canary 100.00 % of 1, baseline no requests"


@given(st.text(), st.text())
def test_hostile_text_stays_on_one_line(path: str, message: str) -> None:
    """What a client or backend wrote cannot forge a line of the report."""
    (found,) = ranked(Counter({Kind("GET", path, 500, "X", message): 1}), Counter(), 1)
    assert str(found).isprintable()
    assert Failure.from_dict(found.to_dict()) == found


def cells(*values: object) -> dict[str, str]:
    """A row: arm, status, method, path, type, message, requests."""
    columns = ["apigwCanaryArm", *(f"apigwCanaryArm{n}" for n in range(5)), "requests"]
    return {name: str(value) for name, value in zip(columns, values, strict=True)}


def read(aws: Aws, **fields: str) -> tuple[Failure, ...]:
    logs = AccessLogs("access", format={**FORMAT, **fields}, session=aws)
    return logs.failures(STAGE, START, END).items


ALL = {
    "httpMethod": "m",
    "resourcePath": "p",
    "error.responseType": "t",
    "error.messageString": "e",
}


class TestQuery:
    def test_is_one_of_all_kinds(self) -> None:
        """One query groups the lines of both arms by what they have in common."""
        aws = Aws()
        assert read(aws, **ALL) == ()
        (asked,) = aws.asked
        assert asked["queryString"] == (
            r'parse @message /"canary"\s*:\s*"?(?<apigwRawArm>true|false|-)/ | '
            r'parse @message /"status"\s*:\s*"?(?<apigwRawStatus>[1-5][0-9][0-9])/ | '
            r'parse @message /"ms"\s*:\s*"?(?<apigwRawLatency>[0-9]+)/ | '
            'fields coalesce(`canary`, apigwRawArm, "?") as apigwCanaryArm, '
            "coalesce(`status`, apigwRawStatus) as apigwStatus, "
            "coalesce(`ms`, apigwRawLatency) as apigwLatency | "
            'fields coalesce(apigwStatus, "-") as apigwCanaryArm0, '
            'coalesce(`m`, "-") as apigwCanaryArm1, '
            'coalesce(`p`, "-") as apigwCanaryArm2, coalesce(`t`, "-") as apigwCanaryArm3, '
            'coalesce(`e`, "-") as apigwCanaryArm4 | stats count(*) as requests by apigwCanaryArm, '
            "apigwCanaryArm0, apigwCanaryArm1, apigwCanaryArm2, apigwCanaryArm3, apigwCanaryArm4"
        )

    def test_a_format_with_less(self) -> None:
        """What the format does not have is None."""
        aws = Aws([cells("true", 502, "-", "-", "-", "-", 3)])
        (found,) = read(aws)
        assert '"-" as apigwCanaryArm1' in aws.asked[0]["queryString"]
        assert found == Failure(
            status=502, canary_failed=3, canary_requests=3, baseline_failed=0, baseline_requests=0
        )

    def test_rows_are_added(self) -> None:
        """The baseline's lines from before and during the canary are one arm's."""
        aws = Aws(
            [
                cells("-", 502, "GET", "/", "X", "no", 3),
                cells("false", 502, "GET", "/", "X", "no", 4),
                cells("false", 200, "GET", "/", "-", "-", 93),
                cells("true", 502, "GET", "/", "X", "no", 5),
                cells("true", "-", "GET", "/", "X", "no", 9),  # no status: shown as such
            ]
        )
        unread, found = read(aws, **ALL)
        assert (unread.status, unread.canary_failed, unread.baseline_failed) == (0, 9, 0)
        assert (found.baseline_failed, found.baseline_requests) == (7, 100)
        assert (found.canary_failed, found.canary_requests) == (5, 14)
        assert (found.method, found.path, found.error_type, found.message) == (
            "GET",
            "/",
            "X",
            "no",
        )

    def test_lines_without_a_variant_are_not_passed_over(self) -> None:
        """A failing line whose variant cannot be read is shown as the canary's."""
        (found,) = read(Aws([cells("?", 502, "-", "-", "-", "-", 3)]))
        assert (found.status, found.canary_failed, found.baseline_failed) == (502, 3, 0)

    def test_contradictions_are_refused(self) -> None:
        """A row that cannot be is an error."""
        with pytest.raises(MetricsError):
            read(Aws([cells("true", 502, "-", "-", "-", "-", "many")]))


class TestCanary:
    def test_new_kinds_come_first(self) -> None:
        """The canary's failures are the truth, with the baseline's rates; the new kind leads."""
        with rehearsal(
            api=Backend(errors_5xx=0, errors_4xx=0.05),
            backends={"alias=v2": Backend(errors_5xx=0.02, errors_4xx=0.05)},
        ) as aws:
            canary = aws.stage.enable_canary(20, variables=V2)
            aws.sleep(1200)
            before = len(aws.calls)
            first, second = canary.failures()
            calls = sent(aws)[before:]
            rows = [each for each in aws.served if each.at >= START and each.at < aws.now()]
            assert canary.failures(limit=1).items == (first,)
        served = [each for each in rows if each.at < START + timedelta(minutes=19)]
        mine = [each for each in served if each.arm == "canary"]
        others = [each for each in served if each.arm == "baseline"]
        assert first == Failure(
            method="GET",
            path="/orders",
            status=502,
            error_type="INTEGRATION_FAILURE",
            message="Internal server error",
            canary_failed=sum(each.errors_5xx for each in mine),
            canary_requests=first.canary_requests,
            baseline_failed=0,
            baseline_requests=first.baseline_requests,
            canary_request_ids=first.canary_request_ids,
        )
        assert len(set(first.canary_request_ids)) == 2
        assert first.is_new
        assert (second.status, second.is_new) == (400, False)
        assert second.baseline_failed == sum(each.errors_4xx for each in others)
        assert first.canary_requests >= sum(each.requests for each in mine)
        queried = ["StartQuery", "GetQueryResults", "GetQueryResults"]
        assert calls == ["GetStage", "GetStage", *queried]

    @pytest.mark.parametrize("end", ["rollback", "promote"])
    def test_after_its_end(self, end: str) -> None:
        """Later it still tells the canary's time, and not what was served since."""
        with rehearsal(backends={"alias=v2": Backend(errors_5xx=0.1)}) as aws:
            canary = aws.stage.enable_canary(20, variables=V2)
            aws.sleep(600)
            getattr(canary, end)()
            aws.sleep(300)
            soon = canary.failures()
            aws.sleep(3000)
            assert canary.failures() == soon
        assert soon[0].status == 502
        assert soon[0].baseline_failed < soon[0].canary_failed

    def test_of_the_logs_that_the_stage_was_given(self) -> None:
        """A stage with `AccessLogs` as its metrics is asked of these, in their session."""
        other = Aws([cells("true", 502, "-", "-", "-", "-", 3)])
        with rehearsal(requests_per_minute=10) as aws:
            stage = fresh(aws, metrics=AccessLogs("access", format=FORMAT, session=other))
            canary = stage.enable_canary(20, variables=V2)
            assert [each.status for each in canary.failures()] == [502]
            assert not any(call.service == "logs" for call in aws.calls)

    def test_right_after_the_start(self) -> None:
        """There is nothing to tell yet, and that is no error."""
        with rehearsal(requests_per_minute=10) as aws:
            canary = aws.stage.enable_canary(20, variables=V2)
            assert canary.failures().items == ()
            canary.rollback()
            assert canary.failures().items == ()

    def test_of_another_canary_nothing_is_told(self) -> None:
        """Where somebody else's canary runs, its failures are not shown as this one's."""
        with rehearsal(requests_per_minute=10) as aws:
            canary = aws.stage.enable_canary(20, variables=V2)
            fresh(aws).rollback()
            fresh(aws).enable_canary(20, variables={"alias": "v3"})
            with pytest.raises(StageChangedError):
                canary.failures()
            assert "StartQuery" not in sent(aws)

    def test_without_access_logs(self) -> None:
        """The error says which access logs to switch on."""
        with rehearsal(requests_per_minute=10, access_logs=None) as aws:
            canary = aws.stage.enable_canary(20, variables=V2)
            with pytest.raises(InvalidInputError, match="Let the stage write access logs"):
                canary.failures()

    @pytest.mark.parametrize("limit", [0, -1, float("nan"), "5", None])
    def test_limit_is_checked(self, limit: Any) -> None:
        """At least one is asked for."""
        with rehearsal(requests_per_minute=10) as aws:
            canary = aws.stage.enable_canary(20, variables=V2)
            with pytest.raises(InvalidInputError, match="limit"):
                canary.failures(limit)
