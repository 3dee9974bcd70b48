"""The rehearsal: gateway, traffic and metrics on one virtual clock, behind one dispatcher."""

from __future__ import annotations

import functools
import math
import random
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import attrs

from apigw_canary.testing.alarms import AlarmKind, Alarms, Evaluation
from apigw_canary.testing.answers import Json, RehearsalWarning
from apigw_canary.testing.faults import Fault, Interruption, Interruptions, happen
from apigw_canary.testing.gateway import Gateway
from apigw_canary.testing.lambdas import (
    FUNCTION,
    URI,
    Function,
    Invocations,
    check_policy_length,
)
from apigw_canary.testing.logs import ACCESS_LOG_FORMAT, LOG_LAG, Level, Logs
from apigw_canary.testing.metrics import LAG, Buckets, Metrics
from apigw_canary.testing.patches import AbsentCanary
from apigw_canary.testing.permissions import Allowance
from apigw_canary.testing.resources import ANY, METHODS, Method
from apigw_canary.testing.server import RehearsalServer
from apigw_canary.testing.traffic import Arm, Backend, Behavior, Rate, Served, Traffic
from apigw_canary.testing.trials import AnyVerb, Trials
from apigw_canary.testing.wire import simulated_session

if TYPE_CHECKING:
    import boto3

    from apigw_canary.judge.observation import AlarmState
    from apigw_canary.lambda_alias.alias import LambdaAlias
    from apigw_canary.stage import Stage

_HEALTHY = Backend()
_NO_BACKENDS: Mapping[str, Behavior] = MappingProxyType({})
_VARIABLES: Mapping[str, str] = MappingProxyType({"alias": "v1"})
_NOTHING: Mapping[str, object] = MappingProxyType({})
_ROUTES: Mapping[str, float] = MappingProxyType({"GET /orders": 1})
_NO_METHODS: Mapping[str, Method | None] = MappingProxyType({})
_NO_STAGES: Mapping[str, Rate] = MappingProxyType({})
_START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
_HOUR = timedelta(hours=1)


@attrs.frozen(kw_only=True)
class Call:
    """One call of an AWS API, recorded before it is answered."""

    service: str
    """boto3's name of the service, such as "apigateway"."""

    operation: str
    """The API's name of the operation, such as "UpdateStage"."""

    parameters: Mapping[str, object]
    """What was sent, under the API's names, such as "restApiId"; times are aware."""

    at: datetime
    """The virtual time, aware."""


class Rehearsal:
    """API Gateway, its traffic and its metrics, on a virtual clock; made by `rehearsal()`.

    Threads may use one object. Time stands still unless `sleep` moves it.
    """

    session: boto3.Session
    """Every client made from it is simulated. Region eu-central-1, made-up credentials."""

    rest_api_id: str
    """The API that exists from the start, with the stages that have traffic."""

    calls: list[Call]
    """Every AWS call made through `session`, oldest first; empty at the start. One entry for each
    call of a client's; botocore retries nothing that is answered here."""

    def __init__(
        self,
        *,
        traffic: Traffic,
        metrics: Metrics,
        access_logs: str | None,
        execution_logs: Level | None,
        log_lag: timedelta,
        late_failures: timedelta,
        cut_lines: Callable[[Arm, int], float],
        versions: Sequence[Behavior],
        api_name: str,
        variables: Mapping[str, str],
        methods: Mapping[str, Method],
        settings: Mapping[str, object],
        now: datetime,
        seed: int,
        allow: Mapping[str, Any] | None,
        test_any: AnyVerb,
        absent_canary: AbsentCanary,
    ) -> None:
        rng = random.Random(seed)
        self.calls = []
        self._lock = threading.RLock()
        self._interruptions = Interruptions()
        self._allowance = Allowance(allow)
        self._others_act = False
        self._now = now
        self._stage_name, *others = traffic.rates
        self._traffic = traffic
        self._metrics = metrics
        self._alarms = Alarms(self._metric_data)
        self._gateway = gateway = Gateway(self.now, rng, methods, absent_canary)
        self.session = simulated_session(self._dispatch, self.now, rng)
        self.rest_api_id = gateway.create_rest_api(name=api_name)["id"]
        first = gateway.create_deployment(
            rest_api_id=self.rest_api_id, stage_name=self._stage_name, variables=variables
        )
        traffic.deploy(first["id"])
        for other in others:
            gateway.create_stage(
                rest_api_id=self.rest_api_id,
                stage_name=other,
                deployment_id=first["id"],
                variables=variables,
            )
        self._logs = Logs(
            traffic,
            self.rest_api_id,
            access_logs,
            log_lag,
            level=execution_logs,
            late_failures=late_failures,
            cut=cut_lines,
        )
        for stage, destination in self._logs.destinations.items():
            if access_logs is not None:
                access = {"destinationArn": destination, "format": access_logs}
                gateway.configure(self.rest_api_id, stage, {"accessLogSettings": access})
            if execution_logs is not None:
                level = {"*/*": {"loggingLevel": execution_logs}}
                gateway.configure(self.rest_api_id, stage, {"methodSettings": level})
            gateway.configure(self.rest_api_id, stage, dict(settings))
        self._function = Function(versions, variables, rng) if versions else None
        if self._function is not None:
            traffic.function = self._function.targets
        self._invocations = Invocations(traffic)
        self._trials = Trials(gateway, traffic, self.now, seed, test_any)

    @property
    def stage(self) -> Stage:
        """The stage as this library sees it; its waits move the virtual clock."""
        return self.stages[self._stage_name]

    @functools.cached_property
    def stages(self) -> Mapping[str, Stage]:
        """Each stage with traffic as this library sees it, by its name, `stage` first."""
        from apigw_canary.stage import Stage

        return MappingProxyType(
            {
                name: Stage(self.rest_api_id, name, session=self.session, sleep=self.sleep)
                for name in self._traffic.rates
            }
        )

    def alias(self, name: str) -> LambdaAlias:
        """An alias of the function `orders` as this library sees it."""
        from apigw_canary.lambda_alias.alias import LambdaAlias

        return LambdaAlias(FUNCTION, name, session=self.session, sleep=self.sleep)

    def now(self) -> datetime:
        """The virtual time, aware. All dates that AWS states come from it."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Move the virtual clock; takes no time. ValueError if negative, as of `time.sleep`."""
        if seconds < 0:
            raise ValueError("sleep length must be non-negative")
        with self._lock:
            self._now += timedelta(seconds=seconds)
            # Whole minutes: how often somebody sleeps must not change what the traffic is.
            self._serve(self._traffic.rates, until=self._now.replace(second=0, microsecond=0))

    def edit(
        self,
        backend: Behavior | None = None,
        *,
        methods: Mapping[str, Method | None] = _NO_METHODS,
    ) -> None:
        """Change the API as it is being edited: deployments made from now on capture it.

        It sets how requests fare, and the `methods` that are added or replaced; None removes one.
        """
        with self._lock:
            if backend is not None:
                self._traffic.api = backend
            self._gateway.edit(self.rest_api_id, methods)

    def alarm(
        self,
        name: str,
        state: AlarmState = "OK",
        *,
        kind: AlarmKind = "MetricAlarm",
        evaluation: Evaluation | None = None,
    ) -> None:
        """Let a CloudWatch alarm be in a state from now on, and create it if it does not exist.

        An alarm that PutMetricAlarm makes is evaluated each minute, by the metrics of the traffic.

        `kind`: what it is created as; an existing alarm keeps its kind. Its state changes by this
        method only, whatever the traffic does. `evaluation`: the `EvaluationState` that CloudWatch
        shows from now on, for a metric or log alarm that it cannot evaluate in full, beside a
        `state` from before; None after a full evaluation. To let an alarm fire since before a
        canary, set it first and `sleep` before you enable the canary.
        """
        with self._lock:
            self._alarms.set(name, state, self._now, kind=kind, evaluation=evaluation)

    def fail(self, operation: str, fault: Fault, *, skip: int = 0, after: bool = False) -> None:
        """Let the next call of an AWS operation, such as "UpdateStage", fail.

        The first `skip` calls of it do not fail. `after=True`: AWS carries the call out, and only
        the answer is lost.
        """

        def act(service: str, operation: str) -> object:
            return happen(fault, service, operation)

        self._interruptions.add(Interruption(operation, skip, after, act))

    def meanwhile(
        self, operation: str, act: Callable[[], object], *, skip: int = 0, after: bool = False
    ) -> None:
        """Let another process act directly before the next call of an AWS operation reaches AWS.

        `skip` calls of it come first. `after=True`: it acts right after the call instead.
        """
        self._interruptions.add(Interruption(operation, skip, after, lambda *_: act()))

    @property
    def allow(self) -> Mapping[str, Any] | None:
        """The IAM policy document of the caller; None: everything is allowed.

        You can set it between calls: preparing a test needs more permissions than the test itself.
        It does not apply to calls by `meanwhile`.
        """
        return self._allowance.document

    @allow.setter
    def allow(self, document: Mapping[str, Any] | None) -> None:
        self._allowance = Allowance(document)

    @property
    def served(self) -> Sequence[Served]:
        """What was really served: a row per minute, stage, variant and deployment, of the minutes
        that are over.

        History included, in order of time.
        """
        with self._lock:
            now = self._now.replace(second=0, microsecond=0)
            return tuple(row for row in self._traffic.served() if row.at < now)

    def serve(self, *, port: int = 0, speed: float = 0) -> AbstractContextManager[RehearsalServer]:
        """Let other processes on this machine call the rehearsal over HTTP, within a `with` block.

        ```python
        import os
        import subprocess
        import sys

        from apigw_canary.testing import rehearsal

        with rehearsal() as aws, aws.serve() as server:
            job = [sys.executable, "-c", "import boto3; boto3.client('sts').get_caller_identity()"]
            subprocess.run(job, env={**os.environ, **server.environment}, check=True)
        ```

        It listens on 127.0.0.1 only and checks no signatures. Clients of the json, query, rest-json
        and rest-xml protocols are understood. Calls go through `session`, so `calls`, `fail`,
        `meanwhile` and `allow` work as they do in this process.

        Parameters:
            port: The port, 0 to 65,535; 0 for a free one.
            speed: How many virtual seconds pass in a real one, at least 0. With 0 the clock stands
                still unless `sleep` moves it, or another process by `RehearsalClient.sleep`.

        Raises:
            RehearsalError: At the end of the block, if the rehearsal could not answer a call.
            OSError: The port is taken.
            ValueError: `speed` is negative.
        """
        if not speed >= 0:
            raise ValueError(f"speed must be at least 0: {speed}")
        return RehearsalServer(
            session=self.session,
            now=self.now,
            sleep=self.sleep,
            served=lambda: self.served,
            described={
                "rest_api_id": self.rest_api_id,
                "stage": self._stage_name,
                "stages": list(self._traffic.rates),
            },
            port=port,
            speed=speed,
            clock=time.monotonic,
        ).running()

    def latencies(
        self, arm: Arm, start: datetime, end: datetime, *, stage: str | None = None
    ) -> list[float]:
        """The true milliseconds of each request of a variant in the minutes of [start, end).

        `stage`: the name of another stage than `Rehearsal.stage`.
        """
        with self._lock:
            return self._traffic.latencies(stage or self._stage_name, arm, start, end)

    def _dispatch(self, service: str, operation: str, parameters: Json) -> Json | None:
        """Answer one call, as `wire.Dispatcher` defines it; further services belong here."""
        with self._lock:
            self.calls.append(
                Call(service=service, operation=operation, parameters=parameters, at=self._now)
            )
            due = self._interruptions.due(operation)
            self._interrupt(due, service, operation, after=False)
            if not self._others_act:
                self._allowance.check(service, operation, parameters)
            answer = self._answer(service, operation, parameters)
            self._interrupt(due, service, operation, after=True)
            return answer

    def _interrupt(
        self, due: Sequence[Interruption], service: str, operation: str, *, after: bool
    ) -> None:
        before, self._others_act = self._others_act, True
        try:
            for interruption in due:
                if interruption.after is after:
                    interruption.act(service, operation)
        finally:
            self._others_act = before

    def _answer(self, service: str, operation: str, parameters: Json) -> Json | None:
        match service:
            case "apigateway":
                return self._of_gateway(operation, parameters)
            case "cloudwatch":
                answered = self._alarms.answer(operation, parameters, self._now)
                if answered is not None:
                    return answered
                return self._of_metrics(operation, parameters, self._now)
            case "logs":
                return self._logs.answer(operation, parameters, self._now)
            case "lambda":
                return self._of_lambda(operation, parameters)
            case _:
                return None

    def _of_metrics(self, operation: str, parameters: Json, now: datetime) -> Json | None:
        answered = self._metrics.answer(operation, parameters, now)
        return answered or self._invocations.answer(operation, parameters, now)

    def _metric_data(self, parameters: Json, now: datetime) -> Json | None:
        return self._of_metrics("GetMetricData", parameters, now)

    def _of_gateway(self, operation: str, parameters: Json) -> Json:
        if operation == "TestInvokeMethod":
            return self._trials.answer(parameters)
        stage = parameters.get("stageName", "")
        if stage in self._traffic.rates and not operation.startswith("Get"):
            self._serve([stage], until=self._now)
        answer = self._gateway.answer(operation, parameters)
        if operation == "CreateDeployment":
            self._traffic.deploy(answer["id"])
        return answer

    def _of_lambda(self, operation: str, parameters: Json) -> Json | None:
        if operation == "AddPermission":
            check_policy_length(parameters)
        if self._function is None:
            return None
        if not operation.startswith("Get"):
            self._serve(self._traffic.rates, until=self._now)
        return self._function.answer(operation, parameters)

    def _serve(self, stages: Iterable[str], until: datetime) -> None:
        """Serve what comes before `until`, which is at most at the end of a minute's traffic."""
        of = functools.partial(self._gateway.existing_stage, self.rest_api_id)
        self._traffic.run(map(of, stages), until)


def _none_cut(arm: Arm, status: int) -> float:  # noqa: ARG001 - of no variant and status
    return 0.0


@contextmanager
def rehearsal(
    *,
    requests_per_minute: Rate = 500,
    routes: Mapping[str, float] = _ROUTES,
    api: Behavior = _HEALTHY,
    backends: Mapping[str, Behavior] = _NO_BACKENDS,
    versions: Sequence[Behavior] = (),
    variables: Mapping[str, str] = _VARIABLES,
    methods: Mapping[str, Method] = METHODS,
    settings: Mapping[str, object] = _NOTHING,
    stage: str = "prod",
    stages: Mapping[str, Rate] = _NO_STAGES,
    api_name: str = "rehearsal",
    overlap: Literal["excluded", "included"] = "excluded",
    lag: Mapping[str, timedelta] = LAG,
    latency_ranks: bool = True,
    buckets: Buckets = "start",
    unpublished: Callable[[str, str, datetime], bool] | None = None,
    access_logs: str | None = ACCESS_LOG_FORMAT,
    execution_logs: Level | None = None,
    log_lag: timedelta = LOG_LAG,
    late_failures: timedelta = timedelta(0),
    cut_lines: Callable[[Arm, int], float] = _none_cut,
    history: timedelta = _HOUR,
    start: datetime = _START,
    seed: int = 0,
    allow: Mapping[str, Any] | None = None,
    test_any: Literal["verb", "ANY"] = "verb",
    absent_canary: Literal["unknown", "refused", "ignored"] = "unknown",
) -> Iterator[Rehearsal]:
    """Rehearse a canary release: real boto3 clients, simulated canaries, no network, no waiting.

    What is known of AWS is simulated, refusals included; what was never recorded raises
    `RehearsalError` instead of being guessed. Services other than API Gateway, its metrics and its
    access logs are moto's, which is active for as long as the context lasts. The same arguments and
    the same calls give the same traffic, for any number of observations.

    ```python
    from apigw_canary.testing import Backend, rehearsal

    with rehearsal(backends={"alias=v2": Backend(errors_5xx=0.05)}) as aws:
        canary = aws.stage.enable_canary(10, variables={"alias": "v2"})
        aws.sleep(300)
        print(sum(row.errors_5xx for row in aws.served if row.arm == "canary"))
    ```

    Parameters:
        requests_per_minute: Mean number of requests a minute, or a function from the virtual time
            to it, asked once a minute; the numbers themselves are Poisson distributed. 500 are
            enough for a decision within the hour.
        routes: The methods that the requests call, as in "GET /orders", each with its weight. With
            detailed metrics for all methods (`settings={"methodSettings": {"*/*":
            {"metricsEnabled": True}}}`) CloudWatch has the series of each.
        api: How requests fare at the API as it is being edited. The first deployment captures it,
            and so do later ones, unless `Rehearsal.edit` changes it in between.
        backends: How requests fare that see a stage variable, as in `{"alias=v2": Backend(...)}`.
            Wins over what the deployment captured; if several match, the first one does. Where a
            canary had requests and one of them got none, a `RehearsalWarning` is issued at the end.
            Instead of a `Backend` a function from `Conditions` to one, asked once a minute, variant
            and method: for what changes with time, load or route.
        versions: How the invocations of each version of the Lambda function `orders` fare, version
            1 first. Given, the API calls `orders:${stageVariables.alias}`, unless `methods` states
            otherwise, and neither `api` nor `backends` matter. The versions are published, and
            there is an alias of version 1 by the name that the stage variable has; more are made
            with boto3, in moto's Lambda.
        variables: The stage's variables at the start.
        stage: The name of the stage that takes the traffic.
        stages: Further stages with traffic, each with its requests a minute, as in `{"beta": 50}`.
            Each has a canary, metrics and logs of its own; what the other arguments state is the
            same for all of them. `Rehearsal.stages` has them by name. A `Backend` of each is a
            function of `Conditions.stage`. Stages that are made later have no traffic.
        api_name: The name of the API, by which CloudWatch knows it. Characters that are not ASCII
            are left out there, as AWS does; one of nothing else is not simulated.
        methods: The methods of the API at the start, keyed as in "GET /orders". Left out, it has
            those of `routes` beside a few.
        settings: What GetStage answers as `methodSettings`, `accessLogSettings` and
            `cacheClusterEnabled`; left out, they are as AWS makes them: all off.
        overlap: Whether the stage's own metrics count the canary's requests. AWS does not document
            it, so try both.
        lag: By metric, how long after the end of a minute its datapoint appears. Metrics left out
            keep the default: 60 s for Count, 120 s for the rest, because AWS publishes errors later
            than counts.
        latency_ranks: Whether CloudWatch answers the statistics `PR` and `TC`, which was never
            recorded for API Gateway; if not, they come back empty.
        buckets: Where a period of more than a minute begins: "start", at the start of the time
            asked for, or "clock", at multiples of the period since 1970. AWS does not document it,
            so try both.
        unpublished: Which datapoints CloudWatch never has: a function from a metric such as
            "5XXError", the value of the dimension `Stage` such as "prod/Canary" ("" for the API's
            total) and a minute to True for one that is left out. None leaves nothing out.
        access_logs: The format of the stage's access logs, JSON with `$context` variables; None for
            a stage without. They are read by Logs Insights, which answers the library's queries.
        execution_logs: The level of the stage's execution logs, "ERROR" or "INFO"; None for a stage
            without. They are in two groups, the canary's lines in both.
        log_lag: How long after the end of a minute the lines of its failures appear; the rest take
            half of that.
        late_failures: How much later than `log_lag` the lines of failed requests appear.
        cut_lines: Which part of the lines, 0 to 1, of a variant ("baseline" or "canary") and status
            (200, 400, 500, 502 or 504) ends before the status, as a line does whose values broke
            it; in the execution logs the line of the end loses its beginning. A line that is no
            JSON because of the format itself, such as one with a quoted
            `$context.error.messageString`, is no JSON here either.
        history: How long traffic has been flowing at the start, all of it to the baseline.
        start: The virtual time at the start, aware.
        seed: The seed of the traffic; another seed gives other traffic.
        allow: The IAM policy document of the caller, as `permissions` gives it: a call that no
            statement of it allows is refused as AWS does. None allows everything.
        test_any: How a method `ANY` is addressed by TestInvokeMethod, the call of a smoke test: by
            the request's own verb, or as `ANY`. AWS does not document it, so try both.
        absent_canary: The answer to the removal of a canary that another process has just
            removed. AWS does not document it: "unknown" raises `RehearsalError`; where several
            processes act at once, try "refused" and "ignored".

    Raises:
        ValueError: `start` is naive, requests a minute are below 0 or no number, a key of
            `backends` or `lag` means nothing, `stages` has `stage` too, or `methods` lacks one of
            `routes`.
        ImportError: moto, or a package of its extra for API Gateway, is not installed.
    """
    try:
        import moto.apigateway.models  # and what the extra brings for it
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        raise ModuleNotFoundError(
            f"A rehearsal needs {missing}, which is not installed. Install the extra of this "
            "library for testing: python -m pip install 'apigw-canary[testing]' "
            "(in a clone: python -m pip install '.[testing]').",
            name=missing,
        ) from error

    if start.tzinfo is None:
        raise ValueError(f"start must be aware, with a time zone: {start}")
    begins = start.astimezone(UTC) - history
    if stage in stages:
        raise ValueError(f"stages are those beside {stage!r}, each with its requests a minute")
    rates = {stage: requests_per_minute, **stages}
    for name, rate in rates.items():
        if not callable(rate) and not 0 <= rate < math.inf:
            raise ValueError(f"the requests a minute of stage {name!r} must be 0 or more: {rate}")
    if methods is METHODS:
        methods = dict.fromkeys([*METHODS, *routes], Method(uri=URI) if versions else Method())
    elif routes is not _ROUTES and (unknown := [r for r in routes if not _has(methods, r)]):
        raise ValueError(f"the API has no method {unknown[0]!r} of routes: add it to methods")
    traffic = Traffic(
        rates=rates, api=api, backends=backends, seed=seed, begins=begins, routes=routes
    )
    metrics = Metrics(
        traffic,
        api_name=api_name,
        overlap=overlap,
        lag=lag,
        latency_ranks=latency_ranks,
        buckets=buckets,
        unpublished=unpublished,
        detailed=_metrics_enabled(settings),
    )
    # Before the session is made: moto reaches only sessions made after it was imported.
    with moto.mock_aws():
        rehearsed = Rehearsal(
            traffic=traffic,
            metrics=metrics,
            access_logs=access_logs,
            execution_logs=execution_logs,
            log_lag=log_lag,
            late_failures=late_failures,
            cut_lines=cut_lines,
            versions=versions,
            api_name=api_name,
            variables=variables,
            methods=methods,
            settings=settings,
            now=begins,
            seed=seed,
            allow=allow,
            test_any=test_any,
            absent_canary=absent_canary,
        )
        rehearsed.sleep(history.total_seconds())
        yield rehearsed
    if unreached := traffic.unreached():
        warnings.warn(
            f"No request of the rehearsal reached the backends {', '.join(unreached)}: is a stage "
            "variable misspelled, or the canary never enabled with it?",
            RehearsalWarning,
            stacklevel=4,
        )


def _has(methods: Mapping[str, Method], route: str) -> bool:
    """Whether one of the methods is the route's, or any method of its resource."""
    return route in methods or f"{ANY} {route.partition(' ')[2]}" in methods


def _metrics_enabled(settings: Mapping[str, Any]) -> bool:
    """Whether the stage has detailed metrics, for all of its methods."""
    every: Mapping[str, object] = settings.get("methodSettings", {}).get("*/*", {})
    return every.get("metricsEnabled") is True
