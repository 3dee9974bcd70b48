"""What a single value says: a decision, an analysis, or anything else that explains itself."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from apigw_canary.judge.findings import Analysis, Finding, Verdict
from apigw_canary.judge.observation import Basis
from apigw_canary.model.comparison import Comparison
from apigw_canary.model.results import SmokeResult
from apigw_canary.report.comparison import comparison
from apigw_canary.report.document import Document, Facts, Paragraph, Section, Table
from apigw_canary.rollout.decisions import Decided, Promote, Rollback
from apigw_canary.values.formatting import evidence, moment, share, span
from apigw_canary.values.rendering import Renderable, Tone
from apigw_canary.values.serialization import Serializable

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
            return comparison(subject)
        case SmokeResult():
            return smoke_test([subject])
        case _:
            return _anything(subject)


def _decision(decision: Decided) -> Document:
    facts = [("Decided at", moment(decision.at))]
    if decision.basis is not None:
        facts.append(("On", where(decision.basis)))
    facts.append(
        ("Next observation", "none, it is final" if decision.final else f"in {span(decision.wait)}")
    )
    return Document(
        about="Decision",
        title=headline(decision),
        tone=tone(decision),
        lead=sentence(decision.reason),
        facts=Facts(facts),
        sections=[] if decision.analysis is None else [signals(decision.analysis)],
        data=decision.to_dict(),
    )


def _analysis(analysis: Analysis) -> Document:
    since = analysis.worse_at
    return Document(
        about="The canary",
        title=VERDICTS[analysis.verdict],
        tone=_TONES[analysis.verdict],
        lead=sentence(str(analysis)),
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
        sections=[signals(analysis)],
        data=analysis.to_dict(),
    )


def smoke_test(results: Sequence[SmokeResult]) -> Document:
    """What came of a smoke test, and what the log says of the requests that did not pass."""
    counts = Counter(result.outcome for result in results)
    others = [result for result in results if not result.passed]
    tone: Tone = "bad" if counts["failed"] else "open" if others else "good"
    return Document(
        about="Smoke test",
        title=", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())),
        tone=tone,
        lead=sentence(str(others[0]) if others else "each request was answered as expected"),
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
        lead=sentence(str(subject)),
        facts=Facts([(name, value) for name, value in shown.items() if value is not None]),
        sections=[
            Section(name.capitalize(), [_within(name, rows)])
            for name, value in values.items()
            if (rows := _rows(value))
        ],
        data=data,
    )


def _rows(value: object) -> list[Serializable]:
    values = value if isinstance(value, tuple) else (value,)
    return [each for each in values if isinstance(each, Serializable)]


def _within(name: str, values: Sequence[Serializable]) -> Table:
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


def headline(decision: Decided) -> str:
    """The decision without its reason."""
    return str(decision).removesuffix(decision.reason).removesuffix(": ")


def sentence(text: str) -> str:
    """With a capital letter and a full stop; a name keeps its first letter."""
    first = text.partition(" ")[0]
    began = text if not first.isalpha() or not first.islower() else text[0].upper() + text[1:]
    return began if began.endswith((".", "!", "?")) else f"{began}."


def tone(decision: Decided) -> Tone:
    """Whether it ends the rollout well or badly, if at all."""
    match decision:
        case Promote():
            return "good"
        case Rollback():
            return "bad"
        case _:
            return "open"


def where(basis: Basis) -> str:
    """The stage, and which of its deployments is the canary."""
    return (
        f"stage {basis.stage} of API {basis.rest_api_id} in {basis.region}, canary of deployment "
        f"{basis.deployment_id} at {basis.percent:g} %"
    )


def signals(analysis: Analysis) -> Section:
    """What each signal says, and how sure."""
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
