"""Texts from outside this library in messages."""


def bounded(text: str, limit: int) -> str:
    """One line of printable text of at most `limit` characters; what is cut is marked by "…".

    Control characters, those that reorder text included, are shown as escapes.
    """
    cut = text[: limit + 1]
    if not cut.isprintable():
        cut = "".join(
            each if each.isprintable() else " " if each.isspace() else ascii(each)[1:-1]
            for each in cut
        )
    return cut if len(cut) <= limit else f"{cut[: limit - 1]}…"
