"""The functions beside `ai_query`: a template each, and structured output where it helps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyspark.sql.types import ArrayType, BooleanType, DataType, FloatType, StringType, StructField, StructType

from pipeline.arguments import Parameter, constant, wrong_type
from pipeline.calls import Planned, default_endpoint, planned, to_udf
from pipeline.conditions import AiFunctionError
from pipeline.local_functions import cosine_udf, count_udf
from pipeline.questions import QuestionSpec
from pipeline.readings import ResultSpec
from pipeline.records import Task
from pipeline.templates import template_of

SENTIMENTS = ("positive", "negative", "neutral", "mixed")
LABELS = (2, 20)  # of ai_classify, as the original allows
_NONE = "none of these"

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


def _asked(
    name: str,
    column: str,
    result: ResultSpec,
    kind: DataType,
    values: Values | None = None,
    schema: Values | None = None,
) -> Planned:
    """A chat call with the function's template."""
    template = template_of(name)
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
    return Local(cosine_udf, _embed({}, {}))


def _count_tokens(values: Values, types: Types) -> Local:
    return Local(count_udf)


def _labels(function: str, values: Values, least: int = 1, most: int = 500) -> list[str]:
    labels = constant(function, values, "labels", list, [])
    if not all(isinstance(label, str) and label.strip() for label in labels):
        raise wrong_type(function, "labels", "an ARRAY<STRING> without NULL or blanks")
    if not least <= len(labels) <= most or len({label.casefold() for label in labels}) < len(labels):
        raise wrong_type(function, "labels", f"{least} to {most} different strings")
    return list(labels)


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
BY_NAME = {sibling.name: sibling for sibling in SIBLINGS}
