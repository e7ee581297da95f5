"""Completions: one prompt per call, no roles. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.endpoints.bodies import to_body
from pipeline.endpoints.choices import Choice, first_choice, parsed, withheld
from pipeline.endpoints.spec import EndpointSpec
from pipeline.endpoints.text import label
from pipeline.errors import ErrorCode
from pipeline.records import Batch, Failure, HttpRequest, HttpResponse, Outcome, RowError


@dataclass(frozen=True, slots=True)
class CompletionsEndpoint:
    """`POST /completions`, or the same body to a Databricks serving endpoint."""

    url: str
    fixed: Mapping[str, Any]  # model and parameters

    def build(self, batch: Batch) -> HttpRequest:
        """The call for a batch of one."""
        return HttpRequest(self.url, to_body({**self.fixed, "prompt": batch.requests[0].text}))

    def parse(self, batch: Batch, response: HttpResponse) -> list[Outcome] | Failure:
        """One outcome with the text of the first choice, or why there is none.

        An answer without text was billed all the same: `content_filter` or `empty_response`, never asked again.
        Source: OpenAI API reference, "Create completion"; wire_formats 1.1.
        """

        def read(answer: Any) -> Choice:
            choice = first_choice(answer)
            text, finish_reason = choice.get("text"), label(choice.get("finish_reason"))
            if not isinstance(text, str):
                raise ValueError("the first choice has no text")
            return Choice(text, finish_reason, None if text else _row_error(response, finish_reason))

        return parsed(batch, response, read)


def open_completions(spec: EndpointSpec) -> CompletionsEndpoint:
    """The completions endpoint that the spec describes."""
    return CompletionsEndpoint(url=spec.url("/completions"), fixed=spec.fixed_fields())


def _row_error(response: HttpResponse, finish_reason: str | None) -> RowError:
    if finish_reason == "content_filter":
        return withheld(response)
    return RowError(ErrorCode.EMPTY_RESPONSE, "the answer holds no text", response.status)
