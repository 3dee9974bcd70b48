"""What the sources of metrics on AWS have in common: how they come to call it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime
from typing import Self

from apigw_canary.aws.calls import Calls, Session
from apigw_canary.rollout.observation import Measurements
from apigw_canary.rollout.signals import Signal
from apigw_canary.rollout.state import StageState


class AwsSource(ABC):
    """A source that a stage lets call AWS as it does itself."""

    def __init__(self, session: Session | None) -> None:
        self._session = session
        self._calls: Calls | None = None

    @abstractmethod
    def minutes(
        self, stage: StageState, signals: Sequence[Signal], start: datetime, end: datetime
    ) -> Measurements:
        """As `MetricSource` has it."""

    @abstractmethod
    def _again(self) -> Self:
        """One that was made in the same way, and knows nothing yet of what was read."""

    def using(self, calls: Calls) -> Self:
        """The same, calling AWS as its stage does; in its own session if it was given one."""
        bound = self._again()
        own = calls.within(self._session) if self._session is not None else calls
        bound._calls = own  # noqa: SLF001 - another of this class
        return bound

    def _own_calls(self) -> Calls:
        """How AWS is called; by itself, without a stage, as boto3 would."""
        if self._calls is None:
            self._calls = Calls(self._session)
        return self._calls
