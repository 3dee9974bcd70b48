"""Stage: describing, finding, enabling a canary once, rolling back."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

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
)
from apigw_canary import AccessLogs, CloudWatchMetrics, LambdaAlias, Outcome, RolloutPolicy, Stage
from apigw_canary.errors import (
    AccessDeniedError,
    AmbiguousNameError,
    CanaryAlreadyEnabledError,
    CanaryError,
    InvalidInputError,
    NotFoundError,
    RecordError,
    RolloutEndedError,
    StageChangedError,
)
from apigw_canary.testing import Fault, ProcessDeath, rehearsal


def test_describe_tells_what_aws_tells() -> None:
    """The state has what serves production, and no canary where there is none."""
    with rehearsal() as aws:
        state = aws.stage.describe()
        assert (state.region, state.rest_api_id, state.name) == (
            "eu-central-1",
            aws.rest_api_id,
            "prod",
        )
        assert state.variables == {"alias": "v1"}
        assert len(state.variables) == 1
        assert state.canary is None
        assert state.rollout is None
        assert state.updated_at <= aws.now()


def test_describe_tells_the_rollout() -> None:
    """While a canary runs the state names its release and when it began."""
    with rehearsal() as aws:
        began = aws.now()
        aws.stage.enable_canary(5, release="r1", variables=V2)
        aws.sleep(60)
        state = aws.stage.describe()
        assert state.canary is not None
        assert (state.canary.percent, state.canary.variables) == (5, V2)
        assert {state.canary: "a value can be a key"}[state.canary]
        assert state.rollout is not None
        assert (state.rollout.release, state.rollout.outcome) == ("r1", None)
        assert state.rollout.started_at == began
        assert state.rollout.step_started_at == began


def test_describe_tells_a_canary_of_the_console() -> None:
    """A canary without a record is described, its rollout as far as the stage tells."""
    with rehearsal() as aws:
        patch(aws, replace(PERCENT, "7.5"))
        state = aws.stage.describe()
        assert state.canary is not None
        assert state.canary.percent == 7.5
        assert state.rollout is not None
        assert (state.rollout.id, state.rollout.release) == (None, None)
        assert state.rollout.started_at == state.updated_at


def test_enable_leaves_production_alone() -> None:
    """The canary has what was asked for, and the stage's own deployment and variables stay."""
    with rehearsal(variables={"alias": "v1", "table": "t"}) as aws:
        before = aws.stage.describe()
        canary = aws.stage.enable_canary(
            12.345, release="r1", variables=V2, use_stage_cache=True, description="two\nlines"
        )
        after = aws.stage.describe()
        assert after.canary is not None
        assert after.canary.percent == round(12.345, 2)
        assert after.canary.deployment_id == canary.deployment_id != before.deployment_id
        assert after.canary.variables == V2
        assert after.canary.use_stage_cache
        assert (after.deployment_id, after.variables) == (before.deployment_id, before.variables)
        assert description(aws, canary.deployment_id).startswith("two\nlines\n")


def test_enable_can_be_run_again() -> None:
    """The same line returns the same canary, whatever its share, and sends no change."""
    with rehearsal() as aws:
        first = aws.stage.enable_canary(5, release="r1", variables=V2)
        first.shift(25)
        before = sent(aws)
        again = fresh(aws).enable_canary(5, release="r1", variables=V2)
        assert again.deployment_id == first.deployment_id
        assert again.release == "r1"
        assert sent(aws)[len(before) :] == ["GetStage", "GetDeployment"]
        assert aws.stage.describe().canary.percent == 25  # type: ignore[union-attr]


def test_enable_without_release_goes_by_variables() -> None:
    """Without a release, a canary of a new deployment with the same variables is the same."""
    with rehearsal() as aws:
        first = aws.stage.enable_canary(5, variables=V2)
        assert fresh(aws).enable_canary(5, variables=V2).deployment_id == first.deployment_id
        assert (
            fresh(aws)
            .enable_canary(5, variables=V2, deployment_id=first.deployment_id)
            .deployment_id
            == first.deployment_id
        )
        with pytest.raises(CanaryAlreadyEnabledError):
            aws.stage.enable_canary(5, variables={"alias": "v3"})
        own = aws.stage.describe().deployment_id
        with pytest.raises(CanaryAlreadyEnabledError):
            aws.stage.enable_canary(5, variables=V2, deployment_id=own)


def test_enable_leaves_another_canary_alone() -> None:
    """Another canary is an error with its age, share and deployment, and stays as it is."""
    with rehearsal() as aws:
        running = aws.stage.enable_canary(5, release="r1", variables=V2)
        aws.sleep(90)
        before = aws.stage.describe()
        with pytest.raises(CanaryAlreadyEnabledError, match=r"stage\.rollback\(\)") as caught:
            aws.stage.enable_canary(5, release="r2", variables={"alias": "v3"})
        assert caught.value.deployment_id == running.deployment_id
        assert caught.value.percent == 5
        assert caught.value.age == timedelta(seconds=90)
        assert "r1" in str(caught.value)
        assert aws.stage.describe() == before


def test_enable_notices_other_variables_of_the_same_release() -> None:
    """A running canary of the release with other variables is not taken for the one asked for."""
    with rehearsal() as aws:
        aws.stage.enable_canary(5, release="r1", variables=V2)
        with pytest.raises(StageChangedError, match=r"canary\.variables: other values"):
            aws.stage.enable_canary(5, release="r1", variables={"alias": "v3"})


def test_a_console_canary_is_another_canary() -> None:
    """A canary that was left over from the console is not touched."""
    with rehearsal() as aws:
        patch(aws, replace(PERCENT, "7"))
        with pytest.raises(CanaryAlreadyEnabledError, match="release unknown"):
            aws.stage.enable_canary(5, release="r1", variables=V2)
        canary = aws.stage.canary()
        assert canary is not None
        assert canary.release is None
        canary.disable()
        assert aws.stage.canary() is None


@pytest.mark.parametrize(
    "end, outcome",
    [
        ("canary.rollback", "rolled_back"),
        ("canary.disable", "disabled"),
        ("stage.rollback", "rolled_back"),
        ("canary.promote", "promoted"),
        ("by hand", "removed_outside"),
    ],
)
def test_a_release_that_ended_is_not_started_again(end: str, outcome: str) -> None:
    """A script that is run again does not start a release again, however it ended."""
    with rehearsal() as aws:
        aws.sleep(60)
        canary = aws.stage.enable_canary(5, release="r1", variables=V2)
        aws.sleep(60)
        if end == "by hand":
            patch(aws, remove(CANARY))
        else:
            owner, verb = end.split(".")
            getattr({"canary": canary, "stage": aws.stage}[owner], verb)()
        state = aws.stage.describe()
        with pytest.raises(RolloutEndedError, match="r1-again") as caught:
            fresh(aws).enable_canary(5, release="r1", variables=V2)
        assert (caught.value.release, caught.value.outcome) == ("r1", outcome)
        assert aws.stage.describe() == state
        another = {"alias": "v3"}
        assert fresh(aws).enable_canary(5, release="r2", variables=another).release == "r2"


def test_a_release_with_another_deployment_than_asked_is_refused() -> None:
    """Neither a running canary nor one made ready is taken for one of another deployment."""
    with rehearsal() as aws:
        aws.sleep(60)
        other = new_deployment(aws)
        aws.fail("UpdateStage", Fault.DEATH)
        with pytest.raises(ProcessDeath):
            aws.stage.enable_canary(5, release="r1", variables=V2)
        canary = fresh(aws).enable_canary(5, release="r1", deployment_id=other, variables=V2)
        assert canary.deployment_id == other
        own = aws.stage.describe().deployment_id
        with pytest.raises(StageChangedError, match=r"canary\.deployment_id"):
            aws.stage.enable_canary(5, release="r1", deployment_id=own, variables=V2)


def test_a_variables_only_promotion_that_was_refused_is_no_promotion() -> None:
    """A release whose promotion was announced, refused and rolled back was not promoted."""
    with rehearsal() as aws:
        own = aws.stage.describe().deployment_id
        canary = aws.stage.enable_canary(5, release="r1", deployment_id=own, variables=V2)
        aws.sleep(60)
        aws.fail("UpdateStage", Fault.ACCESS_DENIED)
        with pytest.raises(PermissionError):
            canary.promote()
        canary.rollback()
        with pytest.raises(RolloutEndedError) as caught:
            fresh(aws).enable_canary(5, release="r1", deployment_id=own, variables=V2)
        assert caught.value.outcome == "rolled_back"


def test_earlier_releases_of_a_deployment_keep_how_they_ended() -> None:
    """Of two variables-only releases, the first one's promotion is remembered behind the second."""
    with rehearsal() as aws:
        own = aws.stage.describe().deployment_id
        stage = aws.stage
        stage.enable_canary(5, release="r1", deployment_id=own, variables=V2).promote()
        third = {"alias": "v3"}
        stage.enable_canary(5, release="r2", deployment_id=own, variables=third).rollback()
        with pytest.raises(RolloutEndedError) as caught:
            stage.enable_canary(5, release="r1", deployment_id=own, variables=V2)
        assert caught.value.outcome == "promoted"


def test_a_release_that_was_reverted_is_not_started_again() -> None:
    """A promotion that was undone is remembered as that."""
    with rehearsal() as aws:
        aws.stage.enable_canary(5, release="r1", variables=V2).promote()
        aws.stage.revert()
        with pytest.raises(RolloutEndedError) as caught:
            fresh(aws).enable_canary(5, release="r1", variables=V2)
        assert caught.value.outcome == "reverted"


def test_a_release_that_was_superseded_is_not_started_again() -> None:
    """A release that was promoted, and whose successor was promoted too, stays promoted."""
    with rehearsal() as aws:
        aws.stage.enable_canary(5, release="r1", variables=V2).promote()
        aws.stage.enable_canary(5, release="r2", variables={"alias": "v3"}).promote()
        with pytest.raises(RolloutEndedError) as caught:
            fresh(aws).enable_canary(5, release="r1", variables=V2)
        assert caught.value.outcome == "promoted"


def test_a_release_that_has_ended_needs_no_metrics() -> None:
    """A line that is run again after a rollback says how it ended, also while metrics are gone."""
    policy = RolloutPolicy.canary(5, timedelta(minutes=10))
    with rehearsal() as aws:
        aws.stage.enable_canary(5, release="r1", variables=V2, policy=policy).rollback()
        aws.fail("GetMetricData", Fault.ACCESS_DENIED)
        before = len(aws.calls)
        with pytest.raises(RolloutEndedError) as caught:
            fresh(aws).enable_canary(5, release="r1", variables=V2, policy=policy)
        assert caught.value.outcome == "rolled_back"
        with pytest.raises(AccessDeniedError):
            fresh(aws).enable_canary(5, release="r2", variables=V2, policy=policy)
        calls = {call.operation for call in aws.calls[before:]}
        assert calls.isdisjoint({"UpdateStage", "CreateDeployment", "UpdateDeployment"})


def test_a_release_promoted_by_hand_is_not_started_again() -> None:
    """A canary that somebody promoted with raw calls is remembered by the stage itself."""
    with rehearsal() as aws:
        aws.stage.enable_canary(5, release="r1", variables=V2)
        aws.sleep(60)
        patch(aws, *COPIES)
        patch(aws, remove(CANARY))
        with pytest.raises(RolloutEndedError) as caught:
            fresh(aws).enable_canary(5, release="r1", variables=V2)
        assert caught.value.outcome == "promoted_outside"


def test_without_a_release_nothing_is_remembered() -> None:
    """Without a release the same line starts a new canary after the last one has ended."""
    with rehearsal() as aws:
        first = aws.stage.enable_canary(5, variables=V2)
        first.rollback()
        assert aws.stage.enable_canary(5, variables=V2).deployment_id != first.deployment_id


def test_a_deployment_made_and_not_enabled_is_used() -> None:
    """A process that died between its two writes is continued with the deployment it made."""
    with rehearsal() as aws:
        aws.sleep(60)
        aws.fail("UpdateStage", Fault.DEATH)
        with pytest.raises(ProcessDeath):
            aws.stage.enable_canary(5, release="r1", variables=V2)
        assert aws.stage.canary() is None
        aws.sleep(3600)
        fresh(aws).enable_canary(5, release="r1", variables=V2)
        assert sent(aws).count("CreateDeployment") == 1
        rollout = aws.stage.describe().rollout
        assert rollout is not None
        assert rollout.started_at == aws.now()  # the rollout begins when the canary does


def test_a_deployment_that_was_made_twice_is_used_once(caplog: pytest.LogCaptureFixture) -> None:
    """Where a lost answer led to two deployments of a release, one is used and one is named."""
    with rehearsal() as aws:
        aws.sleep(60)
        made = []
        for _ in range(2):
            aws.fail("UpdateStage", Fault.DEATH)
            with pytest.raises(ProcessDeath):
                aws.stage.enable_canary(5, release="r1", variables=V2)
            (text,) = [
                text
                for item in client(aws).get_deployments(restApiId=aws.rest_api_id)["items"]
                if "r1" in (text := item.get("description", "")) and item["id"] not in made
            ]
            made.append(new_deployment(aws, description=text))
        canary = aws.stage.enable_canary(5, release="r1", variables=V2)
        assert "is left over" in caplog.text
        assert canary.release == "r1"


def test_a_colleague_who_was_quicker_is_not_taken_over() -> None:
    """A canary that appears while AWS keeps us waiting for the deployment is left as it is."""
    with rehearsal() as aws:
        for skip in range(4):
            aws.fail("CreateDeployment", Fault.THROTTLED, skip=skip)
        aws.meanwhile("CreateDeployment", lambda: patch(aws, replace(PERCENT, "7.0")), skip=4)
        with pytest.raises(CanaryAlreadyEnabledError):
            aws.stage.enable_canary(5, release="r1", variables=V2)
        canary = aws.stage.describe().canary
        assert canary is not None
        assert canary.percent == 7
    with rehearsal() as aws:
        for skip in range(4):
            aws.fail("CreateDeployment", Fault.THROTTLED, skip=skip)
        assert aws.stage.enable_canary(5, release="r1", variables=V2).release == "r1"


def test_a_damaged_record_that_names_the_release_is_refused() -> None:
    """Where it cannot be known whether the release was rolled back, it is not started."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, release="r1", variables=V2)
        canary.rollback()
        text = description(aws, canary.deployment_id)
        describe(aws, canary.deployment_id, text[:-5])
        with pytest.raises(RecordError):
            aws.stage.enable_canary(5, release="r1", variables=V2)
        assert aws.stage.canary() is None
        # It says nothing of other releases.
        assert aws.stage.enable_canary(5, release="x2", variables=V2).release == "x2"


def test_variables_only() -> None:
    """A canary of the stage's own deployment differs in variables only, and is resumed alike."""
    with rehearsal() as aws:
        own = aws.stage.describe().deployment_id
        canary = aws.stage.enable_canary(5, release="r1", deployment_id=own, variables=V2)
        assert canary.deployment_id == own
        assert "CreateDeployment" not in sent(aws)
        again = fresh(aws).enable_canary(5, release="r1", deployment_id=own, variables=V2)
        assert again.deployment_id == own
        canary.rollback()
        with pytest.raises(RolloutEndedError):
            fresh(aws).enable_canary(5, release="r1", deployment_id=own, variables=V2)
        fresh(aws).enable_canary(5, release="r2", deployment_id=own, variables=V2).rollback()
        with pytest.raises(RolloutEndedError) as caught:  # also after another rollout of it
            fresh(aws).enable_canary(5, release="r1", deployment_id=own, variables=V2)
        assert caught.value.outcome == Outcome.ROLLED_BACK


@pytest.mark.parametrize("variables", [None, {}, {"alias": "v1"}])
def test_a_canary_that_changes_nothing_is_refused(variables: dict[str, str] | None) -> None:
    """A canary of the stage's own deployment and values would judge nothing."""
    with rehearsal() as aws:
        own = aws.stage.describe().deployment_id
        with pytest.raises(InvalidInputError, match="variables"):
            aws.stage.enable_canary(5, deployment_id=own, variables=variables)
        assert "UpdateStage" not in sent(aws)


def test_an_unknown_deployment_is_refused_with_those_that_exist() -> None:
    """The error lists the deployments there are, and nothing was changed."""
    with rehearsal() as aws:
        own = aws.stage.describe().deployment_id
        with pytest.raises(NotFoundError, match=own):
            aws.stage.enable_canary(5, deployment_id="nosuch", variables=V2)
        assert "UpdateStage" not in sent(aws)


def test_input_is_checked_before_anything_is_sent() -> None:
    """Bad input is an error that names the field, and no call is made."""
    with rehearsal() as aws:
        bad: list[tuple[str, dict[str, Any]]] = [
            ("percent", {"percent": 101}),
            ("percent", {"percent": float("nan")}),
            ("percent", {"percent": True}),
            ("percent", {"percent": 0.001}),
            ("release", {"release": ""}),
            ("release", {"release": "two\nlines"}),
            ("deployment_id", {"deployment_id": "../x"}),
            ("variables", {"variables": {"alias": "$LATEST"}}),
            ("variables", {"variables": {"a-b": "v"}}),
            ("variables", {"variables": ["alias"]}),
            ("use_stage_cache", {"use_stage_cache": "yes"}),
            ("description", {"description": "apigw-canary:1:prod:{}"}),
            ("description", {"description": 7}),
            ("description", {"description": "text", "deployment_id": "abc"}),
        ]
        for field, change in bad:
            arguments: dict[str, Any] = {"percent": 5, **change}
            with pytest.raises(InvalidInputError) as caught:
                aws.stage.enable_canary(arguments.pop("percent"), **arguments)
            assert field in caught.value.field
        assert aws.calls == []
    for rest_api_id, name in (("a/b", "prod"), ("a", "")):
        with pytest.raises(InvalidInputError):
            Stage(rest_api_id, name)


def test_rollback_for_the_pager() -> None:
    """Whatever canary there is, there is none afterwards; none is success."""
    with rehearsal() as aws:
        before = aws.stage.describe()
        aws.stage.rollback()
        aws.stage.enable_canary(50, variables=V2)
        aws.stage.rollback()
        after = aws.stage.describe()
        assert (after.deployment_id, after.variables, after.canary) == (
            before.deployment_id,
            before.variables,
            None,
        )


def test_find() -> None:
    """A stage is found by its API's name; none or several of it are errors that say so."""
    with rehearsal(api_name="shop") as aws:
        assert Stage.find("shop", "prod", session=aws.session).rest_api_id == aws.rest_api_id
        with pytest.raises(NotFoundError, match="eu-central-1"):
            Stage.find("shop2", "prod", session=aws.session)
        twin = aws.session.client("apigateway").create_rest_api(name="shop")["id"]
        with pytest.raises(AmbiguousNameError) as caught:
            Stage.find("shop", "prod", session=aws.session)
        assert set(caught.value.candidates) == {aws.rest_api_id, twin}
        assert twin in str(caught.value)


@pytest.mark.long
def test_find_reads_all_pages() -> None:
    """An account with more APIs than a page has is searched to its end."""
    with rehearsal(api_name="shop") as aws:
        client = aws.session.client("apigateway")
        for i in range(501):
            client.create_rest_api(name=f"other{i}")
        last = client.create_rest_api(name="last")["id"]
        assert Stage.find("last", "prod", session=aws.session).rest_api_id == last


def test_an_unknown_stage_is_not_found() -> None:
    """A stage that does not exist is an error of its own, with AWS's as its cause."""
    with rehearsal() as aws:
        with pytest.raises(NotFoundError, match="Invalid stage identifier") as caught:
            Stage(aws.rest_api_id, "test", session=aws.session).describe()
        assert caught.value.__cause__ is not None
        assert isinstance(caught.value, LookupError)


@pytest.mark.parametrize("skip", range(4))
def test_a_revert_does_not_fail_with_its_note(skip: int, caplog: pytest.LogCaptureFixture) -> None:
    """What the rollout's own record cannot be told is logged; production is as asked."""
    with rehearsal() as aws:
        before = aws.stage.describe().deployment_id
        canary = aws.stage.enable_canary(10, release="r1", variables=V2)
        aws.sleep(60)
        receipt = canary.promote()
        aws.fail("GetDeployment", Fault.ACCESS_DENIED, skip=skip)
        try:
            aws.stage.revert(receipt)
        except CanaryError:
            assert skip == 0  # the deployment that would be served again cannot be read
        else:
            assert aws.stage.describe().deployment_id == before
            noted = [record for record in caplog.records if "reverted" in record.getMessage()]
            assert len(noted) <= 1


@pytest.mark.traced
@pytest.mark.long
def test_a_past_window_can_be_analyzed() -> None:
    """A window of the past gives the evidence a rollout would have had, and nothing to apply."""
    policy = RolloutPolicy.canary(10, timedelta(minutes=10))
    with rehearsal() as aws:
        start = aws.now()
        aws.stage.enable_canary(10, variables=V2)
        aws.sleep(1800)
        aws.stage.rollback()
        aws.sleep(1800)
        seen = aws.stage.observe(policy, start=start, end=start + timedelta(minutes=30))
        assert seen.basis is None
        assert 8 < seen.percent < 12
        (finding, *_) = policy.analyze(seen).findings
        assert finding.canary_requests > 1000
        nothing = aws.stage.observe(
            policy, start=start - timedelta(days=2), end=start - timedelta(days=1)
        )
        assert nothing.percent == 0
        with pytest.raises(InvalidInputError, match="after start"):
            aws.stage.observe(policy, start=start, end=start)


def test_repr_names_the_stage() -> None:
    """A stage's and a canary's repr say which they are, and no values of variables."""
    with rehearsal() as aws:
        assert repr(Stage("a1b2c3d4e5", "prod")) == "Stage('a1b2c3d4e5', 'prod')"
        canary = aws.stage.enable_canary(
            5, release="r1", variables={"key": "hunter2"}, accept={"unused_variables"}
        )
        assert "r1" in repr(canary)
        assert "hunter2" not in repr(canary)


@pytest.mark.long
def test_a_subclass_and_a_wrapped_source_are_bound() -> None:
    """A subclass stays what it is; a source that wraps one binds it by `using`."""

    class Counting(CloudWatchMetrics):
        asked = 0

        def minutes(self, *arguments: Any) -> Any:
            type(self).asked += 1
            return super().minutes(*arguments)

    class Wrapping:
        def __init__(self) -> None:
            self.inner: Any = Counting()

        def using(self, calls: Any) -> Wrapping:
            self.inner = self.inner.using(calls)
            return self

        def minutes(self, *arguments: Any) -> Any:
            return self.inner.minutes(*arguments)

    policy = RolloutPolicy.canary(10, timedelta(minutes=5))
    with rehearsal() as aws:
        for number, metrics in enumerate((Counting(), Wrapping())):
            stage = fresh(aws, metrics=metrics)
            canary = stage.enable_canary(10, release=f"r{number}", variables={"alias": "v2"})
            aws.sleep(60)
            assert canary.observe(policy).failure is None
            canary.rollback()
        assert Counting.asked == 2


@pytest.mark.parametrize("metrics", [object(), "CloudWatch", AccessLogs])
def test_a_source_has_minutes(metrics: Any) -> None:
    """What is no source of metrics is found out before anything is sent."""
    for place in (Stage, LambdaAlias):
        with pytest.raises(InvalidInputError, match="minutes"):
            place("orders", "live", metrics=metrics)
