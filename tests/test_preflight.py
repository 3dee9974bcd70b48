"""Preflight: each check fires where it should, is silent elsewhere, and nothing is changed."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar

import attrs
import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from acting import ORDERS, V2, create_function, fresh, new_deployment, sent, serving, uri
from apigw_canary import (
    AccessLogs,
    Measurements,
    Minute,
    Problem,
    Promote,
    RolloutPolicy,
    Signal,
    Stage,
    Step,
)
from apigw_canary.aws.lambdas import (
    Function,
    arn_covers,
    called,
    covers,
    function_in,
    may_cover,
    source_arn,
)
from apigw_canary.errors import (
    AccessDeniedError,
    AwsError,
    CallerError,
    InvalidInputError,
    MetricsError,
    NotFoundError,
    UnansweredError,
    UnconfirmedChangeError,
)
from apigw_canary.judge.observation import AlarmState
from apigw_canary.model.api_surface import Route
from apigw_canary.preflight.invocation import Policy, Target
from apigw_canary.preflight.traffic import outlook
from apigw_canary.testing import Backend, Fault, Method, Rehearsal, RehearsalError, rehearsal

MINUTES = timedelta(minutes=1)
ALL_ON = {
    "methodSettings": {"*/*": {"loggingLevel": "ERROR", "metricsEnabled": True}},
    "accessLogSettings": {
        "format": '{"isCanaryRequest":"$context.isCanaryRequest"}',
        "destinationArn": "arn:aws:logs:eu-central-1:123456789012:log-group:access:*",
    },
}
PLAN = RolloutPolicy([Step(25, 20 * MINUTES), Step(50, 20 * MINUTES)])


def found(problems: Iterable[Problem], words: str) -> Problem:
    """The one problem whose text has these words."""
    matching = [problem for problem in problems if words in problem.what]
    assert len(matching) == 1, problems
    return matching[0]


METHODS = {
    "GET /": Method(uri=ORDERS),
    "GET /orders/{id}": Method(uri=ORDERS),
    "ANY /items/{proxy+}": Method(uri=ORDERS),
    "POST /orders": Method(uri=ORDERS),
    "GET /health": Method(uri=uri("health")),
}


class TestStage:
    def test_nothing_wrong(self) -> None:
        """A stage with all it needs has no problems, and looking at it changes nothing."""
        with rehearsal(settings=ALL_ON) as aws:
            before = serving(aws)
            assert aws.stage.check().problems == ()
            assert aws.stage.check(policy=PLAN).problems == ()
            assert serving(aws) == before
            assert all(operation.startswith("Get") for operation in sent(aws))

    def test_canary_there(self) -> None:
        """A canary that is there already is told with percent, deployment, age and its end."""
        with rehearsal(settings=ALL_ON) as aws:
            canary = aws.stage.enable_canary(5, variables=V2)
            aws.sleep(180)
            (problem,) = fresh(aws).check()
            assert problem.severity == "error"
            assert f"deployment {canary.deployment_id} at 5 %" in problem.what
            assert "3 min" in problem.what
            assert "stage.rollback()" in problem.remedy

    @pytest.mark.parametrize(
        "change, words",
        [
            ({"methodSettings": {}}, "Execution logs are off"),
            ({"methodSettings": {}}, "Detailed metrics are off"),
            ({"methodSettings": {"*/*": {"metricsEnabled": True}}}, "Execution logs are off"),
            ({"methodSettings": {"*/*": {"loggingLevel": "INFO"}}}, "Detailed metrics are off"),
            ({"accessLogSettings": {}}, "Access logs are off"),
            ({"accessLogSettings": {"format": "$context.status"}}, "has no isCanaryRequest"),
            ({"cacheClusterEnabled": True}, "after a promotion it is empty"),
        ],
    )
    def test_settings(self, change: Mapping[str, object], words: str) -> None:
        """What a stage does not log, measure or keep apart is a warning."""
        with rehearsal(settings={**ALL_ON, **change}) as aws:
            assert found(aws.stage.check(), words).severity == "warning"

    @pytest.mark.parametrize(
        "destination, group",
        [
            ("arn:aws:logs:eu-central-1:123456789012:log-group:access:*", "access"),
            ("arn:aws:logs:eu-central-1:123456789012:log-group:/a/b", "/a/b"),
            ("arn:aws:firehose:eu-central-1:123456789012:deliverystream/amazon-apigateway-a", None),
        ],
    )
    def test_access_log_group(self, destination: str, group: str | None) -> None:
        """Access logs go to a log group, or to Firehose."""
        settings = {"accessLogSettings": {"destinationArn": destination, "format": "$context.x"}}
        with rehearsal(settings=settings) as aws:
            found = aws.stage._control.gateway.stage().settings
            assert (found.access_log_group, found.access_log_format) == (group, "$context.x")

    def test_shared_cache(self) -> None:
        """A canary that shares the stage's cache is told, where there is one."""
        for cached in (True, False):
            with rehearsal(settings={**ALL_ON, "cacheClusterEnabled": cached}) as aws:
                aws.stage.enable_canary(5, variables=V2, use_stage_cache=True)
                texts = "".join(problem.what for problem in aws.stage.check())
                assert ("uses the stage's cache" in texts) == cached

    def test_no_such_stage(self) -> None:
        """A stage that the API does not have is one problem."""
        with rehearsal() as aws:
            stage = Stage(aws.rest_api_id, "test", session=aws.session)
            (problem,) = stage.check()
            assert problem.severity == "error"
            assert "the API has no such stage" in problem.what

    def test_no_such_api(self) -> None:
        """An API that does not exist is one problem, with the commonest reasons."""
        with rehearsal() as aws:
            (problem,) = Stage("nowhere", "prod", session=aws.session).check()
            assert "eu-central-1 has no such REST API" in problem.what
            assert "HTTP and WebSocket APIs" in problem.remedy

    @pytest.mark.parametrize("protocol", ["HTTP", "WEBSOCKET"])
    def test_other_kinds_of_api(self, protocol: str) -> None:
        """An id of an HTTP or WebSocket API is told as that."""
        with rehearsal() as aws:
            client = aws.session.client("apigatewayv2")
            options = {"RouteSelectionExpression": "$request.body.action"}
            api_id = client.create_api(
                Name="other",
                ProtocolType=protocol,
                **(options if protocol == "WEBSOCKET" else {}),
            )["ApiId"]
            (problem,) = Stage(api_id, "prod", session=aws.session).check()
            assert f"it is of type {protocol}" in problem.what
            assert "Only REST APIs" in problem.remedy


class TestPermissions:
    @pytest.mark.long
    @pytest.mark.parametrize(
        "operation, action",
        [
            ("GetStage", "apigateway:GET"),
            ("GetResources", "apigateway:GET"),
            ("GetDeployment", "apigateway:GET"),
            ("GetMetricData", "cloudwatch:GetMetricData"),
            ("DescribeAlarms", "cloudwatch:DescribeAlarms"),
            ("GetFunctionConfiguration", "lambda:GetFunctionConfiguration"),
            ("GetPolicy", "lambda:GetPolicy"),
        ],
    )
    def test_missing(self, operation: str, action: str) -> None:
        """A missing permission is a problem that names the operation and the action."""
        with rehearsal(settings=ALL_ON, methods=METHODS) as aws:
            create_function(aws, "orders", "v1", "v2")
            aws.stage.allow_invocation(V2, smoke_test=True)
            aws.fail(operation, Fault.ACCESS_DENIED)
            aws.alarm("high-latency")
            policy = attrs.evolve(PLAN, alarms=["high-latency"])
            (problem,) = fresh(aws).check(policy=policy, variables=V2)
            assert f"{operation} was denied" in problem.what
            assert f"Allow {action}" in problem.remedy

    @pytest.mark.parametrize("operation", ["GetRestApi", "GetApi"])
    def test_missing_for_an_absent_stage(self, operation: str) -> None:
        """Where it cannot be found out what the id is of, the hint is given."""
        with rehearsal() as aws:
            aws.fail(operation, Fault.ACCESS_DENIED)
            (problem,) = Stage("nowhere", "prod", session=aws.session).check()
            assert "was not found" in problem.what
            assert "HTTP and WebSocket APIs" in problem.remedy

    def test_no_text_of_aws(self) -> None:
        """AWS's refusals hold ARNs, and so values of stage variables: they are not repeated."""
        with rehearsal(settings=ALL_ON, methods=METHODS) as aws:
            create_function(aws, "orders", "v1", "v2")
            aws.fail("GetPolicy", Fault.ACCESS_DENIED)
            (problem,) = aws.stage.check(variables=V2)
            assert "arn:" not in str(problem)
            assert "orders:${stageVariables.alias}" in problem.what


class TestInputs:
    def test_of_the_caller(self) -> None:
        """The caller's own mistakes raise, before anything is sent."""
        with rehearsal() as aws:
            wrongs: tuple[dict[str, Any], ...] = (
                {"policy": "PLAN"},
                {"variables": {"a-b": "c"}},
                {"deployment_id": "a/b"},
            )
            for wrong in wrongs:
                with pytest.raises(InvalidInputError):
                    aws.stage.check(**wrong)
            assert aws.calls == []

    def test_no_such_deployment(self) -> None:
        """A deployment that the API does not have is a problem."""
        with rehearsal(settings=ALL_ON) as aws:
            (problem,) = aws.stage.check(deployment_id="nothere")
            assert problem.severity == "error"
            assert "What would change could not be read" in problem.what

    @pytest.mark.long
    @pytest.mark.parametrize("fault", [Fault.INTERNAL_ERROR, Fault.CONNECTION_REFUSED])
    def test_whatever_cannot_be_read(self, fault: Fault) -> None:
        """Whatever fails, with whichever error, is a problem of the report."""
        for operation in ("GetStage", "GetResources", "GetDeployment", "DescribeAlarms"):
            with rehearsal(settings=ALL_ON) as aws:
                aws.alarm("errors")
                for _ in range(30):
                    aws.fail(operation, fault)
                policy = attrs.evolve(PLAN, alarms=("errors",))
                problems = aws.stage.check(policy=policy, variables=V2, deployment_id="nothere")
                assert any("could not be read" in problem.what for problem in problems)

    def test_the_kind_of_api_cannot_be_read(self) -> None:
        """That nothing is known of the id is no exception either."""
        with rehearsal() as aws:
            for _ in range(30):
                aws.fail("GetRestApi", Fault.INTERNAL_ERROR)
            stage = Stage(aws.rest_api_id, "other", session=aws.session, sleep=aws.sleep)
            (problem,) = stage.check()
            assert "was not found" in problem.what

    def test_severity(self) -> None:
        """There are two severities."""
        with pytest.raises(InvalidInputError):
            Problem("fatal", "x", "y")  # type: ignore[arg-type]


class TestTraffic:
    def test_enough(self) -> None:
        """Traffic that is enough for the plan is no problem."""
        with rehearsal(settings=ALL_ON, requests_per_minute=200) as aws:
            assert aws.stage.check(policy=PLAN).problems == ()

    def test_too_little(self) -> None:
        """Traffic too low for the plan is told with what is needed and what there is."""
        with rehearsal(settings=ALL_ON, requests_per_minute=15) as aws:
            (problem,) = aws.stage.check(policy=PLAN)
            assert problem.severity == "warning"
            assert re.search(
                r"takes about [\dhmin ]+ instead of 45 min: a promotion needs about [\d,]+ canary "
                "requests",
                problem.what,
            )

    @pytest.mark.traced
    @pytest.mark.long
    def test_hopeless(self) -> None:
        """Traffic that will not do before the deadline is an error."""
        with rehearsal(settings=ALL_ON, requests_per_minute=0.2) as aws:
            (problem,) = aws.stage.check(policy=RolloutPolicy.canary(10, 20 * MINUTES))
            assert problem.severity == "error"
            assert "deadline of 1 d" in problem.what
            assert "a larger percentage than 10 %" in problem.remedy

    def test_none(self) -> None:
        """No traffic at all is an error: metrics may be missing, or nobody calls."""
        with rehearsal(settings=ALL_ON, requests_per_minute=0) as aws:
            result = aws.stage.check(policy=PLAN)
            problem = found(result, "no requests in the past hour")
            assert problem.severity == "error"
            latency = found(result, "latency_p99 would not be observed: CloudWatch has no")
            assert latency.severity == "warning"
            assert "Signal.latency(over=…)" in latency.remedy

    def test_own_source(self) -> None:
        """A source may raise anything, and not know a signal: each is a problem."""

        class Broken:
            def minutes(self, *_: object) -> Mapping[str, Sequence[Minute]]:
                raise RuntimeError("no route to the warehouse")

        with rehearsal(settings=ALL_ON) as aws:
            (problem,) = fresh(aws, metrics=Broken()).check(policy=PLAN)
            assert "no route to the warehouse" in problem.what
            stage = fresh(aws, metrics=Broken())
            with pytest.raises(MetricsError, match="RuntimeError: no route") as raised:
                stage.enable_canary(5, variables=V2, policy=PLAN)
            assert isinstance(raised.value.__cause__, RuntimeError)
            assert "This call did not change it." in str(raised.value)
            other = RolloutPolicy(
                [Step(5, 10 * MINUTES)], signals=[Signal.custom("x", critical=True)]
            )
            (problem,) = aws.stage.check(policy=other)
            assert problem.severity == "error"
            assert "signals must be" in problem.what

    @pytest.mark.long
    def test_short_steps(self) -> None:
        """A bake into which no complete minute fits is told, with the least that a step takes."""
        with rehearsal(settings=ALL_ON, requests_per_minute=10**6) as aws:
            short = RolloutPolicy([Step(25, 2 * MINUTES), Step(50, 20 * MINUTES)])
            problem = found(aws.stage.check(policy=short), "bakes for less than 6 min")
            assert problem.severity == "warning"
            assert "The step at 25 %" in problem.what
            assert aws.stage.check(policy=PLAN).problems == ()

    def test_doubted(self) -> None:
        """Metrics that may be of something else are an error: nothing would be promoted on them."""
        with rehearsal(settings=ALL_ON) as aws:
            row = Minute(aws.now() - MINUTES, 10**6, 0, 0, 0)
            named = Measurements({"errors_5xx": [row]}, suspect="two APIs have this name")

            class Doubted:
                def minutes(self, *_: object) -> Measurements:
                    return named

            result = fresh(aws, metrics=Doubted()).check(policy=PLAN)
            problem = found(result, "two APIs have this name.")
            assert problem.severity == "error"
            assert len(result.problems) == 3  # two signals are not observed

    @pytest.mark.long
    def test_estimate(self) -> None:
        """The estimate is what rehearsed rollouts of a healthy canary take, give or take a
        third."""
        policy = RolloutPolicy.canary(25, 10 * MINUTES)
        with rehearsal(settings=ALL_ON, requests_per_minute=60, api=Backend(errors_5xx=0)) as aws:
            start = aws.now()
            (problem,) = aws.stage.check(policy=policy)
            canary = aws.stage.enable_canary(25, variables=V2)
            while not isinstance(decision := policy.decide(canary.observe(policy)), Promote):
                aws.sleep(decision.wait.total_seconds())
            found = re.search(r"takes about (\d+) min instead of 15 min", problem.what)
            assert found is not None
            assert 2 / 3 < (aws.now() - start) / (int(found[1]) * MINUTES) < 4 / 3

    @pytest.mark.long
    @pytest.mark.parametrize("unknown", [0, 1])
    def test_overlap(self, unknown: int) -> None:
        """Requests are not counted twice where the stage's counts include the canary's."""
        at = datetime.fromisoformat("2026-01-05T09:00Z")
        plan = RolloutPolicy.canary(20, 10 * MINUTES)
        rows = [Minute(at + i * MINUTES, 90, 0, 30, 0, unknown, 0) for i in range(60)]
        minutes = {"errors_5xx": rows}
        apart = outlook(plan, Measurements(minutes))
        included = outlook(plan, Measurements(minutes, overlap="included"))
        assert apart is not None is not included
        assert apart.said != included.said
        assert apart.in_time is included.in_time is (unknown == 0)

    def test_only_what_is_measured(self) -> None:
        """A signal without minutes is another problem's; without any there is no outlook."""
        at = datetime.fromisoformat("2026-01-05T09:00Z")
        signals = [Signal.errors_5xx(), Signal.custom("empty", critical=True)]
        plan = RolloutPolicy.canary(20, 10 * MINUTES, signals=signals)
        rows = [Minute(at + i * MINUTES, 900, 0, 0, 0) for i in range(60)]
        known = outlook(plan, Measurements({"errors_5xx": rows}))
        assert known is not None
        assert known.in_time
        assert not known.takes_longer
        assert outlook(plan, Measurements({})) is None


class TestPolicy:
    @pytest.mark.traced
    @pytest.mark.long
    def test_at_100(self) -> None:
        """A step at 100 % is told, with what guards there, unless a limit or alarm does."""
        with rehearsal(settings=ALL_ON) as aws:
            bakes = RolloutPolicy.canary(50, 60 * MINUTES, final_bake=60 * MINUTES)
            (problem,) = aws.stage.check(policy=bakes)
            assert (
                "a gross failure of errors_5xx (where at most 2 % failed before) and "
                "errors_5xx far above the past for 30 min can roll back there" in problem.what
            )
            limited = attrs.evolve(bakes, signals=[Signal.errors_5xx(limit=0.05)])
            assert aws.stage.check(policy=limited).problems == ()
            own = attrs.evolve(
                bakes, signals=[Signal.custom("errors_5xx", critical=True, rare=False)]
            )
            (problem,) = aws.stage.check(policy=own)
            assert "no signal and no alarm can roll back there" in problem.what

    @pytest.mark.long
    @pytest.mark.parametrize(
        "percent, then",
        [
            (7, "From 7 % the canary is shifted to 50 %."),
            (60, "From 60 % the canary is promoted."),
            (100, "at 100 % there is no baseline to compare it with"),
        ],
    )
    def test_a_percent_that_is_no_step(self, percent: float, then: str) -> None:
        """It is allowed, with a word on what follows it."""
        policy = RolloutPolicy([Step(5, 60 * MINUTES), Step(50, 60 * MINUTES)])
        with rehearsal(settings=ALL_ON) as aws:
            (problem,) = aws.stage.check(percent, policy=policy).problems
            assert aws.stage.check(5, policy=policy).problems == ()
        assert problem.severity == "warning"
        assert f"{percent} % is no step of the policy, whose steps are 5 %, 50 %" in problem.what
        assert then in problem.what

    @pytest.mark.traced
    @pytest.mark.long
    def test_at_100_with_a_baseline_that_fails_often(self) -> None:
        """Above 2 % the past confirms nothing and guards nothing."""
        with rehearsal(settings=ALL_ON, backends={"alias=v1": Backend(errors_5xx=0.04)}) as aws:
            bakes = RolloutPolicy.canary(
                50, 60 * MINUTES, final_bake=60 * MINUTES, signals=[Signal.errors_5xx(limit=0.5)]
            )
            (problem,) = aws.stage.check(policy=bakes)
            assert problem.severity == "warning"
            assert "too much for a comparison with the past" in problem.what

    def test_a_deadline_too_early_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        """enable_canary goes on: the traffic may grow."""
        policy = RolloutPolicy.canary(10, 10 * MINUTES, deadline=60 * MINUTES)
        with rehearsal(settings=ALL_ON, requests_per_minute=10) as aws:
            aws.stage.enable_canary(10, variables={"alias": "v2"}, policy=policy)
        (said,) = (text for text in caplog.messages if "deadline" in text)
        assert "errors_5xx will not be confirmed before the deadline of 1 h" in said

    def test_a_critical_signal_that_is_never_given(self) -> None:
        """It is an error here, and refused by enable_canary before anything is changed."""

        class Partly:
            def minutes(self, stage: Any, signals: Any, start: datetime, end: datetime) -> Any:
                rows = [Minute(start + i * MINUTES, 500, 0, 0, 0) for i in range(60)]
                return {"errors_5xx": rows}

        signals = [Signal.errors_5xx(), Signal.custom("checkout_failed", critical=True)]
        policy = RolloutPolicy.canary(10, 10 * MINUTES, signals=signals)
        with rehearsal(settings=ALL_ON) as aws:
            stage = Stage(aws.rest_api_id, "prod", session=aws.session, metrics=Partly())
            (problem,) = (p for p in stage.check(policy=policy) if p.severity == "error")
            assert "no minute of checkout_failed in the past hour" in problem.what
            before = stage.describe()
            with pytest.raises(MetricsError, match="checkout_failed") as raised:
                stage.enable_canary(10, variables={"alias": "v2"}, policy=policy)
            assert "did not change it" in str(raised.value.state)
            assert stage.describe() == before

    @pytest.mark.long
    def test_unknown_alarms(self) -> None:
        """Alarms that CloudWatch does not know are an error; one that is there is none, and lets a
        policy bake at 100 %."""
        policy = RolloutPolicy.canary(
            50,
            60 * MINUTES,
            final_bake=60 * MINUTES,
            alarms=["high-latency", "hihg-errors"],
        )
        with rehearsal(settings=ALL_ON) as aws:
            aws.alarm("high-latency")
            (problem,) = aws.stage.check(policy=policy)
            assert problem.severity == "error"
            assert "no alarm hihg-errors." in problem.what
            aws.alarm("hihg-errors", kind="CompositeAlarm")
            assert aws.stage.check(policy=policy).problems == ()

    @pytest.mark.parametrize(
        "state, told",
        [("INSUFFICIENT_DATA", "no canary is promoted"), ("ALARM", "Already in ALARM")],
    )
    def test_alarms_that_are_no_voice(self, state: AlarmState, told: str) -> None:
        """One that fires already, or says nothing, is told before the start."""
        policy = attrs.evolve(PLAN, alarms=["errors", "latency"])
        with rehearsal(settings=ALL_ON) as aws:
            aws.alarm("latency")
            aws.alarm("errors", state)
            (problem,) = aws.stage.check(policy=policy)
            assert problem.severity == "warning"
            assert "errors" in problem.what
            assert "latency" not in problem.what
            assert told in problem.what


class TestContract:
    @pytest.mark.parametrize("how", ["edited", "deployed", "running"])
    def test_changes(self, how: str) -> None:
        """What would change is told of the API as it is edited, of a deployment, or of the running
        canary's."""
        guarded = {"GET /orders": Method(authorization="AWS_IAM"), "POST /orders": Method()}
        with rehearsal(settings=ALL_ON, methods=guarded) as aws:
            assert aws.stage.check().problems == ()
            aws.edit(
                methods={
                    "GET /orders": Method(authorization="CUSTOM"),
                    "POST /orders": None,
                    "PUT /orders": Method(),
                }
            )
            deployment_id, where = None, "The API as it is edited now"
            if how != "edited":
                deployment_id = new_deployment(aws)
                where = f"Deployment {deployment_id}"
                aws.edit(methods=guarded)
            if how == "running":
                aws.stage.enable_canary(5, deployment_id=deployment_id, accept={"weakened_methods"})
                deployment_id = None

            problems = aws.stage.check(deployment_id=deployment_id)

            for words, severity in (
                (f"{where} lacks", "error"),
                ("requires less authorization", "error"),
                ("does not have: PUT /orders", "warning"),
            ):
                problem = found(problems, words)
                assert problem.severity == severity
                assert "Integrations" in problem.what
            assert "POST /orders" in found(problems, "lacks").what
            assert (
                "GET /orders: had authorization AWS_IAM"
                in found(problems, "requires less authorization").what
            )

    def test_the_stages_own(self) -> None:
        """The stage's own deployment is not compared with itself."""
        with rehearsal(settings=ALL_ON) as aws:
            aws.edit(methods={"GET /orders": None})
            assert aws.stage.check(deployment_id=serving(aws)[0]).problems == ()

    def test_no_summary(self) -> None:
        """A deployment whose methods AWS does not tell is a problem, not one without methods."""
        with rehearsal(settings=ALL_ON, methods={"GET /": Method()}) as aws:
            aws.edit(methods={"GET /": None})
            empty = new_deployment(aws)
            (problem,) = aws.stage.check(deployment_id=empty)
            assert "no summary" in problem.what


class TestVariables:
    def test_unknown_name(self) -> None:
        """A name that the stage does not have is told, with those it has."""
        with rehearsal(settings=ALL_ON) as aws:
            (problem,) = aws.stage.check(variables={"alais": "v2"})
            assert problem.severity == "error"
            assert "uses the variable alais" in problem.what
            assert 'accept={"unused_variables"}' in problem.remedy
            deployment_id = new_deployment(aws)
            problems = aws.stage.check(variables={"alais": "v2"}, deployment_id=deployment_id)
            assert "it has alias" in found(problems, "no variable alais").what
            aws.fail("GetAuthorizers", Fault.ACCESS_DENIED)
            problems = aws.stage.check(variables={"alais": "v2"})
            assert found(problems, "no variable alais").severity == "warning"
            found(problems, "Which variables are used could not be read")
            aws.fail("GetResources", Fault.ACCESS_DENIED)
            problems = aws.stage.check(variables={"alais": "v2"})
            assert found(problems, "no variable alais").severity == "warning"

    def test_values_stay_secret(self) -> None:
        """No problem shows a variable's value."""
        with rehearsal(methods=METHODS, variables={"alias": "s3cret-1"}) as aws:
            create_function(aws, "orders", "s3cret-1", "s3cret-2")
            for value in ("s3cret-1", "s3cret-2", "s3cret-3"):
                problems = aws.stage.check(variables={"alias": value, "also": "s3cret-4"})
                assert "s3cret" not in "".join(map(str, problems))

    def test_no_alias(self) -> None:
        """An alias that does not exist is an error that names function and methods; the
        integrations that do not use the variable are not looked at."""
        with rehearsal(settings=ALL_ON, methods=METHODS) as aws:
            create_function(aws, "orders", "v1")
            (problem,) = aws.stage.check(variables=V2)
            assert problem.severity == "error"
            assert "orders:${stageVariables.alias}" in problem.what
            for method in set(METHODS) - {"GET /health"}:
                assert method in problem.what
            assert "500" in problem.what

    def test_one_method_of_many(self) -> None:
        """A permission that is missing for one of many methods is found and named."""
        with rehearsal(settings=ALL_ON, methods=METHODS) as aws:
            client = create_function(aws, "orders", "v1", "v2")
            added = aws.stage.allow_invocation(V2, smoke_test=True)
            assert aws.stage.check(variables=V2).problems == ()
            (gone,) = [each for each in added if each.method == "GET /orders/{id}"]
            forget(client, "v2", gone.statement_id)

            (problem,) = aws.stage.check(variables=V2)

            assert problem.severity == "error"
            assert "may not call" in problem.what
            assert "GET /orders/{id}" in problem.what
            assert "POST" not in problem.what

    def test_many_resources(self) -> None:
        """All pages of resources are read, one call for 500 of them, and two a function."""
        many = {f"GET /r{i}": Method(uri=ORDERS) for i in range(600)}
        with rehearsal(settings=ALL_ON, methods=many) as aws:
            create_function(aws, "orders", "v2")
            before = len(aws.calls)
            (problem,) = aws.stage.check(variables=V2)
            assert "GET /r0, GET /r1, GET /r10" in problem.what
            assert "and 580 more" in problem.what
            assert sorted(sent(aws)[before:]) == [
                "GetDeployment",
                "GetFunctionConfiguration",
                "GetPolicy",
                "GetResources",
                "GetResources",
                "GetStage",
            ]

    def test_role(self) -> None:
        """A function that is called in a role needs no permission of its own, but must be there."""
        method = Method(uri=ORDERS, credentials="arn:aws:iam::123456789012:role/caller")
        with rehearsal(settings=ALL_ON, methods={"GET /": method}) as aws:
            create_function(aws, "orders", "v2")
            assert aws.stage.check(variables=V2).problems == ()
            assert aws.stage.allow_invocation(V2) == ()
            assert (
                "or its alias or version, does not exist"
                in aws.stage.check(variables={"alias": "v3"})[0].what
            )

    def test_whole_function_name(self) -> None:
        """A variable may be the whole name of the function."""
        method = Method(uri=uri("${stageVariables.alias}"))
        with rehearsal(settings=ALL_ON, methods={"GET /": method}) as aws:
            create_function(aws, "v2")
            (problem,) = aws.stage.check(variables=V2)
            assert "may not call function ${stageVariables.alias}" in problem.what
            added = aws.stage.allow_invocation(V2, smoke_test=True)
            assert [each.method for each in added] == ["GET /", "ANY /*"]
            assert aws.stage.check(variables=V2).problems == ()

    def test_other_backends(self) -> None:
        """What is no function of the region is told as not checked."""
        elsewhere = ORDERS.replace("lambda:eu-central-1", "lambda:eu-west-1")
        methods = {"GET /http": Method(), "GET /west": Method(uri=elsewhere)}
        with rehearsal(settings=ALL_ON, methods=methods) as aws:
            (problem,) = aws.stage.check(variables=V2)
            assert problem.severity == "warning"
            assert "GET /http, GET /west" in problem.what
            assert aws.stage.allow_invocation(V2) == ()
            assert "GetPolicy" not in sent(aws)

    def test_unresolved(self) -> None:
        """An integration with a variable that canary requests lack is an error."""
        method = Method(uri=uri("${stageVariables.function}:${stageVariables.alias}"))
        with rehearsal(settings=ALL_ON, methods={"GET /": method}) as aws:
            (problem,) = aws.stage.check(variables=V2)
            assert problem.severity == "error"
            assert "stage variable function" in problem.what
            with pytest.raises(NotFoundError, match="function"):
                aws.stage.allow_invocation(V2)

    def test_no_integration(self) -> None:
        """An integration that AWS does not show is told: it might be one that uses a variable."""
        with rehearsal(settings=ALL_ON, methods={"GET /": Method(uri=None)}) as aws:
            (problem,) = aws.stage.check(variables=V2)
            assert "no integration of GET /" in problem.what
            with pytest.raises(InvalidInputError, match="used by an integration"):
                aws.stage.allow_invocation(V2)

    def test_as_edited(self) -> None:
        """Of a deployment that is there already, integrations cannot be seen: that is said."""
        with rehearsal(settings=ALL_ON) as aws:
            deployment_id = new_deployment(aws)
            problems = aws.stage.check(variables=V2, deployment_id=deployment_id)
            assert found(problems, "as it is edited now").severity == "warning"

    def test_reused_value(self) -> None:
        """An override that is production's own value is an error with the reason; one among
        others a warning."""
        with rehearsal(settings=ALL_ON, variables={"alias": "v1", "table": "t1"}) as aws:
            problems = aws.stage.check(variables={"alias": "v1"})
            assert found(problems, "production changes with it").severity == "error"
            problems = aws.stage.check(variables={"alias": "v2", "table": "t1"})
            problem = found(problems, "production changes with it")
            assert problem.severity == "warning"
            assert "value of table" in problem.what

    def test_reused_alias(self) -> None:
        """So is an alias that both arms call, whatever the variables that lead to it."""
        method = Method(uri=uri("${stageVariables.function}${stageVariables.rest}"))
        variables = {"function": "orders:", "rest": "live"}
        with rehearsal(settings=ALL_ON, methods={"GET /": method}, variables=variables) as aws:
            create_function(aws, "orders", "live")
            problems = aws.stage.check(variables={"function": "orders:li", "rest": "ve"})
            assert found(problems, "same function and alias").severity == "warning"


def forget(client: Any, alias: str, *statement_ids: str) -> None:
    """Somebody removes permissions. moto keeps them with the version and knows no aliases there."""
    version = client.get_alias(FunctionName="orders", Name=alias)["FunctionVersion"]
    from moto.awslambda.models import lambda_backends

    function = lambda_backends["123456789012"]["eu-central-1"].get_function("orders", version)
    for statement_id in statement_ids:
        function.policy.del_statement(statement_id)


def test_access_logs_in_firehose() -> None:
    """Access logs that go to Firehose are told with the stream's name, by the source too."""
    destination = (
        "arn:aws:firehose:eu-central-1:123456789012:deliverystream/amazon-apigateway-orders"
    )
    logs = {"format": '{"isCanaryRequest":"$context.isCanaryRequest"}'}
    settings = {**ALL_ON, "accessLogSettings": {**logs, "destinationArn": destination}}
    with rehearsal(access_logs=None, settings=settings) as aws:
        problem = found(aws.stage.check(), "Firehose stream amazon-apigateway-orders")
        assert problem.severity == "warning"
        with pytest.raises(InvalidInputError, match="Firehose stream amazon-apigateway-orders"):
            fresh(aws, metrics=AccessLogs()).enable_canary(5, variables=V2, policy=PLAN)


def test_an_authorizer_cannot_be_compared() -> None:
    """Where an authorizer guards methods, what does not show is told."""
    methods = {"GET /": Method(authorization="JWT")}
    with rehearsal(settings=ALL_ON, methods=methods) as aws:
        problem = found(aws.stage.check(), "An authorizer guards GET /.")
        assert "fewer scopes or another issuer" in problem.what


@pytest.mark.traced
@pytest.mark.long
def test_a_policy_is_full() -> None:
    """A function's policy ends at 20,480 bytes in a rehearsal."""
    many = {f"GET /things{i}": Method(uri=ORDERS) for i in range(90)}
    with rehearsal(methods=many) as aws:
        create_function(aws, "orders", "v2")
        with pytest.raises(AwsError, match="20480") as raised:
            aws.stage.allow_invocation(V2, whole_stage=False)
        assert raised.value.code == "PolicyLengthExceededException"
        assert "whole_stage=True" in raised.value.remedy
    with rehearsal() as aws, pytest.raises(ClientError):
        allow(aws, "arn:aws:execute-api:eu-central-1:123456789012:*")  # of no function


class TestVariablesInUse:
    """`enable_canary` refuses a variable that nobody reads, and nothing else."""

    TYPO: ClassVar = {"alais": "v2"}

    @pytest.mark.parametrize(
        "text",
        [
            "https://x/${stageVariables.alais}",
            "stageVariables.alais",
            "$stageVariables['alais']",
            '$stageVariables[ "alais" ]',
            "$stageVariables.get('alais')",
            '#set($all = $stageVariables) $all.get("x")',
            "$stageVariables.get($name)",
        ],
    )
    def test_named_by_an_integration(self, text: str) -> None:
        """Whatever form a template or parameter names it in, or may name it in, it is used."""
        with rehearsal(methods={"GET /": Method(uri=text)}) as aws:
            aws.stage.enable_canary(5, variables=self.TYPO)

    @pytest.mark.parametrize("text", ["https://x/${stageVariables.other}", "alais", "", None])
    def test_named_by_nothing(self, text: str | None) -> None:
        """Where none names it the canary is refused, before anything is changed."""
        with rehearsal(methods={"GET /": Method(uri=text)}) as aws:
            with pytest.raises(InvalidInputError, match="not alais") as raised:
                aws.stage.enable_canary(5, release="r1", variables=self.TYPO)
            assert "If only Lambda code or a gateway response reads it" in str(raised.value)
            assert {"UpdateStage", "CreateDeployment"}.isdisjoint(sent(aws))
            aws.stage.enable_canary(
                5, release="r1", variables=self.TYPO, accept={"unused_variables"}
            )
            # The canary that is running is returned without a question.
            aws.stage.enable_canary(5, release="r1", variables=self.TYPO)

    def test_named_by_an_authorizer(self) -> None:
        """An authorizer's URI counts too."""
        with rehearsal() as aws:
            plain = aws._answer

            def answered(service: str, operation: str, parameters: Any) -> Any:
                if operation == "GetAuthorizers":
                    return {"items": [{"authorizerUri": "x:${stageVariables.alais}"}]}
                return plain(service, operation, parameters)

            aws._answer = answered  # type: ignore[method-assign]
            aws.stage.enable_canary(5, variables=self.TYPO)

    def test_named_in_a_list(self) -> None:
        """Texts in lists count too, such as parameters that a cache is keyed by."""
        with rehearsal(methods={"GET /": Method(uri="https://x")}) as aws:
            plain = aws._answer

            def answered(service: str, operation: str, parameters: Any) -> Any:
                answer = plain(service, operation, parameters)
                if operation == "GetResources" and answer is not None:
                    method = answer["items"][0]["resourceMethods"]["GET"]
                    method["methodIntegration"]["cacheKeyParameters"] = ["stageVariables.alais"]
                return answer

            aws._answer = answered  # type: ignore[method-assign]
            aws.stage.enable_canary(5, variables=self.TYPO)

    def test_the_stage_has_it(self) -> None:
        """A variable that the stage has needs no further call."""
        with rehearsal(methods={"GET /": Method(uri="https://x")}) as aws:
            aws.stage.enable_canary(5, variables=V2)
            assert "GetResources" not in sent(aws)

    @pytest.mark.parametrize("operation", ["GetResources", "GetAuthorizers"])
    def test_it_cannot_be_read(self, operation: str, caplog: pytest.LogCaptureFixture) -> None:
        """Where the API cannot be read a warning is logged."""
        with rehearsal() as aws:
            aws.fail(operation, Fault.ACCESS_DENIED)
            aws.stage.enable_canary(5, variables=self.TYPO)
        assert "stage prod has no variable alais; whether the API uses it" in caplog.text

    def test_of_a_deployment(self, caplog: pytest.LogCaptureFixture) -> None:
        """AWS does not show what a deployment uses: a warning is logged."""
        with rehearsal() as aws:
            deployment_id = new_deployment(aws)
            aws.stage.enable_canary(5, variables=self.TYPO, deployment_id=deployment_id)
        assert "AWS does not show whether deployment" in caplog.text

    @pytest.mark.parametrize("accept", ["unused_variables", {"everything"}, 5])
    def test_accept(self, accept: Any) -> None:
        """What may be accepted is one of two words, in a collection."""
        with rehearsal() as aws, pytest.raises(InvalidInputError, match="accept must be a set"):
            aws.stage.enable_canary(5, variables=V2, accept=accept)


class TestPolicies:
    @pytest.fixture
    def aws(self) -> Any:
        with rehearsal(settings=ALL_ON, methods={"GET /": Method(uri=ORDERS)}) as aws:
            create_function(aws, "orders", "v1", "v2")
            yield aws

    def test_denied(self, aws: Rehearsal) -> None:
        """An explicit Deny is an error, whatever else allows the call."""
        everything = {"Principal": "*", "Action": "*", "Resource": "*"}
        stub_policy(aws, [{"Effect": "Allow", **everything}, {"Effect": "Deny", **everything}])
        (problem,) = aws.stage.check(variables=V2)
        assert problem.severity == "error"
        assert "denies the call by API Gateway for GET /" in problem.what

    @pytest.mark.parametrize("kind", ["Allow", "Deny"])
    def test_a_condition_that_is_not_known(self, aws: Rehearsal, kind: str) -> None:
        """A condition that preflight does not evaluate is told as that, not guessed."""
        everything = {"Principal": "*", "Action": "*", "Resource": "*"}
        condition = {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}
        stub_policy(
            aws,
            [
                *([{"Effect": "Allow", **everything}] if kind == "Deny" else []),
                {"Effect": kind, **everything, "Condition": condition},
            ],
        )
        (problem,) = aws.stage.check(variables=V2)
        assert problem.severity == "warning"
        assert "is not known" in problem.what

    @pytest.mark.parametrize("text", ["null", "[]", "{}", "no JSON", "[" * 10**5])
    def test_no_policy_at_all(self, aws: Rehearsal, text: str) -> None:
        """A policy that is none is a problem, not an exception."""
        stub_policy(aws, None, text)
        (problem,) = aws.stage.check(variables=V2)
        assert "could not be read" in problem.what
        with pytest.raises(UnansweredError, match="no JSON with a Statement"):
            aws.stage.allow_invocation(V2)


class TestAllowInvocation:
    @pytest.fixture
    def aws(self) -> Any:
        with rehearsal(settings=ALL_ON, methods=METHODS) as aws:
            create_function(aws, "orders", "v1", "v2")
            yield aws

    def test_adds_what_is_missing(self, aws: Rehearsal) -> None:
        """Exactly what is missing is added, for each method, and reported."""
        added = aws.stage.allow_invocation(V2)
        assert {each.method for each in added} == METHODS.keys() - {"GET /health"}
        assert {each.function_arn.rpartition(":")[2] for each in added} == {"v2"}
        ends = {each.method: each.source_arn.partition(f"{aws.rest_api_id}/")[2] for each in added}
        assert ends == {
            "GET /": "prod/GET/",
            "GET /orders/{id}": "prod/GET/orders/*",
            "ANY /items/{proxy+}": "prod/*/items/*",
            "POST /orders": "prod/POST/orders",
        }

    def test_twice(self, aws: Rehearsal) -> None:
        """The second time adds nothing; another process neither."""
        aws.stage.allow_invocation(V2)
        before = sent(aws).count("AddPermission")
        assert aws.stage.allow_invocation(V2) == ()
        assert fresh(aws).allow_invocation(V2) == ()
        assert sent(aws).count("AddPermission") == before

    def test_wider_permission_is_enough(self, aws: Rehearsal) -> None:
        """Where one permission covers all methods, none is added."""
        allow(aws, "arn:aws:execute-api:eu-central-1:123456789012:*/*/*")
        assert aws.stage.allow_invocation(V2) == ()

    def test_one_covers_another(self) -> None:
        """What a permission that is added covers needs none of its own."""
        methods = {
            "GET /orders/{id}": Method(uri=ORDERS),
            "GET /orders/{number}": Method(uri=ORDERS),
            "ANY /{proxy+}": Method(uri=ORDERS),
            "GET /other": Method(uri=uri("other:${stageVariables.alias}")),
        }
        with rehearsal(settings=ALL_ON, methods=methods) as aws:
            create_function(aws, "orders", "v2")
            create_function(aws, "other", "v2")
            added = aws.stage.allow_invocation(V2)
            assert [each.method for each in added] == ["ANY /{proxy+}", "GET /other"]
            (problem,) = aws.stage.check(variables=V2)
            assert problem.severity == "warning"
            assert "Test invocations may not call function orders:${" in problem.what
            assert len(aws.stage.allow_invocation(V2, smoke_test=True)) == 2
            assert aws.stage.check(variables=V2).problems == ()
        del methods["ANY /{proxy+}"], methods["GET /other"]
        with rehearsal(settings=ALL_ON, methods=methods) as aws:
            create_function(aws, "orders", "v2")
            assert len(aws.stage.allow_invocation(V2)) == 1
            assert aws.stage.check(variables=V2).ok

    def test_no_alias(self, aws: Rehearsal) -> None:
        """Without the alias nothing is added anywhere."""
        with pytest.raises(NotFoundError, match="or its alias or version, does not exist"):
            aws.stage.allow_invocation({"alias": "v3"})
        assert "AddPermission" not in sent(aws)

    def test_unused_variable(self, aws: Rehearsal) -> None:
        """Variables that no integration uses are a mistake."""
        with pytest.raises(InvalidInputError, match="used by an integration"):
            aws.stage.allow_invocation({"alais": "v2"})

    def test_http(self) -> None:
        """An HTTP backend needs no permission."""
        with rehearsal() as aws:
            assert aws.stage.allow_invocation(V2) == ()

    def test_denied_halfway(self, aws: Rehearsal) -> None:
        """A refusal says how many were added; the same line adds the rest."""
        aws.fail("AddPermission", Fault.ACCESS_DENIED, skip=1)
        with pytest.raises(AccessDeniedError, match="lambda:AddPermission") as raised:
            aws.stage.allow_invocation(V2)
        assert "1 of 4 permissions were added." in raised.value.happened
        assert len(aws.stage.allow_invocation(V2)) == 3

    def test_answer_lost(self, aws: Rehearsal) -> None:
        """A permission whose answer was lost is looked for before anybody is alarmed."""
        twin = fresh(aws)  # what it adds stands for what was added and not answered
        aws.meanwhile("AddPermission", lambda: twin.allow_invocation(V2))
        aws.fail("AddPermission", Fault.TIMEOUT)
        assert len(aws.stage.allow_invocation(V2)) == 4

    def test_never_arrived(self, aws: Rehearsal) -> None:
        """One that did not arrive is an error, and the same line adds it."""
        aws.fail("AddPermission", Fault.TIMEOUT)
        with pytest.raises(UnansweredError, match="0 of 4"):
            aws.stage.allow_invocation(V2)
        assert len(aws.stage.allow_invocation(V2)) == 4

    @pytest.mark.parametrize("there", [True, False])
    def test_conflict(self, aws: Rehearsal, there: bool) -> None:
        """A statement that is there already is success if it allows the call, and told if not."""
        if there:
            quick = fresh(aws)
            aws.meanwhile("AddPermission", lambda: quick.allow_invocation(V2))
            refuse_next(aws, "ResourceConflictException")
            assert len(aws.stage.allow_invocation(V2)) == 4
        else:
            refuse_next(aws, "ResourceConflictException")
            with pytest.raises(UnconfirmedChangeError, match="does not allow") as raised:
                aws.stage.allow_invocation(V2)
            assert "RemovePermission" in raised.value.remedy

    def test_policy_full(self, aws: Rehearsal) -> None:
        """A policy that is full is told with the way out."""
        refuse_next(aws, "PolicyLengthExceededException")
        with pytest.raises(AwsError, match="whole_stage=True"):
            aws.stage.allow_invocation(V2)

    @pytest.mark.parametrize("methods, statements", [(20, 20), (21, 1), (90, 1)])
    def test_many_methods(self, methods: int, statements: int) -> None:
        """Beyond twenty methods one statement for the whole stage is added."""
        many = {f"GET /things{i}": Method(uri=ORDERS) for i in range(methods)}
        with rehearsal(methods=many) as aws:
            create_function(aws, "orders", "v2")
            added = aws.stage.allow_invocation(V2)
            assert len(added) == statements
            if statements == 1:
                assert added[0].source_arn.endswith("/prod/*/*")
                assert added[0].method == "ANY /*"
            assert aws.stage.allow_invocation(V2) == ()
            found = aws.session.client("lambda").get_policy(FunctionName="orders", Qualifier="v2")
            assert len(found["Policy"]) < 20_480

    def test_whole_stage(self, aws: Rehearsal) -> None:
        """One statement, or one a method, where that is asked for."""
        with pytest.raises(InvalidInputError, match="whole_stage"):
            aws.stage.allow_invocation(V2, whole_stage="yes")  # type: ignore[arg-type]
        (added,) = aws.stage.allow_invocation(V2, whole_stage=True)
        assert added.source_arn.endswith(f":{aws.rest_api_id}/prod/*/*")
        assert aws.stage.check(variables=V2).ok

    def test_an_explicit_deny(self, aws: Rehearsal) -> None:
        """No permission helps against a Deny: it is named, and nothing is added."""
        stub_policy(aws, {"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*"})
        with pytest.raises(CallerError, match="denies the call by API Gateway") as raised:
            aws.stage.allow_invocation(V2)
        assert "Nothing was added." in str(raised.value)
        assert "AddPermission" not in sent(aws)

    def test_a_policy_of_one_object(self, aws: Rehearsal) -> None:
        """`Statement` may be one statement instead of a list."""
        stub_policy(aws, {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"})
        assert aws.stage.allow_invocation(V2) == ()


def stub_policy(aws: Rehearsal, statement: Any, text: str | None = None) -> None:
    """Let GetPolicy answer a policy that moto cannot hold."""
    answer = {"Policy": text or json.dumps({"Statement": statement})}
    plain = aws._answer

    def answered(service: str, operation: str, parameters: Any) -> Any:
        return answer if operation == "GetPolicy" else plain(service, operation, parameters)

    aws._answer = answered  # type: ignore[method-assign]


def allow(aws: Rehearsal, source: str, alias: str = "v2") -> None:
    """Somebody else's permission."""
    aws.session.client("lambda").add_permission(
        FunctionName="orders",
        Qualifier=alias,
        StatementId="theirs",
        Action="lambda:InvokeFunction",
        Principal="apigateway.amazonaws.com",
        SourceArn=source,
    )


def refuse_next(aws: Rehearsal, code: str) -> None:
    """Let Lambda refuse the next AddPermission; moto never does."""
    from apigw_canary.testing.answers import Refusal

    def refuse() -> None:
        raise Refusal(code, "no", 409)

    aws.meanwhile("AddPermission", refuse)


FUNCTION = Function("aws", "eu-central-1", "123456789012", "orders", "v2")
GET_ORDER = Target(
    route=Route("GET", "/{id}"),
    written="orders",
    uses=(),
    unknown=(),
    function=FUNCTION,
    source="arn:aws:x:r:a:api/GET/*",
    needs_permission=True,
    before=None,
)
patterns = st.text("ab/*?", max_size=8)
texts = st.text("ab/*", max_size=8)


class TestPatterns:
    @given(pattern=patterns, text=st.text("ab/", max_size=8))
    def test_as_shells_do(self, pattern: str, text: str) -> None:
        """A text without wildcards is matched as shells match, `/` included."""
        assert covers(pattern, text) == fnmatch.fnmatchcase(text, pattern)

    @given(pattern=patterns, text=texts, fillings=st.lists(st.text("ab/", max_size=4), max_size=8))
    def test_covers_all_it_stands_for(self, pattern: str, text: str, fillings: list[str]) -> None:
        """What covers a text covers it with anything in the place of its wildcards."""
        if covers(pattern, text):
            filled = iter(fillings)
            concrete = "".join(next(filled, "") if char == "*" else char for char in text)
            assert covers(pattern, concrete)

    @given(text=texts)
    def test_itself(self, text: str) -> None:
        """Everything covers itself, and `*` everything."""
        assert covers(text, text)
        assert covers("*", text)

    def test_many_wildcards(self) -> None:
        """A hostile pattern costs no more than its length times the text's."""
        assert not covers("*a" * 200 + "b", "a" * 5000)

    @pytest.mark.parametrize(
        "pattern, is_covered",
        [
            ("arn:aws:execute-api:eu-central-1:123456789012:api/*/GET/orders/*", True),
            ("arn:aws:execute-api:eu-central-1:123456789012:api/prod/GET/orders/*", True),
            ("arn:aws:execute-api:eu-central-1:123456789012:api/*/*/*", True),
            ("arn:aws:execute-api:eu-central-1:123456789012:api/*", True),
            ("arn:aws:execute-api:*:*:*", True),
            ("arn:aws:execute-api:eu-central-1:123456789012:api/test/GET/orders/*", False),
            ("arn:aws:execute-api:eu-central-1:123456789012:api/*/POST/orders/*", False),
            ("arn:aws:execute-api:eu-central-1:123456789012:api/*/GET/orders/7", False),
            ("arn:aws:execute-api:eu-central-1:123456789012:api/*/GET/orders/?", False),
            ("arn:aws:execute-api:eu-west-1:123456789012:api/*", False),
            ("arn:aws:execute-api:*", False),
        ],
    )
    def test_source_arns(self, pattern: str, *, is_covered: bool) -> None:
        """A source ARN covers a method by its parts; a parameter needs a wildcard."""
        needed = source_arn(FUNCTION, "eu-central-1", "api", "prod", Route("GET", "/orders/{id}"))
        assert arn_covers(pattern, needed) == is_covered

    @given(patterns, texts, st.lists(st.text("ab/", max_size=2), min_size=8, max_size=8))
    def test_may_cover_finds_each_match(self, pattern: str, text: str, fillings: list[str]) -> None:
        """Where a pattern matches something that a text stands for, it may cover the text."""
        pieces = text.split("*")
        filled = "".join(map("".join, zip(pieces, fillings, strict=False))) if pieces[1:] else text
        concrete = filled if len(pieces) > 1 else text
        if "*" not in concrete and covers(pattern, concrete) and covers(text, concrete):
            assert may_cover(pattern, text)

    @pytest.mark.parametrize(
        "pattern, text, may",
        [
            ("a/GET/orders/special", "a/GET/orders/*", True),
            ("a/GET/*/special", "a/GET/orders/*", True),
            ("a/*", "a/GET/orders/*", True),
            ("a/GET/orders/?", "a/GET/orders/*", True),
            ("a/POST/orders/*", "a/GET/orders/*", False),
            ("a/GET/orders", "a/GET/orders/*", False),
            ("b*", "*a", True),
            ("", "*", True),
            ("", "*a", False),
            ("x" * 3000, "a", True),
        ],
    )
    def test_may_cover(self, pattern: str, text: str, *, may: bool) -> None:
        """Two patterns meet, or not; what is too long to compare may."""
        assert may_cover(pattern, text) == may

    @pytest.mark.parametrize("kind", ["Allow", "Deny"])
    @pytest.mark.parametrize(
        "change, does",
        [
            ({}, True),
            ({"Principal": {"AWS": "123456789012"}}, False),
            ({"Principal": {"Service": ["sns.amazonaws.com", "apigateway.amazonaws.com"]}}, True),
            ({"Principal": "*"}, True),
            ({"Principal": {"AWS": "*"}}, True),
            ({"Principal": {"Service": {"a": "b"}}}, None),
            ({"Principal": None, "NotPrincipal": {"Service": "sns.amazonaws.com"}}, None),
            ({"Action": ["lambda:GetFunction", "lambda:*"]}, True),
            ({"Action": "LAMBDA:invokefunction"}, True),
            ({"Action": "lambda:GetFunction"}, False),
            ({"Action": None, "NotAction": "lambda:GetFunction"}, True),
            ({"Action": None, "NotAction": ["lambda:*"]}, False),
            ({"Resource": FUNCTION.unqualified}, False),
            ({"Resource": None}, None),
            ({"Resource": 5}, None),
            ({"Resource": None, "NotResource": FUNCTION.arn}, False),
            ({"Condition": {}}, True),
            ({"Condition": None}, None),
            ({"Condition": {"ArnEquals": {"aws:SourceArn": ["a", "arn:aws:x:r:a:api/*"]}}}, True),
            ({"Condition": {"ArnLikeIfExists": {"aws:SourceArn": "arn:aws:x:r:a:api/*"}}}, True),
            ({"Condition": {"StringLike": {"AWS:SourceArn": "arn:aws:x:r:a:*"}}}, True),
            ({"Condition": {"StringEquals": {"AWS:SourceAccount": "123456789012"}}}, True),
            ({"Condition": {"StringEquals": {"AWS:SourceAccount": "999999999999"}}}, False),
            ({"Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-1"}}}, None),
            ({"Condition": {"Bool": {"aws:SourceArn": "true"}}}, None),
            ({"Condition": {"ArnLike": {"aws:SourceArn": 5}}}, None),
            ({"Condition": {"ArnLike": "arn"}}, None),
            (
                {
                    "Condition": {
                        "ArnLike": {"AWS:SourceArn": "arn:aws:x:r:a:api/*"},
                        "StringEquals": {"AWS:SourceAccount": "999999999999"},
                    }
                },
                False,
            ),
            (  # certainly not met, whatever the other one is
                {
                    "Condition": {
                        "IpAddress": {"aws:SourceIp": "10.0.0.0/8"},
                        "StringEquals": {"AWS:SourceAccount": "999999999999"},
                    }
                },
                False,
            ),
        ],
    )
    def test_statements(self, change: Mapping[str, Any], kind: str, *, does: bool | None) -> None:
        """A statement is about a call if principal, action, resource and all conditions are; where
        one is not understood that cannot be told."""
        statement: dict[str, Any] = {
            "Effect": kind,
            "Principal": {"Service": "apigateway.amazonaws.com"},
            "Action": "lambda:InvokeFunction",
            "Resource": FUNCTION.arn,
            "Condition": {"ArnLike": {"AWS:SourceArn": "arn:aws:x:r:a:api/*"}},
        }
        policy = Policy(exists=True, statements=({**statement, **change},))
        assert (policy.has_permission if kind == "Allow" else policy.denies)(GET_ORDER) is does
        assert (policy.denies if kind == "Allow" else policy.has_permission)(GET_ORDER) is False
        assert policy.allows(GET_ORDER) is (kind == "Allow" and does is True)

    @pytest.mark.parametrize("odd", [5, None, "text", [], {"Effect": "Perhaps"}, {}])
    def test_odd_statements(self, odd: Any) -> None:
        """What is no statement leaves it open whether the call is allowed or denied."""
        policy = Policy(exists=True, statements=(odd,))
        assert policy.has_permission(GET_ORDER) is None
        assert policy.denies(GET_ORDER) is None

    @pytest.mark.parametrize(
        "kind, source, found",
        [
            ("Allow", "arn:aws:x:r:a:api/GET/7", False),  # not enough for all orders
            ("Deny", "arn:aws:x:r:a:api/GET/7", None),  # some requests
            ("Allow", "arn:aws:x:r:a:api/POST/7", False),
            ("Deny", "arn:aws:x:r:a:api/POST/7", False),
        ],
    )
    def test_a_part_of_the_paths(self, kind: str, source: str, *, found: bool | None) -> None:
        """A permission for some values of a path parameter is none; a refusal of some is one."""
        statement = {
            "Effect": kind,
            "Principal": "*",
            "Action": "*",
            "Resource": "*",
            "Condition": {"StringEquals": {"aws:SourceArn": source}},
        }
        policy = Policy(exists=True, statements=(statement,))
        assert (policy.has_permission if kind == "Allow" else policy.denies)(GET_ORDER) is found


class TestUris:
    def test_forms(self) -> None:
        """A variable may be any part of a function's ARN, or all of it."""
        start = "arn:aws-cn:apigateway:cn-north-1:lambda:path/2015-03-31/functions/"
        arn = "arn:aws-cn:lambda:cn-north-1:123456789012:function:orders:v2"
        for written in (
            f"{start}{arn}/invocations",
            f"{start}${{stageVariables.x}}/invocations",
            f"{start}${{stageVariables.x}}/response-streaming-invocations",
        ):
            function = called(written, {"x": arn})
            assert function is not None
            assert function.arn == arn
            assert arn not in repr(function)

    def test_unqualified(self) -> None:
        """Without alias or version the function itself is called."""
        function = called(uri("orders"), {})
        assert function is not None
        assert function.qualifier is None
        assert function.arn == function.unqualified

    @pytest.mark.parametrize(
        "other", ["https://a.example/b", uri("a/b"), uri(""), "arn:aws:s3:::x"]
    )
    def test_others(self, other: str) -> None:
        """What is no Lambda function is none."""
        assert called(other, {}) is None

    def test_written(self) -> None:
        """A function is named as the integration names it."""
        assert function_in(ORDERS) == "orders:${stageVariables.alias}"
        assert function_in("https://a.example") == "https://a.example"


def test_methods_of_a_rehearsal() -> None:
    """Methods are keyed by HTTP method and path; anything else is refused."""
    for wrong in ("orders", "get /orders", "GET orders"):
        with (
            pytest.raises(ValueError, match="methods with paths, such as"),
            rehearsal(methods={wrong: Method()}),
        ):
            pass  # pragma: no cover - it does not begin


def test_settings_of_a_rehearsal() -> None:
    """Settings that the rehearsal does not know are refused."""
    with pytest.raises(RehearsalError), rehearsal(settings={"tracingEnabled": True}):
        pass  # pragma: no cover - it does not begin


def test_problem_is_a_sentence() -> None:
    """A problem reads as one."""
    text = str(Problem("warning", "It is so.", "Do this."))
    assert text == "warning: It is so. Do this."
