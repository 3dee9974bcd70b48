"""Values that a notebook shows as a page, although nothing here knows how a page is made."""

from collections.abc import Callable

from apigw_canary.rollout.plain import Plain


class Explained(Plain):
    """A value that explains itself: `apigw_canary.Report` shows it in every form."""

    __slots__ = ()

    def _repr_html_(self) -> str | None:
        return None if page is None else page(self)


page: Callable[[Explained], str] | None = None
"""How such a value is shown as HTML: filled in by `apigw_canary`, which knows who draws pages."""
