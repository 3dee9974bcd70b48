"""Rehearsals: API Gateway with true canaries, traffic and a virtual clock, in process or over HTTP.

Needs moto (`pip install "moto>=5.2"`), which is imported when a rehearsal begins.
"""

from apigw_canary.testing.answers import RehearsalError, RehearsalWarning
from apigw_canary.testing.faults import Fault, ProcessDeath
from apigw_canary.testing.remote import RehearsalClient
from apigw_canary.testing.resources import Method
from apigw_canary.testing.server import RehearsalServer
from apigw_canary.testing.simulation import Call, Rehearsal, rehearsal
from apigw_canary.testing.traffic import Backend, Served

__all__ = [
    "Backend",
    "Call",
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
