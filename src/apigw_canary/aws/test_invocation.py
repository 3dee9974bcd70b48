"""API Gateway's TestInvokeMethod: one request to the API as it is being edited.

The log is the execution log of the request. AWS documents no format for it; its lines are those
that users of the console and of the CLI have published.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import NamedTuple

from apigw_canary.aws.answers import misunderstood
from apigw_canary.aws.apigateway import ApiGateway
from apigw_canary.model.results import SmokeRequest

STAGE = "test-invoke-stage"
"""The stage that test invocations call Lambda functions from, as console and issues show."""
NOT_ALLOWED = "Invalid permissions on Lambda function"
"""The log's text where a function does not let API Gateway in, or does not exist."""

_LONGEST_LATENCY = 3_600_000
"""Milliseconds that a latency can be. API Gateway's longest integration timeout is far below."""
_LONGEST_LINE = 300
"""Characters of a line that are kept, counted once the values are hidden."""
_SHORT = 2
"""Characters of a value up to which it is hidden only where no letter or digit is next to it:
within words it would tell nothing, and hiding it would leave nothing of the log."""
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
    not_allowed: bool
    """Whether a Lambda function did not let the test invocation in."""

    def __repr__(self) -> str:
        return f"<answer of status {self.status}>"  # the body can be anything


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
    latency, log = answer.get("latency"), answer.get("log", "")
    if not 100 <= answer["status"] <= 599 or not 0 <= (latency or 0) <= _LONGEST_LATENCY:
        raise misunderstood("TestInvokeMethod", "its status or latency is not valid")
    return Answer(
        status=answer["status"],
        body=answer.get("body", ""),
        latency=None if latency is None else timedelta(milliseconds=latency),
        log=tuple(relevant(log, variables, request.headers)),
        not_allowed=any(NOT_ALLOWED in message for message, _ in _kept_lines(log)),
    )


def relevant(log: str, variables: Mapping[str, str], headers: Mapping[str, str]) -> Iterator[str]:
    """The lines that show how a request was answered, without values of variables and headers."""
    hidden = [(value, f"<header {name}>") for name, value in headers.items()]
    hidden += [(value, f"${{stageVariables.{name}}}") for name, value in variables.items()]
    # The longest first: a value may be a part of another one.
    hidden = sorted((each for each in hidden if each[0]), key=lambda each: -len(each[0]))
    values = re.compile("|".join(f"({_forms(value)})" for value, _ in hidden) or r"(?!)")
    for message, request_id in _kept_lines(log):
        # Hidden before it is cut: a value across the cut would keep its beginning.
        line = values.sub(lambda found: hidden[(found.lastindex or 0) - 1][1], message)
        line = f"{line[:_LONGEST_LINE]}{request_id}"
        yield "".join(char if char.isprintable() else "?" for char in line)


def _kept_lines(log: str) -> Iterator[tuple[str, str]]:
    """The lines that show how a request was answered, each with its Lambda request id."""
    for line in log.split("\n"):
        found = re.fullmatch(f"(?:{_TIME})(?:{'|'.join(_KEPT)})(.*)", line)
        if found is None:
            continue
        *kept, rest = found.groups("")
        message = "".join(kept)
        identified = _LAMBDA_REQUEST.search(rest) if message.startswith("Lambda") else None
        yield message, f". {identified[0]}" if identified else ""


def _forms(value: str) -> str:
    """A pattern of the value as it is, percent-encoded and JSON-escaped, in whole or in part."""
    forms = f"{''.join(map(_percent_encoded, value))}|{''.join(map(_json_escaped, value))}"
    if len(value) > _SHORT:
        return forms
    return rf"(?:(?<![^\W_])|(?<=%[\da-fA-F]{{2}}))(?:{forms})(?![^\W_])"


def _percent_encoded(char: str) -> str:
    encoded = "".join(f"%(?:25)*{byte:02x}" for byte in char.encode(errors="surrogatepass"))
    if char == "%":  # as it is, or encoded however often
        return "%(?:25)*"
    return f"(?:{re.escape(char)}|(?i:{encoded}){'|[+]' if char == ' ' else ''})"


def _json_escaped(char: str) -> str:
    units = char.encode("utf-16-be", errors="surrogatepass").hex()
    code = "".join(rf"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))
    short = re.escape(char) if char not in '"/\\' else rf"\\{re.escape(char)}"
    plain = f"|{re.escape(char)}" if char in '"/' else ""
    return f"(?:{short}|(?i:{code}){plain})"
