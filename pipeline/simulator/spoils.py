"""Faults that spoil a finished answer: the work was done, so its tokens are billed. Pure."""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from pipeline.records import Task

Document = dict[str, Any]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Spoil:
    """Changes the body of a good answer. `is_usable`: a careful client still finds a result in it."""

    change: Callable[[bytes], bytes]
    is_usable: bool = False
    tasks: tuple[Task, ...] = (Task.CHAT, Task.EMBEDDING)


def _document(change: Callable[[Document], None]) -> Callable[[bytes], bytes]:
    """Edit the parsed body. json, not orjson: NaN, 2**70 and lone surrogates have to get out."""

    def changed(body: bytes) -> bytes:
        document = json.loads(body)
        change(document)
        return json.dumps(document).encode()

    return changed


def _chat(change: Callable[[Document], None], is_usable: bool = False) -> Spoil:
    """Edit the only choice."""
    return Spoil(_document(lambda document: change(document["choices"][0])), is_usable, (Task.CHAT,))


def _embedding(change: Callable[[list[Document]], None], is_usable: bool = False) -> Spoil:
    """Edit the list of embeddings."""
    return Spoil(_document(lambda document: change(document["data"])), is_usable, (Task.EMBEDDING,))


def _vectors(change: Callable[..., Floats]) -> Spoil:
    """Edit each vector, in either encoding; `change` is told which one is the last."""

    def changed(data: list[Document]) -> None:
        for item in data:
            item["embedding"] = _edited(item["embedding"], partial(change, is_last=item is data[-1]))

    return _embedding(changed)


def _edited(value: str | list[float], change: Callable[[Floats], Floats]) -> str | list[float]:
    if isinstance(value, str):
        vector = np.frombuffer(b64decode(value), dtype="<f4").copy()
        return b64encode(change(vector).astype("<f4").tobytes()).decode()
    return [float(number) for number in change(np.array(value, dtype=np.float32))]


def _with_nan(vector: Floats, is_last: bool) -> Floats:
    vector[0] = np.nan
    return vector


def _last_shortened(vector: Floats, is_last: bool) -> Floats:
    return vector[:-1] if is_last else vector


def _rotated(data: list[Document]) -> None:
    data.append(data.pop(0))


def _shuffled(data: list[Document]) -> None:
    Random(crc32(str(data[-1]["embedding"]).encode())).shuffle(data)  # noqa: S311 - not a secret


def _surrogate(choice: Document) -> None:
    choice["message"]["content"] += " \ud800 and \u0000 end"


def _content(value: object) -> Callable[[Document], None]:
    return lambda choice: choice["message"].update(content=value)


def _block_content(choice: Document) -> None:
    summary = {"type": "summary_text", "text": "Thinking about it.", "signature": "c2ln"}
    text = {"type": "text", "text": choice["message"]["content"]}
    choice["message"]["content"] = [{"type": "reasoning", "summary": [summary]}, text]


def _refusal(choice: Document) -> None:
    choice["message"].update(content=None, refusal="I cannot help with that.")


def _filtered(choice: Document) -> None:
    choice["message"]["content"] = ""
    choice["finish_reason"] = "content_filter"


def _usage(change: Callable[[int], int]) -> Spoil:
    def changed(document: Document) -> None:
        usage = document["usage"]
        usage.update({name: change(value) for name, value in usage.items() if isinstance(value, int)})

    return Spoil(_document(changed), is_usable=True)


def _without_usage(document: Document) -> None:
    del document["usage"]


SPOILS: Mapping[str, Spoil] = {
    "malformed": Spoil(lambda body: body[: len(body) // 2]),
    "empty_choices": Spoil(_document(lambda document: document["choices"].clear()), tasks=(Task.CHAT,)),
    "null_content": _chat(_content(None)),
    "refusal": _chat(_refusal),
    "content_filter_200": _chat(_filtered),
    "surrogate": _chat(_surrogate, is_usable=True),
    "block_content": _chat(_block_content, is_usable=True),
    "reasoning_content": _chat(
        lambda choice: choice["message"].update(reasoning_content="Thinking about it."), is_usable=True
    ),
    "wrong_order": _embedding(_rotated, is_usable=True),
    "shuffled_order": _embedding(_shuffled, is_usable=True),
    "wrong_count": _embedding(lambda data: data.__delitem__(-1)),
    "wrong_dimension": _vectors(_last_shortened),
    "nan": _vectors(_with_nan),
    "zero_vector": _vectors(lambda vector, is_last: np.zeros_like(vector)),
    "huge_usage": _usage(lambda value: 2**70),
    "negative_usage": _usage(lambda value: -1 - value),
    "no_usage": Spoil(_document(_without_usage), is_usable=True),
}
