"""Values that a notebook shows as a page, although nothing here knows how a page is made."""

from collections.abc import Callable
from typing import ClassVar

from apigw_canary.rollout.plain import Plain


class Explained(Plain):
    """A value that explains itself: `apigw_canary.Report` shows it in every form."""

    __slots__ = ()

    page: ClassVar[Callable[["Explained"], str] | None] = None
    """How it is shown as HTML: filled in by `apigw_canary`, which knows who draws pages."""

    def _repr_html_(self) -> str | None:
        page = Explained.page
        return None if page is None else page(self)
