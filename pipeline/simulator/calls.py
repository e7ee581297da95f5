"""What a client asked: from path and body to a checked `Call`, or the refusal it deserves. Pure."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, NamedTuple
from urllib.parse import unquote

import orjson

from pipeline.records import Api, Task
from pipeline.simulator.answers import count_tokens
from pipeline.simulator.settings import ModelKind, SimulatorSettings
from pipeline.simulator.wire import Reply, error

_INVOCATIONS = re.compile(r"/serving-endpoints/([^/]+)/invocations")
_TEXT_KINDS: tuple[ModelKind, ...] = ("extract", "canned_chat")


class Refused(Exception):
    """The request is wrong; `reply` says how, in the caller's shape."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply)
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Route:
    """Where a POST arrived. `task` is None where the body decides, `endpoint` where the body names the model."""

    api: Api
    task: Task | None = None
    endpoint: str | None = None


class Call(NamedTuple):
    """One checked request. A tuple: made for each request, a frozen dataclass takes three times as long."""

    api: Api
    task: Task
    model: str
    kind: ModelKind
    body: Mapping[str, Any]
    texts: tuple[str, ...]  # the whole prompt, or the inputs to embed
    input_tokens: int
    has_marker: bool  # some text may hold a fault marker


_ROUTES: dict[str, Route] = {
    "/v1/chat/completions": Route("openai", Task.CHAT),
    "/v1/completions": Route("openai", Task.COMPLETION),
    "/v1/embeddings": Route("openai", Task.EMBEDDING),
    "/serving-endpoints/chat/completions": Route("databricks", Task.CHAT),
    "/serving-endpoints/completions": Route("databricks", Task.COMPLETION),
    "/serving-endpoints/embeddings": Route("databricks", Task.EMBEDDING),
}


def route(path: str) -> Route | None:
    """The inference route of this path, as it stands in the request line; None where there is none."""
    path = path.partition("?")[0]
    if found := _ROUTES.get(path):
        return found
    if match := _INVOCATIONS.fullmatch(path):
        return Route("databricks", endpoint=unquote(match.group(1)))
    return None


def read_call(where: Route, raw: bytes, settings: SimulatorSettings) -> Call:
    """The request in `raw`. Raises Refused."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise Refused(error(where.api, 400, "the body is not JSON")) from None
    if not isinstance(body, dict):
        raise Refused(error(where.api, 400, "the body is not a JSON object"))
    task = where.task or _task_of(body)
    model = where.endpoint or body.get("model")
    kind = settings.models.get(model) if isinstance(model, str) else None
    if kind is None:
        raise Refused(error(where.api, 404, f"The model {model!r} does not exist; known: {sorted(settings.models)}"))
    if kind not in _KINDS[task]:
        raise Refused(error(where.api, 400, f"the model {model!r} does not serve {task}"))
    try:
        texts = _TEXTS[task](body, settings)
    except ValueError as exc:
        raise Refused(error(where.api, 400, str(exc))) from None
    prompt = ("\n".join(texts),) if task is Task.CHAT else texts
    input_tokens = 0 if task is Task.CUSTOM else sum(map(count_tokens, texts))
    return Call(where.api, task, str(model), kind, body, prompt, input_tokens, b"[[fault:" in raw)


def _task_of(body: Mapping[str, Any]) -> Task:
    """What an invocation asks, by the field that carries it."""
    if "messages" in body:
        return Task.CHAT
    if "prompt" in body:
        return Task.COMPLETION
    return Task.CUSTOM if body.keys() & _RECORD_FIELDS else Task.EMBEDDING


def records(body: Mapping[str, Any]) -> list[Any]:
    """The records of a call to a custom model, a table as objects (wire_formats 1.10). Raises ValueError."""
    split = body.get("dataframe_split")
    found = body.get("dataframe_records", body.get("inputs", body.get("instances")))
    if isinstance(split, dict) and isinstance(split.get("columns"), list) and isinstance(split.get("data"), list):
        found = [dict(zip(split["columns"], row, strict=True)) for row in split["data"]]
    if not isinstance(found, list) or not found:
        raise ValueError("no records: dataframe_split, dataframe_records, instances or inputs")
    return found


def max_output_tokens(call: Call) -> int | None:
    """What the call may make: 0 for embeddings, None where it does not say."""
    if call.task not in (Task.CHAT, Task.COMPLETION):
        return 0
    wanted: int | None = call.body.get("max_tokens") or call.body.get("max_completion_tokens")
    return wanted


def message_text(content: Any) -> str:
    """The text of a message's `content`: a string, or a list of parts of which the text ones count."""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(part, dict) and "type" in part for part in content):
        texts = [part.get("text") for part in content if part["type"] == "text"]
        if all(isinstance(text, str) for text in texts):
            return "\n".join(texts)
    raise ValueError("'$.messages.content' is invalid: a string or a list of typed parts")


def _chat_texts(body: Mapping[str, Any]) -> tuple[str, ...]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ValueError("'$.messages' is invalid: a list with at least one message")
    if not all(isinstance(message, dict) and isinstance(message.get("role"), str) for message in messages):
        raise ValueError("'$.messages' is invalid: each message is an object with a role")
    if body.get("stream"):
        raise ValueError("'$.stream' is not supported here")
    if body.get("n", 1) not in (1, None):
        raise ValueError("'$.n' must be 1")
    _check_numbers(body)
    return tuple(message_text(message.get("content")) for message in messages)


def _prompt(body: Mapping[str, Any]) -> tuple[str, ...]:
    prompt = body.get("prompt")
    if not isinstance(prompt, str) or not prompt:
        raise ValueError("'$.prompt' is invalid: a string")
    if body.get("stream"):
        raise ValueError("'$.stream' is not supported here")
    _check_numbers(body)
    return (prompt,)


def _inputs(body: Mapping[str, Any], max_inputs: int) -> tuple[str, ...]:
    given = body.get("input")
    # a lone "" is accepted where a list with one is not (wire_formats 3.6)
    inputs = [given] if isinstance(given, str) else given
    if not isinstance(inputs, list) or not inputs or not all(isinstance(text, str) for text in inputs):
        raise ValueError("'$.input' is invalid")
    if isinstance(given, list) and "" in given:
        raise ValueError("'$.input' is invalid")
    if len(inputs) > max_inputs:
        raise ValueError(f"'$.input' is too long: {len(inputs)} inputs, at most {max_inputs}")
    if body.get("encoding_format") not in (None, "float", "base64"):
        raise ValueError("'$.encoding_format' is invalid: float or base64")
    _check_numbers(body)
    return tuple(inputs)


# name -> (allowed types, least, most); wire_formats 1.2
_RANGES: Mapping[str, tuple[tuple[type, ...], float, float]] = {
    "max_tokens": ((int,), 1, inf),
    "max_completion_tokens": ((int,), 1, inf),
    "dimensions": ((int,), 1, inf),
    "temperature": ((int, float), 0, 2),
    "top_p": ((int, float), 0, 1),
}


def _check_numbers(body: Mapping[str, Any]) -> None:
    for name in _RANGES.keys() & body.keys():
        value: Any = body[name]
        kinds, least, most = _RANGES[name]
        if value is None:
            continue
        if type(value) not in kinds or not least <= value <= most:  # a bool is an int, but no number here
            raise ValueError(f"'$.{name}' is invalid: {value!r}")


_RECORD_FIELDS = {"dataframe_split", "dataframe_records", "instances", "inputs"}
_KINDS: Mapping[Task, tuple[ModelKind, ...]] = {
    Task.CHAT: _TEXT_KINDS,
    Task.COMPLETION: _TEXT_KINDS,
    Task.EMBEDDING: ("wordllama", "wordllama_normalized", "canned_vectors"),
    Task.CUSTOM: ("sums",),
}
_TEXTS: Mapping[Task, Callable[[Mapping[str, Any], SimulatorSettings], tuple[str, ...]]] = {
    Task.CHAT: lambda body, settings: _chat_texts(body),
    Task.COMPLETION: lambda body, settings: _prompt(body),
    Task.EMBEDDING: lambda body, settings: _inputs(body, settings.max_inputs),
    Task.CUSTOM: lambda body, settings: tuple(orjson.dumps(record).decode() for record in records(body)),
}
