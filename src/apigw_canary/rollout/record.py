"""The record of a rollout: one line in the description of the canary's own deployment.

A deployment can serve several stages, so each stage has a line of its own, below the user's text:

```text
Release notes of the user
apigw-canary:1:prod:{"rollout":{"id":"…","release":"2026-11-23.1",…}}
```

The line is input like any other: anybody who may change a deployment may change it. It is parsed
strictly, its length is capped, and nothing in it is used before it was checked.
"""

import json
from collections.abc import Mapping
from datetime import datetime

import attrs

from apigw_canary.errors import InvalidInputError, RecordError
from apigw_canary.rollout import inputs
from apigw_canary.rollout.plain import Plain
from apigw_canary.rollout.promotion import Promotion
from apigw_canary.rollout.state import Outcome
from apigw_canary.rollout.words import sentence

VERSION = 1
MAX_LINE = 32 * 1024
"""Characters of a line that are read or written. AWS documents no limit for descriptions; a
hundred stage variables of ordinary length fit many times over."""
KEPT_ENDINGS = 8
"""How many earlier releases of one deployment (variables-only canaries) are remembered."""

_MARK = "apigw-canary:"

_EARLIEST, _LATEST = 2000, 2999
"""Years that a rollout may have started in: far from the ends of what a datetime can hold."""


def _check_year(at: datetime, field: str) -> None:
    if not _EARLIEST <= at.year <= _LATEST:
        inputs.refuse(field, f"of the years {_EARLIEST} to {_LATEST}", at)


@attrs.frozen(kw_only=True)
class Begun(Plain):
    """A rollout that was begun with the deployment."""

    id: str
    """Unique to the rollout; also the token by which a deployment is recognised as its own."""
    release: str | None = None
    """The release, as given to `enable_canary`."""
    started_at: datetime = attrs.field(converter=inputs.utc, validator=inputs.aware_field)
    """AWS's time just before the canary was enabled."""
    stage_updated_at: datetime = attrs.field(converter=inputs.utc, validator=inputs.aware_field)
    """The stage's last change before that. Still the same: the canary was never enabled."""
    stage_deployment_id: str
    """The stage's own deployment then; the canary's too if it overrides variables only."""

    def __attrs_post_init__(self) -> None:
        inputs.identifier(self.id, "rollout.id")
        _check_year(self.started_at, "rollout.started_at")
        inputs.identifier(self.stage_deployment_id, "rollout.stage_deployment_id")
        if self.release is not None:
            inputs.text(self.release, "rollout.release")


@attrs.frozen(kw_only=True)
class Record(Plain):
    """All that a deployment knows of its rollouts on one stage."""

    rollout: Begun | None = None
    """The latest rollout of this deployment."""
    promotion: Promotion | None = None
    """The latest promotion of this deployment, written before it was begun."""
    reverted_from: str | None = None
    """The deployment that was left for this one by the latest revert."""
    ended: Mapping[str, Outcome] = attrs.field(factory=dict)
    """Earlier releases of this deployment, and how they ended."""

    def beginning(self, begun: Begun, before: Outcome = Outcome.REMOVED) -> "Record":
        """The record with a new rollout; the one it had, which ended so, is kept with the ended."""
        ended = dict(self.ended)
        if self.rollout is not None and self.rollout.release is not None:
            ended[self.rollout.release] = before
        if begun.release is not None:
            ended.pop(begun.release, None)
        return attrs.evolve(self, rollout=begun, ended=dict([*ended.items()][-KEPT_ENDINGS:]))

    def promoting(self, promotion: Promotion) -> "Record":
        """The record with a promotion about to be begun."""
        return attrs.evolve(self, promotion=promotion, reverted_from=None)

    def begun_promotion(self) -> Promotion | None:
        """The promotion of the rollout that is running, where one was begun."""
        rollout_id = self.rollout.id if self.rollout else None
        promotion = self.promotion
        return promotion if promotion and promotion.rollout_id == rollout_id else None


NO_RECORD = Record()


def _mark(stage: str) -> str:
    return f"{_MARK}{VERSION}:{stage}:"


def _belongs(line: str, stage: str) -> bool:
    return line.startswith(_MARK) and line.split(":", 3)[2:3] == [stage]


def read(description: str | None, stage: str) -> Record:
    """The stage's record in a deployment's description; `NO_RECORD` where there is none.

    Raises `RecordError` for one that is damaged, too long, there twice, or of another version.
    """
    lines = [line for line in (description or "").split("\n") if _belongs(line, stage)]
    if len(lines) > 1:
        raise _unreadable(stage, f"it is there {len(lines)} times")
    return read_line(lines[0], stage) if lines else NO_RECORD


def read_line(line: str, stage: str) -> Record:
    """The stage's record from its line. Raises `RecordError` as `read` does."""
    mark = _mark(stage)
    if len(line) > MAX_LINE:
        raise _unreadable(stage, f"it has {len(line)} characters, more than {MAX_LINE}")
    if not line.startswith(mark):
        raise _unreadable(stage, f"it is of another version than {VERSION}")
    try:
        record = Record.from_dict(json.loads(line.removeprefix(mark)))
        if record.promotion and record.promotion.stage != stage:
            inputs.refuse("promotion.stage", stage, record.promotion.stage)
        if record.promotion:
            _check_year(record.promotion.begun_at, "promotion.begun_at")
        if record.reverted_from is not None:
            inputs.identifier(record.reverted_from, "reverted_from")
    except InvalidInputError as error:
        raise _unreadable(stage, str(error)) from error
    except (ValueError, RecursionError) as error:
        raise _unreadable(stage, "it is no JSON") from error
    return record


def _unreadable(stage: str, reason: str) -> RecordError:
    return RecordError(
        f"The record of stage {stage} in the deployment's description cannot be read: "
        f"{sentence(reason)}",
        remedy="Find out what changed the description; restore its line that begins with "
        f"{_MARK!r}, or delete it.",
    )


def written(description: str | None, stage: str, record: Record) -> str:
    """The description with the stage's record replaced and all else as it was."""
    kept = [line for line in (description or "").split("\n") if not _belongs(line, stage)]
    line = written_line(record, stage)
    return "\n".join([*kept, line] if any(kept) else [line])


def written_line(record: Record, stage: str) -> str:
    """The record as the stage's line. Raises `RecordError` for one that is too long."""
    line = _mark(stage) + json.dumps(_without_none(record.to_dict()), separators=(",", ":"))
    if len(line) > MAX_LINE:
        raise RecordError(
            f"The record would take {len(line)} characters, more than {MAX_LINE}.",
            remedy="Change fewer or shorter stage variables in one rollout.",
        )
    return line


def check_text(description: str) -> None:
    """Refuse a user's text that would be taken for a record."""
    if not isinstance(description, str):
        inputs.refuse("description", "a text", description)
    if any(line.startswith(_MARK) for line in description.split("\n")):
        inputs.refuse("description", f"text without a line that begins with {_MARK!r}", description)


def _without_none(data: dict[str, object]) -> dict[str, object]:
    return {
        name: _without_none(value)
        if isinstance(value, dict) and name != "variables_before"
        else value
        for name, value in data.items()
        if value is not None
    }
