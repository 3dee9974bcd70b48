"""What becomes of a stage: its canary, its variables and patch operations, functions on data.

Texts of refusals are those recorded against AWS.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from typing import Literal, NoReturn, TypeAlias

from apigw_canary.testing.answers import Json, RehearsalError, bad_request, copied, unknown

# Recorded as it stands, missing commas and all.
_VALID_PATHS = (
    "[/deploymentId, /description, /cacheClusterEnabled, /cacheClusterSize, "
    "/clientCertificateId, /accessLogSettings, /accessLogSettings/destinationArn, "
    "/accessLogSettings/format, /{resourcePath}/{httpMethod}/metrics/enabled, "
    "/{resourcePath}/{httpMethod}/logging/dataTrace, /{resourcePath}/{httpMethod}/logging"
    "/loglevel, /{resourcePath}/{httpMethod}/throttling/burstLimit/{resourcePath}/{httpMethod}"
    "/throttling/rateLimit/{resourcePath}/{httpMethod}/caching/ttlInSeconds, "
    "/{resourcePath}/{httpMethod}/caching/enabled, /{resourcePath}/{httpMethod}/caching"
    "/dataEncrypted, /{resourcePath}/{httpMethod}/caching/requireAuthorizationForCacheControl, "
    "/{resourcePath}/{httpMethod}/caching/unauthorizedCacheControlHeaderStrategy, "
    "/*/*/metrics/enabled, /*/*/logging/dataTrace, /*/*/logging/loglevel, "
    "/*/*/throttling/burstLimit /*/*/throttling/rateLimit /*/*/caching/ttlInSeconds, "
    "/*/*/caching/enabled, /*/*/caching/dataEncrypted, /*/*/caching"
    "/requireAuthorizationForCacheControl, /*/*/caching/unauthorizedCacheControlHeaderStrategy, "
    "/variables/{variable_name}, /tracingEnabled]"
)
_PROMOTING_COPIES = {
    ("/canarySettings/deploymentId", "/deploymentId"),
    ("/canarySettings/stageVariableOverrides", "/variables"),
}
_MOST_VARIABLES = 100

AbsentCanary: TypeAlias = Literal["unknown", "refused", "ignored"]
"""What becomes of the removal of a canary that is not there."""


def patched(
    stage: Json,
    operations: Sequence[Json],
    deployments: Container[str],
    absent_canary: AbsentCanary = "unknown",
) -> Json:
    """The stage after the patch operations, each of which sees what the ones before it did.

    `stage` itself is left alone: a call refused at its third operation has changed nothing.
    """
    if not operations:
        unknown("UpdateStage without patch operations")
    if {"copy", "remove"} <= {operation.get("op") for operation in operations}:
        unknown("copy and remove in one call")
    result: Json = copied(stage)
    for operation in operations:
        match operation:
            case {"op": "add", "path": path}:
                raise bad_request(f"Invalid add operation with path: {path}")
            case {"op": "replace", "path": "/deploymentId"} if "canarySettings" in stage | result:
                # Or one that came or went in this very call: nobody has tried that either.
                unknown("replace /deploymentId while a canary is enabled")
            case {"op": "replace", "path": path, "value": value}:
                _replace(result, path, value, deployments)
            case {"op": "remove", "path": path}:
                _remove(result, path, absent_canary)
            case {"op": "copy", "path": path, "from": source}:
                _copy(result, source, path)
            case _:
                unknown(f"patch operation {operation}")
    return result


def new_canary(settings: Json, deployment_id: str) -> Json:
    """The canarySettings of a stage, from those given to CreateDeployment or CreateStage."""
    if "percentTraffic" not in settings:
        unknown("canarySettings without percentTraffic")
    canary: Json = {
        "deploymentId": deployment_id,
        "percentTraffic": _percent(str(settings["percentTraffic"])),
        "useStageCache": settings.get("useStageCache", False),
    }
    if settings.get("stageVariableOverrides"):
        canary["stageVariableOverrides"] = checked_variables(settings["stageVariableOverrides"])
    return canary


def checked_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """The same variables, if API Gateway would take them."""
    if len(variables) > _MOST_VARIABLES:
        unknown(f"more than {_MOST_VARIABLES} stage variables, of which only the limit is known")
    for name, value in variables.items():
        if not re.fullmatch(r"[A-Za-z0-9_]{1,64}", name):
            raise bad_request(
                "Invalid stage variable name: "
                "Please use names with alphanumeric characters and the symbol '_'."
            )
        if not re.fullmatch(r"[A-Za-z0-9\-._~:/?#&=,]{1,512}", value):
            raise bad_request(
                "Invalid stage variable value: "
                "Please use values with alphanumeric characters and the symbols "
                "' ', -', '.', '_', ':', '/', '?', '&', '=', and ','."
            )
    return dict(variables)


def effective_variables(stage: Json, *, canary: bool) -> dict[str, str]:
    """The stage variables a request sees; for a canary request, overrides lie over the stage's."""
    return {**stage.get("variables", {}), **(overrides(stage) if canary else {})}


def overrides(stage: Json) -> dict[str, str]:
    """The canary's stage-variable overrides; empty without a canary or without overrides."""
    found: dict[str, str] = stage.get("canarySettings", {}).get("stageVariableOverrides", {})
    return found


def require_deployment(deployment_id: str, deployments: Container[str]) -> None:
    """Refuse a deployment that the API does not have."""
    if deployment_id not in deployments:
        raise bad_request("Deployment id does not exist")


def _replace(stage: Json, path: str, value: str, deployments: Container[str]) -> None:
    match path.split("/")[1:]:
        case ["canarySettings", "deploymentId"]:
            require_deployment(value, deployments)
            _canary_or_new(stage)["deploymentId"] = value
        case ["canarySettings", "percentTraffic"]:
            _canary_or_new(stage)["percentTraffic"] = _percent(value)
        case ["canarySettings", "useStageCache"]:
            if value not in {"true", "false"}:
                unknown(f"useStageCache {value!r}")
            _canary(stage, path)["useStageCache"] = value == "true"
        case ["canarySettings", "stageVariableOverrides", name]:
            canary = _canary(stage, path)
            changed = {**overrides(stage), name: value}
            canary["stageVariableOverrides"] = checked_variables(changed)
        case ["canarySettings", *_]:
            raise bad_request(
                f"Invalid method setting path: {path}. Must be one of: {_VALID_PATHS}"
            )
        case ["deploymentId"]:
            require_deployment(value, deployments)
            stage["deploymentId"] = value
        case ["variables", name]:
            stage["variables"] = checked_variables({**stage.get("variables", {}), name: value})
        case _:
            _not_simulated(f"replace {path}")


def _remove(stage: Json, path: str, absent_canary: AbsentCanary) -> None:
    match path.split("/")[1:]:
        case ["canarySettings"] if "canarySettings" not in stage and absent_canary == "ignored":
            pass
        case ["canarySettings"] if "canarySettings" not in stage and absent_canary == "refused":
            raise bad_request("Made up: there is no canary to remove")
        case ["canarySettings"]:
            _canary(stage, path)
            del stage["canarySettings"]
        case ["canarySettings", "stageVariableOverrides", name]:
            _remove_variable(_canary(stage, path), "stageVariableOverrides", name)
        case ["canarySettings", *_]:
            setting = path.removeprefix("/")
            raise bad_request(
                f"Cannot remove method setting {setting} "
                "because there is no method setting for this method "
            )
        case ["variables", name]:
            _remove_variable(stage, "variables", name)
        case _:
            _not_simulated(f"remove {path}")


def _copy(stage: Json, source: str, path: str) -> None:
    if (source, path) not in _PROMOTING_COPIES:
        raise bad_request(
            f"Invalid copy operation with path: {path} and from {source}. "
            "Valid copy:path are [/deploymentId, /variables] and "
            "valid copy:from are "
            "[/canarySettings/deploymentId, /canarySettings/stageVariableOverrides]"
        )
    if "canarySettings" not in stage:
        raise bad_request("Promotion not available. Canary does not exist.")
    if path == "/deploymentId":
        stage["deploymentId"] = stage["canarySettings"]["deploymentId"]
    elif overrides(stage):
        stage["variables"] = checked_variables(effective_variables(stage, canary=True))


def _canary_or_new(stage: Json) -> Json:
    """The stage's canary; API Gateway silently makes one of the stage's own deployment at 0 %."""
    new = {"deploymentId": stage["deploymentId"], "percentTraffic": 0.0, "useStageCache": False}
    canary: Json = stage.setdefault("canarySettings", new)
    return canary


def _canary(stage: Json, path: str) -> Json:
    if "canarySettings" not in stage:
        unknown(f"a patch of {path} on a stage without a canary")
    canary: Json = stage["canarySettings"]
    return canary


def _remove_variable(holder: Json, key: str, name: str) -> None:
    if name not in holder.get(key, {}):
        unknown(f"removal of {name} from {key}, where it is not")
    del holder[key][name]
    if not holder[key]:
        del holder[key]


def _percent(text: str) -> float:
    if (
        not re.fullmatch(r"\d{1,3}(\.\d+)?", text)
        or float(text) > 100
        or float(text) != round(float(text), 2)
    ):
        unknown(f"percentTraffic {text}; known are 0 to 100 in steps of 0.01")
    return float(text)


def _not_simulated(operation: str) -> NoReturn:
    raise RehearsalError(
        f"the rehearsal does not simulate {operation}; rehearsal(settings=…) sets the stage's "
        "settings"
    )
