"""What each kind of model answers to a checked call."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pipeline.records import Task
from pipeline.simulator.answers import count_tokens, cut, shaped, summarize
from pipeline.simulator.calls import Call, Refused, max_output_tokens, message_text, records
from pipeline.simulator.settings import ModelKind, SimulatorSettings
from pipeline.simulator.vectors import WORDLLAMA_DIMENSIONS, canned_index, embed, encoded_pool
from pipeline.simulator.wire import chat_body, completion_body, embeddings_body, encode_vector, error, predictions_body


class Answer(NamedTuple):
    """A finished answer and what it costs."""

    body: bytes
    input_tokens: int
    output_tokens: int


def answer(call: Call, settings: SimulatorSettings, number: int) -> Answer:
    """The model's answer; `number` goes into its id. Raises Refused."""
    if call.task in (Task.CHAT, Task.COMPLETION):
        return _text(call, _CHAT[call.kind](call, settings), number)
    if call.task is Task.CUSTOM:
        return Answer(predictions_body([_sum(record) for record in records(call.body)]), 0, 0)
    encoded = _EMBEDDING[call.kind](call, settings)
    return Answer(embeddings_body(call.model, encoded, call.input_tokens), call.input_tokens, 0)


def _text(call: Call, text: str, number: int) -> Answer:
    body = call.body
    text = shaped(text, body.get("response_format"))
    text, finish_reason = cut(text, max_output_tokens(call))
    output_tokens = count_tokens(text)
    if call.task is Task.COMPLETION:
        made = completion_body(call.model, text, finish_reason, call.input_tokens, output_tokens, number)
    else:
        made = chat_body(call.api, call.model, text, finish_reason, call.input_tokens, output_tokens, number)
    return Answer(made, call.input_tokens, output_tokens)


def _sum(value: Any) -> float:
    """The custom model: the sum of all numbers in a record, a text counting its characters."""
    if isinstance(value, dict | list):
        return sum(map(_sum, value.values() if isinstance(value, dict) else value))
    if isinstance(value, str):
        return len(value)
    return value or 0


def _extract(call: Call, settings: SimulatorSettings) -> str:
    """A summary of the last user message, or of everything where no user speaks."""
    for message in reversed(call.body.get("messages", ())):
        if message["role"] == "user":
            return summarize(message_text(message.get("content")), settings.summary_sentences)
    return summarize(call.texts[0], settings.summary_sentences)


def _canned_vectors(call: Call, settings: SimulatorSettings) -> list[bytes]:
    wanted = _dimensions(call, settings.canned_vectors)
    pool = encoded_pool(settings.canned_vectors, settings.seed, wanted, _is_base64(call))
    return [pool[canned_index(text)] for text in call.texts]


def _wordllama(call: Call, settings: SimulatorSettings) -> list[bytes]:
    wanted = _dimensions(call, WORDLLAMA_DIMENSIONS)
    try:
        vectors = embed(call.texts, wanted, is_normalized=call.kind == "wordllama_normalized")
    except ImportError:
        raise Refused(error(call.api, 404, f"the model {call.model!r} needs the package wordllama")) from None
    is_base64 = _is_base64(call)
    return [encode_vector(vector, is_base64) for vector in vectors]


def _is_base64(call: Call) -> bool:
    return call.body.get("encoding_format") == "base64"


def _dimensions(call: Call, available: int) -> int:
    wanted: int = call.body.get("dimensions") or available
    if wanted > available:
        raise Refused(error(call.api, 400, f"'$.dimensions' is out of range: {wanted}, at most {available}"))
    return wanted


_CHAT: Mapping[ModelKind, Callable[[Call, SimulatorSettings], str]] = {
    "extract": _extract,
    "canned_chat": lambda call, settings: settings.canned_answer,
}
_EMBEDDING: Mapping[ModelKind, Callable[[Call, SimulatorSettings], list[bytes]]] = {
    "wordllama": _wordllama,
    "wordllama_normalized": _wordllama,
    "canned_vectors": _canned_vectors,
}
