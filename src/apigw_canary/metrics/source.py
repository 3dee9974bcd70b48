"""What the sources of metrics on AWS have in common: how they come to call it."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime
from typing import Self

from apigw_canary.aws.calls import Calls, Session
from apigw_canary.judge.observation import Measurements, MetricSource
from apigw_canary.judge.signals import Signal
from apigw_canary.model.state import StageState
from apigw_canary.values import validation


class AwsSource(ABC):
    """A source that a stage lets call AWS as it does itself."""

    def __init__(self, session: Session | None) -> None:
        self._session = session
        self._calls: Calls | None = None
        self._forget()

    @abstractmethod
    def minutes(
        self, stage: StageState, signals: Sequence[Signal], start: datetime, end: datetime
    ) -> Measurements:
        """As `MetricSource` has it."""

    @abstractmethod
    def _forget(self) -> None:
        """Begin with nothing known of what was read."""

    def using(self, calls: Calls) -> Self:
        """A copy that calls AWS as `calls` does; in its own session if it was given one.

        A stage calls this when it is made. A source that wraps this one passes `calls` on.
        """
        bound = copy.copy(self)
        bound._bind(calls.within(self._session) if self._session is not None else calls)  # noqa: SLF001 - another of this class
        return bound

    def _bind(self, calls: Calls) -> None:
        self._calls = calls
        self._forget()

    def _own_calls(self) -> Calls:
        """How AWS is called; by itself, without a stage, as boto3 would."""
        if self._calls is None:
            self._calls = Calls(self._session)
        return self._calls


def bound_to(calls: Calls, source: MetricSource) -> MetricSource:
    """The source as a stage uses it: what its `using` gives, if it has one."""
    validation.source(source)
    using = getattr(source, "using", None)
    if using is None:
        return source
    bound: MetricSource = using(calls)
    validation.source(bound)
    return bound
