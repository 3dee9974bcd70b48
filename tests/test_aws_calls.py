"""The door to AWS: what is repeated, what is waited for, and what each refusal becomes.

Nearly all of it runs through real botocore clients. Only the wire is faked: `Wire` answers each
HTTP request with what the test puts there.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import boto3
import pytest
from botocore.awsrequest import AWSResponse, HTTPHeaders
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    ProxyConnectionError,
    ReadTimeoutError,
    SSLError,
)
from hypothesis import given, settings
from hypothesis import strategies as st

import apigw_canary
from apigw_canary import CloudWatchMetrics, Stage
from apigw_canary.aws.apigateway import ApiGateway
from apigw_canary.aws.calls import Calls
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
from apigw_canary.testing import rehearsal

URL = "https://apigateway.eu-central-1.amazonaws.com/"
DATE = "Mon, 05 Jan 2026 09:00:00 GMT"
AT = datetime(2026, 1, 5, 9, tzinfo=UTC)
BUSY = "Unable to complete operation due to concurrent modification. Please try again later."
DENIED = (
    "User: arn:aws:iam::123456789012:user/dev is not authorized to perform: apigateway:PATCH "
    "on resource: arn:aws:apigateway:eu-central-1::/restapis/a1b2c3d4e5/stages/prod"
)
READ = ("GetStage", {"restApiId": "a1b2c3d4e5", "stageName": "prod"})
WRITE = ("UpdateStage", {**READ[1], "patchOperations": []})


class Http(NamedTuple):
    """An HTTP response of API Gateway."""

    status: int
    code: str = ""
    message: str = ""
    headers: dict[str, str] = {}  # noqa: RUF012 - a NamedTuple's default, never written to
    body: str | None = None


OK = Http(200, headers={"Date": DATE})
CONFLICT = Http(409, "ConflictException", BUSY)
THROTTLED = Http(429, "TooManyRequestsException", "Too Many Requests")
SERVER_ERROR = Http(500, "InternalFailure", "oops")

Answer = Http | Exception

BUSY_OR_UNSENT: list[Answer] = [
    CONFLICT,
    Http(400, "BadRequestException", BUSY),
    THROTTLED,
    Http(400, "Throttling", "Rate exceeded"),
    Http(400, "ThrottlingException", "Rate exceeded"),
    Http(503, "RequestLimitExceeded", "Request limit exceeded."),
    ConnectTimeoutError(endpoint_url=URL),
    EndpointConnectionError(endpoint_url=URL),
    ProxyConnectionError(proxy_url="http://proxy:3128"),
]
"""AWS did nothing: whatever was asked may be asked again."""

PERHAPS_DONE: list[Answer] = [
    SERVER_ERROR,
    Http(503, "ServiceUnavailableException", "later"),
    Http(504, "", ""),
    ReadTimeoutError(endpoint_url=URL),
    ConnectionClosedError(endpoint_url=URL),
    HTTPClientError(error=OSError("reset")),
]
"""AWS may have done it or not: a question may be asked again, a change must not be."""

REFUSALS: list[Answer] = [
    Http(429, "LimitExceededException", "Maximum number of deployments reached"),
    Http(400, "BadRequestException", "Invalid patch path"),
    Http(403, "AccessDeniedException", DENIED),
    Http(403, "ExpiredTokenException", "The security token included in the request is expired"),
    Http(404, "NotFoundException", "Invalid stage identifier specified"),
]
"""Asking again brings the same answer."""


class Wire:
    """AWS's end: gives the answers in turn, the last one from then on, and counts requests."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = answers
        self.sent: list[Any] = []

    def client(self, service_name: Any, *, config: Any = None) -> Any:
        client = _client(service_name, config)
        client.meta.events.unregister("before-send", unique_id="wire")
        client.meta.events.register("before-send", self._answer, unique_id="wire")
        return client

    def _answer(self, request: Any, **_: object) -> AWSResponse:
        self.sent.append(request)
        answer = self.answers[min(len(self.sent), len(self.answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        headers = HTTPHeaders()
        for name, value in answer.headers.items():
            headers[name] = value
        if answer.code:
            headers["x-amzn-ErrorType"] = answer.code
        body = answer.body
        if body is None:
            body = json.dumps({"message": answer.message} if answer.code else {"stageName": "prod"})
        raw: Any = SimpleNamespace(stream=lambda **_: [body.encode()])
        return AWSResponse(request.url, answer.status, headers, raw)


@functools.cache
def _session() -> boto3.Session:
    return boto3.Session("AKIDEXAMPLE", "secret", region_name="eu-central-1")


_CLIENTS: dict[str, Any] = {}


def _client(service: str, config: Any) -> Any:
    """Making a client takes a while; the library gives each the same configuration."""
    if service not in _CLIENTS:
        _CLIENTS[service] = _session().client(service, config=config)  # type: ignore[call-overload]
    return _CLIENTS[service]


class Caller:
    """Calls over a wire that the test has prepared, and the pauses it would have made."""

    def __init__(self, *answers: Answer, retry_for: timedelta = timedelta(minutes=5)) -> None:
        self.wire = Wire(*answers)
        self.slept: list[float] = []
        self.calls = Calls(self.wire, sleep=self.slept.append, retry_for=retry_for)

    def call(self, what: tuple[str, dict[str, Any]] = READ) -> Any:
        operation, parameters = what
        return self.calls.call("apigateway", operation, **parameters)

    def refused(self, what: tuple[str, dict[str, Any]] = READ) -> CanaryError:
        with pytest.raises(CanaryError) as raised:
            self.call(what)
        error = raised.value
        assert isinstance(error.__cause__, ClientError | BotoCoreError)
        return error


def named(answers: list[Answer]) -> list[Any]:
    return [
        pytest.param(
            answer,
            id=f"{answer.status} {answer.code}"
            if isinstance(answer, Http)
            else type(answer).__name__,
        )
        for answer in answers
    ]


read_or_write = pytest.mark.parametrize(
    "what", [pytest.param(READ, id="read"), pytest.param(WRITE, id="write")]
)


class TestRepeats:
    @read_or_write
    @pytest.mark.parametrize("trouble", named(BUSY_OR_UNSENT))
    def test_what_was_not_carried_out(self, trouble: Answer, what: Any) -> None:
        """A conflict, throttling, or a request that never left is repeated until it succeeds."""
        caller = Caller(trouble, trouble, trouble, OK)

        assert caller.call(what)["stageName"] == "prod"
        assert len(caller.wire.sent) == 4
        assert len(caller.slept) == 3

    @pytest.mark.parametrize("trouble", named(PERHAPS_DONE))
    def test_reads_after_silence(self, trouble: Answer) -> None:
        """A question without an answer, or with a server error, is asked again."""
        caller = Caller(trouble, trouble, OK)

        assert caller.call(READ)["stageName"] == "prod"
        assert len(caller.wire.sent) == 3

    @pytest.mark.parametrize("trouble", named(PERHAPS_DONE))
    def test_never_writes_after_silence(self, trouble: Answer) -> None:
        """A change without an answer is sent once: it may have been carried out."""
        caller = Caller(trouble, OK)
        error = caller.refused(WRITE)

        assert type(error) is UnansweredError
        assert error.operation == "UpdateStage"
        assert len(caller.wire.sent) == 1
        assert caller.slept == []

    @read_or_write
    @pytest.mark.parametrize("refusal", named(REFUSALS))
    def test_never_a_refusal(self, refusal: Answer, what: Any) -> None:
        """A real no, a quota included, is not asked for again."""
        caller = Caller(refusal, OK)
        caller.refused(what)

        assert len(caller.wire.sent) == 1
        assert caller.slept == []

    @pytest.mark.parametrize("operation", ["GetDeployments", "GetRestApis"])
    def test_lists_are_reads(self, operation: str) -> None:
        """Every operation that only reads is repeated after silence."""
        caller = Caller(SERVER_ERROR, OK)
        parameters = {} if operation == "GetRestApis" else {"restApiId": "a1b2c3d4e5"}
        caller.call((operation, parameters))
        assert len(caller.wire.sent) == 2

    def test_create_deployment_is_no_read(self) -> None:
        """CreateDeployment, which would publish twice, is sent once."""
        caller = Caller(ReadTimeoutError(endpoint_url=URL), OK)
        error = caller.refused(("CreateDeployment", {"restApiId": "a1b2c3d4e5"}))

        assert isinstance(error, UnansweredError)
        assert len(caller.wire.sent) == 1

    def test_botocore_does_not_repeat(self) -> None:
        """Requests on the wire are one more than our pauses: botocore itself sends each once."""
        caller = Caller(THROTTLED)
        caller.refused()
        assert len(caller.wire.sent) == len(caller.slept) + 1

    def test_keyboard_interrupt_is_not_repeated(self) -> None:
        """Who interrupts the program is obeyed at once."""
        caller = Caller()

        class Interrupted:
            meta = SimpleNamespace(region_name="eu-central-1")

            def get_stage(self, **_: object) -> None:
                caller.wire.sent.append("GetStage")
                raise KeyboardInterrupt

        session: Any = SimpleNamespace(client=lambda name, config=None: Interrupted())
        with pytest.raises(KeyboardInterrupt):
            Calls(session, sleep=caller.slept.append).call("apigateway", *READ[:1], **READ[1])
        assert caller.wire.sent == ["GetStage"]
        assert caller.slept == []


class TestPatience:
    @pytest.mark.long
    @settings(max_examples=50)
    @given(st.timedeltas(timedelta(0), timedelta(minutes=2)), st.sampled_from(BUSY_OR_UNSENT))
    def test_pauses_stay_within_retry_for(self, retry_for: timedelta, trouble: Answer) -> None:
        """Whatever the trouble, the pauses add up to `retry_for` at most, then the error comes."""
        caller = Caller(trouble, retry_for=retry_for)
        error = caller.refused(WRITE)

        assert isinstance(error, ThrottledError | UnreachableError)
        assert sum(caller.slept) <= retry_for.total_seconds()
        assert all(0 <= pause <= 8 for pause in caller.slept)
        assert len(caller.wire.sent) == len(caller.slept) + 1

    def test_patience_is_used(self) -> None:
        """Half a minute is enough for several attempts, and it is not given up before."""
        caller = Caller(CONFLICT, retry_for=timedelta(seconds=30))
        caller.refused()
        assert len(caller.slept) >= 4
        assert sum(caller.slept) > 30 - 8

    def test_pauses_are_random(self) -> None:
        """Two callers that met do not meet again: their pauses differ."""
        one, other = Caller(*[CONFLICT] * 5, OK), Caller(*[CONFLICT] * 5, OK)
        one.call()
        other.call()
        assert one.slept != other.slept

    def test_without_patience_there_is_one_attempt(self) -> None:
        """`retry_for` of zero: the first no is the answer."""
        caller = Caller(CONFLICT, OK, retry_for=timedelta(0))
        caller.refused()
        assert len(caller.wire.sent) == 1

    @settings(max_examples=50)
    @given(st.integers(0, 120), st.integers(0, 120))
    def test_retry_after_is_honoured(self, asked: int, patience: int) -> None:
        """AWS's word on when to come back is kept; beyond our patience there is no pause at all."""
        trouble = THROTTLED._replace(headers={"Retry-After": str(asked)})
        caller = Caller(trouble, OK, retry_for=timedelta(seconds=patience))
        if asked > patience:
            assert isinstance(caller.refused(), ThrottledError)
            assert caller.slept == []
        elif asked + 8 <= patience:
            caller.call()
            assert caller.slept[0] >= asked
            assert len(caller.slept) == 1

    @pytest.mark.parametrize("said", ["Wed, 21 Oct 2026 07:28:00 GMT", "", "soon", "-5", "nan"])
    def test_retry_after_that_is_no_number(self, said: str) -> None:
        """A word on when to come back that cannot be understood is as none."""
        caller = Caller(THROTTLED._replace(headers={"Retry-After": said}), OK)
        caller.call()
        assert len(caller.slept) == 1
        assert 0 <= caller.slept[0] <= 0.5

    @pytest.mark.parametrize("value", [timedelta(seconds=-1), timedelta(days=15), 30, None])
    def test_retry_for_is_a_duration(self, value: Any) -> None:
        """A negative or endless patience, or bare seconds, is refused when the stage is made."""
        with pytest.raises(InvalidInputError, match="retry_for must be a timedelta"):
            Stage("a1b2c3d4e5", "prod", retry_for=value)

    def test_stage_s_own_sleep(self) -> None:
        """A stage pauses by the `sleep` it was given, and shows AWS's answer in the end."""
        slept: list[float] = []
        body = json.dumps(
            {"stageName": "prod", "deploymentId": "old111", "lastUpdatedDate": 1767603600}
        )
        wire = Wire(CONFLICT, OK._replace(body=body))
        stage = Stage("a1b2c3d4e5", "prod", session=wire, sleep=slept.append)
        assert stage.canary() is None
        assert 0 < slept[0] <= 0.5  # then it looks again, as the stage has just changed


class TestRefusals:
    def test_access_denied_names_the_action(self) -> None:
        """A missing permission is told by the IAM action that is to be allowed."""
        error = Caller(Http(403, "AccessDeniedException", DENIED)).refused(WRITE)

        assert type(error) is AccessDeniedError
        assert isinstance(error, PermissionError)
        assert error.operation == "UpdateStage"
        assert error.code == "AccessDeniedException"
        assert error.action == "apigateway:PATCH"
        assert "Allow apigateway:PATCH to the calling identity." in error.remedy
        assert DENIED in str(error)

    @pytest.mark.parametrize("code", ["AccessDenied", "UnauthorizedOperation"])
    def test_access_denied_without_action(self, code: str) -> None:
        """Where AWS names no action the operation is named."""
        error = Caller(Http(403, code, "")).refused()
        assert isinstance(error, AccessDeniedError)
        assert error.action == ""
        assert "Allow GetStage" in str(error)

    @pytest.mark.parametrize(
        "code",
        [
            "ExpiredToken",
            "ExpiredTokenException",
            "InvalidClientTokenId",
            "UnrecognizedClientException",
            "InvalidSignatureException",
            "SignatureDoesNotMatch",
            "IncompleteSignature",
            "MissingAuthenticationToken",
            "MissingAuthenticationTokenException",
            "RequestExpired",
        ],
    )
    def test_bad_credentials(self, code: str) -> None:
        """Expired, unknown or wrongly signed credentials are told apart from permissions."""
        error = Caller(Http(403, code, "The security token is expired")).refused(WRITE)

        assert type(error) is CredentialsError
        assert isinstance(error, PermissionError)
        assert error.code == code
        assert "The security token is expired" in str(error)
        assert "Renew" in error.remedy

    @pytest.mark.parametrize(
        "answer",
        [
            Http(404, "NotFoundException", "Invalid API identifier specified 123456789012:a1"),
            Http(404, "NotFoundException", "Invalid stage identifier specified"),
            Http(404, "ResourceNotFoundException", "gone"),
            Http(400, "BadRequestException", "Deployment id does not exist"),
        ],
    )
    def test_not_found(self, answer: Http) -> None:
        """No such API, stage or deployment is a LookupError with AWS's words."""
        error = Caller(answer).refused()
        assert type(error) is NotFoundError
        assert isinstance(error, LookupError)
        assert answer.message in str(error)
        assert "region" in error.remedy

    @pytest.mark.parametrize(
        "answer",
        [
            Http(429, "LimitExceededException", "Maximum number of deployments reached"),
            Http(400, "BadRequestException", "Invalid patch path"),
            Http(418, "SomethingNewException", "teapot"),
        ],
    )
    def test_other_refusals(self, answer: Http) -> None:
        """Any other no is an AwsError with operation, code and AWS's words."""
        error = Caller(answer).refused(WRITE)
        assert type(error) is AwsError
        assert (error.operation, error.code) == ("UpdateStage", answer.code)
        assert answer.message in str(error)

    @pytest.mark.parametrize("answer", named([CONFLICT, THROTTLED]))
    def test_busy_to_the_end(self, answer: Http) -> None:
        """AWS that stays busy is a TimeoutError that names code, text and the way out."""
        error = Caller(answer).refused(WRITE)
        assert type(error) is ThrottledError
        assert isinstance(error, TimeoutError)
        assert (error.operation, error.code) == ("UpdateStage", answer.code)
        assert answer.message in str(error)
        assert "retry_for" in error.remedy

    @pytest.mark.parametrize("trouble", named(BUSY_OR_UNSENT[-3:]))
    def test_unreachable(self, trouble: Exception) -> None:
        """An endpoint that cannot be reached, as in a region that does not exist."""
        error = Caller(trouble).refused(WRITE)
        assert type(error) is UnreachableError
        assert isinstance(error, TimeoutError)
        assert error.code == type(trouble).__name__
        assert "region" in error.remedy
        assert str(trouble) in str(error)

    @pytest.mark.parametrize("trouble", named(PERHAPS_DONE[-3:]))
    def test_read_never_answered(self, trouble: Exception) -> None:
        """A question that is never answered ends as one."""
        error = Caller(trouble).refused(READ)
        assert type(error) is UnansweredError
        assert isinstance(error, TimeoutError)
        assert error.operation == "GetStage"

    @pytest.mark.parametrize("trouble", named(PERHAPS_DONE[:3]))
    def test_server_errors_to_the_end(self, trouble: Http) -> None:
        """A question that AWS keeps failing to answer is not called throttling."""
        caller = Caller(trouble)
        error = caller.refused(READ)
        assert type(error) is UnansweredError
        assert "failed on AWS's side" in str(error)
        assert len(caller.slept) > 4

    @read_or_write
    def test_broken_tls(self, what: Any) -> None:
        """A certificate that is not trusted, as behind a proxy, is no matter of credentials."""
        trouble = SSLError(endpoint_url=URL, error=OSError("CERTIFICATE_VERIFY_FAILED"))
        caller = Caller(trouble, OK)
        error = caller.refused(what)
        assert type(error) is UnreachableError
        assert "CERTIFICATE_VERIFY_FAILED" in str(error)
        assert "AWS_CA_BUNDLE" in error.remedy
        assert caller.slept == []

    def test_broken_tls_is_not_known_to_be_unsent(self) -> None:
        """A connection may break in TLS after the request was sent: a change is sent once."""
        trouble = SSLError(endpoint_url=URL, error=OSError("DECRYPTION_FAILED_OR_BAD_RECORD_MAC"))
        caller = Caller(trouble, OK)
        assert type(caller.refused(WRITE)) is UnansweredError
        assert len(caller.wire.sent) == 1

    def test_a_wrong_endpoint_is_told_within_seconds(self) -> None:
        """As long as AWS has not answered once, a connection is tried for four seconds."""
        unreachable = EndpointConnectionError(endpoint_url=URL)
        caller = Caller(unreachable)
        assert type(caller.refused()) is UnreachableError
        assert sum(caller.slept) <= 4
        later = Caller(OK, *[unreachable] * 12, OK)
        later.call()
        later.call()  # the network of an endpoint that was there before is waited for
        assert sum(later.slept) > 4

    def test_answer_that_is_not_aws_s(self) -> None:
        """A page that a proxy puts in the answer's place ends in one of our errors."""
        page = Http(200, headers={"Content-Type": "text/html"}, body="<html>Please log in</html>")
        with pytest.raises(CanaryError):
            Stage("a1b2c3d4e5", "prod", session=Wire(page), sleep=lambda _: None).describe()
        gateway = ApiGateway(Calls(Wire(page), sleep=lambda _: None), "a1b2c3d4e5", "prod")
        for ask in (
            gateway.api_name,
            lambda: gateway.deployment("d"),
            lambda: gateway.create_deployment(""),
        ):
            with pytest.raises(UnansweredError, match="not AWS's"):
                ask()

    def test_parameters_are_the_caller_s(self) -> None:
        """A parameter that AWS's model does not take is refused before anything is sent."""
        caller = Caller(OK)
        error = caller.refused(("GetStage", {"restApiId": 5, "stageName": "prod"}))
        assert isinstance(error, InvalidInputError)
        assert "restApiId" in str(error)
        assert caller.wire.sent == []


class TestSessions:
    def test_no_credentials(self) -> None:
        """Without credentials nothing is sent, and the error says what is missing."""
        calls = Calls(boto3.Session(region_name="eu-central-1"))
        with pytest.raises(CredentialsError, match="Unable to locate credentials") as raised:
            calls.call("apigateway", READ[0], **READ[1])
        assert raised.value.code == "NoCredentialsError"
        assert isinstance(raised.value.__cause__, NoCredentialsError)
        assert "Give the session credentials" in raised.value.remedy

    def test_half_credentials(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A key without its secret is a matter of credentials too."""
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        with pytest.raises(CanaryError, match=r"(?i)partial credentials"):
            Stage("a1b2c3d4e5", "prod", session=boto3.Session(region_name="eu-central-1")).canary()

    @pytest.mark.long
    def test_no_region(self) -> None:
        """A session without a region is the caller's mistake, with boto3's words."""
        with pytest.raises(InvalidInputError, match="You must specify a region") as raised:
            _ = Stage("a1b2c3d4e5", "prod", session=boto3.Session()).region
        assert raised.value.field == "session"
        assert isinstance(raised.value.__cause__, BotoCoreError)

    def test_no_such_region(self) -> None:
        """What cannot be the name of a region is refused before anything is sent."""
        with pytest.raises(InvalidInputError) as raised:
            _ = Stage("a1b2c3d4e5", "prod", session=boto3.Session(region_name="mars one")).region
        assert "mars one" in str(raised.value)

    def test_no_such_profile(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A profile that is not there is named."""
        monkeypatch.setenv("AWS_PROFILE", "nobody")
        with pytest.raises(InvalidInputError, match="nobody"):
            _ = Stage("a1b2c3d4e5", "prod").region

    def test_profile_and_region_as_boto3_has_them(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """AWS_PROFILE and its region count, and AWS_DEFAULT_REGION more, as for boto3."""
        config = tmp_path / "config"
        config.write_text("[profile team]\nregion = ap-southeast-2\n", encoding="utf-8")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
        monkeypatch.setenv("AWS_PROFILE", "team")
        assert Stage("a1b2c3d4e5", "prod").region == "ap-southeast-2"

        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-3")
        assert Stage("a1b2c3d4e5", "prod").region == "eu-west-3"

    def test_endpoint_as_boto3_has_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """AWS_ENDPOINT_URL_API_GATEWAY leads where it says, AWS_ENDPOINT_URL all else."""
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-3")
        monkeypatch.setenv("AWS_ENDPOINT_URL_API_GATEWAY", "http://localhost:4566")
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://localhost:5000")
        calls = Calls()
        assert calls.client("apigateway").meta.endpoint_url == "http://localhost:4566"
        assert calls.client("cloudwatch").meta.endpoint_url == "http://localhost:5000"

    def test_default_session(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without a session it is boto3's default one, as set by `boto3.setup_default_session`."""
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
        boto3.setup_default_session(region_name="us-west-2")
        assert Stage("a1b2c3d4e5", "prod").region == "us-west-2"

    def test_given_session_is_used(self) -> None:
        """The session that was given makes the clients, with its region."""
        session = boto3.Session("AKIDEXAMPLE", "secret", region_name="sa-east-1")
        assert Stage("a1b2c3d4e5", "prod", session=session).region == "sa-east-1"

    def test_requests_are_signed_and_named(self) -> None:
        """AWS's own logs show who called: the user agent has our name in it."""
        caller = Caller(OK)
        caller.call()
        (request,) = caller.wire.sent
        assert b"apigw-canary" in request.headers["User-Agent"]
        assert b"AKIDEXAMPLE" in request.headers["Authorization"]
        assert request.url.startswith("https://apigateway.eu-central-1.amazonaws.com/restapis/")

    @pytest.mark.traced
    @pytest.mark.long
    def test_user_agent_of_the_caller_s(self) -> None:
        """What the session adds to the user agent stays; ours comes behind it, with the version."""
        session = boto3.Session("AKIDEXAMPLE", "secret", region_name="eu-central-1")
        session._session.set_default_client_config(Config(user_agent_extra="deployer/7"))
        sent: list[Any] = []

        def answer(request: Any, **_: object) -> Any:
            sent.append(request)
            raw: Any = SimpleNamespace(stream=lambda **_: [b'{"name": "orders"}'])
            return AWSResponse(request.url, 200, HTTPHeaders(), raw)

        session.events.register("before-send", answer)
        apigw_canary.aws.calls._version.cache_clear()  # a test that is not traced may have read it
        Calls(session).call("apigateway", "GetRestApi", restApiId="a1")
        agent = sent[0].headers["User-Agent"]
        agent = agent.decode() if isinstance(agent, bytes) else agent
        assert agent.endswith(f"deployer/7 apigw-canary/{apigw_canary.__version__}")

    def test_one_attempt(self) -> None:
        """Clients are made with a single attempt in a pinned mode, whatever the user's config."""
        given_configs: list[Any] = []
        meta = SimpleNamespace(region_name="eu-central-1")

        def client(service_name: Any, *, config: Any = None) -> Any:
            given_configs.append(config)
            return SimpleNamespace(meta=meta)

        session: Any = SimpleNamespace(client=client)
        calls = Calls(session)
        assert calls.region == calls.region == "eu-central-1"
        assert calls.client("apigateway") is calls.client("apigateway")
        assert calls.region == "eu-central-1"
        assert len(given_configs) == 3  # before the first call, a client for each question
        for config in given_configs:
            assert config.retries == {"total_max_attempts": 1, "mode": "standard"}

    def test_threads_share_one_client(self) -> None:
        """boto3 sessions are not thread-safe: however many threads call, one makes the client."""
        made: list[str] = []
        entered = threading.Lock()

        def client(service_name: Any, *, config: Any = None) -> Any:
            assert entered.acquire(blocking=False), "two threads are in the session at once"
            for _ in range(20_000):  # long enough for others to come in, if they could
                pass
            made.append(service_name)
            entered.release()
            return object()

        session: Any = SimpleNamespace(client=client)
        calls = Calls(session)
        start = threading.Barrier(8)
        got: list[Any] = []

        def run() -> None:
            start.wait()
            got.append(calls.client("apigateway"))

        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            threads = [threading.Thread(target=run) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            sys.setswitchinterval(interval)
        assert made == ["apigateway"]
        assert len(got) == 8
        assert len(set(map(id, got))) == 1


class TestTime:
    def test_is_the_one_aws_states(self) -> None:
        """The time now is in AWS's answer, so a wrong local clock does no harm."""
        caller = Caller(OK)
        assert caller.calls.now(caller.call()) == AT

    def test_a_clock_of_the_caller_s_wins(self) -> None:
        """Where a clock was given it is asked, and AWS's date is not."""
        mine = datetime(2030, 1, 1, tzinfo=timezone(timedelta(hours=2)))
        calls = Calls(Wire(OK), clock=lambda: mine)
        assert calls.now(calls.call("apigateway", READ[0], **READ[1])) == mine

    @pytest.mark.parametrize("headers", [{}, {"x-date": "stripped by a proxy"}])
    def test_without_a_date_it_is_the_machine_s(self, headers: dict[str, str]) -> None:
        """An answer without a date has no other clock than the local one."""
        caller = Caller(OK._replace(headers=headers))
        before = datetime.now(UTC)
        now = caller.calls.now(caller.call())
        assert before <= now <= datetime.now(UTC)

    @pytest.mark.parametrize("date", ["", "yesterday", "Mon, 05 Jan 0001 09:00:00 GMT", "\x1b[2J"])
    def test_a_damaged_date_is_no_time(self, date: str) -> None:
        """A date that cannot be one is an error: the local clock may be wrong by hours."""
        caller = Caller(OK._replace(headers={"Date": date}))
        with pytest.raises(UnansweredError, match="its Date is"):
            caller.calls.now(caller.call())

    def test_a_date_without_a_zone(self) -> None:
        """ "-0000" states no zone, and means UTC (RFC 5322)."""
        caller = Caller(OK._replace(headers={"Date": "Mon, 05 Jan 2026 09:00:00 -0000"}))
        assert caller.calls.now(caller.call()) == AT

    def test_naive_clock(self) -> None:
        """A clock without a time zone, such as `datetime.utcnow`, is refused."""
        calls = Calls(Wire(OK), clock=lambda: datetime(2026, 1, 5, 9))
        with pytest.raises(InvalidInputError, match="time zone"):
            calls.now(calls.call("apigateway", READ[0], **READ[1]))

    def test_naive_clock_leaves_no_trace(self) -> None:
        """With such a clock no rollout is begun, and above all no unreadable record is written."""
        with rehearsal() as aws:
            stage = Stage(
                aws.rest_api_id,
                "prod",
                session=aws.session,
                sleep=aws.sleep,
                clock=lambda: datetime(2026, 1, 5, 9),
            )
            with pytest.raises(InvalidInputError, match="time zone"):
                stage.enable_canary(5, release="r1")
            assert {call.operation for call in aws.calls} <= {"GetStage", "GetDeployments"}


@pytest.mark.long
def test_heavy_imports_wait_for_the_first_call() -> None:
    """Making stages, metrics and policies loads no boto3; tenacity waits for a call as well."""
    code = """
import sys
from apigw_canary import CloudWatchMetrics, RolloutPolicy, Stage
heavy = lambda: sorted({"boto3", "botocore", "tenacity", "moto"} & set(sys.modules))
RolloutPolicy.named("Canary10Percent5Minutes")
stage = Stage("a1b2c3d4e5", "prod", metrics=CloudWatchMetrics())
print(heavy())
stage.region
print(heavy())
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        check=True,
        encoding="utf-8",
        env={**os.environ, "AWS_DEFAULT_REGION": "eu-central-1"},
        timeout=60,
    )
    assert done.stdout.splitlines() == ["[]", "['boto3', 'botocore']"]


def test_metrics_of_their_own_wait_too() -> None:
    """CloudWatchMetrics without a stage makes no client before it is asked for minutes."""

    def client(service_name: Any, *, config: Any = None) -> Any:
        raise AssertionError("a client is made too early")

    session: Any = SimpleNamespace(client=client)
    CloudWatchMetrics(session=session)
    Stage("a1b2c3d4e5", "prod", session=session, metrics=CloudWatchMetrics(session=session))
