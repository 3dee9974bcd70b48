"""Every exception that this library raises, ordered by its cause.

```text
CanaryError
├── CallerError                      the a wrong call; no change of traffic was sent
│   ├── InvalidInputError            (ValueError)       a value outside its range
│   ├── NotFoundError                (LookupError)      no such API, stage or deployment
│   ├── AmbiguousNameError           (LookupError)      several APIs of that name
│   ├── NoCanaryError                (LookupError)      the stage has no canary
│   ├── NothingToRevertError         (LookupError)      no promotion is known
│   ├── CanaryAlreadyEnabledError                       another canary is running
│   ├── RolloutEndedError                               the rollout of this release has ended
│   ├── WeakenedApiError                                methods would be removed or less protected
│   └── DecisionExpiredError         (TimeoutError)     a decision is too old
├── AwsError                         AWS refused the call
│   ├── AccessDeniedError            (PermissionError)  a permission is missing
│   ├── CredentialsError             (PermissionError)  missing, expired or not accepted
│   ├── ThrottledError               (TimeoutError)     still refused after every retry
│   └── UnreachableError             (TimeoutError)     nothing was sent
├── StageChangedError                the stage was changed outside this rollout
└── CannotTellError                  what happened could not be established
    ├── UnconfirmedChangeError                          the stage is not as requested
    ├── UnansweredError              (TimeoutError)     a call was sent and not answered
    ├── RecordError                                     the record cannot be read or written
    └── MetricsError                                    metrics or alarms cannot be read
```

Each message states what happened, what is known of the stage, and what to do. The three parts are
also attributes, and so are the facts that a program needs.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol, Self, TypeVar

import attrs

from apigw_canary.texts import bounded

_LONGEST_HAPPENED, _LONGEST_STATE, _LONGEST_REMEDY = 1000, 450, 540
"""Characters of each part of a message, so that no message is longer than 2,000."""

_Error = TypeVar("_Error", bound=BaseException)


class CanaryAsRead(Protocol):
    """A canary as it was read: `apigw_canary.CanaryState`."""

    @property
    def deployment_id(self) -> str:
        """The deployment that serves the canary's requests."""
        ...

    @property
    def percent(self) -> float:
        """The canary's percent of the requests, 0 to 100."""
        ...

    @property
    def variables(self) -> Mapping[str, str]:
        """The stage variables that the canary overrides."""
        ...


class StageAsRead(Protocol):
    """A stage as it was read: `apigw_canary.StageState`."""

    @property
    def deployment_id(self) -> str:
        """The deployment that serves the stage's own requests."""
        ...

    @property
    def variables(self) -> Mapping[str, str]:
        """The stage's own variables."""
        ...

    @property
    def canary(self) -> CanaryAsRead | None:
        """The canary; None if there is none."""
        ...


class KnownState(NamedTuple):
    """What is known of a stage, or of an alias, when an error is raised.

    `str()` returns the sentences in the error's message. They state only what the last read showed.
    """

    stage: StageAsRead | None
    """The stage as it was last read, or as AWS's answer to the last change described it; None if it
    is not known."""
    read_at: datetime | None
    """When it was read, by AWS's clock."""
    sent: tuple[str, ...]
    """Changes that the failed call sent, and for which no read has shown whether they took effect.
    AWS may still carry them out."""
    made: tuple[str, ...]
    """Changes that the failed call made before the last read."""
    read_by_call: bool
    """Whether the failed call read the stage. If not, an earlier call of this process did, and the
    stage may have been changed since."""

    def __str__(self) -> str:
        said = []
        if self.stage is None:
            said.append("The state is not known.")
        elif self.read_by_call and not self.sent:
            said.append(str(self.stage))
        else:
            said.append(f"As read last, at {self.read_at:%H:%M:%S} UTC: {self.stage}")
        if self.made:
            said.append(f"This call made these changes: {'; '.join(self.made)}.")
        elif not self.sent:
            said.append("This call did not change it.")
        if self.sent:
            said.append(f"It is not known whether AWS carried out: {'; '.join(self.sent)}.")
        return " ".join(said)


def _restore(kind: type[_Error], args: tuple[object, ...], facts: dict[str, object]) -> _Error:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(facts)
    return error


def _copied(differences: Mapping[str, str]) -> Mapping[str, str]:
    return dict(differences)


@attrs.define(eq=False, repr=False, slots=False, auto_exc=False)
class CanaryError(Exception):
    """The base class of all errors of this library."""

    happened: str
    """What happened, in one or two sentences."""
    remedy: str = attrs.field(default="", kw_only=True)
    """What to do about it; empty if `happened` already states it."""
    state: "KnownState | None" = attrs.field(default=None, init=False)
    """What is known of the stage or alias when the error is raised; None if none was read or
    changed. The message's sentence about the state is made from it."""

    def __attrs_post_init__(self) -> None:
        self._say(self.happened, self.remedy)

    def _say(self, happened: str, remedy: str) -> None:
        # Texts of AWS and of the caller's objects get in here: whatever they are, a log stays one.
        self.happened = bounded(happened, _LONGEST_HAPPENED)
        self.remedy = bounded(remedy, _LONGEST_REMEDY)
        state = bounded(str(self.state), _LONGEST_STATE) if self.state else ""
        parts = (self.happened, state, self.remedy)
        self.args: tuple[Any, ...] = (" ".join(part for part in parts if part),)

    def within(self, context: str, remedy: str = "") -> Self:
        """Add a sentence about what happened, and a remedy; return this error."""
        happened = [text for text in (self.happened, context) if text]
        remedies = [text for text in (self.remedy, remedy) if text]
        self._say(" ".join(happened), " ".join(remedies))
        return self

    def located(self, state: "KnownState") -> Self:
        """Set what is known of the stage; return this error."""
        self.state = state
        self._say(self.happened, self.remedy)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # The default would call __init__ with the finished message; keyword facts would be lost.
        return _restore, (type(self), self.args, self.__dict__)


class CallerError(CanaryError):
    """The call is not possible as it was made. The same call will fail again until it is
    changed.
    """


class InvalidInputError(CallerError, ValueError):
    """A value is not valid. Nothing was sent."""

    field: str
    """The name of the argument or attribute."""
    expected: str
    """The values that are allowed."""

    def __init__(self, field: str, expected: str, got: str) -> None:
        super().__init__(f"{field} must be {expected}, not {got}.")
        self.field = field
        self.expected = expected


class NotFoundError(CallerError, LookupError):
    """The API, stage or deployment does not exist in this region and account."""


@attrs.define(eq=False, repr=False, slots=False, auto_exc=False)
class AmbiguousNameError(CallerError, LookupError):
    """Several REST APIs have this name."""

    candidates: tuple[str, ...] = attrs.field(kw_only=True)
    """The ids of the REST APIs of that name."""


class NoCanaryError(CallerError, LookupError):
    """The stage or alias has no canary."""


class NothingToRevertError(CallerError, LookupError):
    """No promotion that could be undone is known."""


@attrs.define(eq=False, repr=False, slots=False, auto_exc=False)
class CanaryAlreadyEnabledError(CallerError):
    """Another canary is running on the stage. It was not changed."""

    deployment_id: str = attrs.field(kw_only=True)
    """The deployment of the running canary."""
    percent: float = attrs.field(kw_only=True)
    """The canary's percent of the requests, 0 to 100."""
    age: timedelta = attrs.field(kw_only=True)
    """How long ago the stage was last changed."""


@attrs.define(eq=False, repr=False, slots=False, auto_exc=False)
class RolloutEndedError(CallerError):
    """The rollout of this release has ended. A script that is run again does not start it again."""

    release: str = attrs.field(kw_only=True)
    """The release, as given to `enable_canary`."""
    outcome: str = attrs.field(kw_only=True)
    """How the rollout ended: a value of `apigw_canary.Outcome`."""


@attrs.define(eq=False, repr=False, slots=False, auto_exc=False)
class WeakenedApiError(CallerError):
    """The canary's deployment lacks methods that production has, or requires less authorization."""

    deployment_id: str = attrs.field(kw_only=True)
    """The canary's deployment. No stage serves it."""
    removed: tuple[str, ...] = attrs.field(kw_only=True)
    """The methods that the deployment lacks, such as `GET /orders`."""
    weakened: tuple[str, ...] = attrs.field(kw_only=True)
    """The methods that require less authorization, each with what production requires."""


@attrs.define(eq=False, repr=False, slots=False, auto_exc=False)
class DecisionExpiredError(CallerError, TimeoutError):
    """A Shift or Promote is too old to be applied."""

    age: timedelta = attrs.field(kw_only=True)
    """The age of the decision, by AWS's clock."""


@attrs.define(eq=False, repr=False, slots=False, auto_exc=False)
class AwsError(CanaryError):
    """AWS refused a call. The original exception is the cause (`__cause__`)."""

    operation: str = attrs.field(kw_only=True)
    """The AWS operation, such as `UpdateStage`."""
    code: str = attrs.field(kw_only=True)
    """AWS's error code, such as `BadRequestException`."""


@attrs.define(eq=False, repr=False, slots=False, auto_exc=False)
class AccessDeniedError(AwsError, PermissionError):
    """A permission is missing. `apigw_canary.permissions` returns a policy with all that are
    needed.
    """

    action: str = attrs.field(default="", kw_only=True)
    """The missing IAM action, such as `apigateway:PATCH`; empty if AWS does not name it."""


class CredentialsError(AwsError, PermissionError):
    """The credentials are missing or have expired, or AWS did not accept the signature."""


class ThrottledError(AwsError, TimeoutError):
    """AWS still refused the call after retries for `retry_for`."""


class UnreachableError(AwsError, TimeoutError):
    """AWS could not be reached. Nothing was sent."""


@attrs.define(eq=False, repr=False, slots=False, auto_exc=False)
class StageChangedError(CanaryError):
    """The stage was changed outside this rollout. That change was not touched."""

    differences: Mapping[str, str] = attrs.field(converter=_copied, kw_only=True)
    """What differs from the expected state: the name, and how it differs. No variable values."""


class CannotTellError(CanaryError):
    """It is not known what happened, or what the state is."""


@attrs.define(eq=False, repr=False, slots=False, auto_exc=False)
class UnconfirmedChangeError(CannotTellError):
    """AWS accepted a change, but the stage is not as requested."""

    differences: Mapping[str, str] = attrs.field(converter=_copied, kw_only=True)
    """What differs from the request: the name, and how it differs. No variable values."""


@attrs.define(eq=False, repr=False, slots=False, auto_exc=False)
class UnansweredError(CannotTellError, TimeoutError):
    """A call was sent, but no answer arrived. AWS may have carried it out."""

    operation: str = attrs.field(kw_only=True)
    """The AWS operation, such as `UpdateStage`."""


class RecordError(CannotTellError):
    """The record of the rollout could not be read or written."""


class MetricsError(CannotTellError):
    """The metrics or alarms could not be read in full, or cannot be used for decisions."""
