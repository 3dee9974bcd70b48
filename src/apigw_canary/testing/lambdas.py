"""A Lambda function behind the API: moto's, with aliases, weights and metrics as on AWS.

moto ignores revisions and does not check weights, so GetAlias and UpdateAlias are answered here, on
moto's own data: what creates and publishes functions and aliases stays moto's. Refusals are those
of the API reference, and those that users of other tools have reported.
"""

from __future__ import annotations

import base64
import io
import json
import random
import uuid
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from apigw_canary.testing.answers import Json, Refusal, RehearsalError, check_simulated, unknown
from apigw_canary.testing.gateway import ACCOUNT_ID
from apigw_canary.testing.metrics import Published
from apigw_canary.testing.traffic import Backend, Behavior, Segment, Target, Traffic
from apigw_canary.testing.wire import REGION

FUNCTION = "orders"
"""The name of the function that a rehearsal with `versions` has."""

VARIABLE = "alias"
"""The stage variable with the alias of it that is called."""

URI = (
    f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/functions/arn:aws:lambda:{REGION}:"
    f"{ACCOUNT_ID}:function:{FUNCTION}:${{stageVariables.{VARIABLE}}}/invocations"
)
"""The integration that calls that alias."""

NAMESPACE = "AWS/Lambda"
_MINUTE = timedelta(minutes=1)
_LAG: Mapping[str, timedelta] = MappingProxyType(
    dict.fromkeys(("Invocations", "Errors", "Throttles", "Duration"), _MINUTE)
)
_LONGEST_DESCRIPTION = 256
_LONGEST_POLICY = 20_480
_PRINCIPAL = "apigateway.amazonaws.com"
_NOTHING = Backend(errors_5xx=1, errors_4xx=0, causes=("permission",))


class Function:
    """The function, and where its aliases lead."""

    def __init__(
        self, versions: Sequence[Behavior], variables: Mapping[str, str], rng: random.Random
    ) -> None:
        from moto.awslambda.models import lambda_backends
        from moto.iam.models import iam_backends

        self._versions = versions
        self._rng = rng
        self._provisioned: dict[str, int] = {}
        # moto's models are not typed.
        self._moto: Any = lambda_backends[ACCOUNT_ID][REGION]
        role: Any = iam_backends[ACCOUNT_ID]["aws"].create_role(
            "rehearsal", "{}", "/", None, "", [], None
        )
        self._moto.create_function(
            {
                "FunctionName": FUNCTION,
                "Runtime": "python3.13",
                "Role": role.arn,
                "Handler": "app.handler",
                "Code": {"ZipFile": _zipped(1)},
                "Publish": True,
            }
        )
        for number in range(2, len(versions) + 1):
            code = {"ZipFile": _zipped(number), "Publish": True}
            self._moto.update_function_code(FUNCTION, "$LATEST", code)
        own = variables.get(VARIABLE, "live")
        self._moto.create_alias(own, FUNCTION, "1", "", "")
        permission = {
            "Action": "lambda:InvokeFunction",
            "Principal": _PRINCIPAL,
            "SourceArn": f"arn:aws:execute-api:{REGION}:{ACCOUNT_ID}:*",
            "StatementId": "rehearsal",
        }
        self._moto.add_permission(FUNCTION, own, json.dumps(permission))

    def targets(self, variables: Mapping[str, str]) -> Sequence[Target]:
        """Where requests end up that see these variables.

        API Gateway itself answers 500 where there is no such alias, or one without a permission for
        API Gateway; for which of the API's methods it has one does not matter here.
        """
        name = variables.get(VARIABLE, "")
        try:
            alias = self._alias(name)
        except Refusal:
            return [Target(_NOTHING)]
        if not self._lets_in(name):
            return [Target(_NOTHING)]
        weights = _weights(alias)
        own = 1 - sum(weights.values())
        return [
            Target(self._backend(version), share, (name, version))
            for version, share in ((alias.function_version, own), *weights.items())
        ]

    def _lets_in(self, alias: str) -> bool:
        # moto keeps an alias's statements with the version that it had when they were added.
        return any(
            statement.get("Resource") == f"{_arn()}:{alias}"
            and statement.get("Principal") in ({"Service": _PRINCIPAL}, "*")
            for version in self._moto.list_versions_by_function(FUNCTION)
            for statement in version.policy.statements
        )

    def _backend(self, version: str) -> Behavior:
        if not version.isdecimal() or int(version) > len(self._versions):
            raise RehearsalError(f"version {version} has no behavior: rehearsal(versions=…)")
        return self._versions[int(version) - 1]

    def answer(self, operation: str, parameters: Json) -> Json | None:
        """Answer what moto answers otherwise than AWS; None: moto answers."""
        if parameters.get("FunctionName") != FUNCTION:
            return None
        match operation:
            case "GetAlias":
                return _described(self._alias(parameters["Name"]))
            case "UpdateAlias":
                return self._update_alias(parameters)
            case "PutProvisionedConcurrencyConfig":
                return self._provision(parameters)
            case "GetProvisionedConcurrencyConfig":
                return self._get_provisioned(parameters["Qualifier"])
            case _:
                return None

    def _alias(self, name: str) -> Any:
        aliases = self._moto._lambdas._get_function_aliases(FUNCTION)  # noqa: SLF001
        if name not in aliases:
            raise _not_found(f"Cannot find alias arn: {_arn()}:{name}")
        return aliases[name]

    def _update_alias(self, p: Json) -> Json:
        allowed = {
            "FunctionName",
            "Name",
            "FunctionVersion",
            "Description",
            "RoutingConfig",
            "RevisionId",
        }
        check_simulated("UpdateAlias", p, allowed)
        alias = self._alias(p["Name"])
        if p.get("RevisionId", alias.revision_id) != alias.revision_id:
            raise Refusal(
                "PreconditionFailedException",
                "The RevisionId provided does not match the latest RevisionId. Call the GetFunction"
                " or the GetAlias API to retrieve the latest RevisionId for your resource.",
                412,
            )
        if len(p.get("Description", "")) > _LONGEST_DESCRIPTION:
            raise _invalid("Member must have length less than or equal to 256", "Validation")
        version = p.get("FunctionVersion", alias.function_version)
        weights = _weights(alias)
        if "RoutingConfig" in p:
            if "AdditionalVersionWeights" not in p["RoutingConfig"]:
                unknown("UpdateAlias with a RoutingConfig that has no AdditionalVersionWeights")
            weights = p["RoutingConfig"]["AdditionalVersionWeights"]
        self._check_routing(p["Name"], version, weights)
        alias.function_version = version
        alias.description = p.get("Description", alias.description)
        alias.routing_config = {"AdditionalVersionWeights": dict(weights)}
        alias.revision_id = str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
        return _described(alias)

    def _check_routing(self, alias: str, version: str, weights: Mapping[str, float]) -> None:
        published = {str(each.version) for each in self._moto.list_versions_by_function(FUNCTION)}
        for each in (version, *weights):
            if each not in published:
                raise _not_found(f"Function not found: {_arn()}:{each}")
        if version in weights:
            raise _invalid(
                f"Invalid function version {version}. Function version {version} is already "
                "included in routing configuration."
            )
        if weights and "$LATEST" in {version, *weights}:
            unknown("the text of the refusal of weights on an alias of $LATEST")
        if len(weights) > 1 or any(not 0 <= weight <= 1 for weight in weights.values()):
            unknown(
                "the texts of the refusals of two further versions, or of weights beyond 0 to 1"
            )
        if weights and alias in self._provisioned:
            raise _invalid("Alias with weights can not be used with Provisioned Concurrency")

    def _provision(self, p: Json) -> Json:
        if _weights(self._alias(p["Qualifier"])):
            raise _invalid("Alias with weights can not be used with Provisioned Concurrency")
        self._provisioned[p["Qualifier"]] = p["ProvisionedConcurrentExecutions"]
        return self._get_provisioned(p["Qualifier"])

    def _get_provisioned(self, qualifier: str) -> Json:
        if qualifier not in self._provisioned:
            raise Refusal(
                "ProvisionedConcurrencyConfigNotFoundException",
                "No Provisioned Concurrency Config found for this function",
                404,
            )
        count = self._provisioned[qualifier]
        return {"RequestedProvisionedConcurrentExecutions": count, "Status": "READY"}


def check_policy_length(parameters: Json) -> None:
    """Refuse a permission that makes a function's policy too long; moto does not."""
    from moto.awslambda.models import lambda_backends

    moto: Any = lambda_backends[ACCOUNT_ID][REGION]
    try:
        function = moto.get_function(parameters["FunctionName"], parameters.get("Qualifier"))
    except Exception:  # noqa: BLE001 - moto answers that itself
        return
    added = {
        "Sid": parameters.get("StatementId"),
        "Effect": "Allow",
        "Principal": {"Service": parameters.get("Principal")},
        "Action": parameters.get("Action"),
        "Resource": function.function_arn,
        "Condition": {"ArnLike": {"AWS:SourceArn": parameters.get("SourceArn")}},
    }
    size = len(json.dumps({"Statement": [*function.policy.statements, added]}))
    if size > _LONGEST_POLICY:
        raise Refusal(
            "PolicyLengthExceededException",
            f"The final policy size ({size}) is bigger than the limit ({_LONGEST_POLICY}).",
        )


class Invocations(Published):
    """CloudWatch's metrics of the function."""

    def __init__(self, traffic: Traffic) -> None:
        super().__init__(traffic, namespace=NAMESPACE, lag=dict(_LAG), series={})

    def _list_metrics(self, p: Json, now: datetime) -> Json:  # noqa: ARG002
        raise RehearsalError(f"the rehearsal does not simulate ListMetrics of {NAMESPACE}")

    def _segments(
        self, dimensions: frozenset[tuple[str, str]], minute: datetime
    ) -> Iterable[Segment]:
        given = dict(dimensions)
        if given.keys() - {"FunctionName", "Resource", "ExecutedVersion"}:
            raise RehearsalError(f"the rehearsal does not simulate the dimensions {sorted(given)}")
        for segment in self._traffic.segments(minute, ("baseline", "canary")):
            if segment.target.invoked is not None:
                alias, version = segment.target.invoked
                own = {
                    "FunctionName": FUNCTION,
                    "Resource": f"{FUNCTION}:{alias}",
                    "ExecutedVersion": version,
                }
                if given.items() <= own.items():
                    yield segment


def _zipped(version: int) -> str:
    """Code that is another one for each version, or it would not be published."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("app.py", f"{version}")
    return base64.b64encode(archive.getvalue()).decode()


def _weights(alias: Any) -> Mapping[str, float]:
    weights: Mapping[str, float] = (alias.routing_config or {}).get("AdditionalVersionWeights", {})
    return weights


def _described(alias: Any) -> Json:
    """As AWS does it: without weights there is no routing."""
    described = {**alias.to_json()}
    if not _weights(alias):
        del described["RoutingConfig"]
    return described


def _arn() -> str:
    return f"arn:aws:lambda:{REGION}:{ACCOUNT_ID}:function:{FUNCTION}"


def _not_found(message: str) -> Refusal:
    return Refusal("ResourceNotFoundException", message, 404)


def _invalid(message: str, code: str = "InvalidParameterValue") -> Refusal:
    return Refusal(f"{code}Exception", message)
