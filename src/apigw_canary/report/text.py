"""A document as plain text, no line longer than asked for, and as Markdown for forges and chats."""

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import assert_never

from apigw_canary.report.document import Block, Chart, Document, Facts, Paragraph, Table
from apigw_canary.report.escape import markdown as safe
from apigw_canary.report.escape import visible
from apigw_canary.values import Tone

_GUTTER = "  "
_NARROWEST = 4


def text(document: Document, width: int) -> str:
    """The document, in lines of `width` cells of a terminal at most."""
    lines = [*_wrapped(visible(f"{document.about}: {document.title}"), width)]
    lines += ["=" * max(map(_cells, lines)), *_wrapped(visible(document.lead), width), ""]
    lines += _block(document.facts, width)
    for section in document.sections:
        title = _wrapped(section.title, width)
        lines += ["", *title, "-" * max(map(_cells, title))]
        for i, block in enumerate(section.blocks):
            lines += [*([""] if i else []), *_block(block, width)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _block(block: Block, width: int) -> list[str]:
    match block:
        case Paragraph(text=content):
            return _wrapped(visible(content), width)
        case Facts(pairs=pairs):
            return _rows([[visible(cell) for cell in pair] for pair in pairs], width)
        case Table(columns=columns, rows=rows):
            shown = [[visible(cell) for cell in row] for row in rows]
            return [*_wrapped(f"{block.caption}:", width), "", *_rows([columns, *shown], width)]
        case Chart():
            return [
                *_wrapped(visible(block.question), width),
                *(f"  {line}" for line in _wrapped(visible(block.answer), width - 2)),
            ]
        case _:
            assert_never(block)


def _rows(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    widths = _widths(rows, width)
    lines = []
    for row in rows:
        cells = [_wrapped(cell, available) for cell, available in zip(row, widths, strict=True)]
        for i in range(max(map(len, cells))):
            parts = [cell[i] if i < len(cell) else "" for cell in cells]
            padded = [
                part + " " * (available - _cells(part))
                for part, available in zip(parts, widths, strict=True)
            ]
            lines.append(_GUTTER.join(padded).rstrip())
    return lines


def _widths(rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """As wide as the widest cell; where that is too much, the widest columns give way.

    Words are broken only where there is no other way.
    """
    columns = [*zip(*rows, strict=True)]
    widths = [max(1, *map(_cells, column)) for column in columns]
    words = [max((_cells(w) for c in column for w in c.split()), default=1) for column in columns]
    available = width - len(_GUTTER) * (len(widths) - 1)
    for least in (words, [_NARROWEST] * len(widths), [1] * len(widths)):
        while sum(widths) > available:
            spare = [each if each > low else 0 for each, low in zip(widths, least, strict=True)]
            if not any(spare):
                break
            widths[spare.index(max(spare))] -= 1
    return widths


def _wrapped(content: str, width: int) -> list[str]:
    lines = [""]
    for word in _words(content, width):
        joined = f"{lines[-1]} {word}" if lines[-1] else word
        if _cells(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(word)
    return lines


def _words(content: str, width: int) -> Iterator[str]:
    """The words, those that are too long for a line in parts."""
    for word in content.split():
        part = ""
        for char in word:
            if _cells(part + char) > width:
                yield part
                part = ""
            part += char
        yield part


def _cells(content: str) -> int:
    """How many cells of a terminal it takes: none for a combining mark, two for a wide letter."""
    return sum(
        0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in content
    )


_SIGNS: dict[Tone, str] = {"good": "✅", "bad": "❌", "open": "⏳"}


def markdown(document: Document) -> str:
    """The document, tables as GitHub and GitLab show them."""
    parts = [
        f"### {_SIGNS[document.tone]} {safe(document.about)}: {safe(document.title)}",
        safe(document.lead),
        _markdown_block(document.facts),
    ]
    for section in document.sections:
        parts.append(f"#### {section.title}")
        parts += [
            "\n".join(map(_markdown_block, same)) for _, same in groupby(section.blocks, type)
        ]
    return "\n\n".join(parts) + "\n"


def _markdown_block(block: Block) -> str:
    match block:
        case Paragraph(text=content):
            return f"- {safe(content)}"
        case Facts(pairs=pairs):
            return "\n".join(f"- {safe(name)}: {safe(value)}" for name, value in pairs)
        case Table():
            return _markdown_table(block)
        case Chart():
            return f"- **{safe(block.question)}** {safe(block.answer)}"
        case _:
            assert_never(block)


def _markdown_table(table: Table) -> str:
    return "\n".join(
        [
            f"{table.caption}:\n",
            _markdown_row(table.columns),
            _markdown_row(["---"] * len(table.columns)),
            *(_markdown_row([safe(cell) for cell in row]) for row in table.rows),
        ]
    )


def _markdown_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
