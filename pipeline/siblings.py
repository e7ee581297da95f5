"""The functions beside `ai_query`, as columns and for SQL: a template each, and structured output where it helps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, BooleanType, DataType, FloatType, StringType, StructField, StructType

from pipeline.arguments import Parameter, constant, wrong_type
from pipeline.conditions import AiFunctionError
from pipeline.config import read_toml
from pipeline.errors import ConfigError
from pipeline.functions import Planned, as_column, default_endpoint, let_output_flow, planned, to_udf
from pipeline.prompts import PromptSpec, prompt_columns
from pipeline.questions import QuestionSpec
from pipeline.readings import ResultSpec
from pipeline.records import Task
from pipeline.tokens import estimate_tokens

SENTIMENTS = ("positive", "negative", "neutral", "mixed")
LABELS = (2, 20)  # of ai_classify, as the original allows
_NONE = "none of these"
_SHIPPED = Path(__file__).with_name("templates.toml")

_CONTENT = Parameter("content", is_constant=False, is_required=True)
_LABELS = Parameter("labels", is_required=True)


@dataclass(frozen=True, slots=True)
class Local:
    """A call that a plain UDF finishes: over the arguments, or over what `each` makes of every one of them."""

    udf: Callable[[], Any]
    each: Planned | None = None


Call = Planned | Local
Values = Mapping[str, Any]
Types = Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Sibling:
    """A function by its SQL name."""

    name: str
    parameters: tuple[Parameter, ...]
    plan: Callable[[Values, Types], Call]


def invoke(call: Call, arguments: Sequence[Any], apply: Callable[[Any, Sequence[Any]], Any]) -> Any:
    """The call over its arguments; `apply` gives a UDF its arguments, as columns or as expressions."""
    if isinstance(call, Planned):
        return apply(to_udf(call), arguments)
    if call.each is not None:
        arguments = [apply(to_udf(call.each), [argument]) for argument in arguments]
    return apply(call.udf(), arguments)


# -- templates

_templates: dict[str, dict[str, str]] = {}


def use_templates(path: str | None) -> None:
    """The shipped templates, with those of a file laid over them. Raises ConfigError."""
    templates = {name: dict(table) for name, table in read_toml(str(_SHIPPED)).items()}
    for name, table in (read_toml(path) if path is not None else {}).items():
        if name not in templates:
            raise ConfigError(f"{path}: [{name}]: unknown function. Known: {', '.join(sorted(templates))}")
        wrong = [key for key in table if key not in ("prompt", "system")]
        if wrong or not all(isinstance(value, str) and value.strip() for value in table.values()):
            raise ConfigError(f"{path}: [{name}]: holds prompt and system, both strings, and nothing else")
        known = prompt_columns(PromptSpec(Task.CHAT, template=templates[name]["prompt"]))
        used = prompt_columns(PromptSpec(Task.CHAT, template=table.get("prompt"), system=table.get("system")))
        if unknown := sorted(set(used) - set(known)):
            raise ConfigError(f"{path}: [{name}]: {', '.join(unknown)} is no argument. Known: {', '.join(known)}")
        templates[name].update(table)
    _templates.clear()
    _templates.update(templates)


def _asked(
    name: str,
    column: str,
    result: ResultSpec,
    kind: DataType,
    values: Values | None = None,
    schema: Values | None = None,
) -> Planned:
    """A chat call with the function's template."""
    if not _templates:
        use_templates(None)
    template = _templates[name]
    question = QuestionSpec(
        Task.CHAT,
        (column,),
        template=template["prompt"].strip(),
        system=template.get("system"),
        values=dict(values or {}),
        is_blank_null=True,
    )
    return planned(name, default_endpoint(Task.CHAT), question, result, kind, _format(name, schema))


def _format(name: str, properties: Values | None) -> dict[str, Any]:
    if properties is None:
        return {}
    schema = {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }
    inner = {"name": name, "strict": True, "schema": schema}
    return {"response_format": {"type": "json_schema", "json_schema": inner}}


# -- plans

_TEXT = ResultSpec(pa.string())


def _gen(values: Values, types: Types) -> Planned:
    question = QuestionSpec(Task.CHAT, ("prompt",), is_blank_null=True)
    return planned("ai_gen", default_endpoint(Task.CHAT), question, _TEXT, StringType(), {})


def _summarize(values: Values, types: Types) -> Planned:
    words = constant("ai_summarize", values, "max_words", int, 50)
    if words < 0:
        raise AiFunctionError("AI_FUNCTION_INVALID_MAX_WORDS", f"`max_words` is {words}; it must be 0 or more.")
    return _asked("ai_summarize", "content", _TEXT, StringType(), {"max_words": words})


def _translate(values: Values, types: Types) -> Planned:
    language = constant("ai_translate", values, "to_lang", str, "")
    if not language.strip():
        raise wrong_type("ai_translate", "to_lang", "a language, like 'en'")
    return _asked("ai_translate", "content", _TEXT, StringType(), {"to_lang": language})


def _fix_grammar(values: Values, types: Types) -> Planned:
    return _asked("ai_fix_grammar", "content", _TEXT, StringType())


def _mask(values: Values, types: Types) -> Planned:
    return _asked("ai_mask", "content", _TEXT, StringType(), {"labels": _labels("ai_mask", values)})


def _classify(values: Values, types: Types) -> Planned:
    labels = _labels("ai_classify", values, *LABELS)
    result = ResultSpec(pa.string(), "label", tuple(labels))
    schema = {"label": {"type": "string", "enum": [*labels, _NONE]}}
    return _asked("ai_classify", "content", result, StringType(), {"labels": labels, "none": _NONE}, schema)


def _sentiment(values: Values, types: Types) -> Planned:
    schema = {"sentiment": {"type": "string", "enum": list(SENTIMENTS)}}
    return _asked(
        "ai_analyze_sentiment", "content", ResultSpec(pa.string(), "label", SENTIMENTS), StringType(), None, schema
    )


def _extract(values: Values, types: Types) -> Planned:
    labels = _labels("ai_extract", values)
    kind = StructType([StructField(label, StringType()) for label in labels])
    result = ResultSpec(pa.struct([(label, pa.string()) for label in labels]), "typed")
    schema = {label: {"type": ["string", "null"]} for label in labels}
    return _asked("ai_extract", "content", result, kind, {"labels": labels}, schema)


def _filter(values: Values, types: Types) -> Planned:
    result = ResultSpec(pa.bool_(), "typed_or_null")
    return _asked("ai_filter", "predicate", result, BooleanType(), None, {"answer": {"type": "boolean"}})


def _embed(values: Values, types: Types) -> Planned:
    question = QuestionSpec(Task.EMBEDDING, ("content",), is_blank_null=True)
    result = ResultSpec(pa.list_(pa.float32()), "vector")
    return planned("ai_embed", default_endpoint(Task.EMBEDDING), question, result, ArrayType(FloatType()), {})


def _similarity(values: Values, types: Types) -> Local:
    return Local(_cosine_udf, _embed({}, {}))


def _count_tokens(values: Values, types: Types) -> Local:
    return Local(_count_udf)


def _labels(function: str, values: Values, least: int = 1, most: int = 500) -> list[str]:
    labels = constant(function, values, "labels", list, [])
    if not all(isinstance(label, str) and label.strip() for label in labels):
        raise wrong_type(function, "labels", "an ARRAY<STRING> without NULL or blanks")
    if not least <= len(labels) <= most or len({label.casefold() for label in labels}) < len(labels):
        raise wrong_type(function, "labels", f"{least} to {most} different strings")
    return list(labels)


def _cosine_udf() -> Any:
    def ai_similarity(left: pa.Array, right: pa.Array) -> pa.Array:
        values = [
            None if one is None or other is None else _cosine(one, other)
            for one, other in zip(_vectors(left), _vectors(right), strict=True)
        ]
        return pa.array(values, pa.float32())

    return F.arrow_udf(ai_similarity, FloatType())


def _vectors(array: pa.Array) -> list[Any]:
    return [item.values.to_numpy(zero_copy_only=False) if item.is_valid else None for item in array]


def _cosine(one: Any, other: Any) -> float | None:
    length = float(np.linalg.norm(one)) * float(np.linalg.norm(other))
    return float(np.dot(one, other)) / length if length and len(one) == len(other) else None


def _count_udf() -> Any:
    def ai_count_tokens(content: pa.Array) -> pa.Array:
        counts = [None if text is None else estimate_tokens(text) if text else 0 for text in content.to_pylist()]
        return pa.array(counts, pa.int32())

    return F.arrow_udf(ai_count_tokens, "int")


SIBLINGS = (
    Sibling("ai_gen", (Parameter("prompt", is_constant=False, is_required=True),), _gen),
    Sibling("ai_classify", (_CONTENT, _LABELS), _classify),
    Sibling("ai_extract", (_CONTENT, _LABELS), _extract),
    Sibling("ai_summarize", (_CONTENT, Parameter("max_words")), _summarize),
    Sibling("ai_translate", (_CONTENT, Parameter("to_lang", is_required=True)), _translate),
    Sibling(
        "ai_similarity",
        tuple(Parameter(name, is_constant=False, is_required=True) for name in ("expr1", "expr2")),
        _similarity,
    ),
    Sibling("ai_mask", (_CONTENT, _LABELS), _mask),
    Sibling("ai_fix_grammar", (_CONTENT,), _fix_grammar),
    Sibling("ai_analyze_sentiment", (_CONTENT,), _sentiment),
    Sibling("ai_embed", (_CONTENT,), _embed),
    Sibling("ai_filter", (Parameter("predicate", is_constant=False, is_required=True),), _filter),
    Sibling("ai_count_tokens", (_CONTENT,), _count_tokens),
)

# -- columns; NULL and blank contents ask nothing and give NULL


def ai_gen(prompt: Column | str) -> Column:
    """The answer to a prompt; STRING."""
    return _over(_gen({}, {}), prompt)


def ai_classify(content: Column | str, labels: Sequence[str]) -> Column:
    """The label that fits best, NULL where none does; STRING. 2 to 20 labels."""
    return _over(_classify({"labels": list(labels)}, {}), content)


def ai_extract(content: Column | str, labels: Sequence[str]) -> Column:
    """One candidate per label, NULL where the text names none; STRUCT of STRING."""
    return _over(_extract({"labels": list(labels)}, {}), content)


def ai_summarize(content: Column | str, max_words: int = 50) -> Column:
    """A summary of about so many words, 0 for any length; STRING."""
    return _over(_summarize({"max_words": max_words}, {}), content)


def ai_translate(content: Column | str, to_lang: str) -> Column:
    """The text in another language, by code or name; STRING."""
    return _over(_translate({"to_lang": to_lang}, {}), content)


def ai_similarity(expr1: Column | str, expr2: Column | str) -> Column:
    """The cosine of two texts' embeddings, 1.0 for equal ones; FLOAT, NULL if either is NULL."""
    return _over(_similarity({}, {}), expr1, expr2)


def ai_mask(content: Column | str, labels: Sequence[str]) -> Column:
    """The text with what the labels name as [MASKED]; STRING."""
    return _over(_mask({"labels": list(labels)}, {}), content)


def ai_fix_grammar(content: Column | str) -> Column:
    """The text without mistakes; STRING."""
    return _over(_fix_grammar({}, {}), content)


def ai_analyze_sentiment(content: Column | str) -> Column:
    """Positive, negative, neutral or mixed in lower case, NULL for any other answer; STRING."""
    return _over(_sentiment({}, {}), content)


def ai_embed(content: Column | str) -> Column:
    """The text's vector; ARRAY<FLOAT>."""
    return _over(_embed({}, {}), content)


def ai_filter(predicate: Column | str) -> Column:
    """Whether a statement about the row is true, NULL where the answer is neither; BOOLEAN."""
    return _over(_filter({}, {}), predicate)


def ai_count_tokens(content: Column | str) -> Column:
    """An estimate of the text's tokens, without a call; INT."""
    return _over(_count_tokens({}, {}), content)


def _over(call: Call, *columns: Column | str) -> Column:
    let_output_flow()
    made: Column = invoke(call, [as_column(column) for column in columns], lambda udf, arguments: udf(*arguments))
    return made
