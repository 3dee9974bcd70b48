"""A promotion and a rollback of one canary at the same time: what is reported of them is true."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any, Literal

import pytest

from acting import V2, Store, client, fresh, patch, replace, sent
from apigw_canary import Canary, RolloutPolicy, Stage
from apigw_canary.errors import (
    AccessDeniedError,
    CanaryAlreadyEnabledError,
    CanaryError,
    CannotTellError,
    InvalidInputError,
    NotFoundError,
    RolloutEndedError,
    StageChangedError,
)
from apigw_canary.testing import Fault, ProcessDeath, Rehearsal, rehearsal

POLICY = RolloutPolicy.canary(20, timedelta(minutes=10))
QUIET: dict[str, Any] = {"requests_per_minute": 1, "history": timedelta(0)}
V3 = {"alias": "v3"}
OPERATIONS = ("GetStage", "GetDeployment", "GetDeployments", "UpdateStage", "UpdateDeployment")

Act = Callable[[Stage], object]


def running(stage: Stage) -> Canary:
    canary = stage.canary()
    assert canary is not None
    return canary


def promotes(stage: Stage) -> object:
    canary = stage.canary()
    return canary and canary.promote()


def rolls_back(stage: Stage) -> object:
    return stage.rollback()


def rolls_back_its_canary(stage: Stage) -> object:
    canary = stage.canary()
    return canary and canary.rollback()


def dies(aws: Rehearsal, act: Act, stage: Stage, *, skip: int = 0, after: bool = False) -> None:
    """The process does not survive that change of the stage."""
    aws.fail("UpdateStage", Fault.DEATH, skip=skip, after=after)
    with pytest.raises(ProcessDeath):
        act(stage)


def begun(aws: Rehearsal, **options: Any) -> None:
    aws.sleep(60)
    fresh(aws, **options).enable_canary(20, release="r1", variables=V2)
    aws.sleep(60)


def half_promoted(aws: Rehearsal, **options: Any) -> None:
    """Production has the canary's deployment; the process died before it ended the canary."""
    begun(aws, **options)
    dies(aws, promotes, fresh(aws, **options), skip=1)


def half_promoted_variables(aws: Rehearsal, variables: dict[str, str]) -> Canary:
    """The same of a canary of production's own deployment; as another process saw it before."""
    aws.sleep(60)
    deployment = str(fresh(aws).describe().deployment_id)
    fresh(aws).enable_canary(20, release="r1", deployment_id=deployment, variables=variables)
    aws.sleep(60)
    canary = running(fresh(aws))
    dies(aws, promotes, fresh(aws), skip=1)
    return canary


def announced(aws: Rehearsal, **options: Any) -> None:
    """And a rollback was announced, whose process died before it ended the canary."""
    half_promoted(aws, **options)
    dies(aws, rolls_back, fresh(aws, **options))


def half_undone(aws: Rehearsal, **options: Any) -> Canary:
    """And a rollback ended the canary, and died; the canary as another process saw it before."""
    half_promoted(aws, **options)
    canary = running(fresh(aws, **options))
    dies(aws, rolls_back, fresh(aws, **options), after=True)
    return canary


def phase(canary: Canary) -> str:
    """What a process that only observes is told."""
    told: str = "cannot tell"
    with suppress(CannotTellError):
        told = canary.observe(POLICY).phase
    return told


def check_told(aws: Rehearsal, old: str, observer: Canary, options: dict[str, Any]) -> None:
    """Whatever the two processes have come to."""
    state = fresh(aws, **options).describe()
    told = phase(observer)
    if state.canary is not None:
        assert told in {"running", "promoting"}
    elif told == "cannot tell":
        fresh(aws, **options).rollback()
        assert phase(observer) == "rolled_back"
        assert fresh(aws, **options).describe().deployment_id == old
    else:
        assert (told == "promoted") == (state.deployment_id != old), told


def run(stage: Stage, act: Act) -> CanaryError | None:
    """What a process raises that acts; None too where it dies."""
    try:
        act(stage)
    except CanaryError as error:
        return error
    except ProcessDeath:
        pass
    return None


def moments(begin: Callable[..., object], act: Act, **options: Any) -> Iterator[tuple[str, int]]:
    """Each call of a process that nothing disturbs: its operation and how many came before."""
    with rehearsal(**QUIET) as aws:
        begin(aws, **options)
        before = len(aws.calls)
        run(fresh(aws, **options), act)
        calls = sent(aws)[before:]
    for operation in OPERATIONS:
        for number in range(calls.count(operation)):
            yield operation, number


@pytest.mark.no_cover
@pytest.mark.long
@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("absent", ["refused", "ignored"])
@pytest.mark.parametrize("dies_when", ["never", "before it ends the canary", "afterwards"])
@pytest.mark.parametrize(
    "begin, act, other",
    [
        pytest.param(begun, promotes, rolls_back, id="promotion"),
        pytest.param(half_promoted, promotes, rolls_back, id="promotion that goes on"),
        pytest.param(announced, promotes, rolls_back, id="promotion after an announcement"),
        pytest.param(begun, rolls_back, promotes, id="rollback"),
        pytest.param(half_promoted, rolls_back, promotes, id="rollback of a half promotion"),
        pytest.param(announced, rolls_back, promotes, id="rollback after an announcement"),
        pytest.param(begun, rolls_back_its_canary, promotes, id="rollback by the canary"),
        pytest.param(
            half_promoted,
            rolls_back_its_canary,
            promotes,
            id="rollback of a half promotion by the canary",
        ),
    ],
)
def test_what_is_reported_whenever_the_other_process_acts(  # noqa: PLR0917
    begin: Callable[..., object],
    act: Act,
    other: Act,
    dies_when: str,
    absent: Literal["refused", "ignored"],
    stored: bool,
) -> None:
    """Between any two calls of the first one the other one runs, whole or until it dies."""
    for operation, number in moments(begin, act):
        for after in (False, True):
            options: dict[str, Any] = {"records": Store()} if stored else {}
            with rehearsal(**QUIET, absent_canary=absent) as aws:
                old = str(fresh(aws).describe().deployment_id)
                begin(aws, **options)
                observer = running(fresh(aws, **options))

                def meanwhile(aws: Rehearsal = aws, options: dict[str, Any] = options) -> None:
                    with suppress(ProcessDeath, CanaryError):
                        if dies_when != "never":
                            aws.fail("UpdateStage", Fault.DEATH, after=dies_when == "afterwards")
                        other(fresh(aws, **options))

                aws.meanwhile(operation, meanwhile, skip=number, after=after)
                error = run(fresh(aws, **options), act)
                assert error is None or error.remedy, (operation, number, after)
                check_told(aws, old, observer, options)


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("after", [False, True])
def test_a_promotion_that_was_undone_meanwhile_returns_no_receipt(
    after: bool, stored: bool
) -> None:
    """Another process rolls back between its copies and the end of the canary."""
    options: dict[str, Any] = {"records": Store()} if stored else {}
    with rehearsal(**QUIET, absent_canary="ignored") as aws:
        old = str(fresh(aws).describe().deployment_id)
        begun(aws, **options)
        aws.meanwhile(
            "UpdateStage",
            lambda: fresh(aws, **options).rollback(),
            skip=0 if after else 1,
            after=after,
        )
        with pytest.raises(StageChangedError, match="does not have what was promoted") as error:
            promotes(fresh(aws, **options))
        assert {*error.value.differences} == {"deployment_id", "variables"}
        state = fresh(aws, **options).describe()
        assert (state.deployment_id, state.variables) == (old, {"alias": "v1"})
        with pytest.raises(RolloutEndedError) as ended:
            fresh(aws, **options).enable_canary(20, release="r1", variables=V2)
        assert ended.value.outcome == "rolled_back"


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("when", ["GetDeployment", "UpdateStage"])
@pytest.mark.parametrize("begin", [begun, half_promoted])
def test_a_whole_promotion_during_a_rollback_is_undone(
    begin: Callable[..., object], when: str, stored: bool
) -> None:
    """A rollback that returns leaves nothing of the canary in production."""
    options: dict[str, Any] = {"records": Store()} if stored else {}
    with rehearsal(**QUIET, absent_canary="ignored") as aws:
        old = str(fresh(aws).describe().deployment_id)
        begin(aws, **options)
        canary = running(fresh(aws, **options))
        observer = running(fresh(aws, **options))
        aws.meanwhile(when, lambda: promotes(fresh(aws, **options)))
        canary.rollback()
        state = fresh(aws, **options).describe()
        assert (state.deployment_id, state.variables) == (old, {"alias": "v1"})
        assert (phase(canary), phase(observer)) == ("rolled_back", "rolled_back")


def test_a_variable_that_is_changed_by_hand_meanwhile_undoes_no_promotion() -> None:
    """The promotion was finished all the same."""
    with rehearsal(**QUIET) as aws:
        begun(aws)
        observer = running(fresh(aws))
        aws.meanwhile("UpdateStage", lambda: patch(aws, replace("/variables/alias", "v9")), skip=1)
        receipt = running(fresh(aws)).promote()
        assert receipt.deployment_after == fresh(aws).describe().deployment_id
        assert phase(observer) == "promoted"


def test_an_unrecorded_promotion_goes_on_beside_a_store_that_cannot_be_written() -> None:
    """It says so in the log only."""

    def read_only() -> None:
        raise PermissionError("read only")

    with rehearsal(**QUIET) as aws:
        store = Store()
        announced(aws, records=store)
        store.between = read_only
        running(fresh(aws, records=store)).promote(unrecorded=True)
        assert fresh(aws).describe().variables == V2


def test_a_rollback_that_undid_a_promotion_is_what_counts() -> None:
    """Another process finished the promotion after the rollback had been announced."""
    with rehearsal(**QUIET, absent_canary="ignored") as aws:
        old = str(fresh(aws).describe().deployment_id)
        half_promoted(aws)
        observer = running(fresh(aws))
        aws.meanwhile("UpdateStage", lambda: promotes(fresh(aws)))
        fresh(aws).rollback()
        assert fresh(aws).describe().deployment_id == old
        assert phase(observer) == "rolled_back"


@pytest.mark.parametrize("stored", [False, True])
def test_an_unrecorded_promotion_withdraws_a_rollback_that_was_announced(stored: bool) -> None:
    """So that nobody finishes that rollback."""
    options: dict[str, Any] = {"records": Store()} if stored else {}
    with rehearsal(**QUIET) as aws:
        announced(aws, **options)
        observer = running(fresh(aws, **options))
        running(fresh(aws, **options)).promote(unrecorded=True)
        promoted = fresh(aws, **options).describe().deployment_id
        assert phase(observer) == "promoted"
        fresh(aws, **options).rollback()
        assert fresh(aws, **options).describe().deployment_id == promoted


def test_a_promotion_whose_record_is_refused_may_be_rolled_back() -> None:
    """What it left on record is that a rollback was announced, and so one finishes that."""
    with rehearsal(**QUIET) as aws:
        announced(aws)
        observer = running(fresh(aws))
        for skip in range(2):
            aws.fail("UpdateDeployment", Fault.ACCESS_DENIED, skip=skip)
        promotes(fresh(aws))
        assert phase(observer) == "cannot tell"
        fresh(aws).rollback()
        assert phase(observer) == "rolled_back"


@pytest.mark.parametrize("stored", [False, True])
def test_a_rollback_that_is_not_on_record_is_not_forgotten(stored: bool) -> None:
    """Its process died after it gave production back what it had. Then the next one is promoted."""
    options: dict[str, Any] = {"records": Store()} if stored else {}
    with rehearsal(**QUIET) as aws:
        half_promoted(aws, **options)
        observer = running(fresh(aws, **options))
        dies(aws, rolls_back, fresh(aws, **options), skip=1, after=True)
        fresh(aws, **options).enable_canary(20, release="r2", variables=V3)
        aws.sleep(60)
        promotes(fresh(aws, **options))
        assert phase(observer) == "rolled_back"
        with pytest.raises(RolloutEndedError, match="rolled back"):
            fresh(aws, **options).enable_canary(20, release="r1", variables=V2)


def test_a_variables_only_promotion_that_was_reverted_stays_so() -> None:
    """The record of the rollout and of the deployment before are one."""
    with rehearsal(**QUIET) as aws:
        observer = half_promoted_variables(aws, V2)
        dies(aws, rolls_back, fresh(aws), after=True)
        assert phase(observer) == "cannot tell"
        fresh(aws).revert()
        assert phase(observer) == "reverted"
        patch(aws, replace("/variables/alias", "v2"))
        fresh(aws).rollback()
        assert fresh(aws).describe().variables == V2


@pytest.mark.parametrize("release", ["r2", None])
def test_no_baseline_that_is_to_be_rolled_back(release: str | None) -> None:
    """Another canary is refused until production has what it had, and nothing is changed."""
    with rehearsal(**QUIET) as aws:
        half_undone(aws)
        before = len(aws.calls)
        with pytest.raises(CannotTellError, match="A rollback of release r1 was announced"):
            fresh(aws).enable_canary(20, release=release, variables=V3)
        assert not {"CreateDeployment", "UpdateStage"} & {*sent(aws)[before:]}
        fresh(aws).rollback()
        fresh(aws).enable_canary(20, release=release, variables=V3)


def test_production_that_is_to_stay_as_it_is() -> None:
    """Who accepts that says so with the next canary; nobody finishes the rollback then."""
    with rehearsal(**QUIET) as aws:
        observer = half_undone(aws)
        promoted = fresh(aws).describe().deployment_id
        canary = fresh(aws).enable_canary(
            20, release="r2", variables=V3, accept={"unfinished_rollback"}
        )
        canary.rollback()
        assert phase(observer) == "promoted"
        fresh(aws).rollback()
        assert fresh(aws).describe().deployment_id == promoted


def test_the_release_itself_is_to_stay_as_it_is() -> None:
    """Its script, run again with the acceptance, changes nothing: it was promoted."""
    with rehearsal(**QUIET) as aws:
        half_undone(aws)
        promoted = fresh(aws).describe().deployment_id
        for _ in range(2):
            with pytest.raises(RolloutEndedError) as error:
                fresh(aws).enable_canary(
                    20, release="r1", variables=V2, accept={"unfinished_rollback"}
                )
            assert error.value.outcome == "promoted"
        fresh(aws).rollback()
        assert fresh(aws).describe().deployment_id == promoted


def test_what_is_accepted_counts_once_the_canary_is_enabled() -> None:
    """A call that is refused for another reason records nothing."""
    with rehearsal(**QUIET) as aws:
        old = str(fresh(aws).describe().deployment_id)
        half_undone(aws)
        with pytest.raises(InvalidInputError, match="nowhere"):
            fresh(aws).enable_canary(
                20, release="r2", variables={"nowhere": "x"}, accept={"unfinished_rollback"}
            )
        fresh(aws).rollback()
        assert fresh(aws).describe().deployment_id == old


def test_the_same_deployment_with_other_variables_may_follow() -> None:
    """Its rollout is on the record of the release that is to stay."""
    with rehearsal(**QUIET) as aws:
        observer = half_undone(aws)
        fresh(aws).enable_canary(
            20,
            release="r2",
            deployment_id=observer.deployment_id,
            variables=V3,
            accept={"unfinished_rollback"},
        )
        assert running(fresh(aws)).release == "r2"
        with pytest.raises(CanaryAlreadyEnabledError):
            fresh(aws).enable_canary(20, release="r1", variables=V2)
        fresh(aws).rollback()
        with pytest.raises(RolloutEndedError) as error:
            fresh(aws).enable_canary(20, release="r1", variables=V2)
        assert error.value.outcome == "promoted"


@pytest.mark.parametrize("fault", [None, Fault.ACCESS_DENIED])
def test_a_rollback_that_does_not_guess_does_not_guess_later(fault: Fault | None) -> None:
    """A canary without variables on production's deployment may be a new one, made by hand."""
    with rehearsal(**QUIET) as aws:
        aws.sleep(60)
        fresh(aws).enable_canary(20, release="r1")
        aws.sleep(60)
        observer = running(fresh(aws))
        dies(aws, promotes, fresh(aws), skip=1)
        if fault is not None:
            aws.fail("UpdateDeployment", fault, skip=1)
        with pytest.raises(StageChangedError, match="The canary was ended"):
            fresh(aws).rollback()
        promoted = fresh(aws).describe().deployment_id
        if fault is None:
            fresh(aws).rollback()
            assert fresh(aws).describe().deployment_id == promoted
            assert phase(observer) == "promoted"
        else:
            assert phase(observer) == "cannot tell"


def test_a_later_deployment_with_the_same_variable_is_another_promotion() -> None:
    """A variables-only release was rolled back, and that is not on record."""
    with rehearsal(**QUIET) as aws:
        observer = half_promoted_variables(aws, V2)
        dies(aws, rolls_back, fresh(aws), skip=1, after=True)
        fresh(aws).enable_canary(20, release="r2", variables=V2)
        aws.sleep(60)
        promotes(fresh(aws))
        assert phase(observer) == "rolled_back"


def enabled_by_hand(aws: Rehearsal) -> None:
    """A canary without a rollout on record."""
    aws.sleep(60)
    settings = {"percentTraffic": 20, "stageVariableOverrides": V2}
    client(aws).create_deployment(
        restApiId=aws.rest_api_id, stageName="prod", canarySettings=settings
    )
    aws.sleep(60)


@pytest.mark.parametrize(
    "begin, when",
    [
        (begun, "GetDeployment"),
        (begun, "UpdateDeployment"),
        (begun, "UpdateStage"),
        (half_promoted, "GetDeployment"),
        (enabled_by_hand, "GetDeployment"),
        (enabled_by_hand, "UpdateStage"),
    ],
)
def test_disabling_undoes_no_promotion_of_another_process(
    begin: Callable[..., object], when: str
) -> None:
    """A canary that was promoted meanwhile is disabled already, and its release promoted."""
    with rehearsal(**QUIET, absent_canary="ignored") as aws:
        begin(aws)
        canary, observer = running(fresh(aws)), running(fresh(aws))
        aws.meanwhile(when, lambda: promotes(fresh(aws)))
        canary.disable()
        assert fresh(aws).describe().variables == V2
        assert phase(observer) in {"promoted", "promoted_outside"}


@pytest.mark.parametrize("begin", [half_promoted, announced])
@pytest.mark.parametrize("stored", [False, True])
def test_a_rollback_is_no_success_while_production_serves_the_release(
    begin: Callable[..., object], stored: bool
) -> None:
    """Another process finishes the promotion after the stage was read, before its record was."""
    options: dict[str, Any] = {"records": Store()} if stored else {}
    with rehearsal(**QUIET, absent_canary="ignored") as aws:
        old = str(fresh(aws).describe().deployment_id)
        begin(aws, **options)
        aws.meanwhile("GetDeployment", lambda: promotes(fresh(aws, **options)))
        with pytest.raises(StageChangedError, match="Production serves its deployment") as error:
            fresh(aws, **options).rollback()
        assert "stage.revert()" in error.value.remedy
        fresh(aws, **options).revert()
        assert fresh(aws, **options).describe().deployment_id == old


@pytest.mark.parametrize("begin", [begun, half_promoted, announced])
@pytest.mark.parametrize("act", [rolls_back, rolls_back_its_canary])
@pytest.mark.parametrize("when", ["GetDeployment", "UpdateDeployment", "UpdateStage"])
def test_two_rollbacks_at_once(begin: Callable[..., object], act: Act, when: str) -> None:
    """What the other one has given back already is not given back again."""
    with rehearsal(**QUIET, absent_canary="ignored") as aws:
        old = str(fresh(aws).describe().deployment_id)
        begin(aws)
        observer = running(fresh(aws))
        aws.meanwhile(when, lambda: rolls_back(fresh(aws)))
        act(fresh(aws))
        state = fresh(aws).describe()
        assert (state.deployment_id, state.variables) == (old, {"alias": "v1"})
        assert phase(observer) == "rolled_back"


def test_a_promotion_that_cannot_be_undone_meanwhile_is_for_revert() -> None:
    """The same line again would not finish it: by then it is a promotion like any other."""
    with rehearsal(**QUIET, absent_canary="ignored") as aws:
        old = str(fresh(aws).describe().deployment_id)
        begun(aws)
        canary = running(fresh(aws))
        aws.meanwhile("UpdateStage", lambda: promotes(fresh(aws)))
        aws.fail("UpdateStage", Fault.ACCESS_DENIED, skip=3)
        with pytest.raises(AccessDeniedError) as error:
            canary.rollback()
        assert "stage.revert()" in error.value.remedy
        assert "same line" not in error.value.remedy
        fresh(aws).revert()
        assert fresh(aws).describe().deployment_id == old


def test_a_rollback_to_a_deployment_that_was_deleted() -> None:
    """It cannot be finished, and the way out is another release."""
    with rehearsal(**QUIET) as aws:
        old = str(fresh(aws).describe().deployment_id)
        observer = half_undone(aws)
        client(aws).delete_deployment(restApiId=aws.rest_api_id, deploymentId=old)
        with pytest.raises(NotFoundError, match="has been deleted") as error:
            fresh(aws).rollback()
        assert "another release name" in error.value.remedy
        fresh(aws).enable_canary(20, release="r2", variables=V3)
        aws.sleep(60)
        promotes(fresh(aws))
        assert phase(observer) == "rolled_back"


def test_production_that_was_changed_by_hand_is_neither() -> None:
    """Not promoted, and not rolled back: the deployment is still that of the release."""
    with rehearsal(**QUIET) as aws:
        observer = half_undone(aws)
        patch(aws, replace("/variables/alias", "v9"))
        assert phase(observer) == "cannot tell"
        fresh(aws).rollback()
        assert fresh(aws).describe().variables == {"alias": "v9"}
        rollout = fresh(aws).describe().rollout
        assert rollout is not None
        assert rollout.outcome != "rolled_back"


def test_a_variable_that_is_still_the_promoted_one() -> None:
    """Of a canary of two variables one was changed by hand: production still has the other one."""
    with rehearsal(**QUIET, variables={"alias": "v1", "mode": "old"}) as aws:
        observer = half_promoted_variables(aws, {"alias": "v2", "mode": "new"})
        dies(aws, rolls_back, fresh(aws), after=True)
        patch(aws, replace("/variables/mode", "third"))
        assert phase(observer) == "cannot tell"
        patch(aws, replace("/variables/alias", "v1"))
        assert phase(observer) == "rolled_back"


def test_a_canary_that_was_enabled_by_hand() -> None:
    """A process that saw it before there was a record is told the same as all others."""
    with rehearsal(**QUIET) as aws:
        enabled_by_hand(aws)
        observer = running(fresh(aws))
        held = running(fresh(aws))
        held.hold("release freeze")
        held.resume()
        dies(aws, promotes, fresh(aws), skip=1)
        dies(aws, rolls_back, fresh(aws), after=True)
        assert (phase(observer), phase(held)) == ("cannot tell", "cannot tell")


def test_the_check_of_a_release_whose_rollback_is_to_be_finished() -> None:
    """It changes nothing, and states how the release ends."""
    with rehearsal(**QUIET) as aws:
        half_undone(aws)
        before = len(aws.calls)
        plan = fresh(aws).check(20, release="r1", variables=V2)
        assert any("rolled back" in each.what for each in plan.problems)
        assert not any(each.startswith(("Update", "Create")) for each in sent(aws)[before:])
