"""A stage of a REST API: the way in."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Literal, Self, Unpack, get_args

import attrs

from apigw_canary.aws import ApiGateway, Functions, apis_named
from apigw_canary.canary import Canary
from apigw_canary.changes.clean_up import clean_up
from apigw_canary.changes.control import Control
from apigw_canary.changes.enable import CanaryRequest, dry_run, enable
from apigw_canary.changes.records import DescriptionRecords, StoredRecords
from apigw_canary.changes.revert import revert
from apigw_canary.changes.rollback import roll_back
from apigw_canary.changes.sending import Condition, Snapshot, acting, stated
from apigw_canary.errors import AmbiguousNameError, NotFoundError
from apigw_canary.judge import Measurements, Observation
from apigw_canary.metrics.logs import log_groups
from apigw_canary.model import (
    CleanUp,
    Comparison,
    LogGroup,
    Promotion,
    SmokeRequest,
    SmokeResult,
    StageState,
    Variables,
)
from apigw_canary.policy import RolloutPolicy
from apigw_canary.preflight.facts import Problem, read_facts, require_used
from apigw_canary.preflight.invocation import InvocationPermission, allow
from apigw_canary.preflight.preflight import Preflight, preflight
from apigw_canary.preflight.smoke import smoke_test
from apigw_canary.rollouts import (
    AnyPlace,
    Connection,
    check_revert,
    first_percent,
    measured,
    policy_fingerprint,
    watchable,
    window,
)
from apigw_canary.values import validation

Acceptance = Literal["unused_variables", "weakened_methods", "unfinished_rollback"]
"""What `Stage.enable_canary` refuses unless the caller accepts it."""


def _only_if(gateway: ApiGateway, request: CanaryRequest, watch: Condition) -> Condition:
    """The condition on which a canary is enabled: that it is another one, and can be watched."""

    def check(seen: Snapshot) -> None:
        if "unused_variables" not in request.accept:
            require_used(gateway, seen.stage, request.variables, request.deployment_id)
        watch(seen)

    return check


class Stage(AnyPlace):
    """One stage of one REST API, in one region.

    ```python
    from apigw_canary import Stage

    stage = Stage("a1b2c3d4e5", "prod")
    canary = stage.enable_canary(5, release="2026-11-23.1", variables={"alias": "v2"})
    print(stage.describe())
    receipt = canary.promote()
    stage.revert(receipt)
    ```

    `rest_api_id` and `name` identify the stage. `session` is a `boto3.Session`; None uses boto3's
    default session, with its profiles, regions and `AWS_ENDPOINT_URL_*`. `metrics` is the metric
    source, by default `CloudWatchMetrics()`. `records` is a store for the records of rollouts, by
    default the descriptions of the deployments. `clock` returns the present time, as an aware
    datetime; None uses the time in AWS's answers, so a wrong local clock has no effect. `sleep`
    waits between retries; it takes seconds, as `time.sleep` does. `retry_for` limits the sum of
    these waits for a call, by default 30 seconds.

    boto3 is imported with the first call. You can use one object from several threads.
    """

    _control: Control

    def __init__(self, rest_api_id: str, name: str, **connection: Unpack[Connection]) -> None:
        super().__init__(**connection)
        gateway = ApiGateway(
            self._calls,
            validation.identifier(rest_api_id, "rest_api_id"),
            validation.identifier(name, "name"),
        )
        self._control = Control(
            gateway,
            DescriptionRecords(gateway)
            if self._records is None
            else StoredRecords(self._records, gateway),
        )

    @classmethod
    def find(cls, api_name: str, name: str, **connection: Unpack[Connection]) -> Self:
        """Find the stage `name` of the REST API called `api_name`, with one GetRestApis.

        Raises `NotFoundError` if no API has that name, and `AmbiguousNameError`, which lists the
        ids, if several have it.
        """
        calls = AnyPlace(**connection)._calls  # noqa: SLF001 - of its own class
        found = apis_named(calls, validation.text(api_name, "api_name", limit=1024))
        if not found:
            raise NotFoundError(
                f"No REST API in {calls.region} is called {api_name!r}.",
                remedy="Check the name, the session and the region.",
            )
        if len(found) > 1:
            raise AmbiguousNameError(
                f"{len(found)} REST APIs in {calls.region} are called {api_name!r}: "
                f"{', '.join(found)}.",
                candidates=tuple(found),
                remedy="Use the id of the right one: Stage(rest_api_id, name).",
            )
        return cls(found[0], name, **connection)

    def __repr__(self) -> str:
        return f"Stage({self.rest_api_id!r}, {self.name!r})"

    @property
    def rest_api_id(self) -> str:
        """The REST API's id."""
        return self._control.gateway.rest_api_id

    @property
    def name(self) -> str:
        """The stage's name."""
        return self._control.gateway.stage_name

    @stated
    def describe(self) -> StageState:
        """Read the stage and the record of its rollout, with two calls.

        `rollout` is the running rollout, else the latest one with its outcome, else None. The calls
        are GetStage and, while a canary runs, GetDeployment, else GetDeployments.
        """
        state = self._control.read().stage
        return attrs.evolve(state, rollout=self._control.rollout(state))

    def check(
        self,
        percent: float | None = None,
        *,
        release: str | None = None,
        deployment_id: str | None = None,
        variables: Mapping[str, str] | None = None,
        use_stage_cache: bool = False,
        description: str | None = None,
        accept: Collection[Acceptance] = (),
        policy: RolloutPolicy | None = None,
    ) -> Preflight:
        """Dry-run `enable_canary` with these arguments: report its problems, changes and calls.

        Nothing is changed. `.problems` lists the problems of a canary, errors first, and `.ok` is
        True if none is an error. With a `policy` it checks whether the traffic of the past hour is
        enough. With `variables` it checks that each integration that uses one of them calls a
        Lambda function that exists and that API Gateway may invoke, and it shows the function that
        production calls. Methods and their authorization in production are compared with those of
        `deployment_id`, else of the running canary's deployment, else of the API as it is being
        edited now. Data that could not be read are a problem that names the missing permission.
        Permissions to write are not checked.

        `.calls` lists the calls of API Gateway that `enable_canary` would make with `percent`, by
        default the policy's first. Without a percent and a policy it is empty. Another process may
        change the stage before you call `enable_canary`.

        It makes three calls, three more with a policy, one more with alarms, and two for each
        Lambda function of the variables. For `.calls` it makes the reads of `enable_canary` and one
        GetResources.
        """
        watch = watchable(self._calls, self._metrics, policy)
        is_planned = percent is not None or policy is not None
        request = CanaryRequest(
            percent=first_percent(percent, policy) if is_planned else 0,
            release=release,
            deployment_id=deployment_id,
            variables=variables,
            use_stage_cache=use_stage_cache,
            description=description,
            accept=validation.choices(accept, "accept", get_args(Acceptance)),
            policy=policy_fingerprint(policy) if policy is not None else None,
        )

        def measure(state: StageState, at: datetime) -> Measurements:
            assert policy is not None
            return measured(self._metrics, state, policy, at, at)

        facts = read_facts(
            self._control.gateway,
            self._calls,
            measure,
            policy=policy,
            overrides=request.variables,
            deployment_id=deployment_id,
        )
        if isinstance(facts, Problem):
            return Preflight(problems=(facts,))
        facts = attrs.evolve(facts, accepted=request.accept, percent=request.percent)
        if not is_planned:
            return preflight(facts)
        run = dry_run(self._control, request, lambda gateway: _only_if(gateway, request, watch))
        resumes = run.error is None and facts.stage.canary is not None
        return preflight(attrs.evolve(facts, resumes=resumes), run.sent, run.error)

    def allow_invocation(
        self,
        variables: Mapping[str, str],
        *,
        whole_stage: bool | None = None,
        smoke_test: bool = False,
    ) -> tuple[InvocationPermission, ...]:
        """Let API Gateway invoke the Lambda functions that integrations name with these variables.

        For each method whose integration uses one of the variables, it adds the missing permission
        to the policy of the function, alias or version, with lambda:AddPermission, for this stage
        and method only. Existing permissions are not changed, so you can run the same line again.
        Returns the permissions that were added.

        `whole_stage=True` adds one statement for each function, which covers all methods of the
        stage (`/*/*`). False adds one for each method. None adds one for each of up to 20 methods
        of a function, and for more methods one that covers the whole stage, because a function's
        policy has at most 20,480 bytes. `smoke_test=True` adds one more statement to each function
        that a method of the API invokes with these variables, for the test invocations of
        `stage.smoke_test`, whose stage is `test-invoke-stage`.

        Raises `NotFoundError` if a function or alias does not exist, and `CallerError` if a policy
        denies the invocation, before anything is added. Some tools use lambda:PutResourcePolicy,
        which replaces a function's whole policy and removes these permissions.
        """
        if whole_stage is not None:
            validation.flag(whole_stage, "whole_stage")
        return allow(
            self._control.gateway,
            Functions(self._calls),
            Variables(validation.variables(variables)),
            whole_stage=whole_stage,
            smoke_test=validation.flag(smoke_test, "smoke_test"),
        )

    @stated
    def smoke_test(
        self,
        requests: Sequence[str | SmokeRequest],
        *,
        variables: Mapping[str, str] | None = None,
        deployment_id: str | None = None,
        unsafe: bool = False,
    ) -> tuple[SmokeResult, ...]:
        """Send requests to the API as it is being edited, before a canary has any traffic.

        `requests` are texts such as `"GET /orders/42"`, which pass with a status from 200 to 299,
        or `SmokeRequest`s. Each is sent once, in order, with the stage's variables and your
        `variables`, which replace those of the same name: give the ones that you will give to
        `enable_canary`. Returns a result for each request; one that is "not testable" has neither
        passed nor failed. The stage is not changed.

        **The backends are really called.** So DELETE, PATCH, POST and PUT raise `InvalidInputError`
        unless you pass `unsafe=True`.

        A test invocation bypasses authorizers, resource policies, API keys, usage plans, WAF,
        throttling, and the stage's cache, domain names and access logs. It shows that methods,
        integrations and backends work, not who may call them. Streamed answers are buffered, for at
        most 35 seconds.

        Only the API as it is being edited can be tested. A canary with a new deployment serves the
        same API, unless you edit it before you enable the canary. A `deployment_id` raises
        `InvalidInputError` before anything is sent.

        It makes a GetStage, a GetResources, and a TestInvokeMethod for each request; a second one
        if AWS does not find a method `ANY` by the request's verb. Raises `AccessDeniedError` if you
        lack a permission. Lambda functions must allow test invocations: call
        `stage.allow_invocation(variables, smoke_test=True)` first.
        """
        if deployment_id is not None:
            validation.refuse(
                "deployment_id",
                "left out for a smoke test: AWS tests only the API as it is being edited, which "
                "may differ from any deployment",
                deployment_id,
            )
        return smoke_test(
            self._control.gateway,
            lambda: self._control.read().stage,
            requests,
            Variables(validation.variables({} if variables is None else variables)),
            unsafe=validation.flag(unsafe, "unsafe"),
        )

    @stated
    def enable_canary(
        self,
        percent: float | None = None,
        *,
        release: str | None = None,
        deployment_id: str | None = None,
        variables: Mapping[str, str] | None = None,
        use_stage_cache: bool = False,
        description: str | None = None,
        accept: Collection[Acceptance] = (),
        policy: RolloutPolicy | None = None,
    ) -> Canary:
        """Enable a canary with `percent` of the requests, 0 to 100; None: the policy's first step.

        The canary serves a new deployment of the API **as it is being edited now**, including a
        colleague's unfinished changes. With `deployment_id` it serves an earlier deployment, or the
        stage's own deployment if only variables differ. `variables` override the stage's variables
        for the canary's requests. With `use_stage_cache=True` the canary reads and fills the
        stage's cache. `description` is stored with a new deployment. It makes at most nine calls,
        and reads the stage again directly before it changes it.

        You can run it again. It returns the running canary of the same `release` unchanged,
        whatever its percent; without a `release`, the running canary of the same variables and
        deployment. It raises `RolloutEndedError` if the rollout of this release has ended, so a
        script that is run again does not restart a bad release; without a `release` it does not
        know of ended rollouts. It raises `CanaryAlreadyEnabledError` if another canary is running.

        It raises `WeakenedApiError` if the deployment lacks methods that production has, or
        requires less authorization for them, unless `accept` has "weakened_methods". Integrations
        are not compared, because AWS does not show those of a deployment.

        It raises `InvalidInputError` for a variable that the stage does not have and that no
        integration, template, parameter or authorizer of the API names, unless `accept` has
        "unused_variables". Use that if only the code of a Lambda function or a gateway response
        reads the variable. A variable that the stage does not have takes two more calls. If the API
        cannot be read, and with a `deployment_id`, a warning is logged instead.

        It raises `CannotTellError` if a rollback of production's release was interrupted, because
        production would be the baseline: `rollback()` finishes it. With "unfinished_rollback" in
        `accept` production stays as it is, and that release counts as promoted.

        `policy` is the policy that the canary will be observed with. Its alarms and metrics are
        read once, with the calls of a first observation. If they cannot be read, it raises before
        it changes anything: `NotFoundError` for an alarm that does not exist, `MetricsError` for
        metrics with which no canary would be promoted. They are not read if the canary is running
        or the rollout of the release has ended.
        """
        watch = watchable(self._calls, self._metrics, policy)
        request = CanaryRequest(
            percent=first_percent(percent, policy),
            release=release,
            deployment_id=deployment_id,
            variables=variables,
            use_stage_cache=use_stage_cache,
            description=description,
            accept=validation.choices(accept, "accept", get_args(Acceptance)),
            policy=policy_fingerprint(policy) if policy is not None else None,
        )
        with acting(release):
            handle = enable(
                self._control,
                only_if=_only_if(self._control.gateway, request, watch),
                request=request,
            )
        return Canary(self._control, handle, self._metrics)

    @stated
    def canary(self) -> Canary | None:
        """Return the running canary, whatever tool enabled it; None if there certainly is none.

        It makes two calls; without a canary also a second GetStage after two seconds, and
        GetDeployments.
        """
        seen = self._control.present()
        if seen.stage.canary is None:
            return None
        return Canary(self._control, self._control.handle(seen), self._metrics)

    @stated
    def observe(self, policy: RolloutPolicy, *, start: datetime, end: datetime) -> Observation:
        """Observe a past window as if a canary had been enabled at its start, for notebooks.

        It makes one GetStage and reads the metrics of [start, end) and of the hour before. All
        canaries of the window count as one, and `percent` is the percent of the requests that they
        got. The observation has no basis, so a decision on it cannot be applied. CloudWatch keeps
        minutes for 15 days. Alarms are not read.
        """
        start, end = window(start, end)
        found = measured(self._metrics, self._control.read().stage, policy, start, end)
        canary, total = 0.0, 0.0
        for row in next(iter(found.values()), ()):
            if row.at >= start:
                canary += row.canary_requests
                total += row.baseline_requests
                total += row.canary_requests if found.overlap != "included" else 0
        return Observation(
            at=end,
            started_at=start,
            step_started_at=start,
            percent=round(min(100 * canary / total, 100), 2) if total else 0.0,
            minutes=found.minutes,
            overlap=found.overlap,
            notes=found.notes,
            routes=found.routes,
            suspect=found.suspect,
            not_observed=found.not_observed,
        )

    def log_groups(self) -> tuple[LogGroup, ...]:
        """List the log groups of access and execution logs of both variants, and whether they
        exist.

        It makes a GetStage, and a DescribeLogGroups for each of at most four groups.
        """
        return log_groups(self._control.gateway)

    @stated
    def compare(self, start: datetime, end: datetime) -> Comparison:
        """Compare both variants in a past window, whichever canaries ran in it, without a verdict.

        It returns what `Canary.compare` returns for the rollout of one canary. Minutes that ended
        less than five minutes ago are left out, because their metrics may not be complete.
        CloudWatch keeps minutes for 15 days.
        """
        return self._compared(start, end)

    @stated
    def rollback(self) -> None:
        """End any canary and undo an unfinished promotion, for example in an incident.

        If a process died after it ended the canary and before production got back what the
        promotion had replaced, this call finishes that; so does `enable_canary` of the release.
        If the record does not prove that a promotion was unfinished, the canary is ended,
        production is not changed, and `StageChangedError` is raised; call `revert` then. What
        another process promotes during this call is undone. A promotion that was finished before is
        not: if production serves the bad release, call `revert`.

        It makes two calls, one more to undo a promotion, and five to record the rollback: two
        before, each sent once and for at most two seconds, and three afterwards. The canary is
        ended even if those five fail. Without a canary it succeeds, after two reads two seconds
        apart have found none; if they do not agree it raises `CannotTellError`, because a canary
        may still be active.
        """
        roll_back(self._control, None, by="operator")

    @stated
    def revert(
        self, promotion: Promotion | None = None, *, dry_run: bool = False
    ) -> Promotion | None:
        """Undo the last promotion, or the one whose receipt (returned by `promote`) you pass.

        It restores the deployment and the variables that the promotion changed, and nothing else.
        It raises `StageChangedError` if one of them was changed since, and `NotFoundError`, which
        lists the remaining deployments, if the previous deployment was deleted. It succeeds if the
        promotion has already been undone, so you can run the same line again. To go back further,
        pass the receipt of an earlier promotion. It makes at most nine calls.

        Returns the promotion that was undone: production gets its `deployment_before` and its
        `variables_before`. Returns None if it had been undone before and no receipt of it is known.
        With `dry_run=True` it returns the same and changes nothing. Without a receipt the values
        come from the record, which every identity that may call UpdateDeployment can write: check
        the dry run first, or keep records in your own store (`records=`).
        """
        check_revert(promotion, dry_run)
        return revert(self._control, promotion, dry_run=dry_run)

    @stated
    def clean_up(self, keep: int = 10, *, dry_run: bool = False) -> CleanUp:
        """Delete the deployments that this library created and that are no longer needed.

        API Gateway keeps deployments until they are deleted. This method keeps each deployment that

        - a stage of the API, or the canary of one, serves,
        - one of the last two promotions of a stage replaced or promoted,
        - has the record of a release younger than 30 days: until then a script that is run again
          does not restart a bad release,
        - is less than an hour old, or one of the `keep` newest (0 or more),
        - another tool created, another stage has a record on, or whose record cannot be read.

        It does not know which deployments another stage needs for `revert` if that stage keeps its
        records in its own store (`records`).

        Returns the outcome of each deployment that this library created for this stage, newest
        first. If AWS refuses a deletion, the outcome is "refused" and no error is raised. With
        `dry_run=True` nothing is deleted, and the result assumes that AWS refuses no deletion.

        It makes a GetDeployments, a GetStages, and one DeleteDeployment for each deployment that is
        deleted.
        """
        return clean_up(
            self._control,
            validation.count(keep, "keep", low=0, high=10**6),
            dry_run=validation.flag(dry_run, "dry_run"),
        )
