"""API Gateway: what is sent for each intent, and stages as they are read from the answers.

Only operations that were recorded against AWS, or that its documentation states, are sent. The log
of TestInvokeMethod is the execution log of its request. AWS documents no format for it; its lines
are those that users of the console and of the CLI have published.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from apigw_canary.aws.answers import CONFLICT, Answer, misunderstood
from apigw_canary.aws.calls import Calls, explained
from apigw_canary.errors import AwsError, CannotTellError, NotFoundError, ThrottledError
from apigw_canary.model import CanaryState, Contract, Guard, Route, SmokeRequest, StageState
from apigw_canary.values import validation

Patch = list[dict[str, str]]

_CANARY = "/canarySettings"
OVERRIDES = f"{_CANARY}/stageVariableOverrides"
_NAMED = (
    r"stageVariables(?:\.get\(\s*[\"'](\w+)[\"']\s*\)|\[\s*[\"'](\w+)[\"']\s*\]|\.(?!get\()(\w+)|)"
)
"""How integrations, parameters and mapping templates name a stage variable; without a name where
they take all of them, or one by a name that is computed."""
ANY_VARIABLE = "*"
"""In the place of a name that is computed."""
_PAGE = 500  # the most that API Gateway's lists give at once


def fixed_point(percent: float) -> str:
    """A percent as it is sent: never `1e-05`, at least one decimal as AWS writes it."""
    digits = f"{percent:.2f}"
    return digits.removesuffix("0")


def _replace(path: str, value: str) -> dict[str, str]:
    return {"op": "replace", "path": path, "value": value}


def enable_patch(canary: CanaryState) -> Patch:
    """Creates a canary on a stage that has none.

    The percent comes last: if the call were carried out in part, the canary would get no requests.
    """
    return [
        _replace(f"{_CANARY}/deploymentId", canary.deployment_id),
        *(_replace(f"{OVERRIDES}/{name}", value) for name, value in canary.variables.items()),
        _replace(f"{_CANARY}/useStageCache", str(canary.use_stage_cache).lower()),
        _replace(f"{_CANARY}/percentTraffic", fixed_point(canary.percent)),
    ]


def shift_patch(percent: float) -> Patch:
    """Sets the percent of an existing canary; where none exists, AWS would create one."""
    return [_replace(f"{_CANARY}/percentTraffic", fixed_point(percent))]


def promote_patch() -> Patch:
    """Makes the canary's deployment and variables the stage's own, and leaves it without requests.

    The copies come first: without a canary they fail, where a percent would create one.
    """
    return [
        {"op": "copy", "from": f"{_CANARY}/deploymentId", "path": "/deploymentId"},
        {"op": "copy", "from": OVERRIDES, "path": "/variables"},
        *shift_patch(0),
    ]


def end_patch() -> Patch:
    """Ends the canary; the stage's own deployment and variables stay as they are."""
    return [{"op": "remove", "path": _CANARY}]


def restore_patch(now: StageState, then: StageState) -> Patch:
    """Brings production from `now` to `then`; sends only what differs."""
    patch: Patch = []
    if now.deployment_id != then.deployment_id:
        patch.append(_replace("/deploymentId", then.deployment_id))
    for name, value in then.variables.items():
        if now.variables.get(name) != value:
            patch.append(_replace(f"/variables/{name}", value))
    patch.extend(
        {"op": "remove", "path": f"/variables/{name}"}
        for name in now.variables
        if name not in then.variables
    )
    return patch


class Deployment(NamedTuple):
    """A deployment of an API, as far as a rollout needs it."""

    id: str
    description: str | None
    created_at: datetime

    def __repr__(self) -> str:
        # The description holds the record, and so values of variables, which can be secrets.
        return f"<deployment {self.id} of {self.created_at}>"


class Serving(NamedTuple):
    """Which deployments a stage serves."""

    stage: str
    deployment_id: str
    canary_id: str | None
    """The canary's; None without one."""


class StageSettings(NamedTuple):
    """How a stage logs, measures and caches."""

    logging_level: str
    """Of the execution logs of all methods: `OFF`, `ERROR` or `INFO`."""
    metrics_enabled: bool
    """Whether metrics are published for each method."""
    cache_enabled: bool
    """Whether the stage has a cache."""
    access_log_group: str | None
    """The log group that access logs go to; None where they go elsewhere, or are off."""
    access_log_stream: str | None
    """The Firehose stream that access logs go to instead; None where there is none."""
    access_log_format: str | None
    """Their format; None where they are off."""


class StageSnapshot(NamedTuple):
    """A stage as it was read, and AWS's time when it was."""

    stage: StageState
    at: datetime
    settings: StageSettings


class Method(NamedTuple):
    """A method of the API as it is being edited, and where it leads."""

    route: Route
    guard: Guard
    has_integration: bool
    """Whether AWS shows one: an integration that is not shown must not be taken for a mock."""
    uri: str | None
    """The integration's; None where it has none, as a mock."""
    has_credentials: bool
    """Whether API Gateway calls the integration in a role, or as the caller."""
    resource_id: str
    """The id of the resource that it is a method of."""
    variables: frozenset[str] = frozenset()
    """The stage variables that its integration, templates and parameters name; `ANY_VARIABLE` among
    them where one takes them by a name of its own making."""


class ApiGateway:
    """One stage of one REST API, as AWS's operations see it."""

    def __init__(self, calls: Calls, rest_api_id: str, stage_name: str) -> None:
        self.calls = calls
        """For what is asked of other services, in the same session and with the same patience."""
        self.rest_api_id = rest_api_id
        self.stage_name = stage_name

    @property
    def region(self) -> str:
        """The region that calls go to."""
        return self.calls.region

    def stage(self) -> StageSnapshot:
        """One GetStage."""
        return self._seen(self._call("GetStage", stageName=self.stage_name))

    def update_stage(self, patch: Patch) -> StageSnapshot:
        """One UpdateStage; AWS's answer is the stage after it."""
        return self._seen(
            self._call("UpdateStage", stageName=self.stage_name, patchOperations=patch)
        )

    def flush_cache(self) -> None:
        """One FlushStageCache."""
        self._call("FlushStageCache", stageName=self.stage_name)

    def deployment(self, deployment_id: str) -> Deployment:
        """One GetDeployment."""
        return _deployment(self._call("GetDeployment", deploymentId=deployment_id))

    def contract(self, deployment_id: str) -> Contract:
        """What a deployment offers: one GetDeployment with its summary."""
        answer = self._call("GetDeployment", deploymentId=deployment_id, embed=["apisummary"])
        if not answer.get("apiSummary"):
            # AWS deploys no API without methods; to take none for an answer would hide changes.
            raise CannotTellError(
                f"AWS returned no summary of the methods of deployment {deployment_id}."
            )
        return {
            Route(method, path): _guard(summary)
            for path, methods in answer["apiSummary"].items()
            for method, summary in methods.items()
        }

    def methods(self) -> list[Method]:
        """The methods of the API as it is being edited: one GetResources for 500 resources."""
        found = pages(self.calls, "GetResources", restApiId=self.rest_api_id, embed=["methods"])
        return [
            _method(resource, name, method)
            for resource in found
            for name, method in resource.get("resourceMethods", {}).items()
        ]

    def variables_of_authorizers(self) -> frozenset[str]:
        """The stage variables that the API's authorizers name: one GetAuthorizers."""
        found = pages(self.calls, "GetAuthorizers", restApiId=self.rest_api_id)
        return frozenset(name for each in found for name in _variables_named(each))

    def unused_of(self, names: Iterable[str], methods: Iterable[Method]) -> list[str]:
        """Those of the stage variables that neither the methods nor an authorizer names."""
        used = frozenset[str]().union(*(method.variables for method in methods))
        if ANY_VARIABLE in used or not (unnamed := sorted(set(names) - used)):
            return []
        used = self.variables_of_authorizers()
        return [name for name in unnamed if not used & {name, ANY_VARIABLE}]

    def deployments(self) -> list[Deployment]:
        """All deployments: one GetDeployments for each 500 of them."""
        return [
            _deployment(item)
            for item in pages(self.calls, "GetDeployments", restApiId=self.rest_api_id)
        ]

    def serving(self) -> tuple[tuple[Serving, ...], datetime]:
        """What each stage of the API serves, and AWS's time when it did: one GetStages."""
        answer = self.calls.call("apigateway", "GetStages", restApiId=self.rest_api_id)
        return tuple(map(_serving, answer.get("item", []))), self.calls.now(answer)

    def delete_deployment(self, deployment_id: str) -> None:
        """One DeleteDeployment, which AWS refuses for one that a stage or canary serves."""
        self._call("DeleteDeployment", deploymentId=deployment_id)

    def create_deployment(self, description: str) -> Deployment:
        """A deployment of the API as it is being edited now, on no stage: traffic is untouched.

        With a stage's name AWS would replace production where no canary is enabled, and take over
        the canary where one is.
        """
        return _deployment(self._call("CreateDeployment", description=description))

    def describe_deployment(self, deployment_id: str, description: str) -> Deployment:
        """One UpdateDeployment: replaces the description."""
        return _deployment(
            self._call(
                "UpdateDeployment",
                deploymentId=deployment_id,
                patchOperations=[_replace("/description", description)],
            )
        )

    def api_name(self) -> str:
        """One GetRestApi. Metrics are published under the name, not the id."""
        answer = self.calls.call("apigateway", "GetRestApi", restApiId=self.rest_api_id)
        return str(answer["name"])

    def protocol(self) -> str | None:
        """`HTTP` or `WEBSOCKET` if that is what the id is of; None where it is not known.

        One GetApi, of API Gateway's other service.
        """
        try:
            answer = self.calls.call("apigatewayv2", "GetApi", ApiId=self.rest_api_id)
        except (AwsError, CannotTellError, NotFoundError):
            return None  # an optional question
        return str(answer["ProtocolType"])

    def _call(self, operation: str, **parameters: object) -> Answer:
        try:
            with explained(
                NotFoundError,
                f"The request was for stage {self.stage_name} of API {self.rest_api_id}.",
            ):
                return self.calls.call(
                    "apigateway", operation, restApiId=self.rest_api_id, **parameters
                )
        except ThrottledError as error:
            if error.code == CONFLICT:
                # An API that does not exist can answer with conflicts for ever: then this raises.
                # Where that cannot be read either, the conflict is the error.
                with suppress(AwsError, CannotTellError):
                    self.api_name()
            raise

    def _seen(self, answer: Answer) -> StageSnapshot:
        """From the answer of GetStage or UpdateStage. What is absent there is absent here."""
        if answer["stageName"] != self.stage_name:
            raise misunderstood("GetStage", "it is about another stage")
        settings = answer.get("canarySettings")
        stage = StageState(
            region=self.region,
            rest_api_id=self.rest_api_id,
            name=self.stage_name,
            deployment_id=_id(answer, "deploymentId"),
            variables=answer.get("variables", {}),
            canary=None if settings is None else _parsed_canary(settings),
            updated_at=answer["lastUpdatedDate"],
        )
        return StageSnapshot(stage, self.calls.now(answer), _parsed_settings(answer))


def api_names(calls: Calls) -> dict[str, str]:
    """The name of each REST API of the account and region, by its id; pages of 500."""
    return {_id(api, "id"): api.get("name", "") for api in pages(calls, "GetRestApis")}


def stage_names(calls: Calls, rest_api_id: str) -> tuple[str, ...]:
    """The names of an API's stages: one GetStages."""
    answer = calls.call("apigateway", "GetStages", restApiId=rest_api_id)
    return tuple(str(stage["stageName"]) for stage in answer.get("item", []))


def apis_named(calls: Calls, name: str) -> list[str]:
    """The ids of the REST APIs of a name: one GetRestApis for each 500 APIs of the account."""
    return [api for api, called in api_names(calls).items() if called == name]


def pages(calls: Calls, operation: str, **parameters: object) -> Iterator[Mapping[str, Any]]:
    """The items of all pages of one of API Gateway's lists."""
    for answer in calls.pages("apigateway", operation, "position", limit=_PAGE, **parameters):
        yield from answer.get("items", [])


def _parsed_settings(answer: Answer) -> StageSettings:
    """How the stage of an answer logs, measures and caches."""
    methods = answer.get("methodSettings", {}).get("*/*", {})
    access_logs = answer.get("accessLogSettings", {})
    # arn:aws:logs:eu-central-1:123456789012:log-group:name, with or without :* behind it, or
    # arn:aws:firehose:eu-central-1:123456789012:deliverystream/name
    destination = access_logs.get("destinationArn", "")
    _, is_group, group = destination.partition(":log-group:")
    _, is_stream, stream = destination.partition(":deliverystream/")
    return StageSettings(
        logging_level=methods.get("loggingLevel", "OFF"),
        metrics_enabled=methods.get("metricsEnabled", False),
        cache_enabled=answer.get("cacheClusterEnabled", False),
        access_log_group=group.removesuffix(":*") if is_group else None,
        access_log_stream=stream if is_stream else None,
        access_log_format=access_logs.get("format"),
    )


def _serving(stage: Mapping[str, Any]) -> Serving:
    canary = stage.get("canarySettings")
    return Serving(
        stage=stage["stageName"],
        deployment_id=stage["deploymentId"],
        canary_id=canary["deploymentId"] if canary is not None else None,
    )


def _guard(method: Mapping[str, Any]) -> Guard:
    authorization = method["authorizationType"]
    if not re.fullmatch("[A-Z0-9_]{1,64}", authorization):
        raise misunderstood("a call", "an authorizationType in it is not valid")
    return Guard(authorization, method.get("apiKeyRequired", False))


def _method(resource: Mapping[str, Any], name: str, method: Mapping[str, Any]) -> Method:
    integration = method.get("methodIntegration", {})
    return Method(
        route=Route(name, resource["path"]),
        guard=_guard(method),
        has_integration="methodIntegration" in method,
        uri=integration.get("uri"),
        has_credentials=bool(integration.get("credentials")),
        resource_id=resource["id"],
        variables=frozenset(_variables_named(method)),
    )


def _variables_named(value: Any) -> Iterator[str]:
    """The stage variables that any text in a part of an answer names."""
    if isinstance(value, str):
        for found in re.finditer(_NAMED, value):
            yield next(filter(None, found.groups()), ANY_VARIABLE)
    elif isinstance(value, Mapping):
        for each in (*value.keys(), *value.values()):
            yield from _variables_named(each)
    elif isinstance(value, list):
        for each in value:
            yield from _variables_named(each)


def _parsed_canary(settings: Mapping[str, Any]) -> CanaryState:
    percent = float(settings["percentTraffic"])
    if not 0 <= percent <= 100:
        raise misunderstood("GetStage", f"percentTraffic is {percent:g}")
    return CanaryState(
        deployment_id=_id(settings, "deploymentId"),
        percent=percent,
        variables=settings.get("stageVariableOverrides", {}),
        use_stage_cache=settings.get("useStageCache", False),
    )


def _deployment(answer: Answer) -> Deployment:
    return Deployment(
        id=_id(answer, "id"),
        description=answer.get("description"),
        created_at=validation.utc(answer["createdDate"]),
    )


def _id(answer: Mapping[str, Any], name: str) -> str:
    """An id of the answer: it is sent back in URLs, and shown in messages."""
    found: str = answer[name]
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", found):
        raise misunderstood("a call", f"its {name} cannot be an id")
    return found


TEST_STAGE = "test-invoke-stage"
"""The stage that test invocations call Lambda functions from, as console and issues show."""
NOT_ALLOWED = "Invalid permissions on Lambda function"
"""The log's text where a function does not let API Gateway in, or does not exist."""

_LONGEST_LATENCY = 3_600_000
"""Milliseconds that a latency can be. API Gateway's longest integration timeout is far below."""
_LONGEST_LINE = 300
"""Characters of a line that are kept, counted once the values are hidden."""
_SHORT = 2
"""Characters of a value up to which it is hidden only where no letter or digit is next to it:
within words it reveals nothing, and hiding it there would leave nothing of the log."""
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
"""The lines with the outcome of a request. All others have headers, bodies or addresses."""
_LAMBDA_REQUEST = re.compile(r"Lambda request id: [0-9a-f-]{36}")


class InvocationAnswer(NamedTuple):
    """What came of a test invocation."""

    status: int
    body: str
    latency: timedelta | None
    log: tuple[str, ...]
    not_allowed: bool
    """Whether a Lambda function did not let the test invocation in."""

    def __repr__(self) -> str:
        return f"<answer of status {self.status}>"  # the body can be anything


def invoke_method(
    gateway: ApiGateway,
    resource_id: str,
    method: str,
    request: SmokeRequest,
    variables: Mapping[str, str],
) -> InvocationAnswer:
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
    return InvocationAnswer(
        status=answer["status"],
        body=answer.get("body", ""),
        latency=None if latency is None else timedelta(milliseconds=latency),
        log=tuple(relevant_log(log, variables, request.headers)),
        not_allowed=any(NOT_ALLOWED in message for message, _ in _kept_lines(log)),
    )


def relevant_log(
    log: str, variables: Mapping[str, str], headers: Mapping[str, str]
) -> Iterator[str]:
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
