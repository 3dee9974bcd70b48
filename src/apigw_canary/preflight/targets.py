"""Where requests lead that see other stage variables."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from apigw_canary.aws.apigateway import Method
from apigw_canary.aws.invocation import (
    Function,
    applies,
    called,
    effect,
    function_in,
    source_arn,
    stage_arn,
    variables_in,
)
from apigw_canary.aws.test_invocation import STAGE
from apigw_canary.model.api_surface import ANY, Route
from apigw_canary.model.state import StageState, Variables


class Target(NamedTuple):
    """A method whose integration uses a variable that the canary overrides."""

    route: Route
    written: str
    """The function as the integration names it, or its URI; variables by name."""
    uses: tuple[str, ...]
    """The variables in it, by name."""
    unknown: tuple[str, ...]
    """Variables in it that canary requests would not have."""
    function: Function | None
    """The Lambda function that canary requests call; None where it is unknown, or none of the
    stage's region: one elsewhere cannot be asked in the stage's session."""
    source: str
    """What API Gateway calls it as; empty where there is none."""
    needs_permission: bool
    """Whether the function must let API Gateway in: not where it is called in a role."""
    before: Function | None
    """The Lambda function that production calls, as far as it is known as above."""

    @property
    def is_productions(self) -> bool:
        """Whether production calls the very same function and alias."""
        return self.function is not None and self.function == self.before


class Policy(NamedTuple):
    """What is known of a function that canary requests call."""

    exists: bool
    statements: tuple[Any, ...]

    def allows(self, target: Target) -> bool:
        """Whether API Gateway is sure to be allowed to call it for that method."""
        return self.has_permission(target) is True and self.denies(target) is False

    def has_permission(self, target: Target) -> bool | None:
        """Whether a statement allows it; None where that cannot be told."""
        return not target.needs_permission or self._any(target, "Allow")

    def denies(self, target: Target) -> bool | None:
        """Whether a statement denies it, whatever others allow; None where that cannot be told."""
        return target.needs_permission and self._any(target, "Deny")

    def _any(self, target: Target, wanted: str) -> bool | None:
        assert target.function is not None
        found = [
            applies(
                statement,
                target.function,
                target.source,
                partly=None if wanted == "Deny" else False,
            )
            for statement in self.statements
            if effect(statement) in {wanted, None}
        ]
        # Of a statement that is neither an Allow nor a Deny nothing is certain.
        return True if True in found else None if None in found else False


def targets(methods: Iterable[Method], stage: StageState, overrides: Variables) -> list[Target]:
    """Where the methods lead whose integrations use one of the overridden variables."""
    return [
        _target(method, method.uri, stage, overrides)
        for method in sorted(methods, key=lambda method: method.route)
        if method.uri is not None and variables_in(method.uri) & overrides.keys()
    ]


def tested(methods: Iterable[Method], stage: StageState, overrides: Variables) -> list[Target]:
    """The Lambda functions that test invocations call, each once, as they call it."""
    found: dict[Function, Target] = {}
    for method in sorted(methods, key=lambda method: method.route):
        if method.uri is not None:
            target = _target(method, method.uri, stage, overrides)
            if (function := target.function) is not None and target.needs_permission:
                source = stage_arn(function, stage.region, stage.rest_api_id, STAGE)
                whole = target._replace(source=source, route=Route(ANY, "/*"))
                found.setdefault(function, whole)
    return list(found.values())


def _target(method: Method, uri: str, stage: StageState, overrides: Variables) -> Target:
    seen = {**stage.variables, **overrides}
    unknown = tuple(sorted(variables_in(uri) - seen.keys()))
    function = _known(uri, seen, stage.region)
    return Target(
        route=method.route,
        written=function_in(uri),
        uses=tuple(sorted(variables_in(uri))),
        unknown=unknown,
        function=function,
        source=source_arn(function, stage.region, stage.rest_api_id, stage.name, method.route)
        if function
        else "",
        needs_permission=not method.has_credentials,
        before=_known(uri, stage.variables, stage.region),
    )


def _known(uri: str, variables: Mapping[str, str], region: str) -> Function | None:
    """The Lambda function of the region that a URI leads to with these variables."""
    function = called(uri, variables) if variables_in(uri) <= variables.keys() else None
    return function if function is not None and function.region == region else None
