"""What the tests do on a rehearsal beside the library: another process, another person."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from apigw_canary import AliasCanary, Canary, CanaryError, Decision, Preflight, RolloutPolicy, Stage
from apigw_canary.testing import ProcessDeath, Rehearsal

V2 = {"alias": "v2"}


class Store:
    """A caller's store, with compare-and-set."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.between: Callable[[], object] = lambda: None

    def load(self, key: str) -> str | None:
        return self.texts.get(key)

    def save(self, key: str, text: str, *, expected: str | None) -> None:
        self.between()
        if self.texts.get(key) != expected:
            raise RuntimeError("lost the race")
        self.texts[key] = text


PERCENT = "/canarySettings/percentTraffic"
CANARY = "/canarySettings"


def replace(path: str, value: str) -> dict[str, str]:
    return {"op": "replace", "path": path, "value": value}


def remove(path: str) -> dict[str, str]:
    return {"op": "remove", "path": path}


def copy(source: str, path: str) -> dict[str, str]:
    return {"op": "copy", "from": source, "path": path}


COPIES = (
    copy("/canarySettings/deploymentId", "/deploymentId"),
    copy("/canarySettings/stageVariableOverrides", "/variables"),
)


@lru_cache(maxsize=1)
def client(aws: Rehearsal) -> Any:
    """Somebody else's client; making one takes longer than most calls."""
    return aws.session.client("apigateway")


def finished(
    aws: Rehearsal, policy: RolloutPolicy, canary: Callable[[], Canary | AliasCanary]
) -> Decision:
    """The last decision of a rollout that is followed to its end; `canary` is asked each time."""
    while True:
        watched = canary()
        decision = policy.decide(watched.observe(policy))
        watched.apply(decision)
        if decision.final:
            return decision
        aws.sleep(decision.wait.total_seconds())


def patch(aws: Rehearsal, *operations: dict[str, str]) -> Any:
    """What somebody else does to the stage, with boto3."""
    return client(aws).update_stage(
        restApiId=aws.rest_api_id, stageName="prod", patchOperations=list(operations)
    )


def sent(aws: Rehearsal) -> list[str]:
    """The operations that were called so far."""
    return [call.operation for call in aws.calls]


def as_planned(aws: Rehearsal, plan: Preflight, act: Callable[[], Any]) -> Any:
    """What comes of an act, which sends API Gateway what was planned; or the first of it, and dies.

    Without the reads of metrics. Values and ids are masked here anew.
    """
    before, begin = _deployments(aws), len(aws.calls)
    planned = [(call.operation, json.loads(call.parameters)) for call in plan.calls]
    died = False
    try:
        return act()
    except ProcessDeath:
        died = True
        raise
    finally:
        sent = [call for call in aws.calls[begin:] if call.service == "apigateway"]
        sent = [call for call in sent if call.operation not in {"GetRestApis", "GetStages"}]
        new = _deployments(aws) - before
        masked = [(call.operation, _masked(call.parameters, new)) for call in sent]
        assert masked == (planned[: len(masked)] if died else planned)


def _deployments(aws: Rehearsal) -> set[str]:
    found = client(aws).get_deployments(restApiId=aws.rest_api_id, limit=500)["items"]
    aws.calls.pop()
    return {each["id"] for each in found}


def _masked(value: Any, new: set[str], path: str = "") -> Any:
    """Plain data with placeholders for new ids, records and values of variables."""
    if isinstance(value, Mapping):
        at = str(value.get("path", ""))
        return {key: _masked(each, new, at) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_masked(each, new) for each in value]
    if value in new:
        return "new-deployment"
    if path.startswith("/canarySettings/stageVariableOverrides/") and value not in {
        path,
        "replace",
    }:
        return f"<value of {path.rpartition('/')[2]}>"
    if isinstance(value, str):
        return re.sub(r"^apigw-canary:.*$", "<record>", value, flags=re.MULTILINE)
    return value


def fresh(aws: Rehearsal, **options: Any) -> Stage:
    """The stage as another process sees it: nothing is kept in memory."""
    return Stage(aws.rest_api_id, "prod", session=aws.session, sleep=aws.sleep, **options)


def new_deployment(aws: Rehearsal, **options: Any) -> str:
    """A deployment that somebody else makes."""
    return str(client(aws).create_deployment(restApiId=aws.rest_api_id, **options)["id"])


def description(aws: Rehearsal, deployment_id: str) -> str:
    """A deployment's description, as it is on AWS."""
    found = client(aws).get_deployment(restApiId=aws.rest_api_id, deploymentId=deployment_id)
    return str(found.get("description", ""))


def describe(aws: Rehearsal, deployment_id: str, text: str) -> None:
    """Somebody else writes a deployment's description."""
    client(aws).update_deployment(
        restApiId=aws.rest_api_id,
        deploymentId=deployment_id,
        patchOperations=[{"op": "replace", "path": "/description", "value": text}],
    )


def serving(aws: Rehearsal) -> tuple[str, dict[str, str], Any]:
    """What the stage serves: deployment, variables, canary; without a call on record."""
    state = client(aws).get_stage(restApiId=aws.rest_api_id, stageName="prod")
    aws.calls.pop()
    return (
        state["deploymentId"],
        dict(state.get("variables", {})),
        state.get("canarySettings"),
    )


def untrue(aws: Rehearsal, error: CanaryError) -> str:
    """What an error claims about the stage and is not so; empty where all is true."""
    known = error.state
    if known is None or known.stage is None or known.sent or not known.read_by_call:
        return ""  # it claims nothing about the stage now
    canary = known.stage.canary
    claimed = (
        known.stage.deployment_id,
        dict(known.stage.variables),
        canary and (canary.deployment_id, canary.percent, dict(canary.variables)),
    )
    deployment_id, variables, settings = serving(aws)
    now = (
        deployment_id,
        variables,
        settings
        and (
            settings["deploymentId"],
            settings["percentTraffic"],
            settings.get("stageVariableOverrides", {}),
        ),
    )
    return "" if claimed == now else f"{error!r} claims {claimed}, and the stage is {now}"


def uri(function: str) -> str:
    """An integration that calls the function."""
    return (
        "arn:aws:apigateway:eu-central-1:lambda:path/2015-03-31/functions/"
        f"arn:aws:lambda:eu-central-1:123456789012:function:{function}/invocations"
    )


ORDERS = uri("orders:${stageVariables.alias}")


def create_function(aws: Rehearsal, name: str, *aliases: str) -> Any:
    """A Lambda function with a version for each alias; a client of Lambda."""
    role = aws.session.client("iam").create_role(
        RoleName=f"role-of-{name}", AssumeRolePolicyDocument="{}"
    )["Role"]["Arn"]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("index.py", "")
    client: Any = aws.session.client("lambda")
    client.create_function(
        FunctionName=name,
        Runtime="python3.12",
        Role=role,
        Handler="index.handler",
        Code={"ZipFile": packed.getvalue()},
    )
    for alias in aliases:
        version = client.publish_version(FunctionName=name)["Version"]
        client.create_alias(FunctionName=name, Name=alias, FunctionVersion=version)
    return client
