"""Completions: one prompt per call, no roles. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.endpoints.bodies import from_body, to_body
from pipeline.endpoints.failures import is_success, refused, unusable
from pipeline.endpoints.spec import EndpointSpec
from pipeline.endpoints.text import label, storable
from pipeline.endpoints.usage import read_usage
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
        if not is_success(response):
            return refused(batch, response)
        try:
            answer = from_body(response.body)
        except ValueError as exc:
            return unusable(batch, response, f"not JSON: {exc}")
        usage = read_usage(answer)
        try:
            choice = _first_choice(answer)
        except ValueError as exc:
            return unusable(batch, response, str(exc), answer=answer, usage=usage)
        text, finish_reason = choice["text"], label(choice.get("finish_reason"))
        error = None if text else _row_error(response, finish_reason)
        return [
            Outcome(
                request_id=batch.requests[0].request_id,
                response=storable(text) if error is None else None,
                error=error,
                usage=usage,
                finish_reason=finish_reason,
                model=label(answer.get("model")),
            )
        ]


def open_completions(spec: EndpointSpec) -> CompletionsEndpoint:
    """The completions endpoint that the spec describes."""
    return CompletionsEndpoint(url=spec.url("/completions"), fixed=spec.fixed_fields())


def _first_choice(answer: Any) -> dict[str, Any]:
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or not choices:
        raise ValueError("no choices in the answer")
    choice = choices[0]
    if not isinstance(choice, dict) or not isinstance(choice.get("text"), str):
        raise ValueError("the first choice has no text")
    return choice


def _row_error(response: HttpResponse, finish_reason: str | None) -> RowError:
    if finish_reason == "content_filter":
        return RowError(ErrorCode.CONTENT_FILTER, "the provider's content filter withheld the answer", response.status)
    return RowError(ErrorCode.EMPTY_RESPONSE, "the answer holds no text", response.status)
