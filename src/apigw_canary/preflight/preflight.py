"""A dry run of `enable_canary`: what stands in its way, what it would change, and what it sends."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import attrs

from apigw_canary.aws import OVERRIDES, Function, Sent
from apigw_canary.errors import (
    AccessDeniedError,
    CanaryError,
    RecordError,
    RolloutEndedError,
    StageChangedError,
)
from apigw_canary.model import Changes, without_records
from apigw_canary.preflight.checks import check
from apigw_canary.preflight.facts import Facts, Problem
from apigw_canary.preflight.invocation import Target
from apigw_canary.values import Renderable, Serializable, Tone, validation

MethodChangeKind = Literal["added", "removed", "weakened"]
VariableChangeKind = Literal["added", "changed", "unchanged"]


@attrs.frozen(kw_only=True)
class MethodChange(Serializable):
    """A method that differs between the canary's deployment and production's."""

    change: MethodChangeKind = attrs.field(
        validator=validation.checked(validation.choice, choices=get_args(MethodChangeKind))
    )
    """"added", "removed", or "weakened": the canary's method requires less authorization."""
    method: str
    """The method, such as `GET /orders/{id}`."""
    detail: str = ""
    """For a weakened method, the authorization that production requires and that the canary
    requires."""

    def __str__(self) -> str:
        """One line."""
        return f"{self.change}: {self.method}{self.detail and f' ({self.detail})'}"


@attrs.frozen(kw_only=True)
class VariableChange(Serializable):
    """A stage variable that the canary overrides, and an integration that uses it.

    There is one for each variable and target. It contains no values, except where they are part of
    the name of a Lambda function, alias or version.
    """

    name: str
    """The variable's name."""
    change: VariableChangeKind = attrs.field(
        validator=validation.checked(validation.choice, choices=get_args(VariableChangeKind))
    )
    """"added": production has no variable of that name. "changed": it has another value.
    "unchanged": it has the same value."""
    integration: str | None = None
    """The target as it is written in the integration, with the names of variables; None if no
    integration uses the variable."""
    before: str | None = None
    """The Lambda function, with alias or version, that production calls; None if the target is no
    Lambda function."""
    after: str | None = None
    """The Lambda function that canary requests would call; None if the target is none."""
    methods: tuple[str, ...] = ()
    """The methods that have this integration."""

    def __str__(self) -> str:
        """One line."""
        if self.integration is None:
            return f"{self.change}: {self.name}, which no integration was found to use"
        leads = f"{self.before or 'not shown'} → {self.after or 'not shown'}"
        return f"{self.change}: {self.name} in {self.integration}: {leads}"


@attrs.frozen(kw_only=True)
class PlannedCall(Serializable):
    """A call of API Gateway that `enable_canary` would make."""

    operation: str
    """The operation, such as `UpdateStage`."""
    writes: bool
    """Whether the call changes something."""
    parameters: str
    """The parameters as JSON. `new-deployment` stands for the id of the deployment that would be
    created, `<value of NAME>` for the value of a variable, and `<record>` for the record."""

    def __str__(self) -> str:
        """Operation and parameters."""
        return f"{self.operation} {self.parameters}"


@attrs.frozen(kw_only=True)
class Preflight(Renderable):
    """The result of `Stage.check`: the problems, changes and calls of `enable_canary`.

    Iterate over it to get the problems. It contains no values of stage variables.
    """

    problems: tuple[Problem, ...]
    """The problems of a canary, errors first."""
    method_changes: tuple[MethodChange, ...] = ()
    """The methods that differ between the canary's deployment and production's."""
    variable_changes: tuple[VariableChange, ...] = ()
    """The stage variables that the canary overrides, with the targets that they change."""
    calls: tuple[PlannedCall, ...] = ()
    """The calls that `enable_canary` would make of API Gateway, in order, up to the error that it
    would raise if there is one. Reads of metrics and alarms are not included."""

    @property
    def ok(self) -> bool:
        """Whether no problem is an error."""
        return not any(problem.severity == "error" for problem in self.problems)

    def __iter__(self) -> Iterator[Problem]:
        return iter(self.problems)

    def __len__(self) -> int:
        return len(self.problems)

    def __getitem__(self, index: int) -> Problem:
        return self.problems[index]

    def __str__(self) -> str:
        """One line: whether a canary can be enabled, and how much there is to be read."""
        errors = sum(problem.severity == "error" for problem in self.problems)
        variables = {each.name for each in self.variable_changes}
        writes = sum(call.writes for call in self.calls)
        counts = (
            f"{_counted(errors, 'error')}, {_counted(len(self.problems) - errors, 'warning')}; "
            f"{_counted(len(self.method_changes), 'change')} of methods, "
            f"{_counted(len(variables), 'variable')} overridden; "
            f"{_counted(len(self.calls), 'call')}, {writes} of them writes"
        )
        return f"{self.title.capitalize()}: {counts}."

    @property
    def about(self) -> str:
        """The subject, for a report."""
        return "Preflight"

    @property
    def title(self) -> str:
        """The result, for a report."""
        return "ready" if self.ok else "not ready"

    @property
    def tone(self) -> Tone:
        """The result as a report marks it: "good", "bad" or "open"."""
        return "bad" if not self.ok else "open" if self.problems else "good"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


_ALWAYS_REPORTED = (RecordError, RolloutEndedError, StageChangedError)
"""Errors that no check finds. Later ones are reported only where no check has found an error."""


def preflight(
    facts: Facts, sent: Sequence[Sent] = (), error: CanaryError | None = None
) -> Preflight:
    """What the facts and a dry run come to; `error` is what the dry run ended in."""
    problems = check(facts)
    has_error = any(problem.severity == "error" for problem in problems)
    if isinstance(error, AccessDeniedError):
        what = f"What enable_canary would send is not known: {error.operation} was denied."
        problems = (*problems, Problem("error", what, error.remedy))
    elif error is not None and (isinstance(error, _ALWAYS_REPORTED) or not has_error):
        problems = (Problem("error", error.happened, error.remedy), *problems)
    return Preflight(
        problems=problems,
        method_changes=tuple(_methods(facts.changes)),
        variable_changes=tuple(_variables(facts)),
        calls=tuple(map(_planned, sent)),
    )


def _methods(changes: Changes | None) -> Iterator[MethodChange]:
    if changes is None:
        return
    for weakened in changes.weakened:
        method, _, detail = weakened.partition(": ")
        yield MethodChange(change="weakened", method=method, detail=detail)
    yield from (MethodChange(change="removed", method=method) for method in changes.removed)
    yield from (MethodChange(change="added", method=method) for method in changes.added)


def _variables(facts: Facts) -> Iterator[VariableChange]:
    has = facts.stage.variables
    for name, value in facts.overrides.items():
        change: VariableChangeKind = "changed" if name in has else "added"
        if has.get(name) == value:
            change = "unchanged"
        by_function: dict[tuple[str, str | None, str | None], list[Target]] = {}
        for target in facts.targets:
            if name in target.uses:
                key = (target.written, _named(target.before), _named(target.function))
                by_function.setdefault(key, []).append(target)
        for (written, before, after), targets in by_function.items():
            yield VariableChange(
                name=name,
                change=change,
                integration=written,
                before=before,
                after=after,
                methods=tuple(str(target.route) for target in targets),
            )
        if not by_function:
            yield VariableChange(name=name, change=change)


def _named(function: Function | None) -> str | None:
    """The function with its alias or version, without the account."""
    if function is None:
        return None
    return f"{function.name}:{function.qualifier}" if function.qualifier else function.name


def _planned(sent: Sent) -> PlannedCall:
    parameters = json.dumps(_masked(sent.parameters), sort_keys=True, ensure_ascii=False)
    return PlannedCall(
        operation=sent.operation,
        writes=not sent.operation.startswith("Get"),
        parameters=parameters,
    )


def _masked(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters without values of variables, which records hold too."""
    masked = dict(parameters)
    if "description" in masked:
        masked["description"] = without_records(masked["description"])
    if "patchOperations" in masked:
        masked["patchOperations"] = [_masked_patch(each) for each in masked["patchOperations"]]
    return masked


def _masked_patch(operation: Mapping[str, str]) -> dict[str, str]:
    path = operation["path"]
    if path.startswith(f"{OVERRIDES}/"):
        return {**operation, "value": f"<value of {path.removeprefix(f'{OVERRIDES}/')}>"}
    if path == "/description":
        return {**operation, "value": without_records(operation["value"])}
    return dict(operation)
