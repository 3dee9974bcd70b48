"""Whatever is done in whatever order, by us and by others: what must always hold."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from acting import (
    CANARY,
    COPIES,
    PERCENT,
    as_planned,
    fresh,
    new_deployment,
    patch,
    remove,
    replace,
    serving,
    untrue,
)
from apigw_canary import Canary, CanaryError, Promote, RolloutPolicy, Step
from apigw_canary.errors import CallerError, StageChangedError
from apigw_canary.testing import Backend, Fault, ProcessDeath, Rehearsal, rehearsal

MINUTE = timedelta(minutes=1)
POLICY = RolloutPolicy([Step(10, 2 * MINUTE), Step(50, 2 * MINUTE)])

aliases = st.sampled_from(["v1", "v2", "bad"])
releases = st.sampled_from([None, "r1", "r2", "r3"])
percents = st.sampled_from([0, 0.01, 5, 33.33, 50, 100])


VERBS: tuple[list[str], ...] = (
    [],
    ["enable"],
    ["shift"],
    ["promote", "end"],
    ["end"],
    ["end", "revert"],  # a rollback that undoes a half-done promotion
    ["revert"],
)
"""The changes that one call makes, by their verbs in the log."""

Serving = tuple[str, dict[str, str], Any]


def shown(state: Serving) -> str:
    """What serves the requests, as the log has it."""
    deployment, _, canary = state
    if canary is None:
        return deployment
    return f"{deployment} and {canary['deploymentId']} at {canary['percentTraffic']:g} %"


class Log(logging.Handler):
    """The changes that the library logs."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.changes: list[dict[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        if hasattr(record, "apigw_canary"):
            assert record.levelno == logging.INFO
            self.changes.append(record.apigw_canary)


class AnyOrder(RuleBasedStateMachine):
    """One stage, on which the library, other people and dying processes act by turns."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.aws: Rehearsal = self.stack.enter_context(
            rehearsal(
                requests_per_minute=100,
                backends={"alias=bad": Backend(errors_5xx=0.5)},
                history=10 * MINUTE,
            )
        )
        self.production = self._production()
        self.canary: Canary | None = None
        self.accepted: tuple[str, dict[str, str]] | None = None
        """Production as the rollout that runs may overwrite it; None: it is not known here."""
        self.log = Log()
        logger = logging.getLogger("apigw_canary")
        logger.addHandler(self.log)
        level = logger.level
        logger.setLevel(logging.INFO)
        self.stack.callback(logger.setLevel, level)
        self.stack.callback(logger.removeHandler, self.log)

    def teardown(self) -> None:
        self.stack.close()

    def _production(self) -> tuple[str, dict[str, str]]:
        return serving(self.aws)[:2]

    def _act(self, act: Callable[[], Any], *, moves_production: bool = False) -> Any:
        """Do something of ours: an error of ours is fine, if it tells the truth."""
        before = serving(self.aws)
        result, raised = None, None
        first = len(self.log.changes)
        sent = self._writes()
        try:
            result = act()
        except CanaryError as error:
            raised = error
        self._check_log(self.log.changes[first:], sent, before, raised)
        if raised is not None:
            after = serving(self.aws)
            if isinstance(raised, CallerError):
                assert after == before, "the caller's mistake has changed the stage"
            assert untrue(self.aws, raised) == ""
            assert raised.state is None or not raised.state.sent
        if moves_production:
            self.production = self._production()
        return result

    def _writes(self) -> int:
        return sum(call.operation == "UpdateStage" for call in self.aws.calls)

    def _check_log(
        self, changes: list[dict[str, str]], sent: int, before: Serving, raised: CanaryError | None
    ) -> None:
        """What happened is to be read from the log: when, which verb, from where to where."""
        made = [change for change in changes if change["outcome"] == "done"]
        failed = [change for change in changes if change["outcome"] != "done"]
        assert bool(changes) <= (self._writes() > sent)
        assert [change["outcome"] for change in failed] in ([], [type(raised).__name__])
        steps = [(change["before"], change["after"]) for change in made]
        assert all(one[1] == other[0] for one, other in itertools.pairwise(steps))
        if made:
            assert all(
                datetime.fromisoformat(change["at"]) <= self.aws.now()
                for change in changes
                if change["at"]
            )
            assert steps[0][0] == shown(before)
        after = serving(self.aws)
        if not failed:
            assert shown(after) == (steps[-1][1] if steps else shown(before))
            verbs = [change["verb"] for change in made]
            assert verbs in VERBS, verbs

    @initialize(alias=aliases)
    def start(self, alias: str) -> None:
        """Some stages have had a rollout before."""
        if alias == "v2":
            self.enable(10, "r0", alias, own=False)
            self.promote()

    @rule(seconds=st.sampled_from([0, 1, 30, 60, 600]))
    def time_passes(self, seconds: float) -> None:
        self.aws.sleep(seconds)

    @rule(percent=percents, release=releases, alias=aliases, own=st.booleans())
    def enable(self, percent: float, release: str | None, alias: str, own: bool) -> None:
        """What is sent is what the dry run says, whatever the stage is like."""
        asked: Any = {
            "release": release,
            "variables": {"alias": alias},
            "deployment_id": self.production[0] if own else None,
        }
        plan = fresh(self.aws).check(percent, **asked)

        def enable() -> Canary:
            canary = fresh(self.aws).enable_canary(percent, **asked)
            assert plan.ok, "the dry run has an error, and there was none"
            return canary

        before = serving(self.aws)[2]
        self.canary = self._act(lambda: as_planned(self.aws, plan, enable)) or self.canary
        if before is None and serving(self.aws)[2] is not None:
            self.accepted = self.production

    @rule()
    def another_process_goes_on(self) -> None:
        self.canary = self._act(fresh(self.aws).canary)

    @precondition(lambda self: self.canary)
    @rule(percent=percents)
    def shift(self, percent: float) -> None:
        assert self.canary is not None
        canary = self.canary
        self._act(lambda: canary.shift(percent))

    @precondition(lambda self: self.canary)
    @rule()
    def promote(self) -> None:
        assert self.canary is not None
        receipt = self._act(self.canary.promote, moves_production=True)
        if receipt is not None:
            if self.accepted is not None:
                deployment_id, variables = self.accepted
                assert receipt.deployment_before == deployment_id, "an unaccepted deployment"
                for name, value in receipt.variables_before.items():
                    assert value == variables.get(name), "an unaccepted variable"
            self.accepted = None
            assert serving(self.aws)[2] is None
            assert receipt.is_done_on(fresh(self.aws).describe())

    @precondition(lambda self: self.canary)
    @rule(verb=st.sampled_from(["rollback", "disable"]))
    def end(self, verb: str) -> None:
        self._act(getattr(self.canary, verb))

    @rule()
    def page(self) -> None:
        with suppress(StageChangedError):  # somebody promoted it: said after it was ended
            fresh(self.aws).rollback()
        assert serving(self.aws)[2] is None, "a canary is left over"

    @precondition(lambda self: self.canary)
    @rule(verb=st.sampled_from(["hold", "resume", "accept_production_changes"]))
    def annotate(self, verb: str) -> None:
        assert self.canary is not None
        canary, arguments = self.canary, ["a reason"] if verb == "hold" else []
        done = self._act(lambda: (getattr(canary, verb)(*arguments), True))
        if done and verb == "accept_production_changes" and self.accepted is not None:
            self.accepted = self.production

    @rule()
    def revert(self) -> None:
        self._act(fresh(self.aws).revert, moves_production=True)

    @precondition(lambda self: self.canary)
    @rule()
    def observe_decide_apply(self) -> None:
        assert self.canary is not None
        canary = self.canary
        observation = self._act(lambda: canary.observe(POLICY))
        decision = POLICY.decide(observation)
        self._act(lambda: canary.apply(decision), moves_production=isinstance(decision, Promote))

    # Other people

    @rule(percent=percents)
    def somebody_sets_a_percent(self, percent: float) -> None:
        patch(self.aws, replace(PERCENT, f"{percent:.2f}"))

    @precondition(lambda self: serving(self.aws)[2])
    @rule()
    def somebody_removes_the_canary(self) -> None:
        patch(self.aws, remove(CANARY))

    @precondition(lambda self: serving(self.aws)[2])
    @rule()
    def somebody_replaces_the_deployment(self) -> None:
        patch(self.aws, replace("/canarySettings/deploymentId", new_deployment(self.aws)))
        self.accepted = None

    @precondition(lambda self: serving(self.aws)[2])
    @rule()
    def somebody_promotes_by_hand(self) -> None:
        patch(self.aws, *COPIES)
        self.production = self._production()
        self.accepted = None

    @rule(alias=aliases)
    def somebody_sets_a_variable(self, alias: str) -> None:
        patch(self.aws, replace("/variables/alias", alias))
        self.production = self._production()

    @precondition(lambda self: serving(self.aws)[2])
    @rule(alias=aliases)
    def somebody_sets_an_override(self, alias: str) -> None:
        patch(self.aws, replace("/canarySettings/stageVariableOverrides/alias", alias))
        self.accepted = None

    @precondition(lambda self: serving(self.aws)[2] is None)
    @rule()
    def somebody_deploys(self) -> None:
        new_deployment(self.aws, stageName="prod")
        self.production = self._production()

    # Processes that die

    @precondition(lambda self: self.canary and serving(self.aws)[2])
    @rule(
        verb=st.sampled_from(["promote", "rollback"]),
        skip=st.integers(0, 1),
        after=st.booleans(),
    )
    def die(self, verb: str, skip: int, after: bool) -> None:
        """A process dies at one of its writes; another one runs the same line again."""
        assert self.canary is not None
        self.aws.fail("UpdateStage", Fault.DEATH, skip=skip, after=after)
        with suppress(ProcessDeath, CanaryError):
            getattr(self.canary, verb)()
        self.aws._interruptions._pending.clear()
        half = serving(self.aws)
        self.canary, self.accepted = fresh(self.aws).canary(), None
        if self.canary is not None:
            self._act(getattr(self.canary, verb), moves_production=True)
        else:
            assert half[2] is None
        self.production = self._production()

    # What always holds

    @invariant()
    def production_is_what_was_promoted_or_reverted(self) -> None:
        """Production changes by promote and revert alone, and by what others do."""
        assert self._production() == self.production


AnyOrder.TestCase.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
TestAnyOrder = pytest.mark.long(pytest.mark.no_cover(AnyOrder.TestCase))
