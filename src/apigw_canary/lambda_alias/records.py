"""Where the record of an alias is kept: in its description, or in a caller's store."""

from typing import NamedTuple

from apigw_canary.aws import Alias, AliasSnapshot
from apigw_canary.changes.control import log
from apigw_canary.changes.records import CLOCKS_APART, RolloutRecords, Store
from apigw_canary.errors import CanaryError, RecordError
from apigw_canary.lambda_alias.record import AliasRecord, line, read, read_line, text_of, written
from apigw_canary.values import moment

_NOW, _BEFORE = "record", "before"
"""Names in the store: the record, and while a change is being made the one from before it."""


class Kept(NamedTuple):
    """A record as it was read."""

    record: AliasRecord | RecordError | None
    """The record; None where there is none; or what keeps it from being read."""
    text: str | None = None
    """What the store has: it is replaced only as long as it has that."""


class AliasRecords:
    """Keeps the record of one alias.

    Without a store it is in the description, which changes in one call with the alias. With a store
    the description is not consulted: the store gets the record before the change is made, beside
    the one from before, and the alias shows which of the two holds.
    """

    def __init__(self, alias: Alias, store: RolloutRecords | None) -> None:
        self._alias = alias
        self._store = store

    @property
    def place(self) -> str:
        """Region, function and alias."""
        return f"{self._alias.region}/{self._alias.function}/{self._alias.name}"

    @property
    def is_stored(self) -> bool:
        """Whether there is a store."""
        return self._store is not None

    def read(self, seen: AliasSnapshot) -> Kept:
        """The record of the alias as it was seen; one load where there is a store."""
        try:
            if self._store is None:
                return Kept(self._believed(read(seen.description), seen))
            text, lines = self._stored(self._store).load()
            found = {
                name: self._believed(read_line(each), seen) for name, each in lines.items() if each
            }
        except RecordError as error:
            return Kept(error)
        now, before = found.get(_NOW), found.get(_BEFORE)
        if now is None or _BEFORE not in lines or now.is_on(seen.stage):
            return Kept(now, text)
        is_before = before is not None and before.is_on(seen.stage)
        return Kept(now if now.runs_on(seen.stage) and not is_before else before, text)

    def _stored(self, store: RolloutRecords) -> Store:
        return Store(store, self._alias.region, "lambda", self._alias.function, self._alias.name)

    def _believed(self, record: AliasRecord | None, seen: AliasSnapshot) -> AliasRecord | None:
        if record is None:
            return None
        if not record.is_of(self.place):
            wrong = "it is of another alias"
        elif record.latest() > seen.at + CLOCKS_APART:
            wrong = f"it states a time in the future, {moment(record.latest())}"
        else:
            return record
        raise RecordError(
            f"The record of alias {self.place} is not used: {wrong}.",
            remedy="Find out what changed it. alias.rollback() ends a canary without it.",
        )

    def announced(
        self, kept: Kept, description: str, record: AliasRecord, text: str | None
    ) -> str | None:
        """The description that a change is sent with; None: it stays. `text` is the user's.

        Where there is a store, it has the record from now on.
        """
        if self._store is None:
            return written(text_of(description) if text is None else text, record)
        before = line(kept.record) if isinstance(kept.record, AliasRecord) else ""
        lines = {_NOW: line(record), _BEFORE: before}
        self._stored(self._store).save(lines, expected=kept.text)
        return text

    def confirm(self, record: AliasRecord, kept: Kept) -> Kept:
        """The change that was announced was made: the store keeps its record alone."""
        if self._store is None or kept.record != record:
            return kept
        try:
            return self.save(record, kept)
        except CanaryError as error:
            log.warning("alias %s: a change is not on record as made: %s", self.place, error)
            return kept

    def save(self, record: AliasRecord, kept: Kept) -> Kept:
        """A record without a change of the alias, in the store."""
        assert self._store is not None
        lines = {_NOW: line(record)}
        return Kept(record, self._stored(self._store).save(lines, expected=kept.text))
