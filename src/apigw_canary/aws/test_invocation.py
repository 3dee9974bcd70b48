"""API Gateway's TestInvokeMethod: one request to the API as it is being edited.

The log is the execution log of the request. AWS documents no format for it; its lines are those
that users of the console and of the CLI have published.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import NamedTuple
from urllib.parse import quote

from apigw_canary.aws.answers import misunderstood
from apigw_canary.aws.apigateway import ApiGateway
from apigw_canary.rollout.smoke import SmokeRequest

STAGE = "test-invoke-stage"
"""The stage that test invocations call Lambda functions from, as console and issues show."""
NOT_ALLOWED = "Invalid permissions on Lambda function"
"""The log's text where a function does not let API Gateway in, or does not exist."""

_LONGEST_LATENCY = 3_600_000
"""Milliseconds that a latency can be. API Gateway's longest integration timeout is far below."""
_LONGEST_LINE = 300
"""Characters of a line that are kept."""
_TIME = r"\w{3} \w{3} +\d{1,2} \d{2}:\d{2}:\d{2} UTC \d{4} : "
_KEPT = (
    r"(Execution failed.*)",
    # What follows is the function's own text, and can be anything.
    r"(Lambda execution failed with status \d+ due to customer function error)",
    r"(Lambda invocation failed with status: \d+)",
    r"(Request body does not match model schema)",
    r"(Gateway response type: \w+ with status code: \d+)",
    r"(Received response\. Status: \d+, Integration latency: \d+ ms)",
    r"(Method completed with status: \d+)",
)
"""The lines that tell how a request fared. All others hold headers, bodies or addresses."""
_LAMBDA_REQUEST = re.compile(r"Lambda request id: [0-9a-f-]{36}")


class Answer(NamedTuple):
    """What came of a test invocation."""

    status: int
    body: str
    latency: timedelta | None
    log: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<answer of status {self.status}>"  # the body can be anything

    @property
    def not_allowed(self) -> bool:
        """Whether a Lambda function did not let the test invocation in."""
        return any(NOT_ALLOWED in line for line in self.log)


def invoke(
    gateway: ApiGateway,
    resource_id: str,
    method: str,
    request: SmokeRequest,
    variables: Mapping[str, str],
) -> Answer:
    """One TestInvokeMethod. The backend is called for real; it is never sent twice."""
    body = {} if request.body is None else {"body": request.body}
    headers = {"headers": dict(request.headers)} if request.headers else {}
    answer = gateway.calls.call(
        "apigateway",
        "TestInvokeMethod",
        restApiId=gateway.rest_api_id,
        resourceId=resource_id,
        httpMethod=method,
        pathWithQueryString=request.path,
        stageVariables=dict(variables),
        **headers,
        **body,
    )
    latency = answer.get("latency")
    if not 100 <= answer["status"] <= 599 or not 0 <= (latency or 0) <= _LONGEST_LATENCY:
        raise misunderstood("TestInvokeMethod", "its status or latency cannot be one")
    return Answer(
        status=answer["status"],
        body=answer.get("body", ""),
        latency=None if latency is None else timedelta(milliseconds=latency),
        log=tuple(relevant(answer.get("log", ""), variables, request.headers)),
    )


def relevant(log: str, variables: Mapping[str, str], headers: Mapping[str, str]) -> Iterator[str]:
    """The lines that tell how the request fared, without values of variables and of headers."""
    hidden = {
        **{value: f"<header {name}>" for name, value in headers.items() if value},
        **{value: f"${{stageVariables.{name}}}" for name, value in variables.items()},
    }
    hidden |= {quote(value, safe=""): shown for value, shown in hidden.items()}
    # The longest first: a value may be a part of another one.
    values = "|".join(map(re.escape, sorted(hidden, key=len, reverse=True)))
    for line in log.split("\n"):
        found = re.fullmatch(f"(?:{_TIME})(?:{'|'.join(_KEPT)})(.*)", line)
        if found is None:
            continue
        *kept, rest = found.groups("")
        said = "".join(kept)[:_LONGEST_LINE]
        if values:
            said = re.sub(values, lambda value: hidden[value[0]], said)
        if said.startswith("Lambda") and (identified := _LAMBDA_REQUEST.search(rest)):
            said = f"{said}. {identified[0]}"
        yield "".join(char if char.isprintable() else "?" for char in said)
