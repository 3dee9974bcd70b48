"""One door for each format, for text that comes from outside: names, messages, reasons.

Such text is shown as it is, and is never taken for markup, a command to a terminal, a link or a
person who is to be notified.
"""

import html as _html
import json as _json
import re
from typing import Any

LONGEST = 2000
"""Characters of one text; what is longer is cut. GitHub takes comments of 65,536."""

_GAP = "\u200b"
"""A zero-width space: it separates what a chat or a forge would turn into a link or a mention. They
search the text as displayed, where no escape is left to prevent it."""

_LINKS = re.compile(
    r"@|#(?=\w)|(?<!\w)GH-(?=\d)|(?<=www)\.|\.(?=[^\W\d_])|:(?!\s|\d\d(?!\d|:)|$)", re.IGNORECASE
)
"""Mentions and addresses of mail, numbers of issues, addresses of pages, emoji. A time of day and
a decimal point are left alone."""
_MARKUP = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
"""Not backslashes: Slack knows no others."""
_BLOCK = re.compile(r"^(?=[-+=#/:%])|^\d+(?=[.)](?:\s|$))")
"""What would begin a list, a heading or a command at the start of a line."""


def visible(text: str) -> str:
    """One line on which each character shows: for a terminal or a log.

    Controls (terminal escapes, C0 and C1), direction overrides, zero-width and unassigned
    characters, and halves of surrogate pairs are shown by their number.
    """
    cut = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    return "".join(
        char if char.isprintable() else " " if char.isspace() else _numbered(char) for char in cut
    ).strip()


def _numbered(char: str) -> str:
    return f"\\x{ord(char):02x}" if ord(char) < 0x100 else f"\\u{ord(char):04x}"


def html(text: str) -> str:
    """For HTML, as text or within a quoted attribute."""
    return _html.escape(visible(text), quote=True)


def markdown(text: str) -> str:
    """For Markdown in a pull request or chat: within a line, or as a cell of a table."""
    parted = _LINKS.sub(lambda found: found[0] + _GAP, visible(text))
    escaped = _MARKUP.sub(lambda found: f"\\{found[0]}", parted)
    escaped = re.sub("[&<>]", lambda found: _ENTITIES[found[0]], escaped)
    return _BLOCK.sub(lambda found: f"{found[0]}\\", escaped)


def json(data: Any) -> str:
    """JSON that may be printed, and put into a page."""
    text = _json.dumps(data, indent=2, allow_nan=False)
    return re.sub("[<>&\x7f]", lambda found: f"\\u{ord(found[0]):04x}", text)
