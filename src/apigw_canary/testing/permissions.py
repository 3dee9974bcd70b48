"""IAM in a rehearsal: what a call is authorised as, and whether a policy document allows it.

Known from botocore's descriptions of the services and from AWS's refusals; nothing is taken from
the library's own list of permissions, which is tested against this.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from apigw_canary.testing.answers import Json, Refusal, RehearsalError, check_simulated
from apigw_canary.testing.gateway import ACCOUNT_ID
from apigw_canary.testing.wire import REGION, loader

if TYPE_CHECKING:
    from botocore.model import OperationModel

_ACCOUNT = f"arn:aws:{{service}}:{REGION}:{ACCOUNT_ID}"

_FUNCTION = _ACCOUNT + ":function:{FunctionName}"
_VERSION = _FUNCTION + ":{Qualifier}"

_RESOURCES: Mapping[str, tuple[str, ...]] = {
    "cloudwatch:DescribeAlarmHistory": ("*",),
    "cloudwatch:DescribeAlarms": ("*",),
    "cloudwatch:GetMetricData": ("*",),
    "cloudwatch:ListMetrics": ("*",),
    "lambda:AddPermission": (_VERSION, _FUNCTION),
    "lambda:GetAlias": (_FUNCTION,),
    "lambda:GetFunctionConfiguration": (_VERSION, _FUNCTION),
    "lambda:GetPolicy": (_VERSION, _FUNCTION),
    "lambda:GetProvisionedConcurrencyConfig": (_VERSION,),
    "lambda:UpdateAlias": (_FUNCTION,),
    "logs:DescribeLogGroups": ("*",),
    "logs:GetQueryResults": ("*",),
    "logs:StartQuery": (_ACCOUNT + ":log-group:{logGroupName}:log-stream:",),
    "logs:StopQuery": ("*",),
}
"""What the call of a service other than API Gateway is about: the first of these whose parameters
are given. Where a call cannot be limited to a resource, a permission for `*` is needed."""


_GATEWAYS = {"apigateway", "apigatewayv2"}
"""boto3's names of one service, for REST APIs and for the others; to IAM both are one."""


class Allowance:
    """What a policy document allows; None: everything."""

    def __init__(self, document: Mapping[str, Any] | None) -> None:
        self.document = document
        self._statements = [] if document is None else _statements(document)

    def check(self, service: str, operation: str, parameters: Json) -> None:
        """Refuse, as AWS does, a call that no statement allows."""
        if self.document is None:
            return
        for group in parameters.get("logGroupNames", ()):
            self.check(service, operation, {"logGroupName": group})
        if "logGroupNames" in parameters:
            return
        action = action_of(service, operation)
        resource = _resource(service, operation, parameters)
        allowed = any(
            any(matches(each, action, re.IGNORECASE) for each in actions)
            and any(_covers(each, resource) for each in resources)
            for actions, resources in self._statements
        )
        if not allowed:
            raise denied(service, action, resource)


def denied(service: str, action: str, resource: str = "*") -> Refusal:
    """AWS's refusal; it names the resource where the action has one."""
    on = "" if resource == "*" else f" on resource: {resource}"
    return Refusal(
        # CloudWatch was born with another protocol, and keeps its codes.
        "AccessDenied" if service == "cloudwatch" else "AccessDeniedException",
        f"User: arn:aws:iam::{ACCOUNT_ID}:user/rehearsal is not authorized to perform: "
        f"{action}{on} because no identity-based policy allows the {action} action",
        403,
    )


def action_of(service: str, operation: str) -> str:
    """The IAM action of a call: API Gateway's are named by HTTP verbs."""
    if service in _GATEWAYS:
        return f"apigateway:{_model(service, operation).http['method']}"
    return f"{service}:{operation}"


def _resource(service: str, operation: str, parameters: Json) -> str:
    """The ARN that a call is authorised on, or `*`."""
    if service in _GATEWAYS:
        path = _path(service, operation, parameters).removeprefix("/v2")
        return f"arn:aws:apigateway:{REGION}::{path}"
    action = f"{service}:{operation}"
    for template in _RESOURCES.get(action, ()):
        needed = set(re.findall(r"{(\w+)}", template)) - {"service"}
        if needed <= parameters.keys():
            # A name may be given as an ARN.
            return re.sub(r".+(?=arn:)", "", template.format(service=service, **parameters))
    raise RehearsalError(f"the rehearsal does not know which resource {action} is authorized on")


def _path(service: str, operation: str, parameters: Json) -> str:
    """The path that botocore sends the call to."""
    from botocore.serialize import create_serializer

    serializer = create_serializer("rest-json", include_validation=False)
    model = _model(service, operation)
    return str(serializer.serialize_to_request(parameters, model)["url_path"])


@cache
def _model(service: str, operation: str) -> OperationModel:
    from botocore.model import ServiceModel

    described = loader().load_service_model(service, "service-2")
    return ServiceModel(described, service).operation_model(operation)


def _statements(document: Mapping[str, Any]) -> list[tuple[list[str], list[str]]]:
    """Actions and resources of each statement; refuses what the rehearsal does not understand."""
    check_simulated("a policy document", document, {"Version", "Id", "Statement"})
    statements = []
    for statement in _listed(document["Statement"]):
        check_simulated("a statement", statement, {"Sid", "Effect", "Action", "Resource"})
        if statement["Effect"] != "Allow":
            raise RehearsalError("the rehearsal does not simulate statements that deny")
        statements.append((_listed(statement["Action"]), _listed(statement["Resource"])))
    return statements


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _covers(pattern: str, resource: str) -> bool:
    """A wildcard stays within its part of an ARN; the last part is all that follows."""
    if "*" in {pattern, resource}:
        return pattern == "*"
    parts = zip(pattern.split(":", 5), resource.split(":", 5), strict=False)
    return pattern.count(":") >= 5 and all(matches(each, part) for each, part in parts)


def matches(pattern: str, text: str, flags: int = 0) -> bool:
    """`*` stands for any characters, `?` for one."""
    wild = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(wild, text, flags | re.DOTALL) is not None
