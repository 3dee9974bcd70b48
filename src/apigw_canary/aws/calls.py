"""The one door to AWS: clients, retries, and the time AWS states.

boto3, tenacity and what else takes long are imported when the first call is made, so that
importing the library is cheap.
"""

import functools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from apigw_canary.aws.answers import EARLIEST, LATEST, Answer, conforming, misunderstood
from apigw_canary.errors import CanaryError, InvalidInputError
from apigw_canary.values import validation

log: logging.Logger = logging.getLogger("apigw_canary")
log.addHandler(logging.NullHandler())  # silent unless the program configures logging

RETRY_FOR = timedelta(seconds=30)
"""How long pauses between retries may add up to. AWS's conflicts last seconds."""

BRIEF = timedelta(seconds=2)
"""How long a call waits for a connection, and for the answer, that is not waited for. API Gateway
answers in a fraction of a second."""

_brief: ContextVar[bool] = ContextVar("apigw_canary_brief", default=False)

_MOST_PAGES = 1000
"""Of one list: half a million items, with the 500 a page that API Gateway and CloudWatch give."""


class Session(Protocol):
    """What is needed of a `boto3.Session`."""

    def client(self, service_name: Any, *, config: Any = None) -> Any:
        """A client of one service."""


@contextmanager
def explained(
    kinds: type[CanaryError] | tuple[type[CanaryError], ...], happened: str = "", remedy: str = ""
) -> Iterator[None]:
    """Errors of these kinds get one more sentence about what happened, and one more remedy."""
    try:
        yield
    except kinds as error:
        raise error.within(happened, remedy) from error.__cause__


@functools.cache
def partition(region: str) -> str:
    """The partition of a region, such as `aws`; an unknown region is an InvalidInputError."""
    import botocore.session
    from botocore.exceptions import UnknownRegionError

    try:
        return str(botocore.session.get_session().get_partition_for_region(region))
    except UnknownRegionError:
        validation.refuse("place.region", "a region that AWS has", region)


class Calls:
    """Calls AWS in one session, with one retry policy. Threads may use one object.

    A call that AWS refused because it was busy is repeated, with jitter and after the
    time that AWS asks for, until the pauses add up to `retry_for`. A read is repeated after a
    timeout or a server error too; a write is not, because it may have been carried out: it ends
    in `UnansweredError`, and the caller reads the state afterwards. A failure of TLS is not
    repeated.

    Each call is logged at DEBUG without its parameters, each retry at WARNING.
    """

    def __init__(
        self,
        session: Session | None = None,
        *,
        clock: Callable[[], datetime] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        retry_for: timedelta = RETRY_FOR,
    ) -> None:
        if session is not None and not callable(getattr(session, "client", None)):
            validation.refuse("session", "a boto3.Session(region_name=...) or None", session)
        self._session = session
        self._clock = clock
        self._sleep = sleep
        self._retry_for = validation.duration(retry_for, "retry_for")
        self._clients: dict[tuple[str, bool], Any] = {}
        self._answered = False
        # boto3 sessions are not thread-safe; the clients they make are.
        self._lock = threading.Lock()

    def client(self, service: str) -> Any:
        """The client of a service, made once; another one for calls that are made `briefly`."""
        key = service, _brief.get()
        with self._lock:
            if key not in self._clients:
                self._clients[key] = self._new_client(service)
            return self._clients[key]

    def _new_client(self, service: str) -> Any:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        config = Config(
            # One attempt: botocore never retries a conflict, ignores when AWS says to come back,
            # and repeats writes that are not safe to repeat. The retries are ours.
            retries={"total_max_attempts": 1, "mode": "standard"},
        )
        if _brief.get():
            seconds = BRIEF.total_seconds()
            config = config.merge(Config(connect_timeout=seconds, read_timeout=seconds))
        try:
            # boto3 itself stands for its default session. Any: its stubs know services by literal.
            session: Any = boto3 if self._session is None else self._session
            client = session.client(service, config=config)
        except BotoCoreError as error:
            raise InvalidInputError(
                "session",
                "a boto3.Session with a region (or AWS_DEFAULT_REGION) and a profile that exists "
                "(AWS_PROFILE)",
                f"one for which boto3 reports: {str(error).rstrip('.')}",
            ) from error
        # A session of the caller's may give clients of its own, which are no botocore's.
        events = getattr(getattr(client, "meta", None), "events", None)
        if events is not None:  # last: botocore builds the header in a handler of the same event
            events.register_last("request-created", _named, unique_id="apigw-canary")
        return client

    def within(self, session: Session) -> "Calls":
        """The same clock and patience in another session."""
        return Calls(session, clock=self._clock, sleep=self._sleep, retry_for=self._retry_for)

    @contextmanager
    def briefly(self) -> Iterator[None]:
        """Meanwhile each call is sent once, and waits for two seconds at most."""
        token = _brief.set(True)
        try:
            yield
        finally:
            _brief.reset(token)

    def pause(self, seconds: float) -> None:
        """Wait between two questions about the same thing."""
        self._sleep(seconds)

    @property
    def region(self) -> str:
        """The region that calls go to. Before the first call a client is made for it, not kept."""
        with self._lock:
            client = next(iter(self._clients.values()), None) or self._new_client("apigateway")
        return str(client.meta.region_name)

    def now(self, answer: Answer) -> datetime:
        """The time AWS stated in the answer, to the second, unless the caller brought a clock."""
        if self._clock is not None:
            return validation.aware(self._clock(), "the time that clock() gives")
        stated = answer["ResponseMetadata"].get("HTTPHeaders", {}).get("date")
        if stated is None:  # AWS sends it always; a proxy between may not
            return datetime.now(UTC)
        from email.utils import parsedate_to_datetime

        try:
            at = parsedate_to_datetime(stated)
            at = at.replace(tzinfo=at.tzinfo or UTC)  # "-0000" states no zone, and means UTC
            if EARLIEST <= at < LATEST:
                return at.astimezone(UTC)
        except (OverflowError, TypeError, ValueError):
            pass
        # The local clock in its place could be wrong by hours, and a rollback is due after some.
        raise misunderstood("a call", f"its Date is {stated!r}")

    def call(self, service: str, operation: str, **parameters: object) -> Answer:
        """The answer to one operation, such as `GetStage`.

        Raises one of our errors, with botocore's as its cause.
        """
        from botocore import xform_name

        from apigw_canary.aws import failures

        client = self.client(service)
        log.debug("calling %s of %s", operation, service)
        try:
            answer = failures.repeating(
                getattr(client, xform_name(operation)),
                operation,
                parameters,
                sleep=self._sleep,
                retry_for=timedelta(0) if _brief.get() else self._retry_for,
                has_answered=lambda: self._answered,
            )
        except failures.RAISED as error:
            raise failures.as_ours(operation, error, self.region) from error
        self._answered = True
        model = getattr(getattr(client, "meta", None), "service_model", None)
        if model is None:  # a client of the caller's own, which is no botocore's
            return answer
        return conforming(operation, answer, model.operation_model(operation).output_shape)

    def pages(
        self, service: str, operation: str, token: str, **parameters: object
    ) -> Iterator[Answer]:
        """The answers to an operation that answers in pages; `token` names the next one.

        A token that comes again, or pages without an end, are `UnansweredError`.
        """
        seen = set[str]()
        while True:
            answer = self.call(service, operation, **parameters)
            yield answer
            following = answer.get(token)
            if not following:
                return
            if following in seen or len(seen) == _MOST_PAGES:
                raise misunderstood(operation, "its pages have no end")
            seen.add(following)
            parameters[token] = following


def _named(request: Any, **_: object) -> None:
    """Add this library to the user agent, after what the caller's session puts there."""
    agent = request.headers["User-Agent"]
    agent = agent.decode() if isinstance(agent, bytes) else agent
    request.headers.replace_header("User-Agent", f"{agent} apigw-canary/{_version()}")


@functools.cache
def _version() -> str:
    from importlib.metadata import version

    return version("apigw-canary")
