"""A document as one HTML page that needs nothing but itself."""

import base64
import hashlib
from collections.abc import Iterable
from functools import cache
from importlib import resources
from typing import assert_never

from apigw_canary.report.document import (
    Block,
    Chart,
    Document,
    Facts,
    LineStyle,
    Paragraph,
    Section,
    Shape,
    Table,
)
from apigw_canary.report.escape import html as safe
from apigw_canary.report.svg import SHAPES, svg
from apigw_canary.values.rendering import Tone

_ICONS: dict[Tone, tuple[str, str]] = {
    "good": ("Went well", "M-5 0 L-1.5 4 L5 -4"),
    "bad": ("Went badly", "M-4 -4 L4 4 M4 -4 L-4 4"),
    "open": ("Not over", "M-3 -4 V4 M3 -4 V4"),
}


@cache
def _style() -> str:
    return resources.files("apigw_canary.report").joinpath("page.css").read_text(encoding="utf-8")


@cache
def _policy() -> str:
    """Nothing may be loaded, run, framed or sent; the one style is known by its hash."""
    digest = base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def page(document: Document) -> str:
    """The whole page."""
    title = safe(f"{document.about}: {document.title}")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy()}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{title}</title>\n<style>{_style()}</style>\n</head>\n"
        f'<body class="canary-page">\n{_main("main", document)}</body>\n</html>\n'
    )


def fragment(document: Document) -> str:
    """The page as a part of another one, such as a notebook, whose style it leaves alone."""
    return f"<style>{_style()}</style>\n{_main('article', document)}"


def _main(tag: str, document: Document) -> str:
    meaning, path = _ICONS[document.tone]
    return (
        f'<{tag} class="canary-report" lang="en">\n<header class="{document.tone}">\n'
        f'<p class="about">{safe(document.about)}</p>\n'
        f'<h1><svg class="icon" viewBox="-10 -10 20 20" role="img" aria-label="{meaning}">'
        f'<circle r="10"/><path d="{path}"/></svg> {safe(document.title)}</h1>\n'
        f'<p class="lead">{safe(document.lead)}</p>\n</header>\n'
        f"{_block(document.facts)}"
        f"{''.join(_section(section) for section in document.sections)}"
        f"<footer><p>Times are in UTC. Made by apigw-canary.</p></footer>\n</{tag}>\n"
    )


def _section(section: Section) -> str:
    title = safe(section.title)
    blocks = "".join(_block(block) for block in section.blocks)
    if all(isinstance(block, Chart) for block in section.blocks):
        blocks = f'<div class="charts">\n{blocks}</div>\n'
    return f'<section aria-label="{title}">\n<h2>{title}</h2>\n{blocks}</section>\n'


def _block(block: Block) -> str:
    match block:
        case Paragraph(text=content):
            return f"<p>{safe(content)}</p>\n"
        case Facts(pairs=pairs):
            shown = (f"<div><dt>{safe(n)}</dt><dd>{safe(v)}</dd></div>" for n, v in pairs)
            return f'<dl class="facts">{"".join(shown)}</dl>\n'
        case Table():
            return _table(block)
        case Chart():
            return _chart(block)
        case _:
            assert_never(block)


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{safe(column)}</th>' for column in table.columns)
    body = "".join(
        f'<tr><th scope="row">{safe(row[0])}</th>{_cells(row[1:])}</tr>\n' for row in table.rows
    )
    # It scrolls by itself where it is too wide, so it must be reachable by keyboard.
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{safe(table.caption)}">'
        f"<table><caption>{safe(table.caption)}</caption>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{body}</tbody></table></div>\n"
    )


def _cells(cells: Iterable[str]) -> str:
    return "".join(f"<td>{safe(cell)}</td>" for cell in cells)


def _chart(chart: Chart) -> str:
    note = f'<p class="note">{safe(chart.note)}</p>\n' if chart.note else ""
    return (
        f"<figure>\n<figcaption><h3>{safe(chart.question)}</h3>\n"
        f'<p class="answer">{safe(chart.answer)}</p></figcaption>\n'
        f"{svg(chart)}\n<div>{_legend(chart)}{note}"
        f"<details><summary>In numbers</summary>\n{_table(chart.table)}</details></div>\n"
        f"</figure>\n"
    )


def _legend(chart: Chart) -> str:
    marks: dict[Shape, str] = {mark.shape: mark.name.partition(" to ")[0] for mark in chart.marks}
    items = [
        *(f"<li>{_line_sample(line.style)}{safe(line.name)}</li>" for line in chart.lines),
        *(f"<li>{_mark_sample(shape)}{safe(name)}</li>" for shape, name in marks.items()),
    ]
    return f'<ul class="legend" aria-label="Legend">{"".join(items)}</ul>\n'


def _line_sample(style: LineStyle) -> str:
    return (
        '<svg class="sample" viewBox="0 0 28 10" aria-hidden="true">'
        f'<path class="line {style}" d="M1 5 H27"/></svg>'
    )


def _mark_sample(shape: Shape) -> str:
    return (
        '<svg class="sample" viewBox="-14 -7 28 14" aria-hidden="true">'
        f'<path class="mark {shape}" d="{SHAPES[shape]}"/></svg>'
    )
