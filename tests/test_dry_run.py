"""The dry run of enable_canary: what it says is what happens, and nothing of it happens."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import attrs
import pytest

from acting import (
    COPIES,
    ORDERS,
    V2,
    Store,
    as_planned,
    create_function,
    describe,
    description,
    fresh,
    new_deployment,
    patch,
    sent,
    serving,
    uri,
)
from apigw_canary import (
    CanaryError,
    CanaryState,
    MethodChange,
    Preflight,
    Problem,
    Report,
    RolloutPolicy,
    VariableChange,
)
from apigw_canary.aws.apigateway import ApiGateway, enable_patch, shift_patch
from apigw_canary.aws.dry_run import DryCalls
from apigw_canary.errors import InvalidInputError
from apigw_canary.model.state import Variables
from apigw_canary.testing import Fault, Method, Rehearsal, rehearsal

POLICY = RolloutPolicy.canary(10, timedelta(minutes=10), alarms=["errors"])
SECRET = "s3cr3t-t0k3n"


@pytest.fixture
def aws() -> Iterator[Rehearsal]:
    with rehearsal() as aws:
        aws.alarm("errors")
        aws.sleep(60)
        yield aws


def planned(aws: Rehearsal, *, fails: bool = False, records: Any = None, **asked: Any) -> Preflight:
    """The dry run, after which the same is done; it ends as the dry run says."""
    options = {} if records is None else {"records": records}
    plan = fresh(aws, **options).check(5, **asked)

    def act() -> None:
        try:
            fresh(aws, **options).enable_canary(5, **asked)
        except CanaryError:
            assert fails
        else:
            assert not fails

    as_planned(aws, plan, act)
    assert plan.ok is not fails
    return plan


def operations(plan: Preflight) -> list[str]:
    return [call.operation for call in plan.calls]


class TestCalls:
    """Each of these compares the planned calls with those that are then made."""

    @pytest.mark.long
    def test_a_new_deployment(self, aws: Rehearsal) -> None:
        """The deployment that would be made has a placeholder for its id."""
        plan = planned(aws, variables=V2, release="r1", description="Notes\nof mine", policy=POLICY)
        writes = [call for call in plan.calls if call.writes]
        names = ["CreateDeployment", "UpdateStage", "UpdateDeployment"]
        assert [call.operation for call in writes] == names
        created = json.loads(writes[0].parameters)
        assert created["description"] == "Notes\nof mine\n<record>"
        patched = json.loads(writes[1].parameters)["patchOperations"]
        assert patched[0]["value"] == "new-deployment"
        assert patched[1]["value"] == "<value of alias>"
        assert patched[-1]["value"] == "5.0"

    @pytest.mark.parametrize("release", [None, "r1"])
    def test_the_same_line_again(self, aws: Rehearsal, release: str | None) -> None:
        """A canary that is running is found, and is no problem."""
        fresh(aws).enable_canary(5, release=release, variables=V2)
        plan = planned(aws, release=release, variables=V2)
        assert not any(call.writes for call in plan.calls)

    def test_another_canary(self, aws: Rehearsal) -> None:
        """One problem says so."""
        fresh(aws).enable_canary(5, release="r1", variables=V2)
        plan = planned(aws, fails=True, release="r2", variables=V2)
        (problem,) = (each for each in plan if each.severity == "error")
        assert "Another one would be refused" in problem.what

    def test_not_as_asked(self, aws: Rehearsal) -> None:
        """The canary of the release runs, with other variables."""
        fresh(aws).enable_canary(5, release="r1", variables=V2)
        plan = planned(aws, fails=True, release="r1", variables={"alias": "v3"})
        assert "not as requested" in plan[0].what

    def test_a_release_that_has_ended(self, aws: Rehearsal) -> None:
        """It is a problem, although the stage is as if nothing had been."""
        fresh(aws).enable_canary(5, release="r1", variables=V2).rollback()
        plan = planned(aws, fails=True, release="r1", variables=V2)
        assert plan[0].what.startswith("The rollout of release r1 has ended")

    def test_an_earlier_try(self, aws: Rehearsal) -> None:
        """The deployment of a try that failed is used."""
        aws.fail("UpdateStage", Fault.ACCESS_DENIED)
        with pytest.raises(CanaryError):
            fresh(aws).enable_canary(5, release="r1", variables=V2)
        aws.sleep(60)
        plan = planned(aws, release="r1", variables=V2)
        assert "CreateDeployment" not in operations(plan)
        assert "UpdateDeployment" in operations(plan)

    def test_of_a_deployment(self, aws: Rehearsal) -> None:
        """An earlier deployment, the stage's own, or none of this API."""
        own = serving(aws)[0]
        planned(aws, variables=V2, deployment_id=new_deployment(aws, description="theirs"))
        fresh(aws).rollback()
        planned(aws, variables=V2, deployment_id=own)
        fresh(aws).rollback()
        planned(aws, fails=True, variables=V2, deployment_id="nothere")
        planned(aws, fails=True, variables={"alias": "v1"}, deployment_id=own)

    def test_a_weakened_api(self, aws: Rehearsal) -> None:
        """It is refused as the dry run says, and accepted with a warning."""
        aws.edit(methods={"POST /orders": None})
        plan = planned(aws, fails=True, variables=V2)
        assert "lacks methods that production's deployment" in plan[0].what
        assert plan.method_changes == (MethodChange(change="removed", method="POST /orders"),)
        plan = planned(aws, variables=V2, accept={"weakened_methods"})
        assert any("lacks methods that production's" in problem.what for problem in plan)

    def test_unused_variables(self, aws: Rehearsal) -> None:
        """As enable_canary does it: refused, unless it is accepted."""
        planned(aws, fails=True, variables={"alais": "v2"})
        planned(aws, variables={"alais": "v2"}, accept={"unused_variables"})

    def test_alarms_and_metrics(self, aws: Rehearsal) -> None:
        """What keeps a canary from being observed keeps it from being enabled."""
        unknown = RolloutPolicy.canary(10, timedelta(minutes=10), alarms=["nope"])
        plan = planned(aws, fails=True, variables=V2, policy=unknown)
        assert operations(plan) == ["GetStage", "GetDeployments"]

    def test_a_promotion_by_hand(self, aws: Rehearsal) -> None:
        """A canary that another person has made production."""
        fresh(aws).enable_canary(5, release="r1", variables=V2)
        patch(aws, *COPIES)
        planned(aws, release="r1", variables=V2)

    def test_a_record_that_cannot_be_read(self, aws: Rehearsal) -> None:
        """It is a problem where enable_canary raises because of it."""
        canary = fresh(aws).enable_canary(5, release="r1", variables=V2)
        canary.rollback()
        describe(aws, canary.deployment_id, description(aws, canary.deployment_id)[:-5])
        plan = planned(aws, fails=True, release="r1", variables=V2)
        assert "cannot be read" in plan[0].what

    def test_records_in_a_store(self, aws: Rehearsal) -> None:
        """The store is read, and nothing is saved."""
        store = Store()
        plan = fresh(aws, records=store).check(5, release="r1", variables=V2)
        assert plan.ok
        assert not store.texts
        planned(aws, records=store, release="r1", variables=V2)
        before = dict(store.texts)
        fresh(aws, records=store).check(5, release="r1", variables=V2)
        assert store.texts == before

    def test_an_answer_that_is_lost(self, aws: Rehearsal) -> None:
        """What only a real run can meet is not planned: the answer of a write that is lost."""
        plan = fresh(aws).check(5, variables=V2)
        aws.calls.clear()
        aws.fail("UpdateStage", Fault.TIMEOUT, after=True)
        fresh(aws).enable_canary(5, variables=V2)
        upto = operations(plan).index("UpdateStage") + 1
        assert sent(aws)[: upto + 1] == [*operations(plan)[:upto], "GetStage"]

    @pytest.mark.traced
    @pytest.mark.long
    def test_a_percent_of_the_policy(self, aws: Rehearsal) -> None:
        """By default the policy's first; without either nothing is planned."""
        by_policy = aws.stage.check(variables=V2, policy=POLICY)
        (update,) = (each for each in by_policy.calls if each.operation == "UpdateStage")
        assert '"value": "10.0"' in update.parameters
        assert str(update).startswith('UpdateStage {"patchOperations": [')
        assert aws.stage.check(variables=V2).calls == ()

    @pytest.mark.long
    def test_nothing_happens(self, aws: Rehearsal, caplog: pytest.LogCaptureFixture) -> None:
        """Only reads are sent, the stage is as before, and no change is logged."""
        caplog.set_level(logging.INFO, "apigw_canary")
        before = serving(aws)
        aws.stage.check(10, release="r1", variables=V2, policy=POLICY)
        assert all(each.startswith(("Get", "Describe", "List")) for each in sent(aws))
        assert serving(aws) == before
        assert not [each for each in caplog.records if each.levelno >= logging.INFO]

    def test_later_in_the_same_process(self, aws: Rehearsal) -> None:
        """A dry run leaves nothing behind that changes what the stage then does."""
        stage = fresh(aws)
        stage.check(5, release="r1", variables=V2)
        plan = stage.check(5, release="r1", variables=V2)
        canary = as_planned(aws, plan, lambda: stage.enable_canary(5, release="r1", variables=V2))
        stage.check(5, release="r2", variables={"alias": "v3"})
        canary.shift(20)
        canary.promote()
        assert serving(aws)[1] == V2

    def test_wrong_arguments(self, aws: Rehearsal) -> None:
        """They raise, as they do for enable_canary."""
        for wrong in ({"percent": 200}, {"release": ""}, {"accept": {"all"}}, {"policy": 5}):
            with pytest.raises(InvalidInputError):
                aws.stage.check(**{"percent": 5, **wrong})  # type: ignore[arg-type]
        assert not sent(aws)

    def test_a_stage_that_is_read_again(self, aws: Rehearsal) -> None:
        """After a write it is read as it would be, and AWS is not asked."""
        calls = DryCalls(aws.stage._calls)
        gateway = ApiGateway(calls, aws.rest_api_id, "prod")
        before = gateway.stage().stage
        deployment = gateway.create_deployment("mine")
        wanted = CanaryState(deployment_id=deployment.id, percent=5, variables=Variables(V2))
        changed = gateway.update_stage(enable_patch(wanted)).stage
        assert changed.canary == wanted
        assert gateway.stage().stage == changed
        assert gateway.update_stage(shift_patch(20)).stage.canary == attrs.evolve(
            wanted, percent=20
        )
        assert sent(aws) == ["GetStage"]
        assert aws.stage._control.gateway.stage().stage == before

    def test_writes_that_are_not_understood(self, aws: Rehearsal) -> None:
        """A dry run of anything else fails instead of sending it."""
        calls = DryCalls(aws.stage._calls)
        with pytest.raises(NotImplementedError):
            calls.call("apigateway", "DeleteStage", restApiId="a", stageName="prod")
        with pytest.raises(NotImplementedError):
            calls.within(aws.session)
        assert not sent(aws)
        assert repr(calls.sent) == "[<call of DeleteStage>]"
        calls.pause(3)
        assert calls.region == "eu-central-1"


def targets(aws: Rehearsal, variables: Mapping[str, str]) -> tuple[VariableChange, ...]:
    return aws.stage.check(variables=variables).variable_changes


class TestVariables:
    @pytest.mark.long
    def test_a_lambda_function(self) -> None:
        """Old and new function with its alias, and the methods that lead there."""
        methods = {
            "GET /orders": Method(uri=ORDERS),
            "POST /orders": Method(uri=ORDERS),
            "GET /users": Method(uri=uri("users-${stageVariables.alias}")),
        }
        with rehearsal(methods=methods) as aws:
            create_function(aws, "orders", "v1", "v2")
            assert targets(aws, V2) == (
                VariableChange(
                    name="alias",
                    change="changed",
                    integration="orders:${stageVariables.alias}",
                    before="orders:v1",
                    after="orders:v2",
                    methods=("GET /orders", "POST /orders"),
                ),
                VariableChange(
                    name="alias",
                    change="changed",
                    integration="users-${stageVariables.alias}",
                    before="users-v1",
                    after="users-v2",
                    methods=("GET /users",),
                ),
            )

    def test_other_targets(self) -> None:
        """Values that are part of another kind of target are not shown."""
        secret = "https://orders.example/?key=${stageVariables.token}"
        with rehearsal(methods={"GET /orders": Method(uri=secret)}) as aws:
            (change,) = targets(aws, {"token": SECRET})
            assert (change.change, change.before, change.after) == ("added", None, None)
            assert change.integration == secret
            assert str(change).endswith("not shown → not shown")

    def test_new_and_same_and_unused(self) -> None:
        """A variable that is new, one with the value that production has, and one in no target."""
        with rehearsal(variables={"alias": "v1", "x": "1"}) as aws:
            changes = targets(aws, {"alias": "v1", "new": "2", "x": "3"})
            assert [(each.name, each.change) for each in changes] == [
                ("alias", "unchanged"),
                ("new", "added"),
                ("x", "changed"),
            ]
            assert "no integration was found to use" in str(changes[1])

    def test_methods(self, aws: Rehearsal) -> None:
        """Added, removed and weakened ones, each in words."""
        aws.edit(methods={"GET /new": Method(), "POST /orders": Method(authorization="AWS_IAM")})
        assert aws.stage.check().method_changes == (
            MethodChange(change="added", method="GET /new"),
        )
        with rehearsal(methods={"GET /a": Method(authorization="AWS_IAM")}) as other:
            other.edit(methods={"GET /a": Method()})
            (change,) = other.stage.check().method_changes
            assert str(change) == "weakened: GET /a (had authorization AWS_IAM, now NONE)"


class TestPreflight:
    def test_problems_as_before(self) -> None:
        """It is iterated, counted and indexed as the problems are."""
        one = Problem("warning", "It is so.", "Do that.")
        found = Preflight(problems=(one,))
        assert ([*found], len(found), found[0], found.ok) == ([one], 1, one, True)
        assert not Preflight(problems=())
        assert not Preflight(problems=(Problem("error", "a", "b"),)).ok

    def test_no_such_stage(self, aws: Rehearsal) -> None:
        """One problem, and nothing planned."""
        from apigw_canary import Stage

        plan = Stage(aws.rest_api_id, "nope", session=aws.session).check(5, variables=V2)
        assert not plan.ok
        assert plan.calls == ()

    def test_a_permission_that_is_missing(self, aws: Rehearsal) -> None:
        """It is told beside what else is found."""
        aws.fail("GetDeployments", Fault.ACCESS_DENIED)
        plan = fresh(aws).check(5, variables=V2)
        assert "GetDeployments was denied" in plan[-1].what
        assert "Allow apigateway:GET" in plan[-1].remedy

    def test_secrets(self) -> None:
        """No value of a variable is in it, in whatever form; of functions only names."""
        variables = {"alias": "v2", "token": SECRET}
        with rehearsal(variables={"alias": "v1", "token": f"old-{SECRET}"}) as aws:
            for release in ("r1", "r2"):
                plan = fresh(aws).check(5, release=release, variables=variables)
                report = Report(plan)
                shown = [repr(plan), str(plan), json.dumps(plan.to_dict()), report.text()]
                shown += [report.markdown(), report.html(), report.json()]
                assert not any(SECRET in each for each in shown)
                fresh(aws).enable_canary(5, release=release, variables=variables).promote()
                variables = {"alias": "v3", "token": f"new-{SECRET}"}

    def test_a_report(self, aws: Rehearsal) -> None:
        """Markdown for a pull request: what came out, the problems, the changes and the calls."""
        text = Report(fresh(aws).check(5, release="r1", variables=V2)).markdown()
        assert text.startswith("### ⏳ Preflight: ready\n")
        for heading in ("#### Problems", "#### Variable changes", "#### Calls"):
            assert heading in text
        assert "&lt;value of alias&gt;" in text
        assert "| UpdateStage | yes |" in text
        bad = Report(Preflight(problems=(Problem("error", "a", "b"),)))
        assert bad.markdown().startswith("### ❌ Preflight: not ready\n")
        assert Report(Preflight(problems=())).markdown().startswith("### ✅ Preflight: ready\n")
        assert str(Report(Preflight(problems=()))).startswith("ready: Ready: 0 errors, 0 warnings;")

    def test_hundreds_of_methods(self) -> None:
        """A table lists the first of them."""
        methods = {f"GET /things{i}": Method(uri=ORDERS) for i in range(40)}
        with rehearsal(methods=methods) as aws:
            create_function(aws, "orders", "v1", "v2")
            plan = aws.stage.check(5, variables=V2)
            assert len(plan.variable_changes[0].methods) == 40
            assert " and 30 more" in Report(plan).markdown()
