"""Rollouts of a weighted alias on ministack, which knows nothing of this library.

Run by `make test-emulators`, not by `make test`. ministack 1.5.33 pins the botocore that it comes
with, so it has an environment of its own, `.venv/ministack`.

Its Lambda keeps aliases, weights and revisions, and runs the functions; its CloudWatch keeps what
is put there. Invoke ignores the weights and publishes no metrics, so users are split here by the
weights that GetAlias answers, and their counts are put into CloudWatch as Lambda does it.
"""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest

from apigw_canary import Decision, LambdaAlias, Promote, Rollback, RolloutPolicy, Signal
from apigw_canary.errors import RolloutEndedError
from apigw_canary.planning.simulation import binomial
from started import ENVIRONMENTS, started

MINUTE = timedelta(minutes=1)
POLICY = RolloutPolicy.canary(50, bake=timedelta(minutes=5), signals=[Signal.errors_5xx()])
REQUESTS = 2000
FAILS = {"1": 0.001, "2": 0.001, "3": 0.1}
"""Of the invocations of each version, how many end in an error."""
CODE = """
def handler(event, context):
    return {version}
"""


@pytest.fixture(autouse=True)
def _no_network() -> None:
    """In place of the fixture of all tests: ministack is reached over HTTP."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    def environment(port: int) -> dict[str, str]:
        return {
            "GATEWAY_PORT": str(port),
            "BIND_HOST": "127.0.0.1",
            "MINISTACK_REGION": "eu-central-1",
        }

    program = ENVIRONMENTS / "ministack" / "bin" / "ministack"
    with started([program], environment, "/_ministack/health") as address:
        yield address


class Killed(BaseException):
    """The process is gone."""


class World:
    """A function with an alias on ministack, its users, and a clock that is AWS's for us."""

    def __init__(self, function: str) -> None:
        self.function = function
        self.now = datetime.now(UTC).replace(second=0, microsecond=0)
        self.die_at_update = ""
        self._rng = random.Random(0)
        make: Any = self.session().client
        self.functions, self._cloudwatch = make("lambda"), make("cloudwatch")
        self.functions.create_function(
            FunctionName=function,
            Runtime="python3.11",
            Role="arn:aws:iam::000000000000:role/orders",
            Handler="app.handler",
            Code={"ZipFile": _zipped(1)},
            Publish=True,
        )
        for version in (2, 3):
            self.functions.update_function_code(
                FunctionName=function, ZipFile=_zipped(version), Publish=True
            )
        self.functions.create_alias(FunctionName=function, Name="live", FunctionVersion="1")

    def session(self) -> boto3.Session:
        session = boto3.Session("test", "test", region_name="eu-central-1")
        session.events.register_last("before-call.lambda.UpdateAlias", self._before)
        session.events.register_last("after-call.lambda.UpdateAlias", self._after)
        return session

    def _before(self, **_: Any) -> None:
        self._die_if("before")

    def _after(self, **_: Any) -> None:
        self._die_if("after")

    def _die_if(self, when: str) -> None:
        if self.die_at_update == when:
            self.die_at_update = ""
            raise Killed

    def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def alias(self) -> LambdaAlias:
        """As a process of its own sees it."""
        return LambdaAlias(
            self.function,
            "live",
            session=self.session(),
            clock=lambda: self.now,
            sleep=self.sleep,
        )

    def shares(self) -> dict[str, float]:
        """How the alias splits its invocations, by version."""
        found = self.functions.get_alias(FunctionName=self.function, Name="live")
        weights = found.get("RoutingConfig", {}).get("AdditionalVersionWeights", {})
        return {found["FunctionVersion"]: 1 - sum(weights.values()), **weights}

    def invoked(self) -> int:
        """What the alias's own version answers, by running it."""
        answer = self.functions.invoke(FunctionName=self.function, Qualifier="live")
        return int(json.load(answer["Payload"]))

    def minute(self) -> None:
        """Users invoke the alias for a minute, and Lambda publishes how that went."""
        begin = self.now.replace(second=0)
        for version, share in self.shares().items():
            requests = round(REQUESTS * share)
            values = {
                "Invocations": requests,
                "Errors": binomial(self._rng, requests, FAILS[version]),
                "Throttles": 0,
            }
            dimensions = {
                "FunctionName": self.function,
                "Resource": f"{self.function}:live",
                "ExecutedVersion": version,
            }
            given = [{"Name": name, "Value": value} for name, value in dimensions.items()]
            self._cloudwatch.put_metric_data(
                Namespace="AWS/Lambda",
                MetricData=[
                    {"MetricName": name, "Dimensions": given, "Timestamp": begin, "Value": value}
                    for name, value in values.items()
                ],
            )
        self.now = begin + MINUTE


def _zipped(version: int) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("app.py", CODE.format(version=version))
    return archive.getvalue()


@pytest.fixture
def world(
    address: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[World]:
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    world = World(request.node.name.replace("[", "-").replace("]", ""))
    for _ in range(60):
        world.minute()
    yield world
    world.functions.delete_function(FunctionName=world.function)


def rolled_out(world: World, version: str) -> Decision:
    """The last decision of a rollout, each observation by a process of its own."""
    for _ in range(60):
        canary = world.alias().enable_canary(
            50, version=version, release=f"r{version}", policy=POLICY
        )
        world.minute()
        decision = POLICY.decide(canary.observe(POLICY))
        canary.apply(decision)
        if decision.final:
            return decision
    pytest.fail("the rollout does not end")


def test_good_is_promoted_and_reverted(world: World) -> None:
    assert world.invoked() == 1
    assert isinstance(rolled_out(world, "2"), Promote)
    assert (world.shares(), world.invoked()) == ({"2": 1}, 2)
    world.alias().revert()
    assert (world.shares(), world.invoked()) == ({"1": 1}, 1)


def test_bad_is_rolled_back(world: World) -> None:
    decision = rolled_out(world, "3")
    assert isinstance(decision, Rollback)
    assert "5xx" in decision.reason
    assert (world.shares(), world.invoked()) == ({"1": 1}, 1)
    with pytest.raises(RolloutEndedError, match="rolled back"):
        world.alias().enable_canary(50, version="3", release="r3")


@pytest.mark.parametrize("version, outcome", [("2", "promoted"), ("3", "rolled_back")])
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_and_resumed(world: World, when: str, version: str, outcome: str) -> None:
    """A process dies at the call that ends the rollout: the next one finds or finishes it."""
    canary = world.alias().enable_canary(50, version=version, release=f"r{version}", policy=POLICY)
    world.minute()
    while not (decision := POLICY.decide(canary.observe(POLICY))).final:
        world.minute()  # the deadline ends it
    world.die_at_update = when
    with pytest.raises(Killed):
        canary.apply(decision)
    assert len(world.shares()) == 1 + (when == "before")
    if when == "before":
        rolled_out(world, version)
    with pytest.raises(RolloutEndedError) as ended:
        rolled_out(world, version)
    assert ended.value.outcome == outcome
    own = version if outcome == "promoted" else "1"
    assert (world.shares(), world.invoked()) == ({own: 1}, int(own))
