"""What a value has to show: a decision, a comparison, a smoke test, or a whole rollout."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from enum import Enum
from itertools import groupby
from typing import Any, Literal, NamedTuple

from apigw_canary.judge import Analysis, Basis, Finding, Observation, Phase, Verdict, paths
from apigw_canary.model import ComparedMinute, Comparison, SmokeResult, formatted
from apigw_canary.policy import RolloutPolicy
from apigw_canary.report import charts
from apigw_canary.report.charts import thinned
from apigw_canary.report.document import (
    Chart,
    Document,
    Facts,
    Line,
    Mark,
    Paragraph,
    Point,
    Section,
    Shape,
    Table,
)
from apigw_canary.rollout.decisions import Decided, Promote, Rollback, Shift
from apigw_canary.values import (
    Renderable,
    Serializable,
    Tone,
    clock,
    evidence,
    moment,
    sentence,
    share,
    span,
)

_LATENCY_QUESTIONS: dict[Literal["mean", "p50", "p99"], str] = {
    "mean": "Is the canary slower on average? (mean latency, ms)",
    "p50": "Is the canary slower for most requests? (p50 latency, ms)",
    "p99": "Is the canary slower for the slowest 1 %? (p99 latency, ms)",
}


def _comparison(compared: Comparison) -> Document:
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
        sections=_comparison_sections(compared),
        data=_comparison_data(compared),
    )


def _comparison_data(compared: Comparison) -> dict[str, object]:
    """The comparison as JSON-serializable types, with the differences."""
    return {
        **compared.to_dict(),
        "differences": {value.name: value.difference for value in compared.values()},
    }


def _comparison_sections(compared: Comparison) -> list[Section]:
    """The values, the charts, and how they were read."""
    found = [Section("Both variants, side by side", [_values_table(compared)])]
    if charts := list(_latency_charts(compared)):
        found.append(Section("Latency, minute by minute", charts))
    notes = [*compared.notes]
    if compared.suspect is not None:
        notes.insert(0, f"The counts are suspect: {compared.suspect}")
    if notes:
        found.append(
            Section("How they were measured", [Paragraph(sentence(note)) for note in notes])
        )
    return found


def _values_table(compared: Comparison) -> Table:
    return Table(
        f"From {moment(compared.start)} to {moment(compared.end)}",
        ("", "Baseline", "Canary", "Difference"),
        [
            (
                value.name,
                formatted(value.baseline, value.unit),
                formatted(value.canary, value.unit),
                formatted(value.difference, value.unit, signed=True),
            )
            for value in compared.values()
        ],
    )


def _latency_charts(compared: Comparison) -> Iterator[Chart]:
    minutes = thinned(compared.minutes)
    for statistic, question in _LATENCY_QUESTIONS.items():
        lines = [
            Line(
                variant,
                variant,
                [
                    Point(minute.at, value)
                    for minute in minutes
                    if (value := _latency_of(minute, variant, statistic)) is not None
                ],
            )
            for variant in _VARIANTS
        ]
        drawn = [line for line in lines if line.points]
        if drawn:
            yield Chart(
                question=question,
                answer=", ".join(
                    f"{name} {formatted(getattr(getattr(compared, name).latency, statistic), 'ms')}"
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
                *(
                    formatted(_latency_of(minute, variant, statistic), "ms")
                    for variant in _VARIANTS
                ),
            )
            for minute in minutes
        ],
    )


def _latency_of(minute: ComparedMinute, variant: str, statistic: str) -> float | None:
    value: float | None = getattr(getattr(minute, variant).latency, statistic)
    return value


VERDICTS = {
    Verdict.WORSE: "worse",
    Verdict.NOT_WORSE: "not worse",
    Verdict.UNDECIDED: "inconclusive so far",
}

_MOST_LISTED = 10
"""Texts that are shown in one cell of a table: an API can have hundreds of methods."""

_TONES: dict[Verdict, Tone] = {
    Verdict.WORSE: "bad",
    Verdict.NOT_WORSE: "good",
    Verdict.UNDECIDED: "open",
}


def explain(subject: Renderable) -> Document:
    """The document of one value."""
    match subject:
        case Decided():
            return _decision(subject)
        case Analysis():
            return _analysis(subject)
        case Comparison():
            return _comparison(subject)
        case SmokeResult():
            return smoke_test([subject])
        case _:
            return _anything(subject)


def _decision(decision: Decided) -> Document:
    facts = [("Decided at", moment(decision.at))]
    if decision.basis is not None:
        facts.append(("On", _where(decision.basis)))
    facts.append(
        ("Next observation", "none, it is final" if decision.final else f"in {span(decision.wait)}")
    )
    return Document(
        about="Decision",
        title=_headline(decision),
        tone=tone(decision),
        lead=_sentence(decision.reason),
        facts=Facts(facts),
        sections=[] if decision.analysis is None else [_signals(decision.analysis)],
        data=decision.to_dict(),
    )


def _analysis(analysis: Analysis) -> Document:
    since = analysis.worse_at
    return Document(
        about="The canary",
        title=VERDICTS[analysis.verdict],
        tone=_TONES[analysis.verdict],
        lead=_sentence(str(analysis)),
        facts=Facts(
            [
                (
                    "Evidence that it is worse",
                    f"{evidence(analysis.worse_evidence)} at its strongest",
                ),
                ("Threshold for a rollback", evidence(analysis.worse_threshold)),
                *([] if since is None else [("Worse since", moment(since))]),
            ]
        ),
        sections=[_signals(analysis)],
        data=analysis.to_dict(),
    )


def smoke_test(results: Sequence[SmokeResult]) -> Document:
    """The results of a smoke test, and what the log has of the requests that did not pass."""
    counts = Counter(result.outcome for result in results)
    others = [result for result in results if not result.passed]
    tone: Tone = "bad" if counts["failed"] else "open" if others else "good"
    return Document(
        about="Smoke test",
        title=", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())),
        tone=tone,
        lead=_sentence(str(others[0]) if others else "each request was answered as expected"),
        facts=Facts([("Requests", str(len(results)))]),
        sections=[
            Section(
                "Requests",
                [
                    Table(
                        "The API as it is being edited, with the canary's variables",
                        ("Request", "Answered by", "Outcome", "Responses"),
                        [
                            (each.request, each.route or "", each.outcome, each.reason)
                            for each in results
                        ],
                    )
                ],
            ),
            *(
                Section(f"Log of request {number}", [Paragraph(line) for line in result.log])
                for number, result in enumerate(results, 1)
                if not result.passed and result.log
            ),
        ],
        data=[result.to_dict() for result in results],
    )


def _anything(subject: Renderable) -> Document:
    """Its sentence, what of it is a number, a time or a word, and tables of the values within."""
    data = subject.to_dict()
    values = {name.replace("_", " "): getattr(subject, name) for name in data}
    shown = {name: _shown(value) for name, value in values.items()}
    return Document(
        about=subject.about,
        title=subject.title,
        tone=subject.tone,
        lead=_sentence(str(subject)),
        facts=Facts([(name, value) for name, value in shown.items() if value is not None]),
        sections=[
            Section(name.capitalize(), [_table_of(name, rows)])
            for name, value in values.items()
            if (rows := _rows(value))
        ],
        data=data,
    )


def _rows(value: object) -> list[Serializable]:
    values = value if isinstance(value, tuple) else (value,)
    return [each for each in values if isinstance(each, Serializable)]


def _table_of(name: str, values: Sequence[Serializable]) -> Table:
    rows = [{key: _listed(getattr(each, key)) for key in each.to_dict()} for each in values]
    columns = [key for key in rows[0] if any(row.get(key) for row in rows)]
    return Table(
        f"What is in {name}",
        [key.replace("_", " ") for key in columns],
        [[row.get(key) or "" for key in columns] for row in rows],
    )


def _listed(value: Any) -> str | None:
    """A value in a table, where a few texts are in one cell."""
    if isinstance(value, tuple) and value and all(isinstance(each, str) for each in value):
        more = len(value) - _MOST_LISTED
        return ", ".join(value[:_MOST_LISTED]) + (f" and {more} more" if more > 0 else "")
    return _shown(value)


def _shown(value: Any) -> str | None:
    match value:
        case bool():
            return "yes" if value else "no"
        case Enum():
            return str(value.value)
        case int() | float():
            return f"{value:,.0f}" if 1e6 <= abs(value) < 1e15 else f"{value:,.6g}"
        case timedelta():
            return span(value)
        case datetime():
            return moment(value)
        case str():
            return value
        case _:
            return None


def _headline(decision: Decided) -> str:
    """The decision without its reason."""
    return str(decision).removesuffix(decision.reason).removesuffix(": ")


def _sentence(text: str) -> str:
    """With a capital letter and a full stop; a name keeps its first letter."""
    first = text.partition(" ")[0]
    began = text if not first.isalpha() or not first.islower() else text[0].upper() + text[1:]
    return sentence(began)


def tone(decision: Decided) -> Tone:
    """Whether it ends the rollout well or badly, if at all."""
    match decision:
        case Promote():
            return "good"
        case Rollback():
            return "bad"
        case _:
            return "open"


def _where(basis: Basis) -> str:
    """The stage, and which of its deployments is the canary."""
    return (
        f"stage {basis.stage} of API {basis.rest_api_id} in {basis.region}, canary of deployment "
        f"{basis.deployment_id} at {basis.percent:g} %"
    )


def _signals(analysis: Analysis) -> Section:
    """The finding of each signal, with its evidence."""
    return Section(
        "Signals",
        [
            Table(
                "Bad requests of each variant, and the evidence for each verdict, of its threshold",
                ("Signal", "Canary", "Baseline", "Verdict", "Worse", "Not worse"),
                [_row(finding) for finding in analysis.findings],
            )
        ],
    )


def _row(finding: Finding) -> list[str]:
    verdict = VERDICTS[finding.verdict]
    if not finding.sample_ratio_ok:
        verdict = "the counts do not fit the traffic percentage"
    elif finding.baseline_unhealthy:
        verdict = "the baseline is unhealthy"
    return [
        finding.signal,
        share(finding.canary_rate, finding.canary_requests),
        share(finding.baseline_rate, finding.baseline_requests),
        verdict,
        _of(finding.worse_evidence, finding.worse_threshold),
        _of(finding.not_worse_evidence, finding.not_worse_threshold),
    ]


def _of(reached: float, needed: float) -> str:
    enough = f"{needed:,.0f}" if needed <= 1e6 else "over 1,000,000"
    return f"{evidence(reached)} of {enough}"


_ENDS: Mapping[Phase, tuple[str, Tone]] = {
    "promoted": ("Promoted", "good"),
    "promoted_outside": ("Promoted outside", "open"),
    "reverted": ("Promotion undone", "bad"),
    "disabled": ("Disabled", "open"),
    "rolled_back": ("Rolled back", "bad"),
    "removed_outside": ("Removed outside", "open"),
    "replaced": ("Replaced by another canary", "open"),
}


class _Step(NamedTuple):
    """Observations of a canary at one percent, and the decision on the last of them."""

    observations: Sequence[Observation]
    decision: Decided


def history(
    observations: Iterable[Observation], policy: RolloutPolicy, compared: Comparison | None = None
) -> Document:
    """The document of a rollout."""
    ordered = sorted(observations, key=lambda each: each.at)
    # Deciding takes the longer the longer the rollout is: one for each percent is enough.
    steps = [
        _Step(group, policy.decide(group[-1]))
        for _, same in groupby(ordered, key=lambda each: (each.percent, each.phase))
        for group in [list(same)]
    ]
    decision = steps[-1].decision
    # What has ended has no numbers any more, and a source may have failed.
    latest = next((each for each in reversed(ordered) if each.minutes), ordered[-1])
    analysis = policy.analyze(latest)
    title, outcome = _ENDS.get(ordered[-1].phase, (_headline(decision), tone(decision)))
    basis = ordered[-1].basis
    marks = [mark for step in steps for mark in _marks(step)]
    return Document(
        about="Rollout" if basis is None else f"Rollout on stage {basis.stage}",
        title=title,
        tone=outcome,
        lead=_sentence(decision.reason),
        facts=_facts(ordered, analysis),
        sections=[
            _signals(analysis),
            Section(
                "Evidence by minute",
                charts.charts(ordered, policy, paths(policy, latest), marks),
            ),
            *([] if compared is None else _comparison_sections(compared)),
            Section("Decisions", [_decisions(steps)]),
            *_remarks(ordered, latest),
        ],
        data={
            "policy": policy.to_dict(),
            "decisions": [step.decision.to_dict() for step in steps],
            "observation": latest.to_dict(),
            **({} if compared is None else {"comparison": _comparison_data(compared)}),
        },
    )


def _facts(observations: Sequence[Observation], analysis: Analysis) -> Facts:
    first, last = observations[0], observations[-1]
    running = [each.percent for each in observations if each.phase == "running"]
    percents = [f"{percent:g} %" for percent, _ in groupby(running)]
    requests = max((finding.canary_requests for finding in analysis.findings), default=0.0)
    pairs = [
        ("Started", moment(first.started_at)),
        ("Last observation", moment(last.at)),
        ("Duration", span(last.at - first.started_at)),
        ("Observations", f"{len(observations):,}"),
        ("Traffic percentage", " → ".join(percents) or "ended"),
        ("Canary requests compared", f"{requests:,.0f}"),
    ]
    if last.basis is not None:
        pairs.append(("API", f"{last.basis.rest_api_id} in {last.basis.region}"))
        pairs.append(("Canary's deployment", last.basis.deployment_id))
    return Facts(pairs)


def _marks(step: _Step) -> Iterator[Mark]:
    """Where on the chart of the traffic percentage a decision is drawn: where it leads to."""
    shapes: dict[type[Decided], tuple[Shape, float]] = {
        Shift: ("shift", step.decision.percent),
        Promote: ("promote", 100.0),
        Rollback: ("rollback", 0.0),
    }
    if type(step.decision) in shapes:
        shape, value = shapes[type(step.decision)]
        yield Mark(_headline(step.decision), shape, step.decision.at, value)


def _decisions(steps: Sequence[_Step]) -> Table:
    return Table(
        "The last decision at each traffic percentage",
        ("At (UTC)", "Percent", "Observations", "Decision", "Reason"),
        [
            (
                clock(step.decision.at),
                _percent(step.observations[-1]),
                f"{len(step.observations):,}",
                _headline(step.decision),
                _sentence(step.decision.reason),
            )
            for step in steps
        ],
    )


def _percent(observation: Observation) -> str:
    return (
        f"{observation.percent:g} %"
        if observation.phase == "running"
        else observation.phase.replace("_", " ")
    )


def _remarks(observations: Sequence[Observation], latest: Observation) -> Iterator[Section]:
    """What the source reported, what could not be read, and what was changed outside."""
    remarks = [
        *(_sentence(note) for note in latest.notes),
        *_counted("The metrics were suspect", [each.suspect for each in observations]),
        *_counted("The metrics could not be read", [each.failure for each in observations]),
        *_counted(
            "The stage was changed outside this rollout",
            [
                "; ".join(f"{name}: {how}" for name, how in each.changed.items())
                for each in observations
            ],
        ),
    ]
    if remarks:
        yield Section("Remarks", [Paragraph(each) for each in remarks])


def _counted(what: str, texts: Iterable[str | None]) -> Iterator[str]:
    remarks = [text for text in texts if text]
    for text in dict.fromkeys(remarks):
        count = remarks.count(text)
        yield _sentence(f"{what}{f' ({count:,} observations)' if count > 1 else ''}: {text}")
