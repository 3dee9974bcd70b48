"""What botocore raises, as our errors: whose fault it is, and whether to send again."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

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
from apigw_canary.texts import bounded
from apigw_canary.values.formatting import sentence

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

_LONGEST_CODE, _LONGEST_TEXT = 80, 800
"""Characters of AWS's code and text that a message shows: a proxy may answer with a whole page."""

_NO_HANDSHAKE = (
    "CERTIFICATE_VERIFY_FAILED",
    "HANDSHAKE_FAILURE",
    "PROTOCOL_VERSION",
    "UNSUPPORTED_PROTOCOL",
    "WRONG_VERSION_NUMBER",
    "doesn't match",
)
"""Of TLS failures those that end the handshake, before a request is sent (OpenSSL's reasons, and
urllib3's text for a certificate of another host)."""

_TLS_REMEDY = (
    "Where a proxy or an endpoint has a certificate of its own, give the certificate of its "
    "authority in AWS_CA_BUNDLE (or as ca_bundle in the AWS configuration)."
)


def worth_repeating(operation: str, error: BaseException) -> bool:
    """Whether sending the same again may succeed and can do no harm."""
    from botocore.exceptions import ClientError

    if isinstance(error, ClientError):
        failed = operation.startswith(_READS) and _status(error) >= _SERVER_ERROR
        return failed or _is_busy(operation, error)
    if _is_tls(error):
        return False  # the same certificate brings the same failure
    return never_sent(error) or (operation.startswith(_READS) and _perhaps_done(error))


def _is_busy(operation: str, error: "ClientError") -> bool:
    """AWS did nothing because it has too much to do, or something else at the same time."""
    code = _code(error)
    return (
        code == CONFLICT
        or code in _THROTTLED
        or _BUSY_TEXT in _text(error)
        or (operation, code) == _TOO_MANY_AT_ONCE
    )


def never_sent(error: BaseException) -> bool:
    """There was no connection."""
    from botocore.exceptions import (
        ConnectTimeoutError,
        EndpointConnectionError,
        ProxyConnectionError,
    )

    if _is_tls(error):
        return any(reason in str(error) for reason in _NO_HANDSHAKE)
    return isinstance(error, ConnectTimeoutError | EndpointConnectionError | ProxyConnectionError)


def _is_tls(error: BaseException) -> bool:
    from botocore.exceptions import SSLError

    return isinstance(error, SSLError)


def _perhaps_done(error: BaseException) -> bool:
    """Sent, or perhaps sent, and the answer lost or not understood."""
    from botocore.exceptions import HTTPClientError, IncompleteReadError, SSLError
    from botocore.parsers import ResponseParserError

    kinds = HTTPClientError | IncompleteReadError | SSLError | ResponseParserError
    return not never_sent(error) and isinstance(error, kinds)


def code_of(error: BaseException) -> str:
    """AWS's code for an error, or the name of botocore's."""
    from botocore.exceptions import ClientError

    return _code(error) if isinstance(error, ClientError) else type(error).__name__


def _code(error: "ClientError") -> str:
    return bounded(str(_error(error).get("Code") or ""), _LONGEST_CODE)


def _text(error: "ClientError") -> str:
    return bounded(str(_error(error).get("Message") or ""), _LONGEST_TEXT)


def _error(error: "ClientError") -> Mapping[str, Any]:
    stated = error.response.get("Error")
    return stated if isinstance(stated, dict) else {}


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
    reason = ": ".join(part for part in (code, sentence(text) if text else "") if part)
    if _is_busy(operation, error):
        raise ThrottledError(
            f"{operation} was refused again and again: {reason}",
            operation=operation,
            code=code,
            remedy="Try again later, or give a longer `retry_for`.",
        ) from error
    if _status(error) >= _SERVER_ERROR:
        raise UnansweredError(
            f"{operation} failed on AWS's side: {reason}",
            operation=operation,
            remedy="Try again later." if operation.startswith(_READS) else "",
        ) from error
    raise AwsError(f"{operation} was refused: {reason}", operation=operation, code=code) from error


def raise_failed(operation: str, error: Exception) -> NoReturn:
    """There is no answer."""
    from botocore.exceptions import ParamValidationError

    text = sentence(bounded(str(error), _LONGEST_TEXT))
    tls = _TLS_REMEDY if _is_tls(error) else ""
    if never_sent(error):
        raise UnreachableError(
            f"{operation} could not be sent: {text}",
            operation=operation,
            code=type(error).__name__,
            remedy=tls or "Check the network, and the region or endpoint.",
        ) from error
    if _perhaps_done(error):
        raise UnansweredError(
            f"{operation} was sent and not answered, or its answer was not understood: {text}",
            operation=operation,
            remedy=tls,
        ) from error
    if isinstance(error, ParamValidationError):
        raise InvalidInputError("a parameter", f"as {operation} takes it", str(error)) from error
    raise CredentialsError(
        f"{operation} could not be signed: {text}",
        operation=operation,
        code=type(error).__name__,
        remedy="Give the session credentials (AWS_PROFILE, or aws sso login), or renew them.",
    ) from error
