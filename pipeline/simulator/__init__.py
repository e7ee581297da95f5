"""An endpoint that speaks the wire formats of OpenAI and Databricks, fails on demand and keeps its own bill."""

from pipeline.simulator.admission import LimitUse
from pipeline.simulator.bill import Bill, Texts, text_digest
from pipeline.simulator.faults import FAULTS, marker
from pipeline.simulator.handle import Handle
from pipeline.simulator.outage import Outage
from pipeline.simulator.process import SimulatorProcess
from pipeline.simulator.quotas import Quotas
from pipeline.simulator.server import serve
from pipeline.simulator.settings import SimulatorSettings
from pipeline.simulator.thread import Simulator
from pipeline.simulator.vectors import canned_index, canned_pool, canned_vector

__all__ = [
    "FAULTS",
    "Bill",
    "Handle",
    "LimitUse",
    "Outage",
    "Quotas",
    "Simulator",
    "SimulatorProcess",
    "SimulatorSettings",
    "Texts",
    "canned_index",
    "canned_pool",
    "canned_vector",
    "marker",
    "serve",
    "text_digest",
]
