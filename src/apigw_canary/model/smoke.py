"""A smoke test: requests that are sent to the API before a canary is, and what came of each."""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Literal, get_args

import attrs

from apigw_canary.model.state import Variables
from apigw_canary.values import validation
from apigw_canary.values.rendering import Explained
from apigw_canary.values.serialization import Plain

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
"""Methods that change nothing where the backend keeps to the standard (RFC 9110, section 9.2.1)."""
METHODS = (*SAFE_METHODS, "DELETE", "PATCH", "POST", "PUT")
"""The methods that API Gateway has."""

SmokeOutcome = Literal["passed", "failed", "not testable"]


def _names(values: Mapping[str, str]) -> str:
    return f"<headers: {', '.join(values) or 'none'}>"


def _shown(body: str | None) -> str:
    return "None" if body is None else f"<{len(body)} characters>"


def _is_text(value: object) -> bool:
    return isinstance(value, str)


@attrs.frozen
class SmokeRequest(Plain):
    """A request of a smoke test, and the answer that it should have.

    `"GET /health"` is short for `SmokeRequest("GET", "/health")`. Headers and body can hold
    secrets: repr and results do not show their values.
    """

    method: str
    """The HTTP method: DELETE, GET, HEAD, OPTIONS, PATCH, POST or PUT."""
    path: str
    """The path with its values, such as `/orders/42`, and the query string if there is one."""
    headers: Mapping[str, str] = attrs.field(
        kw_only=True, factory=Variables, converter=Variables, repr=_names
    )
    """Headers, name to value."""
    body: str | None = attrs.field(kw_only=True, default=None, repr=_shown)
    """The body; None for none."""
    status: int | None = attrs.field(kw_only=True, default=None)
    """The status that passes, 100 to 599; None for any from 200 to 299."""
    contains: str | None = attrs.field(kw_only=True, default=None)
    """What the body of the answer must contain; None for nothing in particular."""

    def __attrs_post_init__(self) -> None:
        validation.choice(self.method, "method", METHODS)
        if not _is_text(self.path) or not re.fullmatch(r"/[!-z|~]*", self.path):
            validation.refuse(
                "path",
                "a path with its values, such as /orders/42: ASCII, encoded, without { and }",
                self.path,
            )
        for name, value in self.headers.items():
            if not _is_text(name) or not re.fullmatch(r"[\w!#$%&'*+.^`|~-]+", name, re.ASCII):
                validation.refuse("a name in headers", "a name of a header", name)
            if not _is_text(value) or not value.isprintable():
                # Without the value, which may be a secret.
                validation.refuse(f"headers[{name!r}]", "printable text", type(value).__name__)
        if self.body is not None and not _is_text(self.body):
            validation.refuse("body", "a text or None", type(self.body).__name__)
        if self.status is not None:
            validation.count(self.status, "status", low=100, high=599)
        if self.contains is not None and (not _is_text(self.contains) or not self.contains):
            validation.refuse("contains", "a text that is not empty, or None", self.contains)

    def __str__(self) -> str:
        """Method and path."""
        return f"{self.method} {self.path}"

    @property
    def expected(self) -> str:
        """The answer that passes, in words."""
        wanted = "a status from 200 to 299" if self.status is None else f"status {self.status}"
        return wanted if self.contains is None else f"{wanted} and {self.contains!r} in the body"

    @property
    def is_safe(self) -> bool:
        """Whether the method is one that changes nothing by the standard."""
        return self.method in SAFE_METHODS


@attrs.frozen(kw_only=True)
class SmokeResult(Explained):
    """What came of one request of a smoke test."""

    request: str
    """The request, such as `GET /orders/42`."""
    outcome: SmokeOutcome
    """"passed": answered as expected. "failed": it was answered otherwise, or the canary's requests
    could not be answered. "not testable": nothing is known, because AWS refused the test itself."""
    expected: str
    """The answer that passes, in words."""
    reason: str
    """What was answered, or why there is no answer. No variable values."""
    route: str | None = None
    """The method of the API that answers, such as `GET /orders/{id}`; None where there is none."""
    status: int | None = None
    """The status of the answer; None without one."""
    latency: timedelta | None = None
    """How long the answer took, as API Gateway measured it; None without one."""
    log: tuple[str, ...] = ()
    """The lines of API Gateway's execution log that tell how the request fared, without times,
    headers, bodies, addresses and the values of stage variables, also percent-encoded or escaped as
    in JSON. A value of one or two characters is hidden where no letter or digit is next to it."""

    def __attrs_post_init__(self) -> None:
        validation.choice(self.outcome, "outcome", get_args(SmokeOutcome))

    @property
    def passed(self) -> bool:
        """Whether it was answered as expected."""
        return self.outcome == "passed"

    def __str__(self) -> str:
        """One line: what was asked, and what came of it."""
        return f"{self.outcome}: {self.request}: {self.reason}"
