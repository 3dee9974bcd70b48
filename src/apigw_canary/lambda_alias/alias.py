"""A weighted alias of a Lambda function: the same verbs as for a stage."""

import re
from datetime import datetime, timedelta
from typing import Unpack, cast

import attrs

from apigw_canary.aws import Alias
from apigw_canary.changes.sending import acting, stated
from apigw_canary.errors import RecordError
from apigw_canary.judge import Basis, MetricSource, Phase
from apigw_canary.lambda_alias.control import AliasControl, AliasHandle, AliasRecords, RecordedAlias
from apigw_canary.lambda_alias.record import AliasRecord
from apigw_canary.lambda_alias.verbs import (
    CanaryRequest,
    accept_production,
    enable,
    failing,
    hold,
    promote,
    resume,
    revert,
    roll_back,
    shift,
)
from apigw_canary.metrics.cloudwatch import CloudWatchMetrics
from apigw_canary.metrics.lambda_metrics import LambdaMetrics
from apigw_canary.metrics.logs import AccessLogs
from apigw_canary.metrics.source import source_of
from apigw_canary.model import CanaryState, Comparison, Promotion, StageState, Variables
from apigw_canary.policy import RolloutPolicy
from apigw_canary.rollouts import (
    AnyCanary,
    AnyPlace,
    Connection,
    RolloutProgress,
    Verbs,
    check_revert,
    first_percent,
    policy_fingerprint,
    unread,
    watchable,
)
from apigw_canary.values import validation


class LambdaAlias(AnyPlace):
    """An alias of a Lambda function, in one region, and the weighted canaries on it.

    The verbs, values and decisions are those of a `Stage`, with the function's name for
    `rest_api_id`, the alias's for the stage's, and versions for deployments; there are no stage
    variables. All callers of the alias can get the canary: an API, a queue, another function.

    `function` and `alias` are names. `session`, `clock`, `sleep` and `retry_for` are as for
    `Stage`; `metrics` is `LambdaMetrics` by default. `records` is a store as for `Stage`, with the
    record under `region/lambda/function/alias`; the alias's description is not consulted then.

    AWS refuses a write to an alias that was changed since it was read, and takes version, weight
    and description in one call: each change is made wholly, with its record, or not at all. Without
    `records` the record is at the end of the alias's description, which takes 256 characters: the
    reason of a hold, the policy's fingerprint, and since when metrics cannot be read, are only kept
    in a store.

    ```python
    from apigw_canary import LambdaAlias

    alias = LambdaAlias("orders", "live")
    canary = alias.enable_canary(10, version="2", release="2026-11-23.1")
    canary.promote()
    alias.revert()
    ```
    """

    _control: AliasControl
    _compares = LambdaMetrics

    def __init__(self, function: str, alias: str, **connection: Unpack[Connection]) -> None:
        if re.fullmatch("[0-9]+", validation.identifier(alias, "alias")):
            validation.refuse("alias", "an alias, which is not all digits as a version is", alias)
        metrics = connection.get("metrics")
        if isinstance(metrics, CloudWatchMetrics | AccessLogs):
            validation.refuse("metrics", "LambdaMetrics(), or a source of your own", type(metrics))
        super().__init__(**connection)
        resource = Alias(self._calls, validation.identifier(function, "function"), alias)
        self._control = AliasControl(resource, AliasRecords(resource, self._records))

    def __repr__(self) -> str:
        return f"LambdaAlias({self.function!r}, {self.alias!r})"

    @property
    def function(self) -> str:
        """The function's name."""
        return self._control.alias.function

    @property
    def alias(self) -> str:
        """The alias's name."""
        return self._control.alias.name

    @stated
    def describe(self) -> StageState:
        """The alias now, with what is recorded of its rollout: one GetAlias.

        Lambda keeps no date with an alias: `updated_at` is the start of the step by the record, and
        where there is none, when this object first saw the alias as it is.
        """
        return self._control.read().stage

    @stated
    def enable_canary(
        self,
        percent: float | None = None,
        *,
        version: str,
        release: str | None = None,
        description: str | None = None,
        policy: RolloutPolicy | None = None,
    ) -> "AliasCanary":
        """Give `percent` of the invocations, 0 to 100, to a published version.

        `percent=None` takes the policy's first step.

        `description` replaces the alias's own text, which is kept otherwise. It makes four calls.

        You can run it again. The running canary of the same `release` (without one: of the same
        version) is returned as it is, whatever its percent. A release that has had its rollout
        raises `RolloutEndedError`, as far as the record lists it: the latest, and the four before
        it if there is space. Another canary raises `CanaryAlreadyEnabledError`: an alias routes to
        two versions at most. An alias with provisioned concurrency raises `CallerError`: AWS
        accepts no weights there.

        `policy`: as for `Stage.enable_canary`.
        """
        only_if = watchable(self._calls, self._metrics, policy)
        request = CanaryRequest(
            percent=first_percent(percent, policy),
            version=version,
            release=release,
            description=description,
            policy=policy_fingerprint(policy) if policy is not None else None,
        )
        with acting(release):
            return AliasCanary(
                self._control, enable(self._control, request, only_if), self._metrics
            )

    @stated
    def canary(self) -> "AliasCanary | None":
        """The canary that is running, whatever enabled it; None if there is none.

        One call; without a canary a second one after two seconds.
        """
        seen = self._control.present()
        if seen.stage.canary is None:
            return None
        return AliasCanary(self._control, self._control.handle(seen), self._metrics)

    @stated
    def compare(self, start: datetime, end: datetime) -> Comparison:
        """Both versions that the alias invokes now, side by side in a past window: no verdict.

        As `Stage.compare`, from `AWS/Lambda`. Without a canary there is the alias's own version.
        """
        return self._compared(start, end)

    @stated
    def rollback(self) -> None:
        """End any canary, for example in an incident. Two calls; without a canary it succeeds too.

        It waits neither for a record nor for a concurrent change of the alias. It does not undo a
        promotion: call `revert` for that.
        """
        roll_back(self._control, None, by="operator")

    @stated
    def revert(self, promotion: Promotion | None = None, *, dry_run: bool = False) -> Promotion:
        """Undo the last promotion, or the one of the receipt that `promote` returned.

        Later rollouts that ended without a promotion are skipped. If the alias invokes another
        version by now it raises `StageChangedError`, and `NotFoundError` if the previous version
        was deleted. It succeeds if the promotion was undone already. Returns the promotion it
        undid; `dry_run=True` returns the same and changes nothing. Three calls.
        """
        check_revert(promotion, dry_run)
        return revert(self._control, promotion, dry_run=dry_run)


class AliasCanary(AnyCanary):
    """One canary of one rollout on an alias: a second version with a weight.

    `LambdaAlias.enable_canary` and `LambdaAlias.canary` return it. Each method reads the alias
    first. If another canary has replaced this one, it raises `StageChangedError` and sends nothing;
    so do `shift` and `promote` if the alias's own version was changed. Threads may use one object.
    """

    _control: AliasControl
    _handle: AliasHandle
    _verbs = Verbs(hold, resume, accept_production, failing, shift, promote, roll_back)

    def __init__(self, control: AliasControl, handle: AliasHandle, metrics: MetricSource) -> None:
        super().__init__(control, handle, metrics)
        observed, record = self._observed, handle.record
        if record is not None and observed is not None and observed.canary is not None:
            canary = attrs.evolve(observed.canary, percent=record.percent)
            self._observed = attrs.evolve(observed, canary=canary)

    def __repr__(self) -> str:
        alias = self._control.alias
        return (
            f"<AliasCanary of {self.release or 'no release'}, version {self.version} on alias "
            f"{alias.name} of function {alias.function}>"
        )

    @property
    def version(self) -> str:
        """The version that serves the canary's invocations."""
        return self._handle.version

    @stated
    def promote(self) -> Promotion:
        """Make the canary's version the alias's own, and end the canary: two calls.

        What it overwrites is recorded in the same call. If the alias's own version was
        changed outside the rollout, and the change was not accepted, it raises `StageChangedError`.
        Returns the receipt, which `LambdaAlias.revert` takes, also of a promotion that was finished
        before.
        """
        return self._promote()

    def _record(self, seen: RecordedAlias) -> AliasRecord | None:
        """The record as it is now, unless it is of another rollout."""
        found, record = seen.readable, self._handle.record
        if found is None or record is None or found.id != record.id:
            return record
        if found.hold_since == record.hold_since and found.hold_reason is None:
            return attrs.evolve(found, hold_reason=record.hold_reason)  # this process's own hold
        return found

    def _compared(self) -> Comparison:
        """The two versions of this rollout, whatever the alias invokes by now."""
        seen = self._control.read()
        state, end = seen.stage, seen.at
        if state.canary is None or not self._control.stands_for(self._handle, state):
            record = self._record(seen)
            end = record.step_started_at if record is not None else self._handle.started_at
        canary = CanaryState(deployment_id=self._handle.version, percent=0.0)
        ours = attrs.evolve(state, deployment_id=self._handle.before, canary=canary)
        source = source_of(LambdaMetrics, self._metrics, self._control.calls)
        return source.compare(ours, self._handle.started_at, end, at=seen.at)

    def _progress(self, seen: RecordedAlias) -> RolloutProgress:
        state, started_at, record = seen.stage, self._handle.started_at, self._record(seen)
        on_hold = None
        if record is not None and record.hold_since is not None:
            on_hold = record.hold_reason or "by an operator"
        elif state.canary is not None and isinstance(seen.kept.record, RecordError):
            on_hold = unread(seen.kept.record)
        return RolloutProgress(
            self._phase(state),
            started_at,
            max(state.updated_at, started_at),
            on_hold=on_hold,
            held_for=record.held_for(seen.at) if record is not None else timedelta(0),
            production_changed=self._control.production_changes(self._handle, seen),
            failing_since=record.failing_since if record is not None else None,
            policy=record.policy if record is not None else None,
        )

    def _phase(self, state: StageState) -> Phase:
        if state.canary is not None:
            return "running" if self._control.stands_for(self._handle, state) else "replaced"
        if self._ended is not None:
            return cast("Phase", self._ended.value)
        rollout, record = state.rollout, self._handle.record
        ours = rollout is not None and record is not None and rollout.id == record.id
        if ours and rollout is not None and rollout.outcome is not None:
            return cast("Phase", rollout.outcome.value)
        promoted = state.deployment_id == self._handle.version
        return "promoted_outside" if promoted else "removed_outside"

    def _basis(self, percent: float) -> Basis:
        alias, record = self._control.alias, self._handle.record
        return Basis(
            region=alias.region,
            rest_api_id=alias.function,
            stage=alias.name,
            rollout_id=record.id if record else None,
            deployment_id=self._handle.version,
            overrides=Variables().fingerprint(),
            percent=percent,
            release=self.release,
        )
