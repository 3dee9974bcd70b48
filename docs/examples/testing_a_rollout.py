"""Tests of a rollout of one's own, with pytest: good and bad releases, and what can go wrong.

What is tested is `release` of script.py beside this file.
"""

from collections.abc import Iterator

import pytest

from apigw_canary import Stage
from apigw_canary.errors import AccessDeniedError
from apigw_canary.testing import Backend, Fault, ProcessDeath, Rehearsal, rehearsal
from script import release

NAME = "2026-11-23.1"


@pytest.fixture
def aws() -> Iterator[Rehearsal]:
    """An API Gateway of this test's own, where v2 is as good as v1."""
    with rehearsal() as rehearsed:
        yield rehearsed


def test_a_good_release_is_promoted(aws: Rehearsal) -> None:
    """It becomes production, and no canary is left."""
    assert release(aws.stage, NAME, sleep=aws.sleep)
    state = aws.stage.describe()
    assert dict(state.variables) == {"alias": "v2"}
    assert state.canary is None


def test_a_bad_release_is_rolled_back() -> None:
    """Production is as before and few requests have failed, although AWS is busy that day."""
    with rehearsal(backends={"alias=v2": Backend(errors_5xx=0.1)}) as aws:
        began = aws.now()
        aws.fail("CreateDeployment", Fault.THROTTLED)
        aws.fail("UpdateStage", Fault.CONFLICT, skip=1)
        assert not release(aws.stage, NAME, sleep=aws.sleep)
        assert dict(aws.stage.describe().variables) == {"alias": "v1"}
        assert sum(row.errors_5xx for row in aws.served if row.at >= began) < 100


def test_it_goes_on_where_a_process_died(aws: Rehearsal) -> None:
    """The same script, run again from its first line, finishes the promotion."""
    aws.fail("UpdateStage", Fault.DEATH, skip=6)
    with pytest.raises(ProcessDeath):
        release(aws.stage, NAME, sleep=aws.sleep)
    another = Stage(aws.rest_api_id, "prod", session=aws.session, sleep=aws.sleep)
    assert release(another, NAME, sleep=aws.sleep)


def test_a_missing_permission_changes_nothing(aws: Rehearsal) -> None:
    """It fails at the first step, and names the action."""
    before = aws.stage.describe()
    aws.fail("CreateDeployment", Fault.ACCESS_DENIED)
    with pytest.raises(AccessDeniedError) as caught:
        release(aws.stage, NAME, sleep=aws.sleep)
    assert caught.value.action == "apigateway:POST"
    assert aws.stage.describe() == before


if __name__ == "__main__":
    raise SystemExit(pytest.main(["-q", "-p", "no:cacheprovider", __file__]))
