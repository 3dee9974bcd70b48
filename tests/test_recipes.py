"""The recipes of the manual, each against a fake."""

from __future__ import annotations

import json
import runpy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from acting import V2, fresh
from apigw_canary import Decision, Promote, Rollback, Shift
from apigw_canary.testing import Backend, rehearsal

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
