"""The recipes of the manual, each against a fake."""

from __future__ import annotations

import io
import json
import runpy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from acting import V2, fresh
from apigw_canary import Decision, Measurements, Minute, Promote, Rollback, Shift, Signal
from apigw_canary.testing import Backend, rehearsal
from cloud import STAGE

pytestmark = pytest.mark.long

EXAMPLE = Path(__file__).parent.parent / "docs" / "examples" / "recipes.py"


def test_recipes() -> None:
    """Approvals, windows, freezes and notices, each against a fake."""
    recipes = SimpleNamespace(**runpy.run_path(str(EXAMPLE), run_name="recipes"))
    sent: list[Any] = []

    class Answer:
        def __enter__(self) -> None: ...
        def __exit__(self, *_: object) -> None: ...

    def send(request: Any, *, timeout: float) -> Answer:
        sent.append((request.full_url, json.loads(request.data), timeout))
        return Answer()

    recipes.post_to_slack("https://hooks.example/T0", "Promote: not worse", send=send)
    assert sent == [("https://hooks.example/T0", {"text": "Promote: not worse"}, 5)]

    before_nine = datetime(2026, 1, 5, 7, 50, tzinfo=UTC)  # in Berlin
    asked: list[Decision] = []
    told: list[Decision] = []

    def approved(decision: Decision) -> bool:
        asked.append(decision)
        return len(asked) > 1  # not yet, the first time

    with rehearsal(start=before_nine) as aws:
        sns = aws.session.client("sns")
        topic = sns.create_topic(Name="releases")["TopicArn"]

        def notify(decision: Decision) -> None:
            told.append(decision)
            recipes.publish_to_sns(sns, topic, decision)
            raise OSError("no network")

        last = recipes.release(aws.stage, "r1", approved=approved, notify=notify, sleep=aws.sleep)
        assert isinstance(last, Promote)
        assert not recipes.is_open(before_nine)
        assert aws.now() - before_nine >= timedelta(minutes=30)  # ten of them on hold
        assert [decision.kind for decision in told] == ["hold", "shift", "shift", "promote"]
        assert told[0].waiting_for == "operator"  # the hold outside the window
        assert all(recipes.is_open(decision.at) for decision in told[1:])
        assert all(isinstance(decision, Shift | Promote) for decision in asked)
    with rehearsal(start=before_nine, backends={"alias=v2": Backend(errors_5xx=0.3)}) as aws:
        canary = aws.stage.enable_canary(10, release="r1", variables=V2)
        assert recipes.freeze(fresh(aws), "freeze for the sale")
        assert canary.observe(recipes.POLICY).on_hold == "freeze for the sale"
        aws.sleep(1800)
        decision = recipes.POLICY.decide(canary.observe(recipes.POLICY))
        assert isinstance(decision, Rollback)  # a freeze keeps no bad canary
        assert recipes.may_be_applied(decision, approved=lambda _: False)
        canary.rollback()
        assert not recipes.freeze(fresh(aws), "again")


def answer_of(result: list[Any], **more: Any) -> str:
    """An answer of `/api/v1/query_range`, as Prometheus documents it ("HTTP API")."""
    return json.dumps(
        {"status": "success", "data": {"resultType": "matrix", "result": result}, **more}
    )


START = datetime(2026, 1, 5, 9, tzinfo=UTC)


def of(variant: str, *values: str | None) -> dict[str, Any]:
    """A series: a value for each minute, left out where it is None."""
    first = START.timestamp() + 60
    points = [[first + 60 * n, value] for n, value in enumerate(values) if value is not None]
    return {"metric": {"variant": variant}, "values": points}


def read_from_prometheus(requests: str, bad: str) -> tuple[Any, list[str]]:
    recipe = runpy.run_path(str(EXAMPLE.parent / "prometheus.py"), run_name="prometheus")
    asked: list[str] = []

    def open_url(url: str, *, timeout: float) -> io.BytesIO:
        asked.append(url)
        assert timeout <= 60
        return io.BytesIO((requests if len(asked) == 1 else bad).encode())

    source = recipe["Prometheus"](
        "http://prometheus:9090/", {"failed": recipe["CHECKOUTS"]}, open_url=open_url
    )
    source._cloudwatch = SimpleNamespace(minutes=lambda *_: Measurements({}))
    signals = [Signal.custom("failed")]
    found = source.minutes(STAGE, signals, START, START + timedelta(minutes=3))
    return list(found["failed"]), asked


def test_prometheus() -> None:
    """Counts by minute and variant; what has no number of failures has an unknown outcome."""
    rows, asked = read_from_prometheus(
        answer_of([of("baseline", "90", "91.5", "80"), of("canary", None, "10", "9")]),
        answer_of([of("baseline", "1", "0", None), of("canary", None, "2.5", "11")]),
    )
    minute = timedelta(minutes=1)
    assert rows == [
        Minute(START, 90, 1, 0, 0, 0, 0),
        Minute(START + minute, 91.5, 0, 10, 2.5, 0, 0),
        Minute(START + 2 * minute, 80, 0, 9, 0, 80, 9),
    ]
    assert asked[0].startswith("http://prometheus:9090/api/v1/query_range?query=sum+by+%28variant")
    assert f"start={START.timestamp() + 60}&end={START.timestamp() + 180}&step=60" in asked[0]


def test_prometheus_without_data() -> None:
    """Counters that nobody has scraped give no minute."""
    assert read_from_prometheus(answer_of([]), answer_of([]))[0] == []


@pytest.mark.parametrize(
    "answer, said",
    [
        (
            '{"status":"error","errorType":"bad_data","error":"parse error: unclosed left paren"}',
            "unclosed left paren",
        ),
        (answer_of([], warnings=["remote read failed"]), "remote read failed"),
        (answer_of([of("baseline", "NaN")]), "no counts"),
        (answer_of([of("baseline", "+Inf")]), "no counts"),
        (answer_of([of("baseline", "-1")]), "no counts"),
    ],
)
def test_prometheus_answers_with_something_else(answer: str, said: str) -> None:
    """An error, a warning or a value that is no count is a failure of the source."""
    with pytest.raises(ValueError, match=said):
        read_from_prometheus(answer, answer_of([]))
