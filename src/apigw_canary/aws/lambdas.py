"""Lambda: one alias, and functions as API Gateway calls them, as AWS's operations see them.

Facts of AWS: a stage variable stands for a function of the API's own account ("API Gateway stage
variables reference"); the conditions are IAM's ("IAM JSON policy elements: Condition operators").
"""

import functools
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from itertools import repeat
from typing import Any, Literal, NamedTuple

from apigw_canary.aws.answers import Answer, misunderstood
from apigw_canary.aws.calls import Calls, explained
from apigw_canary.errors import AwsError, NotFoundError, StageChangedError
from apigw_canary.model import ANY, AliasState, CanaryState, Route

_STALE = "PreconditionFailedException"
_NOT_PROVISIONED = "ProvisionedConcurrencyConfigNotFoundException"
_CALLABLE = {"Active", "Inactive"}


def weight(percent: float) -> float:
    """A weight as Lambda takes it, 0 to 1; 0.01 % are four decimals."""
    return round(percent / 100, 4)


class AliasSnapshot(NamedTuple):
    """An alias as it was read, and AWS's time when it was."""

    stage: AliasState
    at: datetime
    revision: str
    description: str


class Alias:
    """One alias of one function."""

    def __init__(self, calls: Calls, function: str, name: str) -> None:
        self.calls = calls
        self.function = function
        self.name = name

    @property
    def region(self) -> str:
        """The region that calls go to."""
        return self.calls.region

    def read(self) -> AliasSnapshot:
        """One GetAlias."""
        return self._seen(self._call("GetAlias", Name=self.name))

    def update(self, revision: str, wanted: AliasState, description: str | None) -> AliasSnapshot:
        """One UpdateAlias, which AWS refuses where the alias has another revision by now.

        Versions, weights and description change together. No description: it stays as it is.
        """
        canary = wanted.canary
        weights = {canary.deployment_id: weight(canary.percent)} if canary else {}
        try:
            answer = self._call(
                "UpdateAlias",
                Name=self.name,
                FunctionVersion=wanted.deployment_id,
                RoutingConfig={"AdditionalVersionWeights": weights},
                RevisionId=revision,
                **({} if description is None else {"Description": description}),
            )
        except AwsError as error:
            if error.code == _STALE:
                raise StageChangedError(
                    "Another process changed the alias at the same time, so AWS refused the "
                    "change.",
                    differences={"revision": "another one than was read"},
                    remedy="",
                ) from error
            raise
        return self._seen(answer)

    def check_version(self, version: str) -> None:
        """One GetFunctionConfiguration: whether the version is published and can be invoked."""
        with explained(NotFoundError, "", "Publish the version first: PublishVersion."):
            found = self._call("GetFunctionConfiguration", Qualifier=version)
        if found.get("State", "Active") not in _CALLABLE:
            raise NotFoundError(
                f"Version {version} of function {self.function} cannot be invoked: it is "
                f"{found['State']}.",
                remedy="Wait until GetFunctionConfiguration reports Active, or publish another "
                "one.",
            )

    def provisioned(self) -> int:
        """One GetProvisionedConcurrencyConfig: how much the alias itself has been given."""
        try:
            answer = self._call("GetProvisionedConcurrencyConfig", Qualifier=self.name)
        except AwsError as error:
            if error.code == _NOT_PROVISIONED:
                return 0
            raise
        return int(answer["RequestedProvisionedConcurrentExecutions"])

    def _call(self, operation: str, **parameters: object) -> Answer:
        with explained(
            NotFoundError, "", f"The request was for alias {self.name} of function {self.function}."
        ):
            return self.calls.call("lambda", operation, FunctionName=self.function, **parameters)

    def _seen(self, answer: Answer) -> AliasSnapshot:
        """From the answer of GetAlias or UpdateAlias, the alias in the form of a stage."""
        if answer["Name"] != self.name:
            raise misunderstood("GetAlias", "it is about another alias")
        weights = answer.get("RoutingConfig", {}).get("AdditionalVersionWeights", {})
        if len(weights) > 1:
            raise misunderstood(
                "GetAlias",
                f"it routes to versions {', '.join(weights)} beside its own, and AWS allows one",
            )
        canaries = [
            CanaryState(deployment_id=_version(version), percent=_percent_of(weight))
            for version, weight in weights.items()
        ]
        at = self.calls.now(answer)
        stage = AliasState(
            region=self.region,
            rest_api_id=self.function,
            name=self.name,
            deployment_id=_version(answer["FunctionVersion"]),
            canary=canaries[0] if canaries else None,
            updated_at=at,
        )
        return AliasSnapshot(stage, at, answer["RevisionId"], answer.get("Description") or "")


def _version(found: str) -> str:
    if not re.fullmatch(r"\$LATEST|[0-9]{1,20}", found):
        raise misunderstood("GetAlias", "a version in it is not valid")
    return found


def _percent_of(weight: float) -> float:
    if not 0 <= weight <= 1:
        raise misunderstood("GetAlias", f"a weight in it is {weight:g}")
    return round(100 * weight, 4)


_VARIABLE = re.compile(r"\$\{stageVariables\.(\w+)\}")
_LAMBDA = re.compile(
    r"arn:[\w-]+:apigateway:[\w-]+:lambda:path/[\d-]+/functions/(.+)"
    r"/(?:response-streaming-)?invocations"
)
_FUNCTION = re.compile(r"arn:([\w-]+):lambda:([\w-]+):(\d{12}):function:([\w-]+)(?::([\w$-]+))?")

_ACTION = "lambda:InvokeFunction"
_PRINCIPAL = "apigateway.amazonaws.com"

_LONGEST_PATTERN = 2048
"""Characters up to which a pattern is compared place by place: an ARN has no more."""


class Function(NamedTuple):
    """A Lambda function, or one of its aliases or versions."""

    partition: str
    region: str
    account_id: str
    name: str
    qualifier: str | None

    def __repr__(self) -> str:
        return "<function>"  # its name may be a stage variable's value

    @property
    def unqualified(self) -> str:
        """The ARN without alias and version."""
        return f"arn:{self.partition}:lambda:{self.region}:{self.account_id}:function:{self.name}"

    @property
    def arn(self) -> str:
        """The ARN that is called."""
        return f"{self.unqualified}:{self.qualifier}" if self.qualifier else self.unqualified


def variables_in(uri: str) -> set[str]:
    """The stage variables that an integration's URI uses."""
    return set(_VARIABLE.findall(uri))


def called(uri: str, variables: Mapping[str, str]) -> Function | None:
    """The Lambda function that a URI leads to; None where it leads elsewhere."""
    resolved = _VARIABLE.sub(lambda found: variables[found[1]], uri)
    integration = _LAMBDA.fullmatch(resolved)
    function = integration and _FUNCTION.fullmatch(integration[1])
    return Function(*function.groups()) if function else None


def function_in(uri: str) -> str:
    """The function as the URI writes it: stage variables by name, never by value."""
    integration = _LAMBDA.fullmatch(uri)
    return integration[1].rpartition(":function:")[2] if integration else uri


WHOLE_STAGE = Route(ANY, "/*")
"""Stands for all methods of a stage."""


def source_arn(function: Function, region: str, rest_api_id: str, stage: str, route: Route) -> str:
    """What API Gateway calls the function as; `*` stands for any value there."""
    method = "*" if route.method == ANY else route.method
    path = re.sub(r"\{[^}]*\}", "*", route.path)
    return (
        f"arn:{function.partition}:execute-api:{region}:{function.account_id}:"
        f"{rest_api_id}/{stage}/{method}{path}"
    )


def covers(pattern: str, text: str) -> bool:
    """Whether a pattern of IAM's, with `*` and `?`, matches whatever `text` stands for.

    A `*` in `text` stands for anything, so only a `*` of the pattern matches it.
    """
    return _compiled(pattern).fullmatch(text) is not None


@functools.lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    first, *others = [
        "".join("[^*]" if char == "?" else re.escape(char) for char in piece)
        for piece in re.split(r"\*+", pattern)
    ]
    if not others:
        return re.compile(first, re.DOTALL)
    # Atomic groups: the earliest place for a piece is as good as any, so none is tried twice.
    middle = "".join(f"(?>.*?{piece})" for piece in others[:-1])
    return re.compile(f"{first}{middle}.*{others[-1]}", re.DOTALL)


def arn_covers(pattern: str, arn: str) -> bool:
    """The same for ARNs: each of the six parts by itself."""
    patterns, parts = pattern.split(":", 5), arn.split(":", 5)
    return len(patterns) == len(parts) and all(map(covers, patterns, parts))


def applies(
    statement: Any, function: Function, source: str, *, partly: Literal[False] | None = False
) -> bool | None:
    """Whether a statement is about API Gateway calling the function as that source.

    None where that is not known, because of a condition, an operator or a shape that is not
    known here. `partly`: the answer where it may be about some of what the source stands for.
    """
    if not isinstance(statement, Mapping):
        return None
    facts = {"aws:sourcearn": source, "aws:sourceaccount": function.account_id}
    conditions = statement.get("Condition", {})
    return _all_of(
        _is_for_api_gateway(statement),
        _names(statement, "Action", lambda action: covers(action.lower(), _ACTION.lower())),
        _names(statement, "Resource", lambda resource: covers(resource, function.arn)),
        *(
            _holds(operator, values, facts.get(str(key).lower()), partly)
            for operator, keys in _items(conditions)
            for key, values in _items(keys)
        ),
    )


def effect(statement: Any) -> str | None:
    """What a statement does where it applies: `Allow`, `Deny`, or None for what is neither."""
    stated = statement.get("Effect") if isinstance(statement, Mapping) else None
    return stated if stated in {"Allow", "Deny"} else None


def _all_of(*parts: bool | None) -> bool | None:
    return False if False in parts else None if None in parts else True


def _items(value: Any) -> list[tuple[Any, Any]]:
    """The members of a map; one without meaning for what is none."""
    return list(value.items()) if isinstance(value, Mapping) else [(None, None)]


def _names(statement: Mapping[str, Any], what: str, is_named: Callable[[str], bool]) -> bool | None:
    """Whether an `Action` or `Resource`, or a `NotAction` or `NotResource`, names ours."""
    named = _texts(statement.get(what))
    if named is not None:
        return any(map(is_named, named))
    others = _texts(statement.get(f"Not{what}"))
    return None if others is None else not any(map(is_named, others))


def _is_for_api_gateway(statement: Mapping[str, Any]) -> bool | None:
    principal = statement.get("Principal")
    if principal == "*":
        return True
    if not isinstance(principal, Mapping):
        return None  # NotPrincipal among them
    services, accounts = (_texts(principal.get(kind, [])) for kind in ("Service", "AWS"))
    if services is None or accounts is None:
        return None
    return _PRINCIPAL in services or "*" in (*services, *accounts)


def _holds(
    operator: Any, values: Any, fact: str | None, partly: Literal[False] | None
) -> bool | None:
    wanted = _texts(values)
    known = _OPERATORS.get(str(operator).removesuffix("IfExists"))
    if fact is None or wanted is None or known is None:
        return None
    found = [known(each, fact) for each in wanted]
    if any(found):
        return True
    # A "*" in the fact stands for each value of a path parameter: some may match.
    return partly if "*" in fact and any(map(may_cover, wanted, repeat(fact))) else False


def may_cover(pattern: str, text: str) -> bool:
    """Whether the pattern matches something that `text`, with its `*`, stands for."""
    if len(pattern) > _LONGEST_PATTERN:
        return True
    here = {0}
    for char in pattern:
        here = _beyond(here, text)
        if char == "*":
            here = set(range(min(here, default=len(text) + 1), len(text) + 1))
        else:
            here = {
                at if text[at] == "*" else at + 1
                for at in here
                if at < len(text) and (char == "?" or text[at] in {char, "*"})
            }
    return len(text) in _beyond(here, text)


def _beyond(here: set[int], text: str) -> set[int]:
    """With the places that are reached where a `*` of the text stands for nothing."""
    reached = set(here)
    for at in sorted(here):
        after = at
        while after < len(text) and text[after] == "*":
            after += 1
            reached.add(after)
    return reached


def _texts(value: Any) -> list[str] | None:
    """One text or several; None for anything else."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return list(value)
    return None


def statement_id(function: Function, source: str) -> str:
    """The same for the same permission: it is added once, however often it is sent."""
    return f"apigw-canary-{hashlib.sha256(f'{function.arn} {source}'.encode()).hexdigest()[:24]}"


_OPERATORS: Mapping[str, Callable[[str, str], bool]] = {
    "ArnEquals": arn_covers,
    "ArnLike": arn_covers,
    "StringEquals": lambda wanted, fact: wanted == fact and "*" not in fact,
    "StringLike": covers,
}
"""The operators of conditions that are known here; each also as `…IfExists`, since both keys are
there whenever API Gateway calls."""


class Functions:
    """Functions in Lambda, and who may call them."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def has(self, function: Function) -> bool:
        """Whether the function has that alias or version: one GetFunctionConfiguration."""
        try:
            self._calls.call("lambda", "GetFunctionConfiguration", **_named(function))
        except NotFoundError:
            return False
        return True

    def policy(self, function: Function) -> list[Any]:
        """The statements of who may call it, none without a policy: one GetPolicy.

        Whatever they are: a policy may hold statements that are not known here.
        """
        try:
            answer = self._calls.call("lambda", "GetPolicy", **_named(function))
        except NotFoundError:
            return []
        try:
            stated = json.loads(answer["Policy"])["Statement"]
        except (KeyError, RecursionError, TypeError, ValueError):
            raise misunderstood("GetPolicy", "its Policy is no JSON with a Statement") from None
        return stated if isinstance(stated, list) else [stated]

    def allow(self, function: Function, source: str) -> None:
        """Let API Gateway call it as that source: one AddPermission."""
        self._calls.call(
            "lambda",
            "AddPermission",
            **_named(function),
            StatementId=statement_id(function, source),
            Action=_ACTION,
            Principal=_PRINCIPAL,
            SourceArn=source,
        )


def _named(function: Function) -> dict[str, str]:
    named = {"FunctionName": function.unqualified}
    return named | {"Qualifier": function.qualifier} if function.qualifier else named
