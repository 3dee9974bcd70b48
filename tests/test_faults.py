"""Nothing is lost, whatever fails where: the fault matrix, and races that are repaired."""

from __future__ import annotations

import pytest

from acting import PERCENT, V2, new_deployment, patch, replace, serving
from apigw_canary import Stage
from apigw_canary.errors import (
    CredentialsError,
    NotFoundError,
    StageChangedError,
    ThrottledError,
    UnconfirmedChangeError,
)
from apigw_canary.testing import Fault, rehearsal
from fault_matrix import OPERATIONS, Operation, cases, prepared, run


@pytest.mark.long
@pytest.mark.no_cover
@pytest.mark.parametrize("operation", OPERATIONS, ids=[each.name for each in OPERATIONS])
def test_every_fault_at_every_call(operation: Operation) -> None:
    """An operation succeeds or raises our error, and the same line again ends as asked."""
    with prepared(operation) as aws:
        found = list(cases(operation, aws))
        assert len(found) >= 13
        for case in found:
            result = run(case, aws)
            assert not result.wrong, f"{case}: {result}"
            assert result.second == "ok", f"{case}: {result}"


def test_a_wrong_promotion_is_repaired() -> None:
    """A canary that was replaced while it was promoted is ended, and production is what it was."""
    with rehearsal(variables={"alias": "v1", "table": "t"}) as aws:
        before = serving(aws)
        canary = aws.stage.enable_canary(5, release="r1", variables=V2)

        def hijack() -> None:
            patch(
                aws,
                replace("/canarySettings/deploymentId", new_deployment(aws)),
                replace("/canarySettings/stageVariableOverrides/new", "hunter2"),
                replace("/canarySettings/stageVariableOverrides/alias", "v9"),
            )

        aws.meanwhile("UpdateStage", hijack)
        with pytest.raises(
            StageChangedError,
            match="That canary was ended, and production serves what it served before",
        ) as caught:
            canary.promote()
        assert "hunter2" not in str(caught.value)
        assert serving(aws) == before


def test_another_race_while_promoting_is_told() -> None:
    """A variable that is set outside meanwhile is left alone, and the promotion succeeds."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, release="r1", variables=V2)
        aws.meanwhile("UpdateStage", lambda: patch(aws, replace("/variables/other", "x")))
        promotion = canary.promote()
        assert promotion.deployment_after == canary.deployment_id
        assert serving(aws) == (canary.deployment_id, {"alias": "v2", "other": "x"}, None)


def test_a_canary_that_goes_while_it_is_promoted_is_told() -> None:
    """A share that somebody sets right after the promotion does not hide it."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, release="r1", variables=V2)
        aws.fail("UpdateStage", Fault.TIMEOUT, after=True)
        aws.meanwhile("GetStage", lambda: patch(aws, replace(PERCENT, "7.0")), skip=2)
        with pytest.raises(UnconfirmedChangeError, match="7 instead of 0"):
            canary.promote()
        canary.promote()
        assert serving(aws) == (canary.deployment_id, V2, None)


def test_an_error_tells_what_was_seen_last() -> None:
    """With expired credentials the error names the share that is left serving, as seen last."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(25, release="r1", variables=V2)
        canary.describe()
        aws.fail("GetStage", Fault.EXPIRED_CREDENTIALS)
        with pytest.raises(CredentialsError, match=r"As read last, at 09:00:00 UTC: .* at 25 %"):
            canary.rollback()


def test_conflicts_of_an_api_that_does_not_exist_end_as_not_found() -> None:
    """An API that is not there can answer with conflicts for ever; that is found out."""
    with rehearsal() as aws:
        stage = Stage("nosuchapi1", "prod", session=aws.session, sleep=aws.sleep)
        for skip in range(40):
            aws.fail("GetStage", Fault.CONFLICT, skip=skip)
        with pytest.raises(NotFoundError, match=r"eu-central-1.*nosuchapi1"):
            stage.describe()


@pytest.mark.parametrize(
    "fault, text", [(Fault.CONFLICT, "concurrent modification"), (Fault.THROTTLED, "Too Many")]
)
def test_an_aws_that_stays_busy_is_given_up(fault: Fault, text: str) -> None:
    """What AWS refuses for as long as `retry_for` allows is an error that says so."""
    with rehearsal() as aws:
        for skip in range(40):
            aws.fail("GetStage", fault, skip=skip)
        with pytest.raises(ThrottledError, match=text):
            aws.stage.describe()
