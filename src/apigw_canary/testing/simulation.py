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
    """The name of the service in boto3, such as "apigateway"."""

    operation: str
    """The name of the operation in AWS's API, such as "UpdateStage"."""

    parameters: Mapping[str, object]
    """The parameters that were sent, under their names in AWS's API, such as "restApiId"; times are
    aware datetimes."""

    at: datetime
    """The virtual time, an aware datetime."""


class Rehearsal:
    """A simulation of API Gateway, its traffic and its metrics on a virtual clock, made by
    `rehearsal()`.

    You can use one object from several threads. The clock only moves by `sleep`, and by the `speed`
    of `serve`.
    """

    session: boto3.Session
    """A session whose clients are all simulated, in eu-central-1, with made-up credentials."""

    rest_api_id: str
    """The id of the REST API that exists from the start. Its stages have traffic."""

    calls: list[Call]
    """The AWS calls made through `session`, oldest first; empty at the start. There is one entry
    for each call of a client, because botocore does not retry simulated calls."""

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
        """The `Stage` with the traffic. Its waits move the virtual clock."""
        return self.stages[self._stage_name]

    @functools.cached_property
    def stages(self) -> Mapping[str, Stage]:
        """Each `Stage` with traffic, by its name, that of `stage` first."""
        from apigw_canary.stage import Stage

        return MappingProxyType(
            {
                name: Stage(self.rest_api_id, name, session=self.session, sleep=self.sleep)
                for name in self._traffic.rates
            }
        )

    def alias(self, name: str) -> LambdaAlias:
        """Return the `LambdaAlias` of this name of the function `orders`. Its waits move the
        virtual clock.
        """
        from apigw_canary.lambda_alias.alias import LambdaAlias

        return LambdaAlias(FUNCTION, name, session=self.session, sleep=self.sleep)

    def now(self) -> datetime:
        """Return the virtual time, an aware datetime. All dates in AWS's answers come from it."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Move the virtual clock without waiting. Raises ValueError if negative, as `time.sleep`
        does.
        """
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
        """Change the API as it is being edited. Deployments that are made from now on capture it.

        `api` sets the error rates and latencies of its requests. `methods` adds or replaces
        methods; None as a value removes one.
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
        """Set the state of a CloudWatch alarm from now on, and create the alarm if it does not
        exist.

        An alarm that is created by PutMetricAlarm is evaluated each minute from the metrics of the
        traffic.

        The state of any other alarm only changes by this method. `kind` is the kind of alarm to
        create; an existing alarm keeps its kind. `evaluation` is the `EvaluationState` that
        CloudWatch shows from now on for a metric or log alarm that it cannot evaluate in full, with
        an earlier `state`; None after a full evaluation. For an alarm that was firing before a
        canary, set the state first, then `sleep`, then enable the canary.
        """
        with self._lock:
            self._alarms.set(name, state, self._now, kind=kind, evaluation=evaluation)

    def fail(self, operation: str, fault: Fault, *, skip: int = 0, after: bool = False) -> None:
        """Make the next call of an AWS operation, such as "UpdateStage", fail.

        The first `skip` calls do not fail. With `after=True` AWS carries the call out, and only the
        answer is lost.
        """

        def act(service: str, operation: str) -> object:
            return happen(fault, service, operation)

        self._interruptions.add(Interruption(operation, skip, after, act))

    def meanwhile(
        self, operation: str, act: Callable[[], object], *, skip: int = 0, after: bool = False
    ) -> None:
        """Run a function as another process, directly before the next call of an AWS operation.

        It runs after `skip` calls of the operation. With `after=True` it runs directly after the
        call.
        """
        self._interruptions.add(Interruption(operation, skip, after, lambda *_: act()))

    @property
    def allow(self) -> Mapping[str, Any] | None:
        """The IAM policy document of the caller; None allows everything.

        You can change it between calls, for example to prepare a test with more permissions than
        the test itself has. It does not apply to calls that are made in `meanwhile`.
        """
        return self._allowance.document

    @allow.setter
    def allow(self, document: Mapping[str, Any] | None) -> None:
        self._allowance = Allowance(document)

    @property
    def served(self) -> Sequence[Served]:
        """What was really served in the minutes that have ended: a row for each minute, stage,
        variant and deployment.

        The rows are in order of time and include the history before the start.
        """
        with self._lock:
            now = self._now.replace(second=0, microsecond=0)
            return tuple(row for row in self._traffic.served() if row.at < now)

    def serve(self, *, port: int = 0, speed: float = 0) -> AbstractContextManager[RehearsalServer]:
        """Let other processes on this machine call the rehearsal over HTTP, in a `with` block.

        ```python
        import os
        import subprocess
        import sys

        from apigw_canary.testing import rehearsal

        with rehearsal() as aws, aws.serve() as server:
            job = [sys.executable, "-c", "import boto3; boto3.client('sts').get_caller_identity()"]
            subprocess.run(job, env={**os.environ, **server.environment}, check=True)
        ```

        It listens only on 127.0.0.1 and does not check signatures. It supports the json, query,
        rest-json and rest-xml protocols. `calls`, `fail`, `meanwhile` and `allow` apply to the
        calls of other processes too.

        Parameters:
            port: The port, 0 to 65,535; 0 for a free one.
            speed: Virtual seconds for each real second, 0 or more. With 0 the clock only moves when
                `sleep` is called, or `RehearsalClient.sleep` in another process.

        Raises:
            RehearsalError: At the end of the block, if the rehearsal could not answer a call.
            OSError: The port is in use.
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
        """Return the true latency, in milliseconds, of each request of a variant in the minutes of
        [start, end).

        `stage` is the name of the stage, by default that of `Rehearsal.stage`.
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
    """Rehearse a canary release with real boto3 clients and simulated traffic, offline and without
    waiting.

    Known behavior of AWS is simulated, including its errors. Behavior that was never recorded is
    not guessed: it raises `RehearsalError`. Services other than API Gateway, its metrics and its
    logs are simulated by moto, which is active inside the `with` block. The same arguments and the
    same calls give the same traffic, for any number of observations.

    ```python
    from apigw_canary.testing import Backend, rehearsal

    with rehearsal(backends={"alias=v2": Backend(errors_5xx=0.05)}) as aws:
        canary = aws.stage.enable_canary(10, variables={"alias": "v2"})
        aws.sleep(300)
        print(sum(row.errors_5xx for row in aws.served if row.arm == "canary"))
    ```

    Parameters:
        requests_per_minute: The mean number of requests a minute, or a function that takes the
            virtual time and returns it, and is called once a minute. The numbers of requests are
            Poisson distributed. 500 a minute are enough for a decision within an hour.
        routes: The methods that the requests call, such as "GET /orders", each with its weight.
            CloudWatch has a series for each if detailed metrics are on:
            `settings={"methodSettings": {"*/*": {"metricsEnabled": True}}}`.
        api: The error rates and latencies of the API as it is being edited. Each deployment
            captures them when it is made. `Rehearsal.edit` changes them.
        backends: The error rates and latencies of requests for which a stage variable has a value,
            as in `{"alias=v2": Backend(...)}`. A backend has precedence over what the deployment
            captured; if several match, the first one is used. Instead of a `Backend` you can give a
            function that takes `Conditions` and returns one, and is called once for each minute,
            variant and method: for behavior that depends on time, load or route. If a canary had
            requests and a backend got none, a `RehearsalWarning` is issued at the end.
        versions: The error rates and latencies of each version of the Lambda function `orders`,
            version 1 first. With it the API invokes `orders:${stageVariables.alias}`, unless
            `methods` has another URI, and `api` and `backends` are not used. The versions are
            published, and there is an alias of version 1 whose name is the value of the stage
            variable. You can create more aliases with boto3, in moto's Lambda.
        variables: The variables of the stage at the start.
        stage: The name of the stage that takes the traffic.
        stages: Further stages with traffic, each with its requests a minute, as in `{"beta": 50}`.
            Each has its own canary, metrics and logs; the other arguments apply to all of them.
            `Rehearsal.stages` has the stages by name. To give a stage its own error rates, use a
            function of `Conditions.stage` in `backends`. Stages that are created later have no
            traffic.
        api_name: The name of the API in CloudWatch's metrics. As in AWS, characters that are not
            ASCII are left out there. A name without any ASCII characters is not simulated.
        methods: The methods of the API at the start, with keys such as "GET /orders". By default it
            has those of `routes` and a few more.
        settings: The `methodSettings`, `accessLogSettings` and `cacheClusterEnabled` in GetStage's
            answer; by default all are off, as for a new stage.
        overlap: Whether the stage's own metrics also count the canary's requests. AWS does not
            document it, so test with both values.
        lag: How long after the end of a minute its datapoint appears, by metric. The defaults are
            60 s for Count and 120 s for other metrics, because AWS publishes errors later than
            counts.
        latency_ranks: Whether CloudWatch answers the statistics `PR` and `TC`; if not, they come
            back empty. Their answers were never recorded for API Gateway.
        buckets: Where a period of more than a minute begins: "start", at the start of the window,
            or "clock", at multiples of the period since 1970. AWS does not document it, so test
            with both values.
        unpublished: A function that returns True for each datapoint that CloudWatch never has. It
            takes a metric such as "5XXError", the value of the dimension `Stage` such as
            "prod/Canary" ("" for the API's total) and a minute. With None CloudWatch has all
            datapoints.
        access_logs: The format of the stage's access logs: JSON with `$context` variables. With
            None the stage has no access logs. Logs Insights answers the queries that this library
            makes.
        execution_logs: The level of the stage's execution logs, "ERROR" or "INFO"; with None it has
            none. The logs are in two groups, and the canary's lines are in both.
        log_lag: How long after the end of a minute the log lines of failed requests appear. Other
            lines appear after half of that.
        late_failures: How much later than `log_lag` the lines of failed requests appear.
        cut_lines: The fraction, 0 to 1, of log lines that are cut off before the status, as
            happens when a value breaks the line; in execution logs the last line of a request loses
            its beginning. A function that takes the variant ("baseline" or "canary") and the status
            (200, 400, 500, 502 or 504) and returns the fraction. Formats that make invalid JSON
            themselves, such as one with a quoted `$context.error.messageString`, do so here too.
        history: How long there has been traffic before the start, all of it to the baseline.
        start: The virtual time at the start, an aware datetime.
        seed: The seed of the traffic. Another seed gives other traffic.
        allow: The IAM policy document of the caller, such as `permissions` returns. A call that no
            statement allows is refused as AWS refuses it. None allows everything.
        test_any: How TestInvokeMethod, the call of a smoke test, names a method `ANY`: by the
            request's own verb, or as `ANY`. AWS does not document it, so test with both values.
        absent_canary: AWS's answer to the removal of a canary that another process has just
            removed. AWS does not document it: "unknown" raises `RehearsalError`. If your processes
            act at the same time, test with "refused" and "ignored".

    Raises:
        ValueError: `start` has no time zone, requests a minute are negative or no number, a key of
            `backends` or `lag` is not valid, `stages` also has `stage`, or `methods` lacks one of
            `routes`.
        ImportError: moto, or a package that it needs for API Gateway, is not installed.
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
        raise ValueError(
            f"stages must be stages other than {stage!r}, each with its requests a minute"
        )
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
