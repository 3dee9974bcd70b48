"""What can go wrong with a call: refusals, a network that fails, a process that dies."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple, NoReturn

from apigw_canary.testing.answers import Refusal
from apigw_canary.testing.permissions import action_of, denied


class ProcessDeath(BaseException):
    """The process died. `except Exception` does not catch it."""


class Fault(StrEnum):
    """What happens to a call instead of its normal answer."""

    THROTTLED = "throttled"
    """AWS answers with status 429 and asks to retry after two seconds."""
    CONFLICT = "conflict"
    """AWS answers with status 409, as for two changes at the same time."""
    INTERNAL_ERROR = "internal_error"
    """AWS answers with status 500."""
    UNAVAILABLE = "unavailable"
    """AWS answers with status 503."""
    CONNECTION_REFUSED = "connection_refused"
    """The request could not be sent."""
    TIMEOUT = "timeout"
    """The request was sent, but no answer arrived."""
    ACCESS_DENIED = "access_denied"
    """AWS answers with status 403 and names the missing action."""
    EXPIRED_CREDENTIALS = "expired_credentials"
    """AWS answers with status 403, because the credentials have expired."""
    DEATH = "death"
    """The process dies: `ProcessDeath` is raised."""


class Interruption(NamedTuple):
    """Something that happens right before or right after one call."""

    operation: str
    skip: int
    """How many calls of the operation go undisturbed before."""
    after: bool
    act: Callable[[str, str], object]
    """Takes service and operation."""


class Interruptions:
    """What is still to happen, each once."""

    def __init__(self) -> None:
        self._pending: list[Interruption] = []

    def add(self, interruption: Interruption) -> None:
        """Let it happen when its call comes."""
        self._pending.append(interruption)

    def due(self, operation: str) -> list[Interruption]:
        """Those of this call; the others of the operation come one call nearer."""
        concerned = [each for each in self._pending if each.operation == operation]
        due = [each for each in concerned if each.skip == 0]
        self._pending = [
            each._replace(skip=each.skip - 1) if each in concerned else each
            for each in self._pending
            if each not in due
        ]
        return due


def happen(fault: Fault, service: str, operation: str) -> NoReturn:
    """Raise what botocore or the machine would; refusals become botocore's in the wire."""
    from botocore.exceptions import EndpointConnectionError, ReadTimeoutError

    url = "https://apigateway.eu-central-1.amazonaws.com"
    match fault:
        case Fault.CONNECTION_REFUSED:
            raise EndpointConnectionError(endpoint_url=url)
        case Fault.TIMEOUT:
            raise ReadTimeoutError(endpoint_url=url)
        case Fault.DEATH:
            raise ProcessDeath(operation)
        case Fault.ACCESS_DENIED:
            raise denied(service, action_of(service, operation))
        case _:
            refusal = Refusal(*_REFUSALS[fault])
            if fault is Fault.THROTTLED:
                refusal.details["retryAfterSeconds"] = "2"
            raise refusal


_REFUSALS = {
    Fault.THROTTLED: ("TooManyRequestsException", "Too Many Requests", 429),
    Fault.CONFLICT: (
        "ConflictException",
        "Unable to complete operation due to concurrent modification. Please try again later.",
        409,
    ),
    Fault.INTERNAL_ERROR: ("InternalFailure", "Internal error", 500),
    Fault.UNAVAILABLE: ("ServiceUnavailableException", "Service unavailable", 503),
    Fault.EXPIRED_CREDENTIALS: (
        "ExpiredTokenException",
        "The security token included in the request is expired",
        403,
    ),
}
