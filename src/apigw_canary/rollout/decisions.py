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
    """When the observation was made that it rests on."""
    reason: str
    """Why, with the numbers: one sentence."""
    percent: float
    """The canary's percent when it was made; for a Shift, the percent to set. 0 to 100."""
    wait: timedelta
    """How long until the next complete minute, so until the next observation is worth it: at most
    60 seconds; zero when final."""
    final: bool
    """Whether the rollout has ended, or will have once this is applied."""
    analysis: Analysis | None
    """The evidence it rests on; None where none was needed."""
    basis: Basis | None
    """What it was made on, and so the only thing it may be applied to."""
    waiting_for: WaitingFor | None = attrs.field(
        default=None,
        validator=validation.checked(validation.choice, or_none=True, choices=get_args(WaitingFor)),
    )
    """What a Hold that is not final waits for: the end of the "bake", complete or trustworthy
    "metrics", more "evidence" (requests, or a production that has recovered), or an "operator" who
    has to act, without whom it never ends. None for every other decision."""
    lifetime: timedelta = attrs.field(
        default=LIFETIME, validator=validation.checked(validation.duration)
    )
    """How long after `at` it may be applied, if it is a Shift or a Promote."""

    @property
    def release(self) -> str | None:
        """The release it is about, as given to `enable_canary`; None without one."""
        return self.basis.release if self.basis is not None else None

    def to_dict(self) -> dict[str, Any]:
        """As JSON-serializable types; `decision_from_dict` restores it."""
        return {"kind": self.kind, **super().to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """From what `to_dict` of the same class gave. Raises `InvalidInputError` for other data."""
        if not isinstance(data, Mapping):
            validation.refuse(cls.__name__, "an object", data)
        fields = dict(data)
        if (kind := fields.pop("kind", None)) != cls.kind:
            validation.refuse(f"{cls.__name__}.kind", repr(cls.kind), kind)
        return super().from_dict(fields)


@attrs.frozen(kw_only=True)
class Hold(Decided):
    """Leave the canary as it is."""

    kind = "hold"

    def __str__(self) -> str:
        if self.final:
            return f"Ended: {self.reason}"
        return f"Hold at {self.percent:g} %: {self.reason}"


@attrs.frozen(kw_only=True)
class Shift(Decided):
    """Give the canary the traffic percentage `percent`."""

    kind = "shift"

    def __str__(self) -> str:
        return f"Shift to {self.percent:g} %: {self.reason}"


@attrs.frozen(kw_only=True)
class Promote(Decided):
    """Make the canary the stage's own."""

    kind = "promote"

    def __str__(self) -> str:
        return f"Promote: {self.reason}"


@attrs.frozen(kw_only=True)
class Rollback(Decided):
    """End the canary at once."""

    kind = "rollback"

    def __str__(self) -> str:
        return f"Roll back: {self.reason}"


Decision = Hold | Shift | Promote | Rollback


def decision_from_dict(data: Mapping[str, Any]) -> Decision:
    """The decision that `to_dict` gave: stored, approved, and now to be applied.

    Raises `InvalidInputError` for anything else.
    """
    if not isinstance(data, Mapping):
        validation.refuse("a decision", "an object", data)
    kinds: tuple[type[Decision], ...] = (Hold, Shift, Promote, Rollback)
    validation.choice(data.get("kind"), "kind", tuple(kind.kind for kind in kinds))
    (kind,) = (kind for kind in kinds if kind.kind == data["kind"])
    return kind.from_dict(data)
