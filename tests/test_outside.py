"""Changes from outside a rollout: refused, found from the record, and never taken for its own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from acting import V2, describe, fresh, new_deployment, patch, remove, replace, sent, serving
from apigw_canary import AliasCanary, Canary, LambdaAlias, Outcome, RolloutPolicy
from apigw_canary.errors import NoCanaryError, StageChangedError
from apigw_canary.testing import Backend, Rehearsal, rehearsal

POLICY = RolloutPolicy.canary(10, timedelta(minutes=10))
QUIET: dict[str, Any] = {"requests_per_minute": 60, "history": timedelta(0)}
CANARY = "/canarySettings"
OVERRIDE = "/canarySettings/stageVariableOverrides/alias"


def enabled(aws: Rehearsal, release: str = "r1") -> Canary:
    aws.sleep(60)
    canary = aws.stage.enable_canary(10, release=release, variables=V2)
    aws.sleep(60)
    return canary


def found(aws: Rehearsal) -> Canary:
    """The canary as a process finds it that starts afresh."""
    canary = fresh(aws).canary()
    assert canary is not None
    return canary


def writes(aws: Rehearsal) -> int:
    return sum(name.startswith(("Update", "Create")) for name in sent(aws))


# Production


@pytest.mark.parametrize("who", [lambda aws, canary: canary, lambda aws, _: found(aws)])
@pytest.mark.parametrize("options", [{}, {"unrecorded": True}, {"flush_cache": True}])
def test_a_promotion_by_hand_refuses_changes_of_production(
    who: Callable[[Rehearsal, Canary], Canary], options: dict[str, bool]
) -> None:
    """It sends nothing and names the call that accepts them; after that it promotes."""
    with rehearsal(**QUIET) as aws:
        canary = enabled(aws)
        patch(aws, replace("/variables/alias", "v9"))
        promoting, before, sent_before = who(aws, canary), serving(aws), writes(aws)
        with pytest.raises(StageChangedError, match=r"accept_production_changes\(\)") as raised:
            promoting.promote(**options)
        assert set(raised.value.differences) == {"variables.alias"}
        assert "v9" not in str(raised.value)
        assert (serving(aws), writes(aws)) == (before, sent_before)
        promoting.shift(20)  # beside production, which it does not change
        found(aws).accept_production_changes()
        assert canary.promote(**options).variables_before == {"alias": "v9"}


def test_a_variable_that_the_canary_leaves_alone_is_nobody_s_concern() -> None:
    """It reaches both variants, and a promotion keeps it."""
    with rehearsal(**QUIET) as aws:
        canary = enabled(aws)
        patch(aws, replace("/variables/color", "blue"))
        canary.promote()
        assert serving(aws)[1] == {"alias": "v2", "color": "blue"}


def weighted(aws: Rehearsal) -> LambdaAlias:
    return LambdaAlias("orders", "v1", session=aws.session, sleep=aws.sleep)


def weighted_canary(aws: Rehearsal) -> AliasCanary:
    canary = weighted(aws).canary()
    assert canary is not None
    return canary


def route(aws: Rehearsal, **parameters: Any) -> None:
    aws.session.client("lambda").update_alias(FunctionName="orders", Name="v1", **parameters)


def test_a_promotion_of_an_alias_by_hand_refuses_changes_of_production() -> None:
    """As on a stage; an acceptance of another process counts."""
    with rehearsal(versions=[Backend()] * 3, **QUIET) as aws:
        canary = weighted(aws).enable_canary(10, version="2", release="r1")
        route(aws, FunctionVersion="3")
        for each in (canary, weighted_canary(aws)):
            with pytest.raises(StageChangedError, match=r"accept_production_changes\(\)"):
                each.promote()
        assert weighted(aws).describe().deployment_id == "3"
        weighted_canary(aws).accept_production_changes()
        canary.shift(20)
        assert canary.promote().deployment_before == "3"


# The canary's overrides and percent


def test_an_override_that_is_changed_makes_another_canary() -> None:
    """What was judged was another one; a promotion of it has a way back all the same."""
    with rehearsal(**QUIET) as aws:
        old = serving(aws)[0]
        canary = enabled(aws)
        patch(aws, replace(OVERRIDE, "v3"))
        changed_at = aws.now()
        aws.sleep(120)
        assert canary.observe(POLICY).phase == "replaced"
        with pytest.raises(StageChangedError, match=r"running, but it is not as requested"):
            fresh(aws).enable_canary(10, release="r1", variables=V2)
        other = found(aws)
        assert other.release is None
        seen = other.observe(POLICY)
        assert (seen.phase, seen.started_at) == ("running", changed_at)
        receipt = other.promote()
        assert receipt.variables_after == {"alias": "v3"}
        assert fresh(aws).revert(dry_run=True) == receipt
        fresh(aws).revert()
        assert serving(aws) == (old, {"alias": "v1"}, None)


@pytest.mark.long
def test_a_canary_that_was_enabled_outside_on_the_deployment_of_an_earlier_one() -> None:
    """Production is compared with what it was when that canary was found."""
    with rehearsal(**QUIET) as aws:
        canary = enabled(aws)
        canary.rollback()
        new_deployment(aws, stageName="prod")
        operations = [
            replace("/canarySettings/deploymentId", canary.deployment_id),
            replace("/canarySettings/percentTraffic", "10.0"),
            replace(OVERRIDE, "v2"),
        ]
        patch(aws, *operations)
        other = found(aws)
        assert other.release is None
        assert other.observe(POLICY).production_changed == {}
        other.promote()
        receipt = fresh(aws).revert()
        assert receipt is not None
        assert receipt.deployment_after == canary.deployment_id


def test_a_percent_that_was_set_outside() -> None:
    """Its step begins when it was set; that it is no step of the policy is said."""
    with rehearsal(**QUIET) as aws:
        enabled(aws)
        patch(aws, replace("/canarySettings/percentTraffic", "30.0"))
        at = aws.now()
        aws.sleep(120)
        seen = found(aws).observe(POLICY)
        assert (seen.percent, seen.step_started_at) == (30, at)
        assert any("30 % is no step of the policy" in note for note in seen.notes)
        found(aws).shift(10)
        assert found(aws).observe(POLICY).changed == {}


def test_a_percent_of_an_alias_that_was_set_outside_is_found_from_the_record() -> None:
    """By a process an observation; what this library set is never reported."""
    with rehearsal(versions=[Backend()] * 3, **QUIET) as aws:
        weighted(aws).enable_canary(10, version="2", release="r1")
        assert weighted_canary(aws).observe(POLICY).changed == {}
        route(aws, RoutingConfig={"AdditionalVersionWeights": {"2": 0.3}})
        seen = weighted_canary(aws).observe(POLICY)
        assert seen.changed == {"canary.percent": "30 instead of 10"}
        weighted_canary(aws).shift(33.33)
        assert weighted_canary(aws).observe(POLICY).changed == {}


# Endings


def test_a_late_note_does_not_end_another_rollout() -> None:
    """The deployment of a canary that was ended has the next rollout before the note is written."""
    with rehearsal(**QUIET) as aws:
        canary = enabled(aws)
        describe(aws, canary.deployment_id, "the record is lost")

        def meanwhile() -> None:
            aws.sleep(1)
            fresh(aws).enable_canary(
                10, release="r2", variables=V2, deployment_id=canary.deployment_id
            )
            aws.sleep(1)

        aws.meanwhile("GetDeployment", meanwhile, skip=1)  # the first one announces it
        fresh(aws).rollback()
        rollout = fresh(aws).describe().rollout
        assert rollout is not None
        assert (rollout.release, rollout.outcome) == ("r2", None)
        aws.stage.rollback()
        rollout = fresh(aws).describe().rollout
        assert rollout is not None
        assert (rollout.release, rollout.outcome) == ("r2", Outcome.ROLLED_BACK)


def test_a_canary_that_is_ended_while_it_is_promoted() -> None:
    """AWS refuses the promotion; the error says that the canary was ended."""
    with rehearsal(**QUIET) as aws:
        canary, before = enabled(aws), serving(aws)
        aws.meanwhile("UpdateStage", lambda: patch(aws, remove(CANARY)))
        with pytest.raises(NoCanaryError, match="it was ended") as raised:
            canary.promote()
        assert raised.value.state is not None
        assert raised.value.state.stage is not None
        assert raised.value.state.stage.canary is None
        assert serving(aws) == (*before[:2], None)
