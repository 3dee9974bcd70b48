"""Each operation works with exactly the permissions that its document gives, and no fewer."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from datetime import timedelta
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any, NamedTuple, cast, get_args

import pytest

from acting import (
    CANARY,
    COPIES,
    ORDERS,
    PERCENT,
    V2,
    client,
    create_function,
    finished,
    fresh,
    patch,
    remove,
    replace,
    sent,
    serving,
)
from apigw_canary import (
    AccessLogs,
    AliasCanary,
    Analysis,
    Canary,
    CanaryError,
    CleanUp,
    CloudWatchMetrics,
    LambdaAlias,
    LambdaMetrics,
    Observation,
    Preflight,
    Promote,
    Rollback,
    RolloutPolicy,
    Shift,
    Stage,
    Verdict,
    permissions,
)
from apigw_canary.changes.permissions import Operation, Source
from apigw_canary.errors import (
    AccessDeniedError,
    CredentialsError,
    InvalidInputError,
    NoCanaryError,
    NotFoundError,
    RecordError,
    RolloutEndedError,
    StageChangedError,
    ThrottledError,
)
from apigw_canary.testing import Backend, Fault, Method, Rehearsal, RehearsalError, rehearsal

POLICY = RolloutPolicy.canary(5, timedelta(minutes=10))
ALARMED = RolloutPolicy.canary(5, timedelta(minutes=10), alarms=["errors"])
PAGE = Path(__file__).parent.parent / "docs" / "permissions.md"
ACCOUNT = "123456789012"
Act = Callable[[], object]
Pair = tuple[str, str]


class Place(NamedTuple):
    """A stage, as far as a document needs it; making boto3's clients takes long."""

    region: str = "eu-central-1"
    rest_api_id: str = "a1b2c3d4e5"
    name: str = "prod"


def document(*operations: Any, **options: Any) -> dict[str, Any]:
    return permissions(Place(), *operations, **options)


class AliasPlace(NamedTuple):
    """The same of an alias."""

    region: str = "eu-central-1"
    function: str = "orders"


FUNCTIONS: dict[str, Any] = {"functions": ["orders"], "account": ACCOUNT}
GROUPS: dict[str, Any] = {"log_groups": ["rehearsal-access-logs"]}
LOGS: dict[str, Any] = GROUPS | {"account": ACCOUNT}
OPTIONS: dict[str, dict[str, Any]] = {
    "allow_invocation": FUNCTIONS,
    "analyze": {"policy": ALARMED},
    "check": FUNCTIONS | {"policy": ALARMED},
    "enable_canary": {"policy": ALARMED},
    "failures": LOGS,
    "observe": {"policy": ALARMED},
    "promote": {"flush_cache": True},
}
"""What an operation's document needs beside the stage."""


class Row(NamedTuple):
    """An operation on a stage, or on an alias."""

    operation: Any
    of_alias: bool = False

    def __repr__(self) -> str:
        return f"{'alias.' if self.of_alias else ''}{self.operation}"

    @property
    def place(self) -> Place | AliasPlace:
        return AliasPlace() if self.of_alias else Place()

    @property
    def scenarios(self) -> list[Callable[[Rehearsal], Act]]:
        return (ALIAS_SCENARIOS if self.of_alias else SCENARIOS)[self.operation]

    def document(self, place: Any = None) -> dict[str, Any]:
        options = OPTIONS.get(self.operation, {})
        if self.of_alias:
            options = {"account": ACCOUNT, **options}
            options.pop("flush_cache", None)
        return permissions(place or self.place, self.operation, **options)


def pairs(policy: dict[str, Any]) -> list[Pair]:
    """Each action of a document, with each resource."""
    return [
        (action, resource)
        for statement in policy["Statement"]
        for action in statement["Action"]
        for resource in statement["Resource"]
    ]


def allowing(allowed: list[Pair]) -> dict[str, Any]:
    """The document of these pairs, a statement each."""
    statements = [{"Effect": "Allow", "Action": a, "Resource": r} for a, r in allowed]
    return {"Version": "2012-10-17", "Statement": statements}


# What each operation is done on: everything is allowed while it is prepared.


def enabled(aws: Rehearsal) -> Canary:
    return aws.stage.enable_canary(5, release="r1", variables=V2)


def enabling(aws: Rehearsal) -> Act:
    return lambda: enabled(aws)


def enabling_with_alarms(aws: Rehearsal) -> Act:
    aws.alarm("errors")
    return lambda: aws.stage.enable_canary(5, variables=V2, policy=ALARMED)


def enabling_variables(aws: Rehearsal) -> Act:
    own = serving(aws)[0]
    return lambda: aws.stage.enable_canary(5, variables=V2, deployment_id=own)


def enabling_again(aws: Rehearsal) -> Act:
    enabled(aws)
    return lambda: enabled(aws)


def of_a_stage(verb: str) -> Callable[[Rehearsal], Act]:
    """A method of the stage, in a process that finds a canary."""

    def prepare(aws: Rehearsal) -> Act:
        enabled(aws)
        act: Act = getattr(fresh(aws), verb)
        return act

    return prepare


def of_a_canary(verb: str, *arguments: Any) -> Callable[[Rehearsal], Act]:
    def prepare(aws: Rehearsal) -> Act:
        act = getattr(enabled(aws), verb)
        return lambda: act(*arguments)

    return prepare


def touched(verb: str, *arguments: Any) -> Callable[[Rehearsal], Act]:
    """The same, after somebody else has changed the canary's share."""

    def prepare(aws: Rehearsal) -> Act:
        act = getattr(enabled(aws), verb)
        aws.sleep(60)
        patch(aws, replace(PERCENT, "7.0"))
        return lambda: act(*arguments)

    return prepare


def promoted_by_hand(verb: str, *arguments: Any) -> Callable[[Rehearsal], Act]:
    """The same, after somebody else has made the canary's deployment the stage's own."""

    def prepare(aws: Rehearsal) -> Act:
        act = getattr(enabled(aws), verb)
        patch(aws, *COPIES)
        return lambda: act(*arguments)

    return prepare


def ended_outside(verb: str, *arguments: Any) -> Callable[[Rehearsal], Act]:
    """The same, after the canary was ended in the console."""

    def prepare(aws: Rehearsal) -> Act:
        act = getattr(enabled(aws), verb)
        aws.sleep(60)
        patch(aws, remove(CANARY))
        return lambda: act(*arguments)

    return prepare


def of_an_ended_stage(verb: str) -> Callable[[Rehearsal], Act]:
    """A method of the stage, in a process that finds the canary ended outside."""

    def prepare(aws: Rehearsal) -> Act:
        enabled(aws)
        patch(aws, remove(CANARY))
        act: Act = getattr(fresh(aws), verb)
        return act

    return prepare


def resuming(aws: Rehearsal) -> Act:
    canary = enabled(aws)
    canary.hold("a freeze")
    return canary.resume


def accepting(aws: Rehearsal) -> Act:
    canary = enabled(aws)
    patch(aws, replace("/variables/alias", "v1-again"))
    return canary.accept_production_changes


def promoting_and_flushing(aws: Rehearsal) -> Act:
    canary = enabled(aws)
    return lambda: canary.promote(flush_cache=True)


def half_promoted(verb: str) -> Callable[[Rehearsal], Act]:
    """The same, after the process died in the middle of a promotion."""

    def prepare(aws: Rehearsal) -> Act:
        canary = enabled(aws)
        aws.fail("UpdateStage", Fault.ACCESS_DENIED, skip=1)
        with pytest.raises(AccessDeniedError):
            canary.promote()
        act: Act = getattr(canary, verb)
        return act

    return prepare


def applying(
    begin: Callable[[Rehearsal], Canary | AliasCanary],
    kind: type[Any],
    percent: float = 5,
    *,
    ended: bool = False,
) -> Callable[[Rehearsal], Act]:
    def prepare(aws: Rehearsal) -> Act:
        canary = begin(aws)
        observation = canary.observe(POLICY)
        if ended:
            patch(aws, remove(CANARY))
        decision = kind(
            at=observation.at,
            reason="because",
            percent=percent,
            wait=timedelta(0),
            final=kind is not Shift,
            analysis=None,
            basis=observation.basis,
        )
        return lambda: canary.apply(decision)

    return prepare


def reverting(aws: Rehearsal) -> Act:
    enabled(aws).promote()
    return fresh(aws).revert


def reverting_unanswered(aws: Rehearsal) -> Act:
    """The record of the revert is written, and the answer lost."""
    enabled(aws).promote()
    aws.fail("UpdateDeployment", Fault.TIMEOUT, after=True)
    return fresh(aws).revert


def unseen(aws: Rehearsal) -> Canary:
    """A canary whose requests CloudWatch has elsewhere, with an alarm that was silenced."""
    elsewhere = CloudWatchMetrics(canary_stage="{stage}/elsewhere")
    aws.alarm("errors")
    aws.sleep(60)
    canary = fresh(aws, metrics=elsewhere).enable_canary(50, release="r1", variables=V2)
    aws.sleep(1800)
    aws.alarm("errors", "INSUFFICIENT_DATA")
    return canary


def of_an_unseen_canary(verb: str) -> Callable[[Rehearsal], Act]:
    def prepare(aws: Rehearsal) -> Act:
        act = getattr(unseen(aws), verb)
        return lambda: act(ALARMED)

    return prepare


def comparing_an_unseen_canary(aws: Rehearsal) -> Act:
    canary = unseen(aws)
    return canary.compare


def observing_the_past(aws: Rehearsal) -> Act:
    stage, now = fresh(aws), aws.now()
    return lambda: stage.observe(POLICY, start=now - timedelta(minutes=10), end=now)


def leading_to_a_function(aws: Rehearsal) -> Stage:
    aws.edit(methods={"GET /orders": Method(uri=ORDERS), "POST /orders": Method(uri=ORDERS)})
    create_function(aws, "orders", "v2")
    return fresh(aws)


def checking(aws: Rehearsal) -> Act:
    stage = leading_to_a_function(aws)
    aws.alarm("errors")
    return lambda: stage.check(policy=ALARMED, variables=V2)


def checking_an_unseen_canary(aws: Rehearsal) -> Act:
    unseen(aws)
    stage = fresh(aws, metrics=CloudWatchMetrics(canary_stage="{stage}/elsewhere"))
    return lambda: stage.check(policy=ALARMED)


def allowing_invocation(aws: Rehearsal) -> Act:
    stage = leading_to_a_function(aws)
    return lambda: stage.allow_invocation(V2)


def smoke_testing(aws: Rehearsal) -> Act:
    stage = fresh(aws)
    return lambda: stage.smoke_test(["GET /orders", "GET /orders/1"], variables=V2)


def cleaning_up(aws: Rehearsal) -> Act:
    aws.stage.enable_canary(5, variables=V2).rollback()
    aws.sleep(3600)
    stage = fresh(aws)
    return lambda: stage.clean_up(keep=0)


def finding(aws: Rehearsal) -> Act:
    return lambda: Stage.find("rehearsal", "prod", session=aws.session)


def observing_access_logs(aws: Rehearsal) -> Act:
    stage = fresh(aws, metrics=AccessLogs())
    canary = stage.enable_canary(5, variables=V2)
    return lambda: canary.observe(POLICY)


def finding_causes(aws: Rehearsal) -> Act:
    canary = enabled(aws)
    aws.sleep(600)
    return lambda: canary.failures(source="execution")


def abandoning(aws: Rehearsal) -> Act:
    """A query whose answer is not awaited is stopped."""
    act = enabled(aws).failures

    def abandon() -> None:
        aws.fail("GetQueryResults", Fault.EXPIRED_CREDENTIALS)
        with pytest.raises(CredentialsError):
            act()

    return abandon


# The same of an alias.


def comparing_versions(aws: Rehearsal) -> Act:
    canary = weighted(aws)
    aws.sleep(1200)
    return canary.compare


def weighted(aws: Rehearsal) -> AliasCanary:
    return aws.alias("v1").enable_canary(5, release="r1", version="2")


def weighing(aws: Rehearsal) -> Act:
    return lambda: weighted(aws)


def weighing_again(aws: Rehearsal) -> Act:
    weighted(aws)
    return weighing(aws)


def weighing_with_alarms(aws: Rehearsal) -> Act:
    aws.alarm("errors")
    return lambda: aws.alias("v1").enable_canary(5, version="2", policy=ALARMED)


def of_an_alias(verb: str) -> Callable[[Rehearsal], Act]:
    """A method of the alias, in a process that finds a canary."""

    def prepare(aws: Rehearsal) -> Act:
        weighted(aws)
        act: Act = getattr(aws.alias("v1"), verb)
        return act

    return prepare


def watched(
    begin: Callable[[Rehearsal], Canary | AliasCanary], verb: str, *arguments: Any
) -> Callable[[Rehearsal], Act]:
    """A method of a canary that has had traffic, and an alarm that was silenced meanwhile."""

    def prepare(aws: Rehearsal) -> Act:
        aws.alarm("errors")
        aws.sleep(60)
        act = getattr(begin(aws), verb)
        aws.sleep(600)
        aws.alarm("errors", "INSUFFICIENT_DATA")
        return lambda: act(*arguments)

    return prepare


def resuming_an_alias(aws: Rehearsal) -> Act:
    canary = weighted(aws)
    canary.hold("a freeze")
    return canary.resume


def accepting_of_an_alias(aws: Rehearsal) -> Act:
    """Production's version was changed outside; the canary's weight stays."""
    canary = weighted(aws)
    outside: Any = aws.session.client("lambda")
    outside.update_alias(FunctionName="orders", Name="v1", FunctionVersion="3")
    return canary.accept_production_changes


def reverting_an_alias(aws: Rehearsal) -> Act:
    weighted(aws).promote()
    return aws.alias("v1").revert


SCENARIOS: dict[str, list[Callable[[Rehearsal], Act]]] = {
    "allow_invocation": [allowing_invocation],
    "analyze": [
        promoted_by_hand("analyze", POLICY),
        of_a_canary("analyze", POLICY),
        of_an_unseen_canary("analyze"),
        ended_outside("analyze", POLICY),
    ],
    "apply": [
        applying(enabled, Promote),
        applying(enabled, Shift, 25),
        applying(enabled, Rollback),
    ],
    "canary": [of_a_stage("canary"), of_an_ended_stage("canary")],
    "check": [checking, checking_an_unseen_canary],
    "clean_up": [cleaning_up],
    "compare": [touched("compare"), comparing_an_unseen_canary],
    "describe": [of_a_stage("describe"), of_an_ended_stage("describe")],
    "disable": [half_promoted("disable"), of_a_canary("disable"), ended_outside("disable")],
    "enable_canary": [
        enabling,
        enabling_with_alarms,
        enabling_variables,
        enabling_again,
    ],
    "failures": [touched("failures"), abandoning, finding_causes],
    "find": [finding],
    "log_groups": [of_a_stage("log_groups")],
    "observe": [
        promoted_by_hand("observe", POLICY),
        of_a_canary("observe", POLICY),
        of_an_unseen_canary("observe"),
        ended_outside("observe", POLICY),
        observing_the_past,
    ],
    "promote": [of_a_canary("promote"), promoting_and_flushing],
    "revert": [reverting, reverting_unanswered],
    "rollback": [
        half_promoted("rollback"),
        of_a_canary("rollback"),
        of_a_stage("rollback"),
        ended_outside("rollback"),
    ],
    "shift": [of_a_canary("shift", 25), touched("shift", 25)],
    "hold": [of_a_canary("hold", "a freeze")],
    "resume": [of_a_canary("resume"), resuming],
    "accept_production_changes": [of_a_canary("accept_production_changes"), accepting],
    "smoke_test": [smoke_testing],
}

ENDED: dict[str, Callable[[Rehearsal], Act]] = {
    "accept_production_changes": ended_outside("accept_production_changes"),
    "apply": applying(enabled, Shift, 25, ended=True),
    "hold": ended_outside("hold", "a freeze"),
    "promote": ended_outside("promote"),
    "resume": ended_outside("resume"),
    "shift": ended_outside("shift", 25),
}
"""What needs a canary, where there is none any more: how it ended is read for the error."""

ALIAS_SCENARIOS: dict[str, list[Callable[[Rehearsal], Act]]] = {
    "analyze": [watched(weighted, "analyze", ALARMED)],
    "apply": [
        applying(weighted, Promote),
        applying(weighted, Shift, 25),
        applying(weighted, Rollback),
    ],
    "canary": [of_an_alias("canary")],
    "compare": [comparing_versions],
    "describe": [of_an_alias("describe"), watched(weighted, "describe")],
    "disable": [watched(weighted, "disable")],
    "enable_canary": [weighing, weighing_again, weighing_with_alarms],
    "observe": [watched(weighted, "observe", ALARMED)],
    "promote": [watched(weighted, "promote")],
    "revert": [reverting_an_alias],
    "rollback": [of_an_alias("rollback"), watched(weighted, "rollback")],
    "shift": [watched(weighted, "shift", 25)],
    "hold": [watched(weighted, "hold", "a freeze")],
    "resume": [watched(weighted, "resume"), resuming_an_alias],
    "accept_production_changes": [
        watched(weighted, "accept_production_changes"),
        accepting_of_an_alias,
    ],
}

ROWS = [*map(Row, SCENARIOS), *(Row(operation, of_alias=True) for operation in ALIAS_SCENARIOS)]

# What is done without a permission rather than refused; the tests below say how.
DEGRADED = {
    (Row("analyze"), "apigateway:GET", "Apis"),
    (Row("analyze"), "apigateway:GET", "EachDeployment"),
    (Row("analyze"), "apigateway:GET", "Stages"),
    (Row("analyze"), "cloudwatch:DescribeAlarmHistory", "Everything"),
    (Row("analyze"), "cloudwatch:DescribeAlarms", "Everything"),
    (Row("analyze"), "cloudwatch:GetMetricData", "Everything"),
    (Row("analyze"), "cloudwatch:ListMetrics", "MetricNames"),
    (Row("check"), "apigateway:GET", "Authorizers"),
    (Row("check"), "apigateway:GET", "Stages"),
    (Row("check"), "cloudwatch:ListMetrics", "MetricNames"),
    (Row("compare"), "apigateway:GET", "EachDeployment"),
    (Row("compare"), "apigateway:GET", "Stages"),
    (Row("compare"), "cloudwatch:ListMetrics", "MetricNames"),
    (Row("disable"), "apigateway:PATCH", "EachDeployment"),
    (Row("enable_canary"), "apigateway:GET", "ApiResources"),
    (Row("enable_canary"), "apigateway:GET", "Authorizers"),
    (Row("enable_canary"), "apigateway:GET", "Stages"),
    (Row("enable_canary"), "cloudwatch:ListMetrics", "MetricNames"),
    (Row("failures"), "apigateway:GET", "EachDeployment"),
    (Row("failures"), "logs:StopQuery", "Everything"),
    (Row("observe"), "apigateway:GET", "EachDeployment"),
    (Row("observe"), "apigateway:GET", "Stages"),
    (Row("observe"), "apigateway:PATCH", "EachDeployment"),
    (Row("observe"), "cloudwatch:ListMetrics", "MetricNames"),
    (Row("rollback"), "apigateway:PATCH", "EachDeployment"),
    (Row("shift"), "apigateway:GET", "EachDeployment"),
    (Row("analyze", of_alias=True), "cloudwatch:DescribeAlarmHistory", "Everything"),
    (Row("analyze", of_alias=True), "cloudwatch:DescribeAlarms", "Everything"),
    (Row("analyze", of_alias=True), "cloudwatch:GetMetricData", "Everything"),
}


def rehearsed(of_alias: bool) -> AbstractContextManager[Rehearsal]:
    versions = [Backend(), Backend(), Backend()] if of_alias else ()
    return rehearsal(
        requests_per_minute=50,
        versions=versions,
        settings={"cacheClusterEnabled": True},
        execution_logs="INFO",
    )


def outcome(
    prepare: Callable[[Rehearsal], Act],
    allow: Callable[[Any], dict[str, Any]],
    *,
    of_alias: bool = False,
) -> Any:
    """What comes of an operation under a document: its result, or our error."""
    with rehearsed(of_alias) as aws:
        act = prepare(aws)
        aws.allow = allow(aws.alias("v1") if of_alias else aws.stage)
        try:
            return act()
        except CanaryError as error:
            return error


def without(row: Row, action: str, sid: str) -> Callable[[Any], dict[str, Any]]:
    """The operation's document without an action of a statement."""

    def lacking(place: Any) -> dict[str, Any]:
        policy = row.document(place)
        for statement in policy["Statement"]:
            if statement["Sid"] == sid:
                statement["Action"].remove(action)
        return allowing(pairs(policy))

    return lacking


def is_denied(result: Any, action: str) -> bool:
    """Whether it says that this action is missing: raised, in the observation, or as a problem."""
    if isinstance(result, Observation):
        return f"Allow {action} to" in (result.failure or "")
    if isinstance(result, CleanUp):
        return any(f"Allow {action} to" in item.reason for item in result.items)
    if isinstance(result, Preflight | tuple):
        return any(f"Allow {action} to" in problem.remedy for problem in result)
    while result is not None and not isinstance(result, AccessDeniedError):
        result = getattr(result, "__cause__", None)
    return result is not None and result.action == action


def methods(*classes: type) -> set[str]:
    """The public methods, inherited ones too."""
    return {
        name
        for cls in classes
        for name in dir(cls)
        if not name.startswith("_") and not isinstance(getattr(cls, name), property)
    }


def told(value: object) -> str:
    """What a case is called, the same in each process that collects it."""
    return value.__qualname__ if isinstance(value, FunctionType) else repr(value)


def test_every_method_has_a_row() -> None:
    """Each method of what `permissions` knows can be named, and what can be named is proven."""
    assert set(get_args(Operation)) == methods(Stage, Canary) == set(SCENARIOS)
    assert methods(LambdaAlias, AliasCanary) == set(ALIAS_SCENARIOS)
    assert set(get_args(Source)) == {"AccessLogs", "CloudWatchMetrics", "LambdaMetrics"}


@pytest.mark.traced
@pytest.mark.long
@pytest.mark.parametrize(
    "row, prepare", [(row, prepare) for row in ROWS for prepare in row.scenarios], ids=told
)
def test_its_document_is_enough(
    row: Row, prepare: Callable[[Rehearsal], Act], caplog: pytest.LogCaptureFixture
) -> None:
    """An operation does all it can do with its own document; nothing is refused to it."""
    result = outcome(prepare, row.document, of_alias=row.of_alias)

    assert not isinstance(result, CanaryError)
    if row.operation == "check":
        assert not any("was denied" in problem.what for problem in result)
    assert "not authorized" not in f"{result} {caplog.text}"
    if isinstance(result, Observation):
        assert result.failure is None


def each_pair() -> Iterator[Any]:
    """Each operation with each of its permissions, named by statement."""
    for row in ROWS:
        for statement in row.document()["Statement"]:
            for action in statement["Action"]:
                yield row, action, statement["Sid"]


WRITES = {
    ("apigateway:POST", "Deployments"): "CreateDeployment",
    ("apigateway:PATCH", "EachDeployment"): "UpdateDeployment",
    ("apigateway:PATCH", "Stage"): "UpdateStage",
    ("lambda:UpdateAlias", "Functions"): "UpdateAlias",
}


@pytest.mark.long
@pytest.mark.parametrize(
    "row, write, prepare",
    [
        (row, WRITES[action, sid], prepare)
        for row, action, sid in each_pair()
        if (action, sid) in WRITES
        for prepare in row.scenarios
    ],
    ids=told,
)
def test_its_document_is_enough_to_make_sure(
    row: Row, write: str, prepare: Callable[[Rehearsal], Act]
) -> None:
    """Where the answer to a write is lost the operation may read what became of it."""
    with rehearsed(row.of_alias) as aws:
        act = prepare(aws)
        aws.fail(write, Fault.TIMEOUT, after=True)
        aws.allow = row.document(aws.alias("v1") if row.of_alias else aws.stage)
        act()


@pytest.mark.long
@pytest.mark.no_cover
@pytest.mark.parametrize(
    "row, action, sid", [each for each in each_pair() if each not in DEGRADED], ids=told
)
def test_nothing_of_it_can_be_left_out(row: Row, action: str, sid: str) -> None:
    """Without any one of its permissions an operation is refused, and the error names the action.

    Where the refusal keeps a record from being read or written, that is the error, and the refusal
    its cause.
    """
    lacking = without(row, action, sid)
    ended = [] if row.of_alias or row.operation not in ENDED else [ENDED[row.operation]]
    scenarios = (*row.scenarios, *ended)
    results = (outcome(prepare, lacking, of_alias=row.of_alias) for prepare in scenarios)
    denied = next((result for result in results if is_denied(result, action)), None)
    assert isinstance(
        denied, AccessDeniedError | CleanUp | Observation | Preflight | RecordError | tuple
    )
    texts = map(str, denied) if isinstance(denied, Preflight) else [str(denied)]
    assert action in (denied.failure or "" if isinstance(denied, Observation) else " ".join(texts))


@pytest.mark.parametrize("operation", ENDED)
def test_without_a_canary(operation: str) -> None:
    """Its document is enough to tell how a canary ended that is not there any more."""
    result = outcome(ENDED[operation], Row(operation).document)
    assert isinstance(result, NoCanaryError | RolloutEndedError | StageChangedError)
    assert "not authorized" not in str(result)


@pytest.mark.parametrize("operation", ["disable", "rollback"])
def test_an_end_that_cannot_be_recorded(operation: str, caplog: pytest.LogCaptureFixture) -> None:
    """Without UpdateDeployment the canary is ended all the same, and a warning names the action."""
    with rehearsal() as aws:
        act = of_a_canary(operation)(aws)
        aws.allow = without(Row(operation), "apigateway:PATCH", "EachDeployment")(aws.stage)
        act()
        aws.allow = None
        assert serving(aws)[2] is None
    assert "not authorized to perform: apigateway:PATCH" in caplog.text


@pytest.mark.parametrize("action", ["apigateway:GET", "apigateway:PATCH"])
def test_an_observation_that_cannot_use_the_record(
    action: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Without GetDeployment or UpdateDeployment failures are found all the same, and it is told."""
    with rehearsal() as aws:
        canary = enabled(aws)
        aws.allow = without(Row("observe"), action, "EachDeployment")(aws.stage)
        aws.fail("GetMetricData", Fault.ACCESS_DENIED)
        look = canary.observe(POLICY)
        assert "GetMetricData" in (look.failure or "")
        assert look.failing_since == aws.now()
        assert f"not authorized to perform: {action}" in caplog.text + str(look)


def test_a_shift_that_cannot_read_the_record(caplog: pytest.LogCaptureFixture) -> None:
    """Without GetDeployment a share is set, on the word of deployment and variables, and logged."""
    lacking = without(Row("shift"), "apigateway:GET", "EachDeployment")
    with caplog.at_level(logging.WARNING):
        assert outcome(touched("shift", 25), lacking) is None
    assert "not authorized to perform: apigateway:GET" in caplog.text


@pytest.mark.parametrize(
    "row, action, sid",
    sorted(each for each in DEGRADED if each[0].operation == "analyze"),
    ids=told,
)
def test_an_analysis_with_less(row: Row, action: str, sid: str) -> None:
    """Without the metrics there is no evidence; without anything else there is.

    Alarms are not evidence, and of stages and the names of metrics `observe` tells in its notes.
    """
    prepare = watched(weighted if row.of_alias else enabled, "analyze", ALARMED)
    result = outcome(prepare, without(row, action, sid), of_alias=row.of_alias)
    assert isinstance(result, Analysis)
    assert result.verdict is Verdict.UNDECIDED
    is_blind = action.endswith("GetMetricData") or sid == "Apis"
    assert is_blind is not any(finding.canary_requests for finding in result.findings)


@pytest.mark.long
@pytest.mark.parametrize(
    "action, sid, told",
    [
        ("apigateway:GET", "Stages", "the API's total cannot be compared with its stages"),
        ("cloudwatch:ListMetrics", "MetricNames", "whether CloudWatch has a series prod/elsewhere"),
    ],
)
def test_a_look_with_less(action: str, sid: str, told: str) -> None:
    """A careful person may strike these two: the look is the same, and a note says what is not.

    The report of `check` is the same without them.
    """
    lacking = without(Row("observe"), action, sid)
    result = outcome(of_an_unseen_canary("observe"), lacking)
    assert isinstance(result, Observation)
    assert result.failure is None
    (note,) = [note for note in result.notes if told in note]
    assert f"Allow {action} to" in note
    for prepare in SCENARIOS["check"]:
        whole = outcome(prepare, Row("check").document)
        assert outcome(prepare, without(Row("check"), action, sid)) == whole


def test_a_rollback_that_cannot_read_the_record() -> None:
    """Without GetDeployment a half-promoted canary is ended all the same, and the error says so."""
    with rehearsal() as aws:
        act = half_promoted("rollback")(aws)
        aws.allow = without(Row("rollback"), "apigateway:GET", "EachDeployment")(aws.stage)
        with pytest.raises(RecordError, match=r"The canary was ended, .* apigateway:GET"):
            act()
        aws.allow = None
        assert serving(aws)[2] is None


@pytest.mark.long
@pytest.mark.parametrize("bad", [False, True])
def test_a_whole_rollout(bad: bool) -> None:
    """With the document for everything a rollout is begun, watched, ended and undone."""
    policy = RolloutPolicy.linear(start=10, by=45, every=timedelta(minutes=10))
    with rehearsal(backends={"alias=v2": Backend(errors_5xx=0.2 if bad else 0.001)}) as aws:
        before = serving(aws)[:2]
        aws.allow = permissions(aws.stage)
        canary = aws.stage.enable_canary(10, release="r1", variables=V2)
        while not (decision := policy.decide(canary.observe(policy))).final:
            canary.apply(decision)
            aws.sleep(decision.wait.total_seconds())
        receipt = canary.apply(decision)
        assert isinstance(decision, Rollback if bad else Promote)
        if receipt is not None:
            aws.stage.revert()
        aws.allow = None
        assert serving(aws)[:2] == before


@pytest.mark.long
@pytest.mark.parametrize("bad", [False, True])
def test_a_whole_rollout_of_an_alias(bad: bool) -> None:
    """The same with the document of an alias."""
    second = Backend(errors_5xx=0.2 if bad else 0.001)
    policy = RolloutPolicy.linear(start=10, by=45, every=timedelta(minutes=10))
    with rehearsal(versions=[Backend(), second]) as aws:
        alias = aws.alias("v1")
        aws.allow = permissions(alias, account=ACCOUNT)
        canary = alias.enable_canary(10, release="r1", version="2")
        decision = finished(aws, policy, lambda: canary)
        assert isinstance(decision, Rollback if bad else Promote)
        if not bad:
            alias.revert()
        assert alias.describe().deployment_id == "1"


def test_without_names_it_is_all_that_a_rollout_calls() -> None:
    """Naming nothing is naming every method but `find`, `failures` and what prepares a release."""
    beside = {"allow_invocation", "check", "clean_up", "smoke_test", "failures", "find"}
    beside.add("log_groups")
    assert document() == document(*(set(SCENARIOS) - beside))
    whole = permissions(AliasPlace(), account=ACCOUNT)
    operations: Any = set(ALIAS_SCENARIOS)
    assert permissions(AliasPlace(), *operations, account=ACCOUNT) == whole


def test_a_careful_person() -> None:
    """In place of all APIs' names its own will do, with a note; with a stated name neither."""
    with rehearsal() as aws:
        enabled(aws)
        policy = permissions(aws.stage, "canary", "observe")
        own = f"arn:aws:apigateway:eu-central-1::/restapis/{aws.rest_api_id}"
        careful = [pair for pair in pairs(policy) if not pair[1].endswith("/restapis")]
        assert len(careful) == len(pairs(policy)) - 1

        aws.allow = allowing([*careful, ("apigateway:GET", own)])
        look = observed(fresh(aws))
        assert look.failure is None
        assert "that no other API has the same name could not be checked" in look.notes[0]

        aws.allow = allowing(careful)
        assert is_denied(observed(fresh(aws)), "apigateway:GET")
        look = observed(fresh(aws, metrics=CloudWatchMetrics(api_name="rehearsal")))
        assert look.failure is None
        assert "not authorized" not in str(look.notes)


def test_an_api_of_the_same_name() -> None:
    """Where its stages may not be listed the counts are suspect, and a note names the action."""
    with rehearsal() as aws:
        enabled(aws)
        twin = client(aws).create_rest_api(name="rehearsal")["id"]
        policy = permissions(aws.stage, "canary", "observe")
        aws.allow = policy
        look = observed(fresh(aws))
        assert "may count" in (look.suspect or "")
        assert "allow GetStages of the other APIs" in (look.suspect or "")
        assert f"which stages {twin} has could not be read" in look.notes[0]
        assert "Allow apigateway:GET to" in look.notes[0]

        stages = f"arn:aws:apigateway:eu-central-1::/restapis/{twin}/stages"
        aws.allow = allowing([*pairs(policy), ("apigateway:GET", stages)])
        look = observed(fresh(aws))
        assert look.suspect is None
        assert "not authorized" not in str(look.notes)


def observed(stage: Stage) -> Observation:
    canary = stage.canary()
    assert canary is not None
    return canary.observe(POLICY)


@pytest.mark.long
def test_an_id_that_is_of_no_rest_api() -> None:
    """`check` says what kind of API it is of where that may be looked up; else it gives a hint."""
    with rehearsal() as aws:
        made = aws.session.client("apigatewayv2").create_api(Name="other", ProtocolType="HTTP")
        other = Stage(made["ApiId"], "prod", session=aws.session)
        aws.allow = policy = permissions(other, "check")
        (problem,) = other.check()
        assert "was not found" in problem.what
        assert "HTTP and WebSocket APIs" in problem.remedy

        kinds = [f"/{kind}/{made['ApiId']}" for kind in ("restapis", "apis")]
        looking = [("apigateway:GET", f"arn:aws:apigateway:eu-central-1::{k}") for k in kinds]
        aws.allow = allowing([*pairs(policy), *looking])
        (problem,) = other.check()
        assert "it is of type HTTP" in problem.what


def test_the_source_is_the_places_own() -> None:
    """Whoever reads access logs is not sent to CloudWatch, and is asked for what is not known."""

    def actions(metrics: Any) -> set[str]:
        stage = Stage("a1b2c3d4e5", "prod", session=session, metrics=metrics)
        policy = permissions(stage, "observe", account=ACCOUNT)
        return {a for a, _ in pairs(policy) if not a.startswith("apigateway:")}

    with rehearsal() as aws:
        session = aws.session
        assert actions(AccessLogs("logs")) == {
            "cloudwatch:GetMetricData",
            "logs:GetQueryResults",
            "logs:StartQuery",
            "logs:StopQuery",
        }
        assert actions(LambdaMetrics("orders", variable="alias")) == {"cloudwatch:GetMetricData"}
        assert actions(SimpleNamespace(minutes=dict)) == set()
        with pytest.raises(InvalidInputError, match="log_groups"):
            actions(AccessLogs())


def test_a_source_of_ones_own() -> None:
    """Where the metrics come from elsewhere, none are allowed to be read."""
    for policy in (None, POLICY):
        actions = {action for action, _ in pairs(document("observe", reads=(), policy=policy))}
        assert actions == {"apigateway:GET", "apigateway:PATCH"}


@pytest.mark.long
def test_access_logs_as_the_source() -> None:
    """With the document for access logs they can be read, and without any part of it not."""
    for action in (None, "logs:StartQuery", "logs:GetQueryResults"):

        def allow(stage: Stage, without: str | None = action) -> dict[str, Any]:
            policy = permissions(stage, "observe", reads=["AccessLogs"], **LOGS)
            return allowing([pair for pair in pairs(policy) if pair[0] != without])

        result = outcome(observing_access_logs, allow)
        assert (result.failure is None) if action is None else is_denied(result, action)


@pytest.mark.long
@pytest.mark.parametrize("action", [None, "cloudwatch:GetMetricData"])
def test_access_logs_are_compared_with_count(action: str | None) -> None:
    """With the document late lines are noticed; without GetMetricData a note names the action."""
    with rehearsal(requests_per_minute=100) as aws:
        canary = fresh(aws, metrics=AccessLogs()).enable_canary(20, variables=V2)
        aws.sleep(1200)
        policy = permissions(aws.stage, "observe", reads=["AccessLogs"], **LOGS)
        aws.allow = allowing([pair for pair in pairs(policy) if pair[0] != action])
        look = canary.observe(POLICY)
    assert look.failure is None
    unknown = [note for note in look.notes if "Whether lines are late is not known" in note]
    assert bool(unknown) is (action is not None)
    assert all(f"Allow {action} to" in note for note in unknown)


def test_lambda_metrics_as_the_source() -> None:
    """Of a stage too: GetMetricData is all they need, and they do need it."""
    policy: dict[str, Any] = {}
    for denied in ("", "cloudwatch:GetMetricData"):
        with rehearsal(versions=[Backend(), Backend()]) as aws:
            aws.session.client("lambda").create_alias(
                FunctionName="orders", Name="v2", FunctionVersion="2"
            )
            metrics = LambdaMetrics("orders", variable="alias")
            canary = fresh(aws, metrics=metrics).enable_canary(5, variables=V2)
            policy = permissions(aws.stage, "observe", reads=["LambdaMetrics"])
            aws.allow = allowing([pair for pair in pairs(policy) if pair[0] != denied])
            look = canary.observe(POLICY)
            assert is_denied(look, denied) if denied else look.failure is None
    assert [sid["Sid"] for sid in policy["Statement"]] == [
        "Deployments",
        "EachDeployment",
        "Everything",
        "Stage",
    ]


def test_a_conflict_is_told_without_looking_for_the_api() -> None:
    """Whether an API is there that answers with conflicts is looked up where that is allowed."""
    with rehearsal() as aws:
        aws.allow = permissions(aws.stage, "shift")
        stubborn = fresh(aws, retry_for=timedelta(0))
        aws.fail("GetStage", Fault.CONFLICT)
        with pytest.raises(ThrottledError):
            stubborn.rollback()
        assert sent(aws)[-1] == "GetRestApi"


# The document itself.


def test_the_document_is_json() -> None:
    """It is what IAM takes: a version, unique ids of letters and digits, lists in order."""
    policy = document(
        *get_args(Operation),
        policy=ALARMED,
        reads=get_args(Source),
        log_groups=["access"],
        functions=["orders"],
        account=ACCOUNT,
    )
    assert json.loads(json.dumps(policy)) == policy
    assert policy["Version"] == "2012-10-17"
    sids = [statement["Sid"] for statement in policy["Statement"]]
    assert sids == sorted(set(sids))
    assert all(re.fullmatch("[A-Za-z0-9]+", sid) for sid in sids)
    for statement in policy["Statement"]:
        assert statement["Effect"] == "Allow"
        assert statement["Action"] == sorted(set(statement["Action"])) != []
        assert statement["Resource"]


@pytest.mark.long
@pytest.mark.parametrize(
    "region, partition",
    [("eu-west-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")],
)
def test_arns_are_of_the_partition(region: str, partition: str) -> None:
    """China and GovCloud are partitions of their own."""
    stage = permissions(Place(region), "shift")
    alias = permissions(AliasPlace(region), "revert", account=ACCOUNT)
    api = f"arn:{partition}:apigateway:{region}::/restapis/a1b2c3d4e5"
    assert {resource for _, resource in (*pairs(stage), *pairs(alias))} == {
        f"{api}/deployments",
        f"{api}/deployments/*",
        f"{api}/stages/prod",
        f"arn:{partition}:lambda:{region}:{ACCOUNT}:function:orders",
        f"arn:{partition}:lambda:{region}:{ACCOUNT}:function:orders:*",
    }


def test_a_region_that_is_none() -> None:
    """Where the partition cannot be known no ARN is made up."""
    with pytest.raises(InvalidInputError, match="region"):
        permissions(Place("atlantis-1"))


GROUP = f"arn:aws:logs:us-east-1:{ACCOUNT}:log-group:/api/access"
FUNCTION = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:orders"


@pytest.mark.parametrize("given", [GROUP, f"{GROUP}:*"])
def test_log_groups(given: str) -> None:
    """A log group's ARN is taken as it is, or as the console shows it; only queries need it."""
    policy = document("observe", reads=["AccessLogs"], log_groups=[given])
    assert ("logs:StartQuery", f"{GROUP}:*") in pairs(policy)
    assert {p for p in pairs(policy) if p[0].startswith(("logs", "cloudwatch"))} == {
        ("cloudwatch:GetMetricData", "*"),
        ("logs:StartQuery", f"{GROUP}:*"),
        ("logs:GetQueryResults", "*"),
        ("logs:StopQuery", "*"),
    }


def test_a_log_group_by_name() -> None:
    """A name is of the stage's region, and of the account that is given."""
    policy = document("observe", reads=["AccessLogs"], log_groups=["a", "/b"], account=ACCOUNT)
    groups = f"arn:aws:logs:eu-central-1:{ACCOUNT}:log-group"
    assert [r for a, r in pairs(policy) if a == "logs:StartQuery"] == [
        f"{groups}:a:*",
        f"{groups}:/b:*",
    ]


@pytest.mark.parametrize("given", [FUNCTION, f"{FUNCTION}:live"])
def test_functions(given: str) -> None:
    """`check` may look at the functions that are named, whichever version is behind the stage."""
    policy = document("check", functions=[given])
    assert ("lambda:GetPolicy", FUNCTION) in pairs(policy)
    assert ("lambda:GetPolicy", f"{FUNCTION}:*") in pairs(policy)
    assert not any(action.startswith("lambda") for action, _ in pairs(document("check")))


@pytest.mark.parametrize(
    "field, operations, options",
    [
        ("operations", ["promte"], {}),
        ("reads", [], {"reads": ["CloudWatch"]}),
        ("log_groups", ["observe"], {"reads": ["AccessLogs"]}),
        ("log_groups", ["observe"], {"log_groups": ["*"], "account": ACCOUNT}),
        ("log_groups", ["observe"], {"log_groups": [f"{GROUP}*"]}),
        ("policy", ["observe"], {"policy": {"alarms": ["errors"]}}),
        ("functions", ["allow_invocation"], {}),
        ("functions", ["check"], {"functions": [FUNCTION.replace(ACCOUNT, "*")]}),
        ("functions", ["check"], {"functions": [GROUP]}),
        ("account", ["check"], {"functions": ["orders"]}),
        ("account", ["check"], {"functions": ["orders"], "account": "*"}),
    ],
)
def test_input_is_checked(field: str, operations: list[str], options: dict[str, Any]) -> None:
    """What would allow more, or less, than was meant is refused: the field is named."""
    with pytest.raises(InvalidInputError) as refused:
        document(*operations, **options)
    assert refused.value.field == field


@pytest.mark.parametrize(
    "field, operations, options",
    [
        ("operations", ["check"], {"account": ACCOUNT}),
        ("reads", [], {"reads": ["CloudWatchMetrics"], "account": ACCOUNT}),
        ("functions", [], FUNCTIONS),
        ("flush_cache", ["promote"], {"flush_cache": True, "account": ACCOUNT}),
        ("account", [], {}),
    ],
)
def test_input_is_checked_of_an_alias(
    field: str, operations: list[Any], options: dict[str, Any]
) -> None:
    """What an alias does not have is refused."""
    with pytest.raises(InvalidInputError) as refused:
        permissions(AliasPlace(), *operations, **options)
    assert refused.value.field == field


def test_what_describes_a_place_is_one() -> None:
    """What `describe` returns will do, of a stage and of an alias."""
    with rehearsal(versions=[Backend()]) as aws:
        alias = aws.alias("v1")
        assert permissions(aws.stage.describe()) == permissions(aws.stage)
        whole = permissions(alias, account=ACCOUNT)
        assert permissions(alias.describe(), account=ACCOUNT) == whole


# The rehearsal's IAM.


def get_stage(aws: Rehearsal) -> Any:
    return client(aws).get_stage(restApiId=aws.rest_api_id, stageName="prod")


def refused(aws: Rehearsal, act: Act) -> Any:
    """What AWS answers to a call that is refused."""
    with pytest.raises(client(aws).exceptions.ClientError) as error:
        act()
    return error.value.response["Error"]


@pytest.mark.parametrize(
    "action, resource, allows",
    [
        ("apigateway:GET", "{stage}", True),
        ("apigateway:get", "{stage}", True),
        ("apigateway:*", "{stage}", True),
        ("*", "*", True),
        ("apigateway:G?T", "arn:aws:apigateway:*::/restapis/*/stages/pro?", True),
        ("apigateway:GET", "arn:aws:apigateway:eu-central-1::/restapis/*", True),
        ("apigateway:PATCH", "{stage}", False),
        ("apigateway:GET", "{stage}/", False),
        ("apigateway:GET", "{stage}[d]", False),
        ("apigateway:GET", "arn:aws:apigateway:us-east-1::/restapis/*", False),
        ("apigateway:GET", "arn:*", False),
        ("apigateway:GE", "{stage}", False),
    ],
)
def test_wildcards(action: str, resource: str, allows: bool) -> None:
    """`*` and `?` are IAM's; a wildcard stays within its part of the ARN."""
    with rehearsal() as aws:
        stage = f"arn:aws:apigateway:eu-central-1::/restapis/{aws.rest_api_id}/stages/prod"
        aws.allow = allowing([(action, resource.replace("{stage}", stage))])
        if allows:
            assert get_stage(aws)["stageName"] == "prod"
        else:
            told = refused(aws, lambda: get_stage(aws))
            assert told["Code"] == "AccessDeniedException"
            assert told["Message"] == (
                f"User: arn:aws:iam::{ACCOUNT}:user/rehearsal is not authorized to perform: "
                f"apigateway:GET on resource: {stage} because no identity-based policy allows the "
                "apigateway:GET action"
            )


def test_a_refused_call_changes_nothing() -> None:
    """It is on record, and has no effect."""
    allow = document()  # of another API
    with rehearsal(allow=allow) as aws:
        assert aws.allow == allow
        refused(aws, lambda: patch(aws, replace("/variables/alias", "v9")))
        assert sent(aws) == ["UpdateStage"]
        aws.allow = None
        assert serving(aws)[1] == {"alias": "v1"}


def test_others_may_do_more() -> None:
    """What somebody else does meanwhile is not subject to the document, even when it changes it."""
    with rehearsal() as aws:
        stage, own = fresh(aws), permissions(aws.stage, "describe")
        aws.allow = own

        def act() -> None:
            patch(aws, replace("/variables/alias", "v9"))
            aws.allow = allowing([])

        aws.meanwhile("GetStage", act)
        with pytest.raises(AccessDeniedError, match="apigateway:GET"):
            stage.describe()
        aws.allow = own
        assert stage.describe().variables == {"alias": "v9"}


@pytest.mark.parametrize(
    "service, method, parameters, resource",
    [
        ("cloudwatch", "describe_alarms", {}, "*"),
        (
            "logs",
            "start_query",
            {"logGroupName": "/a", "startTime": 0, "endTime": 1, "queryString": "fields a"},
            f"arn:aws:logs:eu-central-1:{ACCOUNT}:log-group:/a:log-stream:",
        ),
        (
            "lambda",
            "get_alias",
            {"FunctionName": "orders", "Name": "live"},
            f"arn:aws:lambda:eu-central-1:{ACCOUNT}:function:orders",
        ),
        ("lambda", "get_policy", {"FunctionName": FUNCTION}, FUNCTION),
        (
            "lambda",
            "get_policy",
            {"FunctionName": FUNCTION, "Qualifier": "live"},
            f"{FUNCTION}:live",
        ),
    ],
)
def test_other_services(
    service: Any, method: str, parameters: dict[str, str], resource: str
) -> None:
    """Calls of CloudWatch, Logs and Lambda are authorised by name, on what they are about."""
    with rehearsal(allow=allowing([])) as aws:
        made = aws.session.client(service)
        call = getattr(made, method)
        message = refused(aws, lambda: call(**parameters))["Message"]
        action = f"{service}:{sent(aws)[0]}"
        assert f"perform: {action}" in message
        assert (f" on resource: {resource} " in message) is (resource != "*")
        aws.allow = allowing([(action, resource)])
        with suppress(made.exceptions.ResourceNotFoundException):
            call(**parameters)


def test_what_is_not_known_is_not_guessed() -> None:
    """A call whose resource nobody stated, and a document that says more, fail the test."""
    with rehearsal(allow=allowing([])) as aws:
        with pytest.raises(RehearsalError, match="sqs:ListQueues"):
            aws.session.client("sqs").list_queues()
        with pytest.raises(RehearsalError, match="deny"):
            aws.allow = {"Statement": {"Effect": "Deny", "Action": "*", "Resource": "*"}}
        with pytest.raises(RehearsalError, match="Condition"):
            aws.allow = {"Statement": [{"Effect": "Allow", "Condition": {}}]}


def test_a_missing_api_is_refused_first() -> None:
    """IAM comes before the API: who may not look does not learn that nothing is there."""
    with rehearsal() as aws:
        nowhere = Stage("zzzzzzzzzz", "prod", session=aws.session)
        aws.allow = permissions(aws.stage)
        with pytest.raises(AccessDeniedError):
            nowhere.describe()
        aws.allow = permissions(nowhere)
        with pytest.raises(NotFoundError):
            nowhere.describe()


# The manual.


def table() -> Iterator[str]:
    prefix = "arn:aws:apigateway:eu-central-1::/restapis/a1b2c3d4e5"
    for operation in sorted(SCENARIOS):
        needs = [
            f"{', '.join(action.partition(':')[2] for action in statement['Action'])} on "
            f"`{statement['Resource'][0].replace(prefix, '…')}`"
            for statement in document(operation, reads=(), **FUNCTIONS, **GROUPS)["Statement"]
            if statement["Action"][0].startswith("apigateway:")
        ]
        yield f"| `{operation}` | {'; '.join(needs)} |"
    for operation in sorted(ALIAS_SCENARIOS):
        policy = permissions(AliasPlace(), cast("Any", operation), reads=(), account=ACCOUNT)
        actions = sorted({action.partition(":")[2] for action, _ in pairs(policy)})
        yield f"| `{operation}` | {', '.join(actions)} |"


def test_the_manual_shows_the_document() -> None:
    """The JSON on the page is what the function gives, and so are the rows of the tables."""
    page = PAGE.read_text(encoding="utf-8")
    shown = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    assert [json.loads(text) for text in shown] == [document()], json.dumps(document(), indent=2)
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert rows == list(table()), "\n".join(table())
