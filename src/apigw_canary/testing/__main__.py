"""A rehearsal over HTTP for the AWS CLI and other programs, until it is interrupted.

```text
python -m apigw_canary.testing --port 4599 --backend alias=v2 errors_5xx=0.05
```

Prints the variables to export where those programs run. Ends with exit code 1 if the rehearsal
could not answer a call, and 2 for options that are not valid.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from apigw_canary.testing import Backend, RehearsalError, rehearsal


def main(arguments: list[str], wait: Callable[[], object]) -> int:
    """Serve until `wait` returns or is interrupted; returns the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        backends = {name: _backend(settings) for name, *settings in options.backend}
        stages = dict(_stage(each) for each in options.stages)
    except ValueError as error:
        parser.error(str(error))
    try:
        with (
            rehearsal(
                requests_per_minute=options.requests_per_minute,
                backends=backends,
                stage=options.stage,
                stages=stages,
                seed=options.seed,
            ) as aws,
            aws.serve(port=options.port, speed=options.speed) as server,
            suppress(KeyboardInterrupt),
        ):
            for name, value in server.environment.items():
                print(f"export {name}={value}")
            names = " and ".join([options.stage, *stages])
            print(f"# REST API {aws.rest_api_id}, stage {names}, {aws.now():%FT%TZ}.")
            print(
                f"# The clock: curl -d '{{\"seconds\": 60}}' {server.address}/_rehearsal/sleep",
                flush=True,
            )
            wait()
    except (OSError, ValueError, RehearsalError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


_SETTINGS = ("errors_5xx", "errors_4xx", "latency_ms", "latency_spread")
_LAST_PORT = 65_535


def _port(given: str) -> int:
    if not given.isdecimal() or int(given) > _LAST_PORT:
        raise argparse.ArgumentTypeError(f"must be a port from 0 to {_LAST_PORT}, not {given}")
    return int(given)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m apigw_canary.testing",
        description="Serve a rehearsal of Amazon API Gateway over HTTP on 127.0.0.1.",
    )
    parser.add_argument("--port", type=_port, default=0, help="default: a free port")
    parser.add_argument(
        "--speed",
        type=float,
        default=0,
        help="virtual seconds for each real second; default: 0, the clock stands still",
    )
    parser.add_argument("--stage", default="prod", help="the stage with the traffic; default: prod")
    parser.add_argument(
        "--stages",
        nargs="+",
        default=[],
        metavar="NAME=REQUESTS",
        help="further stages, each with its requests per minute",
    )
    parser.add_argument("--requests-per-minute", type=float, default=500, help="default: 500")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the traffic")
    parser.add_argument(
        "--backend",
        nargs="+",
        action="append",
        default=[],
        metavar=("VARIABLE=VALUE", "SETTING=NUMBER"),
        help="answers to requests with this value of a stage variable: errors_5xx, errors_4xx, "
        "latency_ms",
    )
    return parser


def _stage(given: str) -> tuple[str, float]:
    name, _, rate = given.partition("=")
    try:
        return name, float(rate)
    except ValueError:
        raise ValueError(f"--stages takes NAME=REQUESTS, not {given}") from None


def _backend(settings: list[str]) -> Backend:
    numbers: dict[str, Any] = {}
    for each in settings:
        name, _, number = each.partition("=")
        if name not in _SETTINGS:
            raise ValueError(f"--backend has no setting {each}, but {', '.join(_SETTINGS)}")
        try:
            numbers[name] = float(number)
        except ValueError as error:
            raise ValueError(f"--backend {each}: {error}") from error
    try:
        return Backend(**numbers)
    except ValueError as error:
        raise ValueError(f"--backend {' '.join(settings)}: {error}") from error


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main(sys.argv[1:], threading.Event().wait))
