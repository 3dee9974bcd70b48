"""Answers of AWS that are not as AWS describes them: understood, or a documented error."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.loaders import create_loader
from botocore.model import ServiceModel
from hypothesis import given
from hypothesis import strategies as st

import hostile
from apigw_canary import RolloutPolicy
from apigw_canary.aws.answers import Structure, conforming
from apigw_canary.aws.apigateway import ApiGateway
from apigw_canary.aws.calls import Calls
from apigw_canary.aws.lambdas import Alias
from apigw_canary.changes.permissions import _CALLS
from apigw_canary.errors import (
    AccessDeniedError,
    CanaryError,
    InvalidInputError,
    UnansweredError,
)
from apigw_canary.testing import Backend, Fault, rehearsal
from apigw_canary.texts import bounded
from test_aws_calls import CONFLICT, OK, THROTTLED, Caller, Http

AT = datetime(2026, 1, 5, 9, tzinfo=UTC)
STAGE = {"stageName": "prod", "deploymentId": "d1", "lastUpdatedDate": AT}


def shape(operation: str, service: str = "apigateway") -> Any:
    described = create_loader().load_service_model(service, "service-2")
    return ServiceModel(described, service).operation_model(operation).output_shape


@pytest.mark.traced
@pytest.mark.long
@pytest.mark.parametrize("seed", range(30))
def test_hostile_answers(seed: int) -> None:
    """A release of which answers are damaged on the wire ends in values and documented errors.

    `make hostile` damages 2,000.
    """
    run = hostile.run_once(seed)
    assert run.wrong == []
    assert run.decided == []


@pytest.mark.long
@pytest.mark.parametrize("flow", range(len(hostile.FLOWS)))
def test_honest_answers(flow: int) -> None:
    """The same releases without damage have no error, so the damage is what is tested."""
    run = hostile.run_once(flow, harm=False)
    assert set(run.outcomes) == {"a value"}
    assert run.wrong == []
    assert not run.damaged


@pytest.mark.long
def test_every_call_is_damaged() -> None:
    """What the library calls, as its permissions list it, is what the releases call."""
    called = set[str]()

    class Listening(hostile.Run):
        def damage(self, operation: str, answer: hostile.Http) -> hostile.Http:
            called.add(operation)
            return answer

    for flow in hostile.FLOWS:
        flow(Listening(0))
    assert _CALLS.keys() - {"StopQuery"} <= called  # which only a query in trouble needs


class TestShapes:
    def test_as_described(self) -> None:
        """What is as AWS describes it comes through; what is null is missing."""
        found = conforming(
            "GetStage",
            {**STAGE, "variables": {"a": "1"}, "canarySettings": None},
            shape("GetStage"),
        )
        assert found == {**STAGE, "variables": {"a": "1"}, "ResponseMetadata": {}}

    def test_without_an_answer(self) -> None:
        """An operation that answers nothing answers nothing."""
        assert conforming("DeleteStage", {"odd": 1}, None) == {"ResponseMetadata": {}}

    @pytest.mark.parametrize(
        "member, value, why",
        [
            ("variables", [], "variables is a list instead of a map"),
            ("variables", {"a": None}, "a value of variables is a NoneType instead of a string"),
            ("variables", {5: "a"}, "a key of variables is a int instead of a string"),
            ("stageName", 5, "stageName is a int instead of a string"),
            ("cacheClusterEnabled", "yes", "cacheClusterEnabled is a str instead of a boolean"),
            ("canarySettings", "on", "canarySettings is a str instead of a structure"),
            (
                "canarySettings",
                {"percentTraffic": "10"},
                "canarySettings.percentTraffic is a str instead of a double",
            ),
            ("canarySettings", {"percentTraffic": True}, "percentTraffic is a bool"),
            ("canarySettings", {"percentTraffic": 10**400}, "percentTraffic is out of range"),
            ("lastUpdatedDate", "today", "lastUpdatedDate is a str instead of a timestamp"),
            ("lastUpdatedDate", datetime(2026, 1, 5), "which cannot be"),
            ("lastUpdatedDate", datetime(1, 1, 1, tzinfo=UTC), "which cannot be"),
            ("lastUpdatedDate", datetime(9999, 12, 31, tzinfo=UTC), "which cannot be"),
        ],
    )
    def test_otherwise(self, member: str, value: Any, why: str) -> None:
        """What is not names the member and how it differs, never its value."""
        with pytest.raises(UnansweredError, match=why) as raised:
            conforming("GetStage", {**STAGE, member: value}, shape("GetStage"))
        assert str(raised.value).startswith("The answer to GetStage is not AWS's: ")
        assert raised.value.operation == "GetStage"

    def test_a_list(self) -> None:
        """The items of a list are compared too."""
        with pytest.raises(UnansweredError, match="an item of items is a int"):
            conforming("GetDeployments", {"items": [5]}, shape("GetDeployments"))

    def test_a_missing_member(self) -> None:
        """A member that is needed and missing is named."""
        with pytest.raises(UnansweredError, match="it has no 'deploymentId'"):
            conforming("GetStage", {}, shape("GetStage"))["deploymentId"]
        assert Structure("GetStage", {}).get("deploymentId") is None


class TestStages:
    """What is of the right type, and cannot be."""

    @pytest.mark.parametrize(
        "changes, why",
        [
            ({"stageName": "dev"}, "it is about another stage"),
            ({"deploymentId": "a/b"}, "its deploymentId cannot be an id"),
            ({"deploymentId": ""}, "its deploymentId cannot be an id"),
            ({"canarySettings": {}}, "it has no 'percentTraffic'"),
            (
                {"canarySettings": {"percentTraffic": 101, "deploymentId": "d2"}},
                "percentTraffic is 101",
            ),
            (
                {"canarySettings": {"percentTraffic": -1, "deploymentId": "d2"}},
                "percentTraffic is -1",
            ),
        ],
    )
    def test_a_stage(self, changes: dict[str, Any], why: str) -> None:
        """A stage that cannot be is no stage."""
        body = {**STAGE, "lastUpdatedDate": 1767603600, **changes}
        caller = Caller(OK._replace(body=json.dumps(body)))
        with pytest.raises(UnansweredError, match=why):
            ApiGateway(caller.calls, "a1b2c3d4e5", "prod").stage()

    def test_no_canary(self) -> None:
        """Canary settings that are null are none."""
        body = {**STAGE, "lastUpdatedDate": 1767603600, "canarySettings": None}
        caller = Caller(OK._replace(body=json.dumps(body)))
        assert ApiGateway(caller.calls, "a1b2c3d4e5", "prod").stage().stage.canary is None

    @pytest.mark.parametrize("kind", ["", "none", "\x1b[31m", "A" * 65])
    def test_a_method(self, kind: str) -> None:
        """A kind of authorization that cannot be one is not compared with another."""
        method = {"authorizationType": kind}
        body = {"id": "d1", "apiSummary": {"/": {"GET": method}}}
        caller = Caller(OK._replace(body=json.dumps(body)))
        with pytest.raises(UnansweredError, match="authorizationType"):
            ApiGateway(caller.calls, "a1b2c3d4e5", "prod").contract("d1")

    @pytest.mark.parametrize(
        "changes, why",
        [
            ({"Name": "other"}, "it is about another alias"),
            ({"FunctionVersion": "seven"}, "a version in it is not valid"),
            ({"RoutingConfig": {"AdditionalVersionWeights": {"2": 1.5}}}, "a weight in it is 1.5"),
            ({"RoutingConfig": {"AdditionalVersionWeights": {"x": 0.5}}}, "a version in it"),
        ],
    )
    def test_an_alias(self, changes: dict[str, Any], why: str) -> None:
        """An alias that cannot be is no alias."""
        body = {"Name": "live", "FunctionVersion": "1", "RevisionId": "r", **changes}
        caller = Caller(OK._replace(body=json.dumps(body)))
        with pytest.raises(UnansweredError, match=why):
            Alias(caller.calls, "orders", "live").read()

    def test_an_error_of_the_library_stays(self) -> None:
        """What the caller's session raises as one of our errors is that error."""

        class Session:
            def client(self, service_name: Any, *, config: Any = None) -> Any:
                def refused(**_: object) -> None:
                    raise InvalidInputError("session", "another", "this")

                return SimpleNamespace(get_stage=refused)

        with pytest.raises(InvalidInputError, match="session must be another"):
            Calls(Session()).call("apigateway", "GetStage", restApiId="a1", stageName="prod")


class TestPages:
    @pytest.mark.parametrize("positions", [["a"], ["a", "b"], ["a", "b", "c"]])
    def test_that_repeat(self, positions: list[str]) -> None:
        """A list whose pages come round again ends in an error."""
        answers = [
            OK._replace(body=f'{{"item": [], "position": "{each}"}}') for each in positions * 2
        ]
        caller = Caller(*answers)
        with pytest.raises(UnansweredError, match="its pages have no end"):
            list(caller.calls.pages("apigateway", "GetRestApis", "position"))
        assert len(caller.wire.sent) == len(positions) + 1

    @pytest.mark.long
    def test_without_an_end(self) -> None:
        """So does one of more pages than any account has."""

        class Endless(Caller):
            pass

        caller = Endless(
            *(OK._replace(body=f'{{"item": [], "position": "{n}"}}') for n in range(1100))
        )
        with pytest.raises(UnansweredError, match="its pages have no end"):
            list(caller.calls.pages("apigateway", "GetRestApis", "position"))
        assert len(caller.wire.sent) == 1001


class TestTexts:
    @given(st.text(), st.integers(1, 50))
    def test_bounded(self, text: str, limit: int) -> None:
        """Any text becomes one printable line of at most the limit; a fit one stays as it is."""
        found = bounded(text, limit)
        assert found.isprintable()
        assert len(found) <= limit
        if text.isprintable() and len(text) <= limit:
            assert found == text

    @given(st.text(max_size=5000), st.text(max_size=5000), st.text(max_size=5000))
    def test_errors(self, happened: str, state: str, remedy: str) -> None:
        """No message is longer than 2,000 characters, whatever AWS puts into it."""
        error = CanaryError(happened).within(state, remedy)
        assert len(str(error)) <= 2000
        assert str(error).isprintable()

    @pytest.mark.parametrize("status", [400, 403, 404, 500])
    def test_of_aws(self, status: int) -> None:
        """A page of AWS's with escape sequences is shown in part, without them."""
        caller = Caller(Http(status, "Strange", "\x1b[2J" + "A" * 100_000))
        error = caller.refused()
        assert len(str(error)) <= 2000
        assert "\x1b" not in str(error)
        assert "\\x1b[2JAAA" in str(error)


def logged(caplog: pytest.LogCaptureFixture) -> list[dict[str, str]]:
    """The changes in the log."""
    return [vars(each)["apigw_canary"] for each in caplog.records if each.levelname == "INFO"]


class TestLogs:
    def test_retries(self, caplog: pytest.LogCaptureFixture) -> None:
        """Each retry is a warning that names operation, code and pause; each call is at DEBUG."""
        caplog.set_level(logging.DEBUG, "apigw_canary")
        caller = Caller(CONFLICT, THROTTLED, OK)
        caller.call()
        warned = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
        assert warned == [
            f"GetStage failed ({code}) and is repeated in {pause:.1f} s"
            for code, pause in zip(
                ["ConflictException", "TooManyRequestsException"], caller.slept, strict=True
            )
        ]
        debug = [r.getMessage() for r in caplog.records if r.levelno == logging.DEBUG]
        assert debug == ["calling GetStage of apigateway"]

    def test_changes_of_a_stage(self, caplog: pytest.LogCaptureFixture) -> None:
        """Each change is at INFO with its verb, states, release and the decision's reason."""
        caplog.set_level(logging.INFO, "apigw_canary")
        policy = RolloutPolicy.canary(10, timedelta(minutes=5))
        with rehearsal(backends={"alias=v2": Backend(errors_5xx=0.5)}) as aws:
            own = aws.stage.describe().deployment_id
            canary = aws.stage.enable_canary(10, release="r1", variables={"alias": "v2"})
            canary.shift(20)
            aws.sleep(600)
            decision = policy.decide(canary.observe(policy))
            canary.apply(decision)
        changes = logged(caplog)
        own_and_new = f"{own} and {canary.deployment_id}"
        stage = f"eu-central-1/{aws.rest_api_id}/prod"
        assert [tuple(change.values()) for change in changes] == [
            (
                *("2026-01-05T09:00:00+00:00", "enable", stage),
                *(own, f"{own_and_new} at 10 %", "r1", "", "done"),
            ),
            (
                *("2026-01-05T09:00:00+00:00", "shift", stage),
                *(f"{own_and_new} at 10 %", f"{own_and_new} at 20 %", "r1", "", "done"),
            ),
            (
                *("2026-01-05T09:10:00+00:00", "end", stage),
                *(f"{own_and_new} at 20 %", own, "r1", decision.reason, "done"),
            ),
        ]
        assert "v2" not in caplog.text

    def test_changes_of_an_alias(self, caplog: pytest.LogCaptureFixture) -> None:
        """An alias's changes are logged alike; a failed one with the error's name."""
        caplog.set_level(logging.INFO, "apigw_canary")
        with rehearsal(versions=[Backend(), Backend()], variables={"alias": "live"}) as aws:
            alias = aws.alias("live")
            canary = alias.enable_canary(10, version="2", release="r1")
            aws.fail("UpdateAlias", Fault.ACCESS_DENIED)
            with pytest.raises(AccessDeniedError):
                canary.shift(20)
            canary.promote()
            alias.revert()
        changes = logged(caplog)
        assert [(c["verb"], c["before"], c["after"], c["outcome"]) for c in changes] == [
            ("enable", "1", "1 and 2 at 10 %", "done"),
            ("shift", "1 and 2 at 10 %", "1 and 2 at 20 %", "AccessDeniedError"),
            ("promote", "1 and 2 at 10 %", "2", "done"),
            ("revert", "2", "1", "done"),
        ]
        assert changes[0]["stage"] == "eu-central-1/orders/live"

    def test_silent_by_default(self) -> None:
        """A program that configures no logging sees nothing on its standard error."""
        handlers = logging.getLogger("apigw_canary").handlers
        assert any(isinstance(each, logging.NullHandler) for each in handlers)
