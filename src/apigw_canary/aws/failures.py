"""What botocore raises: whether to send again, and whose fault it is, as one of our errors.

Imported when the first call is made, because botocore and tenacity take long to import.
"""

import logging
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import tenacity
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    IncompleteReadError,
    ParamValidationError,
    ProxyConnectionError,
    SSLError,
)
from botocore.parsers import ResponseParserError

from apigw_canary.aws.answers import CONFLICT, Answer
from apigw_canary.errors import (
    AccessDeniedError,
    AwsError,
    CanaryError,
    CredentialsError,
    InvalidInputError,
    NotFoundError,
    ThrottledError,
    UnansweredError,
    UnreachableError,
)
from apigw_canary.texts import bounded
from apigw_canary.values import sentence

log: logging.Logger = logging.getLogger("apigw_canary")

RAISED = (BotoCoreError, ClientError, ResponseParserError)
"""What botocore raises."""

_CONNECT_FOR = timedelta(seconds=4)
"""How long pauses between retries may add up to without a connection, as long as AWS has not
answered once in this session: the region or the endpoint is more likely to be wrong than the
network to be down."""

_READS = ("Get", "List", "Describe")

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
    "If a proxy or an endpoint has its own certificate, set AWS_CA_BUNDLE (or ca_bundle in the AWS "
    "configuration) to the certificate of its authority."
)


def repeating(
    send: Callable[..., Answer],
    operation: str,
    parameters: Mapping[str, object],
    *,
    sleep: Callable[[float], None],
    retry_for: timedelta,
    has_answered: Callable[[], bool],
) -> Answer:
    """The answer, after repeats for `retry_for` where one may succeed and can do no harm."""
    once = _parsing(send)
    try:
        return once(**parameters)  # nearly always; the preparations for repeats take a while
    except RAISED as error:
        if not _worth_repeating(operation, error):
            raise
        failed = [error]

    def attempt() -> Answer:
        if failed:
            raise failed.pop()
        return once(**parameters)

    def is_given_up(state: tenacity.RetryCallState) -> bool:
        patience = retry_for
        if not has_answered() and _never_sent(_error(state)):
            patience = min(patience, _CONNECT_FOR)
        return state.idle_for + state.upcoming_sleep > patience.total_seconds()

    def report(state: tenacity.RetryCallState) -> None:
        error = _error(state)
        code = _code(error) if isinstance(error, ClientError) else type(error).__name__
        log.warning(
            "%s failed (%s) and is repeated in %.1f s", operation, code, state.upcoming_sleep
        )

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(lambda error: _worth_repeating(operation, error)),
        wait=_pause,
        stop=is_given_up,
        before_sleep=report,
        sleep=sleep,
        reraise=True,
    )
    return retrying(attempt)


def _error(state: tenacity.RetryCallState) -> BaseException:
    assert state.outcome is not None
    error = state.outcome.exception()
    assert error is not None
    return error


def _pause(state: tenacity.RetryCallState) -> float:
    """Seconds until the next attempt: what AWS asks for, else random up to 0.5, 1, 2, 4, 8 s.

    Full jitter, as AWS's Architecture Blog recommends ("Exponential Backoff And Jitter", 2015).
    """
    response = getattr(_error(state), "response", None) or {}
    try:
        asked = float(response.get("retryAfterSeconds", 0))
    except (TypeError, ValueError):
        asked = 0.0
    own = tenacity.wait_random_exponential(multiplier=0.5, max=8)(state)
    return max(own, asked)  # "nan" is not greater


def _parsing(send: Callable[..., Answer]) -> Callable[..., Answer]:
    """The same with one error for all ways in which botocore's parsers fail at an answer."""

    def sent(**parameters: object) -> Answer:
        try:
            return send(**parameters)
        except (CanaryError, NotImplementedError, ResponseParserError):
            raise
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:
            raise ResponseParserError(
                f"the answer cannot be parsed ({type(error).__name__}: {error})"
            ) from error

    return sent


def _worth_repeating(operation: str, error: BaseException) -> bool:
    """Whether sending the same again may succeed and can do no harm."""
    if isinstance(error, ClientError):
        failed = operation.startswith(_READS) and _status(error) >= _SERVER_ERROR
        return failed or _is_busy(operation, error)
    if isinstance(error, SSLError):
        return False  # the same certificate brings the same failure
    return _never_sent(error) or (operation.startswith(_READS) and _perhaps_done(error))


def _is_busy(operation: str, error: ClientError) -> bool:
    """AWS did nothing because it has too much to do, or something else at the same time."""
    code = _code(error)
    return (
        code == CONFLICT
        or code in _THROTTLED
        or _BUSY_TEXT in _text(error)
        or (operation, code) == _TOO_MANY_AT_ONCE
    )


def _never_sent(error: BaseException) -> bool:
    """There was no connection."""
    if isinstance(error, SSLError):
        return any(reason in str(error) for reason in _NO_HANDSHAKE)
    return isinstance(error, ConnectTimeoutError | EndpointConnectionError | ProxyConnectionError)


def _perhaps_done(error: BaseException) -> bool:
    """Sent, or perhaps sent, and the answer lost or not understood."""
    kinds = HTTPClientError | IncompleteReadError | SSLError | ResponseParserError
    return not _never_sent(error) and isinstance(error, kinds)


def _code(error: ClientError) -> str:
    return bounded(str(_stated(error).get("Code") or ""), _LONGEST_CODE)


def _text(error: ClientError) -> str:
    return bounded(str(_stated(error).get("Message") or ""), _LONGEST_TEXT)


def _stated(error: ClientError) -> Mapping[str, Any]:
    stated = error.response.get("Error")
    return stated if isinstance(stated, dict) else {}


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def as_ours(operation: str, error: Exception, region: str) -> CanaryError:
    """The error of this library for one of `RAISED`."""
    if isinstance(error, ClientError):
        return _refused(operation, error, region)
    return _failed(operation, error)


def _refused(operation: str, error: ClientError, region: str) -> CanaryError:
    """AWS answered with an error."""
    code, text = _code(error), _text(error)
    if code in _DENIED:
        named = re.search(r"not authorized to perform: ([\w-]+:[\w*]+)", text)
        action = named[1] if named else ""
        return AccessDeniedError(
            f"{operation} was denied: {sentence(text or code)}",
            operation=operation,
            code=code,
            action=action,
            remedy=f"Allow {action or operation} to the calling identity.",
        )
    if code in _BAD_CREDENTIALS:
        return CredentialsError(
            f"{operation} was refused because of the credentials: {sentence(text or code)}",
            operation=operation,
            code=code,
            remedy="Renew the credentials, or correct the machine's clock if AWS reports the "
            "signature as expired or not yet valid.",
        )
    if code in _NOT_FOUND or text == _NOT_FOUND_TEXT:
        return NotFoundError(
            f"{operation} in {region}: {sentence(text or code)}",
            remedy="Check the id or name, the account and the region.",
        )
    reason = ": ".join(part for part in (code, sentence(text) if text else "") if part)
    if _is_busy(operation, error):
        return ThrottledError(
            f"{operation} was refused repeatedly: {reason}",
            operation=operation,
            code=code,
            remedy="Try again later, or give a longer `retry_for`.",
        )
    if _status(error) >= _SERVER_ERROR:
        return UnansweredError(
            f"{operation} failed on AWS's side: {reason}",
            operation=operation,
            remedy="Try again later." if operation.startswith(_READS) else "",
        )
    return AwsError(f"{operation} was refused: {reason}", operation=operation, code=code)


def _failed(operation: str, error: Exception) -> CanaryError:
    """There is no answer."""
    text = sentence(bounded(str(error), _LONGEST_TEXT))
    tls = _TLS_REMEDY if isinstance(error, SSLError) else ""
    if _never_sent(error):
        return UnreachableError(
            f"{operation} could not be sent: {text}",
            operation=operation,
            code=type(error).__name__,
            remedy=tls or "Check the network, and the region or endpoint.",
        )
    if _perhaps_done(error):
        return UnansweredError(
            f"{operation} was sent, but no valid answer arrived: {text}",
            operation=operation,
            remedy=tls,
        )
    if isinstance(error, ParamValidationError):
        return InvalidInputError("a parameter", f"one that {operation} accepts", str(error))
    return CredentialsError(
        f"{operation} could not be signed: {text}",
        operation=operation,
        code=type(error).__name__,
        remedy="Give the session credentials (AWS_PROFILE, or aws sso login), or renew them.",
    )
