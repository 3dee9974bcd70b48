"""Canary releases on Amazon API Gateway, judged on evidence, resumable and reversible."""

import typing

from apigw_canary.values import serialization

if typing.TYPE_CHECKING:
    from apigw_canary import errors as errors
    from apigw_canary import testing as testing
    from apigw_canary.canary import Canary
    from apigw_canary.changes.permissions import permissions
    from apigw_canary.changes.records import RolloutRecords
    from apigw_canary.errors import CanaryError
    from apigw_canary.judge import (
        Alarm,
        Analysis,
        Basis,
        Finding,
        Interval,
        Measurements,
        MetricSource,
        Minute,
        Observation,
        Signal,
        Step,
        Verdict,
    )
    from apigw_canary.lambda_alias.alias import AliasCanary, LambdaAlias
    from apigw_canary.metrics.cloudwatch import CloudWatchMetrics
    from apigw_canary.metrics.lambda_metrics import LambdaMetrics
    from apigw_canary.metrics.logs import AccessLogs
    from apigw_canary.metrics.ratio import CloudWatchRatio
    from apigw_canary.model import (
        CanaryState,
        CleanUp,
        CleanUpItem,
        ComparedMinute,
        ComparedValue,
        Comparison,
        Failure,
        Failures,
        LatencyStatistics,
        LogGroup,
        Outcome,
        Promotion,
        Rollout,
        SmokeRequest,
        SmokeResult,
        StageState,
        VariantMetrics,
    )
    from apigw_canary.planning.backtest import Backtest, FalseRollback
    from apigw_canary.planning.forecast import Forecast, SimulatedRollout
    from apigw_canary.policy import RolloutPolicy
    from apigw_canary.preflight.facts import Problem
    from apigw_canary.preflight.invocation import InvocationPermission
    from apigw_canary.preflight.preflight import (
        MethodChange,
        PlannedCall,
        Preflight,
        VariableChange,
    )
    from apigw_canary.report.report import Report
    from apigw_canary.rollout.decisions import (
        Decision,
        Hold,
        Promote,
        Rollback,
        Shift,
        decision_from_dict,
    )
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
    "CloudWatchRatio",
    "ComparedMinute",
    "ComparedValue",
    "Comparison",
    "Decision",
    "Failure",
    "Failures",
    "FalseRollback",
    "Finding",
    "Forecast",
    "Hold",
    "Interval",
    "InvocationPermission",
    "LambdaAlias",
    "LambdaMetrics",
    "LatencyStatistics",
    "LogGroup",
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
    "VariantMetrics",
    "Verdict",
    "decision_from_dict",
    "permissions",
]

_HOMES = {
    "AccessLogs": "metrics.logs",
    "Alarm": "judge.observation",
    "AliasCanary": "lambda_alias.alias",
    "Analysis": "judge.findings",
    "Backtest": "planning.backtest",
    "Basis": "judge.observation",
    "Canary": "canary",
    "CanaryError": "errors",
    "CanaryState": "model.state",
    "CleanUp": "model.results",
    "CleanUpItem": "model.results",
    "CloudWatchMetrics": "metrics.cloudwatch",
    "CloudWatchRatio": "metrics.ratio",
    "ComparedMinute": "model.comparison",
    "ComparedValue": "model.comparison",
    "Comparison": "model.comparison",
    "Decision": "rollout.decisions",
    "Failure": "model.failure",
    "Failures": "model.failure",
    "FalseRollback": "planning.backtest",
    "Finding": "judge.findings",
    "Forecast": "planning.forecast",
    "Hold": "rollout.decisions",
    "Interval": "judge.findings",
    "InvocationPermission": "preflight.invocation",
    "LambdaAlias": "lambda_alias.alias",
    "LambdaMetrics": "metrics.lambda_metrics",
    "LatencyStatistics": "model.comparison",
    "LogGroup": "model.failure",
    "Measurements": "judge.observation",
    "MethodChange": "preflight.preflight",
    "MetricSource": "judge.observation",
    "Minute": "judge.observation",
    "Observation": "judge.observation",
    "Outcome": "model.state",
    "SimulatedRollout": "planning.forecast",
    "PlannedCall": "preflight.preflight",
    "Preflight": "preflight.preflight",
    "Problem": "preflight.facts",
    "Promote": "rollout.decisions",
    "Promotion": "model.state",
    "Report": "report.report",
    "Rollback": "rollout.decisions",
    "Rollout": "model.state",
    "RolloutPolicy": "policy",
    "RolloutRecords": "changes.records",
    "Shift": "rollout.decisions",
    "Signal": "judge.signals",
    "SmokeRequest": "model.results",
    "SmokeResult": "model.results",
    "Stage": "stage",
    "StageState": "model.state",
    "Step": "judge.plan",
    "VariableChange": "preflight.preflight",
    "VariantMetrics": "model.comparison",
    "Verdict": "judge.findings",
    "decision_from_dict": "rollout.decisions",
    "permissions": "changes.permissions",
}

_MODULES = ("errors", "testing")

if not typing.TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import a name when it is first used: a script that only needs one stays quick."""
        import importlib

        if name == "__version__":
            from importlib.metadata import version

            return version("apigw-canary")
        if name in _MODULES:
            return importlib.import_module(f"{__name__}.{name}")
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        """What a REPL completes: also what was not imported yet."""
        return sorted({*globals(), *__all__, *_MODULES, "__version__"})

    def _page(subject: object) -> str:
        """A notebook's view of a decision: what decides does not know who draws."""
        from apigw_canary.report.report import Report

        return Report(subject)._repr_html_()

    serialization.page = _page
