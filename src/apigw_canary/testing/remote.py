"""The clock of a rehearsal that another process serves."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from apigw_canary.testing.server import CONTROL
from apigw_canary.testing.traffic import Served


class RehearsalClient:
    """A client for a rehearsal that another process serves: its clock, and what it served to users.

    ```python
    import os
    import subprocess
    import sys

    from apigw_canary.testing import rehearsal

    job = "from apigw_canary.testing import RehearsalClient; RehearsalClient().sleep(60)"
    with rehearsal() as aws, aws.serve() as server:
        environment = {**os.environ, **server.environment}
        subprocess.run([sys.executable, "-c", job], env=environment, check=True)
        print(aws.now())
    ```

    If your script takes a `sleep` function, pass `RehearsalClient().sleep`.
    """

    def __init__(self, address: str | None = None) -> None:
        """`address` is the URL of the server; None uses the environment variable
        `AWS_ENDPOINT_URL`.

        Raises KeyError if the variable is not set.
        """
        self._address = os.environ["AWS_ENDPOINT_URL"] if address is None else address

    @property
    def rest_api_id(self) -> str:
        """The id of the REST API that exists from the start."""
        return str(self._get("")["rest_api_id"])

    @property
    def refusals(self) -> list[str]:
        """The calls that the rehearsal could not answer, oldest first, one sentence each."""
        return list(self._get("")["refusals"])

    @property
    def served(self) -> Sequence[Served]:
        """What was served to users, as `Rehearsal.served` returns it."""
        rows = self._get("/served")["served"]
        return tuple(Served(**{**row, "at": datetime.fromisoformat(row["at"])}) for row in rows)

    def now(self) -> datetime:
        """Return the virtual time, an aware datetime."""
        return datetime.fromisoformat(self._get("")["now"])

    def sleep(self, seconds: float) -> None:
        """Move the virtual clock for all processes. Raises ValueError if `seconds` is negative."""
        if seconds < 0:
            raise ValueError("sleep length must be non-negative")
        self._get("/sleep", json.dumps({"seconds": seconds}).encode())

    def _get(self, path: str, body: bytes | None = None) -> Any:
        # Always that of this machine: no proxy of the environment.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self._address}{CONTROL}{path}", body, timeout=60) as answer:
            return json.load(answer)
