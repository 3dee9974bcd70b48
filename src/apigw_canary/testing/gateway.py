"""API Gateway's control plane as a state machine on JSON types.

An operation and its parameters go in, an answer or a refusal comes out. Texts of refusals are those
recorded against AWS.
"""

from __future__ import annotations

import inspect
import random
import re
import string
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Literal

import attrs

from apigw_canary.testing.answers import (
    Json,
    Refusal,
    RehearsalError,
    bad_request,
    check_simulated,
    copied,
    unknown,
)
from apigw_canary.testing.patches import (
    AbsentCanary,
    checked_variables,
    new_canary,
    overrides,
    patched,
    require_deployment,
)
from apigw_canary.testing.resources import ANY, METHODS, Method, Resources

ACCOUNT_ID = "123456789012"
_LONGEST_DESCRIPTION = 64 * 1024
_DEFAULT_PAGE = 25
_LARGEST_PAGE = 500
_SETTINGS = {"accessLogSettings", "cacheClusterEnabled", "methodSettings"}


@attrs.define
class _Api:
    described: Json
    resources: Resources
    deployments: dict[str, Json] = attrs.field(factory=dict[str, Json])
    summaries: dict[str, Json] = attrs.field(factory=dict[str, Json])
    stages: dict[str, Json] = attrs.field(factory=dict[str, Json])

    def stage(self, name: str) -> Json:
        if name not in self.stages:
            raise Refusal("NotFoundException", "Invalid stage identifier specified", 404)
        return self.stages[name]

    def deployment(self, deployment_id: str) -> Json:
        if deployment_id not in self.deployments:
            raise Refusal("NotFoundException", "Invalid Deployment identifier specified", 404)
        return self.deployments[deployment_id]


class Gateway:
    """REST APIs with their deployments and stages.

    Each operation is a method, named and with parameters as in boto3; a parameter that no method
    names is not simulated. A call is applied wholly or, when it is refused, not at all.
    """

    def __init__(
        self,
        now: Callable[[], datetime],
        rng: random.Random,
        methods: Mapping[str, Method] = METHODS,
        absent_canary: AbsentCanary = "unknown",
    ) -> None:
        self._now = now
        self._rng = rng
        self._methods = methods
        self._absent_canary: AbsentCanary = absent_canary
        self._apis: dict[str, _Api] = {}

    def answer(self, operation: str, parameters: Json) -> Json:
        """Carry out one API call."""
        method: Callable[..., Json] | None = getattr(type(self), _snake(operation), None)
        if method is None:
            raise RehearsalError(f"the rehearsal does not simulate {operation} of API Gateway")
        arguments = {_snake(name): value for name, value in parameters.items()}
        check_simulated(operation, arguments, _parameters(method))
        # A copy, so that no caller holds a piece of the gateway's own state.
        answer: Json = copied(method(self, **arguments))
        return answer

    def existing_stage(self, rest_api_id: str, name: str) -> Json:
        """A stage that is known to exist, to be read only."""
        return self._apis[rest_api_id].stages[name]

    def configure(self, rest_api_id: str, name: str, settings: Json) -> None:
        """Give a stage settings that no operation simulated here sets."""
        check_simulated("a stage", settings, _SETTINGS)
        self._apis[rest_api_id].stage(name).update(settings)

    def method(
        self, rest_api_id: str, resource_id: str, verb: str, addressed: Literal["verb", "ANY"]
    ) -> tuple[str, Method]:
        """The path and the method of the API as it is edited that a test invocation names.

        `addressed`: how a method `ANY` is, where the resource does not have the verb itself.
        """
        path, methods = self._api(rest_api_id).resources.resource(resource_id)
        if verb in methods and verb != ANY:
            return path, methods[verb]
        if ANY in methods:
            if (verb == ANY) is (addressed == ANY):
                return path, methods[ANY]
            if verb == ANY:
                unknown("TestInvokeMethod of the method ANY where requests name their own verb")
        raise Refusal("NotFoundException", "Invalid Method identifier specified", 404)

    def edit(self, rest_api_id: str, methods: Mapping[str, Method | None]) -> None:
        """Change methods of an API as it is being edited."""
        self._apis[rest_api_id].resources.edit(methods)

    def create_rest_api(self, *, name: str) -> Json:
        """Make an API, with nothing in it."""
        described: Json = {"id": self._new_id(10), "name": name, "createdDate": self._timestamp()}
        self._apis[described["id"]] = _Api(described, Resources(self._methods))
        return described

    def get_rest_api(self, *, rest_api_id: str) -> Json:
        """Describe an API."""
        return self._api(rest_api_id).described

    def get_rest_apis(self, *, position: str = "", limit: int = _DEFAULT_PAGE) -> Json:
        """List the APIs."""
        return _page({key: api.described for key, api in self._apis.items()}, position, limit)

    def create_deployment(
        self,
        *,
        rest_api_id: str,
        stage_name: str | None = None,
        stage_description: str | None = None,
        description: str | None = None,
        variables: Mapping[str, str] | None = None,
        canary_settings: Json | None = None,
    ) -> Json:
        """Publish the API; to a stage if one is named, which is created if it does not exist.

        On an existing stage, canary settings start a canary or take over the running one;
        without them production is replaced at once.
        """
        api = self._api(rest_api_id)
        deployment = {
            "id": self._new_id(6),
            "createdDate": self._timestamp(),
            **_description(description),
        }
        stage = api.stages.get(stage_name or "")
        if canary_settings is not None:
            _check_canary_deployment(stage_name, stage)
        if stage is not None:
            if variables is not None or stage_description is not None:
                unknown("CreateDeployment with variables or stageDescription for an existing stage")
            stage = self._deployed(stage, deployment["id"], canary_settings)
        elif stage_name is not None:
            stage = self._new_stage(stage_name, deployment["id"], stage_description, variables)
        if stage is not None:
            api.stages[stage["stageName"]] = stage
        api.deployments[deployment["id"]] = deployment
        api.summaries[deployment["id"]] = api.resources.summary()
        return deployment

    def get_deployment(
        self, *, rest_api_id: str, deployment_id: str, embed: Sequence[str] = ()
    ) -> Json:
        """Describe a deployment, with the summary of its methods if asked for."""
        api = self._api(rest_api_id)
        deployment = api.deployment(deployment_id)
        if not embed:
            return deployment
        if list(embed) != ["apisummary"]:
            unknown(f"GetDeployment with embed={embed}")
        return deployment | {"apiSummary": api.summaries[deployment_id]}

    def get_resources(
        self,
        *,
        rest_api_id: str,
        position: str = "",
        limit: int = _DEFAULT_PAGE,
        embed: Sequence[str] = (),
    ) -> Json:
        """List the resources of the API as it is being edited, with their methods."""
        if list(embed) != ["methods"]:
            unknown("GetResources without its methods embedded")
        return _page(self._api(rest_api_id).resources.listed(), position, limit)

    def get_authorizers(
        self, *, rest_api_id: str, position: str = "", limit: int = _DEFAULT_PAGE
    ) -> Json:
        """List the authorizers: none, they are not simulated."""
        self._api(rest_api_id)
        return _page({}, position, limit)

    def get_deployments(
        self, *, rest_api_id: str, position: str = "", limit: int = _DEFAULT_PAGE
    ) -> Json:
        """List the deployments by id, hence in no order that means anything: AWS promises none."""
        return _page(self._api(rest_api_id).deployments, position, limit)

    def update_deployment(
        self, *, rest_api_id: str, deployment_id: str, patch_operations: Sequence[Json] = ()
    ) -> Json:
        """Replace the description."""
        deployment = self._api(rest_api_id).deployment(deployment_id)
        match patch_operations:
            case [{"op": "replace", "path": "/description", "value": value}]:
                deployment.update(_description(value))
            case _:
                unknown(f"UpdateDeployment other than replace /description: {patch_operations}")
        return deployment

    def delete_deployment(self, *, rest_api_id: str, deployment_id: str) -> Json:
        """Delete a deployment that no stage and no canary uses."""
        api = self._api(rest_api_id)
        api.deployment(deployment_id)
        for stage in api.stages.values():
            canary = stage.get("canarySettings", stage)
            if deployment_id in {stage["deploymentId"], canary["deploymentId"]}:
                raise bad_request(
                    "Active stages pointing to this deployment must be moved or deleted"
                )
        del api.deployments[deployment_id]
        return {}

    def create_stage(
        self,
        *,
        rest_api_id: str,
        stage_name: str,
        deployment_id: str,
        description: str | None = None,
        variables: Mapping[str, str] | None = None,
        canary_settings: Json | None = None,
    ) -> Json:
        """Make a stage of a deployment, with a canary if settings for one are given."""
        api = self._api(rest_api_id)
        if stage_name in api.stages:
            raise Refusal("ConflictException", "Stage already exists", 409)
        require_deployment(deployment_id, api.deployments)
        stage = self._new_stage(stage_name, deployment_id, description, variables)
        if canary_settings is not None:
            canary_deployment_id = canary_settings.get("deploymentId", "")
            require_deployment(canary_deployment_id, api.deployments)
            stage["canarySettings"] = new_canary(canary_settings, canary_deployment_id)
        api.stages[stage_name] = stage
        return stage

    def get_stage(self, *, rest_api_id: str, stage_name: str) -> Json:
        """Describe a stage, and its canary if it has one."""
        return self._api(rest_api_id).stage(stage_name)

    def flush_stage_cache(self, *, rest_api_id: str, stage_name: str) -> Json:
        """Empty the cache of a stage that has one; what it held is not simulated."""
        if not self._api(rest_api_id).stage(stage_name).get("cacheClusterEnabled"):
            unknown("FlushStageCache of a stage without a cache")
        return {}

    def get_stages(self, *, rest_api_id: str) -> Json:
        """List the stages."""
        return {"item": list(self._api(rest_api_id).stages.values())}

    def update_stage(
        self, *, rest_api_id: str, stage_name: str, patch_operations: Sequence[Json] = ()
    ) -> Json:
        """Apply patch operations to a stage."""
        api = self._api(rest_api_id)
        stage = patched(
            api.stage(stage_name), patch_operations, api.deployments, self._absent_canary
        )
        api.stages[stage_name] = {**stage, "lastUpdatedDate": self._timestamp()}
        return api.stages[stage_name]

    def _api(self, rest_api_id: str) -> _Api:
        if rest_api_id not in self._apis:
            message = f"Invalid API identifier specified {ACCOUNT_ID}:{rest_api_id}"
            raise Refusal("NotFoundException", message, 404)
        return self._apis[rest_api_id]

    def _new_stage(
        self,
        name: str,
        deployment_id: str,
        description: str | None,
        variables: Mapping[str, str] | None,
    ) -> Json:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", name):
            unknown(f"a stage named {name!r}")
        return {
            "stageName": name,
            "deploymentId": deployment_id,
            "cacheClusterEnabled": False,
            "cacheClusterStatus": "NOT_AVAILABLE",
            "methodSettings": {},
            "tracingEnabled": False,
            "createdDate": self._timestamp(),
            "lastUpdatedDate": self._timestamp(),
            **_description(description),
            **({"variables": checked_variables(variables)} if variables else {}),
        }

    def _deployed(self, old: Json, deployment_id: str, canary_settings: Json | None) -> Json:
        new = {**old, "lastUpdatedDate": self._timestamp()}
        if canary_settings is not None:
            new["canarySettings"] = new_canary(canary_settings, deployment_id)
            if overrides(old).keys() - overrides(new).keys():
                unknown("whether overrides of a canary that CreateDeployment takes over stay")
        elif "canarySettings" in old:
            raise bad_request(
                "Invalid deployment content specified.Non canary deployment not supported on stage "
                f"{old['stageName']} because Canary is enabled. "
                "Provide CanarySettings in deploymentInput."
            )
        else:
            new["deploymentId"] = deployment_id
        return new

    def _new_id(self, length: int) -> str:
        return "".join(self._rng.choices(string.ascii_lowercase + string.digits, k=length))

    def _timestamp(self) -> datetime:
        return self._now().replace(microsecond=0)  # AWS keeps whole seconds


@cache
def _parameters(method: Callable[..., Json]) -> Collection[str]:
    return inspect.signature(method).parameters.keys() - {"self"}


@cache
def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _check_canary_deployment(stage_name: str | None, stage: Json | None) -> None:
    invalid = "Invalid deployment content specified."
    if not stage_name:
        raise bad_request(
            f"{invalid}Non null and non empty stageName must be provided for canary deployment. "
            f"Provided value is {'null' if stage_name is None else ''}"
        )
    if stage is None:
        raise bad_request(
            f"{invalid}Stage {stage_name} must already be created "
            "before making a canary release deployment"
        )


def _description(text: str | None) -> Json:
    """The description as an entry of what it describes; absent is absent."""
    if text is None:
        return {}
    if not 0 < len(text.encode()) <= _LONGEST_DESCRIPTION:
        unknown(f"a description that is empty or longer than {_LONGEST_DESCRIPTION} bytes")
    return {"description": text}


def _page(items: Mapping[str, Json], position: str, limit: int) -> Json:
    """One page of a list.

    The position is the id that comes next, and stays right when something before it is deleted.
    """
    if not 1 <= limit <= _LARGEST_PAGE:
        unknown(f"a page of {limit}; known are 1 to {_LARGEST_PAGE}")
    ids = sorted(key for key in items if key >= position)
    page: Json = {"items": [items[key] for key in ids[:limit]]}
    return page | {"position": ids[limit]} if ids[limit:] else page
