"""What `modelParameters` may hold: names that nothing else fills, types and ranges of the documented ones. Pure."""

from collections.abc import Mapping
from decimal import Decimal
from math import inf
from typing import Any

from pipeline.conditions import AiFunctionError
from pipeline.records import Task

_CONDITION = "AI_FUNCTION_INVALID_MODEL_PARAMETERS"

# name -> what fills it
_RESERVED = {
    "messages": "request",
    "prompt": "request",
    "input": "request",
    "inputs": "request",
    "model": "endpoint",
    "response_format": "responseFormat",
    "stream": "nothing: answers are read whole",
    "stream_options": "nothing: answers are read whole",
}
# name -> (types, least, most); wire_formats 1.2
_NUMBERS: Mapping[str, tuple[tuple[type, ...], float, float]] = {
    "max_tokens": ((int,), 1, inf),
    "max_completion_tokens": ((int,), 1, inf),
    "temperature": ((int, float), 0, 2),
    "top_p": ((int, float), 0, 1),
    "top_k": ((int,), 1, inf),
    "presence_penalty": ((int, float), -2, 2),
    "frequency_penalty": ((int, float), -2, 2),
    "seed": ((int,), -inf, inf),
    "n": ((int,), 1, inf),
    "top_logprobs": ((int,), 0, 20),
    "dimensions": ((int,), 1, inf),
}
_ABOVE_LEAST = ("top_p",)  # the least itself is not allowed
_TEXTS = ("reasoning_effort", "user", "encoding_format", "instruction", "service_tier")
_TEXT_TASKS = (Task.CHAT, Task.COMPLETION)
_ONLY_FOR = {
    **dict.fromkeys(("dimensions", "encoding_format"), (Task.EMBEDDING,)),
    **dict.fromkeys(("temperature", "top_p", "max_tokens", "stop"), _TEXT_TASKS),
    **dict.fromkeys(("max_completion_tokens", "reasoning_effort"), (Task.CHAT,)),
}


def checked(parameters: Mapping[str, Any], task: Task) -> dict[str, Any]:
    """The parameters as they are sent, decimals as floats and nulls left out. Raises AiFunctionError."""
    if task is Task.CUSTOM and parameters:
        raise AiFunctionError(
            f"{_CONDITION}.UNSUPPORTED_ENDPOINT_TYPE",
            "a custom model takes no `modelParameters`; what it reads is in `request`.",
        )
    result: dict[str, Any] = {}
    for name, value in parameters.items():
        if name in _RESERVED:
            raise AiFunctionError(
                f"{_CONDITION}.FOUND_RESERVED_PARAMETER_NAME",
                f"`{name}` cannot be a model parameter; its place is {_RESERVED[name]}.",
            )
        if task not in _ONLY_FOR.get(name, (task,)):
            raise AiFunctionError(
                f"{_CONDITION}.UNSUPPORTED_MODEL_PARAMETER", f"`{name}` has no meaning for {_article(task)} endpoint."
            )
        if value is None:
            continue
        plain = _plain(value)
        _check(name, plain)
        result[name] = plain
    return result


def _check(name: str, value: Any) -> None:
    if name in _NUMBERS:
        types, least, most = _NUMBERS[name]
        if type(value) not in types:
            wanted = "a number" if float in types else "a whole number"
            raise AiFunctionError(
                f"{_CONDITION}.INVALID_PARAMETER_DATA_TYPE", f"`{name}` must be {wanted}, not {_kind(value)}."
            )
        if not least <= value <= most or (value == least and name in _ABOVE_LEAST):
            raise AiFunctionError(
                f"{_CONDITION}.INVALID_NUMERIC_PARAMETER", f"`{name}` is {value}; allowed is {_range(name)}."
            )
        if name == "n" and value != 1:
            raise AiFunctionError(
                f"{_CONDITION}.UNSUPPORTED_MODEL_PARAMETER",
                "`n` above 1 buys answers that no row can hold.",
            )
    elif name in _TEXTS and not isinstance(value, str):
        raise AiFunctionError(
            f"{_CONDITION}.INVALID_PARAMETER_DATA_TYPE", f"`{name}` must be a string, not {_kind(value)}."
        )
    elif name == "stop" and not (
        isinstance(value, str) or (isinstance(value, list) and all(isinstance(one, str) for one in value))
    ):
        raise AiFunctionError(
            f"{_CONDITION}.INVALID_PARAMETER_DATA_TYPE", "`stop` must be a string or an array of strings."
        )


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _kind(value: Any) -> str:
    names = {str: "a string", bool: "a boolean", float: "a fraction", list: "an array", dict: "a struct"}
    return names.get(type(value), type(value).__name__)


def _range(name: str) -> str:
    _, least, most = _NUMBERS[name]
    if name in _ABOVE_LEAST:
        return f"above {least:g} to {most:g}"
    return f"{least:g} or more" if most == inf else f"{least:g} to {most:g}"


def _article(task: Task) -> str:
    return f"{'an' if task is Task.EMBEDDING else 'a'} {task}"
