"""Each control-plane step that was recorded against AWS, replayed through boto3 on the rehearsal.

`data/aws_recorded.json` says where the recordings come from. Its requests are abbreviated; what
they leave out (the stages and deployments of the set-up) follows from the answers and is filled in
here. Deployment ids are compared up to renaming.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from apigw_canary.testing import rehearsal
from apigw_canary.testing.patches import effective_variables

Json = dict[str, Any]

CASES: list[Json] = json.loads(
    (Path(__file__).parent / "data" / "aws_recorded.json").read_text(encoding="utf-8")
)["cases"]
CANARY = {"percentTraffic": 50, "stageVariableOverrides": {"testVar": "canary"}}


class Replay:
    """One recorded test on an API of its own; `answers` has what the rehearsal said, by step."""

    def __init__(self, client: Any, case: Json) -> None:
        self.client = client
        self.api = client.create_rest_api(name=case["test"])["id"]
        self.stage = "dev"
        self.deployments: list[str] = []
        self.answers: dict[str, Json] = {}
        SET_UP[case["test"]](self)
        for step in case["steps"]:
            between = BETWEEN.get(step["step"] if case["test"] in WITH_BETWEEN else "")
            if between:
                between(self)
            self.answers[step["step"]] = self.replay(step)

    def replay(self, step: Json) -> Json:
        request, recorded = step["request"], step["response"]
        operation = getattr(self, request["op"])
        try:
            return self.plain(operation(request, recorded))
        except ClientError as error:
            return {
                "error": {
                    "code": error.response["Error"]["Code"],
                    "message": error.response["Error"]["Message"],
                    "http": error.response["ResponseMetadata"]["HTTPStatusCode"],
                }
            }

    def plain(self, answer: Json) -> Json:
        """An answer as the recordings have it: without dates, with its HTTP status."""
        kept = {
            key: value
            for key, value in answer.items()
            if key not in {"createdDate", "lastUpdatedDate", "ResponseMetadata"}
        }
        metadata = answer.get("ResponseMetadata", {})
        return {**kept, "http": metadata.get("HTTPStatusCode")}

    def deploy(self, **parameters: Any) -> Json:
        answer: Json = self.client.create_deployment(restApiId=self.api, **parameters)
        self.deployments.append(answer["id"])
        return answer

    def deployment(self, name: str | None) -> str:
        """The id that an abbreviation such as "A", "2" or "<id>" stands for."""
        positions = {None: 0, "A": 0, "1": 0, "B": 1, "2": 1, "<id>": -1}
        return self.deployments[positions[name]] if name in positions else str(name)

    def create_stage(self, request: Json, recorded: Json) -> Json:
        canary = request.get("canarySettings")
        self.stage = recorded.get("stageName", "dev3")
        optional: Json = {}
        if canary:
            canary_deployment = self.deployment(canary["deploymentId"])
            optional["canarySettings"] = {**canary, "deploymentId": canary_deployment}
        answer: Json = self.client.create_stage(
            restApiId=self.api,
            stageName=self.stage,
            deploymentId=self.deployment(request.get("deploymentId")),
            description="dev stage",
            variables=request.get("variables", {"testVar": "default"}),
            **optional,
        )
        return answer

    def create_deployment(self, request: Json, recorded: Json) -> Json:
        settings = request["canarySettings"]
        optional = {} if request["stageName"] is None else {"stageName": request["stageName"]}
        return self.deploy(canarySettings=CANARY if settings == "{...}" else settings, **optional)

    def get_stage(self, request: Json, recorded: Json) -> Json:
        answer: Json = self.client.get_stage(restApiId=self.api, stageName=self.stage)
        return answer

    def update_stage(self, request: Json, recorded: Json) -> Json:
        operations = PROMOTION if request["patch"] == "same three ops" else request["patch"]
        operations = [
            {**operation, "value": self.deployment(operation["value"])}
            if operation["path"] == "/canarySettings/deploymentId" and "value" in operation
            else operation
            for operation in operations
        ]
        answer: Json = self.client.update_stage(
            restApiId=self.api, stageName=self.stage, patchOperations=operations
        )
        return answer

    def invoke(self, request: Json, recorded: Json) -> Json:
        """What the recorded mapping template makes of the variables a request would see."""
        stage = self.client.get_stage(restApiId=self.api, stageName=self.stage)
        assert stage["canarySettings"]["percentTraffic"] == request["percentTraffic"]
        canary = request["percentTraffic"] == 100
        seen = effective_variables(stage, canary=canary)
        serving = stage["canarySettings"] if canary else stage
        messages = dict(
            zip(self.deployments, ["default deployment", "canary deployment"], strict=True)
        )
        return {
            "message": messages[serving["deploymentId"]],
            "variable": seen.get("testVar", ""),
            "nonExistingDefault": seen.get("noStageVar", ""),
            "nonOverridden": seen.get("defaultVar", ""),
            "isCanary": str(canary).lower(),
        }


def stage_dev(replay: Replay) -> None:
    replay.create_stage({}, {"stageName": "dev"})


def two_deployments(replay: Replay) -> None:
    replay.deploy()
    replay.deploy()


def two_deployments_and_a_stage(replay: Replay) -> None:
    two_deployments(replay)
    stage_dev(replay)


def a_canary_at_50(replay: Replay) -> None:
    replay.deploy(stageName="dev")
    replay.deploy(stageName="dev", canarySettings=CANARY)


def a_canary_at_0(replay: Replay) -> None:
    replay.deploy(stageName="dev", variables={"testVar": "default", "defaultVar": "default"})
    overrides = {"testVar": "canary", "noStageVar": "canary"}
    settings = {"percentTraffic": 0, "stageVariableOverrides": overrides}
    replay.deploy(stageName="dev", canarySettings=settings)


def another_stage_without_canary(replay: Replay) -> None:
    replay.stage = "dev2"
    replay.deploy(stageName="dev2")


def a_canary_with_an_override(replay: Replay) -> None:
    settings = {"percentTraffic": 50, "stageVariableOverrides": {"testVar": "override"}}
    replay.deploy(stageName="dev", canarySettings=settings)


SET_UP: dict[str, Callable[[Replay], object]] = {
    "test_create_update_stages": two_deployments,
    "test_create_canary_deployment_with_stage": Replay.deploy,
    "test_create_canary_deployment": Replay.deploy,
    "test_create_canary_deployment_by_stage_update": two_deployments_and_a_stage,
    "test_create_canary_deployment_validation": lambda _: None,
    "test_update_stage_canary_deployment_validation": a_canary_at_50,
    "test_update_stage_with_copy_ops": lambda replay: replay.deploy(
        stageName="dev", variables={"testVar": "test", "testVar2": "test2"}
    ),
    "test_invoking_canary_deployment": a_canary_at_0,
}
BETWEEN = {
    "update-stage-add-deployment": another_stage_without_canary,
    "get-stage": a_canary_with_an_override,
}
WITH_BETWEEN = {
    "test_update_stage_canary_deployment_validation",
    "test_update_stage_with_copy_ops",
}
PROMOTION = [
    {"op": "replace", "path": "/canarySettings/percentTraffic", "value": "0.0"},
    {"op": "copy", "from": "/canarySettings/deploymentId", "path": "/deploymentId"},
    {"op": "copy", "from": "/canarySettings/stageVariableOverrides", "path": "/variables"},
]


@functools.cache
def replayed(test: str) -> Replay:
    case = next(case for case in CASES if case["test"] == test)
    with rehearsal() as aws:
        return Replay(aws.session.client("apigateway"), case)


def numbered(answers: list[Json], ids: str) -> list[Json]:
    """The same answers, with deployment ids numbered in the order in which they appear."""
    order: dict[str, str] = {}
    text = re.sub(
        f'"({ids})"',
        lambda found: order.setdefault(found[0], f'"deployment {len(order)}"'),
        json.dumps(answers, sort_keys=True),
    )
    result: list[Json] = json.loads(text)
    return result


@pytest.mark.parametrize(
    "case, step",
    [
        pytest.param(case, step, id=f"{case['test'].removeprefix('test_')}-{step['step']}")
        for case in CASES
        for step in case["steps"]
    ],
)
def test_answers_as_aws_did(case: Json, step: Json) -> None:
    """The rehearsal answers with the recorded status and body, or the recorded code and text."""
    replay = replayed(case["test"])
    steps = case["steps"][: case["steps"].index(step) + 1]  # ids are numbered from the first on

    recorded = numbered([each["response"] for each in steps], r"<deployment-id:\d>")
    answered = numbered(
        [replay.answers[each["step"]] for each in steps], "|".join(replay.deployments) or "-"
    )

    assert answered[-1] == recorded[-1]


def test_every_recorded_step_is_replayed() -> None:
    """No step of the recordings is left out."""
    assert sum(len(replayed(case["test"]).answers) for case in CASES) == 34
