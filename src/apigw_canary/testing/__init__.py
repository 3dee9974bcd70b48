"""Rehearsals: API Gateway with true canaries, traffic and a virtual clock, in process or over HTTP.

Needs the extra `testing`, which is moto. It is imported when a rehearsal begins; where it is
missing, the `ImportError` gives the command that installs it.
"""

from apigw_canary.testing.answers import RehearsalError, RehearsalWarning
from apigw_canary.testing.faults import Fault, ProcessDeath
from apigw_canary.testing.remote import RehearsalClient
from apigw_canary.testing.resources import Method
from apigw_canary.testing.server import RehearsalServer
from apigw_canary.testing.simulation import Call, Rehearsal, rehearsal
from apigw_canary.testing.traffic import Backend, Conditions, Served

__all__ = [
    "Backend",
    "Call",
    "Conditions",
    "Fault",
    "Method",
    "ProcessDeath",
    "Rehearsal",
    "RehearsalClient",
    "RehearsalError",
    "RehearsalServer",
    "RehearsalWarning",
    "Served",
    "rehearsal",
]
