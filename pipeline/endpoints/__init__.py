"""Endpoints: one file per wire protocol, from requests to HTTP and back. Pure."""

from collections.abc import Callable
from typing import Protocol

from pipeline.endpoints.chat import open_chat
from pipeline.endpoints.completions import open_completions
from pipeline.endpoints.custom import open_custom
from pipeline.endpoints.embeddings import open_embeddings
from pipeline.endpoints.spec import EndpointSpec
from pipeline.records import Batch, Failure, HttpRequest, HttpResponse, Outcome, Task

__all__ = ["Endpoint", "EndpointSpec", "open_endpoint"]


class Endpoint(Protocol):
    """A server's wire protocol."""

    def build(self, batch: Batch) -> HttpRequest:
        """The one call that asks for the whole batch."""
        ...

    def parse(self, batch: Batch, response: HttpResponse) -> list[Outcome] | Failure:
        """One outcome per request, in batch order, or why the call as a whole gave none; never raises."""
        ...


_OPEN: dict[Task, Callable[[EndpointSpec], Endpoint]] = {
    Task.CHAT: open_chat,
    Task.EMBEDDING: open_embeddings,
    Task.COMPLETION: open_completions,
    Task.CUSTOM: open_custom,
}


def open_endpoint(spec: EndpointSpec) -> Endpoint:
    """The endpoint that the spec describes."""
    return _OPEN[spec.task](spec)
