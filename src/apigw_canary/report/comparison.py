"""What a comparison of both variants shows: a table of all values, and latency over time."""

from collections.abc import Iterator, Sequence
from typing import Literal

from apigw_canary.model.comparison import ComparedMinute, Comparison, number
from apigw_canary.report.charts import thinned
from apigw_canary.report.document import (
    Chart,
    Document,
    Facts,
    Line,
    Paragraph,
    Point,
    Section,
    Table,
)
from apigw_canary.values.formatting import clock, moment, sentence

_QUESTIONS: dict[Literal["mean", "p50", "p99"], str] = {
    "mean": "Is the canary slower on average? (mean latency, ms)",
    "p50": "Is the canary slower for most requests? (p50 latency, ms)",
    "p99": "Is the canary slower for the slowest 1 %? (p99 latency, ms)",
}


def comparison(compared: Comparison) -> Document:
    """The document of a comparison."""
    return Document(
        about=compared.about,
        title=compared.title,
        tone=compared.tone,
        lead=sentence(f"Both variants side by side: {compared}"),
        facts=Facts(
            [
                ("Stage", f"{compared.stage} of {compared.rest_api_id} in {compared.region}"),
                ("From", moment(compared.start)),
                ("To", moment(compared.end)),
                ("Percentiles", f"of the {compared.percentiles}".replace("the median", "a median")),
            ]
        ),
        sections=sections(compared),
        data=data(compared),
    )


def data(compared: Comparison) -> dict[str, object]:
    """The comparison as plain JSON types, with the differences."""
    return {
        **compared.to_dict(),
        "differences": {value.name: value.difference for value in compared.values()},
    }


def sections(compared: Comparison) -> list[Section]:
    """The values, the charts, and how they were read."""
    found = [Section("Both variants, side by side", [_table(compared)])]
    if charts := list(_charts(compared)):
        found.append(Section("Latency, minute by minute", charts))
    notes = [*compared.notes]
    if compared.suspect is not None:
        notes.insert(0, f"The counts are suspect: {compared.suspect}")
    if notes:
        found.append(
            Section("How they were measured", [Paragraph(sentence(note)) for note in notes])
        )
    return found


def _table(compared: Comparison) -> Table:
    return Table(
        f"From {moment(compared.start)} to {moment(compared.end)}",
        ("", "Baseline", "Canary", "Difference"),
        [
            (
                value.name,
                number(value.baseline, value.unit),
                number(value.canary, value.unit),
                number(value.difference, value.unit, signed=True),
            )
            for value in compared.values()
        ],
    )


def _charts(compared: Comparison) -> Iterator[Chart]:
    minutes = thinned(compared.minutes)
    for statistic, question in _QUESTIONS.items():
        lines = [
            Line(
                variant,
                variant,
                [
                    Point(minute.at, value)
                    for minute in minutes
                    if (value := _of(minute, variant, statistic)) is not None
                ],
            )
            for variant in _VARIANTS
        ]
        drawn = [line for line in lines if line.points]
        if drawn:
            yield Chart(
                question=question,
                answer=", ".join(
                    f"{name} {number(getattr(getattr(compared, name).latency, statistic), 'ms')}"
                    for name in _VARIANTS
                ).capitalize()
                + ".",
                lines=drawn,
                start=compared.start,
                end=compared.end,
                unit="ms",
                top=1.05 * max(1.0, *(point.value for line in drawn for point in line.points)),
                table=_numbers(minutes, statistic),
            )


_VARIANTS: Sequence[Literal["canary", "baseline"]] = ("canary", "baseline")


def _numbers(minutes: Sequence[ComparedMinute], statistic: str) -> Table:
    return Table(
        f"The {statistic} of each minute's latency",
        ("Minute (UTC)", "Canary", "Baseline"),
        [
            (
                clock(minute.at),
                *(number(_of(minute, variant, statistic), "ms") for variant in _VARIANTS),
            )
            for minute in minutes
        ],
    )


def _of(minute: ComparedMinute, variant: str, statistic: str) -> float | None:
    value: float | None = getattr(getattr(minute, variant).latency, statistic)
    return value
