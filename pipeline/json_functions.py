"""Version 2 of `ai_classify` and `ai_extract`: labels and fields as JSON, answers as VARIANT {response, error_message}."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.arguments import MapValue, constant, wrong_type
from pipeline.calls import Place, asked
from pipeline.column_plan import ColumnPlan
from pipeline.conditions import AiFunctionError
from pipeline.readings import VARIANT_TEXT, ResultSpec

# Limits of the original (ai_query 6).
MOST_LABELS, MOST_LABEL_CHARS, MOST_DESCRIPTION_CHARS, MOST_INSTRUCTION_CHARS = 500, 100, 1_000, 20_000
MOST_FIELDS, MOST_FIELD_CHARS, MOST_LEVELS, MOST_ENUM = 256, 150, 12, 500
_SCALARS = ("string", "integer", "number", "boolean")

Values = Mapping[str, Any]


def plan_classify(place: Place, values: Values) -> ColumnPlan:
    """Labels as a JSON array, or as an object of label and description. Raises AiFunctionError."""
    options = _options("ai_classify", values, ("version", "instructions", "multilabel"))
    labels = _labels(values["labels"])
    is_multiple = _flag("ai_classify", options, "multilabel")
    result = ResultSpec(VARIANT_TEXT, "labels", tuple(labels), fails=False, is_variant=True, has_many=is_multiple)
    asks = {
        "labels": [{"name": name, "description": description} for name, description in labels.items()],
        "multilabel": is_multiple,
        "instructions": options.get("instructions", ""),
    }
    schema = {"labels": {"type": "array", "items": {"type": "string", "enum": list(labels)}}}
    return asked(place, "ai_classify", "content", result, asks, schema, template="ai_classify_json")


def plan_extract(place: Place, values: Values) -> ColumnPlan:
    """Fields as a JSON array of names, as an object of name and description of type, or as a JSON schema of an object.

    Raises AiFunctionError.
    """
    options = _options("ai_extract", values, ("version", "instructions"))
    fields = _fields(_json("ai_extract", "labels", values["labels"]))
    properties = {name: _nullable(field, 1) for name, field in fields.items()}
    if sum(1 for field in properties.values() for _ in _each(field)) > MOST_FIELDS:
        raise _wrong_schema(f"has more than {MOST_FIELDS} fields")
    schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    result = ResultSpec(VARIANT_TEXT, "json", fails=False, is_variant=True, schema=json.dumps(schema))
    asks = {"schema": json.dumps(properties, ensure_ascii=False), "instructions": options.get("instructions", "")}
    return asked(place, "ai_extract", "content", result, asks, properties, template="ai_extract_json")


def _options(function: str, values: Values, known: tuple[str, ...]) -> dict[str, str]:
    options: dict[str, str] = dict(constant(function, values, "options", MapValue, {}))
    if unknown := sorted(set(options) - set(known)):
        raise wrong_type(function, "options", f"a MAP of {', '.join(known)}; it has {', '.join(unknown)}")
    if not all(isinstance(value, str) for value in options.values()):
        raise wrong_type(function, "options", "a MAP<STRING, STRING> without NULL")
    if options.get("version", "2.0") not in ("2.0", "2"):
        raise wrong_type(function, "options", "of version 2.0 where `labels` is JSON; an ARRAY of labels is version 1")
    if len(options.get("instructions", "")) > MOST_INSTRUCTION_CHARS:
        raise wrong_type(function, "options", f"with instructions of at most {MOST_INSTRUCTION_CHARS:,} characters")
    return options


def _flag(function: str, options: Mapping[str, str], name: str) -> bool:
    told = options.get(name, "false").lower()
    if told not in ("true", "false"):
        raise wrong_type(function, "options", f"with {name} of 'true' or 'false'")
    return told == "true"


def _json(function: str, name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise wrong_type(function, name, "an ARRAY<STRING>, or JSON in a STRING") from None


def _labels(text: str) -> dict[str, str]:
    """Label to description, which may be empty."""
    given = _json("ai_classify", "labels", text)
    labels = dict.fromkeys(given, "") if isinstance(given, list) and all(map(_is_text, given)) else given
    if not isinstance(labels, dict) or not all(isinstance(value, str | None) for value in labels.values()):
        raise wrong_type("ai_classify", "labels", "a JSON array of labels, or an object of label and description")
    if len({name.casefold() for name in labels}) < max(2, len(given)) or len(labels) > MOST_LABELS:
        raise wrong_type("ai_classify", "labels", f"2 to {MOST_LABELS} different labels")
    if not all(name.strip() and len(name) <= MOST_LABEL_CHARS for name in labels):
        raise wrong_type("ai_classify", "labels", f"labels of 1 to {MOST_LABEL_CHARS} characters")
    if any(len(value or "") > MOST_DESCRIPTION_CHARS for value in labels.values()):
        raise wrong_type("ai_classify", "labels", f"described in at most {MOST_DESCRIPTION_CHARS:,} characters each")
    return {name: value or "" for name, value in labels.items()}


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _fields(given: Any) -> dict[str, Any]:
    if isinstance(given, list) and given and all(map(_is_text, given)) and len(set(given)) == len(given):
        given = {name: {"type": "string"} for name in given}
    elif isinstance(given, dict) and given.get("type") == "object" and isinstance(given.get("properties"), dict):
        given = given["properties"]
    if not isinstance(given, dict) or not given:
        raise _wrong_schema("is no JSON array of field names and no object of fields")
    return given


def _nullable(field: Any, level: int) -> dict[str, Any]:
    """The field's JSON schema, in the subset that strict structured output takes; every value may be null."""
    if not isinstance(field, dict):
        raise _wrong_schema("describes a field by something else than an object with a `type`")
    if level > MOST_LEVELS:
        raise _wrong_schema(f"is nested deeper than {MOST_LEVELS} levels")
    told = {"description": field["description"]} if isinstance(field.get("description"), str) else {}
    kind = field.get("type", "enum" if "enum" in field else "string")
    choices = field.get("enum", field.get("labels"))
    if choices is not None or kind == "enum":
        if not isinstance(choices, list) or not choices or not all(map(_is_text, choices)) or len(choices) > MOST_ENUM:
            raise _wrong_schema(f"has an enum that is not 1 to {MOST_ENUM} strings")
        return {**told, "type": ["string", "null"], "enum": [*choices, None]}
    if kind == "object":
        properties = {name: _nullable(inner, level + 1) for name, inner in _fields(field.get("properties")).items()}
        shape = {"properties": properties, "required": list(properties), "additionalProperties": False}
        return {**told, "type": ["object", "null"], **shape}
    if kind == "array":
        return {**told, "type": ["array", "null"], "items": _nullable(field.get("items", {}), level + 1)}
    if kind in _SCALARS:
        return {**told, "type": [kind, "null"]}
    raise _wrong_schema(f"has a `type` that is none of {', '.join((*_SCALARS, 'enum', 'object', 'array'))}")


def _each(field: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield field
    for name, inner in field.get("properties", {}).items():
        if len(name) > MOST_FIELD_CHARS:
            raise _wrong_schema(f"has a field name of more than {MOST_FIELD_CHARS} characters")
        yield from _each(inner)
    if "items" in field:
        yield from _each(field["items"])


def _wrong_schema(why: str) -> AiFunctionError:
    return AiFunctionError("DATATYPE_MISMATCH", f"The schema of `ai_extract` {why}.")
