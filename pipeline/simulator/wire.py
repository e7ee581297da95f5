"""The JSON that goes out: answers and errors in the shapes of OpenAI and Databricks. Pure."""

from base64 import b64encode
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from pipeline.records import Api

JSON = ("Content-Type", "application/json")
HTML = ("Content-Type", "text/html; charset=utf-8")

_CHAT = (
    b'{"id":%b,"object":"chat.completion","created":%d,"model":%b,"choices":[{"index":0,"message":'
    b'{"role":"assistant","content":%b},"finish_reason":"%b"}],"usage":{"prompt_tokens":%d,"completion_tokens":%d,'
    b'"total_tokens":%d%b}}'
)
_OPENAI_DETAILS = (  # wire_formats 1.5
    b',"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}'
)
CREATED_S = 1_763_683_200  # a constant, so that equal requests get equal answers


Headers = tuple[tuple[str, str], ...]


class Reply(NamedTuple):
    """A whole HTTP answer."""

    status: int
    body: bytes
    headers: Headers = (JSON,)


def chat_body(
    api: Api, model: str, text: str, finish_reason: str, input_tokens: int, output_tokens: int, number: int
) -> bytes:
    """A `chat.completion`. Databricks shows `id` null and three token counters (wire_formats 1.3, 1.5)."""
    is_openai = api == "openai"
    return _CHAT % (
        b'"chatcmpl-%d"' % number if is_openai else b"null",
        CREATED_S,
        orjson.dumps(model),
        orjson.dumps(text),
        finish_reason.encode(),
        input_tokens,
        output_tokens,
        input_tokens + output_tokens,
        _OPENAI_DETAILS if is_openai else b"",
    )


def completion_body(
    model: str, text: str, finish_reason: str, input_tokens: int, output_tokens: int, number: int
) -> bytes:
    """A `text_completion` (wire_formats 1.1)."""
    usage = {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
    }
    choice = {"index": 0, "text": text, "finish_reason": finish_reason, "logprobs": None}
    return orjson.dumps(
        {
            "id": f"cmpl-{number}",
            "object": "text_completion",
            "created": CREATED_S,
            "model": model,
            "choices": [choice],
            "usage": usage,
        }
    )


def predictions_body(predictions: Sequence[Any]) -> bytes:
    """The answer of a custom model (wire_formats 1.10)."""
    return orjson.dumps({"predictions": list(predictions)})


def encode_vector(vector: NDArray[np.float32], is_base64: bool) -> bytes:
    """One vector as a JSON value: base64 of little-endian float32, or the shortest floats that read back equal."""
    if is_base64:
        return b'"' + b64encode(vector.astype("<f4", copy=False).tobytes()) + b'"'
    return orjson.dumps(np.ascontiguousarray(vector, dtype=np.float32), option=orjson.OPT_SERIALIZE_NUMPY)


def embeddings_body(model: str, encoded: Sequence[bytes], input_tokens: int) -> bytes:
    """A list of embeddings, from JSON values in the order of the inputs (wire_formats 1.8)."""
    parts = [b'{"object":"list","data":[']
    for index, value in enumerate(encoded):
        head = (
            b',{"object":"embedding","index":%d,"embedding":'
            if index
            else b'{"object":"embedding","index":%d,"embedding":'
        )
        parts += (head % index, value, b"}")
    parts.append(
        b'],"model":%b,"usage":{"prompt_tokens":%d,"total_tokens":%d}}'
        % (orjson.dumps(model), input_tokens, input_tokens)
    )
    return b"".join(parts)


def openai_error(
    status: int, kind: str, code: str | int | None, message: str, *headers: tuple[str, str], param: str | None = None
) -> Reply:
    """An error as OpenAI sends it (wire_formats 3.1)."""
    error: dict[str, Any] = {"message": message, "type": kind, "param": param, "code": code}
    return Reply(status, orjson.dumps({"error": error}), (JSON, *headers))


def databricks_error(status: int, code: str, message: str, *headers: tuple[str, str]) -> Reply:
    """An error as the Databricks platform sends it (wire_formats 3.1)."""
    details = [{"@type": "type.googleapis.com/google.rpc.RequestInfo", "request_id": "simulated"}]
    return Reply(status, orjson.dumps({"error_code": code, "message": message, "details": details}), (JSON, *headers))


# status -> (Databricks error_code, OpenAI type, OpenAI code)
_CODES: dict[int, tuple[str, str, str | None]] = {
    400: ("BAD_REQUEST", "invalid_request_error", "invalid_value"),
    401: ("UNAUTHENTICATED", "invalid_request_error", "invalid_api_key"),
    403: ("PERMISSION_DENIED", "invalid_request_error", "permission_denied"),
    404: ("RESOURCE_DOES_NOT_EXIST", "invalid_request_error", "model_not_found"),
    408: ("DEADLINE_EXCEEDED", "timeout", None),
    409: ("RESOURCE_CONFLICT", "conflict", None),
    413: ("BAD_REQUEST", "invalid_request_error", "payload_too_large"),
    500: ("INTERNAL_ERROR", "server_error", "server_error"),
    503: ("TEMPORARILY_UNAVAILABLE", "server_error", None),
}


def error(api: Api, status: int, message: str) -> Reply:
    """The everyday error of this status, in the shape of the API that was called."""
    databricks_code, kind, code = _CODES[status]
    if api == "databricks":
        return databricks_error(status, databricks_code, message)
    return openai_error(status, kind, code, message)
