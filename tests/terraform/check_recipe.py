"""The manual's recipe for Terraform, run by Terraform against a rehearsal: `make test-terraform`.

Not collected by `make test`: it needs the program `terraform`, which fetches its provider for AWS.
"""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError

from apigw_canary import Hold, RolloutPolicy
from apigw_canary.testing import Rehearsal, rehearsal

RELEASE = "2026-11-23.1"
V1, V2 = {"alias": "v1"}, {"alias": "v2"}
NO_CHANGES = "No changes."
PAGE = Path(__file__).parents[2] / "docs" / "terraform-cdk-sam.md"
PROVIDER = """
terraform {{
  required_providers {{ aws = {{ source = "hashicorp/aws" }} }}
}}
provider "aws" {{
  region                      = "eu-central-1"
  access_key                  = "rehearsal"
  secret_key                  = "rehearsal"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_region_validation      = true
  skip_requesting_account_id  = true
  max_retries                 = 1
  endpoints {{ apigateway = "{address}" }}
}}
import {{
  to = aws_api_gateway_deployment.first
  id = "{api}/{deployment}"
}}
import {{
  to = aws_api_gateway_stage.prod
  id = "{api}/prod"
}}
"""


class Server(ThreadingHTTPServer):
    """A rehearsal's API Gateway, for programs that speak HTTP."""

    def __init__(self, aws: Rehearsal) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.client: Any = aws.session.client("apigateway")
        self.address = f"http://127.0.0.1:{self.server_address[1]}"
        self.not_simulated: list[str] = []

    def answer(self, verb: str, address: str, body: dict[str, Any]) -> tuple[int, str, object]:
        """Status, error code and content."""
        parts = urlsplit(address)
        for name in self.client.meta.service_model.operation_names:
            model = self.client.meta.service_model.operation_model(name)
            pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(model.http["requestUri"]))
            found = re.fullmatch(pattern, parts.path)
            if model.http["method"] == verb and found:
                break
        else:
            self.not_simulated.append(f"{verb} {address}")
            return 500, "Unknown", {"message": "unknown"}
        sent = {**body, **dict(parse_qsl(parts.query)), **found.groupdict()}
        members = model.input_shape.members.items()
        wired = {member.serialization.get("name", key): key for key, member in members}
        try:
            said = getattr(self.client, xform_name(name))(
                **{wired[key]: unquote(v) if isinstance(v, str) else v for key, v in sent.items()}
            )
        except ClientError as error:
            code = error.response["Error"]["Code"]
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            return status, code, {"message": error.response["Error"]["Message"]}
        except Exception as error:  # noqa: BLE001 - what is not simulated is the test's to tell
            self.not_simulated.append(f"{name}: {error}")
            return 500, "Unknown", {"message": str(error)}
        return 200, "", {key: said[key] for key in said if key != "ResponseMetadata"}


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Server

    def _any(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(length) or "{}")
        status, code, said = self.server.answer(self.command, self.path, body)
        content = json.dumps(said, default=datetime.timestamp).encode()
        self.send_response(status)
        if code:
            self.send_header("X-Amzn-Errortype", code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PATCH = do_POST = do_PUT = do_DELETE = _any  # noqa: N815 - the base's names

    def log_message(self, *_: object) -> None:
        """Nothing."""


def _recipe() -> str:
    """The page's first HCL block, for an API that is there already."""
    found = re.search(r"```hcl\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    return re.sub(r"\n *depends_on .*", "", found[1])


def _without(ignored: str) -> str:
    """The recipe, with one name less in the lists of what is ignored."""

    def shorter(found: re.Match[str]) -> str:
        return f"[{', '.join(name for name in found[1].split(', ') if name != ignored)}]"

    recipe = _recipe()
    assert ignored in recipe
    return re.sub(r"(?<=ignore_changes = )\[(.*)\]", shorter, recipe)


@contextmanager
def _shared(folder: Path, recipe: str) -> Iterator[tuple[Rehearsal, Callable[[], str]]]:
    """A stage that Terraform knows, and `terraform apply`, which says what it has done."""
    with rehearsal(access_logs=None) as aws, Server(aws) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        first = aws.stage.describe().deployment_id
        provider = PROVIDER.format(address=server.address, api=aws.rest_api_id, deployment=first)
        text = recipe.replace("aws_api_gateway_rest_api.orders.id", json.dumps(aws.rest_api_id))
        (folder / "main.tf").write_text(provider + text, encoding="utf-8")

        def terraform(*arguments: str) -> str:
            done = subprocess.run(
                ["terraform", *arguments, "-no-color", "-input=false"],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            assert server.not_simulated == []
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        terraform("init")
        terraform("apply", "-auto-approve")
        yield aws, lambda: terraform("apply", "-auto-approve")
        server.shutdown()


def test_the_recipe_leaves_releases_alone(tmp_path: Path) -> None:
    """Whenever it is applied, it finds nothing to change, and a revert finds its way back."""
    with _shared(tmp_path, _recipe()) as (aws, apply):
        before = aws.stage.describe()
        canary = aws.stage.enable_canary(10, release=RELEASE, variables=V2)
        running = aws.stage.describe()
        assert NO_CHANGES in apply()
        assert aws.stage.describe() == running
        receipt = canary.promote()
        assert NO_CHANGES in apply()
        after = aws.stage.describe()
        assert (after.deployment_id, dict(after.variables)) == (receipt.deployment_after, V2)
        aws.stage.revert()
        assert NO_CHANGES in apply()
        again = aws.stage.describe()
        assert (again.deployment_id, again.variables) == (before.deployment_id, before.variables)
        aws.stage.enable_canary(10, deployment_id=before.deployment_id, variables=V2)
        assert NO_CHANGES in apply()


def test_without_canary_settings_the_canary_ends(tmp_path: Path) -> None:
    """A canary that is not declared is removed, and the rollout says that it was."""
    policy = RolloutPolicy.canary(10, bake=timedelta(minutes=10))
    with _shared(tmp_path, _without("canary_settings")) as (aws, apply):
        canary = aws.stage.enable_canary(10, release=RELEASE, variables=V2)
        apply()
        assert aws.stage.describe().canary is None
        decision = policy.decide(canary.observe(policy))
        assert isinstance(decision, Hold)
        assert decision.final


def test_without_deployment_id_the_promotion_is_undone(tmp_path: Path) -> None:
    """Production is given back the deployment in Terraform's state, and keeps the variable."""
    with _shared(tmp_path, _without("deployment_id")) as (aws, apply):
        before = aws.stage.describe().deployment_id
        aws.stage.enable_canary(10, release=RELEASE, variables=V2).promote()
        apply()
        after = aws.stage.describe()
        assert (after.deployment_id, dict(after.variables)) == (before, V2)


def test_without_the_variable_it_is_set_back(tmp_path: Path) -> None:
    """Production keeps the deployment, and calls the old alias."""
    with _shared(tmp_path, _without('variables["alias"]')) as (aws, apply):
        receipt = aws.stage.enable_canary(10, release=RELEASE, variables=V2).promote()
        apply()
        after = aws.stage.describe()
        assert (after.deployment_id, dict(after.variables)) == (receipt.deployment_after, V1)


def test_without_description_the_record_is_deleted(tmp_path: Path) -> None:
    """Terraform's own deployment has the record of a canary of variables only, and of a revert."""
    with _shared(tmp_path, _without("description")) as (aws, apply):
        deployment = aws.stage.describe().deployment_id
        aws.stage.enable_canary(10, deployment_id=deployment, variables=V2)
        with pytest.raises(AssertionError, match=r"UpdateDeployment.*a description that is empty"):
            apply()
