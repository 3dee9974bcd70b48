"""The content of a report, before it is formatted."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

import attrs

from apigw_canary.values import Tone

LineStyle = Literal["canary", "baseline", "third", "fourth", "needed"]
"""How a line is distinguished: by color and by dashes."""

Shape = Literal["shift", "promote", "rollback"]


@attrs.frozen
class Paragraph:
    """A sentence or more."""

    text: str


@attrs.frozen
class Facts:
    """A few values, each with its name."""

    pairs: Sequence[tuple[str, str]]


@attrs.frozen
class Table:
    """Rows of text; the first cell of each names the row."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


class Point(NamedTuple):
    """A value at a time, and the band it may lie in."""

    at: datetime
    value: float
    low: float | None = None
    high: float | None = None


@attrs.frozen
class Line:
    """Values over time."""

    name: str
    style: LineStyle
    points: Sequence[Point]
    steps: bool = False
    """Whether each value stays as it is until the next one."""


@attrs.frozen
class Mark:
    """Something that happened at a time."""

    name: str
    shape: Shape
    at: datetime
    value: float


@attrs.frozen(kw_only=True)
class Chart:
    """A picture that answers one question."""

    question: str
    answer: str
    lines: Sequence[Line]
    start: datetime
    end: datetime
    unit: Literal["%", "ms", ""]
    top: float
    """The largest value of the axis; larger ones are drawn at the edge."""
    log: bool = False
    """Whether each step of the scale is ten times the one before."""
    marks: Sequence[Mark] = ()
    note: str = ""
    table: Table
    """What is drawn, in numbers."""


Block = Paragraph | Facts | Table | Chart


@attrs.frozen
class Section:
    """Blocks under a heading."""

    title: str
    blocks: Sequence[Block]


@attrs.frozen(kw_only=True)
class Document:
    """A report."""

    about: str
    """What it is about, in a few words, such as the stage."""
    title: str
    """What came out, in a few words."""
    tone: Tone
    lead: str
    """Why: a sentence."""
    facts: Facts
    sections: Sequence[Section]
    data: Any
    """The same for programs, as JSON-serializable types."""
