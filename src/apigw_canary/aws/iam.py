"""IAM: the permissions that operations need, as a policy document.

Tables, and one function that reads them. API Gateway authorises by HTTP verb and path, other
services by the name of the call.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Literal, Protocol, get_args

from apigw_canary.rollout import inputs

Operation = Literal[
    "LambdaAlias",
    "allow_invocation",
    "analyze",
    "apply",
    "canary",
    "check",
    "describe",
    "disable",
    "enable_canary",
    "find",
    "observe",
    "promote",
    "revert",
    "rollback",
    "shift",
]
"""A method of `Stage` or `Canary`; "LambdaAlias" is all of that class."""

Source = Literal["AccessLogs", "CloudWatchMetrics", "alarms"]
"""What "observe" may read beside the stage."""

_API = "arn:{partition}:apigateway:{region}::/restapis/{rest_api_id}"

_RESOURCES: Mapping[str, tuple[str, ...]] = {
    "Api": (_API,),
    "ApiResources": (_API + "/resources",),
    "Apis": ("arn:{partition}:apigateway:{region}::/restapis",),
    "Deployments": (_API + "/deployments",),
    "EachDeployment": (_API + "/deployments/*",),
    # Composite alarms are described to those only whose permission is for everything.
    "Everything": ("*",),
    "Functions": ("{named}",),
    "FunctionsAndVersions": ("{named}", "{named}:*"),
    # A query is authorised on "...:log-group:name:log-stream:".
    "LogGroups": ("{named}:*",),
    "Stage": (_API + "/stages/{stage}",),
}
"""The id of a statement, and the resources it is about."""

_NAMED: Mapping[str, str] = {
    "Functions": "functions",
    "FunctionsAndVersions": "functions",
    "LogGroups": "log_groups",
}
"""The id of a statement, and the argument of `permissions` that names its resources."""

_CALLS: Mapping[str, tuple[str, str]] = {
    "CreateDeployment": ("apigateway:POST", "Deployments"),
    "GetDeployment": ("apigateway:GET", "EachDeployment"),
    "GetDeployments": ("apigateway:GET", "Deployments"),
    "GetResources": ("apigateway:GET", "ApiResources"),
    "GetRestApi": ("apigateway:GET", "Api"),
    "GetRestApis": ("apigateway:GET", "Apis"),
    "GetStage": ("apigateway:GET", "Stage"),
    "UpdateDeployment": ("apigateway:PATCH", "EachDeployment"),
    "UpdateStage": ("apigateway:PATCH", "Stage"),
    "DescribeAlarmHistory": ("cloudwatch:DescribeAlarmHistory", "Everything"),
    "DescribeAlarms": ("cloudwatch:DescribeAlarms", "Everything"),
    "GetMetricData": ("cloudwatch:GetMetricData", "Everything"),
    "AddPermission": ("lambda:AddPermission", "FunctionsAndVersions"),
    "GetAlias": ("lambda:GetAlias", "Functions"),
    "GetFunctionConfiguration": ("lambda:GetFunctionConfiguration", "FunctionsAndVersions"),
    "GetPolicy": ("lambda:GetPolicy", "FunctionsAndVersions"),
    "UpdateAlias": ("lambda:UpdateAlias", "Functions"),
    "GetQueryResults": ("logs:GetQueryResults", "Everything"),
    "StartQuery": ("logs:StartQuery", "LogGroups"),
    "StopQuery": ("logs:StopQuery", "Everything"),
}
"""An AWS call, the action it is authorised as, and the statement with its resources."""

_LOOKS = ("GetStage", "GetDeployment")
_CHANGES = (*_LOOKS, "UpdateStage")

_NEEDS: Mapping[str, tuple[str, ...]] = {
    "LambdaAlias": ("GetAlias", "GetFunctionConfiguration", "UpdateAlias"),
    "allow_invocation": ("GetResources", "GetPolicy", "AddPermission"),
    "analyze": _LOOKS,
    "apply": (*_CHANGES, "UpdateDeployment"),
    "canary": _LOOKS,
    "check": (*_LOOKS, "GetResources"),
    "check of functions": ("GetFunctionConfiguration", "GetPolicy"),
    "describe": _LOOKS,
    "disable": _CHANGES,
    "enable_canary": (*_CHANGES, "GetDeployments", "CreateDeployment", "UpdateDeployment"),
    "find": ("GetRestApis",),
    "observe": _LOOKS,
    "promote": (*_CHANGES, "UpdateDeployment"),
    "revert": (*_CHANGES, "GetDeployments", "UpdateDeployment"),
    "rollback": _CHANGES,
    "shift": _CHANGES,
    "AccessLogs": ("StartQuery", "GetQueryResults", "StopQuery"),
    "CloudWatchMetrics": ("GetRestApi", "GetMetricData"),
    "alarms": ("DescribeAlarms", "DescribeAlarmHistory"),
}
"""What is called, or read, and the AWS calls it may make."""

_ROLLOUT = ("apply", "canary", "describe", "disable", "enable_canary", "observe", "revert")
_OBSERVING = {"analyze", "observe"}


class Place(Protocol):
    """What is needed of a `Stage`; a `StageState` has it too."""

    @property
    def region(self) -> str:
        """The region, such as "eu-central-1"."""
        ...

    @property
    def rest_api_id(self) -> str:
        """The REST API's id."""
        ...

    @property
    def name(self) -> str:
        """The stage's name."""
        ...


def permissions(
    stage: Place,
    *operations: Operation,
    reads: Sequence[Source] = ("CloudWatchMetrics",),
    log_groups: Sequence[str] = (),
    functions: Sequence[str] = (),
    account: str | None = None,
) -> dict[str, Any]:
    """The IAM policy document that allows these operations on the stage, and nothing else.

    `operations` are names of methods of `Stage` and `Canary`, such as "promote"; none: what a
    whole rollout and its undoing need. `reads` is what is observed beside the stage, for "observe"
    and "analyze"; () where the metrics come from a source of your own. `log_groups` are what
    "AccessLogs" read, `functions` the Lambda functions behind the stage: names, then of `account`,
    a number of twelve digits, or ARNs. Nothing is called on AWS. The document is ready for
    `json.dumps`.
    """
    for operation in operations:
        inputs.choice(operation, "operations", get_args(Operation))
    for source in reads:
        inputs.choice(source, "reads", get_args(Source))
    rows = set[str](operations or _ROLLOUT)
    if rows & _OBSERVING:
        rows.update(reads)
    if "check" in rows and functions:
        rows.add("check of functions")
    actions = defaultdict[str, set[str]](set)
    for row in rows:
        for call in _NEEDS[row]:
            action, sid = _CALLS[call]
            actions[sid].add(action)

    place = {
        "partition": _partition(stage.region),
        "region": stage.region,
        "rest_api_id": stage.rest_api_id,
        "stage": stage.name,
    }
    named = {
        "functions": list(_arns(functions, account, place, _FUNCTION)),
        "log_groups": list(_arns(log_groups, account, place, _LOG_GROUP)),
    }

    def resources(sid: str) -> list[str]:
        if sid not in _NAMED:
            return [template.format(**place) for template in _RESOURCES[sid]]
        if not named[_NAMED[sid]]:
            inputs.refuse(_NAMED[sid], "named, for what these operations read or change", ())
        return [
            template.format(named=arn) for arn in named[_NAMED[sid]] for template in _RESOURCES[sid]
        ]

    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": sid,
                "Effect": "Allow",
                "Action": sorted(actions[sid]),
                "Resource": resources(sid),
            }
            for sid in sorted(actions)
        ],
    }


_FUNCTION = ("functions", "lambda", "function", r"[\w-]{1,140}")
_LOG_GROUP = ("log_groups", "logs", "log-group", r"[\w./#-]{1,512}")
"""Argument, service, type of resource, and its name as botocore's service models give it."""


def _arns(
    given: Sequence[str],
    account: str | None,
    place: Mapping[str, str],
    kind: tuple[str, str, str, str],
) -> Iterator[str]:
    """ARNs of what is named, without version, alias, or the `:*` that a console shows.

    A wildcard in a name would allow more than was meant.
    """
    field, service, resource_type, name = kind
    if account is not None and not re.fullmatch("[0-9]{12}", account):
        inputs.refuse("account", "a number of twelve digits, as a string", account)
    arn = rf"arn:[a-z-]+:{service}:[a-z0-9-]+:[0-9]{{12}}:{resource_type}:"
    for one in given:
        found = re.fullmatch(rf"({arn})?({name})(?::(?:[\w$-]+|\*))?", one, re.ASCII)
        if found is None:
            inputs.refuse(field, f"names or ARNs, without wildcards, of a {resource_type}", one)
        if found[1] is None and account is None:
            inputs.refuse("account", f"given where {field} are given by name", account)
        own = f"arn:{place['partition']}:{service}:{place['region']}:{account}:{resource_type}:"
        yield (found[1] or own) + found[2]


@cache
def _partition(region: str) -> str:
    import botocore.session
    from botocore.exceptions import UnknownRegionError

    try:
        return str(botocore.session.get_session().get_partition_for_region(region))
    except UnknownRegionError:
        inputs.refuse("stage.region", "a region that AWS has", region)
