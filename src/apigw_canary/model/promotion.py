"""What a promotion changes, and how it is undone."""

from collections.abc import Mapping
from datetime import datetime

import attrs

from apigw_canary.model.state import StageState, Variables
from apigw_canary.values import validation
from apigw_canary.values.frozen import FrozenMapping
from apigw_canary.values.serialization import Serializable


def _names(values: Mapping[str, object]) -> str:
    return f"<variables: {', '.join(values) or 'none'}>"


def _sorted(values: Mapping[str, str | None]) -> Mapping[str, str | None]:
    return FrozenMapping(dict(sorted(values.items())))


@attrs.frozen(kw_only=True)
class Promotion(Serializable):
    """The receipt of a promotion, with everything that is needed to undo it.

    Holds the values of the changed stage variables, which can be secrets; repr shows their names.
    """

    region: str
    """The region of the stage."""
    rest_api_id: str = attrs.field(
        validator=lambda _, __, value: _check_identifier(value, "rest_api_id")
    )
    """The REST API's id."""
    stage: str
    """The stage's name."""
    release: str | None = None
    """The release, as given to `enable_canary`."""
    rollout_id: str | None = None
    """The rollout's own id; None where the record was lost."""
    deployment_before: str = attrs.field(
        validator=lambda _, __, value: _check_identifier(value, "deployment_before")
    )
    """The deployment that production had until then."""
    deployment_after: str = attrs.field(
        validator=lambda _, __, value: _check_identifier(value, "deployment_after")
    )
    """The deployment that became production."""
    variables_before: Mapping[str, str | None] = attrs.field(converter=_sorted, repr=_names)
    """The changed stage variables as they were; None where there was none of that name."""
    variables_after: Mapping[str, str] = attrs.field(converter=Variables)
    """The same variables as the promotion made them."""
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
        """What promoting the canary of `state` will change."""
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
        """Whether both change the same to the same, at whatever time."""
        return attrs.evolve(self, begun_at=other.begun_at) == other

    def is_done_on(self, state: StageState) -> bool:
        """Whether the stage serves what was promoted."""
        return state.deployment_id == self.deployment_after and state.carries(self.variables_after)

    def is_undone_on(self, state: StageState) -> bool:
        """Whether the stage serves what it served before the promotion."""
        return state.deployment_id == self.deployment_before and state.carries(
            self.variables_before
        )

    def is_under_way_on(self, state: StageState) -> bool:
        """Whether production has changed already, and the canary is not ended yet.

        A promotion that was only announced has left no trace on the stage, and is not under way:
        what was true when it was announced need not be true any more. A later canary of the same
        deployment is another one: it overrides other variables, or none.
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
        """Whether production has the canary's deployment already, while the canary is not ended.

        What it overwrote is then on record only: production does not show it any more.
        """
        canary = state.canary
        return self.deployment_after != self.deployment_before and (
            canary is not None
            and canary.deployment_id == state.deployment_id == self.deployment_after
        )

    def undone_on(self, state: StageState) -> StageState:
        """`state` with what the promotion changed, and only that, as it was before."""
        kept = {k: v for k, v in state.variables.items() if k not in self.variables_before}
        restored = {k: v for k, v in self.variables_before.items() if v is not None}
        return attrs.evolve(
            state, deployment_id=self.deployment_before, variables={**kept, **restored}
        )


def _check_identifier(value: str, field: str) -> None:
    validation.identifier(value, field)
