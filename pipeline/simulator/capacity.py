"""How many calls are worked on at once, and what becomes of more: refused, or made to wait."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

import orjson

from pipeline.records import Api
from pipeline.simulator.calls import Refused
from pipeline.simulator.settings import Overload
from pipeline.simulator.wire import JSON, Reply, databricks_error, error, openai_error

_OPEN: AbstractAsyncContextManager[None] = nullcontext()  # one for all: the double must outrun what it measures


class Capacity:
    """A fixed number of slots. Lives on one event loop."""

    def __init__(self, slots: int | None, overload: Overload) -> None:
        self._slots = slots
        self._overload = overload
        self._free = asyncio.Semaphore(slots) if slots is not None else None

    def slot(self, api: Api) -> AbstractAsyncContextManager[None]:
        """Hold one while the work is done. Entering raises Refused where none is free and nobody waits here."""
        return _OPEN if self._free is None else self._held(self._free, api)

    @asynccontextmanager
    async def _held(self, free: asyncio.Semaphore, api: Api) -> AsyncIterator[None]:
        if self._overload != "queue" and free.locked():
            raise Refused(self._refusal(api))
        async with free:
            yield

    def _refusal(self, api: Api) -> Reply:
        """No Retry-After: a server without quotas does not know when it will have time (TEI, vLLM)."""
        if self._overload == "503":
            return error(api, 503, "the server is at its capacity")
        if self._overload == "529":
            body = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
            return Reply(529, orjson.dumps(body), (JSON,))
        message = (
            f"Too many concurrent requests: {self._slots} at most. Consider increasing the provisioned concurrency."
        )
        if api == "databricks":
            return databricks_error(429, "RESOURCE_EXHAUSTED", message)
        return openai_error(429, "requests", "too_many_concurrent_requests", message)
