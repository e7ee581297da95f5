"""From outcomes to the column that a function returns: plain, in the envelope, or with details. Pure."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from pipeline.conditions import AiFunctionError
from pipeline.json_schemas import mistake
from pipeline.moments import zone_of
from pipeline.records import Outcome, Usage
from pipeline.result_types import NotOfType, json_text, parse, unfenced

Reading = Literal["text", "json", "json_object", "typed", "typed_or_null", "label", "labels", "vector"]
VARIANT_TEXT = pa.string()  # what travels for a VARIANT: its JSON

_DETAILS: tuple[tuple[str, pa.DataType], ...] = (
    ("usage", pa.struct([(name, pa.int64()) for name in Usage._fields])),
    ("finish_reason", pa.string()),
    ("model", pa.string()),
    ("attempts", pa.int32()),
    ("request_id", pa.string()),
    ("status", pa.int32()),
)
_OK = 200  # of an answer: which 2xx it was is not kept


@dataclass(frozen=True, slots=True)
class ResultSpec:
    """What a call returns; `kind` is T.

    `typed_or_null` and `label` give null where the answer fits no value, the others fail the row. An answer read as JSON
    or as a type keeps the `schema`. `is_variant`: the column is the JSON of {response, error_message}.
    """

    kind: pa.DataType
    reading: Reading = "text"
    labels: tuple[str, ...] = ()
    fails: bool = True
    has_details: bool = False
    schema: str | None = None
    is_variant: bool = False
    has_many: bool = False  # several labels may fit
    zone: str = "UTC"  # of a time that names none

    @property
    def is_struct(self) -> bool:
        """Whether T comes in STRUCT<result: T, errorMessage: STRING, ...>."""
        return not self.is_variant and (self.has_details or not self.fails)


@dataclass(frozen=True, slots=True)
class Cell:
    """One finished row; all None for a NULL request."""

    value: Any = None
    message: str | None = None
    outcome: Outcome | None = None


def result_type(spec: ResultSpec) -> pa.DataType:
    """The type of the whole column."""
    if not spec.is_struct:
        return spec.kind
    fields = [("result", spec.kind), ("errorMessage", pa.string())]
    return pa.struct([*fields, *(_DETAILS if spec.has_details else ())])


def value_of(response: Any, spec: ResultSpec) -> Any:
    """The answer as T. Raises AiFunctionError where it does not fit; the message shows nothing of it."""
    if spec.reading in ("text", "vector"):
        return response
    try:
        if spec.reading == "label":
            return _label(response, spec.labels)
        if spec.reading == "labels":
            return _fitting(response, spec)
        if spec.schema is not None:
            _keep(response, spec.schema)
        if spec.reading in ("json", "json_object"):
            return json_text(response, is_object=spec.reading == "json_object")
        return parse(response, spec.kind, zone_of(spec.zone))
    except NotOfType as exc:
        if spec.reading == "typed_or_null":
            return None
        word = "COLUMNS" if exc.is_columns else "CAST"
        raise AiFunctionError(f"AI_FUNCTION_HTTP_PARSE_{word}_ERROR", f"{exc}.") from None


def to_array(cells: Sequence[Cell], spec: ResultSpec) -> pa.Array:
    """The column of these rows, of `result_type(spec)`."""
    if spec.is_variant:
        return pa.array([_variant_text(cell) for cell in cells], type=spec.kind)
    values = [cell.value for cell in cells]
    result = _vectors(values, spec.kind) if spec.reading == "vector" else pa.array(values, type=spec.kind)
    if not spec.is_struct:
        return result
    arrays = [result, pa.array([cell.message for cell in cells], type=pa.string())]
    if spec.has_details:
        details = [_details(cell.outcome) for cell in cells]
        arrays += [pa.array([row[name] for row in details], type=kind) for name, kind in _DETAILS]
    return pa.StructArray.from_arrays(arrays, fields=list(result_type(spec)))


def _vectors(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Lists of floats without a Python object per number."""
    lengths = [0 if value is None else len(value) for value in values]
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    present = [value for value in values if value is not None]
    width = np.float64 if pa.types.is_float64(kind.value_type) else np.float32
    flat = np.concatenate(present).astype(width, copy=False) if present else np.empty(0, width)
    mask = pa.array([value is None for value in values], pa.bool_())
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat), type=kind, mask=mask)


def _details(outcome: Outcome | None) -> dict[str, Any]:
    if outcome is None:
        return {name: None for name, _ in _DETAILS}
    return {
        "usage": outcome.usage._asdict(),
        "finish_reason": outcome.finish_reason,
        "model": outcome.model,
        "attempts": outcome.attempts,
        "request_id": outcome.request_id,
        "status": _OK if outcome.error is None else outcome.error.status,
    }


def _label(text: str, labels: Sequence[str]) -> str | None:
    """The label that the answer names, bare or as the only field of an object; None for any other."""
    try:
        told = _bare(text)
    except NotOfType:
        return None
    by_name = {label.casefold(): label for label in labels}
    return by_name.get(told.strip().strip("\"'.").casefold())


def _bare(text: str) -> str:
    try:
        inner = json_text(text, is_object=True)
    except NotOfType:
        return unfenced(text)
    values = [value for _, value in parse(inner, pa.map_(pa.string(), pa.string()))]
    if len(values) != 1 or values[0] is None:
        raise NotOfType("the answer names no label")
    return str(values[0])


def _keep(text: str, schema: str) -> None:
    """Raises NotOfType where the answer breaks the schema."""
    told = mistake(json.loads(json_text(text, is_object=False)), schema)
    if told is not None:
        raise NotOfType(told)


def _fitting(text: str, spec: ResultSpec) -> str:
    """JSON of the labels that the answer names, in its order, each once."""
    names = json.loads(json_text(text, is_object=True)).get("labels")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise NotOfType("the answer has no array of labels")
    by_name = {label.casefold(): label for label in spec.labels}
    found = list(dict.fromkeys(by_name.get(name.strip().casefold()) for name in names))
    if None in found:
        raise NotOfType("the answer names a label that is none of the given ones")
    if len(found) > 1 and not spec.has_many:
        raise NotOfType(f"the answer names {len(found)} labels where one was asked for")
    return json.dumps(found, ensure_ascii=False)


def _variant_text(cell: Cell) -> str | None:
    """`value` is JSON already; null for a NULL request."""
    if cell.value is None and cell.message is None:
        return None
    return f'{{"response":{cell.value or "null"},"error_message":{json.dumps(cell.message, ensure_ascii=False)}}}'
