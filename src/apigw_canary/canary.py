"""A canary that is running, or was."""

from datetime import datetime, timedelta
from typing import cast, get_args

from apigw_canary.aws import StageSnapshot, log
from apigw_canary.changes import notes
from apigw_canary.changes.control import CanaryHandle, Control
from apigw_canary.changes.promote import flush, promote
from apigw_canary.changes.rollback import roll_back
from apigw_canary.changes.sending import Snapshot, stated
from apigw_canary.errors import CanaryError
from apigw_canary.judge import MINUTE, Basis, Phase
from apigw_canary.metrics import execution_logs
from apigw_canary.metrics.cloudwatch import CloudWatchMetrics
from apigw_canary.metrics.logs import AccessLogs
from apigw_canary.metrics.source import source_of
from apigw_canary.model import Comparison, Failures, FailureSource, Promotion, StageState
from apigw_canary.rollouts import AnyCanary, RolloutProgress, Verbs, unread
from apigw_canary.values import validation


class Canary(AnyCanary):
    """One canary of one rollout: its deployment and the stage variables that it overrides.

    ```python
    from datetime import timedelta

    from apigw_canary import RolloutPolicy, Stage

    policy = RolloutPolicy.canary(10, bake=timedelta(minutes=10))
    canary = Stage("a1b2c3d4e5", "prod").enable_canary(10, variables={"alias": "v2"})
    decision = policy.decide(canary.observe(policy))
    print(decision)
    canary.apply(decision)
    ```

    `Stage.enable_canary` and `Stage.canary` return it. Each method reads the stage first. If
    another canary has replaced this one, or its variables have changed, the method raises
    `StageChangedError` and changes nothing. You can use one object from several threads.
    """

    _control: Control
    _handle: CanaryHandle
    _verbs = Verbs(
        notes.hold,
        notes.resume,
        notes.accept_production,
        notes.failing,
        Control.shift,
        promote,
        roll_back,
    )

    def __repr__(self) -> str:
        return (
            f"<Canary of {self.release or 'no release'}, deployment {self.deployment_id} on stage "
            f"{self._control.gateway.stage_name} of API {self._control.gateway.rest_api_id}>"
        )

    @property
    def deployment_id(self) -> str:
        """The deployment that serves the canary's requests."""
        return self._handle.deployment.id

    @stated
    def failures(self, limit: int = 20, *, source: FailureSource = "access") -> Failures:
        """Find the canary's failed requests by kind, kinds that the baseline does not have first.

        It reads the logs from when the canary was enabled until now or, if the canary has ended,
        until the stage was last changed. The latest one or two minutes may be missing. Each kind
        has the counts and rates of both variants, and a few request ids. `limit` is the largest
        number of kinds to return, 1 or more.

        `source="access"` reads the stage's access logs, or those of the stage's `AccessLogs`.
        `source="execution"` reads the execution logs of the stage and of its canary; each failure
        then has a `cause`. Requests in the canary's log group count as the canary's.

        It makes one GetStage and one query of Logs Insights; for access logs a second GetStage, for
        execution logs two DescribeLogGroups. It raises `InvalidInputError` or `NotFoundError` if
        the stage does not write these logs.
        """
        validation.number(limit, "limit", low=1)
        validation.choice(source, "source", get_args(FailureSource))
        seen, gateway = self._control.read(), self._control.gateway
        start, end = self._lasted(seen)
        start = start.replace(second=0, microsecond=0)
        end = max(end, start + MINUTE)
        if source == "execution":
            place = gateway.rest_api_id, gateway.stage_name
            return execution_logs.find(gateway.calls, *place, start, end, limit=int(limit))
        logs = source_of(AccessLogs, self._metrics, gateway.calls)
        return logs.failures(seen.stage, start, end, limit=int(limit))

    def _compared(self) -> Comparison:
        seen = self._control.read()
        start, end = self._lasted(seen)
        source = source_of(CloudWatchMetrics, self._metrics, self._control.calls)
        return source.compare(seen.stage, start, end, at=seen.at)

    def _lasted(self, seen: StageSnapshot) -> tuple[datetime, datetime]:
        """From when until when the canary had requests, as far as seen.

        Raises `StageChangedError` where another one has taken its place.
        """
        if seen.stage.canary is None:
            return self._handle.started_at, seen.stage.updated_at
        self._control.own_canary(self._handle, seen)
        return self._handle.started_at, seen.at

    @stated
    def promote(self, *, unrecorded: bool = False, flush_cache: bool = False) -> Promotion:
        """Make the canary's deployment and variables the stage's own, and end the canary.

        The overridden variables are merged into the stage's: a promotion can change and add stage
        variables but not delete one. What it overwrites is recorded first. If it cannot be
        recorded, nothing is changed, unless you pass `unrecorded=True`. If this or another process
        has begun a promotion, it is finished. If production was changed outside the rollout, and
        you have not called `accept_production_changes`, it raises `StageChangedError`. It makes at
        most ten calls, and reads the record and the stage again directly before it changes
        production. Returns the receipt for `Stage.revert`; the receipt contains variable values.

        A stage's cache returns production's earlier answers until its entries expire.
        `flush_cache=True` empties the cache after the promotion, with two more calls. The backends
        then get the requests that the cache would have answered.
        """
        receipt = self._promote(recorded=not unrecorded)
        if flush_cache:
            flush(self._control)
        return receipt

    def _progress(self, seen: Snapshot) -> RolloutProgress:
        state, unreadable = seen.stage, None
        if state.canary is not None:
            try:
                self._refresh()
            except CanaryError as error:
                log.warning("the record of the rollout could not be read: %s", error)
                unreadable = unread(error)
        phase = self._phase(state)
        begun, started_at = self._handle.record.rollout, self._handle.started_at
        nothing = self._control.nothing_to_promote(self._handle, state)
        hold = begun.hold.reason if begun is not None and begun.hold is not None else None
        return RolloutProgress(
            phase,
            started_at,
            max(state.updated_at, started_at),
            on_hold=hold or unreadable,
            held_for=begun.held_for(seen.at) if begun is not None else timedelta(0),
            production_changed=self._handle.production_changes(state),
            failing_since=begun.failing_since if begun is not None else None,
            policy=begun.policy if begun is not None else None,
            suspect=nothing.happened if nothing is not None and phase == "running" else None,
        )

    def _refresh(self) -> None:
        """The record as it is now, unless it is of another rollout: one GetDeployment."""
        deployment = self._control.gateway.deployment(self._handle.deployment.id)
        record = self._control.record(deployment).of_canary(self._handle.variables)
        begun, ours = record.rollout, self._handle.record.rollout
        if ours is None or (begun is not None and begun.id == ours.id):
            self._handle = self._handle._replace(deployment=deployment, record=record)

    def _phase(self, state: StageState) -> Phase:
        """Where the rollout stands. How it ended is found where every other call finds it."""
        if state.canary is None:
            ended = self._ended or self._control.ending(self._handle, state).outcome
            return cast("Phase", ended.value)
        if not self._control.stands_for(self._handle, state):
            return "replaced"
        promotion = self._handle.record.begun_promotion()
        if promotion is not None and promotion.is_under_way_on(state):
            return "promoting"
        same = state.canary_is_promoted and not self._control.nothing_to_promote(
            self._handle, state
        )
        return "promoted_outside" if same else "running"

    def _basis(self, percent: float) -> Basis:
        gateway, rollout = self._control.gateway, self._handle.record.rollout
        return Basis(
            region=gateway.region,
            rest_api_id=gateway.rest_api_id,
            stage=gateway.stage_name,
            rollout_id=rollout.id if rollout else None,
            deployment_id=self._handle.deployment.id,
            overrides=self._handle.variables.fingerprint(),
            percent=percent,
            release=self._handle.release,
        )
