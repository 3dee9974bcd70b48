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

    Methods, values and decisions are those of a `Stage`. In the values, `rest_api_id` is the
    function's name, `stage` is the alias's name, and deployments are versions; there are no stage
    variables. Any caller of the alias can get the canary: an API, a queue, another function.

    `function` and `alias` are names. `metrics` is by default `LambdaMetrics()`. With `records` the
    record is in your store, under the key `region/lambda/function/alias`, and the alias's
    description is not read. The other arguments are those of `Stage`.

    Each change is made together with its record or not at all: AWS takes version, weight and
    description in one call, and refuses the call if the alias was changed since it was read.
    Without `records` the record is at the end of the alias's description, which has at most 256
    characters. The reason of a hold, the policy's fingerprint, and since when metrics cannot be
    read are recorded only in a store.

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
            validation.refuse(
                "alias", "the name of an alias, which cannot be all digits like a version", alias
            )
        metrics = connection.get("metrics")
        if isinstance(metrics, CloudWatchMetrics | AccessLogs):
            validation.refuse("metrics", "LambdaMetrics() or a source of your own", type(metrics))
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
        """Read the alias and the record of its rollout, with one GetAlias.

        Lambda has no date of an alias's last change. `updated_at` is the start of the step in the
        record; without a record it is when this object first read the alias in its present state.
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
        """Enable a canary: give `percent` of the invocations, 0 to 100, to a published version.

        `percent=None` uses the policy's first step.

        `description` replaces the text of the alias's description; None keeps it. It makes four
        calls.

        You can run it again. It returns the running canary of the same `release` unchanged,
        whatever its percent; without a `release`, the running canary of the same version. It raises
        `RolloutEndedError` if the rollout of this release has ended. The record lists the latest
        release, and the four before it if there is space. It raises `CanaryAlreadyEnabledError` if
        another canary is running, because an alias routes to at most two versions, and
        `CallerError` if the alias has provisioned concurrency, because AWS accepts no weights then.

        `policy` is described at `Stage.enable_canary`.
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
        """Return the running canary, whatever tool enabled it; None if there is none.

        It makes one call; without a canary a second one after two seconds.
        """
        seen = self._control.present()
        if seen.stage.canary is None:
            return None
        return AliasCanary(self._control, self._control.handle(seen), self._metrics)

    @stated
    def compare(self, start: datetime, end: datetime) -> Comparison:
        """Compare both versions that the alias invokes now, in a past window, without a verdict.

        It returns what `Stage.compare` returns, from the metrics of `AWS/Lambda`. Without a canary
        it returns the values of the alias's own version only.
        """
        return self._compared(start, end)

    @stated
    def rollback(self) -> None:
        """End any canary, for example in an incident. It makes two calls, and succeeds without a
        canary.

        It does not need a readable record, and does not wait for concurrent changes of the alias.
        It does not undo a promotion: call `revert` for that.
        """
        roll_back(self._control, None, by="operator")

    @stated
    def revert(self, promotion: Promotion | None = None, *, dry_run: bool = False) -> Promotion:
        """Undo the last promotion, or the one whose receipt (returned by `promote`) you pass.

        Later rollouts that ended without a promotion are skipped. It raises `StageChangedError` if
        the alias now invokes another version than the promoted one, and `NotFoundError` if the
        previous version was deleted. It succeeds if the promotion has already been undone. Returns
        the promotion that was undone. With `dry_run=True` it returns the same and changes nothing.
        It makes three calls.
        """
        check_revert(promotion, dry_run)
        return revert(self._control, promotion, dry_run=dry_run)


class AliasCanary(AnyCanary):
    """One canary of one rollout on an alias: a second version, and its weight.

    `LambdaAlias.enable_canary` and `LambdaAlias.canary` return it. Each method reads the alias
    first. If another canary has replaced this one, the method raises `StageChangedError` and
    changes nothing. `shift` and `promote` also do so if the alias's own version was changed. You
    can use one object from several threads.
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
        """Make the canary's version the alias's own and end the canary, with two calls.

        What it overwrites is recorded in the same call. If the alias's own version was changed
        outside the rollout, and you have not called `accept_production_changes`, it raises
        `StageChangedError`. Returns the receipt for `LambdaAlias.revert`, also if the promotion had
        already been finished.
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
