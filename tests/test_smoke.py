"""A smoke test: what it sends, what it finds, and what it never shows or changes."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acting import ORDERS, V2, client, create_function, fresh, sent, serving, uri
from apigw_canary import Report, SmokeRequest, SmokeResult, Stage
from apigw_canary.aws.apigateway import InvocationAnswer, relevant_log
from apigw_canary.errors import AccessDeniedError, InvalidInputError, NotFoundError, ThrottledError
from apigw_canary.model.api_surface import Route, answering
from apigw_canary.testing import Backend, Fault, Method, Rehearsal, RehearsalError, rehearsal
from apigw_canary.testing.answers import Refusal

GOOD = Backend(errors_5xx=0, errors_4xx=0, body='{"ok": true}')
BROKEN = Backend(errors_5xx=1, errors_4xx=0, body='{"ok": false}')
SECRET = "s3cr3t-t0k3n"
CUSTOMER_ERROR = "Lambda execution failed with status 200 due to customer function error"
LAMBDA_ID = "Lambda request id: 0d94a1bc-6c2a-4b6c-8d8b-2b6b0a2c9d10"


def rehearsed(**options: Any) -> Any:
    """A healthy API whose v2 is broken."""
    return rehearsal(api=GOOD, **{"backends": {"alias=v2": BROKEN}, **options})


def one(stage: Stage, request: str | SmokeRequest = "GET /orders", **options: Any) -> SmokeResult:
    (result,) = stage.smoke_test([request], **options)
    return result


def invocations(aws: Rehearsal) -> list[Mapping[str, object]]:
    """The parameters of the test invocations so far."""
    return [call.parameters for call in aws.calls if call.operation == "TestInvokeMethod"]


class TestResults:
    def test_a_broken_canary_is_found_before_any_traffic(self) -> None:
        """The same requests pass with production's variables and fail with the canary's."""
        with rehearsed() as aws:
            requests = ["GET /orders", "GET /orders/42"]
            now = aws.stage.smoke_test(requests)
            then = aws.stage.smoke_test(requests, variables=V2)
            assert [result.passed for result in (*now, *then)] == [True, True, False, False]
            assert {result.outcome for result in then} == {"failed"}
            assert then[0].status == 500
            assert "status 500" in then[0].reason
            assert then[1].route == "GET /orders/{id}"
            assert then[1].log[-1] == "Method completed with status: 500"
            assert not any(row.arm == "canary" for row in aws.served)

    def test_nothing_of_the_stage_changes(self) -> None:
        """Only reads and test invocations are sent, and the traffic is what it would have been."""
        served = []
        for tested in (False, True):
            with rehearsed(requests_per_minute=50) as aws:
                before = serving(aws)
                aws.sleep(30)
                if tested:
                    aws.stage.smoke_test(["GET /orders"] * 3, variables=V2)
                    assert sent(aws) == ["GetStage", "GetResources", *["TestInvokeMethod"] * 3]
                assert serving(aws) == before
                aws.sleep(90)
                served.append(aws.served)
        assert served[0] == served[1]

    @pytest.mark.parametrize(
        "request_, passed, reason",
        [
            (SmokeRequest("GET", "/orders", status=200), True, "status 200"),
            (SmokeRequest("GET", "/orders", status=201), False, "instead of status 201"),
            (SmokeRequest("GET", "/orders", contains='"ok": true'), True, "status 200"),
            (SmokeRequest("GET", "/orders", contains="ready"), False, "without 'ready' in the"),
            ("GET /nothing", False, "no method that answers it"),
            ("OPTIONS /orders", False, "no method that answers it"),
        ],
    )
    def test_expectations(self, request_: str | SmokeRequest, passed: bool, reason: str) -> None:
        """Status and body are compared with what was expected; no answer is a failure."""
        with rehearsed() as aws:
            result = one(aws.stage, request_)
            assert result.passed is passed
            assert reason in result.reason
            assert str(result) == f"{result.outcome}: {request_}: {result.reason}"
            assert result.expected

    def test_client_errors(self) -> None:
        """A 4xx fails, unless it is what was expected."""
        with rehearsed(backends={"alias=v2": Backend(errors_5xx=0, errors_4xx=1)}) as aws:
            assert one(aws.stage, variables=V2).reason.startswith("status 400")
            expected = SmokeRequest("GET", "/orders", status=400)
            assert one(aws.stage, expected, variables=V2).passed

    def test_a_variable_that_canary_requests_would_not_have(self) -> None:
        """It is told without being sent: such a request is answered with a 500."""
        with rehearsed(variables={}) as aws:
            result = one(aws.stage)
            assert result.outcome == "failed"
            assert "stage variables alias" in result.reason
            assert not invocations(aws)

    def test_what_is_sent(self) -> None:
        """The stage's variables overlaid by the canary's, with path, query, headers and body."""
        with rehearsed(variables={"alias": "v1", "level": "info"}) as aws:
            post = SmokeRequest("POST", "/orders?dry=1", headers={"X-Key": SECRET}, body="{}")
            one(aws.stage, post, variables=V2, unsafe=True)
            (sent_,) = invocations(aws)
            assert sent_["httpMethod"] == "POST"
            assert sent_["pathWithQueryString"] == "/orders?dry=1"
            assert sent_["headers"] == {"X-Key": SECRET}
            assert sent_["body"] == "{}"
            assert sent_["stageVariables"] == {"alias": "v2", "level": "info"}

    def test_an_answer_without_a_latency(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What AWS leaves out is None."""
        with rehearsed() as aws:
            answers = aws._trials
            whole = answers.answer
            monkeypatch.setattr(answers, "answer", lambda p: {"status": whole(p)["status"]})
            result = one(aws.stage)
            assert (result.outcome, result.latency, result.log) == ("passed", None, ())
            assert result.reason == "status 200."

    @pytest.mark.parametrize("odd", [{"status": 7}, {"latency": 10**12}, {"latency": -1}])
    def test_an_answer_that_cannot_be(
        self, monkeypatch: pytest.MonkeyPatch, odd: dict[str, int]
    ) -> None:
        """It proves nothing."""
        with rehearsed() as aws:
            answers = aws._trials
            whole = answers.answer
            monkeypatch.setattr(answers, "answer", lambda p: {**whole(p), **odd})
            result = one(aws.stage)
            assert result.outcome == "not testable"
            assert "is not AWS's" in result.reason


class TestPermissions:
    @pytest.fixture
    def aws(self) -> Iterator[Rehearsal]:
        with rehearsed(methods={"GET /orders": Method(uri=ORDERS)}) as aws:
            create_function(aws, "orders", "v1", "v2")
            yield aws

    @pytest.mark.parametrize("value", ["a", "on", "Lambda", "Invalid"])
    def test_no_value_changes_the_outcome(self, aws: Rehearsal, value: str) -> None:
        """Whether a function lets test invocations in is told by the log as it was."""
        aws.stage.allow_invocation(V2)
        assert one(aws.stage, variables={**V2, "shard": value}).outcome == "not testable"

    def test_a_missing_permission_is_no_failing_backend(self, aws: Rehearsal) -> None:
        """A function that does not let test invocations in is not testable; then it is tested."""
        aws.stage.allow_invocation(V2)
        missing = one(aws.stage, variables=V2)
        assert missing.outcome == "not testable"
        assert "allow_invocation(variables, smoke_test=True)" in missing.reason
        (added,) = aws.stage.allow_invocation(V2, smoke_test=True)
        assert added.source_arn.endswith(f":{aws.rest_api_id}/test-invoke-stage/*/*")
        assert added.method == "ANY /*"
        failing = one(aws.stage, variables=V2)
        assert (failing.outcome, failing.status) == ("failed", 502)
        assert any("customer function error. Lambda request id: " in x for x in failing.log)
        assert aws.stage.allow_invocation(V2, smoke_test=True) == ()

    def test_each_function_gets_one(self, aws: Rehearsal) -> None:
        """Functions that no variable leads to are tested too, and each gets one permission."""
        create_function(aws, "users", "live")
        aws.edit(
            methods={
                "POST /orders": Method(uri=ORDERS),
                "GET /users": Method(uri=uri("users:live")),
                "GET /role": Method(uri=uri("users:live"), credentials="arn:role"),
                "GET /gone": Method(uri=uri("nowhere:live")),
                "GET /mock": Method(uri=None),
            }
        )
        added = aws.stage.allow_invocation(V2, smoke_test=True)
        assert len(added) == 4  # GET and POST of orders for the stage, and one each for the tests
        tested = [each for each in added if "test-invoke-stage" in each.source_arn]
        assert {each.function_arn.rpartition("function:")[2] for each in tested} == {
            "orders:v2",
            "users:live",
        }
        assert one(aws.stage, "GET /users").passed
        assert one(aws.stage, "GET /role").passed

    def test_without_variables(self) -> None:
        """An API that uses no variables can be tested as well."""
        with rehearsal(methods={"GET /users": Method(uri=uri("users:live"))}) as other:
            create_function(other, "users", "live")
            (added,) = other.stage.allow_invocation({}, smoke_test=True)
            assert added.function_arn.endswith(":users:live")
            with pytest.raises(InvalidInputError, match="used by an integration"):
                other.stage.allow_invocation(V2, smoke_test=True)

    def test_a_function_that_is_not_there(self, aws: Rehearsal) -> None:
        """API Gateway answers as if the permission were missing, which the reason says."""
        result = one(aws.stage, variables={"alias": "v9"})
        assert result.outcome == "not testable"
        assert "no such function" in result.reason
        with pytest.raises(NotFoundError):
            aws.stage.allow_invocation({"alias": "v9"}, smoke_test=True)

    def test_a_healthy_function(self, aws: Rehearsal) -> None:
        """Production's own function, once test invocations may call it."""
        aws.stage.allow_invocation({"alias": "v1"}, smoke_test=True)
        assert one(aws.stage).passed

    def test_a_caller_who_may_not_test(self) -> None:
        """A missing permission of the caller's raises, and tells how far the test had come."""
        with rehearsed() as aws:
            aws.fail("TestInvokeMethod", Fault.ACCESS_DENIED, skip=1)
            with pytest.raises(AccessDeniedError) as raised:
                aws.stage.smoke_test(["GET /orders"] * 3)
            assert raised.value.action == "apigateway:POST"
            assert "1 of 3 requests were answered before." in raised.value.happened

    def test_with_versions(self) -> None:
        """A rehearsal with a function of its own tests that."""
        with rehearsal(versions=[GOOD, BROKEN]) as aws:
            aws.session.client("lambda").create_alias(
                FunctionName="orders", Name="v2", FunctionVersion="2"
            )
            aws.stage.allow_invocation(V2, smoke_test=True)
            aws.stage.allow_invocation({"alias": "v1"}, smoke_test=True)
            assert one(aws.stage).passed
            assert one(aws.stage, variables=V2).outcome == "failed"


class TestRefusals:
    @pytest.mark.parametrize("code", ["BadRequestException", "NotFoundException"])
    def test_a_method_that_aws_does_not_test(self, code: str) -> None:
        """It has neither passed nor failed, the others are tested, and AWS's text is not shown."""
        with rehearsed() as aws:

            def refuse() -> None:
                raise Refusal(code, f"cannot test with {SECRET}")

            aws.meanwhile("TestInvokeMethod", refuse)
            first, second = aws.stage.smoke_test(["GET /orders", "GET /orders/1"])
            assert (first.outcome, second.outcome) == ("not testable", "passed")
            assert SECRET not in f"{first!r} {first}"

    @pytest.mark.parametrize("fault", [Fault.TIMEOUT, Fault.INTERNAL_ERROR])
    def test_no_answer(self, fault: Fault) -> None:
        """It is not sent again, since the backend may have been called."""
        with rehearsed() as aws:
            aws.fail("TestInvokeMethod", fault, after=True)
            result = one(aws.stage)
            assert result.outcome == "not testable"
            assert "may have been called" in result.reason
            assert len(invocations(aws)) == 1

    def test_throttled(self) -> None:
        """A request that was refused because AWS is busy is sent again, and raises in the end."""
        with rehearsed() as aws:
            aws.fail("TestInvokeMethod", Fault.THROTTLED)
            assert one(aws.stage).passed
            for i in range(30):
                aws.fail("TestInvokeMethod", Fault.THROTTLED, skip=i)
            with pytest.raises(ThrottledError, match="0 of 1 requests were answered before"):
                one(aws.stage)

    @pytest.mark.parametrize(
        "requests",
        ["GET /orders", [], [7], ["GET"], ["get /orders"], ["TRACE /orders"], ["GET orders"]],
    )
    def test_requests(self, requests: Any) -> None:
        """Requests that are none are refused before anything is sent."""
        with rehearsed() as aws:
            with pytest.raises(InvalidInputError):
                aws.stage.smoke_test(requests)
            assert not sent(aws)

    @pytest.mark.parametrize("method", ["DELETE", "PATCH", "POST", "PUT"])
    def test_unsafe(self, method: str) -> None:
        """A method that may change something needs `unsafe`; nothing is sent without it."""
        with rehearsed() as aws:
            with pytest.raises(InvalidInputError, match="unsafe=True"):
                aws.stage.smoke_test(["GET /orders", f"{method} /orders"])
            assert not sent(aws)
            (result,) = aws.stage.smoke_test([f"{method} /orders"], unsafe=True)
            assert result.passed is (method == "POST")

    def test_a_deployment(self) -> None:
        """Only the API as it is being edited can be tested."""
        with rehearsed() as aws:
            with pytest.raises(InvalidInputError, match="as it is being edited"):
                aws.stage.smoke_test(["GET /orders"], deployment_id="abc123")
            assert not sent(aws)

    @pytest.mark.parametrize(
        "options, field",
        [
            ({"path": "/orders/{id}"}, "path"),
            ({"path": "/größe"}, "path"),
            ({"path": "/a b"}, "path"),
            ({"path": 5}, "path"),
            ({"method": "ANY"}, "method"),
            ({"headers": {"a b": "c"}}, "a name in headers"),
            ({"headers": {"a": SECRET + "\r\nb: c"}}, "headers['a']"),
            ({"headers": {"a": 5}}, "headers['a']"),
            ({"body": b"{}"}, "body"),
            ({"status": 99}, "status"),
            ({"status": True}, "status"),
            ({"contains": ""}, "contains"),
            ({"contains": 5}, "contains"),
        ],
    )
    def test_a_request(self, options: dict[str, Any], field: str) -> None:
        """Each part of a request is checked, and the error names it without a secret."""
        with pytest.raises(InvalidInputError) as raised:
            SmokeRequest(**{"method": "GET", "path": "/orders", **options})
        assert raised.value.field == field
        assert SECRET not in str(raised.value)

    def test_an_outcome(self) -> None:
        """There are three."""
        with pytest.raises(InvalidInputError, match="passed, failed, not testable"):
            SmokeResult(request="GET /", outcome="good", expected="", reason="")  # type: ignore[arg-type]


class TestSecrets:
    def test_nothing_of_them_is_shown(self) -> None:
        """Values of variables and headers, and bodies, are in no form of request and result."""
        variables = {"alias": "v2", "token": SECRET}
        request = SmokeRequest(
            "POST", "/orders", headers={"Authorization": SECRET}, body=f'{{"key": "{SECRET}"}}'
        )
        leaking = uri("orders-${stageVariables.token}:${stageVariables.alias}")
        with rehearsed(methods={"POST /orders": Method(uri=leaking, credentials="role")}) as aws:
            result = one(aws.stage, request, variables=variables, unsafe=True)
            assert result.outcome == "failed"
            report = Report([result])
            shown = [repr(request), str(request), repr(result), str(result), str(result.to_dict())]
            shown += [report.text(), report.markdown(), report.json(), report.html(), str(report)]
            assert not any(SECRET in each for each in shown)
            assert repr(SmokeRequest("GET", "/")).endswith("body=None, status=None, contains=None)")

    LINES = (
        "Execution failed due to configuration error: Invalid endpoint {}",
        "Execution failed due to a timeout error",
        f"{CUSTOMER_ERROR}: {{}}. {LAMBDA_ID}",
        "Lambda invocation failed with status: 429. Lambda request id: {}",
        "Request body does not match model schema for content type application/json: [{}]",
        "Endpoint request URI: {}",
        "Endpoint request headers: {{Authorization={}}}",
        "Endpoint response body before transformations: {}",
        "Method request body before transformations: {}",
        "Received response. Status: 200, Integration latency: 12 ms",
        "Method completed with status: 502",
        "{}",
    )

    @given(
        values=st.dictionaries(
            st.sampled_from("abc"), st.text("QZ/:=&?#,", min_size=1, max_size=12), max_size=3
        ),
        headers=st.dictionaries(
            st.sampled_from("de"), st.text("QZ{}$%\u00e4", max_size=12), max_size=2
        ),
        seed=st.integers(0, 2**32),
    )
    def test_no_line_has_a_value(
        self, values: dict[str, str], headers: dict[str, str], seed: int
    ) -> None:
        """Whatever the log repeats, a line that is kept has none of the values in it.

        The letters of the values are in no text of API Gateway's, nor in what stands for a value.
        """
        rng = random.Random(seed)
        told = [value for value in (*values.values(), *headers.values()) if value] or ["-"]
        log = "\n".join(
            f"Sat Dec 03 01:39:37 UTC 2016 : {line.format(rng.choice(told))}"
            for line in rng.choices(self.LINES, k=6)
        )
        for line in relevant_log(log, values, headers):
            assert not set("QZ") & set(line)

    @given(st.text('QZ /:=&?#,%\\"+\u00e4\U0001f600', min_size=1, max_size=40), st.data())
    def test_no_form_of_a_value(self, core: str, data: st.DataObject) -> None:
        """A value is hidden in each of its forms, wherever in the line it begins."""
        value = f"Q{core}Z"
        forms = [value, *(quote(value, safe=safe) for safe in ("", "/", ":/", "/:?=&,"))]
        forms += [quote_plus(value), json.dumps(value)[1:-1]]
        forms += [json.dumps(value, ensure_ascii=False)[1:-1], quote(quote(value, safe=""))]
        forms += [re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), form) for form in forms]
        form, before = data.draw(st.sampled_from(forms)), "x" * data.draw(st.integers(0, 300))
        log = f"Sat Dec 03 01:39:37 UTC 2016 : Execution failed {before}{form}"
        (line,) = relevant_log(log, {}, {"a": value})
        assert line == f"Execution failed {before}<header a>"[:300]

    def test_short_values(self) -> None:
        """A value of one or two characters is hidden where nothing else is next to it."""
        time = "Sat Dec 03 01:39:37 UTC 2016 : "
        log = f"{time}Execution failed at a/b%2Fa, table\n{time}Method completed with status: 200"
        shard = "${stageVariables.shard}"
        assert list(relevant_log(log, {"shard": "a", "none": ""}, {})) == [
            f"Execution failed at {shard}/b%2F{shard}, table",
            "Method completed with status: 200",
        ]

    def test_an_answer(self) -> None:
        """The answer of AWS shows no body in a traceback."""
        answer = InvocationAnswer(status=200, body=SECRET, latency=None, log=(), not_allowed=False)
        assert repr(answer) == "<answer of status 200>"

    def test_lines(self) -> None:
        """The lines that are kept, without times, in their order and on one line each."""
        time = "Sat Dec 03 01:39:37 UTC 2016 : "
        log = "".join(f"{time}{line.format(SECRET)}\n" for line in self.LINES)
        assert list(relevant_log(f"Execution log for request x\n{log}", {"token": SECRET}, {})) == [
            "Execution failed due to configuration error: Invalid endpoint ${stageVariables.token}",
            "Execution failed due to a timeout error",
            f"{CUSTOMER_ERROR}. {LAMBDA_ID}",
            "Lambda invocation failed with status: 429",
            "Request body does not match model schema",
            "Received response. Status: 200, Integration latency: 12 ms",
            "Method completed with status: 502",
        ]
        (line,) = relevant_log(f"{time}Execution failed \x1b[2J{'x' * 5000}", {}, {})
        assert line.isprintable()
        assert len(line) < 400


SHAPES = {
    "GET /": ["GET /"],
    "GET /health": ["GET /health"],
    "GET /orders/{id}": ["GET /orders/42", "GET /orders/a%2Fb", "GET /orders/42?x=1"],
    "GET /orders/latest": ["GET /orders/latest"],
    "GET /users/{user}/orders/{id}/items/{item}": ["GET /users/1/orders/2/items/3"],
    "ANY /users/{user}": ["GET /users/1", "HEAD /users/1"],
    "POST /users/{user}": [],
    "ANY /files/{path+}": ["GET /files/a", "GET /files/a/b/c.txt?v=2", "OPTIONS /files/x"],
    "GET /files/index": ["GET /files/index"],
    "ANY /{proxy+}": ["GET /elsewhere", "GET /orders/42/more", "GET /files"],
}


class TestPaths:
    @pytest.mark.parametrize("test_any", ["verb", "ANY"])
    def test_shapes(self, test_any: Any) -> None:
        """Parameters, proxies and ANY lead to the method that answers; AWS tests each of them."""
        with rehearsed(methods=dict.fromkeys(SHAPES, Method()), test_any=test_any) as aws:
            asked = [(request, route) for route, each in SHAPES.items() for request in each]
            results = aws.stage.smoke_test([request for request, _ in asked])
            assert [result.route for result in results] == [route for _, route in asked]
            assert all(result.passed for result in results)
            verbs = {str(call["httpMethod"]) for call in invocations(aws)}
            assert ("ANY" in verbs) is (test_any == "ANY")
            once = len(asked) if test_any == "verb" else len(asked) + 8
            assert len(invocations(aws)) == once

    def test_a_method_of_its_own_comes_before_any(self) -> None:
        """POST is answered by POST where a resource has both."""
        with rehearsed(methods=dict.fromkeys(SHAPES, Method())) as aws:
            result = one(aws.stage, "POST /users/1", unsafe=True)
            assert result.route == "POST /users/{user}"

    def test_nothing_at_all(self) -> None:
        """A root path is no path of a proxy resource."""
        with rehearsed(methods={"ANY /{proxy+}": Method()}) as aws:
            assert one(aws.stage, "GET /").outcome == "failed"

    def test_any_that_aws_knows_by_neither(self) -> None:
        """A method ANY that is known neither by the verb nor as ANY is not testable."""
        with rehearsed(methods={"ANY /x": Method()}) as aws:

            def refuse() -> None:
                raise Refusal("NotFoundException", "Invalid Method identifier specified", 404)

            aws.meanwhile("TestInvokeMethod", refuse)
            aws.meanwhile("TestInvokeMethod", refuse, skip=1)
            assert one(aws.stage, "GET /x").outcome == "not testable"
            assert [call["httpMethod"] for call in invocations(aws)] == ["GET", "ANY"]
            aws.fail("TestInvokeMethod", Fault.EXPIRED_CREDENTIALS)
            with pytest.raises(PermissionError):
                one(aws.stage, "GET /x")

    @pytest.mark.long
    def test_four_hundred_routes(self) -> None:
        """Each of 400 methods is found, with one GetResources."""
        routes = [f"GET /v{i % 4}/things{i}/{{id}}" for i in range(400)]
        with rehearsed(methods=dict.fromkeys(routes, Method())) as aws:
            asked = [route.replace("{id}", "7") for route in routes]
            results = aws.stage.smoke_test(asked)
            assert [result.route for result in results] == routes
            assert all(result.passed for result in results)
            assert sent(aws).count("GetResources") == 1

    PARTS = st.sampled_from(["a", "b", "{x}", "{y}"])

    @given(
        templates=st.lists(
            st.tuples(st.lists(PARTS, max_size=3), st.booleans()).map(
                lambda each: "/" + "/".join([*each[0], "{p+}"] if each[1] else each[0])
            ),
            max_size=6,
        ),
        path=st.lists(st.sampled_from("abc"), max_size=4).map(lambda parts: "/" + "/".join(parts)),
    )
    def test_as_a_walk_down_the_tree(self, templates: list[str], path: str) -> None:
        """The same resource as a walk that prefers names, then parameters, then proxies."""

        def walk(prefix: str, parts: list[str]) -> Iterator[str]:
            if not parts:
                yield prefix or "/"
                return
            first, *rest = parts
            yield from walk(f"{prefix}/{first}", rest)
            yield from (
                found for name in ("{x}", "{y}") for found in walk(f"{prefix}/{name}", rest)
            )
            yield f"{prefix}/{{p+}}"

        parts = [part for part in path.split("/") if part]
        expected = [found for found in walk("", parts) if found in templates]
        found = answering([Route("GET", each) for each in templates], Route("GET", path))
        assert (found and found.path) == (expected[0] if expected else None)


class TestReports:
    def test_passed(self) -> None:
        """A test that passed says so, and shows each request."""
        with rehearsed() as aws:
            report = Report(aws.stage.smoke_test(["GET /orders", "GET /orders/42"]))
            assert str(report) == "2 passed: Each request was answered as expected."
            assert report.markdown().startswith("### ✅ Smoke test: 2 passed\n")
            assert "GET /orders/{id}" in report.text()

    def test_failed(self) -> None:
        """The first request that did not pass leads, and the log follows."""
        with rehearsed() as aws:
            results = [
                *aws.stage.smoke_test(["GET /orders"]),
                *aws.stage.smoke_test(["GET /orders", "GET /nope"], variables=V2),
            ]
            text = Report(results).text()
            assert text.startswith("Smoke test: 2 failed, 1 passed\n")
            assert "Log of request 2\n" in text
            assert "Log of request 3\n" not in text
            assert SmokeResult.from_dict(results[1].to_dict()) == results[1]

    def test_not_testable(self) -> None:
        """A test that says nothing is no good one; one result is a report too."""
        with rehearsed() as aws:
            aws.fail("TestInvokeMethod", Fault.TIMEOUT)
            result = one(aws.stage)
            assert Report(result).markdown().startswith("### ⏳ Smoke test: 1 not testable\n")
            with pytest.raises(InvalidInputError, match="None"):
                Report([result], policy=7)  # type: ignore[arg-type]


class TestRehearsals:
    """What a rehearsal does not know of AWS it does not answer."""

    @pytest.fixture
    def aws(self) -> Iterator[Rehearsal]:
        methods = {
            "GET /orders/{id}": Method(),
            "ANY /any": Method(),
            "GET /mock": Method(uri=None),
            "GET /orders": Method(uri=ORDERS),
        }
        with rehearsed(methods=methods) as aws:
            yield aws

    def invoke(self, aws: Rehearsal, resource: str, verb: str = "GET", **options: Any) -> Any:
        items = client(aws).get_resources(restApiId=aws.rest_api_id, embed=["methods"])["items"]
        ids = {item["path"]: item["id"] for item in items}
        return client(aws).test_invoke_method(
            restApiId=aws.rest_api_id,
            resourceId=ids.get(resource, resource),
            httpMethod=verb,
            **{"stageVariables": {"alias": "v1"}, **options},
        )

    def test_an_answer(self, aws: Rehearsal) -> None:
        """As AWS documents it; any variables may be given, and change nothing."""
        path = {"pathWithQueryString": "/orders/1?a=b"}
        good = self.invoke(aws, "/orders/{id}", **path)
        bad = self.invoke(aws, "/orders/{id}", **path, stageVariables={"alias": "v2", "x": "y"})
        assert (good["status"], bad["status"]) == (200, 500)
        assert good["body"] == '{"ok": true}'
        assert good["headers"] == {"Content-Type": "application/json"}
        assert good["log"].startswith("Execution log for request ")
        assert good["latency"] > 0
        assert serving(aws)[1] == {"alias": "v1"}

    @pytest.mark.parametrize(
        "resource, verb, message",
        [("nope", "GET", "Invalid Resource"), ("/mock", "POST", "Invalid Method")],
    )
    def test_refusals(self, aws: Rehearsal, resource: str, verb: str, message: str) -> None:
        """What is not there is not found."""
        with pytest.raises(client(aws).exceptions.NotFoundException, match=message):
            self.invoke(aws, resource, verb)

    @pytest.mark.parametrize(
        "resource, options",
        [
            ("/orders/{id}", {"pathWithQueryString": "/orders"}),
            ("/orders/{id}", {}),
            ("/orders", {"stageVariables": {}}),
            ("/orders", {"clientCertificateId": "c"}),
            ("/mock", {}),
            ("/any", {"verb": "ANY"}),
        ],
    )
    def test_unknown(self, aws: Rehearsal, resource: str, options: dict[str, Any]) -> None:
        """Another path, variables that lack, a method without integration, a certificate."""
        with pytest.raises(RehearsalError):
            self.invoke(aws, resource, **options)

    @pytest.mark.parametrize(
        "condition, status",
        [
            ({"ArnLike": {"AWS:SourceArn": "arn:aws:execute-api:*:*:*/test-invoke-stage/*"}}, 200),
            ({"StringLike": {"aws:SourceArn": "*"}}, 200),
            ({"StringEquals": {"aws:SourceArn": "*"}}, 500),
            ({"ArnLike": {"aws:SourceArn": "arn:aws:execute-api:*:*:*/prod/*"}}, 500),
        ],
    )
    def test_policies(self, aws: Rehearsal, condition: Any, status: int) -> None:
        """A function lets test invocations in where a statement of its policy does."""
        statements = self.policy(aws)
        statements[0]["Condition"] = condition
        assert self.invoke(aws, "/orders")["status"] == status

    def policy(self, aws: Rehearsal) -> Any:
        """The statements of the function's policy, in moto, which takes no other conditions."""
        from moto.awslambda.models import lambda_backends

        create_function(aws, "orders", "v1")
        fresh(aws).allow_invocation({"alias": "v1"})
        functions: Any = lambda_backends["123456789012"]["eu-central-1"]
        return functions.get_function("orders", "v1").policy.statements

    @pytest.mark.parametrize(
        "change",
        [
            {"Effect": "Deny"},
            {"Condition": {"DateLessThan": {"aws:CurrentTime": "2026-01-01"}}},
            {"Condition": {"StringEquals": {"aws:SourceAccount": "123456789012"}}},
        ],
    )
    def test_policies_that_are_not_understood(self, aws: Rehearsal, change: Any) -> None:
        """A denial, another operator, another key."""
        self.policy(aws)[0].update(change)
        with pytest.raises(RehearsalError, match="does not understand the statement"):
            self.invoke(aws, "/orders")
