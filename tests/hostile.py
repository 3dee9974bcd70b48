"""Hostile answers of AWS, over HTTP and through botocore's own parsers.

`python tests/hostile.py [answers] [seed]` prints how many answers of each operation were damaged,
and what became of them. Each run takes a rehearsed release; one of its answers, or each answer of
one operation from then on, is damaged on the wire.
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any, NamedTuple

import boto3
from botocore.awsrequest import AWSResponse, HTTPHeaders
from botocore.exceptions import ClientError
from moto.core.models import botocore_stubber

from apigw_canary import (
    AccessLogs,
    CanaryError,
    CloudWatchMetrics,
    Hold,
    LambdaAlias,
    LambdaMetrics,
    RolloutPolicy,
    Signal,
    Stage,
)
from apigw_canary.errors import InvalidInputError
from apigw_canary.testing import Backend, Rehearsal, RehearsalError, rehearsal
from apigw_canary.testing.lambdas import FUNCTION

LONGEST = 2000
"""The most characters that a message may have."""

POLICY = RolloutPolicy.canary(
    10,
    timedelta(minutes=5),
    alarms=["errors"],
    signals=[Signal.errors_5xx(), Signal.errors_4xx()],
)
LAMBDA_POLICY = RolloutPolicy.canary(10, timedelta(minutes=5), signals=[Signal.errors_5xx()])
V2 = {"alias": "v2"}

ESCAPES = "\x1b[2J\x1b[31m\x07\r\n\u202e"
HUGE = "A" * 100_000


class Http(NamedTuple):
    """An HTTP response before and after it is damaged."""

    status: int
    headers: dict[str, str]
    body: bytes


# --- damage -------------------------------------------------------------------------------------

BODIES: tuple[bytes, ...] = (
    b"",
    b"null",
    b"[]",
    b"5",
    b'"text"',
    b"{}",
    b"[null]",
    b"\xff\xfe\x00",
    b'{"a": "\xc3\x28"}',
    b"<html><body>Please log in</body></html>",
    b"[" * 100_000,
    b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    json.dumps({"message": HUGE}).encode(),
)

VALUES: tuple[Any, ...] = (
    None,
    [],
    {},
    "",
    "text",
    ESCAPES,
    HUGE,
    [None],
    [[]],
    {"a": None},
    True,
    -1,
    10**400,
    float("nan"),
    float("inf"),
    -1e300,
    "9999-99-99T99:99:99Z",
    "0001-01-01T00:00:00Z",
)

DATES = (
    "",
    "yesterday",
    "Mon, 99 Jan 2026 09:00:00 GMT",
    "Mon, 05 Jan 0001 09:00:00 GMT",
    "Fri, 31 Dec 9999 23:59:59 -2359",
    "2026-01-05T09:00:00Z",
    ESCAPES.replace("\r\n", ""),
)

REFUSALS = (
    (500, "InternalFailure"),
    (503, "ServiceUnavailableException"),
    (503, ""),
    (429, "TooManyRequestsException"),
    (409, "ConflictException"),
    (400, "BadRequestException"),
    (403, "AccessDeniedException"),
    (404, "NotFoundException"),
    (404, "ResourceNotFoundException"),
    (418, "A" * 5000),
    (302, ""),
)
RETRY_AFTER = ("nan", "-1", "inf", "1e400", "soon", "", "Wed, 21 Oct 2026 07:28:00 GMT")
MESSAGES = ("", ESCAPES * 10, HUGE, None, 5, ["a"], {"a": "b"})


def damaged(rng: random.Random, answer: Http) -> Http:
    """The answer with one thing wrong."""
    kind = rng.choices(("value", "member", "body", "cut", "date", "refusal"), (6, 2, 2, 1, 1, 3))[0]
    match kind:
        case "body":
            return answer._replace(body=rng.choice(BODIES))
        case "cut":
            return answer._replace(body=answer.body[: rng.randrange(len(answer.body) or 1)])
        case "date":
            return answer._replace(headers={**answer.headers, "Date": rng.choice(DATES)})
        case "refusal":
            status, code = rng.choice(REFUSALS)
            headers = {**answer.headers, "x-amzn-ErrorType": code}
            if rng.random() < 0.5:
                headers["Retry-After"] = rng.choice(RETRY_AFTER)
            body = rng.choice(
                [*BODIES, *(json.dumps({"message": each}).encode() for each in MESSAGES)]
            )
            return Http(status, headers, body)
    content = json.loads(answer.body or b"{}")
    places = list(_places(content))
    if not places:
        return answer._replace(body=rng.choice(BODIES))
    holder, key = rng.choice(places)
    if kind == "member":
        del holder[key]
    else:
        holder[key] = rng.choice(VALUES)
    return answer._replace(body=json.dumps(content).encode())


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    pairs: Any = ()
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list):
        pairs = list(enumerate(value))[:50]
    for key, each in pairs:
        yield value, key
        yield from _places(each)


# --- the wire -----------------------------------------------------------------------------------


class Hostile:
    """A session: a rehearsal's answers over HTTP, some of them damaged."""

    def __init__(self, aws: Rehearsal, damage: Callable[[str, Http], Http]) -> None:
        self._aws = aws
        self._damage = damage
        self._clients: dict[str, Any] = {}
        self._current: Any = None

    def client(self, service_name: Any, *, config: Any = None) -> Any:
        client = _client(service_name, config)
        events = client.meta.events
        events.unregister("before-send", botocore_stubber)  # moto's end of the wire
        for event, handler in (
            ("before-parameter-build", self._keep),
            ("before-send", self._answer),
        ):
            events.unregister(event, unique_id=f"hostile-{event}")
            events.register(event, handler, unique_id=f"hostile-{event}")
        return client

    def _keep(self, *, params: Any, model: Any, **_: object) -> None:
        self._current = model, params

    def _answer(self, request: Any, **_: object) -> AWSResponse:
        model, parameters = self._current
        service = model.service_model.service_name
        if service not in self._clients:
            self._clients[service] = self._aws.session.client(service)
        honest = self._clients[service]
        try:
            found = (
                {"success": True}  # the rehearsal has no query that runs for longer
                if model.name == "StopQuery"
                else honest._make_api_call(model.name, dict(parameters))
            )
        except ClientError as error:
            answer = _refusal(error)
        else:
            found.pop("ResponseMetadata", None)
            status = model.http.get("responseCode", 200)
            answer = Http(status, {}, json.dumps(_wire(found, model.output_shape)).encode())
        answer.headers["Date"] = format_datetime(self._aws.now(), usegmt=True)
        answer = self._damage(model.name, answer)
        headers = HTTPHeaders()
        for name, value in answer.headers.items():
            headers[name] = value
        raw: Any = SimpleNamespace(stream=lambda **_: [answer.body])
        return AWSResponse(request.url, answer.status, headers, raw)


_CLIENTS: dict[str, Any] = {}


def _client(service: str, config: Any) -> Any:
    """Making a client takes a while; the library gives each the same configuration."""
    if service not in _CLIENTS:
        session: Any = boto3.Session("AKIDEXAMPLE", "secret", region_name="eu-central-1")
        _CLIENTS[service] = session.client(service, config=config)
    return _CLIENTS[service]


def _refusal(error: ClientError) -> Http:
    response: Any = error.response
    stated = response["Error"]
    headers = {"x-amzn-ErrorType": stated["Code"]}
    status = response["ResponseMetadata"]["HTTPStatusCode"]
    body = {"__type": stated["Code"], "message": stated.get("Message", "")}
    return Http(status, headers, json.dumps(body).encode())


def _wire(value: Any, shape: Any) -> Any:
    """A parsed answer as the service sends it in JSON."""
    if shape is None:
        return {}
    match shape.type_name:
        case "structure":
            return {
                shape.members[name].serialization.get("name", name): _wire(
                    each, shape.members[name]
                )
                for name, each in value.items()
                if name in shape.members
            }
        case "list":
            return [_wire(each, shape.member) for each in value]
        case "map":
            return {key: _wire(each, shape.value) for key, each in value.items()}
        case "timestamp":
            assert isinstance(value, datetime)
            return value.timestamp()
        case _:
            return value


# --- runs ---------------------------------------------------------------------------------------


class Seen(NamedTuple):
    """What a run showed."""

    outcomes: Counter[str]
    damaged: Counter[str]
    wrong: list[str]


_MISSING = {"log_group", "format", "variables"}


class Run:
    """A rehearsed release of which answers are damaged."""

    def __init__(self, seed: int, *, harm: bool = True) -> None:
        self.rng = random.Random(seed)
        self.seed = seed
        self.harm = harm
        self.outcomes: Counter[str] = Counter()
        self.damaged: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.decided: list[str] = []
        self._name = ""
        self._persistent = ""
        self._damaged_write = False
        self._next = 0

    def damage(self, operation: str, answer: Http) -> Http:
        if not self.harm:
            return answer
        if self._persistent == operation or self.rng.random() < 0.2:
            if self.rng.random() < 0.3:
                self._persistent = operation
            self.damaged[operation] += 1
            self._damaged_write |= not operation.startswith(("Get", "List", "Describe"))
            return damaged(self.rng, answer)
        return answer

    def do(self, name: str, line: Callable[[], Any]) -> Any:
        """One line of a user's script: a value, or a documented error; its texts are checked."""
        self._persistent = ""
        self._damaged_write = False
        self._name = name
        try:
            found = line()
        except CanaryError as error:
            self.outcomes[type(error).__name__] += 1
            # The caller's lines are in order; AWS may answer that there are no logs or methods.
            if isinstance(error, InvalidInputError) and error.field not in _MISSING:
                self.wrong.append(f"{name}: {error!r}")
            for text in (str(error), repr(error), error.happened, str(error.state), error.remedy):
                self.text(text)
            return None
        except RehearsalError:
            # A write that was carried out was answered as if AWS had been busy, and came again:
            # what AWS does then is not known.
            if not self._damaged_write:
                raise
            self.outcomes["RehearsalError"] += 1
            return None
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            import traceback

            where = traceback.extract_tb(error.__traceback__)[-1]
            self.wrong.append(
                f"{name}: {type(error).__name__}: {str(error)[:200]} at {where.filename}:"
                f"{where.lineno}"
            )
            return None
        self.outcomes["a value"] += 1
        return found

    def text(self, text: str) -> None:
        if len(text) > LONGEST:
            self.wrong.append(f"{self._name}: a text of {len(text)} characters: {text[:200]}")
        if not text.isprintable():
            self.wrong.append(f"{self._name}: control characters in {text[:200]!r}")

    def judged(self, canary: Any, policy: RolloutPolicy) -> None:
        """Observe and decide; what is made of garbage is no verdict."""
        if canary is None:
            return
        observation = self.do("observe", lambda: canary.observe(policy))
        if observation is None:
            return
        decision = self.do("decide", lambda: policy.decide(observation))
        if decision is None:
            return
        self.text(str(decision))
        for note in (*observation.notes, observation.failure or "", observation.suspect or ""):
            self.text(note)
        if observation.phase == "running" and not isinstance(decision, Hold):
            self.decided.append(type(decision).__name__)


def of_a_stage(run: Run, *, logs: bool) -> None:
    """Everything a stage and its canary can be asked for."""
    with rehearsal(
        versions=[Backend(), Backend()],
        variables={"alias": "v1"},
        settings={"cacheClusterEnabled": True},
        requests_per_minute=300,
        seed=1,
    ) as aws:
        aws.alarm("errors")
        plain: Any = aws.session.client("lambda")
        plain.create_alias(FunctionName=FUNCTION, Name="v2", FunctionVersion="2")
        session = Hostile(aws, run.damage)
        stage = Stage(
            aws.rest_api_id,
            "prod",
            session=session,
            sleep=aws.sleep,
            metrics=AccessLogs() if logs else CloudWatchMetrics(routes=True),
        )
        run.do("find", lambda: Stage.find("rehearsal", "prod", session=session, sleep=aws.sleep))
        run.do("describe", stage.describe)
        for problem in run.do("check", lambda: stage.check(variables={"unused": "v2"})) or ():
            run.text(str(problem))
        run.do("allow_invocation", lambda: stage.allow_invocation(V2, smoke_test=True))
        for result in run.do("smoke_test", lambda: stage.smoke_test(["GET /orders"])) or ():
            run.text(f"{result} {result.log}")
        plan = run.do("check", lambda: stage.check(10, release="r1", variables=V2))
        run.text(f"{plan} {plan and [*map(str, plan)]}"[: LONGEST - 1])
        for problem in run.do("check", lambda: stage.check(policy=POLICY, variables=V2)) or ():
            run.text(str(problem))
        canary = run.do(
            "enable_canary",
            lambda: stage.enable_canary(10, release="r1", variables=V2, policy=POLICY),
        ) or run.do("canary", stage.canary)
        for _ in range(3):
            aws.sleep(60)
            aws.alarm("errors", "INSUFFICIENT_DATA")
            aws.alarm("errors", "OK")
            run.judged(canary, POLICY)
        if canary is not None:
            run.do("failures", canary.failures)
            run.do("log_groups", stage.log_groups)
            run.do("shift", lambda: canary.shift(20))
            receipt = run.do("promote", lambda: canary.promote(flush_cache=True))
            run.do("revert", lambda: stage.revert(receipt))
        run.do("revert", stage.revert)
        run.do("rollback", stage.rollback)
        aws.stage.rollback()
        aws.stage.enable_canary(10, variables={"alias": "v3"}).rollback()
        aws.sleep(3600)
        run.text(str(run.do("clean_up", lambda: stage.clean_up(keep=0))))


def of_an_alias(run: Run) -> None:
    """Everything an alias and its canary can be asked for."""
    with rehearsal(
        versions=[Backend(), Backend()],
        variables={"alias": "live"},
        requests_per_minute=300,
        seed=1,
    ) as aws:
        session = Hostile(aws, run.damage)
        alias = LambdaAlias(
            FUNCTION, "live", session=session, sleep=aws.sleep, metrics=LambdaMetrics()
        )
        run.do("describe", alias.describe)
        canary = run.do(
            "enable_canary",
            lambda: alias.enable_canary(10, version="2", release="r1", policy=LAMBDA_POLICY),
        ) or run.do("canary", alias.canary)
        for _ in range(2):
            aws.sleep(60)
            run.judged(canary, LAMBDA_POLICY)
        if canary is not None:
            run.do("shift", lambda: canary.shift(20))
            receipt = run.do("promote", canary.promote)
            run.do("revert", lambda: alias.revert(receipt))
        run.do("revert", alias.revert)
        run.do("rollback", alias.rollback)


FLOWS: tuple[Callable[[Run], None], ...] = (
    lambda run: of_a_stage(run, logs=False),
    lambda run: of_a_stage(run, logs=True),
    of_an_alias,
)


def run_once(seed: int, *, harm: bool = True) -> Run:
    """One run with the damage of a seed."""
    run = Run(seed, harm=harm)
    FLOWS[seed % len(FLOWS)](run)
    return run


def many(answers: int, seed: int = 0) -> Seen:
    """Runs until so many answers were damaged."""
    seen = Seen(Counter(), Counter(), [])
    while sum(seen.damaged.values()) < answers:
        run = run_once(seed)
        seen.outcomes.update(run.outcomes)
        seen.damaged.update(run.damaged)
        seen.wrong.extend(f"seed {seed}: {each}" for each in run.wrong)
        if run.decided:
            seen.wrong.append(f"seed {seed}: decided {run.decided}")
        seed += 1
    return seen


if __name__ == "__main__":
    given = dict(enumerate(map(int, sys.argv[1:])))
    asked, first = given.get(0, 2000), given.get(1, 0)
    found = many(asked, first)
    for operation, count in sorted(found.damaged.items()):
        print(f"{count:6,} damaged answers to {operation}")
    for outcome, count in found.outcomes.most_common():
        print(f"{count:6,} lines ended in {outcome}")
    print(*found.wrong, sep="\n")
    print(f"{sum(found.damaged.values()):,} damaged answers, {len(found.wrong)} wrong")
    sys.exit(bool(found.wrong))
