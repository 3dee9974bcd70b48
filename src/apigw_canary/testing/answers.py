"""Answers of the simulated services: data, a refusal like AWS's, or that it is not known."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, NoReturn, TypeAlias

Json: TypeAlias = dict[str, Any]
"""Parameters and answers, in the shapes boto3 takes and returns."""


class Response(NamedTuple):
    """What goes back over HTTP."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class RehearsalError(AssertionError):
    """It is not known what AWS would do here.

    AWS's answer was never recorded, or the rehearsal does not simulate the call. Code that makes
    this call depends on a guess. So this is not an AWS error to catch and retry: the test fails.
    """


class RehearsalWarning(UserWarning):
    """The rehearsal ended and one of its arguments had no effect."""


class Refusal(Exception):  # noqa: N818 - AWS means what it says; nothing has gone wrong
    """A refusal by AWS; boto3's caller gets a `ClientError` of this code."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(code, message, status)
        self.code = code
        self.message = message
        self.status = status
        self.details: Json = {}
        """What AWS answers beside the error itself, such as retryAfterSeconds."""


def bad_request(message: str) -> Refusal:
    """API Gateway's commonest refusal."""
    return Refusal("BadRequestException", message)


def unknown(situation: str) -> NoReturn:
    """Refuse to guess."""
    raise RehearsalError(f"AWS's behavior here is unknown: {situation}")


def check_simulated(what: str, given: Collection[str], simulated: Collection[str]) -> None:
    """Refuse parameters that the rehearsal would otherwise silently ignore."""
    if extra := sorted(set(given) - set(simulated)):
        raise RehearsalError(f"the rehearsal does not simulate {', '.join(extra)} of {what}")


def copied(value: Any) -> Any:
    """The same lists and maps anew. What is neither is kept: it may be an open file."""
    if isinstance(value, dict):
        return {key: copied(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [copied(member) for member in value]
    return value
