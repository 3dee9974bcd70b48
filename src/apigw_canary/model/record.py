"""The record of a rollout: one line in the description of the canary's own deployment.

A deployment can serve several stages, so each stage has a line of its own, below the user's text:

```text
Release notes of the user
apigw-canary:2:prod:{"region":"eu-central-1","rest_api_id":"a1b2c3d4e5","rollout":{"id":"…",…}}
```

The line is input like any other: all who may change a deployment may change it. It is parsed
strictly, its length is capped, and each claim is checked against everything else that is known
before it is used.
"""

import json
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal, Self, get_args

import attrs

from apigw_canary.errors import InvalidInputError, RecordError
from apigw_canary.model.state import Outcome, Promotion, StageState
from apigw_canary.values import Serializable, sentence, validation

VERSION = 2
MAX_LINE = 32 * 1024
"""Characters of a line that are read or written. AWS documents no limit for descriptions; a
hundred stage variables of ordinary length fit many times over."""
KEPT_ENDINGS = 8
"""How many earlier releases of one deployment (variables-only canaries) are remembered."""

MAX_REASON = 120
"""Characters of an operator's reason: the record of a usual rollout stays below 1,000."""

_MARK = "apigw-canary:"

_EARLIEST, _LATEST = 2000, 2999
"""Years that a rollout may have started in: far from the ends of what a datetime can hold."""


EndedBy = Literal["judge", "caller", "operator"]
"""Who ended a canary: a decision that was applied, the rollout's own code (`canary.rollback`), or
an operator (`stage.rollback`)."""

_DIGEST = r"[0-9a-f]{8}"
DEPLOYMENT = "deployment_id"
"""The name of production's deployment among the fingerprints of production."""


def variable(name: str) -> str:
    """The name of a stage variable among the fingerprints of production."""
    return f"variables.{name}"


def fingerprint(salt: str, name: str, value: str | None) -> str:
    """Eight hexadecimal digits that change when the value does; None is a value that is absent.

    Salted with the rollout's id, so that equal values of two rollouts are not seen to be equal.
    """
    import hashlib  # here, to keep the import of the library cheap

    content = json.dumps([salt, name, value])
    return hashlib.sha256(content.encode()).hexdigest()[:8]


def check_year(at: datetime, field: str) -> None:
    """Refuse a time far from today, with which nothing can be computed."""
    if not _EARLIEST <= at.year <= _LATEST:
        validation.refuse(field, f"of the years {_EARLIEST} to {_LATEST}", at)


def check_digest(digest: str, field: str) -> None:
    """Refuse what is no fingerprint."""
    if not re.fullmatch(_DIGEST, digest):
        validation.refuse(field, "eight hexadecimal digits", digest)


def _check_digests(digests: Mapping[str, str], field: str) -> None:
    for name, digest in digests.items():
        validation.text(name, f"a name in {field}")
        check_digest(digest, f"{field}.{name}")


@attrs.frozen(kw_only=True)
class OnHold(Serializable):
    """A rollout that an operator holds."""

    reason: str = attrs.field(validator=validation.checked(validation.text, limit=MAX_REASON))
    """Why, in the operator's words: one line of at most 120 characters."""
    since: datetime = attrs.field(converter=validation.utc, validator=validation.aware_field)
    """Since when."""


@attrs.frozen(kw_only=True)
class Begun(Serializable):
    """A rollout that was begun with the deployment."""

    id: str = attrs.field(validator=validation.checked(validation.identifier, field="rollout.id"))
    """Unique to the rollout; also the token by which a deployment is recognized as its own."""
    release: str | None = attrs.field(
        default=None,
        validator=validation.checked(validation.text, field="rollout.release", or_none=True),
    )
    """The release, as given to `enable_canary`."""
    started_at: datetime = attrs.field(converter=validation.utc, validator=validation.aware_field)
    """AWS's time just before the canary was enabled."""
    stage_updated_at: datetime = attrs.field(
        converter=validation.utc, validator=validation.aware_field
    )
    """The stage's last change before that."""
    stage_deployment_id: str = attrs.field(
        validator=validation.checked(validation.identifier, field="rollout.stage_deployment_id")
    )
    """The stage's own deployment then; the canary's too if it overrides variables only."""
    policy: str | None = attrs.field(
        default=None,
        validator=validation.checked(check_digest, field="rollout.policy", or_none=True),
    )
    """A fingerprint of the policy that was given to `enable_canary`."""
    enabled_at: datetime | None = attrs.field(
        default=None, converter=validation.utc_or_none, validator=validation.aware_field
    )
    """When the canary was found enabled; None: it may never have been."""
    production: Mapping[str, str] = attrs.field(
        factory=dict, validator=validation.checked(_check_digests, field="rollout.production")
    )
    """Fingerprints of production's deployment, and of each variable that the canary overrides, as
    production had them when the rollout began, or when they were accepted."""
    overrides: Mapping[str, str] = attrs.field(
        factory=dict, validator=validation.checked(_check_digests, field="rollout.overrides")
    )
    """Fingerprints of the values that the canary overrides these variables with."""
    hold: OnHold | None = None
    """The operator's hold, while one is in force."""
    held: timedelta = attrs.field(
        default=timedelta(0),
        validator=validation.checked(
            validation.duration, field="rollout.held", high=timedelta(days=365)
        ),
    )
    """How long earlier holds lasted in all."""
    failing_since: datetime | None = attrs.field(
        default=None, converter=validation.utc_or_none, validator=validation.aware_field
    )
    """Since when metrics or alarms cannot be read; None while they can."""
    outcome: Outcome | None = None
    """How it ended, where that is known."""
    ended_by: EndedBy | None = attrs.field(
        default=None,
        validator=validation.checked(
            validation.choice, field="rollout.ended_by", or_none=True, choices=get_args(EndedBy)
        ),
    )
    """Who ended the canary, where that is known."""
    ending: Outcome | None = attrs.field(
        default=None,
        validator=validation.checked(
            validation.choice,
            field="rollout.ending",
            or_none=True,
            choices=(Outcome.ROLLED_BACK, Outcome.DISABLED),
        ),
    )
    """How it ended, if it has no canary any more: written before the canary is ended."""

    def __attrs_post_init__(self) -> None:
        for name in ("started_at", "enabled_at", "failing_since"):
            if (at := getattr(self, name)) is not None:
                check_year(at, f"rollout.{name}")
        if self.hold is not None:
            check_year(self.hold.since, "rollout.hold.since")

    @classmethod
    def of(
        cls,
        state: StageState,
        *,
        at: datetime,
        rollout_id: str,
        release: str | None,
        variables: Mapping[str, str],
        policy: str | None = None,
    ) -> Self:
        """A rollout that begins on `state`, with a canary that overrides these variables."""
        return cls(
            id=rollout_id,
            release=release,
            started_at=at,
            stage_updated_at=state.updated_at,
            stage_deployment_id=state.deployment_id,
            policy=policy,
            production=production_of(state, rollout_id, variables),
            overrides=overrides_of(rollout_id, variables),
        )

    def is_of(self, variables: Mapping[str, str]) -> bool:
        """Whether it runs, with a canary that overrides these variables with these values."""
        return self.outcome is None and self.overrides == overrides_of(self.id, variables)

    def held_for(self, now: datetime) -> timedelta:
        """How long the rollout has been on hold in all."""
        running = now - self.hold.since if self.hold else timedelta(0)
        return self.held + max(running, timedelta(0))

    def resumed(self, now: datetime) -> Self:
        """The same without a hold, its length added to that of the earlier ones."""
        return attrs.evolve(self, hold=None, held=self.held_for(now))

    def accepting(self, state: StageState, variables: Mapping[str, str]) -> Self:
        """The same with production as it is now."""
        return attrs.evolve(self, production=production_of(state, self.id, variables))

    def production_changes(self, state: StageState, variables: Mapping[str, str]) -> dict[str, str]:
        """Production's deployment and overridden variables that differ from the recorded ones."""
        now = production_of(state, self.id, variables)
        changed = {
            name: "changed since the rollout began"
            for name, digest in self.production.items()
            if name in now and now[name] != digest
        }
        if DEPLOYMENT in changed:
            was = fingerprint(self.id, DEPLOYMENT, self.stage_deployment_id)
            before = (
                f" instead of {self.stage_deployment_id}"
                if was == self.production[DEPLOYMENT]
                else ", which is not the one that was accepted"
            )
            changed[DEPLOYMENT] = f"{state.deployment_id}{before}"
        return changed

    def is_promoted_on(self, state: StageState, deployment_id: str) -> bool:
        """Whether production serves what the canary of this deployment served, by fingerprints."""
        return state.deployment_id == deployment_id and all(
            fingerprint(self.id, name, state.variables.get(name.removeprefix(variable(""))))
            == digest
            for name, digest in self.overrides.items()
        )


def production_of(
    state: StageState, rollout_id: str, variables: Mapping[str, str]
) -> dict[str, str]:
    """Fingerprints of production's deployment and of these variables of production."""
    values: dict[str, str | None] = {DEPLOYMENT: state.deployment_id}
    values |= {variable(name): state.variables.get(name) for name in variables}
    return {name: fingerprint(rollout_id, name, value) for name, value in values.items()}


def overrides_of(rollout_id: str, variables: Mapping[str, str]) -> dict[str, str]:
    """Fingerprints of the values that a canary overrides these variables with."""
    return {
        variable(name): fingerprint(rollout_id, variable(name), value)
        for name, value in variables.items()
    }


@attrs.frozen(kw_only=True)
class Record(Serializable):
    """All that a deployment knows of its rollouts on one stage."""

    region: str | None = None
    """The region of the stage."""
    rest_api_id: str | None = None
    """The REST API's id."""
    rollout: Begun | None = None
    """The latest rollout of this deployment."""
    promotion: Promotion | None = None
    """The latest promotion of this deployment, written before it was begun."""
    reverted_from: str | None = None
    """The deployment that was left for this one by the latest revert."""
    ended: Mapping[str, Outcome] = attrs.field(factory=dict)
    """Earlier releases of this deployment, and how they ended."""

    def of_canary(self, variables: Mapping[str, str]) -> "Record":
        """The record without a rollout that is not the one of a canary with these overrides.

        It has ended, or the canary was enabled, or its overrides were changed, outside.
        """
        is_its = self.rollout is not None and self.rollout.is_of(variables)
        return self if is_its else attrs.evolve(self, rollout=None)

    def beginning(self, begun: Begun, before: Outcome | None = None) -> "Record":
        """The record with a new rollout; the one it had is kept with the ended.

        It ended as is on record, or `before`, or else was removed outside.
        """
        ended = dict(self.ended)
        if self.rollout is not None and self.rollout.release is not None:
            known = before or self.rollout.outcome or Outcome.REMOVED_OUTSIDE
            ended[self.rollout.release] = known
        if begun.release is not None:
            ended.pop(begun.release, None)
        return attrs.evolve(self, rollout=begun, ended=dict([*ended.items()][-KEPT_ENDINGS:]))

    def promoting(self, promotion: Promotion) -> "Record":
        """The record with a promotion about to be begun, from production as it then is."""
        begun = self.rollout
        if begun is not None:
            before: dict[str, str | None] = {DEPLOYMENT: promotion.deployment_before}
            before |= {variable(name): was for name, was in promotion.variables_before.items()}
            now = {name: fingerprint(begun.id, name, was) for name, was in before.items()}
            begun = attrs.evolve(begun, production={**begun.production, **now})
        made = attrs.evolve(self, rollout=begun, promotion=promotion, reverted_from=None)
        return made.withdrawn()  # what was announced before, by a process that died

    def ending(self, outcome: Outcome, by: EndedBy | None = None) -> "Record":
        """The record with how its rollout ended; the same where there is no rollout."""
        if self.rollout is None:
            return self
        ended = attrs.evolve(self.rollout, outcome=outcome, ended_by=by, ending=None)
        return attrs.evolve(self, rollout=ended)

    def announcing(self, outcome: Outcome, by: EndedBy) -> "Record":
        """The record with how its rollout is about to end; the same where there is no rollout."""
        if self.rollout is None:
            return self
        return attrs.evolve(self, rollout=attrs.evolve(self.rollout, ending=outcome, ended_by=by))

    def withdrawn(self) -> "Record":
        """The record without an announcement of how its rollout is about to end."""
        if self.rollout is None or self.rollout.ending is None:
            return self
        return attrs.evolve(self, rollout=attrs.evolve(self.rollout, ending=None, ended_by=None))

    def latest(self) -> datetime | None:
        """The latest time that the record states."""
        begun, promotion = self.rollout, self.promotion
        times = [promotion.begun_at] if promotion else []
        if begun is not None:
            held = begun.hold.since if begun.hold else None
            stated = (begun.started_at, begun.enabled_at, begun.failing_since, held)
            times += [at for at in stated if at is not None]
        return max(times, default=None)

    def contradiction(self, deployment_id: str) -> str | None:
        """What in the record of a deployment is impossible, as a sentence; None if nothing is."""
        begun, promotion = self.rollout, self.promotion
        if promotion is None:
            return None
        if promotion.deployment_after != deployment_id:
            return "its promotion is of another deployment"
        if begun is None or promotion.rollout_id != begun.id:
            return None
        if promotion.begun_at < begun.started_at:
            return "its promotion was begun before its rollout"
        before: dict[str, str | None] = {DEPLOYMENT: promotion.deployment_before}
        before |= {variable(name): was for name, was in promotion.variables_before.items()}
        after = {variable(name): now for name, now in promotion.variables_after.items()}
        for values, recorded in ((before, begun.production), (after, begun.overrides)):
            for name, value in values.items():
                if recorded.get(name) != fingerprint(begun.id, name, value):
                    return f"{name} of its promotion is not what the rollout recorded"
        return None

    def begun_promotion(self) -> Promotion | None:
        """The promotion of the rollout that is running, where one was begun."""
        rollout_id = self.rollout.id if self.rollout else None
        promotion = self.promotion
        return promotion if promotion and promotion.rollout_id == rollout_id else None

    def half_undone(self, state: StageState) -> Promotion | None:
        """The promotion that is to be undone, where the canary has ended and production has it.

        A rollback was announced after the promotion was begun. It is under way, or its process
        died; or the promotion ended the canary before it.
        """
        promotion = self.begun_promotion() if self.announced() else None
        if promotion is None or state.canary is not None:
            return None
        return promotion if promotion.is_in_part_on(state) else None

    def announced(self) -> Outcome | None:
        """How the rollout was about to end, where it is not on record how it did."""
        begun = self.rollout
        return begun.ending if begun is not None and begun.outcome is None else None


NO_RECORD = Record()


def _mark(stage: str) -> str:
    return f"{_MARK}{VERSION}:{stage}:"


def _belongs(line: str, stage: str) -> bool:
    return line.startswith(_MARK) and line.split(":", 3)[2:3] == [stage]


def stages_in(description: str | None) -> set[str]:
    """The stages that have a record in a deployment's description."""
    lines = (description or "").split("\n")
    return {"".join(line.split(":", 3)[2:3]) for line in lines if line.startswith(_MARK)}


def without_records(description: str) -> str:
    """A description to be shown: each record in it, which holds values of variables, in a word."""
    lines = description.split("\n")
    return "\n".join("<record>" if line.startswith(_MARK) else line for line in lines)


def read_record(description: str | None, stage: str) -> Record:
    """The stage's record in a deployment's description; `NO_RECORD` where there is none.

    Raises `RecordError` for one that is damaged, too long, there twice, or of another version.
    """
    lines = [line for line in (description or "").split("\n") if _belongs(line, stage)]
    if len(lines) > 1:
        raise _unreadable(stage, f"there are {len(lines)} of them")
    return read_record_line(lines[0], stage) if lines else NO_RECORD


def read_record_line(line: str, stage: str) -> Record:
    """The stage's record from its line. Raises `RecordError` as `read` does."""
    mark = _mark(stage)
    if len(line) > MAX_LINE:
        raise _unreadable(stage, f"it has {len(line)} characters, more than {MAX_LINE}")
    if not line.startswith(mark):
        raise _unreadable(
            stage,
            f"it is of another version than {VERSION}",
            "Use the version of apigw-canary that wrote it. stage.rollback() ends the canary "
            "without it.",
        )
    try:
        record = Record.from_dict(_full(json.loads(line.removeprefix(mark)), stage))
        if record.promotion:
            check_year(record.promotion.begun_at, "promotion.begun_at")
        for name in ("region", "rest_api_id", "reverted_from"):
            if (value := getattr(record, name)) is not None:
                validation.identifier(value, name)
    except InvalidInputError as error:
        raise _unreadable(stage, f"{error.field} must be {error.expected}") from error
    except (ValueError, RecursionError) as error:
        raise _unreadable(stage, "it is no JSON") from error
    return record


def _unreadable(stage: str, reason: str, remedy: str = "") -> RecordError:
    return RecordError(
        f"The record of stage {stage} in the deployment's description cannot be read: "
        f"{sentence(reason)}",
        remedy=remedy
        or "Find out what changed the description; restore its line that begins with "
        f"{_MARK!r}, or delete it. stage.rollback() ends a canary without it.",
    )


_PLACE = ("region", "rest_api_id", "stage")
"""What a promotion has in common with its record, and what is written once."""


def _full(data: object, stage: str) -> Any:
    """The record's data, with the field that the record of its promotion has too."""
    promotion = data.get("promotion") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(promotion, dict):
        return data
    for name in _PLACE:
        if name in promotion:
            validation.refuse(
                f"a key of promotion in a record of stage {stage}", "another one", name
            )
    place = {"region": data.get("region"), "rest_api_id": data.get("rest_api_id"), "stage": stage}
    return {**data, "promotion": {**promotion, **place}}


def with_record(description: str | None, stage: str, record: Record) -> str:
    """The description with the stage's record replaced and all else as it was."""
    kept = [line for line in (description or "").split("\n") if not _belongs(line, stage)]
    line = record_line(record, stage)
    return "\n".join([*kept, line] if any(kept) else [line])


def record_line(record: Record, stage: str) -> str:
    """The record as the stage's line. Raises `RecordError` for one that is too long."""
    data = _plain(record.to_dict())
    for name in _PLACE if record.promotion else ():
        del data["promotion"][name]
    line = _mark(stage) + json.dumps(data, separators=(",", ":"))
    if len(line) > MAX_LINE:
        raise RecordError(
            f"The record would take {len(line)} characters, more than {MAX_LINE}.",
            remedy="Change fewer or shorter stage variables in one rollout.",
        )
    return line


def check_text(description: str) -> None:
    """Refuse a user's text that would be taken for a record."""
    if not isinstance(description, str):
        validation.refuse("description", "a text", description)
    if any(line.startswith(_MARK) for line in description.split("\n")):
        validation.refuse(
            "description", f"text without a line that begins with {_MARK!r}", description
        )


def _plain(data: dict[str, Any]) -> dict[str, Any]:
    """Without what is absent, empty, or the default."""
    return {
        name: _plain(value) if isinstance(value, dict) and name not in _WHOLE else value
        for name, value in data.items()
        if value not in (None, 0.0, {}) or name in _WHOLE
    }


_WHOLE = ("variables_before", "variables_after")
