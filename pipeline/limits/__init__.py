"""How much may be sent: the arithmetic of quotas, budgets, concurrency, retries and outages. Pure."""

from pipeline.limits.aimd import FIRST_EMBEDDING_GUESS, FIRST_GUESS
from pipeline.limits.amounts import MICROS, NOTHING, Budget, Cost, Limit, Meter, total
from pipeline.limits.book import HORIZON_S, REFRESH_S, QuotaBook, QuotaSpec
from pipeline.limits.costs import Costing, Costs, ReserveOutput
from pipeline.limits.gate import Gate, GateSettings, Ticket
from pipeline.limits.holder import LeaseHolder
from pipeline.limits.leases import Ask, Credit, Grant, to_ask, to_grant
from pipeline.limits.permits import Permits, StaticShare
from pipeline.limits.view import LimitUse, QuotaView, added_views

__all__ = [
    "FIRST_EMBEDDING_GUESS",
    "FIRST_GUESS",
    "HORIZON_S",
    "MICROS",
    "NOTHING",
    "REFRESH_S",
    "Ask",
    "Budget",
    "Cost",
    "Costing",
    "Costs",
    "Credit",
    "Gate",
    "GateSettings",
    "Grant",
    "LeaseHolder",
    "Limit",
    "LimitUse",
    "Meter",
    "Permits",
    "QuotaBook",
    "QuotaSpec",
    "QuotaView",
    "ReserveOutput",
    "StaticShare",
    "Ticket",
    "added_views",
    "to_ask",
    "to_grant",
    "total",
]
