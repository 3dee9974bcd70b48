"""How rollouts end where they have no name, where their record is gone, and where several are."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from acting import (
    CANARY,
    COPIES,
    PERCENT,
    V2,
    client,
    describe,
    fresh,
    new_deployment,
    patch,
    remove,
    replace,
)
from apigw_canary import Canary, Outcome, RolloutPolicy, permissions
from apigw_canary.changes.sending import Known
from apigw_canary.errors import StageChangedError
from apigw_canary.model import outcomes
from apigw_canary.testing import Backend, Fault, ProcessDeath, Rehearsal, rehearsal

POLICY = RolloutPolicy.canary(5, timedelta(minutes=10))


def phase_of(canary: Canary) -> str:
    return canary.observe(POLICY).phase


def test_without_a_release() -> None:
    """A rollout without a name has its ending from the record of its deployment."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, variables=V2)
        fresh(aws).rollback()
        assert phase_of(canary) == "rolled_back"


def test_without_a_release_and_with_another_rollout_of_the_deployment() -> None:
    """The record of a later rollout of the same deployment says nothing about the earlier one."""
    with rehearsal() as aws:
        deployment_id = new_deployment(aws)
        canary = aws.stage.enable_canary(5, variables=V2, deployment_id=deployment_id)
        patch(aws, remove(CANARY))
        aws.sleep(60)
        later = fresh(aws).enable_canary(5, variables={"alias": "v3"}, deployment_id=deployment_id)
        later.rollback()
        assert phase_of(canary) == "removed_outside"


@pytest.mark.parametrize(
    "by_hand, phase", [([], "removed_outside"), (COPIES, "promoted_outside")], ids=["", "copied"]
)
@pytest.mark.parametrize("release", [None, "r1"])
def test_without_a_record(release: str | None, by_hand: list[dict[str, str]], phase: str) -> None:
    """Without a record, what production serves tells how it ended."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, release=release, variables=V2)
        describe(aws, canary.deployment_id, "deployed by another tool")
        if by_hand:
            patch(aws, *by_hand)
        patch(aws, remove(CANARY))
        assert phase_of(canary) == phase


def test_a_canary_made_by_hand_is_judged() -> None:
    """Of another deployment than production's, with no variables and no record."""
    with rehearsal() as aws:
        other = new_deployment(aws)
        patch(aws, replace("/canarySettings/deploymentId", other), replace(PERCENT, "5.0"))
        canary = fresh(aws).canary()
        assert canary is not None
        observation = canary.observe(POLICY)
        assert (observation.phase, observation.suspect) == ("running", None)
        canary.promote(unrecorded=True)
        assert fresh(aws).describe().deployment_id == other


def test_a_release_whose_canary_runs_has_not_ended() -> None:
    """Neither has its deployment; nor is it the latest ending."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, release="r1", variables=V2)
        state = aws.stage.describe()
        records = aws.stage._control.all_records()
        assert outcomes.ending(canary.deployment_id, records, state) is None
        assert outcomes.of_release("r1", records, state) is None
        assert outcomes.latest(records, state) is None


def test_a_promotion_that_was_announced_counts_where_production_has_moved_on() -> None:
    """Whether it was carried out before production moved on is not known: it is not begun again."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, release="r1", variables=V2)
        aws.fail("UpdateStage", Fault.DEATH)
        with suppress(ProcessDeath):
            canary.promote()
        patch(aws, remove(CANARY))
        patch(aws, replace("/deploymentId", new_deployment(aws)))
        rollout = fresh(aws).describe().rollout
        assert rollout is not None
        assert rollout.outcome is Outcome.PROMOTED


def finish(aws: Rehearsal) -> None:
    canary = fresh(aws).canary()
    assert canary is not None
    canary.promote()


def test_another_process_finishes_a_half_promotion() -> None:
    """Found half done with a variable of production's changed since, and finished meanwhile."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, release="r1", variables=V2)
        aws.fail("UpdateStage", Fault.DEATH, skip=1)
        with suppress(ProcessDeath):
            canary.promote()
        patch(aws, replace("/variables/alias", "v7"))
        again = fresh(aws).canary()
        assert again is not None
        aws.meanwhile("GetDeployment", lambda: finish(aws))
        with suppress(StageChangedError):
            again.promote()
        state = fresh(aws).describe()
        assert (state.deployment_id, state.canary) == (canary.deployment_id, None)


def promote_by_hand(aws: Rehearsal, how: str) -> None:
    patch(aws, *COPIES)
    if how == "copies and ends":
        patch(aws, remove(CANARY))


@pytest.mark.parametrize("by_hand", ["copies", "copies and ends"])
def test_a_promotion_by_hand_while_changes_are_accepted(by_hand: str) -> None:
    """What the promotion overwrote stays on record, whichever write is later."""
    for skip in range(3):
        with rehearsal() as aws:
            canary = aws.stage.enable_canary(5, release="r1", variables=V2)
            patch(aws, replace("/variables/alias", "v0"))
            aws.meanwhile("UpdateDeployment", partial(promote_by_hand, aws, by_hand), skip=skip)
            with suppress(StageChangedError):
                canary.accept_production_changes()
            assert fresh(aws).describe().deployment_id in {
                canary.deployment_id,
                aws.stage.describe().deployment_id,
            }


@pytest.mark.traced
@pytest.mark.long
@pytest.mark.parametrize(
    "change, phase",
    [
        ({"Description": "set by another tool"}, "running"),
        (
            {
                "FunctionVersion": "2",
                "RoutingConfig": {"AdditionalVersionWeights": {}},
                "Description": "",
            },
            "promoted_outside",
        ),
        ({"RoutingConfig": {"AdditionalVersionWeights": {}}, "Description": ""}, "removed_outside"),
    ],
    ids=["description", "promoted", "removed"],
)
def test_an_alias_that_is_changed_by_hand(change: dict[str, Any], phase: str) -> None:
    """Without its record an alias tells by its versions how the rollout stands."""
    with rehearsal(versions=[Backend(), Backend()], variables={"alias": "live"}) as aws:
        canary = aws.alias("live").enable_canary(10, version="2", release="r1")
        functions = aws.session.client("lambda")
        functions.update_alias(FunctionName="orders", Name="live", **change)
        assert canary.observe(POLICY).phase == phase


def test_the_client_of_the_tests_is_this_rehearsals() -> None:
    """What is done by hand is done to the stage that is looked at."""
    with rehearsal() as aws:
        stages = client(aws).get_stages(restApiId=aws.rest_api_id)["item"]
        assert [stage["stageName"] for stage in stages] == ["prod"]


def test_without_a_release_and_without_a_record_of_it() -> None:
    """A canary that was found without a record ends as production shows."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, variables=V2)
        describe(aws, canary.deployment_id, "deployed by another tool")
        found = fresh(aws).canary()
        assert found is not None
        patch(aws, remove(CANARY))
        assert phase_of(found) == "removed_outside"


def test_what_is_done_outside_a_call_is_in_no_error() -> None:
    """Only a call of the library has a state to report."""
    known: Known[Any] = Known()
    known.refused("a change")
    known.made("a change")
    assert not known.is_sent("a change")
    with known.call():
        assert not known.is_sent("a change")


def test_a_policy_without_alarms_needs_no_permission_for_them() -> None:
    """Its document is the one of a policy that is not given."""
    with rehearsal() as aws:
        assert permissions(aws.stage, "observe", policy=POLICY) == permissions(aws.stage, "observe")


def test_an_older_read_does_not_replace_a_newer_one() -> None:
    """AWS may answer with the state from before a change."""
    with rehearsal() as aws:
        older = aws.stage._control.read()
        aws.sleep(60)
        patch(aws, replace("/variables/other", "x"))
        newer = aws.stage._control.read()
        known: Known[Any] = Known()
        for seen in (newer, older):
            known.saw(seen)
        assert known.last is newer
