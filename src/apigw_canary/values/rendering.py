"""Values that a notebook shows as a page, although nothing here knows how a page is made."""

from collections.abc import Callable
from typing import Any, Literal

from apigw_canary.values.serialization import Serializable

Tone = Literal["good", "bad", "open"]
"""How it ended, for whoever only glances at it: well, badly, or not yet."""


page: Callable[[Any], str] | None = None
"""An `Renderable` value as HTML, set by `apigw_canary`; None where nothing makes pages."""


class Renderable(Serializable):
    """A value that explains itself: `apigw_canary.Report` shows it in every form."""

    __slots__ = ()

    @property
    def about(self) -> str:
        """What a report of it is about, in a word or two."""
        return "Report"

    @property
    def title(self) -> str:
        """What came out, in a few words."""
        return type(self).__name__

    @property
    def tone(self) -> Tone:
        """How a report of it is marked."""
        return "open"

    def _repr_html_(self) -> str | None:
        return None if page is None else page(self)
