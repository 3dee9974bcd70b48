"""A signal of one route: its name, its part of the risk, and what it leaves to the others."""

from __future__ import annotations

import re
from typing import Any

import attrs
import pytest

from apigw_canary import (
    AccessLogs,
    CloudWatchMetrics,
    LambdaMetrics,
    Minute,
    Observation,
    Rollback,
    RolloutPolicy,
    Signal,
    Verdict,
)
from apigw_canary.errors import InvalidInputError
from apigw_canary.judge import parts
from apigw_canary.rollouts import policy_fingerprint
from cloud import END, MINUTE, STAGE, START

ROUTE = "POST /checkout"
CHECKOUT = Signal.errors_5xx(route=ROUTE, margin=0.001)


def plan(*signals: Signal, **options: Any) -> RolloutPolicy:
    return RolloutPolicy.canary(10, 10 * MINUTE, signals=signals, **options)


class TestSignal:
    def test_its_name_has_the_route(self) -> None:
        """So it may be beside the stage's, and that of another route."""
        refused = Signal.custom("refused", route="ANY /{proxy+}")
        found = [CHECKOUT, Signal.errors_4xx(route=ROUTE), refused, Signal.errors_5xx()]
        assert [each.name for each in found] == [
            "errors_5xx of POST /checkout",
            "errors_4xx of POST /checkout",
            "refused of ANY /{proxy+}",
            "errors_5xx",
        ]
        assert [each.counted for each in found] == [
            "errors_5xx",
            "errors_4xx",
            "refused",
            "errors_5xx",
        ]
        assert [each.critical for each in found] == [True, False, False, True]
        assert [each.rare for each in found] == [True, False, False, True]
        assert len(plan(*found).signals) == 4

    @pytest.mark.parametrize(
        "route", ["/checkout", "POST", "POST checkout", "post /a", "POST /a\nb", "", 5]
    )
    def test_a_route_is_a_method_and_a_path(self, route: Any) -> None:
        """As the sources write them."""
        with pytest.raises(InvalidInputError, match="route"):
            Signal.errors_5xx(route=route)

    def test_a_long_path(self) -> None:
        """As long as CloudWatch has it."""
        assert Signal.errors_5xx(route=f"GET /{'a' * 1000}").counted == "errors_5xx"
        with pytest.raises(InvalidInputError, match="route"):
            Signal.errors_5xx(route=f"GET /{'a' * 1020}")

    def test_not_of_latency(self) -> None:
        """Its limit is the stage's."""
        with pytest.raises(InvalidInputError, match="latency"):
            Signal.latency(route=ROUTE)

    def test_a_name_without_its_route_is_refused(self) -> None:
        """It would be taken for the stage's."""
        with pytest.raises(InvalidInputError, match="of POST /checkout"):
            Signal(name="errors_5xx", route=ROUTE)

    def test_as_plain_data(self) -> None:
        """There and back; the record's fingerprint of a policy changes with the route."""
        policy = plan(Signal.errors_5xx(), CHECKOUT)
        assert RolloutPolicy.from_dict(policy.to_dict()) == policy
        fingerprints = {
            policy_fingerprint(plan(Signal.errors_5xx(), *more))
            for more in ([], [CHECKOUT], [Signal.errors_5xx(route="POST /orders", margin=0.001)])
        }
        assert len(fingerprints) == 3


class TestParts:
    def test_the_weights_divide_the_risk(self) -> None:
        """All parts together are 1, of which the routes may have some."""
        signals = [*RolloutPolicy.canary(5, MINUTE).signals, CHECKOUT]
        policy = plan(*signals)
        assert sum(parts(policy)) == pytest.approx(1)
        assert parts(policy)[-1] == pytest.approx(0.5 / 1.2)
        assert sum(parts(policy, 0.25)) == pytest.approx(0.75)

    def test_the_policy_states_it(self) -> None:
        """For signals of a route only, and not for one that decides nothing."""
        reported = Signal.errors_4xx(route=ROUTE, report_only=True)
        said = str(plan(Signal.errors_5xx(weight=1), CHECKOUT, reported, false_rollback=0.03))
        assert said.endswith(
            "errors_5xx of POST /checkout has 33.3 % of the evidence for rolling back, and alone "
            "rolls back at most 1 % of healthy canaries"
        )
        assert "evidence" not in str(plan(Signal.errors_5xx()))


def rows(canary_bad: float, *, n_c: float = 100) -> list[Minute]:
    past = [Minute(START - 5 * MINUTE, 900, 0, 0, 0)]
    return past + [Minute(START + (i + 1) * MINUTE, 900, 0, n_c, canary_bad) for i in range(30)]


def seen(minutes: dict[str, list[Minute]], routes: Any = None) -> Observation:
    return Observation(
        at=START + 40 * MINUTE,
        started_at=START,
        step_started_at=START,
        percent=10,
        minutes=minutes,
        routes=routes,
    )


class TestJudged:
    def test_alone_it_rolls_back(self) -> None:
        """A healthy stage with one route that fails, by that route's minutes."""
        policy = plan(Signal.errors_5xx(), CHECKOUT)
        minutes = {"errors_5xx": rows(0), CHECKOUT.name: rows(5)}
        decision = policy.decide(seen(minutes))
        assert isinstance(decision, Rollback)
        assert "errors_5xx of POST /checkout" in decision.reason

    @pytest.mark.parametrize("requests", [1, 100, 1_000_000])
    @pytest.mark.parametrize("fails", [False, True])
    def test_at_any_traffic(self, requests: int, fails: bool) -> None:
        """A route that fails entirely is found in half an hour at one request a minute too."""
        minutes = {
            "errors_5xx": rows(0),
            CHECKOUT.name: rows(requests if fails else 0, n_c=requests),
        }
        analysis = plan(Signal.errors_5xx(), CHECKOUT).analyze(seen(minutes))
        expected = Verdict.NOT_WORSE if requests == 1_000_000 else Verdict.UNDECIDED
        assert analysis.findings[1].verdict == (Verdict.WORSE if fails else expected)

    @pytest.mark.parametrize("tolerant", [False, True])
    def test_its_tolerance_is_the_only_one_of_the_route(self, tolerant: bool) -> None:
        """A wider one is not undone by the one for all routes."""
        own = Signal.errors_5xx(route=ROUTE, slack=0.2, margin=0.3)
        policy = plan(Signal.errors_5xx(), *([own] if tolerant else []))
        minutes = {"errors_5xx": rows(0), own.name: rows(5)}
        minutes = minutes if tolerant else {"errors_5xx": rows(0)}
        analysis = policy.analyze(seen(minutes, {ROUTE: {"errors_5xx": rows(5)}}))
        assert (analysis.verdict == Verdict.WORSE) != tolerant
        assert [finding.route for finding in analysis.routes] == ([] if tolerant else [ROUTE])

    def test_one_that_is_only_reported_leaves_the_route_to_the_others(self) -> None:
        """It decides nothing, so the tolerance for all routes does."""
        own = Signal.errors_5xx(route=ROUTE, critical=False, report_only=True)
        policy = plan(Signal.errors_5xx(), own)
        minutes = {"errors_5xx": rows(0), own.name: rows(5)}
        analysis = policy.analyze(seen(minutes, {ROUTE: {"errors_5xx": rows(5)}}))
        assert analysis.verdict == Verdict.WORSE

    def test_a_policy_of_one_route_only(self) -> None:
        """The stage is not judged then, nor are other routes."""
        minutes = {CHECKOUT.name: rows(0, n_c=1000)}
        analysis = plan(CHECKOUT).analyze(seen(minutes, {"GET /a": {"errors_5xx": rows(50)}}))
        assert (analysis.verdict, analysis.routes) == (Verdict.NOT_WORSE, ())

    @pytest.mark.traced
    @pytest.mark.long
    def test_forecasts_are_of_the_stage(self) -> None:
        """A route has not the stage's traffic; by itself it is forecast with its own."""
        policy = plan(Signal.errors_5xx(), CHECKOUT)
        asked: Any = {"times": (5,), "rollouts": 10}
        alone = plan(Signal.errors_5xx()).forecast(1000, 0.001, **asked)
        assert policy.forecast(1000, 0.001, **asked) == alone
        assert plan(CHECKOUT).forecast(1000, 0.001, **asked).signal == CHECKOUT.name
        with pytest.raises(InvalidInputError, match="bad_rate"):
            policy.forecast(1000, {"errors_5xx": 0.001, CHECKOUT.name: 0.001})


class TestSources:
    def test_lambda_has_no_routes(self) -> None:
        """Its metrics are those of functions."""
        with pytest.raises(InvalidInputError, match="signals without a route"):
            LambdaMetrics("orders", variable="alias").minutes(STAGE, [CHECKOUT], START, END)

    def test_cloudwatch_has_errors_of_routes_only(self) -> None:
        """No metric of one's own."""
        signal = Signal.custom("refunds", route=ROUTE)
        with pytest.raises(InvalidInputError, match="where they are of one route"):
            CloudWatchMetrics().minutes(STAGE, [signal], START, END)

    def test_access_logs_have_what_is_defined(self) -> None:
        """A signal of a route is defined by its name without the route."""
        signal = Signal.custom("refunds", route=ROUTE)
        line = {name: name for name in ("isCanaryRequest", "status", "httpMethod", "resourcePath")}
        with pytest.raises(InvalidInputError, match=re.escape(f"not '{signal.name}'")):
            AccessLogs("access", format=line).minutes(STAGE, [signal], START, END)


def test_a_route_is_part_of_a_signals_value() -> None:
    """Signals differ by it."""
    assert attrs.evolve(CHECKOUT, margin=0.005) == Signal.errors_5xx(route=ROUTE)
    assert Signal.errors_5xx(margin=0.001) != CHECKOUT
