"""One quota for a whole job: the driver's server, and the client in each worker. Only numbers on the wire, signed."""

from pipeline.quota.client import LeaseClient, Wants
from pipeline.quota.frames import BadFrame, Channel
from pipeline.quota.link import QuotaLink
from pipeline.quota.server import QuotaServer

__all__ = ["BadFrame", "Channel", "LeaseClient", "QuotaLink", "QuotaServer", "Wants"]
