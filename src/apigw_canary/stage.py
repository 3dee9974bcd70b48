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

Acceptance = Literal["unused_variables", "weakened_methods"]
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

    `rest_api_id` and `name` identify it; `session` is a `boto3.Session`, or None for boto3's
    default one: profiles, regions and `AWS_ENDPOINT_URL_*` count as they do for boto3. `metrics` is
    the source of the variants' minutes, by default CloudWatch; `records` a store for the rollouts'
    records, by default the descriptions of their deployments. `clock` is called for the time now;
    None takes the time that AWS states in its answers, so that a wrong local clock does no harm.
    `sleep` pauses between retries, for `retry_for` in all.

    boto3 is imported when the first call is made. Threads may use one stage.
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
        """The stage `name` of the REST API called `api_name`: one GetRestApis.

        Raises `NotFoundError` if no API has that name, and `AmbiguousNameError`, which lists them,
        if several have it.
        """
        calls = AnyPlace(**connection)._calls  # noqa: SLF001 - of its own class
        found = apis_named(calls, validation.text(api_name, "api_name", limit=1024))
        if not found:
            raise NotFoundError(
                f"No REST API in {calls.region} is called {api_name!r}.",
                remedy="Check the name, and that session and region are the right ones.",
            )
        if len(found) > 1:
            raise AmbiguousNameError(
                f"{len(found)} REST APIs in {calls.region} are called {api_name!r}: "
                f"{', '.join(found)}.",
                candidates=tuple(found),
                remedy="Name the one by its id: Stage(rest_api_id, name).",
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
        """The stage now, with what is recorded of its rollout: two calls.

        `rollout` is the one that is running, else the latest one with its outcome; None if no
        rollout is recorded. It makes GetStage, and GetDeployment while a canary runs, else
        GetDeployments.
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
        """A dry run of `enable_canary` with these arguments: its problems, changes and calls.

        Nothing is changed. `.problems` are the problems of a canary, errors first, and `.ok` is
        True if none is an error. With a `policy`: whether the past hour's traffic is enough for it.
        With the `variables` that the canary is to override: whether each integration that uses one
        leads to a Lambda function that exists and allows API Gateway, and which function production
        calls there. Methods and their authorization are compared between production and
        `deployment_id`, else the running canary's deployment, else the API as it is being edited
        now. What could not be read is a problem too, which names the missing permission;
        permissions to write are not tried.

        `.calls` are what `enable_canary` would send to API Gateway with a `percent`, by default the
        policy's first one; without either there are none. Between the two another process may act.

        Three calls; three more with a policy, one with alarms, and two for each function that the
        variables lead to. For `.calls` the reads of `enable_canary`, and one GetResources.
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
        """Let API Gateway call the Lambda functions that these stage variables lead to.

        For each integration that uses one of the variables, and each method, the permission that
        the function (its alias, its version) lacks is added to its policy: lambda:AddPermission,
        for this stage and method only. Existing permissions are not changed, so the same line can
        be run again. Returns what was added.

        `whole_stage=True` adds one statement a function, for all methods of the stage (`/*/*`), and
        False one a method; None does so for up to 20 methods a function, and adds the one for the
        whole stage beyond: a function's policy has 20,480 bytes at most. `smoke_test=True` adds one
        more to each function that a method of the API leads to with these variables: for the test
        invocations of `stage.smoke_test`, which API Gateway makes as `test-invoke-stage`.

        A function or alias that does not exist is `NotFoundError`, and a policy that denies the
        call `CallerError`, before anything is added. lambda:PutResourcePolicy, which some tools
        use, replaces a function's whole policy, and what this method added with it.
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
        or `SmokeRequest`s. Each is sent once, in their order, with the stage's variables overlaid
        by `variables`: the ones that you give to `enable_canary` next. Returns each result;
        a request that is "not testable" has neither passed nor failed. The stage is
        not changed.

        **Backends are really called.** So DELETE, PATCH, POST and PUT raise `InvalidInputError`
        unless `unsafe=True`.

        A test invocation does not pass authorizers and resource policies, API keys and usage plans,
        WAF, throttling, the stage's cache, its domain names and its access logs: it shows that
        methods, integrations and backends work, not who may call them. Streamed answers are
        buffered, for 35 seconds at most.

        Only the API as it is being edited can be tested. A canary with a new deployment serves that
        API, unless it is edited in between. A `deployment_id` raises `InvalidInputError` before
        anything is sent.

        GetStage, GetResources, and a TestInvokeMethod for each request; a second one where AWS does
        not know a method `ANY` by the verb. A call that may not be made is `AccessDeniedError`.
        Lambda functions have to let test invocations in:
        `stage.allow_invocation(variables, smoke_test=True)`.
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
        """Give `percent` of the requests, 0 to 100, to a canary; None: the policy's first step.

        The canary serves a new deployment of the API **as it is being edited now**, including a
        colleague's unfinished changes. With `deployment_id` it serves an earlier deployment, or the
        stage's own for a canary that differs in variables only. `variables` override the stage's
        for the canary's requests. `description` is kept with a new deployment. At most nine calls;
        the stage is read again directly before it is changed.

        You can run it again. The running canary of the same `release` (without one: of the same
        variables and deployment) is returned as it is, whatever its percent. A release that has had
        its rollout raises `RolloutEndedError`, so a script that is run again does not restart a bad
        release; without a release nothing is remembered. If another canary is running, it raises
        `CanaryAlreadyEnabledError`.

        A deployment without methods that production has, or with less authorization on them, raises
        `WeakenedApiError`, unless `accept` has "weakened_methods". Integrations are not compared:
        AWS does not show those of a deployment.

        A variable that the stage does not have, and that no integration, template, parameter or
        authorizer of the API names, raises `InvalidInputError`, unless `accept` has
        "unused_variables": use it if only the code of a Lambda function or a gateway response reads
        the variable. It makes two more calls for a variable that the stage does not have. Where the
        API cannot be read, and with a `deployment_id`, a warning is logged instead.

        `policy`: the policy that the canary will be observed with. Its alarms and metrics are read
        once. If they cannot be read, it raises before anything is changed; an alarm that CloudWatch
        does not know raises `NotFoundError`. It makes the calls of a first observation, and none if
        the canary is running or the release has had its rollout.
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
        """The canary that is running, whatever enabled it; None if there is none for certain.

        Two calls; without a canary a second GetStage after two seconds, and GetDeployments.
        """
        seen = self._control.present()
        if seen.stage.canary is None:
            return None
        return Canary(self._control, self._control.handle(seen), self._metrics)

    @stated
    def observe(self, policy: RolloutPolicy, *, start: datetime, end: datetime) -> Observation:
        """A past window as if a canary had been enabled at its start, for notebooks.

        One GetStage and the metrics of [start, end) and of the hour before. All canaries that ran
        in it are taken for one, and `percent` is the percent of the requests they got. It has no
        basis: a decision made on it cannot be applied. CloudWatch keeps minutes for 15 days. Alarms
        are not read.
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
        """The log groups of access and execution logs of both variants, and whether they exist.

        GetStage, and a DescribeLogGroups for each group, four at most.
        """
        return log_groups(self._control.gateway)

    @stated
    def compare(self, start: datetime, end: datetime) -> Comparison:
        """Both variants side by side in a past window, whichever canaries ran in it: no verdict.

        As `Canary.compare`, which is about the rollout of one canary. Only complete minutes are
        compared, those younger than five are left out, and CloudWatch keeps minutes for 15 days.
        """
        return self._compared(start, end)

    @stated
    def rollback(self) -> None:
        """End any canary, and undo a half-finished promotion, for example in an incident.

        Where the record does not prove that a promotion was half done, production is not changed
        and `StageChangedError` states that, after the canary was ended; `revert` is the way back
        then. A promotion that was finished is not undone by it: where production serves the bad
        release, call `revert`.

        Two calls, one more to undo, and five to record it: two before, each sent once and for two
        seconds at most, and three afterwards. The canary is ended whatever becomes of those. No
        canary is success, once two reads that are two seconds apart agree that there is none;
        otherwise `CannotTellError` states that one may be active.
        """
        roll_back(self._control, None, by="operator")

    @stated
    def revert(
        self, promotion: Promotion | None = None, *, dry_run: bool = False
    ) -> Promotion | None:
        """Undo the last promotion, or the one of the receipt that `promote` returned.

        Restores the deployment and the variables that the promotion changed, and nothing else; a
        deployment or variable that was changed since is `StageChangedError`, a previous deployment
        that was deleted `NotFoundError` with those that are left. A promotion that has been undone
        already is success, so the same line can be run again; to go back further, give the receipt
        of an earlier promotion. At most nine calls.

        Returns the promotion that is undone: production gets its `deployment_before` and its
        `variables_before`. None where it was undone before and no receipt of it is known.
        `dry_run=True` returns the same and changes nothing. Without a receipt the values come from
        the record, which all who may call UpdateDeployment can write: check the dry run first, or
        keep records in a store of your own (`records=`).
        """
        check_revert(promotion, dry_run)
        return revert(self._control, promotion, dry_run=dry_run)

    @stated
    def clean_up(self, keep: int = 10, *, dry_run: bool = False) -> CleanUp:
        """Delete the deployments that this library made and that nothing needs any more.

        API Gateway keeps each deployment until it is deleted. It never deletes a deployment that a
        stage of the API or its canary serves, that one of the last two promotions of a stage came
        from or led to, that has the record of a release younger than 30 days, that is less than an
        hour old, or that is one of the `keep` newest, from 0. So a script that is run again does
        not restart a bad release for 30 days. It does not delete deployments of other tools, those
        that another stage has a record on, and those whose record cannot be read. It does not know
        the deployments that another stage needs for `revert` by its own store (`records`).

        Returns the outcome of each deployment that this library made for this stage, newest first.
        A deletion that AWS refuses is in it, and raises nothing. With `dry_run` nothing is deleted,
        and the value is the one that the call returns where AWS refuses none.

        GetDeployments, GetStages, and one DeleteDeployment for each deployment that is deleted.
        """
        return clean_up(
            self._control,
            validation.count(keep, "keep", low=0, high=10**6),
            dry_run=validation.flag(dry_run, "dry_run"),
        )
