"""The canary's failing requests, by kind."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal, NamedTuple, overload

import attrs

from apigw_canary.values import Renderable, Serializable, moment, share_of, validation

UNREADABLE = 0
"""The status of requests whose line does not give it."""


FailureSource = Literal["access", "execution"]
"""The logs that failures are found in."""

FailureCause = Literal["function_error", "timeout", "permission", "mapping", "throttling", "other"]
"""Why API Gateway could not answer: the function raised an error; the integration or the function
took too long; API Gateway may not call the function; a request, response or status could not be
mapped, a malformed response of a function included; Lambda or a usage plan throttled the request;
or another error of API Gateway's."""


@attrs.frozen(kw_only=True)
class Failure(Serializable):
    """One kind of failed request of the canary, with the baseline's counts in the same time.

    Requests of one kind have the same method, path, status, cause, error type and error message. A
    value that the logs do not have is None.
    """

    method: str | None = None
    """The HTTP method, such as `GET`."""
    path: str | None = None
    """The resource's path as the API defines it, such as `/orders/{id}`."""
    status: int
    """The HTTP status that the client got, 400 or more; 0 if it cannot be read from the log."""
    error_type: str | None = None
    """API Gateway's response type, such as `INTEGRATION_FAILURE`; None if the backend itself
    answered with the status."""
    message: str | None = None
    """API Gateway's error message."""
    cause: FailureCause | None = None
    """Why API Gateway could not answer, from the execution logs; None in access logs, and if the
    backend or API Gateway answered with the status."""
    canary_failed: int
    """The number of the canary's requests of this kind."""
    canary_requests: int
    """The number of all requests of the canary with this method and path."""
    baseline_failed: int
    """The number of the baseline's requests of this kind."""
    baseline_requests: int
    """The number of all requests of the baseline with this method and path."""
    canary_request_ids: tuple[str, ...] = ()
    """The ids of a few of the canary's requests of this kind; empty if the logs have no ids."""
    baseline_request_ids: tuple[str, ...] = ()
    """The ids of a few of the baseline's requests of this kind."""

    @property
    def is_new(self) -> bool:
        """Whether the baseline has no requests of this kind."""
        return self.baseline_failed == 0

    @property
    def excess(self) -> float:
        """The number of canary requests of this kind beyond those that the baseline's rate would
        give.
        """
        usual = self.baseline_failed / self.baseline_requests if self.baseline_requests else 0.0
        return self.canary_failed - usual * self.canary_requests

    def __str__(self) -> str:
        """One line: what failed, and how often on each variant."""
        route = " ".join(_shown(part) for part in (self.method, self.path) if part)
        said = (self.cause and self.cause.replace("_", " "), self.error_type, self.message)
        what = " ".join(_shown(part) for part in said if part)
        rates = (
            f"canary {share_of(self.canary_failed, self.canary_requests)}, "
            f"baseline {share_of(self.baseline_failed, self.baseline_requests)}"
        )
        status = str(self.status) if self.status else "a status that cannot be read"
        if self.cause is not None and not self.status:
            status = ""  # the execution logs of the level ERROR have none
        named = " ".join(part for part in (route, status, what) if part)
        return f"{'new: ' if self.is_new else ''}{named}: {rates}"


def _shown(text: str) -> str:
    """On one line, whatever is in it."""
    return text if text.isprintable() else ascii(text)[1:-1]


@attrs.frozen(kw_only=True)
class Failures(Sequence[Failure], Renderable):
    """The canary's failed requests by kind, kinds that the baseline does not have first."""

    items: tuple[Failure, ...] = ()
    """The kinds of failed requests."""
    source: FailureSource
    """The logs that were read: "access" or "execution"."""
    start: datetime = attrs.field(converter=validation.utc, validator=validation.aware_field)
    """The beginning of the time for which the logs were read."""
    end: datetime = attrs.field(converter=validation.utc, validator=validation.aware_field)
    """The end of that time."""
    scanned_bytes: float
    """The bytes that Logs Insights scanned and that AWS bills."""
    usd: float
    """The price of the scan in US dollars, at the list price of most regions."""
    unreadable_lines: int = 0
    """The number of lines whose request, variant or status could not be read. No other number
    includes them."""
    notes: tuple[str, ...] = ()
    """What is not known, and why: one sentence each."""

    @overload
    def __getitem__(self, index: int) -> Failure: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Failure, ...]: ...

    def __getitem__(self, index: int | slice) -> Failure | tuple[Failure, ...]:
        return self.items[index]

    def __len__(self) -> int:
        return len(self.items)

    def __str__(self) -> str:
        """One line: how many kinds, and what was scanned."""
        return (
            f"{len(self)} kinds of failing requests of the canary from {moment(self.start)} to "
            f"{moment(self.end)}; Logs Insights scanned {self.scanned_bytes / 1e6:,.3g} MB of the "
            f"{self.source} logs, about {self.usd:.2g} USD; {self.unreadable_lines:,} lines could "
            "not be read"
        )

    @property
    def about(self) -> str:
        """The subject, for a report."""
        return "Failing requests"

    @property
    def title(self) -> str:
        """The number of kinds, for a report."""
        return f"{len(self)} kinds"


@attrs.frozen(kw_only=True)
class LogGroup(Serializable):
    """A log group that API Gateway writes for one variant of a stage."""

    source: FailureSource
    """The kind of logs: "access" or "execution"."""
    variant: Literal["baseline", "canary"]
    """The variant that the group is for. The baseline's groups also have the canary's requests."""
    name: str | None
    """The group's name; None if the stage writes no access logs to CloudWatch Logs."""
    exists: bool
    """Whether the group exists. API Gateway creates a group of execution logs with its first
    line."""


def execution_log_group(rest_api_id: str, stage: str) -> str:
    """The group of a stage's execution logs ("Set up CloudWatch logging", API Gateway guide)."""
    return f"API-Gateway-Execution-Logs_{rest_api_id}/{stage}"


CANARY_GROUP = "/Canary"
"""What the name of a group ends with that has the canary's lines alone."""


class Kind(NamedTuple):
    """What requests have in common that are counted together."""

    method: str | None
    path: str | None
    status: int
    error_type: str | None
    message: str | None
    cause: FailureCause | None = None


Examples = Mapping[Kind, Sequence[str]]
"""A few request ids of each kind."""

MOST_EXAMPLES = 4
"""Request ids of one kind that are kept of each variant."""


def ranked(
    canary: Counter[Kind],
    baseline: Counter[Kind],
    limit: int,
    canary_examples: Examples = {},  # noqa: B006 - never changed
    baseline_examples: Examples = {},  # noqa: B006 - never changed
) -> tuple[Failure, ...]:
    """The canary's kinds of failure out of all requests by kind: new ones first, then by excess."""
    canary_routes, baseline_routes = _by_route(canary), _by_route(baseline)
    failures = [
        Failure(
            **kind._asdict(),
            canary_failed=failed,
            canary_requests=canary_routes[kind.method, kind.path],
            baseline_failed=baseline[kind],
            baseline_requests=baseline_routes[kind.method, kind.path],
            canary_request_ids=tuple(canary_examples.get(kind, ()))[:MOST_EXAMPLES],
            baseline_request_ids=tuple(baseline_examples.get(kind, ()))[:MOST_EXAMPLES],
        )
        for kind, failed in canary.items()
        if kind.status >= 400 or kind.status == UNREADABLE
    ]
    failures.sort(key=lambda each: (not each.is_new, -each.excess, str(each)))
    return tuple(failures[:limit])


def _by_route(kinds: Counter[Kind]) -> Counter[tuple[str | None, str | None]]:
    requests: Counter[tuple[str | None, str | None]] = Counter()
    for kind, number in kinds.items():
        requests[kind.method, kind.path] += number
    return requests
