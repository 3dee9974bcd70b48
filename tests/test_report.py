"""Reports: what was decided and why, in every form people read, and nothing but text in any."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from html.parser import HTMLParser
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from apigw_canary import (
    Analysis,
    Hold,
    Minute,
    Observation,
    Report,
    RolloutPolicy,
    Signal,
    Step,
    decision_from_dict,
)
from apigw_canary.errors import InvalidInputError
from apigw_canary.judge.analysis import paths
from apigw_canary.report import charts, escape
from apigw_canary.report import page as html_page
from apigw_canary.report.document import Chart, Line, Point, Table
from apigw_canary.report.text import _cells, _rows
from apigw_canary.testing import Backend, Fault, rehearsal
from apigw_canary.values.serialization import Renderable
from strategies import analyses, decisions, observations, policies

START = datetime(2026, 1, 5, 9, tzinfo=UTC)
BAKE = timedelta(minutes=10)
POLICY = RolloutPolicy([Step(5, BAKE), Step(50, BAKE)])

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style><svg/onload=alert(1)>",
    "&lt;b&gt; &amp; &#60;",
    "[click](javascript:alert(1))",
    "![x](http://evil.example/x.png)",
    "<http://evil.example>",
    "https://evil.example/?a=b www.evil.example mailto:a@evil.example",
    "@everyone @org/team #12 GH-12 fixes org/repo#3 <!channel> <@U123>",
    "a | b | c",
    "`code` ``` **bold** __bold__ _it_ ~~gone~~ $x$",
    "# heading",
    "- item",
    "1. item",
    "> quote",
    "/close",
    "---",
    "\x1b[2J\x1b]0;owned\x07\x9b31m",
    "a\u202eb\u2066c\u200fd\u200be\ufefff",
    "one\r\ntwo\tthree\x00\x85\u2028four",
    "\ud800 lone",
    "::add-mask::x ::error::y",
    ":tada: 09:10 5.5 %",
    "\\[x](y) \\<b> trailing\\",
    "A" * 5000,
]

texts = st.sampled_from(HOSTILE) | st.text(max_size=60) | st.text("<>&\"'`*_[]()|~#@:/\\.-!+=$1ax ")
texts |= st.lists(st.sampled_from([*"<>&\"'`*_[]()|~#@:/\\.-! $1a\n"]), max_size=25).map("".join)


def roll_out(
    v2: Backend, policy: RolloutPolicy = POLICY, **options: Any
) -> tuple[Observation, ...]:
    looks = []
    with rehearsal(backends={"alias=v2": v2}, **options) as aws:
        canary = aws.stage.enable_canary(policy.steps[0].percent, variables={"alias": "v2"})
        while True:
            looks.append(canary.observe(policy))
            decision = policy.decide(looks[-1])
            canary.apply(decision)
            if decision.final:
                return tuple(looks)
            aws.sleep(decision.wait.total_seconds())


@cache
def good() -> tuple[Observation, ...]:
    return roll_out(Backend(errors_5xx=0.001))


@cache
def bad() -> tuple[Observation, ...]:
    return roll_out(Backend(errors_5xx=0.05))


class Page(HTMLParser):
    """A page as a browser sees it: elements with their attributes, and text."""

    VOID = frozenset({"meta", "circle"})

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == [], "an element is not closed"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


TAGS = frozenset(
    re.findall(
        r"\w+",
        "html head meta title style body main article header footer section h1 h2 h3 p div dl dt "
        "dd table caption thead tbody tr th td figure figcaption ul li details summary "
        "svg path circle text desc",
    )
)
ATTRIBUTES = frozenset(
    re.findall(
        r"[\w-]+",
        "lang charset http-equiv content name class role aria-label aria-hidden tabindex scope "
        "viewbox d x y cx cy r width height transform text-anchor",
    )
)


def assert_harmless(page: Page) -> None:
    assert {tag for tag, _ in page.elements} <= TAGS
    assert {name for _, attributes in page.elements for name in attributes} <= ATTRIBUTES


def shown(markdown: str) -> Page:
    """Markdown as GitHub's dialect of CommonMark shows it, without what it makes of bare text."""
    dialect = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    return Page(dialect.render(markdown))


def without_gaps(text: str) -> str:
    return text.replace("\u200b", "")


class TestDoors:
    """What comes from outside is shown, and is nothing but text."""

    @given(texts)
    def test_terminal(self, text: str) -> None:
        """No control, no direction override, no new line reaches a terminal."""
        assert escape.visible(text).isprintable()

    @pytest.mark.parametrize(
        "text, said",
        [
            ("a\x1b[31mb", "a\\x1b[31mb"),
            ("a\u202eb", "a\\u202eb"),
            ("a\nb\tc", "a b c"),
            ("ünïcödé 日本 ✓", "ünïcödé 日本 ✓"),
            ("\U000e0041", "\\ue0041"),
        ],
    )
    def test_terminal_shows_what_it_holds_back(self, text: str, said: str) -> None:
        """A character that would not show is shown by its number; all others stay as they are."""
        assert escape.visible(text) == said

    def test_long_texts_are_cut(self) -> None:
        """A message of a megabyte does not become a page of one."""
        assert len(escape.visible("x" * 10**6)) == escape.LONGEST + 1

    @given(texts)
    def test_html(self, text: str) -> None:
        """As text and as an attribute, a browser reads back the text and nothing else."""
        page = Page(f'<p title="{escape.html(text)}">{escape.html(text)}</p>')

        assert page.elements == [("p", {"title": escape.visible(text)})]
        assert page.text == escape.visible(text)

    @given(texts)
    def test_markdown(self, text: str) -> None:
        """In a paragraph, a heading, a list and a cell it is text, whatever it begins with."""
        safe = escape.markdown(text)
        said = escape.visible(text)
        for page, tags in (
            (shown(f"{safe}\n"), {"p"}),
            (shown(f"### T: {safe}\n"), {"h3"}),
            (shown(f"- {safe}\n"), {"ul", "li"}),
            (shown(f"| a | b |\n| --- | --- |\n| {safe} | z |\n"), {*["table", "thead", "tr"]}),
        ):
            assert {tag for tag, _ in page.elements} - {*["tbody", "th", "td"]} <= tags
            assert said in without_gaps(page.text)
        assert len(page.all("td")) == 2

    @given(texts)
    def test_markdown_notifies_nobody(self, text: str) -> None:
        """Nothing is left that a forge or chat makes a link, a mention or a reference of."""
        safe = escape.markdown(text)
        displayed = shown(safe).text
        assert not re.search(
            r"@\w|#\w|\bGH-\d|://|www\.\w|\w\.[a-z]|:[a-z_]+:", displayed, re.IGNORECASE
        )
        assert "<" not in safe  # Slack's own form, which knows no backslash
        assert not safe.startswith("/")  # GitLab's commands

    @given(texts)
    def test_json(self, text: str) -> None:
        """It reads back as it was, is plain ASCII, and could not end a script element."""
        written = escape.json({text: [text]})
        assert json.loads(written) == {text: [text]}
        assert written.replace("\n", "").isascii()
        assert written.replace("\n", "").isprintable()
        assert not set("<>&") & set(written)


subjects: st.SearchStrategy[Renderable] = decisions | analyses
forms: tuple[Callable[[Report], str], ...] = (
    str,
    Report.text,
    Report.markdown,
    Report.json,
    Report.html,
    Report._repr_html_,
)


def hostile_decision(text: str) -> Hold:
    decision = POLICY.decide(bad()[-1])
    assert decision.analysis is not None
    assert decision.basis is not None
    return Hold(
        at=decision.at,
        reason=text,
        percent=5.0,
        wait=timedelta(seconds=10),
        final=False,
        analysis=attrs.evolve(
            decision.analysis,
            findings=tuple(attrs.evolve(f, signal=text) for f in decision.analysis.findings),
        ),
        basis=attrs.evolve(decision.basis, stage=text),
    )


class TestEveryReport:
    @given(subjects)
    @settings(max_examples=50)
    def test_has_every_form(self, subject: Renderable) -> None:
        """Whatever is decided can be shown, in each form, and the same way each time."""
        for form in forms:
            assert form(Report(subject)) == form(Report(subject))

    @pytest.mark.long
    @given(subjects, st.integers(40, 200))
    def test_text_keeps_its_width(self, subject: Renderable, width: int) -> None:
        """No line is longer than asked for, or holds anything but what a terminal can show."""
        lines = Report(subject).text(width).split("\n")
        assert max(map(_cells, lines)) <= width
        assert all(line.isprintable() for line in lines)

    @pytest.mark.long
    @given(texts, st.integers(40, 100))
    def test_hostile_text_stays_text(self, text: str, width: int) -> None:
        """A reason, a signal or a stage of any name is shown, and becomes no part of the page."""
        report = Report(hostile_decision(text))
        page = Page(report.html())
        assert_harmless(page)
        assert len(page.all("td")) == 15
        assert escape.visible(text) in page.text
        assert all(line.isprintable() for line in report.text(width).split("\n"))
        assert max(map(_cells, report.text(width).split("\n"))) <= width
        assert len(shown(report.markdown()).all("td")) == 18
        assert str(report).isprintable()

    def test_many_columns(self) -> None:
        """A table of more columns than a narrow terminal has room for still keeps its width."""
        lines = _rows([["many words"] * 12, ["more"] * 12], 40)
        assert max(map(_cells, lines)) <= 40

    def test_wide_letters_are_counted(self) -> None:
        """Letters that take two cells do not push a table out of its columns."""
        lines = Report(hostile_decision("日本語の理由" * 20)).text(60).split("\n")
        assert max(map(_cells, lines)) <= 60
        assert _cells("e\u0301日") == 3


class TestDecision:
    def test_says_what_and_why(self) -> None:
        """The decision is the headline, its reason follows, then each signal's numbers."""
        decision = POLICY.decide(bad()[-1])
        said = Report(decision).text()
        assert said.startswith("Decision: Roll back\n")
        assert "the evidence is" in said
        assert re.search(r"^errors_5xx .* worse ", said, re.MULTILINE)
        assert "none, it is final" in said
        assert str(Report(decision)).startswith("Roll back: The canary is worse")

    @pytest.mark.long
    def test_says_when_to_look_again(self) -> None:
        """A hold says when the next look is worth it."""
        assert re.search(r"Next observation +in 1 min", Report(POLICY.decide(good()[3])).text())

    def test_without_evidence(self) -> None:
        """A decision that rests on no evidence and no stage shows neither."""
        bare = attrs.evolve(POLICY.decide(good()[0]), analysis=None, basis=None)
        assert "Signals" not in Report(bare).text()
        assert "On" not in Report(bare).text()

    def test_json_holds_the_decision(self) -> None:
        """What a program reads from the report is the decision itself."""
        decision = POLICY.decide(bad()[-1])
        data = json.loads(Report(decision).json())
        assert decision_from_dict(data["data"]) == decision
        assert data["title"] == "Roll back"

    def test_doubts_come_before_verdicts(self) -> None:
        """Counts that are not believed, and a sick baseline, are said in place of a verdict."""
        analysis = POLICY.analyze(good()[-1])
        first, second, third = analysis.findings
        doubtful = attrs.evolve(
            analysis,
            findings=(
                attrs.evolve(first, sample_ratio_ok=False),
                attrs.evolve(second, baseline_unhealthy=True),
                third,
            ),
        )
        said = Report(doubtful).markdown()
        assert "the counts do not fit the traffic percentage" in said
        assert "the baseline is unhealthy" in said


class TestAnalysis:
    def test_says_its_verdict(self) -> None:
        """The verdict is the headline; of a canary found worse also since when."""
        worse = POLICY.analyze(bad()[-1])
        assert Report(worse).markdown().startswith("### ❌ The canary: worse")
        assert "Worse since" in Report(worse).text()
        assert Report(POLICY.analyze(good()[-1])).text().startswith("The canary: not worse")

    def test_json_holds_the_analysis(self) -> None:
        """What a program reads from the report is the analysis itself."""
        analysis = POLICY.analyze(good()[-1])
        assert Analysis.from_dict(json.loads(Report(analysis).json())["data"]) == analysis


@attrs.frozen(kw_only=True)
class Guess(Renderable):
    """Something else that explains itself."""

    name: str = "a guess"
    steps: int = 12345
    rate: float = 0.25
    many: float = 1e300
    sure: bool = True
    long: timedelta = BAKE
    at: datetime = START
    verdict: Any = attrs.field(factory=lambda: POLICY.analyze(good()[-1]).verdict)
    secrets: tuple[str, ...] = ("hidden",)
    steps_of: tuple[Step, ...] = POLICY.steps
    first: Step = POLICY.steps[0]

    def __str__(self) -> str:
        return "about ten minutes"


def test_anything_that_explains_itself_has_a_report() -> None:
    """Its sentence, then what of it is a number, a time or a word, then tables of the values in it;
    no other lists, and no mappings.
    """
    said = Report(Guess()).text()
    assert said.startswith("Report: Guess\n=============\nAbout ten minutes.\n")
    for line in ("steps    12,345", "rate     0.25", "sure     yes", "long     10 min"):
        assert line in said
    assert "hidden" not in said
    assert "Steps of\n--------" in said
    assert "percent  bake\n5        10 min\n50       10 min\n" in said


class TestRollout:
    def test_good(self) -> None:
        """A promoted rollout: each share, what was decided at its end, and why."""
        said = Report(good(), POLICY).text()
        assert said.startswith("Rollout on stage prod: Promote\n")
        assert "5 % → 50 %" in said
        assert re.search(r"^01-05 09:10  5 % +11 +Shift to 50 %", said, re.MULTILINE)
        assert "Is there enough evidence to promote?\n  Yes: " in said
        assert "Is there enough evidence to roll back?\n  No: " in said

    def test_bad(self) -> None:
        """A rollout that is rolled back says so first, with the numbers."""
        report = Report(bad(), POLICY)
        assert report.markdown().startswith("### ❌ Rollout on stage prod: Roll back\n\nThe canary")
        assert "Is there enough evidence to roll back?\n  Yes: " in report.text()
        assert "Is there enough evidence to promote?\n  Not yet: " in report.text()

    def test_replayed(self) -> None:
        """Looks that were saved, in any order, give the same report: nothing else goes in."""
        saved = [Observation.from_dict(look.to_dict()) for look in reversed(bad())]
        assert Report(saved, POLICY).html() == Report(bad(), POLICY).html()

    def test_of_one_look(self) -> None:
        """A single look at a rollout is one, too."""
        assert Report(good()[-1], POLICY).text() == Report(good()[-1:], POLICY).text()

    def test_json_holds_the_rollout(self) -> None:
        """Policy, decisions and the last counts, each as its `from_dict` takes it."""
        data = json.loads(Report(good(), POLICY).json())["data"]
        assert RolloutPolicy.from_dict(data["policy"]) == POLICY
        assert Observation.from_dict(data["observation"]) == good()[-1]
        assert [each["kind"] for each in data["decisions"]] == ["shift", "promote"]
        assert decision_from_dict(data["decisions"][-1]) == POLICY.decide(good()[-1])

    def test_after_its_end(self) -> None:
        """A look after the end says how it ended, with the last numbers that were seen."""
        ended = attrs.evolve(
            bad()[-1], at=bad()[-1].at + BAKE, phase="rolled_back", percent=0, minutes={}
        )
        said = Report([*bad(), ended], POLICY).text()
        assert said.startswith("Rollout on stage prod: Rolled back\n")
        assert re.search(r"^errors_5xx .* worse ", said, re.MULTILINE)

    @pytest.mark.long
    def test_while_and_after_it_is_promoted(self) -> None:
        """What was promoted serves everything, whatever share the canary that is gone has."""
        looks = [
            *good(),
            attrs.evolve(good()[-1], at=good()[-1].at + BAKE / 2, phase="promoting", percent=0),
            attrs.evolve(good()[-1], at=good()[-1].at + BAKE, phase="promoted", percent=0),
        ]
        said = Report(looks, POLICY).text()
        assert said.startswith("Rollout on stage prod: Promoted\n")
        assert "How much traffic does the canary get?\n  100 % at the last observation." in said
        assert re.search(r"^Traffic percentage +5 % → 50 %$", said, re.MULTILINE)
        assert re.search(r" promoted +1 +Ended", said)
        assert "ended" in Report(looks[-1], POLICY).text()
        assert (
            "Not known at the last observation; then: Promote." in Report(looks[-2], POLICY).text()
        )

    def test_before_its_first_minute(self) -> None:
        """A rollout of which nothing has settled shows its share, and claims nothing else."""
        said = Report(good()[:1], POLICY).text()
        assert "Hold at 5 %" in said
        assert "enough evidence" not in said
        assert "How much traffic does the canary get?" in said

    def test_without_a_stage(self) -> None:
        """Looks that were made up for a backtest have no stage to name."""
        report = Report([attrs.evolve(look, basis=None) for look in good()], POLICY)
        assert report.text().startswith("Rollout: Promote")

    def test_what_the_source_said_outlives_the_rollout(self) -> None:
        """The last look reads no metrics: what was doubted or left out before is still said."""
        doubted = attrs.evolve(good()[2], suspect="another API has the same name")
        last = attrs.evolve(good()[3], notes=["3 minutes were left out"])
        ended = attrs.evolve(last, phase="promoted", percent=0, minutes={}, notes=())
        said = Report([doubted, last, ended], POLICY).text()
        assert "3 minutes were left out." in said
        assert "The metrics were suspect: another API has the same name." in said

    def test_remarks(self) -> None:
        """What a source said, what could not be read and what others changed is told once."""
        looks = [
            attrs.evolve(
                look, failure="Throttled: slow down", changed={"percent": "5 instead of 10"}
            )
            for look in good()[:3]
        ]
        looks.append(attrs.evolve(good()[3], notes=["read from <b>logs</b>"]))
        said = Report(looks, POLICY).text(width=100)
        assert "Remarks" in said
        assert "The metrics could not be read (3 observations): Throttled: slow down." in said
        assert (
            "The stage was changed outside this rollout (3 observations): percent: 5 instead of 10."
            in said
        )
        assert "Read from <b>logs</b>." in said
        assert "&lt;b&gt;logs" in Report(looks, POLICY).html()

    @pytest.mark.long
    @given(st.lists(observations, min_size=1, max_size=3), policies())
    @settings(max_examples=40)
    def test_has_every_form(self, looks: list[Observation], policy: RolloutPolicy) -> None:
        """Whatever was observed can be shown in each form."""
        report = Report(looks, policy)
        for form in forms:
            assert form(report)
        assert_harmless(Page(report.html()))
        lines = report.text(60).split("\n")
        assert max(map(_cells, lines)) <= 60


class TestPage:
    def test_needs_nothing_else(self) -> None:
        """It names no address, has no script, and its policy forbids to load or run anything."""
        source = Report(bad(), POLICY).html()
        page = Page(source)
        assert_harmless(page)
        (policy,) = (m["content"] or "" for m in page.all("meta") if "http-equiv" in m)
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        style = re.search("<style>(.*?)</style>", source, re.DOTALL)
        assert style is not None
        digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
        assert f"style-src 'sha256-{digest}'" in policy
        assert not re.search(r"url\(|@import|https?:|javascript:", source)

    def test_is_for_everybody(self) -> None:
        """Language, landmarks, headings in order, row and column headers, described charts."""
        page = Page(Report(good(), POLICY).html())
        assert page.all("html")[0]["lang"] == "en"
        assert len(page.all("main")) == len(page.all("h1")) == 1
        assert all(section["aria-label"] for section in page.all("section"))
        assert {th["scope"] for th in page.all("th")} == {"col", "row"}
        assert len(page.all("caption")) == len(page.all("table"))
        charts = [picture for picture in page.all("svg") if picture.get("class") == "chart"]
        assert all(chart["role"] == "img" and chart["aria-label"] for chart in charts)
        assert len(charts) == len(page.all("figure")) == len(page.all("details")) == 6
        levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
        assert all(after <= before + 1 for before, after in zip([0, *levels], levels, strict=False))

    def test_is_light_and_dark(self) -> None:
        """Both color schemes are there, and the printer's."""
        source = Report(good(), POLICY).html()
        assert "prefers-color-scheme: dark" in source
        assert "@media print" in source

    def test_in_a_notebook(self) -> None:
        """A decision and an analysis show themselves, without touching the page around them."""
        decision = POLICY.decide(bad()[-1])
        for subject in (decision, decision.analysis, Report(bad(), POLICY)):
            source = subject._repr_html_()  # type: ignore[union-attr]
            assert source is not None
            page = Page(source)
            assert {"html", "body", "head", "main"} & {tag for tag, _ in page.elements} == set()
            rules = re.findall(
                r"^\s*([.@\w][^{}]*)\{", source.partition("</style>")[0], re.MULTILINE
            )
            assert all(rule.startswith((".canary-", "@media")) for rule in rules)

    @pytest.mark.long
    def test_deciding_does_not_draw(self) -> None:
        """The package that decides loads no report until a notebook asks for one."""
        code = (
            "import sys, apigw_canary; from apigw_canary import RolloutPolicy, Hold, SmokeRequest; "
            "assert 'apigw_canary.report' not in sys.modules; "
            "from apigw_canary import CleanUp; assert CleanUp(items=())._repr_html_(); "
            "assert 'apigw_canary.report' in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


class TestCharts:
    def test_paths_end_where_the_analysis_is(self) -> None:
        """The charts of the evidence end at the numbers the decision rests on."""
        for look in (good()[-1], bad()[-1]):
            analysis, found = POLICY.analyze(look), paths(POLICY, look)
            most = max(1.0, *(evidence for _, evidence in found.worse))  # 1 before any minute
            assert most == pytest.approx(analysis.worse_evidence)
            for path, finding in zip(found.signals, analysis.findings, strict=True):
                assert path.not_worse[-1][1] == finding.not_worse_evidence
                counts = [row.canary_requests for _, row in path.counts]
                assert sum(counts) == finding.canary_requests
                assert path.counts[0][0] >= look.judged_from()

    def test_marks_each_change(self) -> None:
        """Each shift, promotion and rollback is drawn where it happened, in a shape of its own."""
        assert re.findall('class="mark (\\w+)"[^/]*transform', Report(good(), POLICY).html()) == [
            "shift",
            "promote",
        ]
        assert 'class="mark rollback"' in Report(bad(), POLICY).html()

    def test_slow_requests_have_their_question(self) -> None:
        """Each signal's chart asks what that signal is about."""
        signals = [Signal.errors_5xx(), Signal.custom("latency_p99"), Signal.custom("refunds")]
        policy = RolloutPolicy([Step(50, BAKE)], signals=signals)
        rows = [Minute(START + timedelta(minutes=i), 100, 1, 100, 2) for i in range(20)]
        look = Observation(
            at=START + timedelta(minutes=20),
            started_at=START,
            step_started_at=START,
            percent=50,
            minutes={signal.name: rows for signal in signals},
        )
        said = Report(look, policy).text()
        assert "Does the canary fail more often? (5xx)" in said
        assert "Is the canary slow more often? (latency_p99)" in said
        assert "Is it more frequent on the canary? (refunds)" in said

    def test_an_arm_without_requests_has_no_rate(self) -> None:
        """Nothing is drawn of it, and nothing said, rather than zero."""
        rows = [Minute(START + timedelta(minutes=i), 100, 1, 0, 0) for i in range(20)]
        look = Observation(
            at=START + timedelta(minutes=20),
            started_at=START,
            step_started_at=START,
            percent=5,
            minutes={"errors_5xx": rows},
        )
        drawn = charts.charts([look], POLICY, paths(POLICY, look), [])
        (chart,) = (chart for chart in drawn if "5xx" in chart.question)
        assert [len(line.points) for line in chart.lines] == [0, 17]
        assert chart.answer == "Canary no requests, baseline 1.00 % of 1,700."

    @given(st.integers(1, 5000))
    def test_thinned(self, length: int) -> None:
        """However long a rollout is, a line has few points, and the last is its last."""
        kept = charts.thinned(range(length))
        assert len(kept) <= charts.MOST_POINTS
        assert kept[-1] == length - 1
        assert kept == sorted(set(kept))
        if length <= charts.MOST_POINTS:
            assert kept == list(range(length))

    @given(st.floats(0.05, 100))
    def test_scale(self, top: float) -> None:
        """A scale starts at nought, holds its largest value, and has few round steps."""
        ticks = html_page._ticks(top)
        assert ticks[0] == 0
        assert top * 0.998 <= ticks[-1] <= 2 * top
        assert 3 <= len(ticks) <= 7

    @given(st.floats(1, 1e9))
    def test_log_scale(self, top: float) -> None:
        """A scale of odds has 1 well within it, and few powers of ten."""
        ticks = html_page._log_ticks(top)
        assert ticks[0] < 1 < ticks[-1]
        assert ticks[-1] >= top * 0.999
        assert len(ticks) <= 7
        assert 1.0 in ticks

    @given(st.timedeltas(timedelta(0), timedelta(days=20)), st.integers(0, 10**6))
    def test_times(self, length: timedelta, offset: int) -> None:
        """A time axis of any length has few labels, all within it."""
        start = START + timedelta(seconds=offset)
        labels = list(html_page._times(start, start + length))
        assert len(labels) <= 6
        assert all(start <= at <= start + length for at, _ in labels)
        if length >= timedelta(minutes=2):
            assert labels

    @given(
        st.lists(
            st.tuples(st.integers(0, 600), st.floats(0, 1e6), st.booleans()), min_size=1, max_size=9
        ),
        st.booleans(),
        st.booleans(),
    )
    def test_drawn_values_stay_in_the_picture(
        self, values: Sequence[tuple[int, float, bool]], log: bool, steps: bool
    ) -> None:
        """Whatever the values, times stay on the axis, and nothing is drawn below nought."""
        points = [
            Point(START + timedelta(seconds=s), v, *((v / 2, v * 2) if band else (None, None)))
            for s, v, band in sorted(values)
        ]
        chart = Chart(
            question="<q>?",
            answer="&a",
            lines=[Line("canary", "canary", points, steps=steps)],
            start=START,
            end=START + timedelta(seconds=600),
            unit="%",
            top=100.0,
            log=log,
            table=Table("t", ("a",), ()),
        )
        drawn = html_page.svg(chart)
        assert_harmless(Page(drawn))
        for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", drawn):
            assert html_page._LEFT <= float(x) <= html_page._RIGHT
            assert float(y) <= html_page._BOTTOM


class TestInput:
    @pytest.mark.parametrize("subject", [None, "text", b"x", 3, [1], [None, good], {}, Report])
    def test_of_nothing_else(self, subject: Any) -> None:
        """Anything that is no decision, analysis or looks is refused, by name."""
        with pytest.raises(InvalidInputError, match="subject"):
            Report(subject)

    def test_of_no_looks(self) -> None:
        """A rollout nobody looked at has no report."""
        with pytest.raises(InvalidInputError, match="at least one observation"):
            Report([], POLICY)

    def test_a_rollout_needs_its_policy(self) -> None:
        """Looks are decided anew, which takes the policy; a decision has been."""
        with pytest.raises(InvalidInputError, match="policy"):
            Report(good())
        with pytest.raises(InvalidInputError, match="policy"):
            Report(POLICY.decide(good()[-1]), POLICY)

    @pytest.mark.parametrize("width", [0, 39, -1, 1001, "80", None])
    def test_width(self, width: Any) -> None:
        """A width that no table fits is refused."""
        with pytest.raises(InvalidInputError, match="width"):
            Report(POLICY.decide(good()[-1])).text(width)


def test_a_failing_source_is_told() -> None:
    """What AWS said when the metrics could not be read is in the report, as text."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, variables={"alias": "v2"})
        aws.fail("GetMetricData", Fault.ACCESS_DENIED)
        report = Report(canary.observe(POLICY), POLICY)
    assert "could not be read" in report.text()
