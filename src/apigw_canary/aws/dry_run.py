"""Calls of which only the reads are sent: what else would be sent is kept, and answered in place.

So a dry run is the run itself, and what it would send is what it sends.
"""

import copy
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from apigw_canary.aws.answers import Answer, Structure
from apigw_canary.aws.calls import Calls

NEW = "new-deployment"
"""Stands for the id of the deployment that would be created. AWS's own ids have ten characters at
most, so that it is none of them."""

_READS = ("Get", "List", "Describe")
_VARIABLES = "/variables/"
_CANARY = "/canarySettings/"
_OVERRIDES = "/canarySettings/stageVariableOverrides/"


class Sent(NamedTuple):
    """A call that was made, or would be."""

    service: str
    operation: str
    parameters: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"<call of {self.operation}>"  # parameters hold values of variables


class DryCalls(Calls):
    """Reads through `calls`. A write changes what later reads of this object answer, and no more.

    Understands what enabling a canary writes, and finishing an earlier rollback: CreateDeployment,
    UpdateDeployment of a description, and UpdateStage of a canary's settings, or of production's
    deployment and variables.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self.sent: list[Sent] = []
        """Reads and writes, in their order, as a run would send them."""
        self._stage: dict[str, Any] = {}
        """The stage, as it was read last or as it would be."""
        self._wrote = False
        self._descriptions: dict[str, str] = {}
        self._metadata: Mapping[str, Any] = {}

    @property
    def region(self) -> str:
        """The region that calls go to."""
        return self._calls.region

    def now(self, answer: Answer) -> datetime:
        """The time AWS stated in the answer; where it was given in place, in the last real one."""
        return self._calls.now(answer)

    def pause(self, seconds: float) -> None:
        """Wait between two questions about the same thing."""
        self._calls.pause(seconds)

    def within(self, session: object) -> Calls:
        """Not for other sessions."""
        raise NotImplementedError

    def call(self, service: str, operation: str, **parameters: object) -> Answer:
        """The answer of AWS to a read; to a write, what AWS would answer."""
        self.sent.append(Sent(service, operation, copy.deepcopy(parameters)))
        match operation:
            case "CreateDeployment":
                return self._created(str(parameters["description"]))
            case "UpdateDeployment":
                return self._described(parameters)
            case "UpdateStage":
                return self._updated(parameters)
            case "GetStage" if self._wrote:
                return self._answer(self._stage)
            case "GetDeployment":
                return self._deployment(parameters)
            case "GetDeployments":
                return self._deployments(parameters)
            case _ if operation.startswith(_READS):
                answer = self._read(service, operation, **parameters)
                if operation == "GetStage":
                    self._stage = dict(answer)
                return answer
            case _:
                raise NotImplementedError(f"a dry run does not understand {operation}")

    def _read(self, service: str, operation: str, **parameters: object) -> Answer:
        answer = self._calls.call(service, operation, **parameters)
        self._metadata = answer["ResponseMetadata"]
        return answer

    def _answer(self, members: Mapping[str, Any]) -> Answer:
        # A member that is missing is an error about the answer, in one that was read in part too.
        return Structure("a call", {**members, "ResponseMetadata": self._metadata})

    def _created(self, description: str) -> Answer:
        self._descriptions[NEW] = description
        return self._answer(self._new(()))

    def _new(self, embed: Sequence[str]) -> dict[str, Any]:
        """The deployment that would be created, of the API as it is edited now."""
        found = {
            "id": NEW,
            "description": self._descriptions[NEW],
            "createdDate": self.now(self._answer({})),
        }
        return found | ({"apiSummary": self._summary()} if embed else {})

    def _summary(self) -> dict[str, Any]:
        """What CreateDeployment would publish. Not among what a run would send."""
        summary: dict[str, Any] = {}
        (read,) = (each for each in self.sent if each.operation == "CreateDeployment")
        for page in self._calls.pages(
            "apigateway",
            "GetResources",
            "position",
            restApiId=read.parameters["restApiId"],
            embed=["methods"],
            limit=500,
        ):
            summary |= {
                resource["path"]: resource["resourceMethods"]
                for resource in page.get("items", [])
                if resource.get("resourceMethods")
            }
        return summary

    def _deployment(self, parameters: Mapping[str, Any]) -> Answer:
        deployment_id = parameters["deploymentId"]
        if deployment_id == NEW:
            return self._answer(self._new(parameters.get("embed", ())))
        answer = self._read("apigateway", "GetDeployment", **parameters)
        return self._with_description(answer, deployment_id)

    def _with_description(self, deployment: Mapping[str, Any], deployment_id: str) -> Answer:
        if deployment_id not in self._descriptions:
            return deployment
        return self._answer({**deployment, "description": self._descriptions[deployment_id]})

    def _deployments(self, parameters: Mapping[str, Any]) -> Answer:
        answer = self._read("apigateway", "GetDeployments", **parameters)
        found = answer.get("items", [])
        items = [self._with_description(each, each["id"]) for each in found]
        return self._answer({**answer, "items": items})

    def _described(self, parameters: Mapping[str, Any]) -> Answer:
        deployment_id = parameters["deploymentId"]
        (operation,) = parameters["patchOperations"]
        self._descriptions[deployment_id] = operation["value"]
        asked = {"restApiId": parameters["restApiId"], "deploymentId": deployment_id}
        # Read as AWS would answer it, though a run would not send that.
        return self._deployment(asked)

    def _updated(self, parameters: Mapping[str, Any]) -> Answer:
        settings: dict[str, Any] = copy.deepcopy(dict(self._stage.get("canarySettings", {})))
        variables = dict(self._stage.get("variables", {}))
        for operation in parameters["patchOperations"]:
            path, value = operation["path"], operation.get("value")
            if path == "/deploymentId":
                self._stage["deploymentId"] = value
            elif path.startswith(_VARIABLES):
                variables[path.removeprefix(_VARIABLES)] = value
            elif path.startswith(_OVERRIDES):
                overrides = settings.setdefault("stageVariableOverrides", {})
                overrides[path.removeprefix(_OVERRIDES)] = value
            else:
                name = path.removeprefix(_CANARY)
                known = {"percentTraffic": float, "useStageCache": lambda text: text == "true"}
                settings[name] = known.get(name, str)(value)
        if settings:
            self._stage["canarySettings"] = settings
        self._stage["variables"] = {k: v for k, v in variables.items() if v is not None}
        self._stage["lastUpdatedDate"] = self.now(self._answer({}))
        self._wrote = True
        return self._answer(self._stage)
