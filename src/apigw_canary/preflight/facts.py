"""What a preflight finds: the facts that its checks judge, and its problems."""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Literal, TypeVar, get_args

import attrs

from apigw_canary.aws import (
    ApiGateway,
    Calls,
    Function,
    Functions,
    Method,
    StageSettings,
    StageSnapshot,
    alarms_now,
    log,
)
from apigw_canary.errors import (
    AccessDeniedError,
    AwsError,
    CallerError,
    CannotTellError,
    InvalidInputError,
    NotFoundError,
)
from apigw_canary.judge import Alarm, Measurements
from apigw_canary.model import Changes, Contract, Route, StageState, Variables, api_changes
from apigw_canary.policy import RolloutPolicy
from apigw_canary.preflight.invocation import Policy, Target, targets, tested
from apigw_canary.texts import bounded
from apigw_canary.values import Serializable, sentence, validation

_LONGEST_WHAT, _LONGEST_REMEDY = 1400, 500
"""Characters: names in it come from AWS, and there can be hundreds."""

Severity = Literal["error", "warning"]


def _as_what(text: str) -> str:
    return bounded(text, _LONGEST_WHAT)


def _as_remedy(text: str) -> str:
    return bounded(text, _LONGEST_REMEDY)


@attrs.frozen
class Problem(Serializable):
    """A problem of a canary release on this stage."""

    severity: Severity = attrs.field(
        validator=validation.checked(validation.choice, choices=get_args(Severity))
    )
    """"error": the canary would be refused, would fail or would never be promoted. "warning": the
    canary would work, but with less data or perhaps not as you intend."""
    what: str = attrs.field(converter=_as_what)
    """The problem, with the values that show it. No variable values."""
    remedy: str = attrs.field(converter=_as_remedy)
    """What to do about it."""

    def __str__(self) -> str:
        """What is so, and what to do."""
        return f"{self.severity}: {self.what} {self.remedy}"


Measure = Callable[[StageState, datetime], Measurements]
"""The minutes of the hour before a time."""

_Value = TypeVar("_Value")


@attrs.frozen(kw_only=True)
class Facts:
    """A stage, what a canary on it is to be like, and what could not be found out."""

    at: datetime
    stage: StageState
    settings: StageSettings
    overrides: Variables
    policy: RolloutPolicy | None = None
    traffic: Measurements | None = None
    compared: str = ""
    """What production's methods were compared with."""
    changes: Changes | None = None
    targets: tuple[Target, ...] = ()
    tests: tuple[Target, ...] = ()
    """The Lambda functions of the API as test invocations call them."""
    unused: tuple[str, ...] | None = None
    """Variables that neither the stage has nor the API uses; None where that could not be read."""
    with_authorizer: tuple[Route, ...] = ()
    """Methods of the API as it is edited that an authorizer guards."""
    unintegrated: tuple[Route, ...] = ()
    """Methods of the API as it is edited that AWS shows no integration of."""
    functions: Mapping[Function, Policy] = attrs.field(factory=dict[Function, Policy])
    deployment_id: str | None = None
    """The deployment of the canary, where there is one already."""
    alarms: Mapping[str, Alarm | None] = attrs.field(factory=dict[str, Alarm | None])
    """The policy's alarms; None for one that CloudWatch does not have."""
    percent: float = 0.0
    """The percent that `enable_canary` is to give the canary."""
    accepted: frozenset[str] = frozenset()
    """What the caller of `enable_canary` accepts."""
    resumes: bool = False
    """Whether the canary that is running is the one that is asked for."""
    unread: tuple[Problem, ...] = ()
    """What could not be found out, and why."""


class _Reader:
    """Reads, and keeps what could not be read for the report."""

    def __init__(self) -> None:
        self.unread: list[Problem] = []

    def read(
        self, what: str, call: Callable[[], _Value], severity: Severity = "warning"
    ) -> _Value | None:
        try:
            return call()
        except AccessDeniedError as error:
            # Without AWS's own text: it holds names that come from stage variables.
            self.add(severity, what, f"{error.operation} was denied", error.remedy)
        except (AwsError, CannotTellError, NotFoundError) as error:
            self.add(severity, what, error.happened, error.remedy)
        return None

    def add(self, severity: Severity, what: str, why: str, remedy: str) -> None:
        self.unread.append(Problem(severity, f"{what} could not be read: {sentence(why)}", remedy))


def read_facts(
    gateway: ApiGateway,
    calls: Calls,
    measure: Measure,
    *,
    policy: RolloutPolicy | None,
    overrides: Variables,
    deployment_id: str | None,
) -> Facts | Problem:
    """The facts, or the one problem that there is no such stage to be read."""
    try:
        seen = gateway.stage()
    except AccessDeniedError as error:
        return Problem("error", "The stage could not be read: GetStage was denied.", error.remedy)
    except NotFoundError:
        return _absent(gateway)
    except (AwsError, CannotTellError) as error:
        return Problem("error", f"The stage could not be read: {error.happened}", error.remedy)
    reader = _Reader()
    stage = seen.stage
    if deployment_id is None and stage.canary is not None:
        deployment_id = stage.canary.deployment_id
    methods = None
    if overrides or deployment_id is None:
        methods = reader.read("The methods of the API", gateway.methods)
    led_to = tuple(targets(methods or (), stage, overrides))
    return Facts(
        at=seen.at,
        stage=stage,
        settings=seen.settings,
        overrides=overrides,
        policy=policy,
        traffic=_traffic(reader, measure, seen) if policy is not None else None,
        compared=f"Deployment {deployment_id}" if deployment_id else "The API as it is edited now",
        changes=_changes(reader, gateway, stage.deployment_id, deployment_id, methods),
        targets=led_to,
        tests=tuple(tested(methods or (), stage, overrides)),
        unused=_unused(reader, gateway, stage, overrides, methods),
        with_authorizer=tuple(
            m.route for m in methods or () if m.guard.authorization in _AUTHORIZERS
        ),
        unintegrated=tuple(m.route for m in methods or () if not m.has_integration),
        functions=_policies(reader, Functions(calls), led_to),
        deployment_id=deployment_id,
        alarms=_alarms(reader, calls, policy),
        # The last, when all the rest has been read.
        unread=tuple(dict.fromkeys(reader.unread)),
    )


def _absent(gateway: ApiGateway) -> Problem:
    missing = f"Stage {gateway.stage_name} of API {gateway.rest_api_id} was not found"
    try:
        gateway.api_name()
    except (AwsError, CannotTellError):
        return Problem("error", f"{missing}.", _HINT)
    except NotFoundError:
        kind = gateway.protocol()
        if kind is not None:
            return Problem(
                "error", f"{missing}: it is of type {kind}.", "Only REST APIs have canaries."
            )
        return Problem("error", f"{missing}: {gateway.region} has no such REST API.", _HINT)
    return Problem("error", f"{missing}: the API has no such stage.", "Check the stage's name.")


_HINT = (
    "Check id, name, region and account. HTTP and WebSocket APIs have ids of the same form, and no "
    "canaries."
)


_AUTHORIZERS = {"COGNITO_USER_POOLS", "CUSTOM", "JWT"}
"""Authorization that is done by an authorizer: AWS's summary of a deployment has its type only."""


def _unused(
    reader: _Reader,
    gateway: ApiGateway,
    stage: StageState,
    overrides: Variables,
    methods: list[Method] | None,
) -> tuple[str, ...] | None:
    new = overrides.keys() - stage.variables.keys()
    if methods is None:
        return None if new else ()
    found = reader.read("Which variables are used", lambda: gateway.unused_of(new, methods))
    return None if found is None else tuple(found)


def _changes(
    reader: _Reader,
    gateway: ApiGateway,
    before: str,
    after: str | None,
    methods: list[Method] | None,
) -> Changes | None:
    if before == after or (after is None and methods is None):
        return None

    def compare() -> Changes:
        now: Contract = (
            gateway.contract(after)
            if after is not None
            else {method.route: method.guard for method in methods or ()}
        )
        return api_changes(gateway.contract(before), now)

    return reader.read("What would change", compare, "error")


def _policies(
    reader: _Reader, functions: Functions, led_to: tuple[Target, ...]
) -> dict[Function, Policy]:
    """Each function once: two calls."""
    written: dict[Function, str] = {}
    for target in led_to:
        if target.function is not None:
            written.setdefault(target.function, target.written)
    found = {
        function: reader.read(f"Function {name}", partial(Policy.read, functions, function))
        for function, name in written.items()
    }
    return {function: policy for function, policy in found.items() if policy is not None}


def _alarms(
    reader: _Reader, calls: Calls, policy: RolloutPolicy | None
) -> Mapping[str, Alarm | None]:
    if policy is None or not policy.alarms:
        return {}
    names = policy.alarms
    return reader.read("The alarms", lambda: alarms_now(calls, names), "error") or {}


def _traffic(reader: _Reader, measure: Measure, seen: StageSnapshot) -> Measurements | None:
    try:
        return reader.read("The metrics", lambda: measure(seen.stage, seen.at), "error")
    except CallerError as error:  # the source cannot measure what the policy asks for
        why, remedy = error.happened, error.remedy or "Correct the source, or the policy's signals."
    reader.add("error", "The metrics", why, remedy)
    return None


def require_used(
    gateway: ApiGateway, state: StageState, overrides: Variables, deployment_id: str | None
) -> None:
    """Raise `InvalidInputError` where neither the stage nor the API uses one of the variables.

    Nothing is called where the stage has all of them. Where it is not known, because the API
    cannot be read or the canary is to serve an earlier deployment, a warning is logged.
    """
    new = sorted(overrides.keys() - state.variables.keys())
    if not new:
        return
    listed = ", ".join(new)
    if deployment_id is not None:
        log.warning(
            "stage %s has no variable %s; AWS does not show whether deployment %s uses it",
            state.name,
            listed,
            deployment_id,
        )
        return
    try:
        unused = gateway.unused_of(new, gateway.methods())
    except (AwsError, CannotTellError, NotFoundError) as error:
        log.warning(
            "stage %s has no variable %s; whether the API uses it could not be read: %s",
            state.name,
            listed,
            error.happened,
        )
        return
    if unused:
        raise InvalidInputError(
            "variables", "ones that the stage has or the API uses", ", ".join(unused)
        ).within(
            f"Nothing was changed. {state} Its variables: {', '.join(state.variables) or 'none'}.",
            "Correct the name: no integration, template, parameter or authorizer of the API has "
            "it. If only Lambda code or a gateway response reads it, pass "
            'accept={"unused_variables"}.',
        )
