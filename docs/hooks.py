"""README.md and CHANGELOG.md as pages of the manual: one text, whose links work in both places."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGES = {"README": "index.md", "CHANGELOG": "changelog.md"}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the file in where a page says `--8<-- "README.md"`, its links seen from docs/."""
    return re.sub(r'^--8<-- "(\w+\.md)"$', _file, markdown, flags=re.MULTILINE)


def _file(found: re.Match[str]) -> str:
    text = (ROOT / found[1]).read_text(encoding="utf-8")
    text = re.sub(r'(\]\(|(?:src|href)=")docs/', r"\1", text)
    return re.sub(r"\]\((README|CHANGELOG)\.md", lambda m: f"]({PAGES[m[1]]}", text)
