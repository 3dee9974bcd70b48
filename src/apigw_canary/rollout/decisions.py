"""The four decisions. Which one it is, and why, is found in `rules`."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, ClassVar, Literal, Self, get_args

import attrs

from apigw_canary.judge import LIFETIME, Analysis, Basis
from apigw_canary.values import Renderable, validation

WaitingFor = Literal["bake", "metrics", "evidence", "operator"]


@attrs.frozen(kw_only=True)
class Decided(Renderable):
    """What all decisions have in common."""

    kind: ClassVar[str]

    at: datetime = attrs.field(converter=validation.utc, validator=validation.aware_field)
    """When the observation was made that the decision is based on."""
    reason: str
    """The reason for the decision, with its numbers: one sentence."""
    percent: float
    """For a Shift, the percent to set; otherwise the canary's percent when the observation was
    made. 0 to 100."""
    wait: timedelta
    """How long to wait before the next observation, until another minute is complete: at most 60
    seconds; zero if the decision is final."""
    final: bool
    """Whether the rollout has ended, or ends when the decision is applied."""
    analysis: Analysis | None
    """The evidence that the decision is based on; None if none was needed."""
    basis: Basis | None
    """The canary and percent that the decision was made on, and the only ones it can be applied to;
    None if the observation has no basis."""
    waiting_for: WaitingFor | None = attrs.field(
        default=None,
        validator=validation.checked(validation.choice, or_none=True, choices=get_args(WaitingFor)),
    )
    """What a Hold that is not final waits for: the end of the "bake", complete and trusted
    "metrics", more "evidence" (more requests, or the recovery of production), or an "operator",
    without whose action it does not end. None for every other decision."""
    lifetime: timedelta = attrs.field(
        default=LIFETIME, validator=validation.checked(validation.duration)
    )
    """How long after `at` a Shift or Promote may be applied."""

    @property
    def release(self) -> str | None:
        """The release, as given to `enable_canary`; None without one."""
        return self.basis.release if self.basis is not None else None

    def to_dict(self) -> dict[str, Any]:
        """Return the decision as JSON-serializable types, from which `decision_from_dict` restores
        it.
        """
        return {"kind": self.kind, **super().to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Restore a decision from what `to_dict` returned. Raises `InvalidInputError` for other
        data.
        """
        if not isinstance(data, Mapping):
            validation.refuse(cls.__name__, "an object", data)
        fields = dict(data)
        if (kind := fields.pop("kind", None)) != cls.kind:
            validation.refuse(f"{cls.__name__}.kind", repr(cls.kind), kind)
        return super().from_dict(fields)


@attrs.frozen(kw_only=True)
class Hold(Decided):
    """The decision to leave the canary as it is."""

    kind = "hold"

    def __str__(self) -> str:
        if self.final:
            return f"Ended: {self.reason}"
        return f"Hold at {self.percent:g} %: {self.reason}"


@attrs.frozen(kw_only=True)
class Shift(Decided):
    """The decision to set the canary's traffic percentage to `percent`."""

    kind = "shift"

    def __str__(self) -> str:
        return f"Shift to {self.percent:g} %: {self.reason}"


@attrs.frozen(kw_only=True)
class Promote(Decided):
    """The decision to make the canary's deployment and variables the stage's own."""

    kind = "promote"

    def __str__(self) -> str:
        return f"Promote: {self.reason}"


@attrs.frozen(kw_only=True)
class Rollback(Decided):
    """The decision to end the canary at once."""

    kind = "rollback"

    def __str__(self) -> str:
        return f"Roll back: {self.reason}"


Decision = Hold | Shift | Promote | Rollback


def decision_from_dict(data: Mapping[str, Any]) -> Decision:
    """Restore a decision from what its `to_dict` returned, for example after an approval.

    Raises `InvalidInputError` for other data.
    """
    if not isinstance(data, Mapping):
        validation.refuse("a decision", "an object", data)
    kinds: tuple[type[Decision], ...] = (Hold, Shift, Promote, Rollback)
    validation.choice(data.get("kind"), "kind", tuple(kind.kind for kind in kinds))
    (kind,) = (kind for kind in kinds if kind.kind == data["kind"])
    return kind.from_dict(data)
