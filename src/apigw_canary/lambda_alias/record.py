"""The record of a rollout on a Lambda alias: at the end of the alias's own description.

```text
User's text [apigw-canary:2 5f1c9e0b7a3d2468 1767603600 1767604200 025.00 7>8 r - - - 2026-11.1]
```

Rollout id, start, start of the step, percent, versions before and after, outcome, hold, the
promotion before this rollout, earlier releases, release. The id ends in a digest of the alias that
it is of. A description takes 256 characters. A hold takes up to 20 of them, for which earlier
releases are forgotten. The reason of a hold, the policy, and since when metrics cannot be read are
only kept in a caller's store, as JSON. The record is input like any other: parsed strictly.
"""

import json
import os
import re
from datetime import UTC, datetime, timedelta

import attrs

from apigw_canary.errors import InvalidInputError, RecordError
from apigw_canary.model import (
    MAX_LINE,
    MAX_REASON,
    EndedBy,
    Outcome,
    StageState,
    check_digest,
    check_year,
)
from apigw_canary.values import Serializable, sentence, validation

MAX_DESCRIPTION = 256
"""Characters that Lambda takes (its API reference, UpdateAlias)."""

KEPT_ENDINGS = 4
"""How many earlier releases a description lists, if its 256 characters suffice."""

REMEMBERED = 64
"""How many earlier releases a caller's store remembers: as many as fit a line of 500 characters."""

_MARK = "[apigw-canary:"
CODES: dict[tuple[Outcome | None, EndedBy | None], str] = {
    (None, None): "r",
    (Outcome.PROMOTED, None): "p",
    (Outcome.REVERTED, None): "u",
    (Outcome.ROLLED_BACK, "judge"): "j",
    (Outcome.ROLLED_BACK, "caller"): "c",
    (Outcome.ROLLED_BACK, "operator"): "o",
    (Outcome.DISABLED, "caller"): "d",
    (Outcome.REMOVED_OUTSIDE, None): "e",
    (Outcome.PROMOTED_OUTSIDE, None): "x",
}
"""How a rollout ended, and who ended it, as one letter; "r" while it runs."""

_OUTCOMES = {code: ending for ending, code in CODES.items()}

_RECORD = (
    r"(?:(?P<text>.*) )?\[apigw-canary:2 (?P<id>[0-9a-f]{16}) (?P<start>\d{10}) (?P<step>\d{10}) "
    r"(?P<percent>[01]\d\d\.\d\d) (?P<before>\d{1,9})>(?P<after>\d{1,9}) (?P<outcome>[rpujcodex]) "
    r"(?:h(?P<hold>\d{10})|-)(?P<held>\d{0,8}) "
    r"(?P<promoted>-|\d{1,9}>\d{1,9}@\d{10}) "
    r"(?P<past>-|(?:[pujcodex][0-9a-f]{6})+) (?P<release>.*)\]"
)


@attrs.frozen
class LastPromotion(Serializable):
    """What a promotion changed, and when."""

    before: str
    after: str
    at: datetime = attrs.field(converter=validation.utc, validator=validation.aware_field)


@attrs.frozen(kw_only=True)
class AliasRecord(Serializable):
    """What an alias knows of its latest rollout."""

    id: str
    """Unique to the rollout."""
    release: str | None
    """The release, as given to `enable_canary`."""
    started_at: datetime = attrs.field(converter=validation.utc, validator=validation.aware_field)
    """When the canary was enabled, to the second."""
    step_started_at: datetime = attrs.field(
        converter=validation.utc, validator=validation.aware_field
    )
    """When its present percent was set."""
    percent: float
    """That percent; another one on the alias was set outside this library."""
    before: str
    """The version that the alias invoked before."""
    after: str
    """The canary's version."""
    outcome: Outcome | None = None
    """How it ended; None while it runs."""
    ended_by: EndedBy | None = None
    """Who ended it, where that is known."""
    hold_since: datetime | None = attrs.field(
        default=None, converter=validation.utc_or_none, validator=validation.aware_field
    )
    """Since when an operator holds it; None where it is not on hold."""
    hold_reason: str | None = None
    """Why; only in a store."""
    held: timedelta = timedelta(0)
    """How long earlier holds lasted in all, to the second."""
    policy: str | None = None
    """A fingerprint of the policy that was given to `enable_canary`; only in a store."""
    failing_since: datetime | None = attrs.field(
        default=None, converter=validation.utc_or_none, validator=validation.aware_field
    )
    """Since when metrics or alarms cannot be read; only in a store."""
    promoted: LastPromotion | None = None
    """The promotion that came before this rollout, for `alias.revert()` once this one has ended
    without a promotion."""
    past: str = ""
    """Earlier releases that ended, latest last: a letter for the outcome, six digits of a hash."""

    def ended(self, release: str) -> Outcome | None:
        """How a release ended, as far as it is remembered."""
        if release == self.release:
            return self.outcome
        for ending in reversed(re.findall(".{7}", self.past)):
            if ending[1:] == _digest(release):
                return _OUTCOMES[ending[0]][0]
        return None

    def remembered(self) -> str:
        """What the record of the next rollout keeps of this one and of those before it."""
        ending = ""
        if self.release is not None and self.outcome is not None:
            ending = CODES[self.outcome, self.ended_by] + _digest(self.release)
        return (self.past + ending)[-7 * REMEMBERED :]

    def last_promotion(self) -> LastPromotion | None:
        """The latest promotion that is not undone: of this rollout, or before it."""
        if self.outcome is Outcome.PROMOTED:
            return LastPromotion(self.before, self.after, self.step_started_at)
        return None if self.outcome is Outcome.REVERTED else self.promoted

    def is_same_rollout(self, other: "AliasRecord | None") -> bool:
        """Whether the other one states the same of the same rollout, at whatever time."""
        return other is not None and (self.id, self.outcome, self.before, self.after) == (
            other.id,
            other.outcome,
            other.before,
            other.after,
        )

    def is_of(self, place: str) -> bool:
        """Whether it is the record of this alias: region, function and name."""
        return self.id == _id(self.id[:10], place)

    def latest(self) -> datetime:
        """The latest time that the record states."""
        times = [self.started_at, self.step_started_at, self.hold_since, self.failing_since]
        promoted = self.promoted.at if self.promoted is not None else None
        return max(at for at in (*times, promoted) if at is not None)

    def is_on(self, state: StageState) -> bool:
        """Whether the alias is as the change left it that this is the record of."""
        if self.outcome is None:
            return self.runs_on(state) and _percent(state) == self.percent
        canary = state.canary.deployment_id if state.canary else None
        if self.outcome is Outcome.PROMOTED:
            return canary is None and state.deployment_id == self.after
        return self.after not in {canary, state.deployment_id}

    def held_for(self, now: datetime) -> timedelta:
        """How long the rollout has been on hold in all."""
        running = now - self.hold_since if self.hold_since else timedelta(0)
        return self.held + max(running, timedelta(0))

    def runs_on(self, state: StageState) -> bool:
        """Whether the canary of `state` is the one on record."""
        canary = state.canary
        return self.outcome is None and canary is not None and canary.deployment_id == self.after

    def settled_on(self, state: StageState) -> "AliasRecord":
        """The record with the outcome that the alias shows, if another tool ended the rollout."""
        outcome = self.outcome
        if outcome is None and not self.runs_on(state):
            promoted = state.deployment_id == self.after
            outcome = Outcome.PROMOTED_OUTSIDE if promoted else Outcome.REMOVED_OUTSIDE
        elif outcome is Outcome.PROMOTED and state.deployment_id == self.before:
            outcome = Outcome.REVERTED
        return attrs.evolve(self, outcome=outcome)


def _percent(state: StageState) -> float:
    return state.canary.percent if state.canary else 0.0


def _digest(text: str) -> str:
    import hashlib  # here, to keep the import of the library cheap

    return hashlib.sha256(text.encode()).hexdigest()[:6]


def _id(token: str, place: str) -> str:
    return token + _digest(f"{token} {place}")


def new_id(place: str) -> str:
    """The id of a rollout on an alias, which shows that it is of no other alias."""
    return _id(os.urandom(5).hex(), place)


def read(description: str) -> AliasRecord | None:
    """The record in an alias's description, None where there is none.

    Raises `RecordError` for one that is damaged, there twice, or of another version.
    """
    if _MARK not in description:
        return None
    if description.count(_MARK) > 1:
        raise _unreadable(f"there are {description.count(_MARK)} of them")
    found = re.fullmatch(_RECORD, description, re.DOTALL | re.ASCII)
    if found is None:
        raise _unreadable("it is not as it was written, or of another version than 2")
    release = found["release"]
    percent = float(found["percent"])
    if percent > 100 or (release and not release.isprintable()):
        raise _unreadable("a percent above 100, or a release that cannot be printed")
    return AliasRecord(
        id=found["id"],
        release=release or None,
        started_at=datetime.fromtimestamp(int(found["start"]), UTC),
        step_started_at=datetime.fromtimestamp(int(found["step"]), UTC),
        percent=percent,
        before=found["before"],
        after=found["after"],
        outcome=_OUTCOMES[found["outcome"]][0],
        ended_by=_OUTCOMES[found["outcome"]][1],
        hold_since=datetime.fromtimestamp(int(found["hold"]), UTC) if found["hold"] else None,
        held=timedelta(seconds=int(found["held"] or 0)),
        promoted=_promotion(found["promoted"]),
        past=found["past"].removeprefix("-"),
    )


def _promotion(text: str) -> LastPromotion | None:
    if text == "-":
        return None
    versions, _, at = text.partition("@")
    before, _, after = versions.partition(">")
    return LastPromotion(before, after, datetime.fromtimestamp(int(at), UTC))


def text_of(description: str) -> str:
    """The user's part of a description, without the record. Raises `RecordError` as `read`."""
    text, mark, _ = description.partition(_MARK)
    return text.removesuffix(" ") if mark and read(description) else text


def written(text: str, record: AliasRecord) -> str:
    """The description with the user's text and the record.

    Raises `RecordError` where both do not fit; earlier releases are forgotten before that.
    """
    past = record.past[-7 * KEPT_ENDINGS :]
    hold = f"h{record.hold_since.timestamp():.0f}" if record.hold_since else "-"
    hold += f"{record.held.total_seconds():.0f}" if record.held else ""
    done = record.promoted
    promoted = f"{done.before}>{done.after}@{done.at.timestamp():.0f}" if done else "-"
    while True:
        description = (
            f"{text}{' ' if text else ''}{_MARK}2 {record.id} {record.started_at.timestamp():.0f} "
            f"{record.step_started_at.timestamp():.0f} {record.percent:06.2f} "
            f"{record.before}>{record.after} {CODES[record.outcome, record.ended_by]} {hold} "
            f"{promoted} {past or '-'} "
            f"{record.release or ''}]"
        )
        too_many = len(description) - MAX_DESCRIPTION
        if too_many <= 0:
            return description
        if not past:
            raise RecordError(
                f"The alias's description takes {MAX_DESCRIPTION} characters; its text, "
                f"{len(text)} of them, and the record of the rollout are {too_many} too many.",
                remedy="Give a shorter description= or release=.",
            )
        past = past[7:]


def check_text(value: object, field: str) -> None:
    """Refuse a user's text that would be taken for a record."""
    if not isinstance(value, str) or _MARK in value:
        validation.refuse(field, f"a text without {_MARK!r}", value)


def line(record: AliasRecord) -> str:
    """The record as a caller's store keeps it."""
    return json.dumps({"version": 2, **record.to_dict()})


def read_line(text: str) -> AliasRecord:
    """The record from a caller's store. Raises `RecordError` for one that cannot be one."""
    if len(text) > MAX_LINE:
        raise _unreadable(f"it has {len(text)} characters, more than {MAX_LINE}", "store")
    try:
        data = json.loads(text)
        if not isinstance(data, dict) or data.pop("version", None) != 2:
            raise _unreadable("it is of another version than 2", "store")
        record = AliasRecord.from_dict(data)
        _check(record)
    except InvalidInputError as error:
        raise _unreadable(f"{error.field} must be {error.expected}", "store") from error
    except (ValueError, RecursionError) as error:
        raise _unreadable("it is no JSON", "store") from error
    return record


def _check(record: AliasRecord) -> None:
    """Refuse what a description cannot have."""
    done = record.promoted or record
    versions = (record.before, record.after, done.before, done.after)
    for name, value, form in (
        ("id", record.id, "[0-9a-f]{16}"),
        ("past", record.past, "([pujcodex][0-9a-f]{6})*"),
        *(("a version", version, "[0-9]{1,9}") for version in versions),
    ):
        if not re.fullmatch(form, value):
            validation.refuse(name, f"of the form {form}", value)
    if (record.outcome, record.ended_by) not in CODES:
        validation.refuse("outcome", "one that such a rollout can have", record.outcome)
    validation.percent(record.percent)
    validation.duration(record.held, "held", high=timedelta(days=365))
    for name, limit in (("release", 200), ("hold_reason", MAX_REASON)):
        if (text := getattr(record, name)) is not None:
            validation.text(text, name, limit=limit)
    if record.policy is not None:
        check_digest(record.policy, "policy")
    for name in ("started_at", "step_started_at", "hold_since", "failing_since"):
        if (at := getattr(record, name)) is not None:
            check_year(at, name)


def _unreadable(reason: str, where: str = "alias's description") -> RecordError:
    fix = "Find out what changed the description; restore what begins with "
    fix += f"{_MARK!r}, or delete it with UpdateAlias."
    return RecordError(
        f"The record in the {where} cannot be read: {sentence(reason)}",
        remedy=f"{'Fix the store.' if where == 'store' else fix} alias.rollback() ends a canary "
        "without it.",
    )
