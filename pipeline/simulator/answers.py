"""Chat answers: the sentence of a text that says most of it, fixed ones, and JSON that fits a schema. Pure."""

import re
from collections import Counter
from math import sqrt
from typing import Any

import orjson

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n\s*\n")
_WORD = re.compile(r"\w{3,}")
_INSTRUCTION = re.compile(r"\s*(?:[^\n]{1,300}:\n\s*\n|[^\n:.!?]{1,200}:\s+)")
_MAX_SENTENCES = 200  # a hostile text costs no more than this
_MAX_DEPTH = 16


def count_tokens(text: str) -> int:
    """The simulator's own tokens: one per four characters, begun ones included."""
    return (len(text) + 3) // 4


def sentences(text: str) -> list[str]:
    """The sentences of a text in order, white space collapsed."""
    return [" ".join(part.split()) for part in _SENTENCE_END.split(text) if not part.isspace() and part]


def summarize(text: str, count: int = 1) -> str:
    """The `count` sentences nearest to the text's centroid, in the text's order.

    An instruction that opens the text and ends in a colon ("Summarise in one sentence: ...") is not summarised: one
    sentence, or a line above a blank one.
    """
    opening = _INSTRUCTION.match(text, 0, 400)  # bounded: white space without end would make it slow
    rest = text[opening.end() :] if opening else text
    candidates = sentences(rest or text)[:_MAX_SENTENCES]
    if len(candidates) <= count:
        return " ".join(candidates)
    words = [_WORD.findall(sentence.lower()) for sentence in candidates]
    centroid = Counter(word for some in words for word in some)
    scores = [_nearness(some, centroid) for some in words]
    best = sorted(range(len(candidates)), key=lambda index: (-scores[index], index))[:count]
    return " ".join(candidates[index] for index in sorted(best))


def _nearness(words: list[str], centroid: Counter[str]) -> float:
    if not words:
        return 0.0
    own = Counter(words)
    cosine = sum(times * centroid[word] for word, times in own.items()) / sqrt(sum(n * n for n in own.values()))
    return cosine if len(words) >= 3 else cosine / 4  # a heading is no summary


def cut(text: str, max_tokens: int | None) -> tuple[str, str]:
    """The text within `max_tokens`, and its finish reason: `stop`, or `length` where something is missing."""
    if max_tokens is None or count_tokens(text) <= max_tokens:
        return text, "stop"
    return text[: max_tokens * 4], "length"


def shaped(text: str, response_format: Any) -> str:
    """The answer as `response_format` asks for it: text as it is, or JSON whose strings are the text."""
    kind = response_format.get("type") if isinstance(response_format, dict) else None
    if kind == "json_object":
        return orjson.dumps({"answer": text}).decode()
    if kind == "json_schema":
        described = response_format.get("json_schema")
        schema = described.get("schema") if isinstance(described, dict) else None
        return orjson.dumps(_fill(schema, text, _MAX_DEPTH)).decode()
    return text


def _fill(schema: Any, text: str, depth: int) -> Any:
    """A value that the schema accepts, for the plain subset: type, properties, items, enum, const."""
    if not isinstance(schema, dict):
        return text
    if "const" in schema:
        return schema["const"]
    if isinstance(choices := schema.get("enum"), list) and choices:
        return choices[0]
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if depth == 0 or kind == "null":
        return None
    if kind == "object" or "properties" in schema:
        properties = schema.get("properties")
        parts = properties.items() if isinstance(properties, dict) else ()
        return {name: _fill(part, text, depth - 1) for name, part in parts}
    if kind == "array":
        return [_fill(schema.get("items", {}), text, depth - 1)]
    return {"integer": 1, "number": 0.5, "boolean": True}.get(str(kind), text)
