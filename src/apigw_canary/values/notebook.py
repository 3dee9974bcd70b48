"""How a notebook shows a value: filled in by `apigw_canary`, which knows who draws pages."""

from collections.abc import Callable
from typing import Any

page: Callable[[Any], str] | None = None
"""An `Explained` value as HTML; None where nothing draws."""
