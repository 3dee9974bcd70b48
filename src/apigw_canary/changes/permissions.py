"""IAM: the permissions that operations need, as a policy document.

Tables, and one function that reads them. API Gateway authorises by HTTP verb and path, other
services by the name of the call.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol, get_args, runtime_checkable

from apigw_canary.aws import partition
from apigw_canary.metrics.logs import AccessLogs
from apigw_canary.model import CANARY_GROUP, AliasState, execution_log_group
from apigw_canary.policy import RolloutPolicy
from apigw_canary.values import validation

Operation = Literal[
    "accept_production_changes",
    "allow_invocation",
    "analyze",
    "apply",
    "canary",
    "check",
    "clean_up",
    "compare",
    "describe",
    "disable",
    "enable_canary",
    "failures",
    "find",
    "hold",
    "log_groups",
    "observe",
    "promote",
    "resume",
    "revert",
    "rollback",
    "shift",
    "smoke_test",
]
"""A method of `Stage` or `Canary`, and most of them of `LambdaAlias` or `AliasCanary`."""

Source = Literal["AccessLogs", "CloudWatchMetrics", "LambdaMetrics"]
"""A metric source of this library."""

_API = "arn:{partition}:apigateway:{region}::/restapis/{rest_api_id}"

_RESOURCES: Mapping[str, tuple[str, ...]] = {
    "ApiResources": (_API + "/resources",),
    "Authorizers": (_API + "/authorizers",),
    "Apis": ("arn:{partition}:apigateway:{region}::/restapis",),
    "Cache": (_API + "/stages/{stage}/cache/data",),
    "Deployments": (_API + "/deployments",),
    "EachDeployment": (_API + "/deployments/*",),
    # Composite alarms are described to those only whose permission is for everything.
    "Everything": ("*",),
    "Functions": ("{named}",),
    "FunctionsAndVersions": ("{named}", "{named}:*"),
    # A query is authorised on "...:log-group:name:log-stream:".
    "LogGroups": ("{named}:*",),
    # Which resource and verb a request is sent to is found out from the API.
    "Methods": (_API + "/resources/*/methods/*",),
    "MetricNames": ("*",),
    "Stage": (_API + "/stages/{stage}",),
    "Stages": (_API + "/stages",),
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
    "DeleteDeployment": ("apigateway:DELETE", "EachDeployment"),
    "FlushStageCache": ("apigateway:DELETE", "Cache"),
    "GetAuthorizers": ("apigateway:GET", "Authorizers"),
    "GetDeployment": ("apigateway:GET", "EachDeployment"),
    "GetDeployments": ("apigateway:GET", "Deployments"),
    "GetResources": ("apigateway:GET", "ApiResources"),
    "GetRestApis": ("apigateway:GET", "Apis"),
    "GetStage": ("apigateway:GET", "Stage"),
    "GetStages": ("apigateway:GET", "Stages"),
    "TestInvokeMethod": ("apigateway:POST", "Methods"),
    "UpdateDeployment": ("apigateway:PATCH", "EachDeployment"),
    "UpdateStage": ("apigateway:PATCH", "Stage"),
    "DescribeAlarmHistory": ("cloudwatch:DescribeAlarmHistory", "Everything"),
    "DescribeAlarms": ("cloudwatch:DescribeAlarms", "Everything"),
    "GetMetricData": ("cloudwatch:GetMetricData", "Everything"),
    "ListMetrics": ("cloudwatch:ListMetrics", "MetricNames"),
    "AddPermission": ("lambda:AddPermission", "FunctionsAndVersions"),
    "GetAlias": ("lambda:GetAlias", "Functions"),
    "GetFunctionConfiguration": ("lambda:GetFunctionConfiguration", "FunctionsAndVersions"),
    "GetPolicy": ("lambda:GetPolicy", "FunctionsAndVersions"),
    "GetProvisionedConcurrencyConfig": (
        "lambda:GetProvisionedConcurrencyConfig",
        "FunctionsAndVersions",
    ),
    "UpdateAlias": ("lambda:UpdateAlias", "Functions"),
    "DescribeLogGroups": ("logs:DescribeLogGroups", "Everything"),
    "GetQueryResults": ("logs:GetQueryResults", "Everything"),
    "StartQuery": ("logs:StartQuery", "LogGroups"),
    "StopQuery": ("logs:StopQuery", "Everything"),
}
"""An AWS call, the action it is authorised as, and the statement with its resources."""

_LOOKS = ("GetStage", "GetDeployment")
_CHANGES = (*_LOOKS, "UpdateStage")
_FINDS = (*_LOOKS, "GetDeployments")
_NOTES = (*_FINDS, "UpdateDeployment")
_ENDS = (*_CHANGES, "GetDeployments", "UpdateDeployment")

_NEEDS: Mapping[str, tuple[str, ...]] = {
    "allow_invocation": (
        "GetStage",
        "GetResources",
        "GetFunctionConfiguration",
        "GetPolicy",
        "AddPermission",
    ),
    "accept_production_changes": _NOTES,
    "analyze": _FINDS,
    "apply": _ENDS,
    "canary": _FINDS,
    "check": (*_LOOKS, "GetAuthorizers", "GetDeployments", "GetResources"),
    "clean_up": ("GetDeployments", "GetStages", "DeleteDeployment"),
    "compare": (*_LOOKS, "GetRestApis", "GetStages", "GetMetricData", "ListMetrics"),
    "describe": _FINDS,
    "disable": _ENDS,
    "enable_canary": (
        *_CHANGES,
        "GetAuthorizers",
        "GetDeployments",
        "GetResources",
        "CreateDeployment",
        "UpdateDeployment",
    ),
    "failures": (*_LOOKS, "StartQuery", "GetQueryResults", "StopQuery", "DescribeLogGroups"),
    "find": ("GetRestApis",),
    "hold": _NOTES,
    "log_groups": ("GetStage", "DescribeLogGroups"),
    "observe": _NOTES,
    "promote": _ENDS,
    "resume": _NOTES,
    "revert": (*_CHANGES, "GetDeployments", "UpdateDeployment"),
    "rollback": _ENDS,
    "shift": (*_CHANGES, "GetDeployments"),
    "smoke_test": ("GetStage", "GetResources", "TestInvokeMethod"),
}
"""A method of `Stage` or `Canary`, and the AWS calls it may make."""

_CHECK_OF_FUNCTIONS = ("GetFunctionConfiguration", "GetPolicy")

_CHANGES_OF_ALIAS = ("GetAlias", "UpdateAlias")

_NEEDS_OF_ALIAS: Mapping[str, tuple[str, ...]] = {
    "accept_production_changes": _CHANGES_OF_ALIAS,
    "hold": _CHANGES_OF_ALIAS,
    "resume": _CHANGES_OF_ALIAS,
    "analyze": ("GetAlias",),
    "apply": _CHANGES_OF_ALIAS,
    "canary": ("GetAlias",),
    "compare": ("GetAlias", "GetMetricData"),
    "describe": ("GetAlias",),
    "disable": _CHANGES_OF_ALIAS,
    "enable_canary": (
        *_CHANGES_OF_ALIAS,
        "GetFunctionConfiguration",
        "GetProvisionedConcurrencyConfig",
    ),
    "observe": ("GetAlias",),
    "promote": _CHANGES_OF_ALIAS,
    "revert": (*_CHANGES_OF_ALIAS, "GetFunctionConfiguration"),
    "rollback": _CHANGES_OF_ALIAS,
    "shift": _CHANGES_OF_ALIAS,
}
"""The same of `LambdaAlias` and `AliasCanary`."""

_READS: Mapping[Source, tuple[str, ...]] = {
    "AccessLogs": (
        "StartQuery",
        "GetQueryResults",
        "StopQuery",
        "GetRestApis",
        "GetStages",
        "GetMetricData",
    ),
    "CloudWatchMetrics": ("GetRestApis", "GetStages", "GetMetricData", "ListMetrics"),
    "LambdaMetrics": ("GetMetricData",),
}
"""A metric source, and the AWS calls it may make."""

_ALARMS: Mapping[str, tuple[str, ...]] = {
    "analyze": ("DescribeAlarms", "DescribeAlarmHistory"),
    "check": ("DescribeAlarms",),
    "enable_canary": ("DescribeAlarms",),
    "observe": ("DescribeAlarms", "DescribeAlarmHistory"),
}
"""What is given a policy, and the AWS calls for its alarms."""

_WATCHING = {"analyze", "check", "observe"}
"""What reads metrics."""

_ROLLOUT = ("apply", "canary", "describe", "disable", "enable_canary", "observe", "revert")


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


@runtime_checkable
class AliasPlace(Protocol):
    """What is needed of a `LambdaAlias`."""

    @property
    def region(self) -> str:
        """The region, such as "eu-central-1"."""
        ...

    @property
    def function(self) -> str:
        """The function's name."""
        ...


def permissions(
    place: Place | AliasPlace,
    *operations: Operation,
    policy: RolloutPolicy | None = None,
    reads: Sequence[Source] | None = None,
    flush_cache: bool = False,
    log_groups: Sequence[str] = (),
    functions: Sequence[str] = (),
    account: str | None = None,
) -> dict[str, Any]:
    """Return the IAM policy document that allows these operations on a stage or alias, and no more.

    `place` is a `Stage` or a `LambdaAlias`. `operations` are names of its methods and of its
    canary's methods, such as "promote"; without any, the document allows a whole rollout and its
    reverting. `reads` names the metric sources that "observe", "analyze" and "check" read: by
    default that of `place`, and none if that is your own source. `policy` adds the permissions to
    read its alarms, and the reads of "enable_canary" with a policy. `flush_cache` is the argument
    of "promote".

    `log_groups` are the groups of the access logs that "AccessLogs" and "failures" read; for
    "failures" the groups of execution logs are added. `functions` are the Lambda functions behind a
    stage. Give both as ARNs, or as names with `account`, the account's id as a string of twelve
    digits. A `LambdaAlias` needs only the account. AWS is not called. Pass the document to
    `json.dumps`.
    """
    where = _where(place)
    needs = _NEEDS
    sources: tuple[Source, ...] = get_args(Source)
    default: Source = "CloudWatchMetrics"
    if "function" in where:
        if functions or flush_cache:
            field = "functions" if functions else "flush_cache"
            validation.refuse(field, "left out for an alias", functions or flush_cache)
        functions = [where["function"]]
        needs = _NEEDS_OF_ALIAS
        default = "LambdaMetrics"
        sources = (default,)
    if reads is None:
        reads, log_groups = _own(place, default, log_groups)
    for operation in operations:
        validation.choice(operation, "operations", tuple(needs))
    for source in reads:
        validation.choice(source, "reads", sources)
    asked = set[Any](operations or _ROLLOUT)
    calls = {call for each in asked for call in needs[each]}
    if asked & _WATCHING or (policy is not None and "enable_canary" in asked):
        calls.update(*(_READS[source] for source in reads))
    if policy is not None:
        calls.update(_of_alarms(asked, policy))
    if "check" in asked and functions:
        calls.update(_CHECK_OF_FUNCTIONS)
    if "promote" in asked and flush_cache:
        calls.add("FlushStageCache")
    log_groups = [*log_groups, *_of_execution_logs(asked, where)]
    named = {
        "functions": list(_arns(functions, account, where, _FUNCTION)),
        "log_groups": list(_arns(log_groups, account, where, _LOG_GROUP)),
    }
    return {"Version": "2012-10-17", "Statement": list(_statements(calls, where, named))}


def _of_execution_logs(asked: Iterable[str], where: Mapping[str, str]) -> Iterator[str]:
    """The groups that `failures` may read beside access logs."""
    if "failures" in asked:
        group = execution_log_group(where["rest_api_id"], where["stage"])
        yield from (group, group + CANARY_GROUP)


def _own(
    place: object, default: Source, log_groups: Sequence[str]
) -> tuple[Sequence[Source], Sequence[str]]:
    """The source that a place has, as far as it is of this library, and the logs it reads."""
    metrics = getattr(place, "metrics", None)
    if metrics is None:
        return (default,), log_groups
    reads = [source for source in get_args(Source) if source == type(metrics).__name__]
    if isinstance(metrics, AccessLogs) and metrics.log_group is not None:
        log_groups = log_groups or (metrics.log_group,)
    return reads, log_groups


def _of_alarms(asked: Iterable[str], policy: RolloutPolicy) -> Iterator[str]:
    if not isinstance(policy, RolloutPolicy):
        validation.refuse("policy", "a RolloutPolicy or None", policy)
    if policy.alarms:
        for each in asked:
            yield from _ALARMS.get(each, ())


def _statements(
    calls: Iterable[str], where: Mapping[str, str], named: Mapping[str, Sequence[str]]
) -> Iterator[dict[str, Any]]:
    actions = defaultdict[str, set[str]](set)
    for call in calls:
        action, sid = _CALLS[call]
        actions[sid].add(action)
    for sid in sorted(actions):
        templates = _RESOURCES[sid]
        if sid not in _NAMED:
            resources = [template.format(**where) for template in templates]
        elif arns := named[_NAMED[sid]]:
            resources = [template.format(named=arn) for arn in arns for template in templates]
        else:
            validation.refuse(
                _NAMED[sid], "given, because these operations read or change them", ()
            )
        yield {
            "Sid": sid,
            "Effect": "Allow",
            "Action": sorted(actions[sid]),
            "Resource": resources,
        }


def _where(place: Place | AliasPlace) -> dict[str, str]:
    """What is filled into the resources; of an alias the function."""
    where = {"partition": partition(place.region), "region": place.region}
    if isinstance(place, AliasPlace):
        return where | {"function": place.function}
    if isinstance(place, AliasState):
        return where | {"function": place.rest_api_id}
    return where | {"rest_api_id": place.rest_api_id, "stage": place.name}


_FUNCTION = ("functions", "lambda", "function", r"[\w-]{1,140}")
_LOG_GROUP = ("log_groups", "logs", "log-group", r"[\w./#-]{1,512}")
"""Argument, service, type of resource, and its name as botocore's service models give it."""


def _arns(
    given: Sequence[str],
    account: str | None,
    where: Mapping[str, str],
    kind: tuple[str, str, str, str],
) -> Iterator[str]:
    """ARNs of what is named, without version, alias, or the `:*` that a console shows.

    A wildcard in a name would allow more than was meant.
    """
    field, service, resource_type, name = kind
    if account is not None and not re.fullmatch("[0-9]{12}", account):
        validation.refuse("account", "a number of twelve digits, as a string", account)
    arn = rf"arn:[a-z-]+:{service}:[a-z0-9-]+:[0-9]{{12}}:{resource_type}:"
    for one in given:
        found = re.fullmatch(rf"({arn})?({name})(?::(?:[\w$-]+|\*))?", one, re.ASCII)
        if found is None:
            validation.refuse(field, f"names or ARNs of a {resource_type}, without wildcards", one)
        if found[1] is None and account is None:
            validation.refuse("account", f"given if {field} are given by name", account)
        own = f"arn:{where['partition']}:{service}:{where['region']}:{account}:{resource_type}:"
        yield (found[1] or own) + found[2]
