"""The requests of a smoke test, and the results of smoke tests and clean-ups."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Literal, get_args

import attrs

from apigw_canary.model.state import Variables
from apigw_canary.values import Renderable, Serializable, sentence, validation

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
class SmokeRequest(Serializable):
    """A request of a smoke test, and the answer that is expected.

    `"GET /health"` is short for `SmokeRequest("GET", "/health")`. Headers and body can contain
    secrets: repr and results do not show their values.
    """

    method: str = attrs.field(validator=validation.checked(validation.choice, choices=METHODS))
    """The HTTP method: DELETE, GET, HEAD, OPTIONS, PATCH, POST or PUT."""
    path: str
    """The path with the values of its parameters, such as `/orders/42`, and the query string."""
    headers: Mapping[str, str] = attrs.field(
        kw_only=True, factory=Variables, converter=Variables, repr=_names
    )
    """The headers, name to value."""
    body: str | None = attrs.field(kw_only=True, default=None, repr=_shown)
    """The body; None for a request without one."""
    status: int | None = attrs.field(
        kw_only=True,
        default=None,
        validator=validation.checked(validation.count, or_none=True, low=100, high=599),
    )
    """The expected status, 100 to 599; None accepts 200 to 299."""
    contains: str | None = attrs.field(kw_only=True, default=None)
    """A text that the body of the answer must contain; None accepts any body."""

    def __attrs_post_init__(self) -> None:
        if not _is_text(self.path) or not re.fullmatch(r"/[!-z|~]*", self.path):
            validation.refuse(
                "path",
                "a path with the values of its parameters, such as /orders/42: ASCII, "
                "percent-encoded, without { and }",
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
        if self.contains is not None and (not _is_text(self.contains) or not self.contains):
            validation.refuse("contains", "a text that is not empty, or None", self.contains)

    def __str__(self) -> str:
        """Method and path."""
        return f"{self.method} {self.path}"

    @property
    def expected(self) -> str:
        """The expected answer, as text."""
        wanted = "a status from 200 to 299" if self.status is None else f"status {self.status}"
        return wanted if self.contains is None else f"{wanted} and {self.contains!r} in the body"

    @property
    def is_safe(self) -> bool:
        """Whether the method is safe as HTTP defines it (GET, HEAD or OPTIONS)."""
        return self.method in SAFE_METHODS


@attrs.frozen(kw_only=True)
class SmokeResult(Renderable):
    """The result of one request of a smoke test."""

    request: str
    """The request, such as `GET /orders/42`."""
    outcome: SmokeOutcome = attrs.field(
        validator=validation.checked(validation.choice, choices=get_args(SmokeOutcome))
    )
    """"passed": the answer was as expected. "failed": the answer was not as expected, or such
    canary requests could not be answered. "not testable": AWS refused the test itself, so nothing
    is known."""
    expected: str
    """The expected answer, as text."""
    reason: str
    """The answer in a few words, or why there is none. No variable values."""
    route: str | None = None
    """The method of the API that answers, such as `GET /orders/{id}`; None if no method does."""
    status: int | None = None
    """The status of the answer; None without an answer."""
    latency: timedelta | None = None
    """How long the answer took, as API Gateway measured it; None without an answer."""
    log: tuple[str, ...] = ()
    """The lines of API Gateway's execution log that show what happened to the request. Times,
    headers, bodies, addresses and the values of stage variables are removed, also where a value is
    percent-encoded or escaped as in JSON. A value of one or two characters is removed only where no
    letter or digit is next to it."""

    @property
    def passed(self) -> bool:
        """Whether the request was answered as expected."""
        return self.outcome == "passed"

    def __str__(self) -> str:
        """One line: what was asked, and what came of it."""
        return f"{self.outcome}: {self.request}: {self.reason}"


CleanUpOutcome = Literal["removed", "kept", "refused"]


@attrs.frozen(kw_only=True)
class CleanUpItem(Serializable):
    """A deployment that this library created, and its outcome."""

    deployment_id: str
    """The deployment's id."""
    created_at: datetime = attrs.field(converter=validation.utc, validator=validation.aware_field)
    """When the deployment was created."""
    release: str | None = None
    """The release that the deployment was last used for; None without one."""
    outcome: CleanUpOutcome = attrs.field(
        validator=validation.checked(validation.choice, choices=get_args(CleanUpOutcome))
    )
    """"removed": it was deleted. "kept": it is still needed. "refused": it could not be deleted, or
    it is not known whether it was."""
    reason: str
    """The reason for the outcome."""

    def __str__(self) -> str:
        """One line: which deployment, what came of it, and why."""
        return f"{self.outcome}: deployment {self.deployment_id}: {sentence(self.reason)}"


@attrs.frozen(kw_only=True)
class CleanUp(Renderable):
    """The result of `Stage.clean_up`: each deployment that this library created, newest first."""

    items: tuple[CleanUpItem, ...]
    """The deployments with their outcomes."""

    def _of(self, outcome: CleanUpOutcome) -> tuple[str, ...]:
        return tuple(each.deployment_id for each in self.items if each.outcome == outcome)

    @property
    def removed(self) -> tuple[str, ...]:
        """The ids of the deployments that were deleted."""
        return self._of("removed")

    @property
    def kept(self) -> tuple[str, ...]:
        """The ids of the deployments that are still needed."""
        return self._of("kept")

    @property
    def refused(self) -> tuple[str, ...]:
        """The ids of the deployments that could not be deleted, or may still exist."""
        return self._of("refused")

    def __str__(self) -> str:
        """One line: how many of each outcome, and the first refusal."""
        text = (
            f"{len(self.items)} deployments of this library: {len(self.removed)} removed, "
            f"{len(self.kept)} kept, {len(self.refused)} refused"
        )
        refused = next((each for each in self.items if each.outcome == "refused"), None)
        return f"{text}." if refused is None else f"{text}. First {refused}"
