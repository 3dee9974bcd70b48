"""A weighted alias of a Lambda function: the same verbs as for a stage."""

import re
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from apigw_canary.aws.calls import RETRY_FOR, Calls, Session
from apigw_canary.aws.cloudwatch import CloudWatchMetrics
from apigw_canary.aws.lambda_metrics import LambdaMetrics
from apigw_canary.aws.lambdas import Alias, SeenAlias
from apigw_canary.aws.logs import AccessLogs
from apigw_canary.aws.source import bound_to
from apigw_canary.changes.alias_control import AliasBond, AliasControl
from apigw_canary.changes.alias_verbs import Wish, enable, promote, revert, roll_back, shift
from apigw_canary.changes.journal import acting
from apigw_canary.changes.sending import Condition, Look, unconditionally
from apigw_canary.rollout import inputs
from apigw_canary.rollout.observation import Basis, MetricSource, Phase
from apigw_canary.rollout.policy import RolloutPolicy
from apigw_canary.rollout.promotion import Promotion
from apigw_canary.rollout.state import StageState, Variables
from apigw_canary.rollouts import AnyCanary, Standing, watchable


class LambdaAlias:
    """An alias of a Lambda function, in one region, and the weighted canaries on it.

    The verbs, values and decisions are those of a `Stage`, with the function's name for
    `rest_api_id`, the alias's for the stage's, and versions for deployments; there are no stage
    variables. Whoever invokes the alias gets the canary: an API, a queue, another function.

    `function` and `alias` are names. `session`, `clock`, `sleep` and `retry_for` are as for
    `Stage`; `metrics` is `LambdaMetrics` by default.

    AWS refuses a write to an alias that somebody else has changed since it was read, and takes
    version, weight and description in one call: each change is made wholly, with its record, or not
    at all. The record is at the end of the alias's description, which takes 256 characters.

    ```python
    from apigw_canary import LambdaAlias

    alias = LambdaAlias("orders", "live")
    canary = alias.enable_canary(10, version="2", release="2026-11-23.1")
    canary.promote()
    alias.revert()
    ```
    """

    def __init__(
        self,
        function: str,
        alias: str,
        *,
        session: Session | None = None,
        metrics: MetricSource | None = None,
        clock: Callable[[], datetime] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        retry_for: timedelta = RETRY_FOR,
    ) -> None:
        if re.fullmatch("[0-9]+", inputs.identifier(alias, "alias")):
            inputs.refuse("alias", "an alias, which is not all digits as a version is", alias)
        self._calls = Calls(session, clock=clock, sleep=sleep, retry_for=retry_for)
        self._control = AliasControl(
            Alias(self._calls, inputs.identifier(function, "function"), alias)
        )
        if isinstance(metrics, CloudWatchMetrics | AccessLogs):
            inputs.refuse("metrics", "LambdaMetrics(), or a source of your own", type(metrics))
        self._metrics: MetricSource = bound_to(
            self._calls, LambdaMetrics() if metrics is None else metrics
        )

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

    @property
    def metrics(self) -> MetricSource:
        """Where the minutes come from."""
        return self._metrics

    @property
    def region(self) -> str:
        """The region that calls go to."""
        return self._calls.region

    def describe(self) -> StageState:
        """The alias now, with what is recorded of its rollout: one GetAlias.

        Lambda keeps no date with an alias: `updated_at` is the start of the step by the record, and
        where there is none, when this object first saw the alias as it is.
        """
        return self._control.look().stage

    def enable_canary(
        self,
        percent: float,
        *,
        version: str,
        release: str | None = None,
        description: str | None = None,
        policy: RolloutPolicy | None = None,
    ) -> "AliasCanary":
        """Give `percent` of the invocations, 0 to 100, to a published version.

        `description` replaces the alias's own text, which is kept otherwise. Four calls.

        Safe to run again. The running canary of the same `release` (without one: of the same
        version) is returned as it is, whatever its share. A release that has had its rollout is
        `RolloutEndedError`, as far as the record remembers: the latest, and the four before it
        where there is room. Another canary is `CanaryAlreadyEnabledError`: an alias routes to two
        versions at most. An alias with provisioned concurrency is `CallerError`: AWS takes no
        weights there.

        `policy`: as for `Stage.enable_canary`.
        """
        only_if = watchable(self._calls, self._metrics, policy)
        wish = Wish(percent=percent, version=version, release=release, description=description)
        with acting(release):
            return AliasCanary(self._control, enable(self._control, wish, only_if), self._metrics)

    def canary(self) -> "AliasCanary | None":
        """The canary that is running, whoever enabled it; None if there is none. One call."""
        seen = self._control.look()
        if seen.stage.canary is None:
            return None
        return AliasCanary(self._control, self._control.bond(seen), self._metrics)

    def rollback(self) -> None:
        """End the canary, whichever it is: for the pager. Two calls; no canary is success.

        Waits neither for a record nor for others who change the alias meanwhile. A promotion is not
        undone by it: call `revert`.
        """
        roll_back(self._control, None)

    def revert(self, promotion: Promotion | None = None) -> None:
        """Undo the last promotion, or the one of the receipt that `promote` returned.

        An alias that invokes another version by now is `StageChangedError`, a previous version that
        was deleted `NotFoundError`. A promotion that has been undone already is success. Three
        calls.
        """
        if promotion is not None and not isinstance(promotion, Promotion):
            inputs.refuse("promotion", "a Promotion or None", promotion)
        revert(self._control, promotion)


class AliasCanary(AnyCanary):
    """One canary of one rollout on an alias: a second version with a weight.

    Made by `LambdaAlias.enable_canary` and `LambdaAlias.canary`. Each method reads the alias first;
    where another canary has taken the place, it raises `StageChangedError` and sends nothing; so do
    `shift` and `promote` where the version beside it is another one. Threads may share it.
    """

    def __init__(self, control: AliasControl, bond: AliasBond, metrics: MetricSource) -> None:
        super().__init__(metrics)
        self._control = control
        self._bond = bond

    def __repr__(self) -> str:
        alias = self._control.alias
        return (
            f"<AliasCanary of {self.release or 'no release'}, version {self.version} on alias "
            f"{alias.name} of function {alias.function}>"
        )

    @property
    def version(self) -> str:
        """The version that serves the canary's invocations."""
        return self._bond.version

    @property
    def release(self) -> str | None:
        """The release, as given to `enable_canary`."""
        return self._bond.record.release if self._bond.record else None

    def describe(self) -> StageState:
        """The alias this canary was enabled on, as it is now: one GetAlias."""
        return self._control.look().stage

    def shift(self, percent: float) -> None:
        """Set the canary's share of the invocations, 0 to 100; 0 pauses it. Two calls.

        Success where the share is that already. A share that others set is taken over, with this
        moment as the start of its step.
        """
        self._shift(inputs.percent(percent))

    def promote(self) -> Promotion:
        """Make the canary's version the alias's own, and end the canary: two calls.

        What it overwrites is recorded in the same call. Returns the receipt, which
        `LambdaAlias.revert` takes; of a promotion that was finished already too.
        """
        return self._promote()

    def rollback(self) -> None:
        """End the canary at once; two calls, and success where it is gone already.

        A canary that was promoted is `RolloutEndedError`: `LambdaAlias.revert` undoes a promotion.
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
        return self._control.alias.calls

    def _last(self) -> Look | None:
        return self._control.last

    def _look(self) -> SeenAlias:
        return self._control.look()

    def _shift(self, percent: float, *, only_if: Condition = unconditionally) -> None:
        with acting(self.release):
            self._bond = shift(self._control, self._bond, percent, only_if=only_if)

    def _promote(self, *, only_if: Condition = unconditionally) -> Promotion:
        with acting(self.release):
            receipt = promote(self._control, self._bond, only_if=only_if)
        self._ended = "promoted"
        return receipt

    def _standing(self, seen: Look) -> Standing:
        state, started_at = seen.stage, self._bond.started_at
        return Standing(self._phase(state), started_at, max(state.updated_at, started_at))

    def _phase(self, state: StageState) -> Phase:
        if state.canary is not None:
            return "running" if self._control.stands_for(self._bond, state) else "replaced"
        if self._ended is not None:
            return self._ended
        if state.deployment_id != self._bond.version:
            return "removed"
        recorded = state.rollout is not None and state.rollout.outcome == "promoted"
        return "promoted" if recorded else "promoted_elsewhere"

    def _basis(self, percent: float) -> Basis:
        alias, record = self._control.alias, self._bond.record
        return Basis(
            region=alias.region,
            rest_api_id=alias.function,
            stage=alias.name,
            rollout_id=record.id if record else None,
            deployment_id=self._bond.version,
            overrides=Variables().fingerprint(),
            percent=percent,
        )
