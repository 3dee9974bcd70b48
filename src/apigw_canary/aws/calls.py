"""The one door to AWS: clients, retries, and the time AWS states.

boto3, tenacity and what else takes long are imported when the first call is made, so that
importing the library is cheap.
"""

import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from apigw_canary.aws.failures import raise_failed, raise_refused, worth_repeating
from apigw_canary.errors import InvalidInputError
from apigw_canary.rollout import inputs

if TYPE_CHECKING:
    import tenacity

Answer = Mapping[str, Any]

RETRY_FOR = timedelta(seconds=30)
"""How long pauses between retries may add up to. AWS's conflicts last seconds."""


class Session(Protocol):
    """What is needed of a `boto3.Session`."""

    def client(self, service_name: Any, *, config: Any = None) -> Any:
        """A client of one service."""


class Calls:
    """Calls AWS in one session, with one retry policy. Threads may share it.

    A call that AWS refused because it was busy is repeated, with jitter and honouring what AWS
    says of when to come back, until the pauses add up to `retry_for`. A read is repeated after a
    timeout or a server error too; a write is not, because it may have been carried out: it ends
    in `UnansweredError`, and whoever sent it reads what became of it.
    """

    def __init__(
        self,
        session: Session | None = None,
        *,
        clock: Callable[[], datetime] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        retry_for: timedelta = RETRY_FOR,
    ) -> None:
        self._session = session
        self._clock = clock
        self._sleep = sleep
        self._retry_for = inputs.duration(retry_for, "retry_for")
        self._clients: dict[str, Any] = {}
        # boto3 sessions are not thread-safe; the clients they make are.
        self._lock = threading.Lock()

    def client(self, service: str) -> Any:
        """The client of a service, made once."""
        with self._lock:
            if service not in self._clients:
                self._clients[service] = self._new_client(service)
            return self._clients[service]

    def _new_client(self, service: str) -> Any:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        config = Config(
            # One attempt: botocore never retries a conflict, ignores when AWS says to come back,
            # and repeats writes that are not safe to repeat. The retries are ours.
            retries={"total_max_attempts": 1, "mode": "standard"},
            user_agent_extra="apigw-canary",
        )
        try:
            # boto3 itself stands for its default session. Any: its stubs know services by literal.
            session: Any = boto3 if self._session is None else self._session
            return session.client(service, config=config)
        except BotoCoreError as error:
            raise InvalidInputError(
                "session",
                "a boto3 session with a region (or AWS_DEFAULT_REGION) and all else a client needs",
                f"one that says: {str(error).rstrip('.')}",
            ) from error

    def within(self, session: Session) -> "Calls":
        """The same clock and patience in another session."""
        return Calls(session, clock=self._clock, sleep=self._sleep, retry_for=self._retry_for)

    def pause(self, seconds: float) -> None:
        """Wait between two questions about the same thing."""
        self._sleep(seconds)

    @property
    def region(self) -> str:
        """The region that calls go to."""
        with self._lock:
            made = next(iter(self._clients.values()), None)
        return str((made or self.client("apigateway")).meta.region_name)

    def now(self, answer: Answer) -> datetime:
        """The time AWS stated in the answer, to the second, unless the caller brought a clock."""
        if self._clock is not None:
            return inputs.aware(self._clock(), "the time that clock() gives")
        stated = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        if stated is None:  # AWS sends it always; a proxy between may not
            return datetime.now(UTC)
        from email.utils import parsedate_to_datetime

        return parsedate_to_datetime(stated)

    def call(self, service: str, operation: str, **parameters: object) -> Answer:
        """The answer to one operation, such as `GetStage`.

        Raises one of our errors, with botocore's as its cause.
        """
        import tenacity
        from botocore import xform_name
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        send = getattr(self.client(service), xform_name(operation))
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda error: worth_repeating(operation, error)),
            wait=_pause,
            stop=lambda state: (
                state.idle_for + state.upcoming_sleep > self._retry_for.total_seconds()
            ),
            sleep=self._sleep,
            reraise=True,
        )
        try:
            answer: Answer = retrying(send, **parameters)
        except ClientError as error:
            raise_refused(operation, error, self.region)
        except (BotoCoreError, ResponseParserError) as error:
            raise_failed(operation, error)
        return answer


def _pause(state: "tenacity.RetryCallState") -> float:
    """Seconds until the next attempt: what AWS asks for, else random up to 0.5, 1, 2, 4, 8 s.

    Full jitter, as AWS's Architecture Blog recommends ("Exponential Backoff And Jitter", 2015).
    """
    import tenacity

    assert state.outcome is not None
    response = getattr(state.outcome.exception(), "response", None) or {}
    try:
        asked = float(response.get("retryAfterSeconds", 0))
    except ValueError:
        asked = 0.0
    return max(asked, tenacity.wait_random_exponential(multiplier=0.5, max=8)(state))
