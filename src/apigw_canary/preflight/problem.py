"""What a preflight finds."""

from typing import Literal, get_args

import attrs

from apigw_canary.texts import bounded
from apigw_canary.values import validation
from apigw_canary.values.serialization import Serializable

_LONGEST_WHAT, _LONGEST_REMEDY = 1400, 500
"""Characters: names in it come from AWS, and there can be hundreds."""

Severity = Literal["error", "warning"]


def _as_what(text: str) -> str:
    return bounded(text, _LONGEST_WHAT)


def _as_remedy(text: str) -> str:
    return bounded(text, _LONGEST_REMEDY)


@attrs.frozen
class Problem(Serializable):
    """A problem of a canary release on this stage."""

    severity: Severity
    """"error": a canary would be refused, fail, or never be promoted. "warning": it would work,
    with less to go by, or perhaps not as meant."""
    what: str = attrs.field(converter=_as_what)
    """What is so, with the evidence. No variable values."""
    remedy: str = attrs.field(converter=_as_remedy)
    """What to do about it."""

    def __attrs_post_init__(self) -> None:
        validation.choice(self.severity, "severity", get_args(Severity))

    def __str__(self) -> str:
        """What is so, and what to do."""
        return f"{self.severity}: {self.what} {self.remedy}"
