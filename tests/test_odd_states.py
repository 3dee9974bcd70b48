"""What AWS holds and a caller could not have given: variables and shares set by hand."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from acting import PERCENT, V2, fresh, patch, replace, serving
from apigw_canary import Hold, RolloutPolicy
from apigw_canary.testing import Backend, Rehearsal, gateway, patches, rehearsal
from apigw_canary.testing.lambdas import FUNCTION

POLICY = RolloutPolicy.canary(10, timedelta(minutes=10))


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rehearsal]:
    """A stage with a variable whose value has a space; AWS refuses some characters, not this."""
    for module in (gateway, patches):
        monkeypatch.setattr(module, "checked_variables", dict)
    with rehearsal(variables={"alias": "v1", "greeting": "normal value"}) as aws:
        yield aws


def test_a_variable_with_a_space(lenient: Rehearsal) -> None:
    """A production variable that a caller could not give is kept, overwritten and restored."""
    aws, name = lenient, {"greeting": "overridden"}
    before = serving(aws)
    canary = aws.stage.enable_canary(10, release="r1", variables=name)
    assert isinstance(POLICY.decide(canary.observe(POLICY)), Hold)
    canary.shift(20)
    receipt = canary.promote()
    assert receipt.variables_before == {"greeting": "normal value"}
    assert serving(aws)[1] == {"alias": "v1", **name}
    assert aws.stage.revert() == receipt
    assert serving(aws) == before
    fresh(aws).enable_canary(10, release="r2", variables=name).rollback()
    assert serving(aws) == before


@pytest.mark.long
def test_a_variable_of_the_canary_with_a_space(lenient: Rehearsal) -> None:
    """A canary whose variable was set by hand is promoted with it and the promotion undone."""
    aws = lenient
    before = serving(aws)
    aws.stage.enable_canary(10, release="r1", variables={"greeting": "overridden"})
    override = "/canarySettings/stageVariableOverrides/greeting"
    patch(aws, replace(override, "another value"))
    canary = fresh(aws).canary()
    assert canary is not None
    assert isinstance(POLICY.decide(canary.observe(POLICY)), Hold)
    receipt = canary.promote()
    assert serving(aws)[1]["greeting"] == "another value"
    aws.stage.revert(receipt)
    assert serving(aws) == before


@pytest.mark.long
@pytest.mark.parametrize("stored", [0.004, 1e-5, 33.333])
def test_a_percent_of_a_stage(stored: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A share that is finer than a caller may give is observed, shifted, promoted and ended."""
    plain = Rehearsal._answer

    def answered(aws: Rehearsal, service: str, operation: str, parameters: Any) -> Any:
        answer = plain(aws, service, operation, parameters)
        settings = answer.get("canarySettings") if isinstance(answer, dict) else None
        if settings and settings["percentTraffic"] == 7:
            settings["percentTraffic"] = stored
        return answer

    monkeypatch.setattr(Rehearsal, "_answer", answered)
    for verb in ("shift", "promote", "rollback"):
        with rehearsal() as aws:
            aws.stage.enable_canary(5, release="r1", variables=V2)
            patch(aws, replace(PERCENT, "7.0"))
            canary = fresh(aws).canary()
            assert canary is not None
            observation = canary.observe(POLICY)
            assert observation.percent == stored
            assert isinstance(POLICY.decide(observation), Hold)
            if verb == "shift":
                canary.shift(20)
                assert serving(aws)[2]["percentTraffic"] == 20
                continue
            getattr(canary, verb)()
            assert serving(aws)[2] is None
            assert serving(aws)[1]["alias"] == ("v2" if verb == "promote" else "v1")


@pytest.mark.long
@pytest.mark.parametrize("weight", [0.00001, 0.00004, 0.33333])
def test_a_weight_of_an_alias(weight: float) -> None:
    """The same of an alias: a weight of 0.00004 is a share of 0.004 %."""
    for verb in ("shift", "promote", "rollback"):
        with rehearsal(versions=[Backend(), Backend()], variables={"alias": "live"}) as aws:
            alias = aws.alias("live")
            alias.enable_canary(10, version="2", release="r1")
            outside: Any = aws.session.client("lambda")
            weights = {"AdditionalVersionWeights": {"2": weight}}
            outside.update_alias(FunctionName=FUNCTION, Name="live", RoutingConfig=weights)
            canary = alias.canary()
            assert canary is not None
            assert isinstance(POLICY.decide(canary.observe(POLICY)), Hold)
            if verb == "shift":
                canary.shift(20)
                assert alias.describe().canary is not None
                continue
            getattr(canary, verb)()
            state = alias.describe()
            assert (state.canary, state.deployment_id) == (None, "2" if verb == "promote" else "1")


@pytest.mark.long
@pytest.mark.parametrize(
    "policy",
    [
        RolloutPolicy.linear(start=10, by=30, every=timedelta(minutes=5)),
        RolloutPolicy.named("Linear10PercentEvery1Minute"),
        RolloutPolicy.named("Canary10Percent5Minutes"),
    ],
    ids=str,
)
def test_a_bake_that_is_shorter_than_the_metric_delay(policy: RolloutPolicy) -> None:
    """No decision says that the canary had no request in a step while it had some."""
    assert policy.least_step > policy.steps[0].bake
    assert "each step takes at least 6 min, until its metrics are complete" in str(policy)
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(policy.steps[0].percent, variables=V2, policy=policy)
        final = False
        while not final:
            observation = canary.observe(policy)
            decision = policy.decide(observation)
            assert "had no canary requests" not in str(decision)
            canary.apply(decision)
            final = decision.final
            aws.sleep(decision.wait.total_seconds())
        assert serving(aws)[1]["alias"] == "v2"
