"""The promise of the evidence, checked by enumeration rather than by simulation.

If a null hypothesis holds, the expectation of the capital after a minute, given any past, is at
most the capital before. Every outcome of a minute is weighted with its exact probability.
"""

from __future__ import annotations

import copy
import functools
import itertools
import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from apigw_canary.judge import betting, evidence, overshoot
from apigw_canary.judge.evidence import Limit, NotWorse, Row, Worse
from apigw_canary.judge.noise import Damping
from apigw_canary.judge.overshoot import Split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

pytestmark = pytest.mark.long

ROUNDING = 1e-12

ARMS = ((12, 12), (30, 5), (4, 16), (60, 2))
"""Requests of baseline and canary in a minute: even, 14 %, 80 %, 3 %."""
RATES = (0.004, 0.06, 0.3, 0.75, 1.0)
TOLERANCES = ((0.5, 0), (1, 0), (1.1, 0.0002), (1.5, 0.1), (5, 0))
NOISES = (0.0, 0.1, 1.0)


@functools.cache
def binomial(n: int, p: float) -> list[tuple[int, float]]:
    """Each count of bad requests out of n, with its probability; without the all but impossible."""
    probabilities = [math.comb(n, x) * p**x * (1 - p) ** (n - x) for x in range(n + 1)]
    return [(x, probability) for x, probability in enumerate(probabilities) if probability > 1e-12]


def histories(n_b: int, n_c: int, p: float) -> Iterator[tuple[str, list[Row]]]:
    """Pasts of all kinds: none, true, misleading, close to a verdict, noisy."""
    hour = 60 * (n_b + n_c)
    usual = Row(n_b, round(n_b * p), n_c, round(n_c * p))
    bad = Row(n_b, round(n_b * p), n_c, min(n_c, round(n_c * p) + 1 + n_c // 6))
    yield "none", []
    yield "an hour of baseline", [Row(hour, round(hour * p), 0, 0)]
    yield "a better baseline", [Row(2000, 1, 0, 0)]
    yield "under suspicion", [Row(hour, round(hour * p), 0, 0), usual, bad]
    yield "noisy", [Row(n_b, n_b // 2, n_c, 0), Row(n_b, 0, n_c, n_c // 2), usual]
    yield "a healthy hour", [Row(hour, round(hour * p), 0, 0), *[usual] * 60]
    yield "beyond 1/alpha", [Row(hour, 0, 0, 0), *[Row(n_b, 0, n_c, n_c)] * 3]


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the outcomes of a minute have in common is computed for the first of them only."""

    def keep(module: ModuleType, name: str) -> None:
        function = functools.cache(getattr(module, name))
        monkeypatch.setattr(
            module,
            name,
            lambda *given: function(*(tuple(g) if isinstance(g, list) else g for g in given)),
        )

    keep(betting, "bets")
    keep(betting, "division")
    keep(overshoot, "log_factor")


@pytest.mark.no_cover
@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("ratio, slack", TOLERANCES)
@pytest.mark.parametrize("arms", ARMS)
def test_the_evidence_for_worse_does_not_grow_by_itself(
    arms: tuple[int, int], ratio: float, slack: float, noise: float
) -> None:
    """With the boost, at the limit of what is tolerated and within, after any past."""
    n_b, n_c = arms
    alpha = 0.01 if noise == 0 else 0.05
    for p in (p for p in RATES if ratio * p + slack <= 1):
        for past_is, past in histories(n_b, n_c, p):
            game = Worse(ratio=ratio, slack=slack, noise=noise, alpha=alpha)
            before = 0.0
            for row in past:
                before = game.add(row)
            after = {
                (x_b, x_c): math.exp(copy.copy(game).add(Row(n_b, x_b, n_c, x_c)) - before)
                for x_b, _ in binomial(n_b, p)
                for x_c, _ in binomial(n_c, ratio * p + slack)
            }
            # The limit, and the rate with `ratio` times the odds, which the boost is made for.
            # (For a ratio below 1, as the intervals ask for, that would be beyond the limit.)
            for p_c in (ratio * p + slack, ratio * p / (1 - p + max(ratio, 1.0) * p)):
                mean = math.fsum(
                    likely_b * likely_c * after[x_b, x_c]
                    for x_b, likely_b in binomial(n_b, p)
                    for x_c, likely_c in binomial(n_c, p_c)
                    if (x_b, x_c) in after
                )
                assert mean <= 1 + ROUNDING, (p, p_c, past_is)


@pytest.mark.no_cover
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("ratio, margin", [(1, 0.005), (1.1, 0.005), (1.2, 0.02), (3, 0.3)])
@pytest.mark.parametrize("arms", ARMS)
def test_the_evidence_for_not_worse_does_not_grow_by_itself(
    arms: tuple[int, int], ratio: float, margin: float, noise: float
) -> None:
    """For a canary that is worse by exactly the margin."""
    n_b, n_c = arms
    for p in (p for p in RATES if ratio * p + margin <= 1):
        for past_is, past in histories(n_b, n_c, p):
            game = NotWorse(ratio=ratio, margin=margin, noise=noise)
            before = 0.0
            for row in past:
                before = game.add(row)
            mean = math.fsum(
                likely_b
                * likely_c
                * math.exp(copy.copy(game).add(Row(n_b, x_b, n_c, x_c)) - before)
                for x_b, likely_b in binomial(n_b, p)
                for x_c, likely_c in binomial(n_c, ratio * p + margin)
            )
            assert mean <= 1 + ROUNDING, (p, past_is)


@pytest.mark.parametrize("limit", [0.001, 0.05, 0.4, 0.95])
@pytest.mark.parametrize("requests", [1, 20, 100])
def test_the_evidence_above_a_limit_does_not_grow_by_itself(requests: int, limit: float) -> None:
    """For an arm exactly at its limit."""
    for past in ([], [(50, 3)], [(500, 0), (10, 10)]):
        before = evidence.above(past, limit=limit)[-1] if past else 0.0
        mean = math.fsum(
            likely * math.exp(evidence.above([*past, (requests, x)], limit=limit)[-1] - before)
            for x, likely in binomial(requests, limit)
        )
        assert mean <= 1 + ROUNDING


SMALL_ARMS = ((9, 7), (16, 3), (2, 10))
"""Small enough to enumerate what an adversary may hide."""
HIDDEN = 2
"""Requests that the adversary hides at most, of any kind."""
CLOSE = [Row(900, 9, 0, 0), Row(60, 1, 30, 4), Row(60, 1, 30, 3, 1, 0)]
"""A past after which the boost is at work, with an unknown outcome in it."""


def hidings(row: Row) -> Iterator[Row]:
    """What somebody can make of a minute who sees each outcome and hides some of them."""
    n_b, x_b, n_c, x_c = (int(value) for value in row[:4])
    kinds = (x_b, n_b - x_b, x_c, n_c - x_c)
    for bad_b, good_b, bad_c, good_c in itertools.product(
        *(range(min(k, HIDDEN) + 1) for k in kinds)
    ):
        if bad_b + good_b + bad_c + good_c <= HIDDEN:
            yield Row(n_b, x_b - bad_b, n_c, x_c - bad_c, bad_b + good_b, bad_c + good_c)


def mean_of_the_best_hiding(
    arms: tuple[int, int], p: tuple[float, float], log_gain: Callable[[Row], float]
) -> float:
    """The expectation of the capital's multiplier, if in each outcome what pays most is hidden."""
    n_b, n_c = arms
    return math.fsum(
        likely_b
        * likely_c
        * math.exp(max(log_gain(hidden) for hidden in hidings(Row(n_b, x_b, n_c, x_c))))
        for x_b, likely_b in binomial(n_b, p[0])
        for x_c, likely_c in binomial(n_c, p[1])
    )


@pytest.mark.no_cover
@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("past", [[], [Row(900, 9, 0, 0)], CLOSE])
@pytest.mark.parametrize("noise", [0.0, 0.5])
@pytest.mark.parametrize("ratio, slack", [(1, 0), (1.1, 0.0002), (1.5, 0.1)])
@pytest.mark.parametrize("arms", SMALL_ARMS)
def test_hiding_outcomes_does_not_pay_against_the_canary(
    arms: tuple[int, int], ratio: float, slack: float, noise: float, past: list[Row]
) -> None:
    """Whoever sees all outcomes and hides what pays most gains nothing on average."""
    game = Worse(ratio=ratio, slack=slack, noise=noise, alpha=0.05)
    for row in past:
        game.add(row)
    before = game._log
    assert before < -math.log(0.05), "the correction for overshoot ends there"
    gain = functools.cache(lambda row: copy.copy(game).add(row) - before)
    for p in (p for p in RATES if ratio * p + slack <= 1):
        mean = mean_of_the_best_hiding(arms, (p, ratio * p + slack), gain)
        assert mean <= 1 + ROUNDING, p


@pytest.mark.parametrize("past", [[], [Row(900, 9, 0, 0)], CLOSE])
@pytest.mark.parametrize("noise", [0.0, 0.5])
@pytest.mark.parametrize("ratio, margin", [(1, 0.005), (1.2, 0.02), (3, 0.3)])
@pytest.mark.parametrize("arms", SMALL_ARMS)
def test_hiding_outcomes_does_not_pay_for_the_canary(
    arms: tuple[int, int], ratio: float, margin: float, noise: float, past: list[Row]
) -> None:
    """Nor for whoever wants a canary promoted that is worse by exactly the margin."""

    game = NotWorse(ratio=ratio, margin=margin, noise=noise)
    before = 0.0
    for row in past:
        before = game.add(row)
    gain = functools.cache(lambda row: copy.copy(game).add(row) - before)
    for p in (p for p in RATES if ratio * p + margin <= 1):
        mean = mean_of_the_best_hiding(arms, (p, ratio * p + margin), gain)
        assert mean <= 1 + ROUNDING, p


@pytest.mark.no_cover
@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("past", [[], [Row(900, 9, 0, 0)], CLOSE])
@pytest.mark.parametrize("limit", [0.01, 0.2, 0.9])
@pytest.mark.parametrize("arms", SMALL_ARMS)
def test_hiding_outcomes_does_not_pay_against_a_limit(
    arms: tuple[int, int], limit: float, past: list[Row]
) -> None:
    """For a canary at its limit beside any baseline, and for one as bad as its baseline."""
    ratio, slack = 1.1, 0.0002
    game, limited = (
        Worse(ratio=ratio, slack=slack, noise=0.05, alpha=0.025),
        Limit(limit),
    )
    before = 0.0
    for row in past:
        game.add(row)
        before = limited.add(row, game.multiplier, alone=False)

    @functools.cache
    def gain(row: Row) -> float:
        twin = copy.copy(game)
        twin.add(row)
        return copy.copy(limited).add(row, twin.multiplier, alone=False) - before

    points = [(p, limit) for p in (0.0, *RATES)]
    points += [(p, ratio * p + slack) for p in RATES if ratio * p + slack <= 1]
    for point in points:
        assert mean_of_the_best_hiding(arms, point, gain) <= 1 + ROUNDING, point
    # At a step at 100 % the limit is judged by itself.
    alone = mean_of_the_best_hiding(
        (0, arms[1]),
        (0.0, limit),
        lambda row: copy.copy(limited).add(row, 0.0, alone=True) - before,
    )
    assert alone <= 1 + ROUNDING


def test_the_enumeration_notices_a_completion_that_pays() -> None:
    """With unknown requests left out instead, hiding does pay: the tests above can fail."""
    game = Worse(ratio=1.0, slack=0.0, noise=0.0, alpha=0.05)
    game.add(Row(900, 9, 0, 0))

    def left_out(row: Row) -> float:
        n_b, x_b, n_c, x_c, u_b, u_c = row
        return copy.copy(game).add(Row(n_b - u_b, x_b, n_c - u_c, x_c))

    assert mean_of_the_best_hiding((9, 7), (0.06, 0.06), left_out) > 1.01


@pytest.mark.traced
def test_capital_that_is_all_but_lost_is_left_as_it_is() -> None:
    """Where no outcome leaves a capital that a float can hold, there is nothing to multiply."""
    parts = [(-5000.0, -0.2, 0.9), (-math.inf, 0.0, 0.0)]
    assert overshoot.log_factor(Split(20, 8, 3, 1.0), parts, Damping(1, 0), 0.3) == 0


def test_capital_that_no_float_can_hold_is_cut_off() -> None:
    """Each bad canary request multiplies by e^300: all outcomes but the first one reject."""
    factor = overshoot.log_factor(
        Split(20, 8, 3, 1.0), [(math.log(0.9), -0.2, 300.0)], Damping(1, 0), 0.9
    )
    first = math.comb(20, 3) / math.comb(28, 3)
    assert 1 - first + first * 0.9 * math.exp(factor - 0.2) == pytest.approx(0.9, rel=1e-12)


def test_a_boosted_minute_keeps_its_expectation_for_each_number_of_bad_requests() -> None:
    """Given the minute's bad requests, the expectation is the lesser of capital and promise."""
    parts = [(math.log(0.1), -0.2, 0.9), (math.log(0.2), -0.1, 0.3)]
    for ratio in (1.0, 1.1, 4.0):
        for m in (1, 3, 9, 24):
            split = Split(20, 8, m, ratio)
            factor = math.exp(overshoot.log_factor(split, parts, Damping(1, 0), 0.3))
            weights = {
                x: math.comb(8, x) * math.comb(20, m - x) * ratio**x
                for x in range(max(0, m - 20), min(m, 8) + 1)
            }
            total = sum(weights.values())
            capital = {
                x: sum(map(math.exp, overshoot.after(parts, Damping(1, 0), x))) for x in weights
            }
            promised = min(sum(w * capital[x] for x, w in weights.items()) / total, 0.3)
            kept = sum(w * min(factor * capital[x], 1) for x, w in weights.items()) / total
            assert kept == pytest.approx(promised, rel=1e-9)


@pytest.mark.parametrize("noise", [0.0, 0.5])
@pytest.mark.parametrize("ratio, slack", [(1.0, 0.0), (1.1, 0.0002), (2.0, 0.01)])
def test_as_much_is_taken_back_as_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, ratio: float, slack: float, noise: float
) -> None:
    """No more, and no less: given the bad requests, capital keeps its expectation."""
    n_b, n_c = 20, 8
    game = Worse(ratio=ratio, slack=slack, noise=noise, alpha=1 / 20)
    before = game.add(Row(900, 9, 0, 0))
    while before < math.log(6):
        before = game.add(Row(300, 3, n_c, 1))
    assert before < math.log(19)

    def after(m: int, x: int) -> float:
        return copy.copy(game).add(Row(n_b, m - x, n_c, x))

    cut = 0.0
    for m in (1, 3, 9, 24):
        weights = {
            x: math.comb(n_c, x) * math.comb(n_b, m - x) * ratio**x
            for x in range(max(0, m - n_b), min(m, n_c) + 1)
        }
        corrected = {x: after(m, x) for x in weights}
        with monkeypatch.context() as patch:
            # So low that nothing is cut off.
            patch.setattr(overshoot, "log_factor", lambda *_: -50.0)
            whole = {x: after(m, x) + 50 for x in weights}
        cut = max(cut, *(log - math.log(20) for log in whole.values()))
        mean, promised = (
            sum(w * math.exp(logs[x]) for x, w in weights.items()) / sum(weights.values())
            for logs in (corrected, whole)
        )
        assert mean == pytest.approx(min(promised, math.exp(before)), rel=1e-7)
    assert cut > 0.1


@pytest.mark.parametrize("before", [0.05, 0.3, 0.9])
def test_a_minute_is_multiplied_unless_that_brings_next_to_nothing(
    monkeypatch: pytest.MonkeyPatch, before: float
) -> None:
    """Of many bad requests the factor is left out where it is 1, to a part in 5,000."""
    left_out, computed = 0, 0
    for m in (40, 400, 4000, 40_000):
        split, damping = Split(15 * m, 5 * m, m, 1.0), Damping(1.0, 1e-3)
        for change in (0.1, 0.3, 1.0, 2.0):
            slope = change / math.sqrt(m)
            still = -m * math.log1p(math.expm1(slope) / 4)
            parts = [(math.log(before), still, slope)]
            factor = overshoot.log_factor(split, parts, damping, before)
            with monkeypatch.context() as patch:
                patch.setattr(overshoot, "_WIDE", math.inf)
                exact = overshoot.log_factor(split, parts, damping, before)
            if factor == exact:
                computed += 1
            else:
                left_out += 1
                assert factor == 0.0
                assert abs(exact) < 2e-4
    assert computed >= 4
    assert left_out >= 1


counts = st.one_of(
    st.sampled_from([0.0, 1e-300, 0.5, 1.0, 2.0, 60.0, 1e4, 1e9, 1e15, 1e300]),
    st.floats(0, 1e6),
    st.integers(0, 3000).map(float),
)
shares = st.one_of(st.sampled_from([0.0, 1.0, 0.5]), st.floats(0, 1))


@st.composite
def rows(draw: st.DrawFn) -> Row:
    n_b, n_c = draw(counts), draw(counts)
    x_b, x_c = n_b * draw(shares), n_c * draw(shares)
    if draw(st.booleans()):
        x_b, x_c = float(math.floor(x_b)), float(math.floor(x_c))
    return Row(n_b, x_b, n_c, x_c, (n_b - x_b) * draw(shares), (n_c - x_c) * draw(shares))


@given(
    minutes=st.lists(rows(), max_size=8),
    ratio=st.sampled_from([1.0, 1.1, 3.0, 100.0]),
    slack=st.sampled_from([0.0, 1e-9, 0.0002, 0.2, 0.99]),
    noise=st.sampled_from([0.0, 1e-9, 1e-5, 0.1, 2.0]),
    alpha=st.sampled_from([1e-9, 0.01, 0.05, 0.5]),
)
@example(minutes=[Row(100, 100, 10, 10)] * 3, ratio=1.0, slack=0.0, noise=0.1, alpha=0.05)
@example(minutes=[Row(1e9, 0, 1e9, 1e9)] * 3, ratio=1.0, slack=0.0, noise=0.1, alpha=0.05)
@example(minutes=[Row(1, 0, 1e6, 1e6)] * 3, ratio=1.0, slack=0.0, noise=0.0, alpha=0.05)
@example(
    minutes=[Row(1e7, 1e6, 0, 0), Row(5e6, 5e5, 5e6, 5e5)],
    ratio=1.0,
    slack=0.0,
    noise=0.0,
    alpha=0.05,
)
@example(minutes=[Row(5e6, 5e5, 5e6, 5e5 + 9)] * 2, ratio=1.0, slack=0.0, noise=0.0, alpha=0.05)
def test_any_counts_give_a_number(
    minutes: list[Row], ratio: float, slack: float, noise: float, alpha: float
) -> None:
    """No exception, NaN or infinity; a rejection stays where it is."""
    limit = min(max(slack, 1e-6), 0.999)
    worse = evidence.worse(minutes, ratio=ratio, slack=slack, noise=noise, alpha=alpha)
    not_worse = evidence.not_worse(minutes, ratio=ratio, margin=slack + 0.005, noise=noise)
    limited = evidence.worse(
        minutes,
        ratio=ratio,
        slack=slack,
        noise=noise,
        alpha=alpha,
        limit=limit,
        no_baseline_from=len(minutes) // 2,
    )
    above = evidence.above(((row.canary_requests, row.canary_bad) for row in minutes), limit=limit)
    for path in (worse, not_worse, limited, above):
        assert len(path) == len(minutes)
        assert all(math.isfinite(log) for log in path)
    enough = math.log(1 / alpha)
    for path in (worse, limited):
        if any(log >= enough for log in path):
            assert path[-1] >= enough


@given(minutes=st.lists(rows(), min_size=1, max_size=40), noise=st.sampled_from([0.0, 0.1]))
@example(minutes=[Row(500, 0, 500, 1)] * 21 + [Row(500, 0, 500, 20)] * 9, noise=0.0)
def test_what_counts_is_never_more_than_the_capital(minutes: list[Row], noise: float) -> None:
    """So what only counts later can only make false rollbacks rarer."""
    capital = Worse(ratio=1.1, slack=0.0002, noise=noise, alpha=0.05)
    counted = evidence.WorseEvidence(ratio=1.1, slack=0.0002, noise=noise, alpha=0.05)
    found = False
    for row in minutes:
        log, counts = capital.add(row), counted.add(row)
        assert found or counts <= log or counts == 0.0
        found = found or counts >= math.log(20)


def test_minutes_with_one_arm_only_are_no_evidence() -> None:
    """A hundred bad minutes of the canary alone, or of the baseline alone, say nothing."""
    alone = [Row(0, 0, 50, 50), Row(50, 0, 0, 0)] * 100
    assert evidence.worse(alone, ratio=1, slack=0, noise=0, alpha=0.05) == [0.0] * 200
    assert evidence.not_worse(alone, ratio=1, margin=0.01, noise=0) == [0.0] * 200


small = st.integers(0, 40)


@given(
    past=st.lists(st.tuples(small, small), max_size=5),
    x_b=small,
    x_c=st.integers(0, 39),
    more=st.integers(1, 40),
    noise=st.sampled_from([0.0, 0.1, 0.5, 2.0]),
)
def test_more_bad_canary_requests_in_the_last_minute_are_no_less_evidence(
    past: list[tuple[int, int]], x_b: int, x_c: int, more: int, noise: float
) -> None:
    """Exactly so without the boost. With it, to a tenth: what it gives depends on the total."""

    def last(bad: int, *, boosted: bool) -> float:
        minutes = [Row(200, b, 40, c) for b, c in past] + [Row(200, x_b, 40, bad)]
        if not boosted:  # only whole counts are
            minutes = [row._replace(baseline_requests=200.5) for row in minutes]
        return evidence.worse(minutes, ratio=1.1, slack=0.0002, noise=noise, alpha=0.05)[-1]

    worse = min(x_c + more, 40)
    assert last(worse, boosted=False) >= last(x_c, boosted=False) - ROUNDING
    assert last(worse, boosted=True) >= last(x_c, boosted=True) - 0.1


@pytest.mark.parametrize("ratio, slack, noise", [(1, 0, 0), (1.1, 0.0002, 0.1)])
def test_a_canary_that_fails_is_found_at_once(ratio: float, slack: float, noise: float) -> None:
    """Every request bad, on a twentieth of the traffic: the first minute decides."""
    minutes = [Row(28_500, 29, 0, 0), Row(475, 0, 25, 25)]
    path = evidence.worse(minutes, ratio=ratio, slack=slack, noise=noise, alpha=0.01)
    assert path[-1] >= math.log(100)
