"""Canary releases on Amazon API Gateway that can be believed, resumed and undone."""

import typing

if typing.TYPE_CHECKING:
    from apigw_canary.aws.cloudwatch import CloudWatchMetrics
    from apigw_canary.aws.iam import permissions
    from apigw_canary.aws.lambda_metrics import LambdaMetrics
    from apigw_canary.aws.logs import AccessLogs
    from apigw_canary.canary import Canary
    from apigw_canary.changes.records import RolloutRecords
    from apigw_canary.errors import CanaryError
    from apigw_canary.lambda_alias import AliasCanary, LambdaAlias
    from apigw_canary.preflight.preflight import (
        MethodChange,
        PlannedCall,
        Preflight,
        VariableChange,
    )
    from apigw_canary.preflight.problem import InvocationPermission, Problem
    from apigw_canary.report.report import Report
    from apigw_canary.rollout.alarms import Alarm
    from apigw_canary.rollout.backtest import Backtest, FalseRollback
    from apigw_canary.rollout.clean_up import CleanUp, CleanUpItem
    from apigw_canary.rollout.decision import (
        Decision,
        Hold,
        Promote,
        Rollback,
        Shift,
        decision_from_dict,
    )
    from apigw_canary.rollout.failure import Failure
    from apigw_canary.rollout.findings import Analysis, Finding, Interval, Verdict
    from apigw_canary.rollout.forecast import Forecast, SimulatedRollout
    from apigw_canary.rollout.observation import (
        Basis,
        Measurements,
        MetricSource,
        Minute,
        Observation,
    )
    from apigw_canary.rollout.policy import RolloutPolicy, Step
    from apigw_canary.rollout.promotion import Promotion
    from apigw_canary.rollout.signals import Signal
    from apigw_canary.rollout.smoke import SmokeRequest, SmokeResult
    from apigw_canary.rollout.state import CanaryState, Outcome, Rollout, StageState
    from apigw_canary.stage import Stage

    __version__: str

__all__ = [
    "AccessLogs",
    "Alarm",
    "AliasCanary",
    "Analysis",
    "Backtest",
    "Basis",
    "Canary",
    "CanaryError",
    "CanaryState",
    "CleanUp",
    "CleanUpItem",
    "CloudWatchMetrics",
    "Decision",
    "Failure",
    "FalseRollback",
    "Finding",
    "Forecast",
    "Hold",
    "Interval",
    "InvocationPermission",
    "LambdaAlias",
    "LambdaMetrics",
    "Measurements",
    "MethodChange",
    "MetricSource",
    "Minute",
    "Observation",
    "Outcome",
    "PlannedCall",
    "Preflight",
    "Problem",
    "Promote",
    "Promotion",
    "Report",
    "Rollback",
    "Rollout",
    "RolloutPolicy",
    "RolloutRecords",
    "Shift",
    "Signal",
    "SimulatedRollout",
    "SmokeRequest",
    "SmokeResult",
    "Stage",
    "StageState",
    "Step",
    "VariableChange",
    "Verdict",
    "decision_from_dict",
    "permissions",
]

_HOMES = {
    "AccessLogs": "aws.logs",
    "Alarm": "rollout.alarms",
    "AliasCanary": "lambda_alias",
    "Analysis": "rollout.findings",
    "Backtest": "rollout.backtest",
    "Basis": "rollout.observation",
    "Canary": "canary",
    "CanaryError": "errors",
    "CanaryState": "rollout.state",
    "CleanUp": "rollout.clean_up",
    "CleanUpItem": "rollout.clean_up",
    "CloudWatchMetrics": "aws.cloudwatch",
    "Decision": "rollout.decision",
    "Failure": "rollout.failure",
    "FalseRollback": "rollout.backtest",
    "Finding": "rollout.findings",
    "Forecast": "rollout.forecast",
    "Hold": "rollout.decision",
    "Interval": "rollout.findings",
    "InvocationPermission": "preflight.problem",
    "LambdaAlias": "lambda_alias",
    "LambdaMetrics": "aws.lambda_metrics",
    "Measurements": "rollout.observation",
    "MethodChange": "preflight.preflight",
    "MetricSource": "rollout.observation",
    "Minute": "rollout.observation",
    "Observation": "rollout.observation",
    "Outcome": "rollout.state",
    "SimulatedRollout": "rollout.forecast",
    "PlannedCall": "preflight.preflight",
    "Preflight": "preflight.preflight",
    "Problem": "preflight.problem",
    "Promote": "rollout.decision",
    "Promotion": "rollout.promotion",
    "Report": "report.report",
    "Rollback": "rollout.decision",
    "Rollout": "rollout.state",
    "RolloutPolicy": "rollout.policy",
    "RolloutRecords": "changes.records",
    "Shift": "rollout.decision",
    "Signal": "rollout.signals",
    "SmokeRequest": "rollout.smoke",
    "SmokeResult": "rollout.smoke",
    "Stage": "stage",
    "StageState": "rollout.state",
    "Step": "rollout.policy",
    "VariableChange": "preflight.preflight",
    "Verdict": "rollout.findings",
    "decision_from_dict": "rollout.decision",
    "permissions": "aws.iam",
}

if not typing.TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import a name when it is first used: a script that only needs one stays quick."""
        import importlib

        if name == "__version__":
            from importlib.metadata import version

            return version("apigw-canary")
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        if _HOMES[name].startswith(("preflight.", "rollout.")):
            importlib.import_module(f"{__name__}.rollout.explained").page = _page
        return value

    def _page(subject: object) -> str:
        """A notebook's view of a decision: rollout/ decides, and does not know who draws."""
        from apigw_canary.report.report import Report

        return Report(subject)._repr_html_()
