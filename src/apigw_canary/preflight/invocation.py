"""Lets API Gateway call the functions that canary requests will lead to."""

from collections import Counter

from apigw_canary.aws.apigateway import ApiGateway
from apigw_canary.aws.invocation import (
    Function,
    Functions,
    arn_covers,
    stage_arn,
    statement_id,
)
from apigw_canary.errors import (
    AwsError,
    CallerError,
    CanaryError,
    NotFoundError,
    UnansweredError,
    UnconfirmedChangeError,
)
from apigw_canary.model.api_surface import ANY, Route
from apigw_canary.model.state import StageState, Variables
from apigw_canary.preflight.problem import InvocationPermission
from apigw_canary.preflight.targets import Policy, Target, targets, tested
from apigw_canary.values import validation

MOST_STATEMENTS = 20
"""How many statements `allow` adds to one function's policy before it adds one for the whole stage
instead. A statement takes about 370 bytes, and a policy has 20,480 ("Lambda quotas"): 20 of them
leave more than half of it."""

_THERE_ALREADY = "ResourceConflictException"
_TOO_LONG = "PolicyLengthExceededException"


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
            remedy = "Run the same line again: what was added stays."
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
            source = stage_arn(function, stage.region, stage.rest_api_id, stage.name)
            target = target._replace(source=source, route=Route(ANY, "/*"))  # noqa: PLW2901
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
                remedy="Set them on the stage, or give them here.",
            )
        function = target.function
        if function is None:
            continue  # it leads to no Lambda function here, so there is nobody to ask
        if function not in policies:
            if not functions.has(function):
                if not must_exist:
                    continue  # no variable leads there, so it is not what was asked for
                raise NotFoundError(
                    f"There is no function {target.written}, or no such alias or version of it, "
                    f"for {target.route}. Nothing was added.",
                    remedy="Create it first, or correct the variable.",
                )
            policies[function] = Policy(exists=True, statements=tuple(functions.policy(function)))
        policy = policies[function]
        if policy.denies(target):
            raise CallerError(
                f"The policy of function {target.written} denies API Gateway to call it for "
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
    """One AddPermission; where it may be there already, what is there decides."""
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
            differences={sid: "changed by somebody else"},
            remedy="Remove that statement with lambda:RemovePermission.",
        ) from error
