"""Metrics that cannot be used: refused before a canary begins, and reported while it runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest

from acting import V2, fresh, sent, serving
from apigw_canary import AccessLogs, Hold, Minute, Rollback, RolloutPolicy, Signal
from apigw_canary.errors import CanaryError, MetricsError
from apigw_canary.testing import Fault, rehearsal

MINUTE = timedelta(minutes=1)
FIVE = Signal.errors_5xx()
POLICY = RolloutPolicy.canary(10, 10 * MINUTE, signals=[FIVE])


class Source:
    """A source of the caller's own: production with 450 requests a minute."""

    def __init__(self, unknown: float = 0, raises: Exception | None = None) -> None:
        self.unknown = unknown
        self.raises = raises

    def minutes(
        self, stage: object, signals: Sequence[Signal], start: Any, end: Any
    ) -> Mapping[str, Sequence[Minute]]:
        del stage, signals
        if self.raises is not None:
            raise self.raises
        rows = [
            Minute(start + n * MINUTE, 450, 0, 0, 0, self.unknown)
            for n in range(int((end - start) / MINUTE))
        ]
        return {"errors_5xx": rows}


CRITICAL = Signal.custom("checkout_failed", critical=True)
REFUSED: list[tuple[Source, Sequence[Signal], str]] = [
    (Source(), [FIVE, CRITICAL], "given no minute of checkout_failed in the past hour"),
    (Source(unknown=2), [FIVE], r"outcome of 0\.44 % of 27,000 requests in the past hour"),
    (Source(raises=KeyError("x")), [FIVE], "KeyError"),
]


@pytest.mark.parametrize("source, signals, said", REFUSED)
def test_what_the_hour_before_shows_is_refused(
    source: Source, signals: Sequence[Signal], said: str
) -> None:
    """A canary that could never be promoted is not enabled: nothing is changed."""
    policy = RolloutPolicy.canary(10, 10 * MINUTE, signals=signals)
    with rehearsal(requests_per_minute=10) as aws:
        before = serving(aws)
        with pytest.raises(CanaryError, match=said) as raised:
            fresh(aws, metrics=source).enable_canary(10, variables=V2, policy=policy)
        assert "did not change it" in str(raised.value)
        assert serving(aws) == before
        assert not {"CreateDeployment", "UpdateStage"} & set(sent(aws))


@pytest.mark.parametrize(
    "source, signals",
    [
        (Source(unknown=1), [FIVE]),
        (Source(unknown=9), [Signal.errors_5xx(critical=False, report_only=True), CRITICAL]),
        (Source(), [FIVE, Signal.custom("refunds", critical=False)]),
    ],
)
def test_what_would_not_stop_a_canary_is_not_refused(
    source: Source, signals: Sequence[Signal]
) -> None:
    """A few unknown outcomes, or a signal that decides nothing, are no reason."""

    class WithCritical(Source):
        def minutes(
            self, stage: object, signals: Sequence[Signal], start: Any, end: Any
        ) -> Mapping[str, Sequence[Minute]]:
            rows = source.minutes(stage, signals, start, end)["errors_5xx"]
            known = [Minute(row.at, row.baseline_requests, 0, 0, 0) for row in rows]
            return {"errors_5xx": rows, "checkout_failed": known}

    policy = RolloutPolicy.canary(10, 10 * MINUTE, signals=signals)
    with rehearsal(requests_per_minute=10) as aws:
        stage = fresh(aws, metrics=WithCritical())
        assert stage.enable_canary(10, variables=V2, policy=policy) is not None


@pytest.mark.parametrize(
    "options, metrics, said",
    [
        ({"lag": {"5XXError": timedelta(days=30)}}, None, "no datapoint of 5XXError"),
        ({"cut_lines": lambda *_: 0.01}, AccessLogs, "could not be read for errors_5xx"),
    ],
)
def test_missing_series_and_broken_lines_are_refused(
    options: Any, metrics: Callable[[], Any] | None, said: str
) -> None:
    """CloudWatch without errors, and access logs of which one line in a hundred breaks."""
    with rehearsal(**options) as aws:
        source = {} if metrics is None else {"metrics": metrics()}
        with pytest.raises(MetricsError, match=said) as raised:
            fresh(aws, **source).enable_canary(10, variables=V2, policy=POLICY)
        assert "did not change it" in str(raised.value)
        if metrics is not None:
            assert "correct their format (docs/access-logs.md)" in str(raised.value)
            assert "its error metric is late or missing" in str(raised.value)
        assert aws.stage.describe().canary is None


@pytest.mark.parametrize(
    "raises", [KeyError("orders"), ValueError("a\x1b[31m\nb"), RuntimeError("x" * 10_000)]
)
def test_a_source_that_raises_is_a_failure(
    raises: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Its text is bounded and on one line, its traceback is logged once, and after
    `max_unobserved` the canary is rolled back.
    """
    with rehearsal(requests_per_minute=10) as aws:
        source = Source()
        canary = fresh(aws, metrics=source).enable_canary(10, variables=V2, policy=POLICY)
        canary.observe(POLICY)
        source.raises = raises
        with caplog.at_level(logging.WARNING, "apigw_canary"):
            seen = canary.observe(POLICY)
        assert seen.failure is not None
        assert type(raises).__name__ in seen.failure
        assert seen.failure.isprintable()
        assert len(seen.failure) <= 700
        (record,) = caplog.records
        assert record.exc_info is not None
        assert isinstance(record.exc_info[1], MetricsError)
        assert record.exc_info[1].__cause__ is raises
        assert isinstance(POLICY.decide(seen), Hold)
        aws.sleep(31 * 60)
        assert isinstance(POLICY.decide(canary.observe(POLICY)), Rollback)


@pytest.mark.parametrize("fault", [Fault.ACCESS_DENIED, Fault.EXPIRED_CREDENTIALS])
def test_only_the_stage_itself_raises(fault: Fault) -> None:
    """What the metrics cannot give is in the observation; without the stage there is none."""
    with rehearsal(requests_per_minute=10) as aws:
        canary = aws.stage.enable_canary(10, variables=V2)
        aws.fail("GetMetricData", fault)
        assert canary.observe(POLICY).failure is not None
        aws.fail("GetStage", fault)
        with pytest.raises(CanaryError):
            canary.observe(POLICY)


BLIND = RolloutPolicy.canary(10, 30 * MINUTE, signals=[FIVE])


@pytest.mark.long
@pytest.mark.parametrize("store", [True, False])
def test_a_process_a_look_rolls_back(store: bool) -> None:
    """Since when readings fail is on record: the scheduled example ends a canary that nobody can
    observe after `max_unobserved`, with one write of the record.
    """
    with rehearsal() as aws:
        options = {"records": Store()} if store else {}
        for minute in range(60):
            if minute >= 5:
                aws.fail("GetMetricData", Fault.ACCESS_DENIED)
            stage = fresh(aws, **options)
            canary = stage.enable_canary(10, release="r1", variables=V2, policy=BLIND)
            decision = BLIND.decide(canary.observe(BLIND))
            canary.apply(decision)
            if isinstance(decision, Rollback):
                break
            aws.sleep(60)
        else:
            pytest.fail("a canary that nobody can observe was kept")
        assert 35 <= minute <= 37


def test_one_write_for_each_change() -> None:
    """The record is written when readings begin to fail, and when they succeed again."""
    with rehearsal(requests_per_minute=10) as aws:
        aws.stage.enable_canary(10, release="r1", variables=V2)
        aws.sleep(60)
        began, written = aws.now(), []
        for failing in (False, True, True, True, False, False):
            if failing:
                aws.fail("GetMetricData", Fault.ACCESS_DENIED)
            canary = fresh(aws).canary()
            assert canary is not None
            aws.calls.clear()
            seen = canary.observe(POLICY)
            written.append(sent(aws).count("UpdateDeployment"))
            assert seen.failing_since == (began + MINUTE if failing else None)
            aws.sleep(60)
    assert written == [0, 1, 0, 0, 1, 0]


@pytest.mark.long
def test_a_record_that_cannot_be_written_stops_nothing() -> None:
    """The observation is made, and this process remembers by itself."""
    with rehearsal(requests_per_minute=10) as aws:
        stage = fresh(aws)
        canary = stage.enable_canary(10, release="r1", variables=V2)
        began = aws.now()
        decisions: list[type] = []
        for _ in range(32):
            aws.fail("GetMetricData", Fault.ACCESS_DENIED)
            aws.fail("UpdateDeployment", Fault.ACCESS_DENIED)
            seen = canary.observe(POLICY)
            assert seen.failure is not None
            assert seen.failing_since == began
            decisions.append(type(POLICY.decide(seen)))
            aws.sleep(60)
        assert decisions == [Hold] * 31 + [Rollback]


def test_a_caller_states_when_all_could_be_read() -> None:
    """What the caller states is believed before the record."""
    with rehearsal(requests_per_minute=10) as aws:
        aws.stage.enable_canary(10, release="r1", variables=V2)
        complete = aws.now()
        aws.sleep(31 * 60)
        canary = fresh(aws).canary()
        assert canary is not None
        aws.fail("GetMetricData", Fault.ACCESS_DENIED)
        seen = canary.observe(POLICY, last_complete_at=complete)
        assert seen.failing_since == complete
        assert isinstance(POLICY.decide(seen), Rollback)


class Store:
    """A caller's store of records, in memory."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def load(self, key: str) -> str | None:
        return self.texts.get(key)

    def save(self, key: str, text: str, *, expected: str | None) -> None:
        assert self.texts.get(key) == expected
        self.texts[key] = text
