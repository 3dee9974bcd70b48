"""Lambda: one alias, as AWS's operations see it."""

import re
from datetime import datetime
from typing import NamedTuple

from apigw_canary.aws.answers import Answer, misunderstood
from apigw_canary.aws.calls import Calls
from apigw_canary.errors import AwsError, NotFoundError, StageChangedError
from apigw_canary.model.state import AliasState, CanaryState

_STALE = "PreconditionFailedException"
_NOT_PROVISIONED = "ProvisionedConcurrencyConfigNotFoundException"
_CALLABLE = {"Active", "Inactive"}


def weight(percent: float) -> float:
    """A share as Lambda takes it, 0 to 1; 0.01 % are four decimals."""
    return round(percent / 100, 4)


class AliasSnapshot(NamedTuple):
    """An alias as it was read, and AWS's time when it was."""

    stage: AliasState
    at: datetime
    revision: str
    description: str


class Alias:
    """One alias of one function."""

    def __init__(self, calls: Calls, function: str, name: str) -> None:
        self.calls = calls
        self.function = function
        self.name = name

    @property
    def region(self) -> str:
        """The region that calls go to."""
        return self.calls.region

    def look(self) -> AliasSnapshot:
        """One GetAlias."""
        return self._seen(self._call("GetAlias", Name=self.name))

    def update(self, revision: str, wanted: AliasState, description: str | None) -> AliasSnapshot:
        """One UpdateAlias, which AWS refuses where the alias has another revision by now.

        Versions, weights and description change together. No description: it stays as it is.
        """
        canary = wanted.canary
        weights = {canary.deployment_id: weight(canary.percent)} if canary else {}
        try:
            answer = self._call(
                "UpdateAlias",
                Name=self.name,
                FunctionVersion=wanted.deployment_id,
                RoutingConfig={"AdditionalVersionWeights": weights},
                RevisionId=revision,
                **({} if description is None else {"Description": description}),
            )
        except AwsError as error:
            if error.code == _STALE:
                raise StageChangedError(
                    "The alias was changed outside at the same time, so AWS refused the change.",
                    differences={"revision": "another one than was read"},
                    remedy="",
                ) from error
            raise
        return self._seen(answer)

    def check_version(self, version: str) -> None:
        """One GetFunctionConfiguration: whether the version is published and can be invoked."""
        try:
            found = self._call("GetFunctionConfiguration", Qualifier=version)
        except NotFoundError as error:
            raise error.within(
                "", "Publish the version first: PublishVersion."
            ) from error.__cause__
        if found.get("State", "Active") not in _CALLABLE:
            raise NotFoundError(
                f"Version {version} of function {self.function} cannot be invoked: it is "
                f"{found['State']}.",
                remedy="Wait until GetFunctionConfiguration reports Active, or publish another "
                "one.",
            )

    def provisioned(self) -> int:
        """One GetProvisionedConcurrencyConfig: how much the alias itself has been given."""
        try:
            answer = self._call("GetProvisionedConcurrencyConfig", Qualifier=self.name)
        except AwsError as error:
            if error.code == _NOT_PROVISIONED:
                return 0
            raise
        return int(answer["RequestedProvisionedConcurrentExecutions"])

    def _call(self, operation: str, **parameters: object) -> Answer:
        try:
            return self.calls.call("lambda", operation, FunctionName=self.function, **parameters)
        except NotFoundError as error:
            raise error.within(
                "", f"Asked for was alias {self.name} of function {self.function}."
            ) from error.__cause__

    def _seen(self, answer: Answer) -> AliasSnapshot:
        """From the answer of GetAlias or UpdateAlias, the alias in the form of a stage."""
        if answer["Name"] != self.name:
            raise misunderstood("GetAlias", "it is about another alias")
        weights = answer.get("RoutingConfig", {}).get("AdditionalVersionWeights", {})
        if len(weights) > 1:
            raise misunderstood(
                "GetAlias",
                f"it routes to versions {', '.join(weights)} beside its own, and AWS allows one",
            )
        canaries = [
            CanaryState(deployment_id=_version(version), percent=_percent(weight))
            for version, weight in weights.items()
        ]
        at = self.calls.now(answer)
        stage = AliasState(
            region=self.region,
            rest_api_id=self.function,
            name=self.name,
            deployment_id=_version(answer["FunctionVersion"]),
            canary=canaries[0] if canaries else None,
            updated_at=at,
        )
        return AliasSnapshot(stage, at, answer["RevisionId"], answer.get("Description") or "")


def _version(found: str) -> str:
    if not re.fullmatch(r"\$LATEST|[0-9]{1,20}", found):
        raise misunderstood("GetAlias", "a version in it is not valid")
    return found


def _percent(weight: float) -> float:
    if not 0 <= weight <= 1:
        raise misunderstood("GetAlias", f"a weight in it is {weight:g}")
    return round(100 * weight, 4)
