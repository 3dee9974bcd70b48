"""A rehearsal over HTTP: what other processes are answered, and that nothing refused is missed."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import urlencode

import attrs
import boto3
import jmespath
import pytest
from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError
from botocore.model import ServiceModel
from botocore.parsers import create_parser
from botocore.serialize import create_serializer

from apigw_canary import RolloutPolicy, Stage
from apigw_canary.testing import (
    Backend,
    Fault,
    Rehearsal,
    RehearsalClient,
    RehearsalError,
    RehearsalServer,
    protocols,
    rehearsal,
)
from apigw_canary.testing.__main__ import main
from apigw_canary.testing.wire import loader
from test_recorded import CASES, Replay, numbered

SIGNED = {"Authorization": "AWS4-HMAC-SHA256 Credential=x/20260105/eu-central-1/{}/aws4_request"}
POLICY = RolloutPolicy.canary(10, bake=timedelta(minutes=10))


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of the fixture of all tests: this machine may be reached, and nothing beyond it."""
    connect = socket.socket.connect

    def connected(self: socket.socket, where: Any) -> None:
        assert where[0] == "127.0.0.1", f"a test uses the network: {where}"
        connect(self, where)

    monkeypatch.setattr(socket.socket, "connect", connected)


@pytest.fixture
def aws() -> Iterator[Rehearsal]:
    with rehearsal(backends={"alias=v2": Backend(errors_5xx=0.2)}) as aws:
        yield aws


@pytest.fixture
def server(aws: Rehearsal) -> Iterator[RehearsalServer]:
    with aws.serve() as server:
        yield server


def client(server: RehearsalServer, service: str) -> Any:
    config = Config(retries={"total_max_attempts": 1})
    make: Any = boto3.Session("key", "secret", region_name="eu-central-1").client
    return make(service, endpoint_url=server.address, config=config)


def respond(
    server: RehearsalServer, service: str, path: str, body: bytes = b"", **headers: str
) -> tuple[int, Any]:
    """Status and content of an answer, below HTTP."""
    signed = {"Authorization": SIGNED["Authorization"].format(service)}
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    response = server.respond("POST" if body else "GET", path, signed | sent, body)
    assert response is not None
    return response.status, json.loads(response.body)


def replayed(case: dict[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    replay = Replay(boto3.client("apigateway"), case)
    return [replay.answers[step["step"]] for step in case["steps"]], replay.deployments


if __name__ == "__main__":  # in a process of its own, whose AWS is the rehearsal over HTTP
    sys.stdout.write(json.dumps([replayed(case) for case in CASES]))


@pytest.mark.long
def test_answers_over_http_as_aws_did() -> None:
    """Each step that was recorded against AWS, by another process with a boto3 of its own."""
    with rehearsal() as aws, aws.serve() as server:
        done = subprocess.run(
            [sys.executable, __file__],
            env={**os.environ, **server.environment},
            stdout=subprocess.PIPE,
            check=True,
            timeout=60,
        )
    answers = json.loads(done.stdout)
    assert sum(len(each) for each, _ in answers) == 34
    for case, (answered, deployments) in zip(CASES, answers, strict=True):
        recorded = [step["response"] for step in case["steps"]]
        expected = numbered(recorded, r"<deployment-id:\d>")
        assert numbered(answered, "|".join(deployments) or "-") == expected


@pytest.mark.no_cover
@pytest.mark.long
def test_a_rollout_over_http_is_the_one_in_process() -> None:
    """The library decides over HTTP as it does in process, to the letter."""

    def rollout(stage: Stage, sleep: Callable[[float], object]) -> list[str]:
        canary = stage.enable_canary(10, release="r1", variables={"alias": "v2"}, policy=POLICY)
        said = []
        while True:
            decision = POLICY.decide(canary.observe(POLICY))
            said.append(str(decision))
            canary.apply(decision)
            if decision.final:
                return said
            sleep(60)

    backends = {"alias=v2": Backend(errors_5xx=0.03)}
    with rehearsal(backends=backends) as aws:
        expected = rollout(aws.stage, aws.sleep)
        calls = [(call.operation, call.parameters, call.at) for call in aws.calls]
    with rehearsal(backends=backends) as aws, aws.serve() as server:
        remote = RehearsalClient(server.address)
        with mock.patch.dict(os.environ, server.environment):
            session = boto3.Session()
            stage = Stage(remote.rest_api_id, "prod", session=session, sleep=remote.sleep)
            assert rollout(stage, remote.sleep) == expected
        assert [(call.operation, call.at) for call in aws.calls] == [(c[0], c[2]) for c in calls]
        assert remote.now() == aws.now()
        assert remote.served == aws.served
    assert len(expected) > 1


def _served_calls() -> list[tuple[str, str, dict[str, Any], dict[str, Any]]]:
    """Service, operation, parameters and answer of the calls of a whole rollout, and further."""
    calls: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = []
    with rehearsal(versions=[Backend(), Backend()], settings={"cacheClusterEnabled": True}) as aws:
        answer = Rehearsal._answer

        def kept(self: Rehearsal, service: str, operation: str, parameters: Any) -> Any:
            said = answer(self, service, operation, parameters)
            if said is not None:
                calls.append((service, operation, dict(parameters), said))
            return said

        with mock.patch.object(Rehearsal, "_answer", kept):
            aws.alarm("a & b <c>", "ALARM")
            aws.sleep(120)
            policy = attrs.evolve(POLICY, alarms=["a & b <c>"])
            canary = aws.stage.enable_canary(10, policy=policy)
            aws.sleep(1200)
            canary.observe(policy)
            aws.session.client("cloudwatch").describe_alarm_history(
                AlarmName="a & b <c>", HistoryItemType="StateUpdate"
            )
            gateway, logs = aws.session.client("apigateway"), aws.session.client("logs")
            gateway.flush_stage_cache(restApiId=aws.rest_api_id, stageName="prod")
            started = logs.start_query(
                logGroupName="rehearsal-access-logs",
                startTime=int(aws.now().timestamp()) - 600,
                endTime=int(aws.now().timestamp()),
                queryString="stats count(*) as n by status",
            )
            for _ in range(2):
                logs.get_query_results(queryId=started["queryId"])
            canary.promote()
            alias = aws.alias("v1").enable_canary(10, version="2")
            alias.promote()
    return calls


@pytest.mark.long
@pytest.mark.parametrize("protocol", ["json", "query", "smithy-rpc-v2-cbor"])
def test_protocols_lose_nothing(protocol: str) -> None:
    """Each call of a rollout arrives as it was sent, and its answer as it was given."""
    operations = set()
    for service, operation, parameters, answer in _served_calls():
        described = ServiceModel(loader().load_service_model(service, "service-2"), service)
        spoken = protocol if protocol in described.metadata["protocols"] else described.protocol
        model = described.operation_model(operation)
        sent = create_serializer(spoken).serialize_to_request(parameters, model)
        headers = {"Authorization": SIGNED["Authorization"].format(described.signing_name)}
        if spoken == "query":
            sent["body"] = urlencode(sent["body"], doseq=True)
        body = sent["body"].encode() if isinstance(sent["body"], str) else sent["body"]
        query = f"?{urlencode(sent['query_string'], doseq=True)}" if sent["query_string"] else ""
        call = protocols.received(
            sent["method"],
            f"http://127.0.0.1{sent['url_path']}{query}",
            {**sent["headers"], **headers},
            body,
        )
        operations.add(operation)
        assert (call.service, call.operation, call.parameters) == (service, operation, parameters)
        response = protocols.answered(call, answer, "id")
        output: Any = model.output_shape
        got = create_parser(spoken).parse(
            {"status_code": response.status, "headers": response.headers, "body": response.body},
            output,
        )
        del got["ResponseMetadata"]
        assert got == answer, operation
    assert len(operations) >= 15, operations


def test_an_answer_of_nothing_in_cbor() -> None:
    """An operation may answer nothing."""
    described = ServiceModel(loader().load_service_model("cloudwatch", "service-2"), "cloudwatch")
    call = protocols.Received(
        "cloudwatch", described.operation_model("DeleteAlarms"), "rpc-v2-cbor", {}
    )
    assert protocols.answered(call, {}, "id").body == b""


@pytest.mark.traced
@pytest.mark.long
@pytest.mark.parametrize(
    "fault, code, status",
    [
        (Fault.THROTTLED, "TooManyRequestsException", 429),
        (Fault.CONFLICT, "ConflictException", 409),
        (Fault.UNAVAILABLE, "ServiceUnavailableException", 503),
        (Fault.ACCESS_DENIED, "AccessDeniedException", 403),
    ],
)
def test_faults_are_answered(
    aws: Rehearsal, server: RehearsalServer, fault: Fault, code: str, status: int
) -> None:
    """A refusal arrives with its code, its status, and the seconds to wait."""
    aws.fail("GetStage", fault)
    with pytest.raises(ClientError) as caught:
        client(server, "apigateway").get_stage(restApiId=aws.rest_api_id, stageName="prod")
    answered = caught.value.response
    assert answered["Error"]["Code"] == code
    assert answered["ResponseMetadata"]["HTTPStatusCode"] == status
    assert answered.get("retryAfterSeconds") == ("2" if fault is Fault.THROTTLED else None)


@pytest.mark.traced
@pytest.mark.long
@pytest.mark.parametrize("protocol", ["json", "query", "smithy-rpc-v2-cbor"])
def test_refusals_of_cloudwatch(server: RehearsalServer, protocol: str) -> None:
    """CloudWatch's codes are those of its oldest protocol, whatever a client speaks."""
    cloudwatch = client(server, "cloudwatch")
    described = cloudwatch.meta.service_model
    model = described.operation_model("DescribeAlarms")
    sent = create_serializer(protocol).serialize_to_request({"AlarmNames": ["a"] * 101}, model)
    body = urlencode(sent["body"], doseq=True) if protocol == "query" else sent["body"]
    if isinstance(body, str):
        body = body.encode()
    signed = {"Authorization": SIGNED["Authorization"].format("monitoring")}
    path = sent["url_path"]
    response = server.respond("POST", path, {**sent["headers"], **signed}, body)
    assert response is not None
    output: Any = model.output_shape
    got = create_parser(protocol).parse(
        {"status_code": response.status, "headers": response.headers, "body": response.body},
        output,
    )
    assert got["Error"]["Code"] == "ValidationError"
    assert "AlarmNames must not have" in got["Error"]["Message"]


@pytest.mark.traced
@pytest.mark.long
@pytest.mark.parametrize("fault", [Fault.TIMEOUT, Fault.CONNECTION_REFUSED, Fault.DEATH])
@pytest.mark.parametrize("after", [False, True])
def test_lost_answers(aws: Rehearsal, server: RehearsalServer, fault: Fault, after: bool) -> None:
    """A call without an answer ends the connection; the next one is answered."""
    gateway = client(server, "apigateway")
    aws.fail("CreateDeployment", fault, after=after)
    with pytest.raises(ConnectionClosedError):
        gateway.create_deployment(restApiId=aws.rest_api_id)
    assert len(gateway.get_deployments(restApiId=aws.rest_api_id)["items"]) == 1 + after


@pytest.mark.traced
@pytest.mark.long
def test_a_refusal_of_the_rehearsal_is_not_missed(aws: Rehearsal) -> None:
    """Whoever calls gets an error that no client repeats, and so does whoever serves."""
    with pytest.raises(RehearsalError, match="GetUsagePlans of API Gateway"), aws.serve() as server:
        with pytest.raises(ClientError) as caught:
            client(server, "apigateway").get_usage_plans()
        assert caught.value.response["Error"]["Code"] == "RehearsalError"
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
        assert RehearsalClient(server.address).refusals == server.refusals
        assert len(server.refusals) == 1


@pytest.mark.long
def test_a_body_that_is_one_parameter(aws: Rehearsal) -> None:
    """A body may be a parameter as a whole."""
    with pytest.raises(RehearsalError, match="does not simulate PutRestApi"), aws.serve() as server:
        gateway = client(server, "apigateway")
        with pytest.raises(ClientError, match="does not simulate PutRestApi"):
            gateway.put_rest_api(restApiId=aws.rest_api_id, body=b"no JSON")


def test_another_error_is_not_replaced(aws: Rehearsal) -> None:
    """What fails in the block is seen, whatever the rehearsal refused."""
    with pytest.raises(ZeroDivisionError), aws.serve() as server:
        respond(server, "apigateway", "/nothing")
        raise ZeroDivisionError


@pytest.mark.traced
@pytest.mark.long
@pytest.mark.parametrize(
    "service, path, body, headers, expected",
    [
        ("apigateway", "/nothing", b"", {}, "no call of apigateway is understood in GET /nothing"),
        ("nothing", "/", b"", {}, "no call of nothing"),
        ("monitoring", "/", b"garbage", {}, "no call of cloudwatch"),
        ("monitoring", "/", b"Action=DescribeAlarms&Color=red", "form", "has no Color"),
        (
            "apigateway",
            "/restapis/a/deployments",
            b'{"stageName": "prod", "colour": "red"}',
            {},
            "botocore's CreateDeployment here has no colour",
        ),
        ("apigateway", "/restapis?limit=ten", b"", {}, "invalid literal"),
        ("apigateway", "/restapis?colour=red", b"", {}, "has no colour"),
        ("apigateway", "/restapis/a/deployments", b"[1", {}, "JSONDecodeError"),
    ],
)
def test_what_is_not_understood_is_refused(
    *, aws: Rehearsal, service: str, path: str, body: bytes, headers: Any, expected: str
) -> None:
    """Garbage, and parameters that newer clients know, are refused and not left out."""
    if headers == "form":
        headers = {"Content_Type": "application/x-www-form-urlencoded"}
    with pytest.raises(RehearsalError, match=re.escape(expected)), aws.serve() as server:
        status, answer = respond(server, service, path, body, **headers)
        assert status == 400
        assert answer["__type"] == "RehearsalError"


def test_a_request_without_a_signature(aws: Rehearsal) -> None:
    """The service is read from the signature."""
    with pytest.raises(RehearsalError, match="has none: GET /restapis"), aws.serve() as server:
        response = server.respond("GET", "/restapis", {}, b"")
        assert response is not None


@pytest.mark.traced
@pytest.mark.long
def test_services_of_moto(aws: Rehearsal, server: RehearsalServer) -> None:
    """Other services are moto's; policy documents survive that boto3 decodes them."""
    assert client(server, "apigatewayv2").get_apis()["Items"] == []
    assert client(server, "sts").get_caller_identity()["Account"] == "123456789012"
    iam = client(server, "iam")
    document = {"Version": "2012-10-17", "Statement": []}
    iam.create_role(RoleName="r", AssumeRolePolicyDocument=json.dumps(document))
    assert iam.get_role(RoleName="r")["Role"]["AssumeRolePolicyDocument"] == document
    assert iam.get_account_summary()["SummaryMap"]["Roles"] == 1
    with pytest.raises(ClientError, match="NoSuchEntity"):
        iam.get_role(RoleName="missing")
    assert [call.operation for call in aws.calls[:2]] == ["GetApis", "GetCallerIdentity"]


def test_the_clock_over_http(aws: Rehearsal, server: RehearsalServer) -> None:
    """It stands still until somebody moves it, and a bad request does not."""
    remote = RehearsalClient(server.address)
    before = remote.now()
    remote.sleep(90)
    remote.sleep(0)
    assert remote.now() == aws.now() == before + timedelta(seconds=90)
    with pytest.raises(ValueError, match="non-negative"):
        remote.sleep(-1)
    for bad in (b"", b"[]", b"{}", b'{"seconds": -1}', b'{"seconds": "a"}', b'{"seconds": 1e999}'):
        response = server.respond("POST", "/_rehearsal/sleep", {}, bad)
        assert response is not None
        assert response.status == 400
    response = server.respond("GET", "/_rehearsal/nothing", {}, b"")
    assert response is not None
    assert response.status == 404
    assert aws.now() == before + timedelta(seconds=90)
    assert server.refusals == []


def test_address_from_the_environment(
    server: RehearsalServer, aws: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is started with the server's environment needs no address."""
    with pytest.raises(KeyError):
        RehearsalClient()
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.address)
    assert RehearsalClient().rest_api_id == aws.rest_api_id


def test_a_running_clock(aws: Rehearsal) -> None:
    """At a speed the virtual clock follows the real one, at each request."""
    real = iter([100.0, 101.0, 101.5])
    with mock.patch("time.monotonic", side_effect=real):
        before = aws.now()
        with pytest.raises(ValueError, match="speed must be at least 0"):
            aws.serve(speed=-1)
        serving = aws.serve(speed=60)
    with serving as server:
        for seconds in (60, 90):
            assert server.respond("GET", "/_rehearsal", {}, b"")
            assert aws.now() == before + timedelta(seconds=seconds)


def test_whose_date_is_virtual(aws: Rehearsal, server: RehearsalServer) -> None:
    """The library asks AWS for the time; other clients take it for the machine's."""
    path, signed = f"/restapis/{aws.rest_api_id}", SIGNED["Authorization"].format("apigateway")
    for agent, virtual in (("Boto3/1 apigw-canary/0.1", True), ("aws-sdk-js", False)):
        headers = {"Authorization": signed, "User-Agent": agent}
        response = server.respond("GET", path, headers, b"")
        assert response is not None
        assert response.headers.get("Date") == (
            "Mon, 05 Jan 2026 09:00:00 GMT" if virtual else None
        )


def test_requests_without_a_length(server: RehearsalServer) -> None:
    """A body in chunks is refused as HTTP has it, all of it read, and the server goes on."""
    where = server.address.removeprefix("http://")
    connection = HTTPConnection(where, timeout=10)
    for sent in (1, 500):  # the longer one while it is refused
        connection.request("POST", "/", iter([b"a" * 10_000] * sent), encode_chunked=True)
        assert connection.getresponse().status == 411
        connection.close()
    connection.request("POST", "/", headers={"Transfer-Encoding": "chunked"})
    response = connection.getresponse()  # and where nothing follows
    assert (response.status, response.getheader("Connection")) == (411, "close")
    connection.close()
    connection.request("GET", "/_rehearsal")
    assert connection.getresponse().status == 200
    connection.close()


def test_ends_while_clients_are_connected(aws: Rehearsal) -> None:
    """A connection that a client keeps does not keep the server."""
    with aws.serve() as server:
        connection = HTTPConnection(server.address.removeprefix("http://"), timeout=10)
        connection.request("GET", "/_rehearsal")
        connection.getresponse().read()
    with pytest.raises(ConnectionRefusedError):
        HTTPConnection(server.address.removeprefix("http://"), timeout=10).connect()
    connection.close()


@pytest.mark.long
def test_many_at_once(aws: Rehearsal, server: RehearsalServer) -> None:
    """Calls of many connections are carried out one after the other."""
    gateway = client(server, "apigateway")

    def deploy(_: int) -> str:
        return str(gateway.create_deployment(restApiId=aws.rest_api_id)["id"])

    with ThreadPoolExecutor(20) as pool:
        assert len(set(pool.map(deploy, range(60)))) == 60


PAGE = Path(__file__).parents[1] / "docs" / "test-your-rollout.md"


def _transcript() -> list[tuple[str, str]]:
    """The commands of the manual, each with what it prints."""
    block = re.search(r"```console\n(\$ aws .*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert block
    command = r"^\$ ((?:'[^']*'|\\\n|[^\n'])*)\n(.*?)(?=^\$ |\Z)"
    found_all = re.finditer(command, block[1], re.MULTILINE | re.DOTALL)
    return [(found[1], found[2].strip()) for found in found_all]


def _printed(server: RehearsalServer, command: str) -> str:
    """What the AWS CLI prints for a command, from the same call with boto3."""
    program, *words = shlex.split(command.replace("\\\n", " "))
    if program == "curl":
        response = server.respond("POST", "/_rehearsal/sleep", {}, words[2].encode())
        assert response is not None
        return response.body.decode()
    service, operation, *options = words
    given = dict(zip(options[::2], options[1::2], strict=True))
    query, output = given.pop("--query", "@"), given.pop("--output", "json")
    caller = client(server, service)
    called = caller.meta.method_to_api_mapping[operation.replace("-", "_")]
    members = caller.meta.service_model.operation_model(called).input_shape.members
    names = {f"--{xform_name(name, '-')}": name for name in members}
    parameters = {
        names[option]: json.loads(value) if value[0] in "[{" else value
        for option, value in given.items()
    }
    try:
        answer = getattr(caller, xform_name(called))(**parameters)
    except ClientError as error:
        return str(error).replace(" (reached max retries: 0)", "")
    found = jmespath.search(query, answer)
    if output == "text":
        return "\n".join("\t".join(row) for row in found)
    return json.dumps(found, indent=4)


@pytest.mark.long
def test_commands_of_the_manual() -> None:
    """The manual shows what the AWS CLI is answered."""
    transcript = _transcript()
    assert sum(command.startswith("aws ") for command, _ in transcript) == 5
    with rehearsal(backends={"alias=v2": Backend(errors_5xx=0.05)}) as aws, aws.serve() as server:
        for command, printed in transcript:
            assert _printed(server, command) == printed, command


@pytest.mark.no_cover
@pytest.mark.long
@pytest.mark.skipif(shutil.which("aws") is None, reason="the AWS CLI is not installed")
def test_commands_of_the_manual_with_the_cli() -> None:
    """And so does the AWS CLI itself, where it is installed."""
    with rehearsal(backends={"alias=v2": Backend(errors_5xx=0.05)}) as aws, aws.serve() as server:
        for command, printed in _transcript():
            done = subprocess.run(
                command,
                shell=True,
                env={**os.environ, **server.environment},
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            assert (done.stdout + done.stderr).strip() == printed, command


class TestMain:
    """`python -m apigw_canary.testing`."""

    def test_serves(self, capsys: pytest.CaptureFixture[str]) -> None:
        """It prints what to export, and serves until it is interrupted."""
        met: list[str] = []

        def wait() -> None:
            exported = dict(re.findall(r"export (\w+)=(.*)", capsys.readouterr().out))
            remote = RehearsalClient(exported["AWS_ENDPOINT_URL"])
            met.append(remote.rest_api_id)
            assert exported["AWS_DEFAULT_REGION"] == "eu-central-1"
            assert {row.stage for row in remote.served} == {"live", "beta", "dev"}
            raise KeyboardInterrupt

        options = ["--backend", "alias=v2", "errors_5xx=0.5", "latency_ms=20", "--stage", "live"]
        assert main([*options, "--stages", "beta=50", "dev=1", "--port", "0"], wait) == 0
        assert len(met) == 1

    @pytest.mark.parametrize(
        "options, expected",
        [
            (["--speed", "-1"], "speed must be at least 0"),
            (["--requests-per-minute", "nan"], "the requests a minute of stage 'prod'"),
            (["--backend", "alias"], "keys of backends must be stage variables"),
            (["--stages", "prod=5"], "stages must be stages other than 'prod'"),
        ],
    )
    def test_refuses(
        self, options: list[str], expected: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """What it cannot serve is said in one line."""
        assert main(options, lambda: None) == 1
        assert expected in capsys.readouterr().err

    @pytest.mark.parametrize(
        "options, expected",
        [
            (["--backend", "alias=v2", "errors=0.05"], "--backend has no setting errors=0.05, but"),
            (["--backend", "alias=v2", "errors_5xx=5%"], "--backend errors_5xx=5%: could not"),
            (["--backend", "alias=v2", "errors_5xx=2"], "--backend errors_5xx=2: 'errors_5xx'"),
            (["--backend", "alias=v2", "errors_5xx"], "--backend errors_5xx: could not convert"),
            (["--port", "99999"], "--port: must be a port from 0 to 65535, not 99999"),
            (["--port", "-1"], "--port: must be a port from 0 to 65535, not -1"),
            (["--stages", "beta"], "--stages takes NAME=REQUESTS, not beta"),
        ],
    )
    def test_options_that_are_not_valid(
        self, options: list[str], expected: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """One line names option and setting, and the exit code is that of a wrong call."""
        with pytest.raises(SystemExit) as ended:
            main(options, lambda: None)
        assert ended.value.code == 2
        assert expected in capsys.readouterr().err.splitlines()[-1]

    @pytest.mark.long
    @pytest.mark.parametrize("rate", [-5, float("nan"), float("inf")])
    def test_rates_that_are_no_rates(self, rate: float) -> None:
        """Of the stage with the traffic, or of a further one; 0 is one."""
        with pytest.raises(ValueError, match="stage 'prod' must be 0 or more"):
            rehearsal(requests_per_minute=rate).__enter__()
        with pytest.raises(ValueError, match="stage 'beta' must be 0 or more"):
            rehearsal(stages={"beta": rate}).__enter__()
        with rehearsal(requests_per_minute=0, stages={"beta": 0}):
            pass

    @pytest.mark.long
    def test_refusals_are_its_exit_code(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Whoever started it learns that a call could not be answered."""

        def wait() -> None:
            address = re.findall(r"AWS_ENDPOINT_URL=(.*)", capsys.readouterr().out)[0]
            make: Any = boto3.Session("k", "s", region_name="eu-central-1").client
            gateway = make("apigateway", endpoint_url=address)
            with pytest.raises(ClientError):
                gateway.get_usage_plans()

        assert main([], wait) == 1
        assert "RehearsalError: the rehearsal does not simulate" in capsys.readouterr().err

    @pytest.mark.long
    def test_as_a_program(self) -> None:
        """SIGTERM ends it, with exit code 0."""
        command = [sys.executable, "-m", "apigw_canary.testing", "--speed", "60"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(8)]
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=30) == 0
        assert lines[0].startswith("export AWS_ENDPOINT_URL=http://127.0.0.1:")
        assert lines[-1].startswith("# The clock: curl ")
