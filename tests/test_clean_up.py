"""Cleaning up: what nothing needs is deleted, and nothing else, whatever was released before."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acting import V2, Store, client, describe, description, fresh, new_deployment, sent, serving
from apigw_canary import CleanUp, Promotion, Report
from apigw_canary.changes import clean_up as module
from apigw_canary.errors import (
    InvalidInputError,
    NotFoundError,
    NothingToRevertError,
    RolloutEndedError,
)
from apigw_canary.testing import Backend, Fault, Rehearsal, rehearsal
from apigw_canary.testing.answers import Refusal

DAY = 24 * 3600
MONTH = 31 * DAY
EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"


@pytest.fixture
def aws() -> Iterator[Rehearsal]:
    with rehearsal() as aws:
        yield aws


def wait(aws: Rehearsal, seconds: float) -> None:
    """Months pass, without the traffic of each of their minutes."""
    aws._now += timedelta(seconds=seconds)
    aws._traffic._until["prod"] = aws.now().replace(second=0, microsecond=0)


def there(aws: Rehearsal) -> set[str]:
    """The deployments that the API has."""
    found = client(aws).get_deployments(restApiId=aws.rest_api_id, limit=500)["items"]
    return {each["id"] for each in found}


def release(aws: Rehearsal, name: str | None, **options: Any) -> str:
    """A canary that is enabled and rolled back; its deployment."""
    canary = fresh(aws).enable_canary(5, release=name, variables=V2, **options)
    fresh(aws).rollback()
    return canary.deployment_id


def promoted(aws: Rehearsal, name: str | None, alias: str) -> Promotion:
    canary = fresh(aws).enable_canary(5, release=name, variables={"alias": alias})
    return canary.promote()


def deleted(aws: Rehearsal) -> int:
    return sent(aws).count("DeleteDeployment")


class TestWhatIsNeeded:
    @pytest.mark.long
    def test_after_ten_rollouts(self, aws: Rehearsal) -> None:
        """Only what nothing needs is deleted, and the last two promotions can be undone."""
        first = serving(aws)[0]
        receipts, rolled_back = [], []
        for i in range(5):
            receipts.append(promoted(aws, f"good-{i}", f"v{i + 10}"))
            rolled_back.append(release(aws, f"bad-{i}"))
            wait(aws, MONTH)
        before = there(aws)

        planned = aws.stage.clean_up(keep=0, dry_run=True)
        assert there(aws) == before
        result = aws.stage.clean_up(keep=0)
        assert result == planned
        last = [receipt.deployment_after for receipt in receipts]
        assert set(result.kept) == set(last[2:])
        assert set(result.removed) == {*last[:2], *rolled_back}
        assert there(aws) == {first, *last[2:]}
        assert str(result) == "10 deployments of this library: 7 removed, 3 kept, 0 refused."

        fresh(aws).revert()
        assert serving(aws)[:2] == (last[3], {"alias": "v13"})
        fresh(aws).revert(receipts[3])
        assert serving(aws)[:2] == (last[2], {"alias": "v12"})

    @pytest.mark.parametrize("keep", [0, 1, 3, 10, 10**6])
    def test_the_newest_are_kept(self, aws: Rehearsal, keep: int) -> None:
        """As many as asked for, and the newest first in the result."""
        made = []
        for i in range(5):
            made.append(release(aws, f"r{i}"))
            wait(aws, MONTH)
        result = aws.stage.clean_up(keep)
        assert [each.deployment_id for each in result.items] == made[::-1]
        assert result.kept == tuple(made[::-1][:keep])
        assert set(result.removed) == set(made[: max(5 - keep, 0)])

    @pytest.mark.parametrize("days, kept", [(1, True), (29, True), (31, False)])
    def test_the_record_of_a_young_release(self, aws: Rehearsal, days: int, kept: bool) -> None:
        """It is kept for 30 days, and the release is refused as long as it is."""
        deployment = release(aws, "r1")
        wait(aws, days * DAY)
        assert (deployment in aws.stage.clean_up(keep=0).kept) is kept
        if kept:
            with pytest.raises(RolloutEndedError):
                release(aws, "r1")
        else:
            assert release(aws, "r1") != deployment

    def test_without_a_release(self, aws: Rehearsal) -> None:
        """Nothing is remembered of it: an hour is enough, in which it may be about to begin."""
        deployment = release(aws, None)
        wait(aws, 3000)
        (item,) = aws.stage.clean_up(keep=0).items
        assert (item.outcome, item.release) == ("kept", None)
        assert "less than an hour old" in item.reason
        wait(aws, 3000)
        assert aws.stage.clean_up(keep=0).removed == (deployment,)

    def test_a_running_canary(self, aws: Rehearsal) -> None:
        """However old, and whatever it came from."""
        old = promoted(aws, "r1", "v1a")
        wait(aws, MONTH)
        canary = fresh(aws).enable_canary(5, release="r2", variables=V2)
        wait(aws, 2 * MONTH)
        result = aws.stage.clean_up(keep=0)
        assert set(result.kept) == {old.deployment_after, canary.deployment_id}
        assert result.removed == ()
        assert "the canary of stage prod" in result.items[0].reason
        assert "production of stage prod" in result.items[1].reason

    def test_another_stage(self, aws: Rehearsal) -> None:
        """What another stage of the API serves, in production or as a canary, is not deleted."""
        served, as_canary, unused = (release(aws, f"r{i}") for i in range(3))
        client(aws).create_stage(
            restApiId=aws.rest_api_id,
            stageName="staging",
            deploymentId=served,
            canarySettings={"deploymentId": as_canary, "percentTraffic": 5.0},
        )
        wait(aws, MONTH)
        result = aws.stage.clean_up(keep=0)
        assert set(result.kept) == {served, as_canary}
        assert result.removed == (unused,)

    def test_the_way_back_of_another_stage(self, aws: Rehearsal) -> None:
        """What another stage would go back to by its own records is not deleted."""
        first, second = release(aws, "r1"), release(aws, "r2")
        client(aws).create_stage(restApiId=aws.rest_api_id, stageName="staging", deploymentId=first)
        staging = self.stage(aws, "staging")
        staging.enable_canary(5, release="s1", deployment_id=second).promote()
        wait(aws, MONTH)
        result = aws.stage.clean_up(keep=0)
        # The second has a record of staging too, and so is left alone.
        assert result.kept == (first,)
        assert "a revert needs it on stage staging" in result.items[0].reason
        staging.revert()
        assert staging.describe().deployment_id == first

    def stage(self, aws: Rehearsal, name: str) -> Any:
        from apigw_canary import Stage

        return Stage(aws.rest_api_id, name, session=aws.session, sleep=aws.sleep)

    def test_a_promotion_that_was_undone(self, aws: Rehearsal) -> None:
        """Production stays where it is, and the release is not forgotten."""
        promoted(aws, "r1", "v1a")
        bad = promoted(aws, "r2", "v2")
        fresh(aws).revert()
        wait(aws, 20 * DAY)
        assert bad.deployment_after in aws.stage.clean_up(keep=0).kept
        fresh(aws).revert()  # it has been undone already
        with pytest.raises(RolloutEndedError):
            fresh(aws).enable_canary(5, release="r2", variables=V2)

    def test_variables_only(self, aws: Rehearsal) -> None:
        """Canaries of production's own deployment leave nothing to be deleted."""
        own = serving(aws)[0]
        for i in range(3):
            canary = fresh(aws).enable_canary(
                5, release=f"r{i}", variables={"alias": f"v{i + 5}"}, deployment_id=own
            )
            canary.promote()
            wait(aws, MONTH)
        assert aws.stage.clean_up(keep=0).items == ()
        fresh(aws).revert()
        assert serving(aws)[1] == {"alias": "v6"}

    def test_records_in_a_store(self) -> None:
        """Records in a store of the caller's are what is gone by."""
        with rehearsal() as aws:
            store = Store()
            old = release_with(aws, "r1", store)
            wait(aws, MONTH)
            new = release_with(aws, "r2", store)
            assert fresh(aws, records=Store()).clean_up(keep=0).items == ()
            result = fresh(aws, records=store).clean_up(keep=0)
            assert (result.removed, result.kept) == ((old,), (new,))


def release_with(aws: Rehearsal, name: str, store: Any) -> str:
    canary = fresh(aws, records=store).enable_canary(5, release=name, variables=V2)
    canary.rollback()
    return canary.deployment_id


class TestWhatIsLeftAlone:
    def test_deployments_of_others(self, aws: Rehearsal) -> None:
        """Those of other tools, with and without a rollout of ours, and with odd descriptions."""
        others = {
            new_deployment(aws),
            new_deployment(aws, description="release 7"),
            new_deployment(aws, description="apigw-canary:"),
            new_deployment(aws, description="apigw-canary:2:prod:{"),
            new_deployment(aws, description='apigw-canary:1:prod:{"rollout":{}}'),
        }
        wait(aws, 60)
        chosen = new_deployment(aws)
        wait(aws, 60)
        release(aws, "r1", deployment_id=chosen)
        wait(aws, MONTH)
        assert aws.stage.clean_up(keep=0) == CleanUp(items=())
        assert there(aws) >= {*others, chosen}

    def test_a_second_record(self, aws: Rehearsal) -> None:
        """One that another stage has a record on is that stage's as well."""
        deployment = release(aws, "r1")
        text = description(aws, deployment)
        describe(aws, deployment, text + "\n" + text.replace(":prod:", ":staging:"))
        wait(aws, MONTH)
        assert aws.stage.clean_up(keep=0).items == ()

    def test_a_record_that_cannot_be_read(self, aws: Rehearsal) -> None:
        """Where it is not known what production came from, nothing is deleted."""
        old = release(aws, "r0")
        receipt = promoted(aws, "r1", "v1a")
        text = description(aws, receipt.deployment_after)
        describe(aws, receipt.deployment_after, text[:-9])
        wait(aws, MONTH)
        (item,) = aws.stage.clean_up(keep=0).items
        assert (item.deployment_id, item.outcome) == (old, "kept")
        assert "what stage prod needs is not known" in item.reason
        describe(aws, receipt.deployment_after, text)
        assert aws.stage.clean_up(keep=0).removed == (old,)

    def test_production_that_is_deployed_meanwhile(self, aws: Rehearsal) -> None:
        """Another tool replaces production between the two reads: nothing leads back from it."""
        deployment = release(aws, "r1")
        wait(aws, MONTH)
        aws.meanwhile("GetStages", lambda: new_deployment(aws, stageName="prod"))
        assert aws.stage.clean_up(keep=0).removed == (deployment,)

    def test_put_to_use_meanwhile(self, aws: Rehearsal) -> None:
        """What another process has begun to serve in between is refused by AWS, and reported."""
        deployment = release(aws, "r1")
        wait(aws, MONTH)

        def use() -> None:
            client(aws).create_stage(
                restApiId=aws.rest_api_id, stageName="other", deploymentId=deployment
            )

        aws.meanwhile("DeleteDeployment", use)
        result = aws.stage.clean_up(keep=0)
        assert result.refused == (deployment,)
        assert "Active stages pointing to this deployment" in result.items[0].reason
        assert str(result).endswith(f"First {result.items[0]}")
        assert deployment in there(aws)


class TestDeletions:
    @pytest.fixture
    def old(self, aws: Rehearsal) -> list[str]:
        """Three deployments that nothing needs, oldest first."""
        made = []
        for i in range(3):
            made.append(release(aws, f"r{i}"))
            wait(aws, MONTH)
        return made

    def test_a_dry_run(self, aws: Rehearsal, old: list[str]) -> None:
        """It sends two reads, and gives what the call then gives."""
        aws.calls.clear()
        planned = aws.stage.clean_up(1, dry_run=True)
        assert sent(aws) == ["GetDeployments", "GetStages"]
        assert planned == aws.stage.clean_up(1)
        assert planned.removed == (old[1], old[0])
        assert aws.stage.clean_up(1).removed == ()

    def test_gone_already(self, aws: Rehearsal, old: list[str]) -> None:
        """One that somebody else has deleted is removed."""

        def delete() -> None:
            client(aws).delete_deployment(restApiId=aws.rest_api_id, deploymentId=old[0])

        aws.meanwhile("DeleteDeployment", delete)
        assert set(aws.stage.clean_up(keep=0).removed) == set(old)

    @pytest.mark.parametrize("after", [True, False])
    def test_no_answer(self, aws: Rehearsal, old: list[str], after: bool) -> None:
        """Whether it was deleted is read."""
        aws.fail("DeleteDeployment", Fault.TIMEOUT, after=after)
        result = aws.stage.clean_up(keep=0)
        assert (old[0] in result.removed) is after
        assert result.refused == (() if after else (old[0],))
        assert set(result.removed) == there(aws) ^ {*old, *there(aws)}

    def test_no_answer_and_no_look(self, aws: Rehearsal, old: list[str]) -> None:
        """What is not known is reported as refused."""
        aws.fail("DeleteDeployment", Fault.TIMEOUT, after=True)
        aws.fail("GetDeployments", Fault.EXPIRED_CREDENTIALS, skip=1)
        result = aws.stage.clean_up(keep=0)
        assert result.refused == (old[0],)

    @pytest.mark.traced
    @pytest.mark.long
    @pytest.mark.parametrize("fault", [Fault.ACCESS_DENIED, Fault.EXPIRED_CREDENTIALS])
    def test_refused_for_all(self, aws: Rehearsal, old: list[str], fault: Fault) -> None:
        """What the next deletion would meet too ends the deletions, and raises nothing."""
        aws.fail("DeleteDeployment", fault, skip=1)
        aws.calls.clear()
        result = aws.stage.clean_up(keep=0)
        assert result.removed == (old[0],)
        assert result.refused == (old[2], old[1])
        assert "not tried, because an earlier deletion failed" in result.items[0].reason
        assert deleted(aws) == 2
        assert set(old[1:]) <= there(aws)

    def test_refused_for_one(self, aws: Rehearsal, old: list[str]) -> None:
        """A refusal of one deployment does not keep the others."""

        def refuse() -> None:
            raise Refusal("BadRequestException", "No.")

        aws.meanwhile("DeleteDeployment", refuse)
        result = aws.stage.clean_up(keep=0)
        assert result.refused == (old[0],)
        assert set(result.removed) == set(old[1:])

    def test_no_such_stage(self, aws: Rehearsal) -> None:
        """A stage that is not there is an error."""
        from apigw_canary import Stage

        with pytest.raises(NotFoundError):
            Stage(aws.rest_api_id, "nope", session=aws.session).clean_up()

    @pytest.mark.parametrize(
        "options", [{"keep": -1}, {"keep": True}, {"keep": 1.5}, {"dry_run": 1}]
    )
    def test_inputs(self, aws: Rehearsal, options: dict[str, Any]) -> None:
        """Checked before anything is sent."""
        with pytest.raises(InvalidInputError):
            aws.stage.clean_up(**options)
        assert not sent(aws)

    def test_a_report(self, aws: Rehearsal, old: list[str]) -> None:
        """Each deployment in a table, with what came of it."""
        text = Report(aws.stage.clean_up(keep=1)).text(120)
        assert "3 deployments of this library: 2 removed, 1 kept, 0 refused." in text
        assert all(deployment in text for deployment in old)
        assert "it is one of the 1 newest" in text


@pytest.mark.long
@pytest.mark.parametrize("days", [0, 1, 29])
def test_the_scheduled_example(days: int) -> None:
    """Run again after a rollback and a clean-up it does not start the release again."""
    look: Callable[..., Any] = runpy.run_path(str(EXAMPLES / "every_minute.py"))["look"]
    broken = {"alias=v2": Backend(errors_5xx=0.5)}
    with rehearsal(backends=broken, requests_per_minute=600) as aws:
        seen = look(fresh(aws), "2026-11-23.1")
        while not seen["final"]:
            aws.sleep(60)
            seen = look(fresh(aws), "2026-11-23.1")
        assert seen["decision"].startswith("Roll")
        wait(aws, days * DAY)
        fresh(aws).clean_up(keep=0)
        again = look(fresh(aws), "2026-11-23.1")
        assert again["final"]
        assert serving(aws)[2] is None


def test_constants() -> None:
    """A release is remembered for longer than a rollout may take."""
    assert timedelta(days=14) < module.REMEMBERED


VERBS = st.sampled_from(["promote", "rollback", "revert", "leave", "wait", "month", "clean up"])


def act(aws: Rehearsal, verb: str, number: int, keep: int) -> None:
    """One step of a history of rollouts."""
    stage = fresh(aws)
    _, variables, canary = before = serving(aws)
    match verb:
        case "wait":
            wait(aws, DAY)
        case "month":
            wait(aws, MONTH)
        case "clean up":
            stage.clean_up(keep)
            assert serving(aws) == before
        case _ if canary is not None:
            stage.rollback()
        case "revert":
            with suppress(NothingToRevertError):
                stage.revert()
        case _:
            alias = f"v{int(variables['alias'][1:]) + number + 1}"
            begun = stage.enable_canary(5, release=f"r{number}", variables={"alias": alias})
            if verb != "leave":
                getattr(begun, verb)()


@settings(max_examples=15)
@given(verbs=st.lists(VERBS, min_size=4, max_size=14), keep=st.integers(0, 2))
@pytest.mark.long
@pytest.mark.no_cover
def test_any_order(verbs: list[str], keep: int) -> None:
    """After any order of rollouts and clean-ups the last promotion can be undone, and no young
    release begins again.
    """
    with rehearsal() as aws:
        for number, verb in enumerate([*verbs, "clean up"]):
            act(aws, verb, number, keep)
        fresh(aws).rollback()
        calls = [call for call in aws.calls if call.operation == "CreateDeployment"]
        for call in calls:
            (name,) = re.findall(r'"release":"(r\d+)"', str(call.parameters["description"]))
            if aws.now() - call.at < timedelta(days=30):
                with pytest.raises(RolloutEndedError):
                    fresh(aws).enable_canary(5, release=name, variables={"alias": "v999"})
        with suppress(NothingToRevertError):
            fresh(aws).revert()  # a way back that was deleted would be a NotFoundError
