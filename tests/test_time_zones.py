"""Times of any zone, on the nights in which its clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from attrs import evolve, fields
from hypothesis import given
from hypothesis import strategies as st

from apigw_canary import (
    AccessLogs,
    Alarm,
    CloudWatchMetrics,
    Decision,
    LambdaMetrics,
    Minute,
    Observation,
    Rollback,
    RolloutPolicy,
    Stage,
)
from apigw_canary.aws.calls import Calls
from apigw_canary.errors import InvalidInputError
from apigw_canary.testing import Backend, Rehearsal, rehearsal
from apigw_canary.values import validation
from cloud import STAGE, Aws, read

gettz = pytest.importorskip("dateutil.tz").gettz  # which botocore uses, and which has no stubs
MINUTE = timedelta(minutes=1)
AUTUMN = datetime(2026, 10, 25, 0, 50, tzinfo=UTC)
SPRING = datetime(2026, 3, 29, 0, 50, tzinfo=UTC)
"""Ten minutes later Berlin's clocks are put back, and forward, by an hour."""
ZONES = [ZoneInfo("Europe/Berlin"), gettz("Europe/Berlin")]
POLICY = RolloutPolicy.canary(10, 60 * MINUTE)


def observation(
    start: datetime, minutes: int, *, bad: float, zone: tzinfo | None, rpm: int = 2000
) -> Observation:
    """Half an hour of history and `minutes` of a canary at 10 %, its times in a zone."""

    def local(at: datetime) -> datetime:
        return at.astimezone(zone)

    rows = [Minute(local(start - n * MINUTE), rpm, rpm // 1000, 0, 0) for n in range(1, 31)]
    rows += [
        Minute(local(start + n * MINUTE), rpm * 0.9, rpm // 1000, rpm * 0.1, round(rpm * 0.1 * bad))
        for n in range(1, minutes + 1)
    ]
    return Observation(
        at=local(start + (minutes + 1) * MINUTE),
        started_at=local(start),
        step_started_at=local(start),
        percent=10,
        minutes={"errors_5xx": rows},
    )


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("start", [AUTUMN, SPRING])
@pytest.mark.parametrize("bad, minutes", [(0.2, 15), (0.0, 15), (0.0, 75)])
def test_the_decision_is_the_same_in_every_zone(
    start: datetime, zone: tzinfo, bad: float, minutes: int
) -> None:
    """A canary that fails every fifth request for 15 minutes is rolled back, and a healthy one
    that has baked for 15 of 60 minutes is held, whichever zone the caller's times are in.
    """
    decided: list[Decision] = [
        POLICY.decide(observation(start, minutes, bad=bad, zone=each, rpm=20000))
        for each in (UTC, zone)
    ]
    assert decided[0] == decided[1]
    assert str(decided[0]) == str(decided[1])
    assert isinstance(decided[0], Rollback) == (bad > 0)


@given(
    st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31)),
    st.sampled_from(["Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu"]),
    st.sampled_from([ZoneInfo, gettz]),
)
def test_times_are_utc_inside(at: datetime, name: str, kind: Any) -> None:
    """Every time of a value class is in UTC, is the moment that was given, and stays it."""
    local = at.replace(second=0, microsecond=0, tzinfo=UTC).astimezone(kind(name))
    minute = Minute(local, 1, 0, 1, 0)
    alarm = Alarm("checkout", "OK", since=local, fired_at=local)
    seen = Observation(
        at=local,
        started_at=local,
        step_started_at=local,
        percent=1,
        minutes={"errors_5xx": [minute]},
        failing_since=local,
        last_complete_at=local,
        alarms=[alarm],
    )
    for value in (seen, minute, alarm):
        for each in fields(type(value)):
            time = getattr(value, each.name)
            if isinstance(time, datetime):
                assert time.tzinfo is UTC
                assert time.timestamp() == local.timestamp()
        assert type(value).from_dict(value.to_dict()) == value
    decision = POLICY.decide(seen)
    assert (decision.at.tzinfo, decision.at.timestamp()) == (UTC, local.timestamp())


def test_the_hour_that_comes_twice() -> None:
    """Two minutes of the night that have the same time on the wall are two minutes."""
    at = [AUTUMN - 20 * MINUTE + n * MINUTE for n in range(120)]
    rows = [Minute(each.astimezone(ZONES[0]), 10, 0, 0, 0) for each in at]
    seen = observation(AUTUMN, 1, bad=0, zone=UTC)
    assert [row.at for row in evolve(seen, minutes={"x": rows}).minutes["x"]] == at


NAIVE = datetime(2026, 1, 5, 9)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Minute(NAIVE, 1, 0, 1, 0),
        lambda: Alarm("checkout", "OK", since=NAIVE),
        lambda: evolve(observation(AUTUMN, 1, bad=0, zone=UTC), at=NAIVE),
        lambda: evolve(observation(AUTUMN, 1, bad=0, zone=UTC), failing_since=NAIVE),
        lambda: Calls(clock=lambda: NAIVE).now({}),
        lambda: Stage("a1b2c3d4e5", "prod").observe(POLICY, start=NAIVE, end=AUTUMN),
        lambda: CloudWatchMetrics().minutes(STAGE, POLICY.signals, NAIVE, AUTUMN),
        lambda: LambdaMetrics().minutes(STAGE, POLICY.signals, AUTUMN, NAIVE),
        lambda: AccessLogs().minutes(STAGE, POLICY.signals, NAIVE, AUTUMN),
    ],
)
def test_a_naive_time_is_a_value_error(make: Any) -> None:
    """A time without a zone could be any of 38: it is refused, and nothing is sent."""
    with pytest.raises(ValueError, match="a datetime with a time zone"):
        make()


def test_a_time_that_utc_does_not_have_is_refused() -> None:
    """The last hours of the year 9999 are in the year 10000 of UTC."""
    late = datetime.max.replace(second=0, microsecond=0, tzinfo=ZoneInfo("America/New_York"))
    with pytest.raises(InvalidInputError, match="years 1 to 9999"):
        validation.aware(late, "at")


def clock(aws: Rehearsal, zone: tzinfo) -> datetime:
    """A caller's clock."""
    return aws.now().astimezone(zone)


@pytest.mark.long
@pytest.mark.parametrize("start", [AUTUMN, SPRING])
def test_a_clock_and_windows_in_a_zone(start: datetime) -> None:
    """A rollout whose clock tells Berlin's time ends as one whose clock tells UTC."""
    ended: list[tuple[Decision, Observation]] = []
    for zone in (UTC, ZONES[0]):
        with rehearsal(
            start=start, requests_per_minute=2000, backends={"alias=v2": Backend(errors_5xx=0.02)}
        ) as aws:
            stage = Stage(
                aws.rest_api_id,
                "prod",
                session=aws.session,
                sleep=aws.sleep,
                clock=partial(clock, aws, zone),
            )
            canary = stage.enable_canary(10, release="r1", variables={"alias": "v2"})
            while True:
                seen = canary.observe(POLICY, last_complete_at=aws.now().astimezone(zone))
                decision = POLICY.decide(seen)
                canary.apply(decision)
                if decision.final:
                    break
                aws.sleep(60)
            local = [each.astimezone(zone) for each in (start, start + 20 * MINUTE)]
            window = stage.observe(POLICY, start=local[0], end=local[1])
        assert seen.at.tzinfo is UTC
        ended.append((evolve(decision, basis=None), window))
    assert ended[0] == ended[1]
    assert isinstance(ended[0][0], Rollback)


def test_answers_in_the_machines_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore gives times in the machine's zone: minutes are UTC's, none lost and none twice."""
    times = [AUTUMN - 20 * MINUTE + n * MINUTE for n in range(120)]
    points = {at: float(n) for n, at in enumerate(times, 1)}
    aws = Aws({("Count", "prod"): points, ("5XXError", "prod"): points})
    answer = aws.get_metric_data

    def local(**request: Any) -> dict[str, Any]:
        answered = answer(**request)
        for result in answered["MetricDataResults"]:
            result["Timestamps"] = [at.astimezone(ZONES[1]) for at in result["Timestamps"]]
        return answered

    monkeypatch.setattr(aws, "get_metric_data", local)
    found = read(aws, start=times[0].astimezone(ZONES[0]), end=times[-1] + MINUTE)
    assert found["errors_5xx"] == [Minute(at, n, n, 0, 0) for n, at in enumerate(times, 1)]
