"""What botocore raises, as our errors: whose fault it is, and whether to send again."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from apigw_canary.errors import (
    AccessDeniedError,
    AwsError,
    CredentialsError,
    InvalidInputError,
    NotFoundError,
    ThrottledError,
    UnansweredError,
    UnreachableError,
)
from apigw_canary.rollout.words import sentence

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

_READS = ("Get", "List", "Describe")

CONFLICT = "ConflictException"
_BUSY_TEXT = "concurrent modification"  # once recorded as a BadRequestException
_THROTTLED = {
    "TooManyRequestsException",
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
}
_TOO_MANY_AT_ONCE = ("StartQuery", "LimitExceededException")
"""Of queries that run now, and so gone in seconds; elsewhere the code is a quota's."""
_DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}
_BAD_CREDENTIALS = {
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "RequestExpired",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
_NOT_FOUND = {"NotFoundException", "ResourceNotFoundException"}
_NOT_FOUND_TEXT = "Deployment id does not exist"  # answered as a BadRequestException

_SERVER_ERROR = 500


def worth_repeating(operation: str, error: BaseException) -> bool:
    """Whether sending the same again may succeed and can do no harm."""
    from botocore.exceptions import ClientError

    if isinstance(error, ClientError):
        busy = _code(error) == CONFLICT or _BUSY_TEXT in _text(error) or _code(error) in _THROTTLED
        busy = busy or (operation, _code(error)) == _TOO_MANY_AT_ONCE
        return busy or (operation.startswith(_READS) and _status(error) >= _SERVER_ERROR)
    return _never_sent(error) or (operation.startswith(_READS) and _perhaps_done(error))


def _never_sent(error: BaseException) -> bool:
    """There was no connection."""
    from botocore.exceptions import (
        ConnectTimeoutError,
        EndpointConnectionError,
        ProxyConnectionError,
    )

    return isinstance(error, ConnectTimeoutError | EndpointConnectionError | ProxyConnectionError)


def _perhaps_done(error: BaseException) -> bool:
    """Sent, or perhaps sent, and the answer lost or not understood."""
    from botocore.exceptions import HTTPClientError, IncompleteReadError, SSLError
    from botocore.parsers import ResponseParserError

    kinds = HTTPClientError | IncompleteReadError | SSLError | ResponseParserError
    return not _never_sent(error) and isinstance(error, kinds)


def _code(error: "ClientError") -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _text(error: "ClientError") -> str:
    return str(error.response.get("Error", {}).get("Message", ""))


def _status(error: "ClientError") -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def raise_refused(operation: str, error: "ClientError", region: str) -> NoReturn:
    """AWS answered, and the answer is no."""
    code, text = _code(error), _text(error)
    if code in _DENIED:
        named = re.search(r"not authorized to perform: ([\w-]+:[\w*]+)", text)
        action = named[1] if named else ""
        raise AccessDeniedError(
            f"{operation} was denied: {sentence(text or code)}",
            operation=operation,
            code=code,
            action=action,
            remedy=f"Allow {action or operation} to the identity that calls.",
        ) from error
    if code in _BAD_CREDENTIALS:
        raise CredentialsError(
            f"{operation} was refused because of the credentials: {sentence(text or code)}",
            operation=operation,
            code=code,
            remedy="Renew them, or correct the machine's clock if the signature is said to be "
            "expired or not yet valid.",
        ) from error
    if code in _NOT_FOUND or text == _NOT_FOUND_TEXT:
        raise NotFoundError(
            f"{operation} in {region}: {sentence(text or code)}",
            remedy="Check the id or name, and that account and region are the right ones.",
        ) from error
    if worth_repeating(operation, error):
        raise ThrottledError(
            f"{operation} was refused again and again: {code}: {sentence(text)}",
            operation=operation,
            code=code,
            remedy="Try again later, or give a longer `retry_for`.",
        ) from error
    if _status(error) >= _SERVER_ERROR:
        raise UnansweredError(
            f"{operation} failed on AWS's side: {code}: {sentence(text)}", operation=operation
        ) from error
    raise AwsError(
        f"{operation} was refused: {code}: {sentence(text)}", operation=operation, code=code
    ) from error


def raise_failed(operation: str, error: Exception) -> NoReturn:
    """There is no answer."""
    from botocore.exceptions import ParamValidationError

    if _never_sent(error):
        raise UnreachableError(
            f"{operation} could not be sent: {sentence(str(error))}",
            operation=operation,
            code=type(error).__name__,
            remedy="Check the network, and the region or endpoint.",
        ) from error
    if _perhaps_done(error):
        raise UnansweredError(
            f"{operation} was sent and not answered: {sentence(str(error))}", operation=operation
        ) from error
    if isinstance(error, ParamValidationError):
        raise InvalidInputError("a parameter", f"as {operation} takes it", str(error)) from error
    raise CredentialsError(
        f"{operation} could not be signed: {sentence(str(error))}",
        operation=operation,
        code=type(error).__name__,
        remedy="Give the session credentials, or renew them.",
    ) from error


@contextmanager
def understanding(what: str) -> Iterator[None]:
    """An answer in which the essential is missing is as good as none."""
    try:
        yield
    except KeyError as error:
        raise UnansweredError(
            f"An answer about {what} has no {error}: it is not AWS's.",
            operation="",
            remedy="Look for a proxy or an endpoint that answers in AWS's place.",
        ) from error
