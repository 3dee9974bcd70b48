"""A canary that is running, or was."""

from apigw_canary.aws.apigateway import Seen
from apigw_canary.aws.calls import Calls
from apigw_canary.aws.logs import AccessLogs
from apigw_canary.changes.control import Bond, Control
from apigw_canary.changes.journal import acting
from apigw_canary.changes.promote import flush, promote
from apigw_canary.changes.rollback import roll_back
from apigw_canary.changes.sending import Condition, Look, unconditionally
from apigw_canary.rollout import inputs
from apigw_canary.rollout.failure import Failure
from apigw_canary.rollout.observation import MINUTE, Basis, MetricSource, Phase
from apigw_canary.rollout.promotion import Promotion
from apigw_canary.rollout.state import StageState
from apigw_canary.rollouts import AnyCanary, Standing


class Canary(AnyCanary):
    """One canary of one rollout: its deployment, and the variables it overrides.

    ```python
    from datetime import timedelta

    from apigw_canary import RolloutPolicy, Stage

    policy = RolloutPolicy.canary(10, bake=timedelta(minutes=10))
    canary = Stage("a1b2c3d4e5", "prod").enable_canary(10, variables={"alias": "v2"})
    decision = policy.decide(canary.observe(policy))
    print(decision)
    canary.apply(decision)
    ```

    Made by `Stage.enable_canary` and `Stage.canary`. Each method reads the stage first; where
    another canary has taken the place, or the variables are others, it raises `StageChangedError`
    and sends nothing. Threads may share it.
    """

    def __init__(self, control: Control, bond: Bond, metrics: MetricSource) -> None:
        super().__init__(metrics)
        self._control = control
        self._bond = bond

    def __repr__(self) -> str:
        return (
            f"<Canary of {self.release or 'no release'}, deployment {self.deployment_id} on stage "
            f"{self._control.gateway.stage_name} of API {self._control.gateway.rest_api_id}>"
        )

    @property
    def deployment_id(self) -> str:
        """The deployment that serves the canary's requests."""
        return self._bond.deployment.id

    @property
    def release(self) -> str | None:
        """The release, as given to `enable_canary`."""
        return self._bond.release

    def describe(self) -> StageState:
        """The stage this canary was enabled on, as it is now: one GetStage."""
        return self._control.look().stage

    def shift(self, percent: float) -> None:
        """Set the canary's share of the requests, 0 to 100; 0 pauses it.

        While it is paused the canary is still there: AWS refuses ordinary deployments to the
        stage. At most two calls; success where the share is that already.
        """
        self._shift(inputs.percent(percent))

    def failures(self, limit: int = 20) -> tuple[Failure, ...]:
        """What the canary's failing requests look like: kinds that the baseline has none of first.

        From the stage's access logs, or those of the `AccessLogs` the stage was given, since the
        canary was enabled; after its end, until the stage was last changed. Counts and rates stand
        beside the baseline's of the same time. Of both, the latest minute or two may be missing.
        One look at the stage, one more for the logs' format, and one query of Logs Insights.
        """
        inputs.number(limit, "limit", low=1)
        seen = self._control.look()
        if seen.stage.canary is not None:
            self._control.mine(self._bond, seen.stage)
        logs = self._metrics
        if not isinstance(logs, AccessLogs):
            logs = AccessLogs().using(self._control.gateway.calls)
        start = self._bond.started_at.replace(second=0, microsecond=0)
        end = seen.at if seen.stage.canary else seen.stage.updated_at
        return logs.failures(seen.stage, start, max(end, start + MINUTE), limit=int(limit))

    def promote(self, *, unrecorded: bool = False, flush_cache: bool = False) -> Promotion:
        """Make the canary's deployment and variables the stage's own, and end the canary.

        The overridden variables are merged into the stage's: a promotion can change and add stage
        variables but not delete one. What it overwrites is recorded first; if that is impossible
        nothing is changed, unless `unrecorded=True`. A promotion that was begun, here or in
        another process, is finished. At most five calls. Returns the receipt, which
        `Stage.revert` takes; it holds variable values.

        A stage's cache goes on answering with what production answered before, until its entries
        expire; `flush_cache` empties it after the promotion: two more calls. Every backend then
        gets the requests that the cache would have answered.
        """
        receipt = self._promote(recorded=not unrecorded)
        if flush_cache:
            flush(self._control)
        return receipt

    def rollback(self) -> None:
        """End the canary at once; production keeps, or gets back, what it had before the rollout.

        Where a promotion was half done and the record does not prove it, the canary is ended and
        `StageChangedError` says what production serves. At most three calls, and one more to undo;
        success where the canary is gone already. A canary that was promoted is
        `RolloutEndedError`: `Stage.revert` undoes a promotion.
        """
        with acting(self.release):
            if roll_back(self._control, self._bond):
                self._ended = "rolled_back"

    def disable(self) -> None:
        """End the canary without judging it; otherwise as `rollback`."""
        with acting(self.release):
            if roll_back(self._control, self._bond):
                self._ended = "removed"

    def _calls(self) -> Calls:
        return self._control.gateway.calls

    def _last(self) -> Look | None:
        return self._control.last

    def _look(self) -> Seen:
        return self._control.look()

    def _shift(self, percent: float, *, only_if: Condition = unconditionally) -> None:
        with acting(self.release):
            self._control.shift(self._bond, percent, only_if=only_if)

    def _promote(self, *, recorded: bool = True, only_if: Condition = unconditionally) -> Promotion:
        with acting(self.release):
            receipt = promote(self._control, self._bond, recorded=recorded, only_if=only_if)
        self._ended = "promoted"
        return receipt

    def _standing(self, seen: Look) -> Standing:
        phase = self._phase(seen.stage)
        started_at = self._bond.started_at
        return Standing(phase, started_at, max(seen.stage.updated_at, started_at))

    def _phase(self, state: StageState) -> Phase:
        """Where the rollout stands; reads the record again only where the stage looks promoted."""
        if state.canary is not None and not self._control.stands_for(self._bond, state):
            return "replaced"
        if state.canary is None and self._ended is not None:
            return self._ended
        looks_promoted = state.canary_is_promoted or (
            state.canary is None and self._bond.is_promoted_on(state)
        )
        if looks_promoted:
            self._bond = self._control.refreshed(self._bond)
        begun = self._bond.record.begun_promotion()
        if state.canary is None:
            if not looks_promoted:
                return "removed"
            return "promoted" if begun and begun.is_done_on(state) else "promoted_elsewhere"
        if begun and begun.is_under_way_on(state):
            return "promoting"
        return "promoted_elsewhere" if looks_promoted else "running"

    def _basis(self, percent: float) -> Basis:
        gateway, rollout = self._control.gateway, self._bond.record.rollout
        return Basis(
            region=gateway.region,
            rest_api_id=gateway.rest_api_id,
            stage=gateway.stage_name,
            rollout_id=rollout.id if rollout else None,
            deployment_id=self._bond.deployment.id,
            overrides=self._bond.variables.fingerprint(),
            percent=percent,
        )
