"""Execution logs: why API Gateway could not answer, told apart, and whose requests these were."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta
from typing import Any, get_args

import pytest

from acting import V2
from apigw_canary import Failures, LogGroup, Report, Stage
from apigw_canary.errors import InvalidInputError, MetricsError, NotFoundError
from apigw_canary.metrics.execution_logs import _QUERY
from apigw_canary.model.failure import FailureCause
from apigw_canary.testing import Backend, Rehearsal, rehearsal
from apigw_canary.testing.insights import Line, Query
from cloud import START

CAUSES = get_args(FailureCause)
GROUP = "API-Gateway-Execution-Logs_{}/prod"
ILL = {"alias=v2": Backend(errors_5xx=0.2, errors_4xx=0.02, causes=CAUSES)}


def failing(aws: Rehearsal, **options: Any) -> Failures:
    canary = aws.stage.enable_canary(25, variables=V2)
    aws.sleep(900)
    return canary.failures(source="execution", **options)


def served(aws: Rehearsal, found: Failures, arm: str) -> tuple[int, int]:
    """Requests and 5xx of a variant in the time that was looked at, as far as it has arrived."""
    rows = [
        row
        for row in aws.served
        if row.arm == arm and found.start <= row.at < found.end - timedelta(minutes=2)
    ]
    return sum(row.requests for row in rows), sum(row.errors_5xx for row in rows)


class TestRehearsed:
    @pytest.mark.long
    def test_causes_are_told_apart(self) -> None:
        """Each cause is a kind of its own, with its status, counts and examples."""
        with rehearsal(execution_logs="INFO", requests_per_minute=200, backends=ILL) as aws:
            found = failing(aws)
            by_cause = {each.cause: each for each in found if each.status >= 500}
            assert {each.status for each in found if each.status < 500} == {400}
            # What the backend answers itself has no line that states a cause.
            assert set(by_cause) == {*CAUSES, None} - {"other"}
            assert {cause: each.status for cause, each in by_cause.items()} == {
                "function_error": 502,
                "timeout": 504,
                "permission": 500,
                "mapping": 502,
                "throttling": 500,
                None: 500,
            }
            requests, bad = served(aws, found, "canary")
            assert sum(each.canary_failed for each in by_cause.values()) == pytest.approx(
                bad, rel=0.2
            )
            for each in found:
                assert (each.method, each.path) == ("GET", "/orders")
                assert each.canary_requests == pytest.approx(requests, rel=0.2)
                assert 1 <= len(each.canary_request_ids) <= 4
                assert each.is_new == (each.baseline_failed == 0)
            assert found.scanned_bytes > 0
            assert found.usd == pytest.approx(found.scanned_bytes / 1e9 * 0.005)
            assert found.unreadable_lines == 0
            assert "MB of the execution logs" in str(found)

    @pytest.mark.long
    def test_a_request_is_of_one_variant(self) -> None:
        """What is in the canary's group is taken out of the other, though it is in both."""
        with rehearsal(execution_logs="INFO", requests_per_minute=200, backends=ILL) as aws:
            found = failing(aws)
            lines = [each for each in found if each.cause == "timeout"]
            assert [each.baseline_failed for each in lines] == [0]
            (known,) = {each.baseline_requests for each in found}
            assert known == pytest.approx(served(aws, found, "baseline")[0], rel=0.1)
            ids = Counter(id_ for each in found for id_ in each.canary_request_ids)
            assert set(ids.values()) == {1}
            assert not ids.keys() & {i for each in found for i in each.baseline_request_ids}

    def test_the_ids_lead_to_the_access_logs(self) -> None:
        """The same request has the same id in both logs."""
        line = (
            '{"c": "$context.isCanaryRequest", "s": "$context.status", "i": "$context.requestId"}'
        )
        with rehearsal(
            execution_logs="INFO", access_logs=line, requests_per_minute=20, backends=ILL
        ) as aws:
            canary = aws.stage.enable_canary(25, variables=V2)
            aws.sleep(900)
            written, executed = canary.failures(), canary.failures(source="execution")
            assert [each.source for each in (written, executed)] == ["access", "execution"]
            (timeout,) = [each for each in executed if each.cause == "timeout"]
            (gateway_timeout,) = [each for each in written if each.status == 504]
            assert timeout.canary_failed == gateway_timeout.canary_failed
            assert set(gateway_timeout.canary_request_ids) & set(timeout.canary_request_ids)

    def test_level_error(self) -> None:
        """With failures only, their numbers are known, and a note says that totals are not."""
        with rehearsal(execution_logs="ERROR", requests_per_minute=200, backends=ILL) as aws:
            found = failing(aws)
            assert {each.cause for each in found} == {*CAUSES} - {"other"}
            assert {(each.status, each.path) for each in found} == {(0, None)}
            assert any("are no totals" in note for note in found.notes)
            assert "cannot be read" not in str(found[0])
            assert found[:2] == found.items[:2]

    @pytest.mark.traced
    @pytest.mark.long
    def test_unreadable_lines(self) -> None:
        """Lines that are not understood are counted, and so are requests without an end."""
        with rehearsal(
            execution_logs="INFO",
            requests_per_minute=200,
            backends=ILL,
            cut_lines=lambda _, status: float(status == 400),
        ) as aws:
            found = failing(aws)
            assert not [each for each in found if each.status == 400]
            assert found.unreadable_lines > 0
            assert f"{found.unreadable_lines:,} lines could not be read" in str(found)

    def test_without_execution_logs(self) -> None:
        """A stage without them says so, and what to do."""
        with rehearsal() as aws, pytest.raises(NotFoundError, match="has no execution logs"):
            failing(aws)

    def test_before_the_first_line_of_the_canary(self) -> None:
        """Without a group of the canary's no request is known as its own, and a note says so."""
        with rehearsal(execution_logs="INFO", requests_per_minute=20) as aws:
            canary = aws.stage.enable_canary(0, variables=V2)
            aws.sleep(600)
            found = canary.failures(source="execution")
            assert found.items == ()
            assert any("There is no log group" in note for note in found.notes)

    @pytest.mark.long
    def test_limit_and_source(self) -> None:
        """As many kinds as asked for, of logs that there are."""
        with rehearsal(execution_logs="INFO", requests_per_minute=200, backends=ILL) as aws:
            assert len(failing(aws, limit=2)) == 2
            canary = aws.stage.canary()
            assert canary is not None
            with pytest.raises(InvalidInputError, match="source"):
                canary.failures(source="both")  # type: ignore[arg-type]

    @pytest.mark.traced
    @pytest.mark.long
    def test_is_a_value(self) -> None:
        """Plain JSON, and a table in a report."""
        with rehearsal(execution_logs="INFO", requests_per_minute=200, backends=ILL) as aws:
            found = failing(aws)
        assert Failures.from_dict(json.loads(json.dumps(found.to_dict()))) == found
        assert hash(found) == hash(Failures.from_dict(found.to_dict()))
        text = Report(found).markdown()
        assert "Failing requests" in text
        assert found[0].canary_request_ids[0] in text


class TestLogGroups:
    def test_four_groups(self) -> None:
        """Each group of each variant by name, and whether it exists."""
        with rehearsal(execution_logs="INFO") as aws:
            group = GROUP.format(aws.rest_api_id)
            assert aws.stage.log_groups() == (
                LogGroup(
                    source="access",
                    variant="baseline",
                    name="rehearsal-access-logs",
                    exists=True,
                ),
                LogGroup(
                    source="access",
                    variant="canary",
                    name="rehearsal-access-logs/Canary",
                    exists=True,
                ),
                LogGroup(source="execution", variant="baseline", name=group, exists=True),
                LogGroup(
                    source="execution", variant="canary", name=f"{group}/Canary", exists=False
                ),
            )
            aws.stage.enable_canary(50, variables=V2)
            aws.sleep(120)
            assert all(each.exists for each in aws.stage.log_groups())

    def test_none_at_all(self) -> None:
        """A stage without logs has no name for its access logs, and no groups."""
        with rehearsal(access_logs=None) as aws:
            groups = aws.stage.log_groups()
            assert [each.exists for each in groups] == [False] * 4
            assert [each.name is None for each in groups] == [True, True, False, False]


def row(message: str, group: str = "1:g") -> Line:
    return Line(START, {}, 1, message, group)


def asked(*lines: Line) -> list[dict[str, str]]:
    return [
        {cell["field"]: cell["value"] for cell in cells} for cells in Query(_QUERY).results(lines)
    ]


class TestQuery:
    def test_what_clients_send_is_no_cause(self) -> None:
        """Only what the line itself begins with counts, not what a body or header says."""
        (found,) = asked(
            row("(a1) HTTP Method: GET, Resource Path: /x"),
            row(
                "(a1) Method request body before transformations: (a1) Execution failed due to a "
                "timeout error"
            ),
            row("(a1) Method request headers: Lambda execution failed with status 200"),
            row("(a1) Method completed with status: 200"),
        )
        assert (found["status"], found["why"], found["route"]) == (
            "200",
            "-",
            "GET, Resource Path: /x",
        )

    def test_a_function_that_times_out(self) -> None:
        """A function's own time-out is a time-out, not an error of the function."""
        (found,) = asked(
            row(
                "(a1) Lambda execution failed with status 200 due to customer function error: "
                "2019-02-27T11:31:11.456Z 7195 Task timed out after 10.00 seconds. Lambda request "
                "id: 7195"
            ),
            row("(a1) Method completed with status: 502"),
        )
        assert found["why"] == "Task timed out"

    def test_the_route_of_a_method(self) -> None:
        """The route as the API defines it goes before the path that was asked for."""
        (found,) = asked(
            row("(a1) HTTP Method: GET, Resource Path: /orders/17"),
            row("(a1) API Key  authorized because method 'GET /orders/{id}' does not require it"),
            row("(a1) Key throttle limit exceeded for RestApi a1b2"),
            row("(a1) Method completed with status: 429"),
        )
        assert found["route"] == "GET /orders/{id}"
        assert found["why"] == "Key throttle limit exceeded"


class Logs:
    """Logs Insights that answers with given rows."""

    def __init__(self, rows: list[dict[str, str]]) -> None:
        self.rows = rows

    def __call__(self, aws: Rehearsal) -> Any:
        answer = {
            "status": "Complete",
            "results": [
                [{"field": name, "value": value} for name, value in row.items()]
                for row in self.rows
            ],
        }
        session: Any = aws.session

        class Client:
            meta = None

            def describe_log_groups(self, **given: Any) -> Any:
                return {
                    "logGroups": [{"logGroupName": given["logGroupNamePrefix"]}],
                    "ResponseMetadata": {},
                }

            def start_query(self, **_: Any) -> Any:
                return {"queryId": "q", "ResponseMetadata": {}}

            def get_query_results(self, **_: Any) -> Any:
                return answer | {"ResponseMetadata": {}}

        class Session:
            def client(self, service_name: Any, *, config: Any = None) -> Any:
                own = service_name == "logs"
                return Client() if own else session.client(service_name, config=config)

        return Stage(aws.rest_api_id, "prod", session=Session(), sleep=aws.sleep)


COUNTED = {
    "route": "GET /x",
    "status": "500",
    "why": "Execution failed due to a fire ",
    "canaryLines": "2",
    "requests": "3",
    "allLines": "6",
    "firstId": "a1",
    "lastId": "b2",
}


class TestAnswers:
    def found(self, *rows: dict[str, str]) -> Failures:
        with rehearsal() as aws:
            stage = Logs(list(rows))(aws)
            canary = aws.stage.enable_canary(50, variables=V2)
            aws.sleep(300)
            again = stage.canary()
            assert again is not None
            assert canary is not None
            found: Failures = again.failures(source="execution")
            return found

    def test_another_cause(self) -> None:
        """An error of API Gateway's that is none of the five is shown as another one."""
        (found,) = self.found(COUNTED)
        assert (found.cause, found.message) == ("other", "Execution failed due to a fire")
        assert found.canary_request_ids == ("a1", "b2")

    def test_one_kind_in_several_rows(self) -> None:
        """Rows that differ only in how many lines the canary's group has are one kind."""
        (found,) = self.found(COUNTED, COUNTED | {"canaryLines": "1", "lastId": "c3"})
        assert (found.canary_failed, found.baseline_failed) == (6, 0)
        assert found.canary_request_ids == ("a1", "b2", "c3")

    def test_rows_without_a_place(self) -> None:
        """A request whose route is not known is shown without one."""
        (found,) = self.found(COUNTED | {"route": "~"})
        assert (found.method, found.path) == (None, None)

    def test_numbers_that_cannot_be(self) -> None:
        """A row that is no count is an error, not nothing."""
        with pytest.raises(MetricsError):
            self.found(COUNTED | {"requests": "many"})
