"""A rehearsal over HTTP, on 127.0.0.1, for other processes."""

from __future__ import annotations

import json
import logging
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from email.utils import format_datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import attrs

from apigw_canary.testing.answers import Json, RehearsalError, Response
from apigw_canary.testing.faults import ProcessDeath
from apigw_canary.testing.traffic import Served
from apigw_canary.testing.wire import REGION

if TYPE_CHECKING:
    import boto3

_log = logging.getLogger(__name__)

_JSON = {"Content-Type": "application/json"}
CONTROL = "/_rehearsal"
"""Where the rehearsal itself is spoken to; no service of AWS has such a path."""

_LINGER = 1.0
"""Seconds without a byte after which no more of a refused request is read."""


class RehearsalServer:
    """A server through which other processes call a rehearsal over HTTP, made by `Rehearsal.serve`.

    It handles requests one after the other, in the order in which they arrive.
    """

    address: str
    """The server's URL, such as `http://127.0.0.1:40123`."""

    environment: Mapping[str, str]
    """Environment variables for a process that is to call this rehearsal instead of AWS:
    `AWS_ENDPOINT_URL`, the region and made-up credentials. boto3 and the AWS CLI use them."""

    refusals: list[str]
    """The calls that the rehearsal could not answer, oldest first, one sentence each. Each was
    answered with status 400 and the code `RehearsalError`. If there are any, the `with` block
    raises `RehearsalError` at its end."""

    def __init__(
        self,
        *,
        session: boto3.Session,
        now: Callable[[], datetime],
        sleep: Callable[[float], None],
        served: Callable[[], Sequence[Served]],
        described: Json,
        port: int,
        speed: float,
        clock: Callable[[], float],
    ) -> None:
        self._session = session
        self._now = now
        self._sleep = sleep
        self._served = served
        self._described = described
        self._speed = speed
        self._clock = clock
        self._last = clock()
        self._lock = threading.RLock()
        self.refusals = []
        self._http = _Http(("127.0.0.1", port), _Handler)
        self._http.rehearsal = self
        self.address = f"http://127.0.0.1:{self._http.server_address[1]}"
        self.environment = {
            "AWS_ENDPOINT_URL": self.address,
            "AWS_ACCESS_KEY_ID": "rehearsal",
            "AWS_SECRET_ACCESS_KEY": "rehearsal",
            "AWS_SESSION_TOKEN": "rehearsal",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
        }

    def respond(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> Response | None:
        """Return the answer to a request; None closes the connection without an answer."""
        with self._lock:
            now = self._clock()
            if self._speed:
                self._sleep((now - self._last) * self._speed)
            self._last = now
            if path == CONTROL or path.startswith(f"{CONTROL}/"):
                status, answer = self._controlled(method, path, body)
                return Response(status, _JSON, json.dumps(answer).encode())
            try:
                response = self._carried_out(method, path, headers, body)
            except Exception as error:  # noqa: BLE001 - whatever it is, what is tested here fails
                response = self._refused(error)
            # Others take the date for the time of their own machine, and repeat what was refused.
            if response is not None and "apigw-canary/" in headers.get("User-Agent", ""):
                date = format_datetime(self._now(), usegmt=True)
                response = response._replace(headers={**response.headers, "Date": date})
            return response

    def _carried_out(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> Response | None:
        from botocore import exceptions, xform_name

        from apigw_canary.testing import protocols

        call = protocols.received(method, f"{self.address}{path}", headers, body)
        make: Any = self._session.client
        request_id = str(uuid.uuid4())
        try:
            answer = getattr(make(call.service), xform_name(call.operation))(**call.parameters)
            response = protocols.answered(call, answer, request_id)
        except exceptions.ClientError as error:
            response = protocols.refused(call, error)
        except (exceptions.ConnectionError, exceptions.HTTPClientError, ProcessDeath):
            return None
        return response._replace(headers={**response.headers, "x-amzn-RequestId": request_id})

    def _refused(self, error: Exception) -> Response:
        reason = str(error) if isinstance(error, RehearsalError) else repr(error)
        self.refusals.append(reason)
        _log.warning("RehearsalError: %s", reason)
        body = {"__type": "RehearsalError", "message": reason}
        headers = {**_JSON, "X-Amzn-Errortype": "RehearsalError"}
        # No 500: clients would repeat the call.
        return Response(HTTPStatus.BAD_REQUEST, headers, json.dumps(body).encode())

    def _controlled(self, method: str, path: str, body: bytes) -> tuple[int, Json]:
        match method, path.removeprefix(CONTROL):
            case "GET", "":
                return HTTPStatus.OK, {
                    **self._described,
                    "now": self._now().isoformat(),
                    "refusals": self.refusals,
                }
            case "POST", "/sleep":
                try:
                    self._sleep(float(json.loads(body)["seconds"]))
                except (ValueError, TypeError, KeyError, OverflowError) as error:
                    return HTTPStatus.BAD_REQUEST, {"message": f'{error!r}; send {{"seconds": 60}}'}
                return HTTPStatus.OK, {"now": self._now().isoformat()}
            case "GET", "/served":
                rows = [{**attrs.asdict(row), "at": row.at.isoformat()} for row in self._served()]
                return HTTPStatus.OK, {"served": rows}
            case _:
                return HTTPStatus.NOT_FOUND, {"message": f"there is no {method} {path}"}

    @contextmanager
    def running(self) -> Iterator[RehearsalServer]:
        """Serve until the `with` block ends; raise RehearsalError then if there are `refusals`."""
        thread = threading.Thread(target=self._http.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield self
        finally:
            self._http.shutdown()
            thread.join()
            self._http.server_close()
        if self.refusals:
            raise RehearsalError("; ".join(self.refusals))


class _Http(ThreadingHTTPServer):
    """A thread for each connection, which ends with the server."""

    rehearsal: RehearsalServer
    daemon_threads = False
    request_queue_size = 128

    def __init__(self, *arguments: Any) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        for connection in tuple(self._open):  # that clients keep for later requests
            _hang_up(connection)
        super().server_close()


class _Handler(BaseHTTPRequestHandler):
    """The requests of one connection."""

    server: Any  # an _Http; the base class declares a variable of another type
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _any(self) -> None:
        if "Transfer-Encoding" in self.headers:
            self.send_error(HTTPStatus.LENGTH_REQUIRED)
            self._take_the_rest()
            return
        length = int(self.headers.get("Content-Length", 0))
        response = self.server.rehearsal.respond(
            self.command, self.path, dict(self.headers), self.rfile.read(length)
        )
        if response is None:
            self.close_connection = True
            _hang_up(self.connection)
            return
        self.send_response_only(response.status)
        headers = {"Date": self.date_time_string(), **response.headers}
        for name, value in (headers | {"Content-Length": str(len(response.body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(response.body)

    def _take_the_rest(self) -> None:
        """Read what the client still sends: of a connection closed before, it reads no answer."""
        self.close_connection = True
        with suppress(OSError):  # it has ended, or sends nothing for so long
            self.connection.settimeout(_LINGER)
            self.connection.shutdown(socket.SHUT_WR)
            while self.connection.recv(65_536):
                pass

    def __getattr__(self, name: str) -> Callable[[], None]:
        """What answers a verb: the base class calls do_GET and the like."""
        if name.startswith("do_"):
            return self._any
        raise AttributeError(name)


def _hang_up(connection: socket.socket) -> None:
    """End a connection, also where another thread waits for the next request on it."""
    with suppress(OSError):  # it has ended
        connection.shutdown(socket.SHUT_RDWR)
