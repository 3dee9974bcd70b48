"""Lambda functions as API Gateway calls them: which ones, whether they are there, whom they let in.

Facts of AWS: a stage variable stands for a function of the API's own account ("API Gateway stage
variables reference"); the conditions are IAM's ("IAM JSON policy elements: Condition operators").
"""

import functools
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from apigw_canary.aws.calls import Calls
from apigw_canary.errors import NotFoundError
from apigw_canary.rollout.contract import ANY, Route

_VARIABLE = re.compile(r"\$\{stageVariables\.(\w+)\}")
_LAMBDA = re.compile(
    r"arn:[\w-]+:apigateway:[\w-]+:lambda:path/[\d-]+/functions/(.+)"
    r"/(?:response-streaming-)?invocations"
)
_FUNCTION = re.compile(r"arn:([\w-]+):lambda:([\w-]+):(\d{12}):function:([\w-]+)(?::([\w$-]+))?")

_ACTION = "lambda:InvokeFunction"
_PRINCIPAL = "apigateway.amazonaws.com"


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


def source_arn(function: Function, region: str, rest_api_id: str, stage: str, route: Route) -> str:
    """What API Gateway calls the function as. `*` stands for any value there."""
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


def permits(statement: Mapping[str, Any], function: Function, source: str) -> bool:
    """Whether a statement lets API Gateway call the function as that source.

    A condition that is not understood counts as not met.
    """
    facts = {"aws:sourcearn": source, "aws:sourceaccount": function.account_id}
    return (
        statement.get("Effect") == "Allow"
        and _is_for_api_gateway(statement.get("Principal"))
        and any(covers(action, _ACTION) for action in _listed(statement.get("Action")))
        and any(covers(resource, function.arn) for resource in _listed(statement.get("Resource")))
        and all(
            any(_holds(operator, value, facts.get(key.lower())) for value in _listed(values))
            for operator, keys in statement.get("Condition", {}).items()
            for key, values in keys.items()
        )
    )


def _is_for_api_gateway(principal: Any) -> bool:
    if isinstance(principal, Mapping):
        return _PRINCIPAL in _listed(principal.get("Service"))
    return bool(principal == "*")


def _holds(operator: str, wanted: str, fact: str | None) -> bool:
    if fact is None:
        return False
    match operator:
        case "ArnLike" | "ArnEquals":
            return arn_covers(wanted, fact)
        case "StringLike":
            return covers(wanted, fact)
        case "StringEquals":
            return wanted == fact and "*" not in fact
        case _:
            return False


def _listed(value: Any) -> list[str]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


def statement_id(function: Function, source: str) -> str:
    """The same for the same permission: it is added once, however often it is sent."""
    return f"apigw-canary-{hashlib.sha256(f'{function.arn} {source}'.encode()).hexdigest()[:24]}"


class Functions:
    """What Lambda says of functions and of who may call them."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def has(self, function: Function) -> bool:
        """Whether the function has that alias or version: one GetFunctionConfiguration."""
        try:
            self._calls.call("lambda", "GetFunctionConfiguration", **_named(function))
        except NotFoundError:
            return False
        return True

    def policy(self, function: Function) -> list[Mapping[str, Any]]:
        """The statements of who may call it, none without a policy: one GetPolicy."""
        try:
            answer = self._calls.call("lambda", "GetPolicy", **_named(function))
        except NotFoundError:
            return []
        return list(json.loads(answer["Policy"])["Statement"])

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
