"""TestInvokeMethod in a rehearsal: one request to the API as it is being edited.

Answers are as AWS documents them; the lines of the log, and the permission that a Lambda function
needs, are those that users have published. Nothing of the stage changes, its traffic included.
"""

from __future__ import annotations

import json
import math
import random
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple

from apigw_canary.testing.answers import Json, RehearsalError, check_simulated, unknown
from apigw_canary.testing.gateway import ACCOUNT_ID, Gateway
from apigw_canary.testing.permissions import matches
from apigw_canary.testing.resources import Method
from apigw_canary.testing.traffic import Backend, Traffic
from apigw_canary.testing.wire import REGION

AnyVerb = Literal["verb", "ANY"]

_PARAMETERS = {
    "restApiId",
    "resourceId",
    "httpMethod",
    "pathWithQueryString",
    "body",
    "headers",
    "stageVariables",
}
_VARIABLE = re.compile(r"\$\{stageVariables\.(\w+)\}")
_LAMBDA = re.compile(r"arn:[\w-]+:apigateway:[\w-]+:lambda:path/[\d-]+/functions/(.+)/invocations")
_CONDITIONS = {"ArnLike", "ArnEquals", "StringLike", "StringEquals"}


class Trial(NamedTuple):
    """A test invocation that has been understood."""

    api: str
    verb: str
    path: str
    url: str
    """Path and query string."""
    body: str
    headers: Mapping[str, str]
    uri: str
    """Where the integration leads, with the variables' values."""
    credentials: str | None
    variables: Mapping[str, str]


class Trials:
    """Answers TestInvokeMethod."""

    def __init__(
        self,
        gateway: Gateway,
        traffic: Traffic,
        now: Callable[[], datetime],
        seed: int,
        addressed: AnyVerb,
    ) -> None:
        self._gateway = gateway
        self._traffic = traffic
        self._now = now
        # Of its own: what is tested must not change the traffic.
        self._rng = random.Random(f"{seed}/trials")
        self._addressed: AnyVerb = addressed

    def answer(self, p: Json) -> Json:
        """Carry out one call."""
        check_simulated("TestInvokeMethod", p, _PARAMETERS)
        path, method = self._gateway.method(
            p["restApiId"], p["resourceId"], p["httpMethod"], self._addressed
        )
        trial = _understood(p, path, method)
        request_id = str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
        if not _lets_in(trial):
            failed = "Execution failed due to configuration error: Invalid permissions on Lambda "
            return self._answered(trial, request_id, 500, [f"{failed}function"])
        called = f"{trial.verb} {path}"
        targets = self._traffic.tested(trial.variables, self._now(), called)
        ((backend, _),) = self._rng.choices(targets, [share for _, share in targets])
        return self._from(trial, request_id, backend)

    def _from(self, trial: Trial, request_id: str, backend: Backend) -> Json:
        status = _status(backend, self._rng.random())
        latency = math.exp(self._rng.gauss(math.log(backend.latency_ms), backend.latency_spread))
        sent = f"Sending request to {trial.uri}"
        if status < 500 or not _LAMBDA.fullmatch(trial.uri):
            received = f"Received response. Status: {status}, Integration latency: {latency:.0f} ms"
            told = [sent, received]
            return self._answered(
                trial, request_id, status, told, latency=latency, body=backend.body
            )
        received = f"Received response. Status: 200, Integration latency: {latency:.0f} ms"
        lambda_id = str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
        failed = (
            "Lambda execution failed with status 200 due to customer function error: "
            f"KeyError in {trial.uri}. Lambda request id: {lambda_id}"
        )
        told = [sent, received, failed]
        return self._answered(trial, request_id, 502, told, latency=latency)

    def _answered(
        self,
        trial: Trial,
        request_id: str,
        status: int,
        told: list[str],
        *,
        latency: float = 0,
        body: str = '{"message": "Internal server error"}',
    ) -> Json:
        time = f"{self._now():%a %b %d %H:%M:%S UTC %Y}"
        lines = _log(trial, request_id, status, body, told)
        return {
            "status": status,
            "body": body,
            "headers": {"Content-Type": "application/json"},
            "multiValueHeaders": {"Content-Type": ["application/json"]},
            "log": f"Execution log for request {request_id}\n"
            + "".join(f"{time} : {line}\n" for line in lines),
            "latency": round(latency),
        }


def _understood(p: Json, path: str, method: Method) -> Trial:
    url = p.get("pathWithQueryString", path)
    if not _is_of(path, url.partition("?")[0]):
        unknown(f"TestInvokeMethod of {path} with the path {url}")
    if method.uri is None:
        unknown(f"TestInvokeMethod of {path}, which has no integration")
    variables = p.get("stageVariables", {})
    if lacking := set(_VARIABLE.findall(method.uri)) - variables.keys():
        unknown(f"TestInvokeMethod without the stage variables {sorted(lacking)} that it uses")
    return Trial(
        api=p["restApiId"],
        verb=p["httpMethod"],
        path=path,
        url=url,
        body=p.get("body", ""),
        headers=p.get("headers", {}),
        uri=_VARIABLE.sub(lambda found: str(variables[found[1]]), method.uri),
        credentials=method.credentials,
        variables=variables,
    )


def _is_of(path: str, url: str) -> bool:
    parts = [
        "[^{}]+" if part.endswith("+}") else "[^/{}]+" if part.startswith("{") else re.escape(part)
        for part in path.split("/")
    ]
    return re.fullmatch("/".join(parts), url) is not None


def _status(backend: Backend, drawn: float) -> int:
    if drawn < backend.errors_5xx:
        return 500
    return 400 if drawn < backend.errors_5xx + backend.errors_4xx else 200


def _log(trial: Trial, request_id: str, status: int, body: str, told: list[str]) -> Iterator[str]:
    yield f"Starting execution for request: {request_id}"
    yield f"HTTP Method: {trial.verb}, Resource Path: {trial.path}"
    yield f"Method request headers: {json.dumps(dict(trial.headers))}"
    yield f"Method request body before transformations: {trial.body}"
    yield f"Endpoint request URI: {trial.uri}"
    yield from told
    yield f"Method response body after transformations: {body}"
    if status < 500:
        yield "Successfully completed execution"
    yield f"Method completed with status: {status}"


def _lets_in(trial: Trial) -> bool:
    """Whether the Lambda function that is called, if it is one, lets test invocations in."""
    called = _LAMBDA.fullmatch(trial.uri)
    if called is None or trial.credentials is not None:
        return True
    arn = called[1]
    path = trial.url.partition("?")[0]
    source = (
        f"arn:aws:execute-api:{REGION}:{ACCOUNT_ID}:{trial.api}/test-invoke-stage/"
        f"{trial.verb}{path}"
    )
    return any(_permits(statement, arn, source) for statement in _policy(arn))


def _policy(arn: str) -> list[Json]:
    """The statements of the function, its alias or version; none where it does not exist."""
    from moto.awslambda.models import lambda_backends
    from moto.core.exceptions import JsonRESTError

    name, _, qualifier = arn.rpartition(":function:")[2].partition(":")
    # moto's models are not typed.
    functions: Any = lambda_backends[ACCOUNT_ID][REGION]
    try:
        found = functions.get_function(name, qualifier or None)
    except JsonRESTError:
        return []
    statements: list[Json] = found.policy.statements
    return [each for each in statements if each["Resource"] == arn]


def _permits(statement: Json, arn: str, source: str) -> bool:
    conditions = statement.get("Condition", {})
    if (
        statement["Effect"] != "Allow"
        or conditions.keys() - _CONDITIONS
        or any({name.lower() for name in keys} - {"aws:sourcearn"} for keys in conditions.values())
    ):
        raise RehearsalError(f"the rehearsal does not understand the statement on {arn}")
    return (
        statement["Principal"] == {"Service": "apigateway.amazonaws.com"}
        and statement["Action"] == "lambda:InvokeFunction"
        and all(
            wanted == source
            if "Equals" in operator and "Arn" not in operator
            else matches(wanted, source)
            for operator, keys in conditions.items()
            for wanted in keys.values()
        )
    )
