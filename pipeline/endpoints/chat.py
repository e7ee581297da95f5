"""Chat completions: one request per call. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.endpoints.bodies import to_body
from pipeline.endpoints.choices import Choice, first_choice, parsed, withheld
from pipeline.endpoints.spec import EndpointSpec
from pipeline.endpoints.text import label, message_text
from pipeline.errors import ErrorCode
from pipeline.records import Batch, Failure, HttpRequest, HttpResponse, Outcome, RowError


@dataclass(frozen=True, slots=True)
class ChatEndpoint:
    """`POST /chat/completions`, or the same body to a Databricks serving endpoint."""

    url: str
    fixed: Mapping[str, Any]  # model and parameters

    def build(self, batch: Batch) -> HttpRequest:
        """The call for a batch of one."""
        return HttpRequest(self.url, to_body({**self.fixed, "messages": batch.requests[0].messages}))

    def parse(self, batch: Batch, response: HttpResponse) -> list[Outcome] | Failure:
        """One outcome with the text of the first choice, or why there is none.

        An answer that was given and holds no text is the row's error, since asking again costs again: `refusal`,
        `content_filter` or `empty_response`. One that is no chat completion is a failure to retry.
        Source: OpenAI API reference, "Create chat completion"; wire_formats 1.3, 1.5.
        """

        def read(answer: Any) -> Choice:
            choice, message = _first_choice(answer)
            text, refusal = _text_and_refusal(message)
            finish_reason = label(choice.get("finish_reason"))
            error = None if text and not refusal else _row_error(batch, response, message, refusal, finish_reason)
            return Choice(text, finish_reason, error)

        return parsed(batch, response, read)


def open_chat(spec: EndpointSpec) -> ChatEndpoint:
    """The chat endpoint that the spec describes."""
    return ChatEndpoint(url=spec.url("/chat/completions"), fixed=spec.fixed_fields())


def _first_choice(answer: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    choice = first_choice(answer)
    message = choice.get("message")
    if not isinstance(message, dict):
        raise ValueError("the first choice has no message")
    return choice, message


def _text_and_refusal(message: Mapping[str, Any]) -> tuple[str, str]:
    """Text and refusal of a message, each empty where absent. Reasoning beside or inside the content is left out."""
    content = message.get("content")
    refusal = message.get("refusal")
    refusal = refusal if isinstance(refusal, str) else ""
    if isinstance(content, str):
        return content, refusal
    if content is None:
        return "", refusal
    if not isinstance(content, list):
        raise ValueError(f"the content is {type(content).__name__}, neither text nor blocks")
    texts = []
    for block in content:
        if isinstance(block, str):
            texts.append(block)
        elif not isinstance(block, dict):
            raise ValueError(f"a content block is {type(block).__name__}")
        elif block.get("type") == "refusal" and isinstance(stated := block.get("refusal"), str):
            refusal = refusal or stated
        elif block.get("type") in ("text", "output_text") and (text := block.get("text")) is not None:
            if not isinstance(text, str):
                raise ValueError(f"the text of a content block is {type(text).__name__}")
            texts.append(text)
    return "".join(texts), refusal


def _row_error(
    batch: Batch, response: HttpResponse, message: Mapping[str, Any], refusal: str, finish_reason: str | None
) -> RowError:
    """Why an answer that came in good order has no text."""
    if refusal or finish_reason == "refusal":
        return RowError(ErrorCode.REFUSAL, message_text(refusal or "the model refused", batch), response.status)
    if finish_reason == "content_filter":
        return withheld(response)
    if message.get("tool_calls") or message.get("function_call"):
        why = "the model called a tool instead of answering"
    elif finish_reason == "length":
        why = "no text: the output limit was reached before the answer began, as reasoning counts too"
    else:
        why = "the answer holds no text"
    return RowError(ErrorCode.EMPTY_RESPONSE, why, response.status)
