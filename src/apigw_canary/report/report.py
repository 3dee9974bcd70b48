"""Render an explanation as text, Markdown, JSON or HTML."""

from collections.abc import Sequence
from typing import TypeVar

from apigw_canary.judge import Observation
from apigw_canary.model import Comparison, SmokeResult
from apigw_canary.policy import RolloutPolicy
from apigw_canary.report import escape
from apigw_canary.report.document import Document
from apigw_canary.report.explain import explain, history, smoke_test
from apigw_canary.report.page import fragment, page
from apigw_canary.report.text import markdown, text
from apigw_canary.values import Renderable, validation

_Kind = TypeVar("_Kind")


class Report:
    """A decision, an analysis or a whole rollout, rendered as text, Markdown, JSON or HTML.

    Names, reasons and messages are escaped: they cannot become markup, links, mentions or terminal
    commands. A report contains no values of stage variables.

    ```python
    from datetime import timedelta

    from apigw_canary import Report, RolloutPolicy, Stage

    policy = RolloutPolicy.canary(10, bake=timedelta(minutes=10))
    canary = Stage("a1b2c3d4e5", "prod").enable_canary(10, variables={"alias": "v2"})
    observations = [canary.observe(policy)]  # one more each time
    print(Report(observations, policy).markdown())
    ```
    """

    def __init__(
        self,
        subject: Renderable | Observation | Sequence[Observation] | Sequence[SmokeResult],
        policy: RolloutPolicy | None = None,
        *,
        comparison: Comparison | None = None,
    ) -> None:
        """Report on a decision, an analysis, a comparison, the results of a smoke test, or a
        rollout.

        For a rollout, pass the sequence of its observations and its `policy`, which decides on each
        of them again. The same observations and policy give the same report. `comparison` adds the
        result of `canary.compare()` to the report of a rollout. Raises `InvalidInputError` for
        another kind of `subject`, for an empty sequence, and for observations without a policy.
        """
        self._document = _document(subject, policy, comparison)

    def __str__(self) -> str:
        """What came out and why, in a sentence, fit for a log."""
        return escape.visible(f"{self._document.title}: {self._document.lead}")

    def text(self, width: int = 80) -> str:
        """Return text with tables, in lines of at most `width` terminal columns, 40 or more."""
        validation.number(width, "width", low=40, high=1000)
        return text(self._document, int(width))

    def markdown(self) -> str:
        """Return Markdown, for a pull request comment or a chat."""
        return markdown(self._document)

    def json(self) -> str:
        """Return JSON: an object with `about`, `title`, `reason`, and the values in `data`.

        For a rollout, `data` has the `policy`, the last of the `decisions` at each percent, and the
        last `observation` that has minutes, as their `to_dict` methods return them. For a
        comparison it also has the `differences`.
        """
        document = self._document
        return escape.json(
            {
                "about": document.about,
                "title": document.title,
                "reason": document.lead,
                "data": document.data,
            }
        )

    def html(self) -> str:
        """Return an HTML page with charts, for light and dark color schemes, print and screen
        readers.

        The page makes no requests, and its content security policy allows none.
        """
        return page(self._document)

    def _repr_html_(self) -> str:
        return fragment(self._document)


def _document(subject: object, policy: object, comparison: object) -> Document:
    observations = [subject] if isinstance(subject, Observation) else _all(subject, Observation)
    if observations is not None:
        if not observations:
            validation.refuse("subject", "at least one observation", subject)
        if not isinstance(policy, RolloutPolicy):
            validation.refuse("policy", "the RolloutPolicy of the rollout", policy)
        if not isinstance(comparison, Comparison | None):
            validation.refuse("comparison", "a Comparison or None", comparison)
        return history(observations, policy, comparison)
    for name, value in (("policy", policy), ("comparison", comparison)):
        if value is not None:
            validation.refuse(name, "None, because only a report of observations takes it", value)
    if results := _all(subject, SmokeResult):
        return smoke_test(results)
    if not isinstance(subject, Renderable):
        validation.refuse(
            "subject",
            "a decision, an analysis, a comparison, smoke test results or observations",
            subject,
        )
    return explain(subject)


def _all(subject: object, kind: type[_Kind]) -> list[_Kind] | None:
    """The values of a sequence, if it is one of nothing else."""
    if not isinstance(subject, Sequence) or isinstance(subject, str | bytes):
        return None
    values = [item for item in subject if isinstance(item, kind)]
    return values if len(values) == len(subject) else None
