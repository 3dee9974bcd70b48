"""Routes: one that fails while the others do well is found, and the promise holds over all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apigw_canary import Minute, Observation, Rollback, RolloutPolicy, Signal, Verdict
from apigw_canary.judge import routes
from apigw_canary.judge.routes import LISTED

MINUTE = timedelta(minutes=1)
START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
POLICY = RolloutPolicy.canary(10, 10 * MINUTE, signals=[Signal.errors_5xx()])


def series(
    canary_bad: float, *, count: int = 30, n_b: float = 900, n_c: float = 100, known: bool = True
) -> list[Minute]:
    """A minute before the start, and minutes of both arms; the baseline without bad requests."""
    past = [Minute(START - 5 * MINUTE, n_b, 0, 0, 0)] if known else []
    return [
        *past,
        *(Minute(START + (i + 1) * MINUTE, n_b, 0, n_c, canary_bad) for i in range(count)),
    ]


def seen(
    by_route: dict[str, list[Minute]] | None, stage: list[Minute] | None = None
) -> Observation:
    return Observation(
        at=START + 40 * MINUTE,
        started_at=START,
        step_started_at=START,
        percent=10,
        minutes={"errors_5xx": series(0) if stage is None else stage},
        routes=None
        if by_route is None
        else {route: {"errors_5xx": minutes} for route, minutes in by_route.items()},
    )


HEALTHY = {f"GET /r{i}": series(0, n_b=9, n_c=1) for i in range(99)}


def test_a_failing_route_is_rolled_back_and_named() -> None:
    """One of a hundred routes fails in each canary request; the stage as a whole shows nothing."""
    decision = POLICY.decide(seen({**HEALTHY, "POST /pay": series(1, n_b=9, n_c=1)}))
    assert isinstance(decision, Rollback)
    assert "errors_5xx of POST /pay: canary 100.00 % of 30" in str(decision)
    assert POLICY.analyze(seen(HEALTHY)).verdict is Verdict.NOT_WORSE


def test_the_worst_routes_come_first() -> None:
    """In the order of their evidence, and no more than a person reads."""
    failing = {f"GET /bad{i}": series(i / 10, n_b=90, n_c=10) for i in range(1, 20)}
    found = POLICY.analyze(seen({**HEALTHY, **failing})).routes
    assert [finding.route for finding in found[:2]] == ["GET /bad19", "GET /bad18"]
    assert len(found) == LISTED
    assert {finding.verdict for finding in found[:2]} == {Verdict.WORSE}
    odds = [finding.worse_evidence for finding in found]
    assert odds == sorted(odds, reverse=True)


def test_routes_share_the_risk() -> None:
    """The more routes, the more each has to show; together they have the policy's part."""
    for others in (1, 9, 99):
        healthy = dict(list(HEALTHY.items())[:others])
        (finding,) = POLICY.analyze(seen({**healthy, "GET /bad": series(1)})).routes
        assert finding.worse_threshold == pytest.approx(
            (others + 1) / (POLICY.false_rollback * POLICY.route_weight)
        )
    (stage,) = POLICY.analyze(seen(HEALTHY)).findings
    assert stage.worse_threshold == pytest.approx(1 / (0.05 * 0.75))
    (alone,) = POLICY.analyze(seen(None)).findings
    assert alone.worse_threshold == pytest.approx(1 / 0.05)


def test_a_source_without_routes_leaves_all_to_the_stage() -> None:
    """Measured none and not measured differ: the policy is the same whatever the traffic."""
    (none,) = POLICY.analyze(seen({})).findings
    assert none.worse_threshold == pytest.approx(1 / (0.05 * 0.75))


def test_without_weight_routes_are_reported_only() -> None:
    """They are named, worst first, and decide nothing."""
    policy = attrs.evolve(POLICY, route_weight=0)
    analysis = policy.analyze(seen({**HEALTHY, "POST /pay": series(1, n_b=9, n_c=1)}))
    assert analysis.verdict is Verdict.NOT_WORSE
    assert analysis.routes[0].route == "POST /pay"
    assert analysis.worse_evidence == policy.analyze(seen(None)).worse_evidence


def test_a_route_only_the_canary_has_cannot_be_compared() -> None:
    """It has no baseline, and must not change what the others have to show."""
    new = series(1, n_b=0, n_c=10, known=False)
    assert POLICY.analyze(seen({**HEALTHY, "GET /new": new})) == POLICY.analyze(seen(HEALTHY))


def test_report_only_signals_have_no_routes() -> None:
    """What decides nothing for the stage decides nothing for a route."""
    policy = RolloutPolicy.canary(
        10,
        10 * MINUTE,
        signals=[
            Signal.errors_5xx(),
            Signal.custom("refunds", report_only=True),
        ],
    )
    observation = attrs.evolve(
        seen(HEALTHY), routes={"GET /r": {"errors_5xx": series(0), "refunds": series(50)}}
    )
    assert policy.analyze(observation).routes == ()


def test_included_counts_are_subtracted() -> None:
    """Where the stage's series include the canary's requests, the routes' do too."""
    inclusive = [
        Minute(
            m.at,
            m.baseline_requests + m.canary_requests,
            m.canary_bad,
            m.canary_requests,
            m.canary_bad,
        )
        for m in series(2, n_b=500, n_c=500)
    ]
    stage = [
        Minute(m.at, m.baseline_requests + m.canary_requests, 0, m.canary_requests, 0)
        for m in series(0, n_b=900, n_c=100)
    ]
    observation = attrs.evolve(seen({"GET /r": inclusive}, stage), overlap="included")
    (finding,) = POLICY.analyze(observation).routes
    assert (finding.baseline_bad, finding.canary_bad) == (0, 60)


@given(st.lists(st.integers(0, 3), min_size=2, max_size=30))
@settings(max_examples=20)
def test_routes_left_out_only_lower_the_evidence(bad: list[int]) -> None:
    """Judging only the most suspicious ones never finds more than judging all of them."""
    observation = seen(
        {f"GET /r{i}": series(b / 10, n_b=90, n_c=10, count=5) for i, b in enumerate(bad)}
    )
    everything = POLICY.analyze(observation).worse_evidence
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(routes, "MOST_JUDGED", 3)
        assert POLICY.analyze(observation).worse_evidence <= everything * (1 + 1e-9)


@pytest.mark.no_cover
@pytest.mark.long
def test_healthy_routes_are_rarely_rolled_back() -> None:
    """100 rollouts of 20 routes with errors of their own: at most 5 % and chance (p < 0.001)."""
    rolled_back = 0
    for seed in range(100):
        rng = Random(seed)
        healthy = {
            f"GET /r{i}": [
                Minute(START - 5 * MINUTE, 2000, 40, 0, 0),
                *(
                    Minute(
                        START + (t + 1) * MINUTE,
                        90,
                        sum(rng.random() < 0.02 for _ in range(90)),
                        10,
                        sum(rng.random() < 0.02 for _ in range(10)),
                    )
                    for t in range(20)
                ),
            ]
            for i in range(20)
        }
        rolled_back += POLICY.analyze(seen(healthy)).verdict is Verdict.WORSE
    assert rolled_back <= 13
