"""The format of a stage's access logs: which field of a line holds which `$context` variable."""

import json
import re
from collections.abc import Mapping
from typing import NamedTuple, NoReturn

from apigw_canary.aws import StageSettings, field, text
from apigw_canary.errors import InvalidInputError
from apigw_canary.model import StageState
from apigw_canary.texts import bounded

IS_CANARY = "isCanaryRequest"
STATUS = "status"
LATENCY = "responseLatency"
METHOD = "httpMethod"
PATH = "resourcePath"
ERROR_TYPE = "error.responseType"
MESSAGES = ("error.message", "error.messageString")
_UNSAID = (IS_CANARY, STATUS, LATENCY, METHOD, PATH, ERROR_TYPE, MESSAGES[0])
"""The variables that are taken to be in fields of their own names where nothing is known."""

_PLAIN_NAME = r"[\w-]{1,64}"
"""Names of fields that are sought in the raw line: nothing in them means anything in a pattern."""

_RAW = {
    IS_CANARY: ("apigwRawArm", "true|false|-"),
    STATUS: ("apigwRawStatus", "[1-5][0-9][0-9]"),
    LATENCY: ("apigwRawLatency", "[0-9]+"),
    "apiId": ("apigwRawApi", r"[\w-]+"),
    "stage": ("apigwRawStage", r"[\w\/-]+"),
}
"""Variables that are sought in the raw line: as what, and the pattern of their values."""

ALIAS = {
    IS_CANARY: "apigwCanaryArm",
    STATUS: "apigwStatus",
    LATENCY: "apigwLatency",
    "apiId": "apigwApi",
    "stage": "apigwStage",
}
"""What a query calls the value of these variables."""

ROUTE_ALIAS = {METHOD: "apigwMethod", PATH: "apigwPath"}
"""What a query that distinguishes routes calls the values of these variables."""

_RAW_ROUTE = {
    METHOD: ("apigwRawMethod", "[A-Z]+|-"),
    PATH: ("apigwRawPath", r'\/[^"\\]*|-'),
}
"""As `_RAW`, for these variables. Their values are always in quotes."""

UNKNOWN = "?"
"""`isCanaryRequest`, and method and path, of a line without them; API Gateway writes "-"
without a canary, and for a request that no method of the API takes."""

_DOCS = "See the access-log format in docs/access-logs.md."
_MAY_BE_TEXT = ("integration", "authorizer.", "waf")
"""What the names of variables begin with that are "-" or a text where there is no number."""

VARIABLE = r"\$context\.([\w.:-]*\w)"
"""Claims of a token are among them, and may be called as in `cognito:groups`."""


class AccessLog(NamedTuple):
    """Where a stage's access logs are, and how they are read."""

    group: str
    """The log group; `<group>/Canary` has the canary's lines a second time, and is not read."""
    fields: Mapping[str, str]
    """`$context` variable to the field that holds it."""
    scope: tuple[str, ...]
    """Conditions of a query that leave other stages' lines out."""
    tells_routes: bool = False
    """Whether a query distinguishes routes."""

    def telling_routes(self) -> "AccessLog":
        """The same, for a query that distinguishes routes; refused without method and path."""
        for needed in ROUTE_ALIAS:
            self.field(needed)
        return self._replace(tells_routes=True)

    def parses(self) -> list[str]:
        """Commands of a query that seek variables in the raw line.

        A line that is no JSON, because a value brought a quote of its own, has no fields; what was
        written before and after that value can be read all the same. Only a field at the top of the
        line is sought so: of another one the name alone does not identify it.
        """
        sought = {name: (raw, f'"?(?<{raw}>{pattern})') for name, (raw, pattern) in _RAW.items()}
        if self.tells_routes:
            for name, (raw, pattern) in _RAW_ROUTE.items():
                sought[name] = raw, f'"(?<{raw}>{pattern})"'
        return [
            f'parse @message /"{self.fields[name]}"\\s*:\\s*{pattern}/'
            for name, (_, pattern) in sought.items()
            if self._is_sought(name)
        ]

    def _is_sought(self, variable: str) -> bool:
        return bool(re.fullmatch(_PLAIN_NAME, self.fields.get(variable, "")))

    def columns(self) -> list[str]:
        """The variables that requests are counted by, from the field or else from the raw line."""
        columns = []
        raws, aliases = dict(_RAW), dict(ALIAS)
        if self.tells_routes:
            raws |= _RAW_ROUTE
            aliases |= ROUTE_ALIAS
        for name, (raw, _) in raws.items():
            if name in self.fields:
                found = [self.field(name), *([raw] if self._is_sought(name) else [])]
                otherwise = [f'"{UNKNOWN}"'] if name in (IS_CANARY, METHOD, PATH) else []
                columns.append(f"coalesce({', '.join([*found, *otherwise])}) as {aliases[name]}")
        return columns

    def field(self, variable: str) -> str:
        """The field of a variable, as a query names it."""
        self.require(variable)
        return field(self.fields[variable])

    def require(self, *variables: str) -> None:
        """Refuse a format that lacks any of them."""
        missing = [name for name in variables if name not in self.fields]
        if missing:
            added = ", ".join(f'"{name}": "$context.{name}"' for name in missing)
            _refuse(
                f"one with {' and '.join(f'$context.{name}' for name in missing)}",
                f"one with {', '.join(self.fields) or 'no variable in a field of its own'}",
                f"Add to it: {added}.",
            )

    def column(self, *variables: str) -> str:
        """The value of the first of them that exists, and "-" where none does.

        API Gateway too writes "-" for nothing. No line is lost to a group for want of a value.
        """
        names = [
            ALIAS.get(name) or field(self.fields[name]) for name in variables if name in self.fields
        ]
        return f'coalesce({", ".join(names)}, "-")' if names else '"-"'


def access_log(
    stage: StageState,
    settings: StageSettings | None,
    group: str | None,
    fields: Mapping[str, str] | None,
) -> AccessLog:
    """What the caller states about the logs, and for the rest what the stage's settings state.

    Settings that are about another group than the caller's do not show its format.
    """
    if settings and group not in (None, settings.access_log_group):
        settings = None
    group = group or (settings.access_log_group if settings else None)
    if group is None:
        stream = settings.access_log_stream if settings else None
        where = f"its access logs to the Firehose stream {stream}, which cannot be queried"
        raise InvalidInputError(
            "log_group",
            f"the name of a log group, since stage {stage.name} writes "
            f"{where if stream else 'no access logs'}",
            "None",
        ).within("", f"Let the stage write access logs to CloudWatch Logs. {_DOCS}")
    if fields is None:
        said = settings.access_log_format if settings else None
        fields = {name: name for name in _UNSAID} if said is None else parsed(said)
    scope = {"apiId": [stage.rest_api_id], "stage": [stage.name, f"{stage.name}/Canary"]}
    log = AccessLog(
        group=group,
        fields=fields,
        scope=tuple(
            # A line that does not tell is kept: it may be one of ours that is no JSON.
            f"(not ispresent({ALIAS[name]}) or "
            f"{ALIAS[name]} in [{', '.join(text(value) for value in values)}])"
            for name, values in scope.items()
            if name in fields
        ),
    )
    log.require(IS_CANARY, STATUS)
    return log


def breaking(written: str) -> list[str]:
    """The variables of a JSON format that break the lines of some requests, and no others.

    `error.messageString` brings quotes of its own, so it breaks a line in which it is quoted; what
    is "-" or text where there is nothing breaks one in which it is not quoted.
    """
    found = []
    for part in re.finditer(rf'"(?:[^"\\]|\\.)*"|{VARIABLE}', written):
        quoted = part[0].startswith('"')
        found += [
            name
            for name in re.findall(VARIABLE, part[0])
            if (name == MESSAGES[1] if quoted else name.startswith(_MAY_BE_TEXT))
        ]
    return list(dict.fromkeys(found))


def parsed(written: str) -> dict[str, str]:
    """The fields of a JSON format; Logs Insights finds fields only in JSON.

    A variable outside a string stands for a value that may be one of JSON's own, such as a number.
    """
    quoted = re.sub(
        rf'"(?:[^"\\]|\\.)*"|{VARIABLE}',
        lambda found: f'"{found[0]}"' if found[1] else found[0],
        written,
    )
    try:
        found = json.loads(quoted)
    except (RecursionError, ValueError):
        found = None
    if not isinstance(found, dict):
        _refuse(
            "one JSON object on one line",
            repr(bounded(written, 200)),
            "Logs Insights finds the fields of JSON only.",
        )
    return _variables(found, "")


def _variables(found: Mapping[str, object], above: str) -> dict[str, str]:
    variables: dict[str, str] = {}
    for name, value in found.items():
        if isinstance(value, dict):
            variables.update(_variables(value, f"{above}{name}."))
        elif variable := re.fullmatch(VARIABLE, str(value)):
            variables[variable[1]] = above + name
    return variables


def _refuse(expected: str, got: str, remedy: str) -> NoReturn:
    raise InvalidInputError("the access logs' format", expected, got).within(
        "", f"{remedy} {_DOCS}"
    )
