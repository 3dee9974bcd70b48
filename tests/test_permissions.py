"""Each operation works with exactly the permissions that its document gives, and no fewer."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest

from acting import COPIES, PERCENT, V2, client, fresh, patch, replace, sent, serving
from apigw_canary import (
    Canary,
    CanaryError,
    Observation,
    Promote,
    Rollback,
    RolloutPolicy,
    Shift,
    Stage,
    Verdict,
    permissions,
)
from apigw_canary.aws.iam import Operation, Source
from apigw_canary.errors import (
    AccessDeniedError,
    InvalidInputError,
    NotFoundError,
    RecordError,
    ThrottledError,
)
from apigw_canary.testing import Backend, Fault, Rehearsal, RehearsalError, rehearsal

POLICY = RolloutPolicy.canary(5, timedelta(minutes=10))
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


def applying(kind: type[Any], percent: float = 5) -> Callable[[Rehearsal], Act]:
    def prepare(aws: Rehearsal) -> Act:
        canary = enabled(aws)
        observation = canary.observe(POLICY)
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


def observing_the_past(aws: Rehearsal) -> Act:
    stage, now = fresh(aws), aws.now()
    return lambda: stage.observe(POLICY, start=now - timedelta(minutes=10), end=now)


def finding(aws: Rehearsal) -> Act:
    return lambda: Stage.find("rehearsal", "prod", session=aws.session)


SCENARIOS: dict[str, list[Callable[[Rehearsal], Act]]] = {
    "analyze": [promoted_by_hand("analyze", POLICY), of_a_canary("analyze", POLICY)],
    "apply": [applying(Promote), applying(Shift, 25), applying(Rollback)],
    "canary": [of_a_stage("canary")],
    "describe": [of_a_stage("describe")],
    "disable": [half_promoted("disable"), of_a_canary("disable")],
    "enable_canary": [enabling, enabling_variables, enabling_again],
    "find": [finding],
    "observe": [
        promoted_by_hand("observe", POLICY),
        of_a_canary("observe", POLICY),
        observing_the_past,
    ],
    "promote": [of_a_canary("promote")],
    "revert": [reverting, reverting_unanswered],
    "rollback": [half_promoted("rollback"), of_a_canary("rollback"), of_a_stage("rollback")],
    "shift": [of_a_canary("shift", 25), touched("shift", 25)],
}
TO_COME = {"LambdaAlias", "allow_invocation", "check"}  # not merged yet, and so not proven
READS_TO_COME = {"AccessLogs", "alarms"}

# What is done without a permission rather than refused; the tests below say how.
DEGRADED = {
    ("analyze", "apigateway:GET", "Api"),
    ("analyze", "cloudwatch:GetMetricData", "Everything"),
    ("shift", "apigateway:GET", "EachDeployment"),
}


def outcome(prepare: Callable[[Rehearsal], Act], allow: Callable[[Stage], dict[str, Any]]) -> Any:
    """What comes of an operation under a document: its result, or our error."""
    with rehearsal() as aws:
        act = prepare(aws)
        aws.allow = allow(aws.stage)
        try:
            return act()
        except CanaryError as error:
            return error


def without(operation: Any, action: str, sid: str) -> Callable[[Stage], dict[str, Any]]:
    """The operation's document without an action of a statement."""

    def lacking(stage: Stage) -> dict[str, Any]:
        policy = permissions(stage, operation)
        for statement in policy["Statement"]:
            if statement["Sid"] == sid:
                statement["Action"].remove(action)
        return allowing(pairs(policy))

    return lacking


def is_denied(result: Any, action: str) -> bool:
    """Whether it says that this action is missing: raised, or in the observation."""
    if isinstance(result, Observation):
        return f"Allow {action} to" in (result.failure or "")
    while result is not None and not isinstance(result, AccessDeniedError):
        result = getattr(result, "__cause__", None)
    return result is not None and result.action == action


def test_every_method_has_a_row() -> None:
    """Each method of a stage and a canary can be named, and what can be named is proven here."""
    methods = {
        name
        for cls in (Stage, Canary)
        for name, value in vars(cls).items()
        if not name.startswith("_") and not isinstance(value, property)
    }
    assert methods == set(SCENARIOS)
    assert set(get_args(Operation)) == methods | TO_COME
    assert set(get_args(Source)) == {"CloudWatchMetrics"} | READS_TO_COME


@pytest.mark.parametrize(
    "operation, prepare",
    [(operation, prepare) for operation, all_of in SCENARIOS.items() for prepare in all_of],
)
def test_its_document_is_enough(
    operation: Any, prepare: Callable[[Rehearsal], Act], caplog: pytest.LogCaptureFixture
) -> None:
    """An operation does all it can do with its own document; nothing is refused to it."""
    result = outcome(prepare, lambda stage: permissions(stage, operation))

    assert not isinstance(result, AccessDeniedError)
    assert "not authorized" not in f"{result} {caplog.text}"
    if isinstance(result, Observation):
        assert result.failure is None


def each_pair() -> Iterator[Any]:
    """Each operation with each of its permissions, named by statement."""
    for operation in SCENARIOS:
        for statement in document(operation)["Statement"]:
            for action in statement["Action"]:
                yield operation, action, statement["Sid"]


WRITES = {
    ("apigateway:POST", "Deployments"): "CreateDeployment",
    ("apigateway:PATCH", "EachDeployment"): "UpdateDeployment",
    ("apigateway:PATCH", "Stage"): "UpdateStage",
}


@pytest.mark.parametrize(
    "operation, write, prepare",
    [
        (operation, WRITES[action, sid], prepare)
        for operation, action, sid in each_pair()
        if (action, sid) in WRITES
        for prepare in SCENARIOS[operation]
    ],
)
def test_its_document_is_enough_to_make_sure(
    operation: Any, write: str, prepare: Callable[[Rehearsal], Act]
) -> None:
    """Where the answer to a write is lost the operation may read what became of it."""
    with rehearsal() as aws:
        act = prepare(aws)
        aws.fail(write, Fault.TIMEOUT, after=True)
        aws.allow = permissions(aws.stage, operation)
        act()


@pytest.mark.parametrize(
    "operation, action, sid", [each for each in each_pair() if each not in DEGRADED]
)
def test_nothing_of_it_can_be_left_out(operation: Any, action: str, sid: str) -> None:
    """Without any one of its permissions an operation is refused, and the error names the action.

    Where the refusal keeps a record from being read or written, that is the error, and the refusal
    its cause.
    """

    results = (
        outcome(prepare, without(operation, action, sid)) for prepare in SCENARIOS[operation]
    )
    denied = next((result for result in results if is_denied(result, action)), None)
    assert isinstance(denied, AccessDeniedError | Observation | RecordError)
    assert action in (denied.failure or "" if isinstance(denied, Observation) else str(denied))


def test_a_shift_that_cannot_read_the_record(caplog: pytest.LogCaptureFixture) -> None:
    """Without GetDeployment a share is set, on the word of deployment and variables, and logged."""
    lacking = without("shift", "apigateway:GET", "EachDeployment")
    with caplog.at_level(logging.WARNING):
        assert outcome(touched("shift", 25), lacking) is None
    assert "not authorized to perform: apigateway:GET" in caplog.text


@pytest.mark.parametrize("action, sid", [each[1:] for each in sorted(DEGRADED)[:2]])
def test_an_analysis_without_metrics(action: str, sid: str) -> None:
    """Without the metrics there is no evidence, and so no verdict."""
    result = outcome(of_a_canary("analyze", POLICY), without("analyze", action, sid))
    assert result.verdict is Verdict.UNDECIDED
    assert result.findings == () or all(f.canary_requests == 0 for f in result.findings)


def test_a_rollback_that_cannot_read_the_record() -> None:
    """Without GetDeployment a half-promoted canary is ended all the same, and the error says so."""
    with rehearsal() as aws:
        act = half_promoted("rollback")(aws)
        aws.allow = without("rollback", "apigateway:GET", "EachDeployment")(aws.stage)
        with pytest.raises(RecordError, match=r"The canary was ended, .* apigateway:GET"):
            act()
        aws.allow = None
        assert serving(aws)[2] is None


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


def test_without_names_it_is_all_that_a_rollout_calls() -> None:
    """Naming nothing is naming every method but `find` and what prepares a release."""
    assert document() == document(*(set(SCENARIOS) - {"find"}))


def test_a_source_of_ones_own() -> None:
    """Where the metrics come from elsewhere, none are allowed to be read."""
    actions = {action for action, _ in pairs(document("observe", reads=()))}
    assert actions == {"apigateway:GET"}


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


@pytest.mark.parametrize(
    "region, partition",
    [("eu-west-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")],
)
def test_arns_are_of_the_partition(region: str, partition: str) -> None:
    """China and GovCloud are partitions of their own."""
    policy = permissions(
        Place(region), "shift", "LambdaAlias", functions=["orders"], account=ACCOUNT
    )
    api = f"arn:{partition}:apigateway:{region}::/restapis/a1b2c3d4e5"
    assert {resource for _, resource in pairs(policy)} == {
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
        ("functions", ["LambdaAlias"], {}),
        ("functions", ["LambdaAlias"], {"functions": [FUNCTION.replace(ACCOUNT, "*")]}),
        ("functions", ["LambdaAlias"], {"functions": [GROUP]}),
        ("account", ["LambdaAlias"], {"functions": ["orders"]}),
        ("account", ["LambdaAlias"], {"functions": ["orders"], "account": "*"}),
    ],
)
def test_input_is_checked(field: str, operations: list[str], options: dict[str, Any]) -> None:
    """What would allow more, or less, than was meant is refused: the field is named."""
    with pytest.raises(InvalidInputError) as refused:
        document(*operations, **options)
    assert refused.value.field == field


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
            for statement in document(operation, reads=())["Statement"]
        ]
        yield f"| `{operation}` | {'; '.join(needs)} |"


def test_the_manual_shows_the_document() -> None:
    """The JSON on the page is what the function gives, and so are the rows of the table."""
    page = PAGE.read_text(encoding="utf-8")
    shown = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    assert [json.loads(text) for text in shown] == [document()], json.dumps(document(), indent=2)
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert rows == list(table()), "\n".join(table())
