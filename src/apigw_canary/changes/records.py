"""Where the records of rollouts are kept: on the deployments themselves, or in a caller's store."""

import json
from typing import Protocol

from apigw_canary.aws.apigateway import ApiGateway, Deployment
from apigw_canary.changes.sending import SENDINGS
from apigw_canary.errors import RecordError, StageChangedError, UnansweredError
from apigw_canary.rollout.record import Record, read, read_line, written, written_line


class RolloutRecords(Protocol):
    """A store of the caller's own for the records of rollouts: a table, a bucket, a file.

    One text a stage, under a key such as `eu-central-1/a1b2c3d4e5/prod`.
    """

    def load(self, key: str) -> str | None:
        """The text under the key; None if there is none."""
        ...

    def save(self, key: str, text: str, *, expected: str | None) -> None:
        """Replace the text, if it is still `expected` (None: if there is none yet).

        Raises an exception where it is not: somebody else is changing the same stage. A store that
        compares and sets in one step is a lock, which AWS itself does not have.
        """
        ...


class Records(Protocol):
    """What the changes need of a place for records."""

    def of(self, deployment: Deployment) -> Record:
        """The stage's record of a deployment. Raises `RecordError` where it cannot be read."""
        ...

    def adopt(self, created: Deployment, record: Record) -> Deployment:
        """Keep the record of a deployment that was created with it in its description."""
        ...

    def save(self, deployment: Deployment, record: Record) -> Deployment:
        """Keep the record; the deployment as it then is. Raises `RecordError`, or AWS's no."""
        ...


class DescriptionRecords:
    """Keeps the record in the deployment's description."""

    def __init__(self, gateway: ApiGateway) -> None:
        self._gateway = gateway

    def of(self, deployment: Deployment) -> Record:
        """From the description as it was read with the deployment: no call."""
        return read(deployment.description, self._gateway.stage_name)

    def adopt(self, created: Deployment, record: Record) -> Deployment:  # noqa: ARG002
        """Nothing to do: the description has it."""
        return created

    def save(self, deployment: Deployment, record: Record) -> Deployment:
        """One UpdateDeployment, compared with its answer."""
        description = written(deployment.description, self._gateway.stage_name, record)
        for _ in range(SENDINGS):
            try:
                saved = self._gateway.describe_deployment(deployment.id, description)
            except UnansweredError:
                saved = self._gateway.deployment(deployment.id)
            if saved.description == description:
                return saved
        raise RecordError(
            f"The record of deployment {deployment.id} was sent {SENDINGS} times, and AWS keeps "
            "another text."
        )


class StoredRecords:
    """Keeps the records of a stage in the caller's store, each under its deployment's id."""

    def __init__(self, store: RolloutRecords, gateway: ApiGateway) -> None:
        self._store = store
        self._gateway = gateway
        self._on_aws = DescriptionRecords(gateway)

    @property
    def _key(self) -> str:
        gateway = self._gateway
        return f"{gateway.region}/{gateway.rest_api_id}/{gateway.stage_name}"

    def of(self, deployment: Deployment) -> Record:
        """From the store; a deployment that it does not know, from the description."""
        _, lines = self._load()
        if deployment.id not in lines:
            return self._on_aws.of(deployment)
        return read_line(lines[deployment.id], self._gateway.stage_name)

    def adopt(self, created: Deployment, record: Record) -> Deployment:
        """Into the store too."""
        return self.save(created, record)

    def save(self, deployment: Deployment, record: Record) -> Deployment:
        """Into the store, unless somebody else wrote there in between."""
        text, lines = self._load()
        lines[deployment.id] = written_line(record, self._gateway.stage_name)
        try:
            self._store.save(self._key, json.dumps(lines), expected=text)
        except Exception as error:
            raise StageChangedError(
                f"The store of records refused to change {self._key}: {error}",
                differences={"record": "somebody else may be changing the stage"},
                state="Nothing was sent to AWS.",
                remedy="Run the same line again; stage.describe() shows what the other one did.",
            ) from error
        return deployment

    def _load(self) -> tuple[str | None, dict[str, str]]:
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
                remedy="Mend the store; no change is made without its record.",
            ) from error
        return text, lines
