"""Where the records of rollouts are kept: on the deployments themselves, or in a caller's store."""

import json
import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Protocol

import attrs

from apigw_canary.aws import ApiGateway, Deployment
from apigw_canary.changes.sending import SENDINGS
from apigw_canary.errors import RecordError, StageChangedError, UnansweredError
from apigw_canary.model import (
    NO_RECORD,
    Record,
    read_record,
    read_record_line,
    record_line,
    with_record,
)
from apigw_canary.values import moment


class RolloutRecords(Protocol):
    """The interface of your own store for the records of rollouts: a table, a bucket or a file.

    It stores one text for each stage, under a key such as `eu-central-1/a1b2c3d4e5/prod`, and for
    each alias, under a key such as `eu-central-1/lambda/orders/live`.
    """

    def load(self, key: str) -> str | None:
        """Return the text under the key; None if there is none."""
        ...

    def save(self, key: str, text: str, *, expected: str | None) -> None:
        """Replace the text under the key if it is still `expected`; None means that there is none
        yet.

        Raise any exception if it is not `expected`, because another process is changing the same
        stage. Compare and replace in one atomic step: the store is then a lock between processes.
        """
        ...


class Records(Protocol):
    """What the changes need of a place for records."""

    def of(self, deployment: Deployment, at: datetime | None = None) -> Record:
        """The stage's record of a deployment, checked against what is known of the stage at `at`.

        Raises `RecordError` where it cannot be read, or cannot be true.
        """
        ...

    def described(self, text: str | None, record: Record) -> str:
        """A description with the user's text and the record."""
        ...

    def adopt(self, created: Deployment, record: Record) -> Deployment:
        """Keep the record of a deployment that was created with it in its description."""
        ...

    def dry(self, gateway: ApiGateway) -> "Records":
        """The same for a gateway that sends no writes; nothing is kept."""
        ...

    def save(self, deployment: Deployment, record: Record, *, once: bool = False) -> Deployment:
        """Keep the record, and read it back; the deployment as it then is.

        `once`: it is sent once, and not read back from AWS.

        Raises `RecordError` where it is not kept, or AWS's refusal.
        """
        ...


CLOCKS_APART = timedelta(minutes=5)
"""How far ahead of AWS's clock a recorded time may be: a caller's own clock may have stated it."""


class _Checked:
    """Records of one stage, each checked against what is known of the stage."""

    def __init__(self, gateway: ApiGateway) -> None:
        self._gateway = gateway

    def described(self, text: str | None, record: Record) -> str:
        """A description with the user's text and the record."""
        return with_record(text, self._gateway.stage_name, self._placed(record))

    def _placed(self, record: Record) -> Record:
        return attrs.evolve(
            record, region=self._gateway.region, rest_api_id=self._gateway.rest_api_id
        )

    def _verified(self, record: Record, deployment: Deployment, at: datetime | None) -> Record:
        if record == NO_RECORD:
            return record
        gateway = self._gateway
        latest = record.latest()
        if record != self._placed(record):
            wrong = f"it is of API {record.rest_api_id} in {record.region}"
        elif at is not None and latest is not None and latest > at + CLOCKS_APART:
            wrong = f"it states a time in the future, {moment(latest)}"
        else:
            wrong = record.contradiction(deployment.id) or ""
        if wrong:
            raise RecordError(
                f"The record of stage {gateway.stage_name} on deployment {deployment.id} is not "
                f"used: {wrong}.",
                remedy="Find out what changed it. stage.rollback() ends a canary without it; "
                "stage.revert(promotion) takes the receipt that promote() returned.",
            )
        return record


class DescriptionRecords(_Checked):
    """Keeps the record in the deployment's description."""

    def dry(self, gateway: ApiGateway) -> "DescriptionRecords":
        """The same for a gateway that sends no writes."""
        return DescriptionRecords(gateway)

    def of(self, deployment: Deployment, at: datetime | None = None) -> Record:
        """From the description as it was read with the deployment: no call."""
        record = read_record(deployment.description, self._gateway.stage_name)
        return self._verified(record, deployment, at)

    def adopt(self, created: Deployment, record: Record) -> Deployment:  # noqa: ARG002
        """Nothing to do: the description has it."""
        return created

    def save(self, deployment: Deployment, record: Record, *, once: bool = False) -> Deployment:
        """One UpdateDeployment, and one GetDeployment to read it back."""
        description = self.described(deployment.description, record)
        if once:
            return self._gateway.describe_deployment(deployment.id, description)
        for _ in range(SENDINGS):
            with suppress(UnansweredError):  # reading it back tells
                self._gateway.describe_deployment(deployment.id, description)
            saved = self._gateway.deployment(deployment.id)
            if saved.description == description:
                return saved
        raise RecordError(
            f"The record of deployment {deployment.id} was sent {SENDINGS} times, but AWS has "
            "another text."
        )


class Store:
    """A caller's store, as far as one stage or alias is concerned: texts by their names."""

    def __init__(self, store: RolloutRecords, *key: str) -> None:
        self._store = store
        self._key = "/".join(key)

    def load(self) -> tuple[str | None, dict[str, str]]:
        """The text as it is kept, and what it has. Raises `RecordError` where it has neither."""
        try:
            text = self._store.load(self._key)
            lines = json.loads(text) if text is not None else {}
            if not isinstance(lines, dict) or not all(
                isinstance(line, str) for line in lines.values()
            ):
                raise TypeError("not an object of strings")  # noqa: TRY301 - one way out for all
        except Exception as error:
            raise RecordError(
                f"The store of records cannot be read at {self._key}: {error}",
                remedy="Fix the store; no change is made without its record.",
            ) from error
        return text, lines

    def save(self, lines: Mapping[str, str], *, expected: str | None) -> str:
        """Replace the text, unless another process did since it was read; then read it back."""
        text = json.dumps(lines)
        try:
            self._store.save(self._key, text, expected=expected)
        except Exception as error:
            raise StageChangedError(
                f"The store of records refused to change {self._key}: {error}",
                differences={"record": "another process may be changing the stage"},
                remedy="Run the same line again. describe() shows what the other process changed.",
            ) from error
        kept, found = self.load()
        if kept is None or found != lines:
            raise RecordError(
                f"The store of records accepted the record at {self._key}, but contains another "
                "one.",
                remedy="Fix the store, or find out what else writes to it.",
            )
        return kept


class _Unsaved:
    """A store of which only the reads reach the caller's."""

    def __init__(self, store: RolloutRecords) -> None:
        self._store = store
        self._saved: dict[str, str] = {}

    def load(self, key: str) -> str | None:
        """The text that would be there."""
        return self._saved[key] if key in self._saved else self._store.load(key)

    def save(self, key: str, text: str, *, expected: str | None) -> None:  # noqa: ARG002
        """Keep the text in memory."""
        self._saved[key] = text


class StoredRecords(_Checked):
    """Keeps the records of a stage in the caller's store, each under its deployment's id.

    Descriptions are not consulted: what the store does not know is not on record.
    """

    def __init__(self, store: RolloutRecords, gateway: ApiGateway) -> None:
        super().__init__(gateway)
        self._store = store
        self._read = threading.local()  # which line each thread read last of each deployment

    def dry(self, gateway: ApiGateway) -> "StoredRecords":
        """The same for a gateway that sends no writes; what is saved is kept in memory."""
        return StoredRecords(_Unsaved(self._store), gateway)

    @property
    def _records(self) -> Store:
        gateway = self._gateway
        return Store(self._store, gateway.region, gateway.rest_api_id, gateway.stage_name)

    def of(self, deployment: Deployment, at: datetime | None = None) -> Record:
        """From the store; of a deployment that it does not know there is no record."""
        _, lines = self._records.load()
        setattr(self._read, deployment.id, lines.get(deployment.id))
        if deployment.id not in lines:
            return NO_RECORD
        record = read_record_line(lines[deployment.id], self._gateway.stage_name)
        return self._verified(record, deployment, at)

    def adopt(self, created: Deployment, record: Record) -> Deployment:
        """Into the store too."""
        return self.save(created, record)

    def save(
        self,
        deployment: Deployment,
        record: Record,
        *,
        once: bool = False,  # noqa: ARG002 - a store is asked once anyway
    ) -> Deployment:
        """Into the store, unless another process wrote there in between; then read back."""
        text, lines = self._records.load()
        before = lines.get(deployment.id)
        if before != getattr(self._read, deployment.id, before):
            raise StageChangedError(
                f"Another process changed the record of deployment {deployment.id} in the store.",
                differences={"record": "changed since it was read"},
                remedy="Run the same line again. stage.describe() shows what the other process "
                "did.",
            )
        line = record_line(self._placed(record), self._gateway.stage_name)
        self._records.save({**lines, deployment.id: line}, expected=text)
        setattr(self._read, deployment.id, line)
        return deployment
