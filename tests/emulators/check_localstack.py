"""Rollouts on LocalStack, a back end that knows nothing of this library: `make test-emulators`.

Not collected by `make test`: LocalStack 4.13.1 is the last one without an account, needs Python
3.11 and older versions of four packages, and has an environment of its own, `.venv/emulators`.

Its API Gateway splits real requests. Its CloudWatch gets no metrics of them, so the counts are
those of the requests that are sent here, and the library's clock is a virtual one.
"""

from __future__ import annotations

import json
import random
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest

from apigw_canary import (
    Decision,
    Minute,
    Promote,
    Rollback,
    RolloutPolicy,
    Signal,
    Stage,
    StageState,
)
from started import ENVIRONMENTS, started

MINUTE = timedelta(minutes=1)
POLICY = RolloutPolicy.canary(50, bake=timedelta(minutes=5), signals=[Signal.errors_5xx()])
# v2 fails each tenth request, the others none: MOCK integrations answer by the stage variable.
FAILS = '$stageVariables.alias == "v2" && $input.params("n") == "0"'
REQUEST = f'{{"statusCode": #if({FAILS})500#{{else}}200#end}}'
ANSWER = '{"canary": "$context.isCanaryRequest", "deployment": "$context.deploymentId"}'


@pytest.fixture(autouse=True)
def _no_network() -> None:
    """In place of the fixture of all tests: LocalStack is reached over HTTP."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:

    def environment(port: int) -> dict[str, str]:
        return {
            "GATEWAY_LISTEN": f"127.0.0.1:{port}",
            "DNS_ADDRESS": "0",  # no name server beside it
            "DISABLE_EVENTS": "1",  # no reports to its makers
            "SKIP_SSL_CERT_DOWNLOAD": "1",
            "LOCALSTACK_VOLUME_DIR": str(tmp_path_factory.mktemp("localstack")),
        }

    program = ENVIRONMENTS / "emulators" / "bin" / "localstack"
    with started([program, "start", "--host"], environment, "/_localstack/health") as address:
        yield address
        print(f"\n{sum(SENT.values())} requests of users: {dict(SENT)}")


SENT: Counter[str] = Counter()
"""How many requests users sent to each API."""


class Killed(BaseException):
    """The process is gone."""


class World:
    """An API on LocalStack, its users, and a clock that is AWS's for this library."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.now = datetime.now(UTC).replace(microsecond=0)
        self.minutes: list[Minute] = []
        self.die_at_copies = False
        self._rng = random.Random(0)
        gateway: Any = self.session().client("apigateway", endpoint_url=address)
        self.api = api = gateway.create_rest_api(name="orders")["id"]
        root = gateway.get_resources(restApiId=api)["items"][0]["id"]
        made = gateway.create_resource(restApiId=api, parentId=root, pathPart="orders")
        at = {"restApiId": api, "resourceId": made["id"], "httpMethod": "GET"}
        gateway.put_method(**at, authorizationType="NONE")
        gateway.put_integration(**at, type="MOCK", requestTemplates={"application/json": REQUEST})
        for status, pattern in (("200", ""), ("500", r"5\d{2}")):
            gateway.put_method_response(**at, statusCode=status)
            gateway.put_integration_response(
                **at,
                statusCode=status,
                selectionPattern=pattern,
                responseTemplates={"application/json": ANSWER},
            )
        gateway.create_deployment(restApiId=api, stageName="prod", variables={"alias": "v1"})

    def session(self) -> boto3.Session:
        session = boto3.Session("test", "test", region_name="eu-central-1")
        session.events.register_last("after-call.api-gateway.UpdateStage", self._answered)
        session.events.register_last("before-call.api-gateway.UpdateStage", _marked)
        return session

    def _answered(self, *, context: Any, **_: Any) -> None:
        if context["copies"] and self.die_at_copies:
            self.die_at_copies = False
            raise Killed

    def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def stage(self) -> Stage:
        """As a process of its own sees it."""
        return Stage(
            self.api,
            "prod",
            session=self.session(),
            metrics=Source(self),
            clock=lambda: self.now,
            sleep=self.sleep,
        )

    def minute(self, requests: int = 200) -> None:
        """Users call the API for a minute."""
        counts = {"true": [0, 0], "false": [0, 0], "": [0, 0]}
        for _ in range(requests):
            status, answer = self.get()
            counts[answer["canary"]][0] += 1
            counts[answer["canary"]][1] += status >= 500
        baseline = [sum(pair) for pair in zip(counts["false"], counts[""], strict=True)]
        at = self.now.replace(second=0)
        self.minutes.append(Minute(at, *baseline, *counts["true"]))
        self.now = at + MINUTE

    def get(self) -> tuple[int, Any]:
        SENT[self.api] += 1
        url = f"{self.address}/restapis/{self.api}/prod/_user_request_/orders"
        try:
            with urllib.request.urlopen(f"{url}?n={self._rng.randrange(10)}", timeout=20) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def minutes_of(self, start: datetime, end: datetime) -> list[Minute]:
        return [each for each in self.minutes if start <= each.at < end]


def _marked(*, params: Any, context: Any, **_: Any) -> None:
    context["copies"] = b'"copy"' in params["body"]


class Source:
    """The requests that were sent, as a metric source."""

    def __init__(self, world: World) -> None:
        self._world = world

    def minutes(
        self, stage: StageState, signals: Sequence[Signal], start: datetime, end: datetime
    ) -> dict[str, list[Minute]]:
        return {signal.name: self._world.minutes_of(start, end) for signal in signals}


@pytest.fixture
def world(address: str, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    return World(address)


def rolled_out(world: World, alias: str, release: str) -> Decision:
    """The last decision of a rollout, each observation by a process of its own."""
    for _ in range(60):
        canary = world.stage().enable_canary(
            50,
            variables={"alias": alias},
            release=release,
            policy=POLICY,
            accept={"weakened_methods"},  # LocalStack gives no summary of a deployment's methods
        )
        world.minute()
        decision = POLICY.decide(canary.observe(POLICY))
        canary.apply(decision)
        if decision.final:
            return decision
    pytest.fail("the rollout does not end")


def production(world: World) -> tuple[bool, dict[str, str], set[str]]:
    """Whether there is a canary, the stage's variables, and which deployments answer."""
    state = world.stage().describe()
    answering = {world.get()[1]["deployment"] for _ in range(20)}
    return state.canary is not None, dict(state.variables), answering


def test_good_is_promoted_and_reverted(world: World) -> None:
    before = production(world)
    assert isinstance(rolled_out(world, "v3", "good"), Promote)
    canary, variables, answering = production(world)
    assert (canary, variables) == (False, {"alias": "v3"})
    assert answering.isdisjoint(before[2])
    world.stage().revert()
    assert production(world) == before


def test_bad_is_rolled_back(world: World) -> None:
    before = production(world)
    assert isinstance(rolled_out(world, "v2", "bad"), Rollback)
    assert production(world) == before


def test_killed_in_promote_and_resumed(world: World) -> None:
    before = production(world)
    world.die_at_copies = True
    with pytest.raises(Killed):
        rolled_out(world, "v3", "killed")
    assert world.stage().describe().canary is not None
    assert isinstance(rolled_out(world, "v3", "killed"), Promote)
    canary, variables, answering = production(world)
    assert (canary, variables) == (False, {"alias": "v3"})
    assert answering.isdisjoint(before[2])


def test_requests_are_split(world: World) -> None:
    """Real requests reach the canary by its percent, and see its variables."""
    canary = world.stage().enable_canary(
        20, variables={"alias": "v3"}, release="split", accept={"weakened_methods"}
    )
    world.minute(1000)
    assert world.minutes[-1].canary_requests == pytest.approx(200, abs=60)
    canary.shift(100)
    world.minute(100)
    assert world.minutes[-1].canary_requests == 100
    canary.rollback()
    world.minute(100)
    assert world.minutes[-1].canary_requests == 0
