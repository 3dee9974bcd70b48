"""What failing requests look like."""

from collections import Counter
from typing import NamedTuple

import attrs

from apigw_canary.values.formatting import share
from apigw_canary.values.serialization import Serializable

UNREADABLE = 0
"""The status of requests whose line does not give it."""


@attrs.frozen(kw_only=True)
class Failure(Serializable):
    """One kind of failing requests of the canary, beside the baseline's in the same time.

    Of one method and path, one status, one type and one text of error. What the access logs do not
    have is None.
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
    canary_failed: int
    """Requests of this kind on the canary."""
    canary_requests: int
    """All requests of the canary to that method and path."""
    baseline_failed: int
    """Requests of this kind on the baseline."""
    baseline_requests: int
    """All requests of the baseline to that method and path."""

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
        """One line: what failed, and how often on either arm."""
        route = " ".join(_shown(part) for part in (self.method, self.path) if part)
        what = " ".join(_shown(part) for part in (self.error_type, self.message) if part)
        rates = (
            f"canary {_share(self.canary_failed, self.canary_requests)}, "
            f"baseline {_share(self.baseline_failed, self.baseline_requests)}"
        )
        status = str(self.status) if self.status else "a status that cannot be read"
        named = " ".join(part for part in (route, status, what) if part)
        return f"{'new: ' if self.is_new else ''}{named}: {rates}"


def _shown(text: str) -> str:
    """On one line, whatever is in it."""
    return text if text.isprintable() else ascii(text)[1:-1]


def _share(failed: int, requests: int) -> str:
    return share(failed / requests if requests else None, requests)


class Kind(NamedTuple):
    """What requests have in common that are counted together."""

    method: str | None
    path: str | None
    status: int
    error_type: str | None
    message: str | None


def ranked(canary: Counter[Kind], baseline: Counter[Kind], limit: int) -> tuple[Failure, ...]:
    """The canary's kinds of failure out of all requests by kind: new ones first, then by excess."""
    canary_routes, baseline_routes = _by_route(canary), _by_route(baseline)
    failures = [
        Failure(
            **kind._asdict(),
            canary_failed=failed,
            canary_requests=canary_routes[kind.method, kind.path],
            baseline_failed=baseline[kind],
            baseline_requests=baseline_routes[kind.method, kind.path],
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
