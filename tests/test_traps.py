"""The six traps of API Gateway's canaries: raw boto3 falls into each, the library does not."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from acting import COPIES, PERCENT, V2, new_deployment, patch, replace, serving
from apigw_canary.errors import CanaryAlreadyEnabledError, NoCanaryError
from apigw_canary.testing import rehearsal


def test_trap_1_a_percent_creates_a_canary() -> None:
    """Shifting a canary that is gone creates one by raw call; the library refuses."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, variables=V2)
        aws.stage.rollback()
        with pytest.raises(NoCanaryError, match="ended"):
            canary.shift(25)
        assert serving(aws)[2] is None
        patch(aws, replace(PERCENT, "25.0"))
        assert serving(aws)[2]["percentTraffic"] == 25


def test_trap_2_the_documented_promotion_succeeds_without_a_canary() -> None:
    """Promoting a canary that is gone leaves a 0 % canary by raw call; the library refuses."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, variables=V2)
        aws.stage.rollback()
        before = serving(aws)
        with pytest.raises(NoCanaryError):
            canary.promote()
        assert serving(aws) == before
        patch(aws, replace(PERCENT, "0.0"), *COPIES)
        assert serving(aws)[2]["percentTraffic"] == 0


def test_trap_3_a_promotion_does_not_end_the_canary() -> None:
    """The documented promotion leaves the canary enabled; the library merges and ends it."""
    with rehearsal(variables={"alias": "v1", "table": "t"}) as aws:
        aws.stage.enable_canary(5, variables=V2)
        patch(aws, replace(PERCENT, "0.0"), *COPIES)
        assert serving(aws)[2] is not None
    with rehearsal(variables={"alias": "v1", "table": "t"}) as aws:
        canary = aws.stage.enable_canary(
            5, variables={"alias": "v2", "new": "n"}, accept={"unused_variables"}
        )
        canary.promote()
        assert serving(aws) == (
            canary.deployment_id,
            {"alias": "v2", "table": "t", "new": "n"},
            None,
        )


def test_trap_4_a_promotion_forgets_what_it_overwrote() -> None:
    """After a raw promotion nothing on AWS knows the way back; the library keeps it there."""
    with rehearsal() as aws:
        before = serving(aws)
        aws.stage.enable_canary(
            5, variables={"alias": "v2", "new": "n"}, accept={"unused_variables"}
        ).promote()
        assert serving(aws)[:2] != before[:2]
        aws.stage.revert()
        assert serving(aws) == before


def test_trap_5_ordinary_deployments_are_refused_or_take_over() -> None:
    """With a canary enabled, a raw deployment fails, or takes the canary over; we refuse both."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, release="r1", variables=V2)
        with pytest.raises(ClientError, match="because Canary is enabled"):
            new_deployment(aws, stageName="prod")
        with pytest.raises(CanaryAlreadyEnabledError):
            aws.stage.enable_canary(5, release="r2", variables=V2)
        assert serving(aws)[2]["deploymentId"] == canary.deployment_id
        taken = new_deployment(
            aws,
            stageName="prod",
            canarySettings={"percentTraffic": 50, "stageVariableOverrides": V2},
        )
        assert serving(aws)[2]["deploymentId"] == taken != canary.deployment_id


def test_trap_6_a_deployment_with_a_stage_name_replaces_production() -> None:
    """Deploying to the stage replaces production by raw call; enabling a canary does not."""
    with rehearsal() as aws:
        before = serving(aws)
        aws.stage.enable_canary(5, variables=V2)
        assert serving(aws)[:2] == before[:2]
        aws.stage.rollback()
        assert serving(aws) == before
        replaced = new_deployment(aws, stageName="prod")
        assert serving(aws)[0] == replaced != before[0]
