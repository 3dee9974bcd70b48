"""Canary: shifting, promoting, rolling back, and applying decisions to what they were made on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest

from acting import (
    CANARY,
    COPIES,
    PERCENT,
    V2,
    client,
    describe,
    description,
    fresh,
    new_deployment,
    patch,
    remove,
    replace,
    sent,
    serving,
)
from apigw_canary import (
    Canary,
    CanaryError,
    Decision,
    Hold,
    Minute,
    Observation,
    Promote,
    Promotion,
    Rollback,
    RolloutPolicy,
    Shift,
    Signal,
    StageState,
    Step,
    decision_from_dict,
)
from apigw_canary.errors import (
    AccessDeniedError,
    CanaryAlreadyEnabledError,
    DecisionExpiredError,
    InvalidInputError,
    NoCanaryError,
    NotFoundError,
    NothingToRevertError,
    RecordError,
    RolloutEndedError,
    StageChangedError,
    UnansweredError,
    UnconfirmedChangeError,
)
from apigw_canary.testing import Backend, Fault, ProcessDeath, Rehearsal, RehearsalError, rehearsal

MINUTES = timedelta(minutes=1)
POLICY = RolloutPolicy([Step(5, 5 * MINUTES), Step(50, 5 * MINUTES)])


def decided(kind: type[Any], observation: Observation, **fields: Any) -> Any:
    """A decision as the policy would make it on an observation."""
    return kind(
        at=observation.at,
        reason="because",
        percent=fields.get("percent", observation.percent),
        wait=timedelta(0),
        final=kind in (Promote, Rollback),
        analysis=None,
        basis=observation.basis,
    )


def running(aws: Rehearsal) -> Canary:
    """The canary as another process finds it."""
    found = fresh(aws).canary()
    assert found is not None
    return found


def roll_out(aws: Rehearsal, canary: Canary, policy: RolloutPolicy = POLICY) -> list[Decision]:
    """The loop of the manual."""
    decisions = []
    while True:
        decision = policy.decide(canary.observe(policy))
        decisions.append(decision)
        canary.apply(decision)
        if decision.final:
            return decisions
        aws.sleep(decision.wait.total_seconds())


@pytest.mark.long
@pytest.mark.parametrize("overlap", ["excluded", "included"])
def test_a_good_release_is_promoted(overlap: Any) -> None:
    """A v2 as good as v1 goes through the steps and becomes production."""
    with rehearsal(overlap=overlap) as aws:
        canary = aws.stage.enable_canary(5, release="r1", variables=V2)
        decisions = roll_out(aws, canary)
        assert [type(d) for d in decisions if not isinstance(d, Hold)] == [Shift, Promote]
        assert serving(aws) == (canary.deployment_id, V2, None)


@pytest.mark.long
@pytest.mark.parametrize("overlap", ["excluded", "included"])
def test_a_bad_release_is_rolled_back(overlap: Any) -> None:
    """A v2 that fails twenty times as often is ended, and production is what it was."""
    with rehearsal(overlap=overlap, backends={"alias=v2": Backend(errors_5xx=0.02)}) as aws:
        before = serving(aws)
        decisions = roll_out(aws, aws.stage.enable_canary(5, release="r1", variables=V2))
        assert isinstance(decisions[-1], Rollback)
        assert "errors_5xx" in str(decisions[-1])
        assert serving(aws) == before


@pytest.mark.long
def test_a_bad_deployment_is_rolled_back() -> None:
    """A new deployment that fails is found as a variable's backend is."""
    with rehearsal() as aws:
        aws.edit(Backend(errors_5xx=0.05))
        decisions = roll_out(aws, aws.stage.enable_canary(5, release="r1"))
        assert isinstance(decisions[-1], Rollback)


def test_shift() -> None:
    """The share becomes what was asked for; nothing else changes, and asking twice is success."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, variables=V2)
        before = canary.describe().canary
        assert before is not None
        canary.shift(33.333)
        assert canary.describe().canary == attrs.evolve(before, percent=33.33)
        count = len(aws.calls)
        canary.shift(33.33)
        assert sent(aws)[count:] == ["GetStage"]
        canary.shift(0)
        assert canary.describe().canary is not None
        with pytest.raises(InvalidInputError, match="percent"):
            canary.shift(-1)


@pytest.mark.parametrize("fault, pause", [(Fault.THROTTLED, 2), (Fault.CONFLICT, 0)])
def test_a_busy_aws_is_waited_for(fault: Fault, pause: float) -> None:
    """A conflict or throttling is repeated, and AWS is believed when it says when to come back."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, variables=V2)
        began = aws.now()
        aws.fail("UpdateStage", fault)
        canary.shift(25)
        assert serving(aws)[2]["percentTraffic"] == 25
        assert timedelta(seconds=pause) <= aws.now() - began < timedelta(seconds=10)


def test_a_promotion_returns_its_receipt() -> None:
    """The receipt has both deployments and the changed variables, and survives JSON."""
    with rehearsal(variables={"alias": "v1", "table": "t"}) as aws:
        old = serving(aws)[0]
        canary = aws.stage.enable_canary(
            5,
            release="r1",
            variables={"alias": "v2", "new": "n", "table": "t"},
            accept={"unused_variables"},
        )
        receipt = canary.promote()
        assert (receipt.deployment_before, receipt.deployment_after) == (old, canary.deployment_id)
        assert receipt.variables_before == {"alias": "v1", "new": None}
        assert receipt.variables_after == {"alias": "v2", "new": "n"}
        assert receipt.release == "r1"
        assert Promotion.from_dict(receipt.to_dict()) == receipt
        assert "v1" not in repr(receipt)
        assert fresh(aws).describe().rollout.outcome == "promoted"  # type: ignore[union-attr]


def test_promoting_twice_is_success() -> None:
    """What is promoted already gives the same receipt, from any process that held the canary."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, release="r1", variables=V2)
        other = running(aws)
        receipt = canary.promote()
        assert other.promote() == receipt
        assert canary.promote() == receipt


@pytest.mark.parametrize(
    "operation, skip", [("UpdateDeployment", 0), ("UpdateStage", 0), ("UpdateStage", 1)]
)
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("variables_only", [False, True])
def test_a_promotion_that_died_is_finished(
    operation: str, skip: int, after: bool, variables_only: bool
) -> None:
    """A promotion that has left a trace is finished by the next look; any is, by promote()."""
    with rehearsal() as aws:
        old = serving(aws)[0]
        canary = aws.stage.enable_canary(
            5, release="r1", variables=V2, deployment_id=old if variables_only else None
        )
        aws.fail(operation, Fault.DEATH, skip=skip, after=after)
        with pytest.raises(ProcessDeath):
            canary.promote()
        again = fresh(aws).canary()
        if again is not None:
            decision = POLICY.decide(again.observe(POLICY))
            begun = operation == "UpdateStage" and (after or skip)
            assert isinstance(decision, Promote if begun else Hold)
            assert again.promote().deployment_before == old
        assert serving(aws) == (canary.deployment_id, V2, None)
        fresh(aws).revert()
        assert serving(aws) == (old, {"alias": "v1"}, None)


@pytest.mark.parametrize("owner", ["canary", "stage"])
@pytest.mark.parametrize("variables_only", [False, True])
def test_a_half_promotion_is_rolled_back(owner: str, variables_only: bool) -> None:
    """Rolling back between the two writes of a promotion gives production back what it had."""
    with rehearsal() as aws:
        before = serving(aws)
        aws.stage.enable_canary(
            5, release="r1", variables=V2, deployment_id=before[0] if variables_only else None
        )
        canary = running(aws)
        aws.fail("UpdateStage", Fault.DEATH, skip=1)
        with pytest.raises(ProcessDeath):
            canary.promote()
        assert serving(aws)[1] == V2
        if owner == "canary":
            canary.rollback()
        else:
            fresh(aws).rollback()
        assert serving(aws) == before


def test_a_half_promotion_without_overrides_is_not_undone_on_a_guess() -> None:
    """A canary that overrides nothing is ended, and the error says how production goes back.

    Somebody may have enabled it anew after the promotion: AWS shows no difference.
    """
    with rehearsal() as aws:
        old = serving(aws)[0]
        canary = aws.stage.enable_canary(5, release="r1")
        aws.fail("UpdateStage", Fault.DEATH, skip=1)
        with pytest.raises(ProcessDeath):
            canary.promote()
        with pytest.raises(StageChangedError, match=r"was promoted at .*stage\.revert\(\)"):
            aws.stage.rollback()
        assert serving(aws)[::2] == (canary.deployment_id, None)
        aws.stage.revert()
        assert serving(aws)[::2] == (old, None)


def test_a_canary_enabled_by_hand_after_a_promotion_does_not_undo_it() -> None:
    """Ending a canary that changes nothing leaves the promotion before it alone, and says so."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, release="r1", variables=V2)
        canary.promote()
        patch(aws, replace(PERCENT, "0.0"))
        aws.stage.rollback()
        assert serving(aws) == (canary.deployment_id, V2, None)


def test_a_half_promotion_is_not_shifted() -> None:
    """While a promotion is half done shifting changes nothing: the script goes on to promote."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, variables=V2)
        aws.fail("UpdateStage", Fault.DEATH, skip=1)
        with pytest.raises(ProcessDeath):
            canary.promote()
        half = serving(aws)
        canary.shift(50)
        assert serving(aws) == half
        canary.promote()
        assert serving(aws) == (canary.deployment_id, V2, None)


def test_rollback_after_a_promotion_points_to_revert() -> None:
    """A canary that was promoted cannot be rolled back; the error says what can be done."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, release="r1", variables=V2)
        canary.promote()
        with pytest.raises(RolloutEndedError, match=r"stage\.revert\(\)"):
            canary.rollback()


def test_rollback_twice_is_success() -> None:
    """A canary that is gone already is as asked."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, variables=V2)
        canary.rollback()
        canary.rollback()
        canary.disable()
        assert serving(aws)[2] is None


def test_rollback_does_not_wait_for_its_record() -> None:
    """Where the outcome cannot be recorded the canary is ended all the same."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, release="r1", variables=V2)
        aws.fail("UpdateDeployment", Fault.ACCESS_DENIED)
        canary.rollback()
        assert serving(aws)[2] is None


def test_rollback_where_the_record_cannot_be_read() -> None:
    """A canary that looks promoted is ended first, and what is uncertain is an error after it."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, release="r1", variables=V2)
        aws.fail("UpdateStage", Fault.DEATH, skip=1)
        with pytest.raises(ProcessDeath):
            canary.promote()
        aws.fail("GetDeployment", Fault.ACCESS_DENIED)
        with pytest.raises(RecordError, match="not known whether"):
            fresh(aws).rollback()
        assert serving(aws)[2] is None
        fresh(aws).revert()
        assert serving(aws)[1] == {"alias": "v1"}


def test_a_promotion_without_a_record_is_refused_unless_told() -> None:
    """What would be overwritten is recorded first; if that fails nothing is changed."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, release="r1", variables=V2)
        before = serving(aws)
        aws.fail("UpdateDeployment", Fault.ACCESS_DENIED)
        with pytest.raises(RecordError, match="unrecorded=True"):
            canary.promote()
        assert serving(aws) == before
        receipt = canary.promote(unrecorded=True)
        assert serving(aws) == (canary.deployment_id, V2, None)
        with pytest.raises(NothingToRevertError):
            aws.stage.revert()
        aws.stage.revert(receipt)
        assert serving(aws)[:2] == before[:2]


def test_a_promotion_by_hand_is_not_taken_for_ours() -> None:
    """A canary that somebody promoted by raw calls is neither promoted nor rolled back blindly."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, release="r1", variables=V2)
        patch(aws, *COPIES)
        assert canary.observe(POLICY).phase == "promoted_outside"
        with pytest.raises(StageChangedError, match="not recorded"):
            canary.promote()
        with pytest.raises(StageChangedError, match="The canary was ended"):
            canary.rollback()
        assert serving(aws) == (canary.deployment_id, V2, None)
        with pytest.raises(RolloutEndedError, match="promoted outside this library"):
            canary.promote()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda aws: patch(aws, remove(CANARY)), id="removed"),
        pytest.param(
            lambda aws: patch(aws, replace("/canarySettings/deploymentId", new_deployment(aws))),
            id="deployment",
        ),
        pytest.param(
            lambda aws: patch(aws, replace("/canarySettings/stageVariableOverrides/alias", "v3")),
            id="variables",
        ),
    ],
)
@pytest.mark.parametrize("verb", ["shift", "promote", "rollback"])
def test_what_somebody_else_changed_is_left_alone(
    change: Callable[[Rehearsal], object], verb: str, request: pytest.FixtureRequest
) -> None:
    """Another canary in our place is an error, and nothing is sent."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, variables=V2)
        change(aws)
        before, count = serving(aws), len(aws.calls)
        removed = "removed" in request.node.name
        if verb == "rollback" and removed:
            canary.rollback()
        else:
            with pytest.raises(NoCanaryError if removed else StageChangedError) as caught:
                canary.shift(25) if verb == "shift" else getattr(canary, verb)()
            assert caught.value.state
        assert serving(aws) == before
        assert not {call for call in sent(aws)[count:] if call.startswith("Update")}


@pytest.mark.parametrize(
    "change, phase",
    [
        (lambda aws: patch(aws, remove(CANARY)), "removed_outside"),
        (lambda aws: patch(aws, *COPIES, replace(PERCENT, "0.0")), "promoted_outside"),
        (lambda aws: (patch(aws, *COPIES), patch(aws, remove(CANARY))), "promoted_outside"),
        (
            lambda aws: patch(aws, replace("/canarySettings/stageVariableOverrides/alias", "v3")),
            "replaced",
        ),
        (lambda aws: running(aws).promote(), "promoted"),
        (lambda aws: fresh(aws).rollback(), "rolled_back"),
        (lambda aws: running(aws).disable(), "disabled"),
        (lambda aws: (running(aws).promote(), fresh(aws).revert()), "reverted"),
    ],
)
def test_an_ended_rollout_says_how(change: Callable[[Rehearsal], object], phase: str) -> None:
    """What became of the canary is in the observation, and ends the loop."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, release="r1", variables=V2)
        change(aws)
        observation = canary.observe(POLICY)
        assert observation.phase == phase
        decision = POLICY.decide(observation)
        assert isinstance(decision, Hold)
        assert decision.final


def test_what_we_ended_ourselves_is_said() -> None:
    """After its own rollback or promotion a canary knows its end."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, release="r1", variables=V2)
        canary.rollback()
        assert canary.observe(POLICY).phase == "rolled_back"
        canary = aws.stage.enable_canary(5, release="r2", variables=V2)
        canary.promote()
        assert canary.observe(POLICY).phase == "promoted"
        aws.stage.revert()
        assert canary.observe(POLICY).phase == "promoted"  # that is how this rollout ended


# Applying


def test_a_hold_sends_nothing() -> None:
    """Applying a Hold makes no call."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, variables=V2)
        hold = decided(Hold, canary.observe(POLICY))
        count = len(aws.calls)
        assert canary.apply(hold) is None
        assert len(aws.calls) == count


@pytest.mark.long
def test_a_decision_can_be_stored_and_applied_by_another_process() -> None:
    """A decision that went through JSON does what it says, within its lifetime."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, variables=V2)
        stored = decided(Shift, canary.observe(POLICY), percent=25.0).to_dict()
        aws.sleep(9 * 60)
        other = running(aws)
        other.apply(decision_from_dict(stored))
        assert serving(aws)[2]["percentTraffic"] == 25
        aws.sleep(3600)
        other.apply(decision_from_dict(stored))  # what is as asked already is success
        stored = decided(Promote, other.observe(POLICY)).to_dict()
        assert other.apply(decision_from_dict(stored)) is not None


@pytest.mark.parametrize("kind", [Shift, Promote])
def test_an_old_decision_is_not_applied(kind: type[Decision]) -> None:
    """A Shift or Promote older than ten minutes is refused, and says how old it is."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, variables=V2)
        decision = decided(kind, canary.observe(POLICY), percent=25.0)
        aws.sleep(601)
        before = serving(aws)
        with pytest.raises(DecisionExpiredError) as caught:
            canary.apply(decision)
        assert caught.value.age == timedelta(seconds=601)
        assert serving(aws) == before


@pytest.mark.parametrize("kind", [Shift, Promote])
def test_a_decision_on_another_share_is_not_applied(kind: type[Decision]) -> None:
    """A Shift or Promote made at another share is refused."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, variables=V2)
        decision = decided(kind, canary.observe(POLICY), percent=25.0)
        patch(aws, replace(PERCENT, "7.0"))
        before = serving(aws)
        with pytest.raises(StageChangedError, match="7 instead of 5"):
            canary.apply(decision)
        assert serving(aws) == before


@pytest.mark.long
def test_a_rollback_is_never_too_old() -> None:
    """A Rollback is applied whatever the share is by then and however long ago it was decided."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, variables=V2)
        decision = decided(Rollback, canary.observe(POLICY))
        canary.shift(50)
        aws.sleep(86400)
        canary.apply(decision)
        assert serving(aws)[2] is None


@pytest.mark.parametrize("kind", [Shift, Promote, Rollback])
def test_a_decision_about_another_canary_is_not_applied(kind: type[Decision]) -> None:
    """A decision holds for the canary it was made on, and for no later one."""
    with rehearsal() as aws:
        first = aws.stage.enable_canary(5, release="r1", variables=V2)
        decision = decided(kind, first.observe(POLICY), percent=25.0)
        first.rollback()
        second = aws.stage.enable_canary(5, release="r2", variables=V2)
        before = serving(aws)
        with pytest.raises(StageChangedError, match="another canary"):
            second.apply(decision)
        assert serving(aws) == before


def test_a_decision_without_a_basis_is_not_applied() -> None:
    """What was decided on plain data is nothing that could be applied."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, variables=V2)
        observation = attrs.evolve(canary.observe(POLICY), basis=None)
        with pytest.raises(InvalidInputError, match="basis"):
            canary.apply(decided(Rollback, observation))


# Reverting


def test_revert_is_run_again_without_harm() -> None:
    """Reverting twice does not undo the promotion before the last one."""
    with rehearsal() as aws:
        aws.stage.enable_canary(5, release="r1", variables=V2).promote()
        middle = serving(aws)
        aws.stage.enable_canary(5, release="r2", variables={"alias": "v3"}).promote()
        fresh(aws).revert()
        assert serving(aws) == middle
        fresh(aws).revert()
        assert serving(aws) == middle


@pytest.mark.parametrize("operation", ["UpdateDeployment", "UpdateStage"])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("variables_only", [False, True])
def test_a_revert_that_died_is_run_again(operation: str, after: bool, variables_only: bool) -> None:
    """Wherever the process dies, the same line again ends in what production had before."""
    with rehearsal() as aws:
        before = serving(aws)
        aws.stage.enable_canary(
            5, release="r1", variables=V2, deployment_id=before[0] if variables_only else None
        ).promote()
        aws.fail(operation, Fault.DEATH, after=after)
        with pytest.raises(ProcessDeath):
            fresh(aws).revert()
        fresh(aws).revert()
        assert serving(aws) == before
        fresh(aws).revert()
        assert serving(aws) == before


def test_revert_keeps_what_the_promotion_did_not_change() -> None:
    """A variable that was set after the promotion, and is not of it, stays."""
    with rehearsal() as aws:
        receipt = aws.stage.enable_canary(5, variables=V2).promote()
        patch(aws, replace("/variables/later", "x"))
        aws.stage.revert(receipt)
        assert serving(aws)[1] == {"alias": "v1", "later": "x"}
        aws.stage.revert(receipt)  # as it is asked to be
        assert serving(aws)[1] == {"alias": "v1", "later": "x"}


def test_revert_refuses_what_was_changed_since() -> None:
    """A promoted variable or deployment that was changed since is left alone, and named."""
    with rehearsal() as aws:
        aws.stage.enable_canary(
            5, variables={"alias": "v2", "other": "o"}, accept={"unused_variables"}
        ).promote()
        patch(aws, replace("/variables/other", "hunter2"))
        before = serving(aws)
        with pytest.raises(StageChangedError, match="other") as caught:
            aws.stage.revert()
        assert "hunter2" not in str(caught.value)
        assert serving(aws) == before
    with rehearsal() as aws:
        receipt = aws.stage.enable_canary(5, variables=V2).promote()
        new_deployment(aws, stageName="prod")
        with pytest.raises(StageChangedError, match="deployment_id"):
            aws.stage.revert(receipt)


def test_revert_while_somebody_deploys() -> None:
    """A stage whose deployment has just been replaced and deleted has nothing to revert."""
    with rehearsal() as aws:
        promoted = aws.stage.enable_canary(5, variables=V2)
        promoted.promote()

        def deploy() -> None:
            new_deployment(aws, stageName="prod")
            aws.session.client("apigateway").delete_deployment(
                restApiId=aws.rest_api_id, deploymentId=promoted.deployment_id
            )

        aws.meanwhile("GetDeployments", deploy)
        with pytest.raises(NothingToRevertError):
            aws.stage.revert()


def test_revert_refuses_while_a_canary_runs() -> None:
    """A promotion is not undone under a running canary."""
    with rehearsal() as aws:
        receipt = aws.stage.enable_canary(5, variables=V2).promote()
        aws.stage.enable_canary(5, variables={"alias": "v3"})
        with pytest.raises(CanaryAlreadyEnabledError):
            aws.stage.revert(receipt)


def test_revert_to_a_deleted_deployment_lists_the_others() -> None:
    """Where the previous deployment is gone, the error names those that are left."""
    with rehearsal() as aws:
        old = serving(aws)[0]
        canary = aws.stage.enable_canary(5, variables=V2)
        canary.promote()
        aws.session.client("apigateway").delete_deployment(
            restApiId=aws.rest_api_id, deploymentId=old
        )
        before = serving(aws)
        with pytest.raises(NotFoundError, match=canary.deployment_id):
            aws.stage.revert()
        assert serving(aws) == before


def test_revert_refuses_the_receipt_of_another_stage() -> None:
    """A receipt is of one stage of one API in one region."""
    with rehearsal() as aws:
        receipt = aws.stage.enable_canary(5, variables=V2).promote()
        with pytest.raises(InvalidInputError, match="of stage"):
            aws.stage.revert(attrs.evolve(receipt, region="us-east-1"))


def test_revert_without_a_promotion() -> None:
    """A stage on which nothing was promoted has nothing to revert."""
    with rehearsal() as aws:
        with pytest.raises(NothingToRevertError):
            aws.stage.revert()
        new_deployment(aws, stageName="prod")
        with pytest.raises(NothingToRevertError):
            aws.stage.revert()


def test_a_revert_that_cannot_be_recorded_changes_nothing() -> None:
    """Without the mark a second revert could go too far, so there is no first."""
    with rehearsal() as aws:
        aws.stage.enable_canary(5, variables=V2).promote()
        before = serving(aws)
        aws.fail("UpdateDeployment", Fault.ACCESS_DENIED)
        with pytest.raises(PermissionError, match="did not change it"):
            aws.stage.revert()
        assert serving(aws) == before


# Answers that are lost, and races


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("fault", [Fault.TIMEOUT, Fault.INTERNAL_ERROR, Fault.UNAVAILABLE])
def test_a_change_whose_answer_is_lost_is_settled_by_reading(fault: Fault, after: bool) -> None:
    """Whether or not AWS carried the lost change out, the stage is as asked in the end."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, variables=V2)
        aws.fail("UpdateStage", fault, after=after)
        canary.shift(25)
        assert serving(aws)[2]["percentTraffic"] == 25
        aws.fail("UpdateStage", fault, after=after)
        canary.rollback()
        assert serving(aws)[2] is None


def test_a_change_that_arrives_late_is_noticed() -> None:
    """A lost change that is carried out while it is sent again is success."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, variables=V2)
        aws.fail("UpdateStage", Fault.TIMEOUT)
        aws.meanwhile("GetStage", lambda: patch(aws, remove(CANARY)), skip=1, after=True)
        aws.fail("UpdateStage", Fault.CONNECTION_REFUSED, skip=2)
        aws.stage._calls._retry_for = timedelta(0)
        canary.rollback()
        assert serving(aws)[2] is None


def test_a_change_that_is_lost_again_and_again() -> None:
    """A change that never gets through is said to be that, with the state the stage is in."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, variables=V2)
        for skip in range(3):
            aws.fail("UpdateStage", Fault.TIMEOUT, skip=skip)
        with pytest.raises(UnansweredError, match=r"at 5 %.*not known whether"):
            canary.shift(25)
        assert serving(aws)[2]["percentTraffic"] == 5


def test_a_lost_answer_that_cannot_be_settled_says_so() -> None:
    """Where reading fails too, the error says that the state is not known, and what it was."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, variables=V2)
        aws.fail("UpdateStage", Fault.TIMEOUT)
        aws.fail("GetStage", Fault.EXPIRED_CREDENTIALS, skip=1)
        with pytest.raises(UnansweredError, match="not known") as caught:
            canary.shift(25)
        assert "at 5 %" in str(caught.value.state)
        assert caught.value.state is not None
        assert caught.value.state.sent == ("setting the canary's percent to 25",)


@pytest.mark.parametrize("fault", [Fault.ACCESS_DENIED, Fault.EXPIRED_CREDENTIALS])
def test_a_half_promotion_is_not_said_to_be_nothing(fault: Fault) -> None:
    """Where the second step of a promotion is refused the error says that production has moved."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, release="r1", variables=V2)
        aws.fail("UpdateStage", fault, skip=1)
        with pytest.raises(
            PermissionError, match="made these changes: making the canary's deployment"
        ) as caught:
            canary.promote()
        assert "Nothing was changed" not in str(caught.value)
        assert "Call promote() again to finish" in str(caught.value)


@pytest.mark.long
def test_a_promotion_that_was_only_announced_is_decided_anew() -> None:
    """A promotion that left no trace on the stage does not promote what turned bad since."""
    with rehearsal(backends={"alias=v2": Backend(errors_5xx=0.5)}) as aws:
        canary = aws.stage.enable_canary(50, release="r1", variables=V2)
        aws.fail("UpdateStage", Fault.DEATH)
        with pytest.raises(ProcessDeath):
            canary.promote()
        aws.sleep(3600)
        found = running(aws)
        observation = found.observe(POLICY)
        assert (observation.phase, observation.percent) == ("running", 50)
        found.apply(POLICY.decide(observation))
        assert serving(aws)[1:] == ({"alias": "v1"}, None)


def test_a_rollback_does_not_wait_for_a_record_to_be_applied() -> None:
    """A Rollback is applied by deployment and variables where the record is gone."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, release="r1", variables=V2)
        decision = decided(Rollback, canary.observe(POLICY))
        describe(aws, canary.deployment_id, "wiped")
        running(aws).apply(decision)
        assert serving(aws)[2] is None


def test_a_hotfix_in_a_half_promotion_is_not_overwritten() -> None:
    """Where a promoted variable was changed by hand the canary is ended and the rest is told."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, release="r1", variables=V2)
        aws.fail("UpdateStage", Fault.DEATH, skip=1)
        with pytest.raises(ProcessDeath):
            canary.promote()
        patch(aws, replace("/variables/alias", "v1b"))
        with pytest.raises(StageChangedError, match=r"stage\.revert\(\)"):
            aws.stage.rollback()
        assert serving(aws) == (canary.deployment_id, {"alias": "v1b"}, None)


def test_a_share_set_while_the_canary_is_ended_leaves_none() -> None:
    """AWS makes a canary of a share on a stage without one; it is ended at once."""
    with rehearsal() as aws:
        before = serving(aws)
        canary = aws.stage.enable_canary(5, release="r1", variables=V2)
        aws.meanwhile("UpdateStage", lambda: patch(aws, remove(CANARY)))
        with pytest.raises(StageChangedError, match="and this call ended it"):
            canary.shift(50)
        assert serving(aws) == before


def test_two_promote_at_once() -> None:
    """The one that comes second is told what became of the stage, or that it is done."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, release="r1", variables=V2)
        aws.meanwhile("UpdateStage", running(aws).promote)
        canary.promote()
        assert canary.promote().deployment_after == canary.deployment_id
        assert serving(aws) == (canary.deployment_id, V2, None)


def test_a_deployment_used_again_is_another_rollout() -> None:
    """An object of an earlier rollout does not touch a later one of the same deployment."""
    with rehearsal() as aws:
        own = serving(aws)[0]
        aws.sleep(60)
        first = aws.stage.enable_canary(5, release="r1", deployment_id=own, variables=V2)
        aws.sleep(60)
        fresh(aws).rollback()
        aws.sleep(60)
        second = fresh(aws).enable_canary(5, release="r2", deployment_id=own, variables=V2)
        assert first.observe(POLICY).phase == "replaced"
        for verb in (first.rollback, first.promote, first.disable):
            with pytest.raises(StageChangedError, match="rollout"):
                verb()
        second.shift(10)
        assert second.observe(POLICY).phase == "running"


def test_another_process_that_shifts_is_the_same_rollout() -> None:
    """A share that another process set is no reason to take the canary for another one."""
    with rehearsal() as aws:
        aws.sleep(60)
        canary = aws.stage.enable_canary(5, release="r1", variables=V2)
        aws.sleep(60)
        running(aws).shift(10)
        assert canary.observe(POLICY).phase == "running"
        canary.shift(20)
        assert repr(canary._handle.deployment).startswith(f"<deployment {canary.deployment_id} of")


def test_a_rollback_does_not_wait_to_know_the_rollout() -> None:
    """Where somebody changed the share and the record cannot be read the canary is ended."""
    with rehearsal() as aws:
        aws.sleep(60)
        canary = aws.stage.enable_canary(5, release="r1", variables=V2)
        aws.sleep(60)
        patch(aws, replace(PERCENT, "7.0"))
        aws.fail("GetDeployment", Fault.ACCESS_DENIED)
        canary.rollback()
        assert serving(aws)[2] is None


def test_a_source_that_gives_a_minute_twice_fails() -> None:
    """Such a source is a Hold like any other that fails."""

    class Twice:
        def minutes(self, *_: Any) -> dict[str, list[Minute]]:
            return {"errors_5xx": 2 * [Minute(datetime(2026, 1, 5, 9, tzinfo=UTC), 1, 0, 1, 0)]}

    with rehearsal() as aws:
        canary = fresh(aws, metrics=Twice()).enable_canary(5, variables=V2)
        assert "twice" in (canary.observe(POLICY).failure or "")


def test_what_is_no_decision_or_policy_is_refused() -> None:
    """A newcomer's slip is an error of ours, before anything is sent."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, variables=V2)
        count = len(aws.calls)
        wrong: Any = "promote"
        for act in (canary.apply, canary.observe, aws.stage.revert):
            with pytest.raises(InvalidInputError, match="'promote'"):
                act(wrong)
        assert len(aws.calls) == count


def test_a_refused_change_says_that_nothing_was_changed() -> None:
    """A write that AWS refuses leaves the stage as it was, and the error says so."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, variables=V2)
        aws.fail("UpdateStage", Fault.ACCESS_DENIED)
        with pytest.raises(PermissionError, match=r"apigateway:PATCH.*at 5 %.*did not change it"):
            canary.shift(25)


def test_a_race_about_what_was_asked_is_noticed() -> None:
    """A change outside, between our read and our write, is seen in AWS's answer."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, variables=V2)
        override = replace("/canarySettings/stageVariableOverrides/alias", "v9")
        aws.meanwhile("UpdateStage", lambda: patch(aws, override))
        with pytest.raises(UnconfirmedChangeError, match="variables: alias changed") as caught:
            canary.shift(25)
        assert "v9" not in str(caught.value)
        assert set(caught.value.differences) == {"canary.variables"}


@pytest.mark.parametrize("verb", ["shift", "promote"])
def test_a_change_of_something_else_is_none_of_the_call_s_concern(verb: str) -> None:
    """A colleague's change of another variable, at the same time, does not make a call raise."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, variables=V2)
        aws.meanwhile("UpdateStage", lambda: patch(aws, replace("/variables/color", "red")))
        canary.shift(25) if verb == "shift" else canary.promote()
        assert serving(aws)[1]["color"] == "red"


@pytest.mark.parametrize("after", [False, True])
def test_a_deployment_whose_creation_is_not_answered_is_made_once(after: bool) -> None:
    """A lost CreateDeployment is recognised by its token; a second one is made only if needed."""
    with rehearsal() as aws:
        aws.fail("CreateDeployment", Fault.TIMEOUT, after=after)
        if after:
            aws.stage.enable_canary(5, release="r1", variables=V2)
        else:
            with pytest.raises(UnansweredError, match="did not change it"):
                aws.stage.enable_canary(5, release="r1", variables=V2)
            aws.stage.enable_canary(5, release="r1", variables=V2)
        client = aws.session.client("apigateway")
        assert len(client.get_deployments(restApiId=aws.rest_api_id)["items"]) == 2


def test_a_deployment_with_another_description_is_not_enabled() -> None:
    """Without its record the rollout could not be resumed, so none is begun."""
    with rehearsal() as aws:
        aws.fail("CreateDeployment", Fault.TIMEOUT, after=True)

        def rewrite() -> None:
            client = aws.session.client("apigateway")
            for item in client.get_deployments(restApiId=aws.rest_api_id)["items"]:
                if "description" in item:
                    describe(aws, item["id"], item["description"] + " ")

        aws.meanwhile("GetDeployments", rewrite, skip=1)
        with pytest.raises(RecordError, match="another description"):
            aws.stage.enable_canary(5, release="r1", variables=V2)
        assert serving(aws)[2] is None


@pytest.mark.parametrize("after", [False, True])
def test_a_record_whose_writing_is_not_answered_is_read(after: bool) -> None:
    """A lost UpdateDeployment is settled by reading, and sent again if it did not happen."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, release="r1", variables=V2)
        aws.fail("UpdateDeployment", Fault.TIMEOUT, after=after)
        canary.promote()
        aws.stage.revert()
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, release="r1", variables=V2)
        for skip in range(3):
            aws.fail("UpdateDeployment", Fault.TIMEOUT, skip=skip)
        with pytest.raises(RecordError, match="not begun"):
            canary.promote()
        assert serving(aws)[2] is not None


def test_a_record_that_is_gone() -> None:
    """A canary whose record was wiped is judged from the stage's last change, and promoted."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, release="r1", variables=V2)
        describe(aws, canary.deployment_id, "wiped")
        aws.sleep(120)
        canary.shift(10)
        found = running(aws)
        observation = found.observe(POLICY)
        assert observation.started_at == aws.now()
        found.promote()
        assert description(aws, canary.deployment_id).startswith("wiped\n")
        fresh(aws).revert()
        assert serving(aws)[1] == {"alias": "v1"}
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, release="r1", variables=V2)
        describe(aws, canary.deployment_id, "wiped")
        found = running(aws)
        found.rollback()
        assert serving(aws)[2] is None


@pytest.mark.long
def test_errors_that_come_late_do_not_look_healthy() -> None:
    """With errors published twelve minutes late a canary that fails is not promoted meanwhile."""
    lag = {"5XXError": 12 * MINUTES}
    with rehearsal(
        requests_per_minute=5000, lag=lag, backends={"alias=v2": Backend(errors_5xx=0.5)}
    ) as aws:
        policy = RolloutPolicy.canary(10, 10 * MINUTES)
        before = serving(aws)
        decisions = roll_out(aws, aws.stage.enable_canary(10, variables=V2), policy)
        assert isinstance(decisions[-1], Rollback)
        assert serving(aws) == before


REFUNDS = RolloutPolicy([Step(5, MINUTES)], signals=[Signal.custom("refunds", critical=True)])


def test_a_failing_source_is_in_the_observation() -> None:
    """Metrics that cannot be read do not raise, whosever fault it is: the canary has traffic."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, variables=V2)
        aws.sleep(600)
        seen = canary.observe(POLICY)
        assert (seen.failure, seen.last_complete_at) == (None, aws.now())
        aws.sleep(60)
        aws.fail("GetMetricData", Fault.ACCESS_DENIED)
        seen = canary.observe(POLICY)
        assert "GetMetricData" in (seen.failure or "")
        assert seen.last_complete_at == aws.now() - MINUTES
        aws.fail("GetMetricData", Fault.ACCESS_DENIED)
        seen = canary.observe(POLICY, last_complete_at=aws.now() - 2 * MINUTES)
        assert seen.last_complete_at == aws.now() - 2 * MINUTES
        assert "refunds" in (canary.observe(REFUNDS).failure or "")


@pytest.mark.parametrize(
    "policy, fault, error",
    [(REFUNDS, None, InvalidInputError), (POLICY, Fault.ACCESS_DENIED, AccessDeniedError)],
)
def test_a_canary_that_cannot_be_watched_is_not_enabled(
    policy: RolloutPolicy, fault: Fault | None, error: type[CanaryError]
) -> None:
    """Given the policy its metrics are read before the start; a running canary is returned."""
    with rehearsal() as aws:
        if fault is not None:
            aws.fail("GetMetricData", fault)
        with pytest.raises(error) as e:
            aws.stage.enable_canary(5, variables=V2, policy=policy)
        assert "with no canary. This call did not change it." in str(e.value.state)
        assert sent(aws)[-1] in {"GetDeployments", "GetMetricData"}
        running = aws.stage.enable_canary(5, variables=V2)
        before = len(aws.calls)
        again = aws.stage.enable_canary(5, variables=V2, policy=policy)
        assert again.deployment_id == running.deployment_id
        assert "GetMetricData" not in sent(aws)[before:]


def test_a_policy_is_one() -> None:
    """Something else in its place is an error before the first call."""
    with rehearsal() as aws:
        with pytest.raises(InvalidInputError, match="RolloutPolicy"):
            aws.stage.enable_canary(5, variables=V2, policy="canary")  # type: ignore[arg-type]
        assert aws.calls == []


def test_a_source_that_gives_something_else() -> None:
    """Minutes under a name that nobody asked for are told, and so is the name without minutes."""

    class Refunds:
        def minutes(
            self, stage: StageState, signals: Sequence[Signal], start: datetime, end: datetime
        ) -> dict[str, list[Minute]]:
            return {"refund": [Minute(start, 10, 0, 0, 0)]}

    with rehearsal() as aws:
        seen = fresh(aws, metrics=Refunds()).enable_canary(5, variables=V2).observe(REFUNDS)
        assert seen.not_observed == {
            "refunds": "the source gave no minutes of it, but of refund",
        }


@pytest.mark.parametrize(
    "change, what",
    [
        (replace(PERCENT, "7.0"), "canary.percent: 7 instead of 5"),
        (replace("/variables/table", "hunter2"), "variables: table changed"),
    ],
)
def test_what_somebody_changes_between_two_looks_is_told(change: dict[str, str], what: str) -> None:
    """A share or variable that somebody else sets is in the next sentence, once, without values."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, variables=V2)
        assert canary.observe(POLICY).changed == {}
        patch(aws, change)
        observation = canary.observe(POLICY)
        assert what in str(POLICY.decide(observation))
        assert "hunter2" not in str(observation)
        assert canary.observe(POLICY).changed == {}
        canary.shift(10)
        assert canary.observe(POLICY).changed == {}


@pytest.mark.long
def test_analyze_looks_and_judges() -> None:
    """The evidence so far is one call away."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(50, variables=V2)
        aws.sleep(3600)
        assert canary.analyze(POLICY).verdict == "not_worse"


CACHED = {"cacheClusterEnabled": True}


def test_a_promotion_leaves_the_cache_alone() -> None:
    """Whoever wants it empty says so: every backend gets what the cache would have answered."""
    with rehearsal(settings=CACHED) as aws:
        aws.stage.enable_canary(5, variables=V2).promote()
        assert "FlushStageCache" not in sent(aws)


def test_a_promotion_empties_the_cache_when_asked_to() -> None:
    """After the promotion, and again with the same line."""
    with rehearsal(settings=CACHED) as aws:
        canary = aws.stage.enable_canary(5, variables=V2)
        receipt = canary.promote(flush_cache=True)
        assert sent(aws)[-2:] == ["GetStage", "FlushStageCache"]
        assert canary.promote(flush_cache=True) == receipt
        assert sent(aws).count("FlushStageCache") == 2


def test_a_stage_without_a_cache_has_none_to_empty() -> None:
    """What AWS would say is not known, so it is not asked."""
    with rehearsal() as aws:
        aws.stage.enable_canary(5, variables=V2).promote(flush_cache=True)
        assert "FlushStageCache" not in sent(aws)
        with pytest.raises(RehearsalError, match="without a cache"):
            client(aws).flush_stage_cache(restApiId=aws.rest_api_id, stageName="prod")


@pytest.mark.parametrize("fault", [Fault.ACCESS_DENIED, Fault.TIMEOUT])
def test_a_cache_that_was_not_emptied(fault: Fault) -> None:
    """The error says that the promotion is done, and what the same line does."""
    with rehearsal(settings=CACHED) as aws:
        canary = aws.stage.enable_canary(5, variables=V2)
        aws.fail("FlushStageCache", fault)
        with pytest.raises(CanaryError) as e:
            canary.promote(flush_cache=True)
        assert "The canary is promoted" in e.value.happened
        assert aws.stage.canary() is None
        canary.promote(flush_cache=True)
        assert sent(aws)[-1] == "FlushStageCache"
