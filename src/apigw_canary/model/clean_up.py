"""What came of deleting the deployments that nothing needs."""

from datetime import datetime
from typing import Literal, get_args

import attrs

from apigw_canary.values import validation
from apigw_canary.values.formatting import sentence
from apigw_canary.values.rendering import Explained
from apigw_canary.values.serialization import Plain

CleanUpOutcome = Literal["removed", "kept", "refused"]


@attrs.frozen(kw_only=True)
class CleanUpItem(Plain):
    """One deployment that this library made, and what came of it."""

    deployment_id: str
    """The deployment's id."""
    created_at: datetime = attrs.field(converter=validation.utc, validator=validation.aware_field)
    """When it was created."""
    release: str | None = None
    """The release that it was last used for; None without one."""
    outcome: CleanUpOutcome
    """"removed": it is deleted. "kept": something needs it. "refused": it was to be deleted, and is
    still there, or may be."""
    reason: str
    """Why, in words."""

    def __attrs_post_init__(self) -> None:
        validation.choice(self.outcome, "outcome", get_args(CleanUpOutcome))

    def __str__(self) -> str:
        """One line: which deployment, what came of it, and why."""
        return f"{self.outcome}: deployment {self.deployment_id}: {sentence(self.reason)}"


@attrs.frozen(kw_only=True)
class CleanUp(Explained):
    """What came of `Stage.clean_up`: each deployment that this library made, newest first."""

    items: tuple[CleanUpItem, ...]
    """The deployments that are removed, kept or refused."""

    def _of(self, outcome: CleanUpOutcome) -> tuple[str, ...]:
        return tuple(each.deployment_id for each in self.items if each.outcome == outcome)

    @property
    def removed(self) -> tuple[str, ...]:
        """The ids of the deployments that are deleted."""
        return self._of("removed")

    @property
    def kept(self) -> tuple[str, ...]:
        """The ids of the deployments that something needs."""
        return self._of("kept")

    @property
    def refused(self) -> tuple[str, ...]:
        """The ids of the deployments that were to be deleted and may still be there."""
        return self._of("refused")

    def __str__(self) -> str:
        """One line: how many of each outcome, and the first refusal."""
        text = (
            f"{len(self.items)} deployments of this library: {len(self.removed)} removed, "
            f"{len(self.kept)} kept, {len(self.refused)} refused"
        )
        refused = next((each for each in self.items if each.outcome == "refused"), None)
        return f"{text}." if refused is None else f"{text}. First {refused}"
