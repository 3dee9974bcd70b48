"""Canary releases on Amazon API Gateway that can be believed, resumed and undone."""

import typing

if typing.TYPE_CHECKING:
    from apigw_canary.aws.cloudwatch import CloudWatchMetrics
    from apigw_canary.canary import Canary
    from apigw_canary.changes.records import RolloutRecords
    from apigw_canary.errors import CanaryError
    from apigw_canary.report.report import Report
    from apigw_canary.rollout.analysis import Analysis, Finding, Verdict
    from apigw_canary.rollout.decision import (
        Decision,
        Hold,
        Promote,
        Rollback,
        Shift,
        decision_from_dict,
    )
    from apigw_canary.rollout.observation import (
        Basis,
        Measured,
        MetricSource,
        Minute,
        Observation,
    )
    from apigw_canary.rollout.policy import RolloutPolicy, Step
    from apigw_canary.rollout.promotion import Promotion
    from apigw_canary.rollout.signals import Signal
    from apigw_canary.rollout.state import CanaryState, Outcome, Rollout, StageState
    from apigw_canary.stage import Stage

__all__ = [
    "Analysis",
    "Basis",
    "Canary",
    "CanaryError",
    "CanaryState",
    "CloudWatchMetrics",
    "Decision",
    "Finding",
    "Hold",
    "Measured",
    "MetricSource",
    "Minute",
    "Observation",
    "Outcome",
    "Promote",
    "Promotion",
    "Report",
    "Rollback",
    "Rollout",
    "RolloutPolicy",
    "RolloutRecords",
    "Shift",
    "Signal",
    "Stage",
    "StageState",
    "Step",
    "Verdict",
    "decision_from_dict",
]

_HOMES = {
    "Analysis": "rollout.analysis",
    "Basis": "rollout.observation",
    "Canary": "canary",
    "CanaryError": "errors",
    "CanaryState": "rollout.state",
    "CloudWatchMetrics": "aws.cloudwatch",
    "Decision": "rollout.decision",
    "Finding": "rollout.analysis",
    "Hold": "rollout.decision",
    "Measured": "rollout.observation",
    "MetricSource": "rollout.observation",
    "Minute": "rollout.observation",
    "Observation": "rollout.observation",
    "Outcome": "rollout.state",
    "Promote": "rollout.decision",
    "Promotion": "rollout.promotion",
    "Report": "report.report",
    "Rollback": "rollout.decision",
    "Rollout": "rollout.state",
    "RolloutPolicy": "rollout.policy",
    "RolloutRecords": "changes.records",
    "Shift": "rollout.decision",
    "Signal": "rollout.signals",
    "Stage": "stage",
    "StageState": "rollout.state",
    "Step": "rollout.policy",
    "Verdict": "rollout.analysis",
    "decision_from_dict": "rollout.decision",
}

if not typing.TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import a name when it is first used: a script that only needs one stays quick."""
        import importlib

        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        if _HOMES[name].startswith("rollout."):
            importlib.import_module(f"{__name__}.rollout.explained").page = _page
        return value

    def _page(subject: object) -> str:
        """A notebook's view of a decision: rollout/ decides, and does not know who draws."""
        from apigw_canary.report.report import Report

        return Report(subject)._repr_html_()
