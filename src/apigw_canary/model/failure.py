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
    """One kind of failing requests of the canary, beside the baseline's in the same time.

    The requests of a kind have the same method and path, status, cause, error type and error text.
    A value that the logs do not have is None.
    """

    method: str | None = None
    """The HTTP method, such as `GET`."""
    path: str | None = None
    """The resource's path as the API defines it, such as `/orders/{id}`."""
    status: int
    """The status that the client got, 400 or more; 0 for lines whose status cannot be read."""
    error_type: str | None = None
    """API Gateway's type of response, such as `INTEGRATION_FAILURE`; None where the backend itself
    answered with the status."""
    message: str | None = None
    """API Gateway's error message."""
    cause: FailureCause | None = None
    """Why API Gateway could not answer, from the execution logs; None where the backend or the
    gateway answered with the status, and in access logs."""
    canary_failed: int
    """Requests of this kind on the canary."""
    canary_requests: int
    """All requests of the canary to that method and path."""
    baseline_failed: int
    """Requests of this kind on the baseline."""
    baseline_requests: int
    """All requests of the baseline to that method and path."""
    canary_request_ids: tuple[str, ...] = ()
    """A few ids of the canary's requests of this kind; empty where the logs have none."""
    baseline_request_ids: tuple[str, ...] = ()
    """A few ids of the baseline's."""

    @property
    def is_new(self) -> bool:
        """Whether the baseline has none of the kind."""
        return self.baseline_failed == 0

    @property
    def excess(self) -> float:
        """How many more of the canary's requests failed so than at the baseline's rate."""
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
    """The canary's kinds of failing requests, those that the baseline has none of first."""

    items: tuple[Failure, ...] = ()
    """The kinds."""
    source: FailureSource
    """The logs that they were found in."""
    start: datetime = attrs.field(converter=validation.utc, validator=validation.aware_field)
    """The beginning of the time that the log was read for."""
    end: datetime = attrs.field(converter=validation.utc, validator=validation.aware_field)
    """Its end."""
    scanned_bytes: float
    """What Logs Insights scanned, and bills."""
    usd: float
    """What that costs, in US dollars, at the list price of most regions."""
    unreadable_lines: int = 0
    """Lines whose request, variant or status could not be read. They are in no other number."""
    notes: tuple[str, ...] = ()
    """What is not known, and why."""

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
        """What it is about."""
        return "Failing requests"

    @property
    def title(self) -> str:
        """How many kinds there are."""
        return f"{len(self)} kinds"


@attrs.frozen(kw_only=True)
class LogGroup(Serializable):
    """A log group that API Gateway writes for one variant of a stage."""

    source: FailureSource
    """Whether it has access logs or execution logs."""
    variant: Literal["baseline", "canary"]
    """Whose requests it is for. The baseline's groups have the canary's requests as well."""
    name: str | None
    """The group's name; None where the stage writes no access logs to CloudWatch Logs."""
    exists: bool
    """Whether it exists: API Gateway creates those of execution logs with the first line."""


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
