"""What a deployment offers and to whom: its methods, who may call them, and what changes there."""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

OPEN = "NONE"
"""API Gateway's name for the authorization type of a method that every client may call."""
ANY = "ANY"
"""API Gateway's word for all HTTP methods that a path does not name itself."""


class Route(NamedTuple):
    """A method of an API, as in `GET /orders/{id}`."""

    method: str
    path: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class Guard(NamedTuple):
    """What a method asks of its callers, as far as a deployment's summary shows it."""

    authorization: str
    """`NONE`, `AWS_IAM`, `CUSTOM` or `COGNITO_USER_POOLS`."""
    api_key: bool
    """Whether an API key is required."""

    def lost(self, later: "Guard") -> str:
        """What `later` no longer requires; empty where it requires as much.

        Names do not show which of two kinds of authorization is the stronger.
        """
        lost = []
        if self.authorization not in {OPEN, later.authorization}:
            lost.append(f"authorization {self.authorization}, now {later.authorization}")
        if self.api_key and not later.api_key:
            lost.append("an API key, now none")
        return " and ".join(lost)


Contract = Mapping[Route, Guard]


class Changes(NamedTuple):
    """What differs between two contracts, a text for each method."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    weakened: tuple[str, ...]
    """With what was asked before, and what is asked now."""


def api_changes(before: Contract, after: Contract) -> Changes:
    """From one contract to another.

    A method is weakened too where it is new and takes requests that a guarded one got: `ANY`, or
    a path with parameters.
    """
    weakened = []
    for route, guard in sorted(after.items()):
        earlier = answering(before, route)
        if earlier is not None and (lost := before[earlier].lost(guard)):
            through = "" if earlier == route else f" (through {earlier})"
            weakened.append(f"{route}: had {lost}{through}")
    return Changes(
        added=tuple(str(route) for route in sorted(after.keys() - before.keys())),
        removed=tuple(str(route) for route in sorted(before.keys() - after.keys())),
        weakened=tuple(weakened),
    )


def answering(routes: Collection[Route], route: Route) -> Route | None:
    """The route that answers such requests; as API Gateway chooses: path first, then method."""
    if route in routes:
        return route
    ranked = [(rank, each.path) for each in routes if (rank := _rank(each.path, route.path))]
    if not ranked:
        return None
    path = min(ranked)[1]
    named, any_method = Route(route.method, path), Route(ANY, path)
    return named if named in routes else any_method if any_method in routes else None


def _rank(template: str, path: str) -> tuple[int, ...] | None:
    """How specific the template is for the path, least first; None where it does not match."""
    parts = path.strip("/").split("/")
    wanted = template.strip("/").split("/")
    greedy = wanted[-1].endswith("+}")
    if len(parts) < len(wanted) if greedy else len(parts) != len(wanted):
        return None
    ranks = tuple(_ranks(wanted, parts))
    return ranks if len(ranks) == len(wanted) else None


def _ranks(wanted: list[str], parts: list[str]) -> Iterator[int]:
    for want, part in zip(wanted, parts, strict=False):
        if want == part:
            yield 0
        elif part and re.fullmatch(r"\{.+\}", want):
            yield 2 if want.endswith("+}") else 1
        else:
            return
