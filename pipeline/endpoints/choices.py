"""Answers that hold their text in the first of their `choices`: what chat and plain completions have in common. Pure."""

from collections.abc import Callable
from typing import Any, NamedTuple

from pipeline.endpoints.bodies import from_body
from pipeline.endpoints.failures import is_success, refused, unusable
from pipeline.endpoints.text import label, storable
from pipeline.endpoints.usage import read_usage
from pipeline.errors import ErrorCode
from pipeline.records import Batch, Failure, HttpResponse, Outcome, RowError


class Choice(NamedTuple):
    """The text of an answer, or why it has none."""

    text: str
    finish_reason: str | None
    error: RowError | None


def first_choice(answer: Any) -> dict[str, Any]:
    """The first choice. ValueError where there is none."""
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or not choices:
        raise ValueError("no choices in the answer")
    if not isinstance(choices[0], dict):
        raise ValueError("the first choice is no object")
    return choices[0]


def parsed(batch: Batch, response: HttpResponse, read: Callable[[Any], Choice]) -> list[Outcome] | Failure:
    """One outcome with what `read` finds in the answer; a failure to retry where it raises ValueError."""
    if not is_success(response):
        return refused(batch, response)
    try:
        answer = from_body(response.body)
    except ValueError as exc:
        return unusable(batch, response, f"not JSON: {exc}")
    usage = read_usage(answer)
    try:
        text, finish_reason, error = read(answer)
    except ValueError as exc:
        return unusable(batch, response, str(exc), answer=answer, usage=usage)
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


def withheld(response: HttpResponse) -> RowError:
    """The provider's content filter took the text away."""
    return RowError(ErrorCode.CONTENT_FILTER, "the provider's content filter withheld the answer", response.status)
