"""What a stage is like, as AWS's answers are read, and what a promotion changes of it."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Literal

import attrs

from apigw_canary.values import FrozenMapping, Serializable, validation


class Variables(FrozenMapping[str, str]):
    """Stage variables: an immutable mapping whose repr shows names only.

    A stage variable can hold a secret; in this form it cannot reach a log by accident.
    """

    __slots__ = ()

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        super().__init__(dict(sorted((values or {}).items())))

    def __repr__(self) -> str:
        return f"<variables: {', '.join(self) or 'none'}>"

    def merged_with(self, overrides: Mapping[str, str]) -> "Variables":
        """As a canary request sees them, and as a promotion leaves them."""
        return Variables({**self, **overrides})

    def fingerprint(self) -> str:
        """Eight hexadecimal digits that change when a name or a value does."""
        import hashlib  # here, to keep the import of the library cheap

        content = "\n".join(f"{name}={value}" for name, value in self.items())
        return hashlib.sha256(content.encode()).hexdigest()[:8]


class Outcome(StrEnum):
    """How a rollout ended."""

    PROMOTED = "promoted"
    """The canary's deployment and variables became the stage's own."""
    REVERTED = "reverted"
    """The canary was promoted, and the promotion was undone."""
    ROLLED_BACK = "rolled_back"
    """The canary was rolled back: by a decision, by the caller, or by an operator."""
    DISABLED = "disabled"
    """The canary was ended by `canary.disable()`, without a judgment."""
    PROMOTED_OUTSIDE = "promoted_outside"
    """Another tool, or the console, made the canary's deployment and variables the stage's own."""
    REMOVED_OUTSIDE = "removed_outside"
    """Another tool, or the console, ended the canary without a promotion."""
    NEVER_STARTED = "never_started"
    """A deployment was created for the release, but its canary was never enabled."""


ENDINGS = {
    Outcome.PROMOTED: "it was promoted",
    Outcome.REVERTED: "it was promoted, and the promotion was undone",
    Outcome.ROLLED_BACK: "its canary was rolled back",
    Outcome.DISABLED: "its canary was disabled",
    Outcome.PROMOTED_OUTSIDE: "its canary was promoted outside this library",
    Outcome.REMOVED_OUTSIDE: "its canary was removed outside this library",
    Outcome.NEVER_STARTED: "its canary was never enabled",
}
"""The same as text, for messages."""


@attrs.frozen(kw_only=True)
class CanaryState(Serializable):
    """A canary as AWS describes it."""

    deployment_id: str
    """The deployment that serves the canary's requests."""
    percent: float
    """The canary's percent of the stage's requests, 0 to 100."""
    variables: Mapping[str, str] = attrs.field(factory=Variables, converter=Variables)
    """The stage variables that the canary overrides, name to value. For all others it has the
    stage's values."""
    use_stage_cache: bool = False
    """Whether canary requests read and fill the stage's cache."""

    def __str__(self) -> str:
        """For messages: deployment, percent and the names of the overridden variables."""
        overrides = f", overriding {', '.join(self.variables)}" if self.variables else ""
        return f"a canary of deployment {self.deployment_id} at {self.percent:g} %{overrides}"


@attrs.frozen(kw_only=True)
class Rollout(Serializable):
    """The running rollout of a stage, or its latest one."""

    id: str | None = None
    """The rollout's id, from its record; None if there is no readable record."""
    release: str | None = None
    """The release, as given to `enable_canary`."""
    started_at: datetime = attrs.field(converter=validation.utc, validator=validation.aware_field)
    """When the canary was enabled; without a record the time when the stage was last changed."""
    step_started_at: datetime = attrs.field(
        converter=validation.utc, validator=validation.aware_field
    )
    """When the stage was last changed: the start of the present step, or a later time."""
    outcome: Outcome | None = None
    """How the rollout ended; None while it runs."""
    ended_by: Literal["judge", "caller", "operator"] | None = None
    """Who ended the canary. "judge": a decision that was applied; "caller": the rollout's own code;
    "operator": `stage.rollback()`. None if that is not known."""


@attrs.frozen(kw_only=True)
class StageState(Serializable):
    """A stage as AWS describes it, at one moment."""

    region: str
    """The region, such as `eu-central-1`."""
    rest_api_id: str
    """The REST API's id."""
    name: str
    """The stage's name."""
    deployment_id: str
    """The deployment that serves the stage's own requests: production."""
    variables: Mapping[str, str] = attrs.field(factory=Variables, converter=Variables)
    """The stage's own variables. Values can be secrets: repr shows the names."""
    canary: CanaryState | None = None
    """The canary; None if there is none."""
    updated_at: datetime = attrs.field(converter=validation.utc, validator=validation.aware_field)
    """When AWS last changed the stage, to the second."""
    rollout: Rollout | None = None
    """The rollout, as far as its record is known; None without one."""

    def __str__(self) -> str:
        """For messages: what serves the requests now."""
        return (
            f"Stage {self.name} of API {self.rest_api_id} in {self.region} serves deployment "
            f"{self.deployment_id} with {self.canary or 'no canary'}."
        )

    @property
    def canary_is_promoted(self) -> bool:
        """Whether the stage serves the canary's deployment and variables, so that only the canary's
        end is left of a promotion.

        A canary that changes nothing would be the same, so `enable_canary` raises an error for it.
        """
        return (
            self.canary is not None
            and self.canary.deployment_id == self.deployment_id
            and self.carries(self.canary.variables)
        )

    def carries(self, variables: Mapping[str, str | None]) -> bool:
        """Whether the stage's own variables have these values; None stands for a variable that does
        not exist.
        """
        return all(self.variables.get(name) == value for name, value in variables.items())

    def differences(self, expected: "StageState") -> dict[str, str]:
        """Compare what serves traffic with `expected`: the name of each difference, and how it
        differs. No variable values.
        """
        now, then = _served(self), _served(expected)
        differing = {}
        for name, is_ in now.items():
            should = then[name]
            if isinstance(is_, Mapping) and isinstance(should, Mapping):
                changed = sorted(key for key in {*is_, *should} if is_.get(key) != should.get(key))
                if changed:
                    differing[name] = f"{', '.join(changed)} changed"
            elif is_ != should:
                differing[name] = f"{_shown(is_)} instead of {_shown(should)}"
        return differing


@attrs.frozen(kw_only=True)
class AliasState(StageState):
    """An alias in the form of a stage.

    `rest_api_id` is the function's name, `name` the alias's, `deployment_id` a version; there are
    no variables. An alias has no date: `updated_at` is the start of the step by its record, or the
    time of the read where there is no record.
    """

    def __str__(self) -> str:
        """For messages: what is invoked now."""
        other = "no other"
        if self.canary is not None:
            other = f"version {self.canary.deployment_id} at {self.canary.percent:g} %"
        return (
            f"Alias {self.name} of function {self.rest_api_id} in {self.region} invokes version "
            f"{self.deployment_id} and {other}."
        )


def _served(state: StageState) -> dict[str, object]:
    """What serves traffic, by the names that differences have."""
    canary = state.canary
    return {
        "deployment_id": state.deployment_id,
        "canary.deployment_id": canary and canary.deployment_id,
        "canary.percent": canary and canary.percent,
        "canary.use_stage_cache": canary and canary.use_stage_cache,
        "variables": state.variables,
        "canary.variables": canary.variables if canary else Variables(),
    }


def _shown(value: object) -> str:
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _shown_names(values: Mapping[str, object]) -> str:
    return f"<variables: {', '.join(values) or 'none'}>"


def _sorted(values: Mapping[str, str | None]) -> Mapping[str, str | None]:
    return FrozenMapping(dict(sorted(values.items())))


@attrs.frozen(kw_only=True)
class Promotion(Serializable):
    """The receipt of a promotion, with everything that is needed to undo it.

    It contains the values of the changed stage variables, which can be secrets. Its repr shows only
    their names.
    """

    region: str
    """The region of the stage."""
    rest_api_id: str = attrs.field(validator=validation.checked(validation.identifier))
    """The REST API's id."""
    stage: str
    """The stage's name."""
    release: str | None = None
    """The release, as given to `enable_canary`."""
    rollout_id: str | None = None
    """The rollout's id; None if the record was lost."""
    deployment_before: str = attrs.field(validator=validation.checked(validation.identifier))
    """The deployment that production served before."""
    deployment_after: str = attrs.field(validator=validation.checked(validation.identifier))
    """The deployment that became production."""
    variables_before: Mapping[str, str | None] = attrs.field(converter=_sorted, repr=_shown_names)
    """The changed stage variables as they were before, name to value; None for a name that did not
    exist."""
    variables_after: Mapping[str, str] = attrs.field(converter=Variables)
    """The same stage variables after the promotion."""
    begun_at: datetime = attrs.field(converter=validation.utc, validator=validation.aware_field)
    """When the promotion was begun."""

    def __attrs_post_init__(self) -> None:
        validation.variables(self.variables_after, "variables_after", held=True)
        validation.variables(
            {name: value for name, value in self.variables_before.items() if value is not None},
            "variables_before",
            held=True,
        )
        if set(self.variables_before) != set(self.variables_after):
            validation.refuse("variables_before", "of the same names as variables_after", "others")

    @classmethod
    def of(
        cls, state: StageState, *, begun_at: datetime, release: str | None, rollout_id: str | None
    ) -> "Promotion":
        """Return what promoting the canary of `state` will change."""
        assert state.canary is not None
        changed = {
            name: value
            for name, value in state.canary.variables.items()
            if state.variables.get(name) != value
        }
        return cls(
            region=state.region,
            rest_api_id=state.rest_api_id,
            stage=state.name,
            release=release,
            rollout_id=rollout_id,
            deployment_before=state.deployment_id,
            deployment_after=state.canary.deployment_id,
            variables_before={name: state.variables.get(name) for name in changed},
            variables_after=changed,
            begun_at=begun_at,
        )

    def is_same_change(self, other: "Promotion") -> bool:
        """Whether both promotions make the same change, even if at different times."""
        return attrs.evolve(self, begun_at=other.begun_at) == other

    def is_done_on(self, state: StageState) -> bool:
        """Whether the stage serves what this promotion made production."""
        return state.deployment_id == self.deployment_after and state.carries(self.variables_after)

    def is_undone_on(self, state: StageState) -> bool:
        """Whether the stage serves what it served before the promotion."""
        return state.deployment_id == self.deployment_before and state.carries(
            self.variables_before
        )

    def is_in_part_on(self, state: StageState) -> bool:
        """Whether the stage serves the deployment that was promoted; with one of its variables, if
        production had that deployment before.
        """
        return state.deployment_id == self.deployment_after and (
            self.deployment_after != self.deployment_before
            or any(state.variables.get(k) == value for k, value in self.variables_after.items())
        )

    def is_under_way_on(self, state: StageState) -> bool:
        """Whether this promotion has begun to change production and has not ended the canary yet.

        A promotion that is recorded but has not changed the stage is not under way, because the
        stage may have been changed since. A later canary of the same deployment is not this
        promotion's, because it overrides other variables or none.
        """
        canary = state.canary
        if canary is None or canary.deployment_id != self.deployment_after:
            return False
        if self.is_undone_on(state):
            return False
        between = state.deployment_id in {self.deployment_before, self.deployment_after} and all(
            state.variables.get(name) in {self.variables_before[name], after}
            for name, after in self.variables_after.items()
        )
        unchanged = {k: v for k, v in canary.variables.items() if k not in self.variables_after}
        overridden = self.variables_after.items() <= canary.variables.items()
        return between and overridden and state.carries(unchanged)

    def has_moved(self, state: StageState) -> bool:
        """Whether production already has the canary's deployment, and the canary has not ended.

        The deployment that production had before is then only in the record.
        """
        canary = state.canary
        return self.deployment_after != self.deployment_before and (
            canary is not None
            and canary.deployment_id == state.deployment_id == self.deployment_after
        )

    def undone_on(self, state: StageState) -> StageState:
        """Return `state` with only the changes of this promotion undone."""
        kept = {k: v for k, v in state.variables.items() if k not in self.variables_before}
        restored = {k: v for k, v in self.variables_before.items() if v is not None}
        return attrs.evolve(
            state, deployment_id=self.deployment_before, variables={**kept, **restored}
        )
