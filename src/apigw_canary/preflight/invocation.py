"""Which functions canary requests lead to, and the permissions of API Gateway to call them."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Self

import attrs

from apigw_canary.aws import (
    TEST_STAGE,
    WHOLE_STAGE,
    ApiGateway,
    Function,
    Functions,
    Method,
    applies,
    arn_covers,
    called,
    effect,
    function_in,
    source_arn,
    statement_id,
    variables_in,
)
from apigw_canary.errors import (
    AwsError,
    CallerError,
    CanaryError,
    NotFoundError,
    UnansweredError,
    UnconfirmedChangeError,
)
from apigw_canary.model import Route, StageState, Variables
from apigw_canary.values import Serializable, validation

MOST_STATEMENTS = 20
"""How many statements `allow` adds to one function's policy before it adds one for the whole stage
instead. A statement takes about 370 bytes, and a policy has 20,480 ("Lambda quotas"): 20 of them
leave more than half of it."""

_THERE_ALREADY = "ResourceConflictException"
_TOO_LONG = "PolicyLengthExceededException"


@attrs.frozen(kw_only=True)
class InvocationPermission(Serializable):
    """A permission that `Stage.allow_invocation` added to a Lambda function."""

    function_arn: str
    """The ARN of the function, with its alias or version. Parts of it may be a stage variable's
    value."""
    method: str
    """The method whose requests invoke the function, such as `GET /orders/{id}`; `ANY /*` for
    all."""
    source_arn: str
    """The source ARN that may invoke the function; `*` stands for the value of a path parameter."""
    statement_id: str
    """The id of the statement in the function's policy, for lambda:RemovePermission."""


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

    @classmethod
    def read(cls, functions: Functions, function: Function) -> Self:
        """Two calls; one where there is no such function, alias or version."""
        exists = functions.has(function)
        return cls(exists, tuple(functions.policy(function)) if exists else ())

    def allows(self, target: Target) -> bool:
        """Whether API Gateway is sure to be allowed to call it for that method."""
        return self.has_permission(target) is True and self.denies(target) is False

    def has_permission(self, target: Target) -> bool | None:
        """Whether a statement allows it; None where that is not known."""
        return not target.needs_permission or self._any(target, "Allow")

    def denies(self, target: Target) -> bool | None:
        """Whether a statement denies it, even if others allow it; None where that is not known."""
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
                found.setdefault(function, _whole(target, function, stage, TEST_STAGE))
    return list(found.values())


def _whole(target: Target, function: Function, stage: StageState, name: str) -> Target:
    """The same function as a stage of that name calls it, for all methods."""
    source = source_arn(function, stage.region, stage.rest_api_id, name, WHOLE_STAGE)
    return target._replace(source=source, route=WHOLE_STAGE)


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


def allow(
    gateway: ApiGateway,
    functions: Functions,
    overrides: Variables,
    *,
    whole_stage: bool | None,
    smoke_test: bool,
) -> tuple[InvocationPermission, ...]:
    """Adds the permissions that are missing; nothing else.

    One a method and function, or one a function for the whole stage. For a smoke test, one more a
    function.
    """
    stage = gateway.stage().stage
    methods = gateway.methods()
    led = targets(methods, stage, overrides)
    tests = tested(methods, stage, overrides) if smoke_test else []
    if not led and (overrides or not tests):
        validation.refuse("variables", "used by an integration of the API", sorted(overrides))
    policies: dict[Function, Policy] = {}
    missing = _widened(_missing(functions, led, policies), stage, whole_stage=whole_stage)
    missing += _missing(functions, tests, policies, must_exist=False)
    added: list[InvocationPermission] = []
    for function, target in missing:
        try:
            _add(functions, function, target)
        except CanaryError as error:
            remedy = "Run the same line again. Permissions that were added are kept."
            if isinstance(error, AwsError) and error.code == _TOO_LONG:
                remedy = (
                    "The policy of a function has 20,480 bytes at most: give whole_stage=True, "
                    "which adds one statement for all methods, and remove those for single methods "
                    "with lambda:RemovePermission."
                )
            raise error.within(
                f"{len(added)} of {len(missing)} permissions were added.", remedy
            ) from error.__cause__
        added.append(
            InvocationPermission(
                function_arn=function.arn,
                method=str(target.route),
                source_arn=target.source,
                statement_id=statement_id(function, target.source),
            )
        )
    return tuple(added)


def _widened(
    missing: list[tuple[Function, Target]], stage: StageState, *, whole_stage: bool | None
) -> list[tuple[Function, Target]]:
    """One permission for the whole stage where that was asked for, or there would be too many."""
    per_function = Counter(function for function, _ in missing)
    widened: dict[tuple[Function, str], tuple[Function, Target]] = {}
    for function, target in missing:
        wide = per_function[function] > MOST_STATEMENTS if whole_stage is None else whole_stage
        if wide:
            target = _whole(target, function, stage, stage.name)  # noqa: PLW2901
        widened.setdefault((function, target.source), (function, target))
    return list(widened.values())


def _missing(
    functions: Functions,
    led: list[Target],
    policies: dict[Function, Policy],
    *,
    must_exist: bool = True,
) -> list[tuple[Function, Target]]:
    """What is to be added; raises where it cannot be added, or would be of no use.

    `policies` are those that were read before.
    """
    missing = []
    for target in led:
        if target.unknown:
            raise NotFoundError(
                f"The integration of {target.route} uses the stage variables "
                f"{', '.join(target.unknown)}, which canary requests would not have. "
                "Nothing was added.",
                remedy="Set them on the stage, or pass them in `variables`.",
            )
        function = target.function
        if function is None:
            continue  # it leads to no Lambda function here, so there is nobody to ask
        policy = policies.get(function) or Policy.read(functions, function)
        if not policy.exists:
            if not must_exist:
                continue  # no variable leads there, so it is not what was asked for
            raise NotFoundError(
                f"The function {target.written} of {target.route}, or its alias or version, does "
                "not exist. Nothing was added.",
                remedy="Create it first, or correct the variable.",
            )
        policies[function] = policy
        if policy.denies(target):
            raise CallerError(
                f"The policy of function {target.written} denies the call by API Gateway for "
                f"{target.route}, whatever else it allows. Nothing was added.",
                remedy="Remove that Deny statement from the function's policy.",
            )
        if not policy.has_permission(target):
            missing.append((function, target))
    return _without_covered(missing)


def _without_covered(missing: list[tuple[Function, Target]]) -> list[tuple[Function, Target]]:
    """Without those for which another permission that is to be added will do."""
    wide = {(function, target.source) for function, target in missing if "*" in target.source}
    kept: dict[tuple[Function, str], tuple[Function, Target]] = {}
    for function, target in missing:
        covered = any(
            other == function and source != target.source and arn_covers(source, target.source)
            for other, source in wide
        )
        if not covered:
            kept.setdefault((function, target.source), (function, target))
    return list(kept.values())


def _add(functions: Functions, function: Function, target: Target) -> None:
    """One AddPermission; where the statement may exist already, the policy is read to decide."""
    try:
        functions.allow(function, target.source)
    except (UnansweredError, AwsError) as error:
        if isinstance(error, AwsError) and error.code != _THERE_ALREADY:
            raise
        policy = Policy(exists=True, statements=tuple(functions.policy(function)))
        if policy.has_permission(target):
            return
        if isinstance(error, UnansweredError):
            raise
        sid = statement_id(function, target.source)
        raise UnconfirmedChangeError(
            f"The policy of function {target.written} has a statement {sid}, and it does not allow "
            f"{target.route}.",
            differences={sid: "changed outside"},
            remedy="Remove that statement with lambda:RemovePermission.",
        ) from error
