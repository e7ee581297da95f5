"""Every function by name, and those beside `ai_query`: a template each, structured output where it helps; no Spark."""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from pipeline.arguments import MapValue, Parameter, constant, wrong_type
from pipeline.calls import AI_QUERY, Place, asked, plan_ai_query, planned
from pipeline.column_plan import ColumnPlan
from pipeline.conditions import AiFunctionError
from pipeline.json_functions import plan_classify, plan_extract
from pipeline.local_functions import cosines, token_counts
from pipeline.questions import QuestionSpec
from pipeline.readings import ResultSpec
from pipeline.records import Task

SENTIMENTS = ("positive", "negative", "neutral", "mixed")
LABELS = (2, 20)  # of ai_classify, as the original allows
_NONE = "none of these"

_CONTENT = Parameter("content", is_constant=False, is_required=True)
_DOCUMENT = Parameter("content", is_constant=False, is_required=True, takes_variant=True)
_LABELS = Parameter("labels", is_required=True)
_TEXT = ResultSpec(pa.string())


@dataclass(frozen=True, slots=True)
class Finish:
    """A call without questions of its own: `compute` makes the column of its arguments, or of each one's answers."""

    function: str
    kind: pa.DataType
    compute: Callable[..., pa.Array]
    each: ColumnPlan | None = None


Call = ColumnPlan | Finish
Values = Mapping[str, Any]
Types = Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Function:
    """A function by its SQL name; `plan` takes the constants, and the row arguments' types as Spark writes them."""

    name: str
    parameters: tuple[Parameter, ...]
    plan: Callable[[Place, Values, Types], Call]
    takes_text: bool = True  # its row arguments are texts


def _gen(place: Place, values: Values, types: Types) -> ColumnPlan:
    question = QuestionSpec(Task.CHAT, ("prompt",), is_blank_null=True)
    return planned(place, "ai_gen", place.endpoint_for(Task.CHAT), question, _TEXT, {})


def _summarize(place: Place, values: Values, types: Types) -> ColumnPlan:
    words = constant("ai_summarize", values, "max_words", int, 50)
    if words < 0:
        raise AiFunctionError("AI_FUNCTION_INVALID_MAX_WORDS", f"`max_words` is {words}; it must be 0 or more.")
    return asked(place, "ai_summarize", "content", _TEXT, {"max_words": words})


def _translate(place: Place, values: Values, types: Types) -> ColumnPlan:
    language = constant("ai_translate", values, "to_lang", str, "")
    if not language.strip():
        raise wrong_type("ai_translate", "to_lang", "a language, like 'en'")
    return asked(place, "ai_translate", "content", _TEXT, {"to_lang": language})


def _fix_grammar(place: Place, values: Values, types: Types) -> ColumnPlan:
    return asked(place, "ai_fix_grammar", "content", _TEXT)


def _mask(place: Place, values: Values, types: Types) -> ColumnPlan:
    return asked(place, "ai_mask", "content", _TEXT, {"labels": _labels("ai_mask", values)})


def _classify(place: Place, values: Values, types: Types) -> ColumnPlan:
    if isinstance(values.get("labels"), str):
        return plan_classify(place, values)
    _no_options("ai_classify", values)
    labels = _labels("ai_classify", values, *LABELS)
    result = ResultSpec(pa.string(), "label", tuple(labels))
    schema = {"label": {"type": "string", "enum": [*labels, _NONE]}}
    return asked(place, "ai_classify", "content", result, {"labels": labels, "none": _NONE}, schema)


def _sentiment(place: Place, values: Values, types: Types) -> ColumnPlan:
    schema = {"sentiment": {"type": "string", "enum": list(SENTIMENTS)}}
    return asked(place, "ai_analyze_sentiment", "content", ResultSpec(pa.string(), "label", SENTIMENTS), None, schema)


def _extract(place: Place, values: Values, types: Types) -> ColumnPlan:
    if isinstance(values.get("labels"), str):
        return plan_extract(place, values)
    _no_options("ai_extract", values)
    labels = _labels("ai_extract", values)
    result = ResultSpec(pa.struct([(label, pa.string()) for label in labels]), "typed")
    schema = {label: {"type": ["string", "null"]} for label in labels}
    return asked(place, "ai_extract", "content", result, {"labels": labels}, schema)


def _filter(place: Place, values: Values, types: Types) -> ColumnPlan:
    result = ResultSpec(pa.bool_(), "typed_or_null")
    return asked(place, "ai_filter", "predicate", result, None, {"answer": {"type": "boolean"}})


def _embed(place: Place, values: Values, types: Types) -> ColumnPlan:
    question = QuestionSpec(Task.EMBEDDING, ("content",), is_blank_null=True)
    result = ResultSpec(pa.list_(pa.float32()), "vector")
    return planned(place, "ai_embed", place.endpoint_for(Task.EMBEDDING), question, result, {})


def _similarity(place: Place, values: Values, types: Types) -> Finish:
    return Finish("ai_similarity", pa.float32(), cosines, _embed(place, {}, {}))


def _count_tokens(place: Place, values: Values, types: Types) -> Finish:
    return Finish("ai_count_tokens", pa.int32(), token_counts)


def _no_options(function: str, values: Values) -> None:
    if values.get("options") is not None:
        raise wrong_type(function, "options", "left out where `labels` is an ARRAY; they are for labels in JSON")


def _labels(function: str, values: Values, least: int = 1, most: int = 500) -> list[str]:
    labels = constant(function, values, "labels", list, [])
    if not all(isinstance(label, str) and label.strip() for label in labels):
        raise wrong_type(function, "labels", "an ARRAY<STRING> without NULL or blanks")
    if not least <= len(labels) <= most or len({label.casefold() for label in labels}) < len(labels):
        raise wrong_type(function, "labels", f"{least} to {most} different strings")
    return list(labels)


def labelled(labels: Any, options: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The constants of a function of labels: a mapping stands for its JSON, which is version 2.

    What is neither text nor a collection stays as it is, for the check of constants.
    """
    given = json.dumps(dict(labels)) if isinstance(labels, Mapping) else labels
    values = {"labels": list(given) if isinstance(given, Collection) and not isinstance(given, str) else given}
    return values if options is None else {**values, "options": MapValue(options)}


FUNCTIONS = (
    Function("ai_query", AI_QUERY, plan_ai_query, takes_text=False),
    Function("ai_gen", (Parameter("prompt", is_constant=False, is_required=True),), _gen),
    Function("ai_classify", (_DOCUMENT, _LABELS, Parameter("options")), _classify),
    Function("ai_extract", (_DOCUMENT, replace(_LABELS, other_name="schema"), Parameter("options")), _extract),
    Function("ai_summarize", (_CONTENT, Parameter("max_words")), _summarize),
    Function("ai_translate", (_CONTENT, Parameter("to_lang", is_required=True)), _translate),
    Function(
        "ai_similarity",
        tuple(Parameter(name, is_constant=False, is_required=True) for name in ("expr1", "expr2")),
        _similarity,
    ),
    Function("ai_mask", (_CONTENT, _LABELS), _mask),
    Function("ai_fix_grammar", (_CONTENT,), _fix_grammar),
    Function("ai_analyze_sentiment", (_CONTENT,), _sentiment),
    Function("ai_embed", (_CONTENT,), _embed),
    Function("ai_filter", (Parameter("predicate", is_constant=False, is_required=True),), _filter),
    Function("ai_count_tokens", (_CONTENT,), _count_tokens),
)
BY_NAME = {function.name: function for function in FUNCTIONS}
