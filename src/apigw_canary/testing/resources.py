"""The methods of the rehearsed API: as they are being edited, and as deployments captured them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

import attrs

from apigw_canary.testing.answers import Json, Refusal


@attrs.frozen(kw_only=True)
class Method:
    """A method of the API: its authorization and its integration."""

    uri: str | None = "https://orders.example/${stageVariables.alias}"
    """The integration's URI; None for no integration. It does not determine the answers of a
    rehearsal: the `backends` do."""

    authorization: str = "NONE"
    """The authorization type: `NONE`, `AWS_IAM`, `CUSTOM` or `COGNITO_USER_POOLS`."""

    api_key: bool = False
    """Whether an API key is required."""

    credentials: str | None = None
    """The ARN of the role with which API Gateway calls the integration; None for none."""


METHODS: Mapping[str, Method] = MappingProxyType(
    {"GET /orders": Method(), "POST /orders": Method(), "GET /orders/{id}": Method()}
)
"""A small API of orders."""

ANY = "ANY"
"""API Gateway's word for all verbs that a resource does not name itself."""

_LAMBDA = re.compile(r"arn:[\w-]+:apigateway:[\w-]+:lambda:path/")


class Resources:
    """The methods of one API, keyed as in `GET /orders`."""

    def __init__(self, methods: Mapping[str, Method]) -> None:
        self._methods: dict[str, Method] = {}
        self.edit(methods)

    def edit(self, methods: Mapping[str, Method | None]) -> None:
        """Add and replace methods; None takes one away."""
        for name, method in methods.items():
            if not re.fullmatch(r"[A-Z]+ /\S*", name):
                raise ValueError(
                    'keys of methods must be methods with paths, such as "GET /orders", not '
                    f"{name!r}"
                )
            if method is None:
                self._methods.pop(name)
            else:
                self._methods[name] = method

    def summary(self) -> Json:
        """What GetDeployment embeds as apiSummary."""
        return {
            path: {
                verb: {
                    "authorizationType": method.authorization,
                    "apiKeyRequired": method.api_key,
                }
                for verb, method in methods.items()
            }
            for path, methods in self._by_path().items()
        }

    def listed(self) -> dict[str, Json]:
        """What GetResources lists with its methods embedded, by the resources' ids."""
        return {
            resource_id: {
                "id": resource_id,
                "path": path,
                "resourceMethods": {
                    verb: _described(verb, method) for verb, method in methods.items()
                },
            }
            for resource_id, (path, methods) in self._by_id().items()
        }

    def resource(self, resource_id: str) -> tuple[str, Mapping[str, Method]]:
        """The path of a resource, and its methods by verb."""
        found = self._by_id().get(resource_id)
        if found is None:
            raise Refusal("NotFoundException", "Invalid Resource identifier specified", 404)
        return found

    def _by_id(self) -> dict[str, tuple[str, dict[str, Method]]]:
        return {
            f"r{number:05}": found for number, found in enumerate(sorted(self._by_path().items()))
        }

    def _by_path(self) -> dict[str, dict[str, Method]]:
        paths: dict[str, dict[str, Method]] = {}
        for name, method in self._methods.items():
            verb, _, path = name.partition(" ")
            paths.setdefault(path, {})[verb] = method
        return paths


def _described(verb: str, method: Method) -> Json:
    described: Json = {
        "httpMethod": verb,
        "authorizationType": method.authorization,
        "apiKeyRequired": method.api_key,
    }
    if method.uri is not None:
        described["methodIntegration"] = {
            "type": "AWS_PROXY" if _LAMBDA.match(method.uri) else "HTTP_PROXY",
            "uri": method.uri,
        }
        if method.credentials is not None:
            described["methodIntegration"]["credentials"] = method.credentials
    return described
