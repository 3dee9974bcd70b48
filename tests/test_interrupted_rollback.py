"""Processes that die while they roll back: what later ones are told of how the rollout ended."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from acting import CANARY, V2, Store, describe, fresh, patch, remove, sent
from apigw_canary import Canary, LambdaAlias, RolloutPolicy, Stage
from apigw_canary.aws.calls import BRIEF, Calls
from apigw_canary.errors import (
    CanaryError,
    CannotTellError,
    RecordError,
    RolloutEndedError,
    StageChangedError,
)
from apigw_canary.testing import Backend, Fault, ProcessDeath, Rehearsal, rehearsal

POLICY = RolloutPolicy.canary(20, timedelta(minutes=10))
QUIET: dict[str, Any] = {"requests_per_minute": 1, "history": timedelta(0)}
ENDS: dict[str, tuple[Callable[[Stage], object], str, str]] = {
    "canary.rollback": (lambda stage: running(stage).rollback(), "rolled_back", "caller"),
    "canary.disable": (lambda stage: running(stage).disable(), "disabled", "caller"),
    "stage.rollback": (lambda stage: stage.rollback(), "rolled_back", "operator"),
}


def running(stage: Stage) -> Canary:
    canary = stage.canary()
    assert canary is not None
    return canary


def ended(aws: Rehearsal, **options: Any) -> tuple[str, str, str]:
    """How the rollout ended, by whom, and what who asks for the release again is told."""
    stage = fresh(aws, **options)
    rollout = stage.describe().rollout
    assert rollout is not None
    with pytest.raises(RolloutEndedError) as error:
        stage.enable_canary(20, release="r1", variables=V2)
    return str(rollout.outcome), str(rollout.ended_by), str(error.value.outcome)


def begun(aws: Rehearsal, **options: Any) -> None:
    aws.sleep(60)
    fresh(aws, **options).enable_canary(20, release="r1", variables=V2)
    aws.sleep(60)


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("verb", ENDS)
def test_death_right_after_the_canary_was_removed(verb: str, stored: bool) -> None:
    """The outcome is that of a process that nothing disturbs."""
    act, outcome, by = ENDS[verb]
    options = {"records": Store()} if stored else {}
    with rehearsal(**QUIET) as aws:
        begun(aws, **options)
        aws.fail("UpdateStage", Fault.DEATH, after=True)
        with pytest.raises(ProcessDeath):
            act(fresh(aws, **options))
        assert ended(aws, **options) == (outcome, by, outcome)


@pytest.mark.long
def test_death_after_the_judges_rollback() -> None:
    with rehearsal(backends={"alias=v2": Backend(errors_5xx=0.5)}) as aws:
        begun(aws)
        aws.sleep(600)
        canary = running(fresh(aws))
        aws.fail("UpdateStage", Fault.DEATH, after=True)
        with pytest.raises(ProcessDeath):
            canary.apply(POLICY.decide(canary.observe(POLICY)))
        assert ended(aws) == ("rolled_back", "judge", "rolled_back")


def test_death_before_the_canary_is_removed() -> None:
    """The rollout runs on: it can be promoted, or rolled back again."""
    for again, outcome in (("promote", "promoted"), ("rollback", "rolled_back")):
        with rehearsal(**QUIET) as aws:
            begun(aws)
            aws.fail("UpdateStage", Fault.DEATH)
            with pytest.raises(ProcessDeath):
                running(fresh(aws)).rollback()
            canary = fresh(aws).enable_canary(20, release="r1", variables=V2)
            assert canary.describe().canary is not None
            canary.shift(40)
            getattr(canary, again)()
            assert ended(aws)[::2] == (outcome, outcome)


def test_removed_outside_without_a_rollback() -> None:
    """Only a rollback that was begun makes it one."""
    for rolls_back, outcome in ((False, "removed_outside"), (True, "rolled_back")):
        with rehearsal(**QUIET) as aws:
            begun(aws)
            if rolls_back:
                aws.fail("UpdateStage", Fault.ACCESS_DENIED)
                with pytest.raises(PermissionError):
                    running(fresh(aws)).rollback()
            patch(aws, remove(CANARY))
            assert ended(aws)[0] == outcome


@pytest.mark.parametrize("fault", [each for each in Fault if each is not Fault.DEATH])
@pytest.mark.parametrize("operation", ["GetDeployment", "UpdateDeployment"])
def test_a_rollback_does_not_wait_for_its_announcement(operation: str, fault: Fault) -> None:
    """Whatever becomes of it: no pause, no second try, and the ending is recorded afterwards."""
    with rehearsal(**QUIET) as aws:
        begun(aws)
        canary = running(fresh(aws))
        before, at = len(aws.calls), aws.now()
        aws.fail(operation, fault)
        canary.rollback()
        calls = sent(aws)[before:]
        removed = aws.calls[before + calls.index("UpdateStage")]
        assert removed.at == at
        assert calls[: calls.index("UpdateStage")].count(operation) == 1
        assert ended(aws) == ("rolled_back", "caller", "rolled_back")


def test_it_waits_for_two_seconds() -> None:
    """For a connection and for an answer; other calls wait as long as the session does."""
    with rehearsal() as aws:
        calls = Calls(aws.session)
        usual = calls.client("apigateway")
        with calls.briefly():
            brief = calls.client("apigateway")
            assert calls.client("apigateway") is brief
        assert calls.client("apigateway") is usual
    timeouts = [
        (each.meta.config.connect_timeout, each.meta.config.read_timeout) for each in (usual, brief)
    ]
    assert timeouts == [(60, 60), (2, 2)]
    assert timedelta(seconds=2) == BRIEF


@pytest.mark.long
def test_a_damaged_announcement_is_not_believed() -> None:
    """A rollback cannot end in a promotion."""
    with rehearsal(**QUIET) as aws:
        begun(aws)
        canary = running(fresh(aws))
        aws.fail("UpdateStage", Fault.DEATH)
        with pytest.raises(ProcessDeath):
            canary.rollback()
        gateway: Any = aws.session.client("apigateway")
        text = gateway.get_deployment(restApiId=aws.rest_api_id, deploymentId=canary.deployment_id)[
            "description"
        ]
        assert '"ending":"rolled_back"' in text
        describe(aws, canary.deployment_id, text.replace('"rolled_back"', '"promoted"'))
        patch(aws, remove(CANARY))
        with pytest.raises(RecordError, match=r"rollout\.ending must be one of rolled_back"):
            fresh(aws).enable_canary(20, release="r1", variables=V2)


@pytest.mark.long
@pytest.mark.parametrize("stored", [False, True])
def test_an_alias(stored: bool) -> None:
    """Its weight is removed in one call with the record; a store has it before."""
    with rehearsal(versions=[Backend()] * 2, **QUIET) as aws:
        store = Store() if stored else None

        def alias() -> LambdaAlias:
            return LambdaAlias("orders", "v1", session=aws.session, sleep=aws.sleep, records=store)

        canary = alias().enable_canary(20, version="2", release="r1")
        aws.fail("UpdateAlias", Fault.DEATH, after=True)
        with pytest.raises(ProcessDeath):
            canary.rollback()
        rollout = alias().describe().rollout
        assert rollout is not None
        assert (rollout.outcome, rollout.ended_by) == ("rolled_back", "caller")
        with pytest.raises(RolloutEndedError, match="rolled back"):
            alias().enable_canary(20, version="2", release="r1")


def half_promoted(
    aws: Rehearsal, verb: str, seen: Callable[[Canary], Any] = id, **options: Any
) -> str:
    """Production's deployment before; the process that rolls back dies when the canary is gone.

    Another process has `seen` the canary before.
    """
    old = str(fresh(aws).describe().deployment_id)
    begun(aws, **options)
    seen(running(fresh(aws, **options)))
    aws.fail("UpdateStage", Fault.DEATH, skip=1)
    with pytest.raises(ProcessDeath):
        running(fresh(aws, **options)).promote()
    aws.fail("UpdateStage", Fault.DEATH, after=True)
    with pytest.raises(ProcessDeath):
        ENDS[verb][0](fresh(aws, **options))
    state = fresh(aws).describe()
    assert state.canary is None
    assert state.deployment_id != old
    assert state.variables == V2
    return old


@pytest.mark.traced
@pytest.mark.long
@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("verb", ENDS)
def test_death_before_production_gets_back_what_it_had(verb: str, stored: bool) -> None:
    """A rollback or the script, run again, goes on where it stopped."""
    _, outcome, by = ENDS[verb]
    options: dict[str, Any] = {"records": Store()} if stored else {}
    again: dict[str, Callable[[Stage], object]] = {
        "rollback": lambda stage: stage.rollback(),
        "script": lambda stage: stage.enable_canary(20, release="r1", variables=V2),
    }
    for name, run in again.items():
        with rehearsal(**QUIET) as aws:
            old = half_promoted(aws, verb, **options)
            if name == "script":
                with pytest.raises(RolloutEndedError) as error:
                    run(fresh(aws, **options))
                assert error.value.outcome == outcome
            else:
                run(fresh(aws, **options))
            state = fresh(aws, **options).describe()
            assert (state.deployment_id, state.variables) == (old, {"alias": "v1"})
            assert ended(aws, **options) == (outcome, by, outcome)
            before = len(aws.calls)
            fresh(aws, **options).rollback()
            assert "UpdateStage" not in sent(aws)[before:]


def test_a_canary_object_of_a_process_that_lives_finishes_it() -> None:
    """Also where another process began it."""
    with rehearsal(**QUIET) as aws:
        old = str(aws.stage.describe().deployment_id)
        begun(aws)
        canary = running(fresh(aws))
        aws.fail("UpdateStage", Fault.DEATH, skip=1)
        with pytest.raises(ProcessDeath):
            running(fresh(aws)).promote()
        aws.fail("UpdateStage", Fault.DEATH, after=True)
        with pytest.raises(ProcessDeath):
            fresh(aws).rollback()
        canary.rollback()
        assert aws.stage.describe().deployment_id == old


@pytest.mark.parametrize("stored", [False, True])
def test_nothing_is_called_promoted_while_a_rollback_is_not_finished(stored: bool) -> None:
    """Another process, which observes or promotes the release, is told so."""
    options: dict[str, Any] = {"records": Store()} if stored else {}
    with rehearsal(**QUIET) as aws:
        canaries: list[Canary] = []
        old = half_promoted(aws, "stage.rollback", seen=canaries.append, **options)
        for act in (lambda: canaries[0].observe(POLICY), canaries[0].promote):
            before = len(aws.calls)
            with pytest.raises(
                CannotTellError, match="is not finished, or its process died"
            ) as error:
                act()
            assert "stage.rollback() gives production back" in error.value.remedy
            assert not {"UpdateStage", "UpdateDeployment"} & {*sent(aws)[before:]}
        fresh(aws, **options).rollback()
        assert canaries[0].observe(POLICY).phase == "rolled_back"
        assert fresh(aws, **options).describe().deployment_id == old


def test_what_was_finished_is_not_undone_by_a_rollback() -> None:
    """A promotion after a rollback that died before it removed the canary is one that holds."""
    for half in (False, True):
        with rehearsal(**QUIET) as aws:
            begun(aws)
            if half:
                aws.fail("UpdateStage", Fault.DEATH, skip=1)
                with pytest.raises(ProcessDeath):
                    running(fresh(aws)).promote()
            aws.fail("UpdateStage", Fault.DEATH)
            with pytest.raises(ProcessDeath):
                fresh(aws).rollback()
            aws.fail("UpdateStage", Fault.DEATH, after=True, skip=0 if half else 1)
            with pytest.raises(ProcessDeath):
                running(fresh(aws)).promote()
            promoted = fresh(aws).describe()
            assert promoted.canary is None
            fresh(aws).rollback()
            assert fresh(aws).describe().deployment_id == promoted.deployment_id
            assert ended(aws)[::2] == ("promoted", "promoted")


def test_what_was_changed_since_is_left() -> None:
    """Another release in production is not what the rollback was undoing."""
    with rehearsal(**QUIET) as aws:
        half_promoted(aws, "stage.rollback")
        patch(aws, {"op": "replace", "path": "/variables/alias", "value": "v9"})
        fresh(aws).rollback()
        assert fresh(aws).describe().variables == {"alias": "v9"}


@pytest.mark.parametrize("fault", [Fault.ACCESS_DENIED, Fault.EXPIRED_CREDENTIALS])
def test_production_that_cannot_be_given_back(fault: Fault) -> None:
    """It is an error, with what is left to do; what was restored and not recorded is no error."""
    with rehearsal(**QUIET) as aws:
        old = half_promoted(aws, "canary.rollback")
        aws.fail("UpdateStage", fault)
        with pytest.raises(CanaryError, match=r"serves deployment .* with no canary") as error:
            fresh(aws).rollback()
        assert "Run the same line again" in error.value.remedy
        aws.fail("UpdateDeployment", fault)
        fresh(aws).rollback()
        assert fresh(aws).describe().deployment_id == old
        assert ended(aws)[::2] == ("rolled_back", "rolled_back")


def test_an_unrecorded_promotion_goes_on() -> None:
    """It finishes what was begun, and writes nothing."""
    with rehearsal(**QUIET) as aws:
        begun(aws)
        aws.fail("UpdateStage", Fault.DEATH, skip=1)
        with pytest.raises(ProcessDeath):
            running(fresh(aws)).promote()
        before = len(aws.calls)
        running(fresh(aws)).promote(unrecorded=True)
        assert "UpdateDeployment" not in sent(aws)[before:]
        state = fresh(aws).describe()
        assert (state.variables, state.canary) == (V2, None)


def half_promoted_and_announced(aws: Rehearsal, **options: Any) -> Canary:
    """A promotion that died after its copies, and a rollback that died before the removal."""
    begun(aws, **options)
    aws.fail("UpdateStage", Fault.DEATH, skip=1)
    with pytest.raises(ProcessDeath):
        running(fresh(aws, **options)).promote()
    aws.fail("UpdateStage", Fault.DEATH)
    with pytest.raises(ProcessDeath):
        fresh(aws, **options).rollback()
    return running(fresh(aws, **options))


def test_a_promotion_goes_on_though_the_record_cannot_be_written() -> None:
    """Production has the canary's deployment already; nothing is claimed to be not begun."""
    with rehearsal(**QUIET) as aws:
        canary = half_promoted_and_announced(aws)
        aws.fail("UpdateDeployment", Fault.ACCESS_DENIED)
        canary.promote()
        state = fresh(aws).describe()
        assert (state.variables, state.canary) == (V2, None)


def test_a_store_that_another_process_has_changed_stops_a_promotion_that_goes_on() -> None:
    """As it does before one is begun."""

    def lost() -> None:
        raise RuntimeError("another process was first")

    with rehearsal(**QUIET) as aws:
        store = Store()
        canary = half_promoted_and_announced(aws, records=store)
        store.between = lost
        with pytest.raises(StageChangedError):
            canary.promote()
        assert fresh(aws).describe().canary is not None
