"""The report of a whole rollout, from its observations and the policy that judges them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from apigw_canary.judge.findings import Analysis
from apigw_canary.judge.observation import Observation, Phase
from apigw_canary.judge.paths import paths
from apigw_canary.model.comparison import Comparison
from apigw_canary.policy import RolloutPolicy
from apigw_canary.report import charts, comparison
from apigw_canary.report.document import (
    Document,
    Facts,
    Mark,
    Paragraph,
    Section,
    Shape,
    Table,
)
from apigw_canary.report.explain import headline, sentence, signals, tone
from apigw_canary.rollout.decisions import Decided, Promote, Rollback, Shift
from apigw_canary.values.formatting import clock, moment, span
from apigw_canary.values.rendering import Tone

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
    title, outcome = _ENDS.get(ordered[-1].phase, (headline(decision), tone(decision)))
    basis = ordered[-1].basis
    marks = [mark for step in steps for mark in _marks(step)]
    return Document(
        about="Rollout" if basis is None else f"Rollout on stage {basis.stage}",
        title=title,
        tone=outcome,
        lead=sentence(decision.reason),
        facts=_facts(ordered, analysis),
        sections=[
            signals(analysis),
            Section(
                "Evidence by minute",
                charts.charts(ordered, policy, paths(policy, latest), marks),
            ),
            *([] if compared is None else comparison.sections(compared)),
            Section("Decisions", [_decisions(steps)]),
            *_remarks(ordered, latest),
        ],
        data={
            "policy": policy.to_dict(),
            "decisions": [step.decision.to_dict() for step in steps],
            "observation": latest.to_dict(),
            **({} if compared is None else {"comparison": comparison.data(compared)}),
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
        yield Mark(headline(step.decision), shape, step.decision.at, value)


def _decisions(steps: Sequence[_Step]) -> Table:
    return Table(
        "The last decision at each traffic percentage",
        ("At (UTC)", "Percent", "Observations", "Decision", "Reason"),
        [
            (
                clock(step.decision.at),
                _percent(step.observations[-1]),
                f"{len(step.observations):,}",
                headline(step.decision),
                sentence(step.decision.reason),
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
        *(sentence(note) for note in latest.notes),
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
        yield sentence(f"{what}{f' ({count:,} observations)' if count > 1 else ''}: {text}")
