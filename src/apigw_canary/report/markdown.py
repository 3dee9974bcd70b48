"""A document as Markdown, fit for a comment on a pull request and for a chat."""

from collections.abc import Iterable
from itertools import groupby
from typing import assert_never

from apigw_canary.report.document import Block, Chart, Document, Facts, Paragraph, Table
from apigw_canary.report.escape import markdown as safe
from apigw_canary.values.rendering import Tone

_SIGNS: dict[Tone, str] = {"good": "✅", "bad": "❌", "open": "⏳"}


def markdown(document: Document) -> str:
    """The document, tables as GitHub and GitLab show them."""
    parts = [
        f"### {_SIGNS[document.tone]} {safe(document.about)}: {safe(document.title)}",
        safe(document.lead),
        _block(document.facts),
    ]
    for section in document.sections:
        parts.append(f"#### {section.title}")
        parts += ["\n".join(map(_block, same)) for _, same in groupby(section.blocks, type)]
    return "\n\n".join(parts) + "\n"


def _block(block: Block) -> str:
    match block:
        case Paragraph(text=content):
            return f"- {safe(content)}"
        case Facts(pairs=pairs):
            return "\n".join(f"- {safe(name)}: {safe(value)}" for name, value in pairs)
        case Table():
            return _table(block)
        case Chart():
            return f"- **{safe(block.question)}** {safe(block.answer)}"
        case _:
            assert_never(block)


def _table(table: Table) -> str:
    return "\n".join(
        [
            f"{table.caption}:\n",
            _row(table.columns),
            _row(["---"] * len(table.columns)),
            *(_row([safe(cell) for cell in row]) for row in table.rows),
        ]
    )


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
