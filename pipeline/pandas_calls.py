"""Calls over pandas values: the place that `configure` describes, prompts per row, and the way to Arrow and back."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.calls import Place, local_path
from pipeline.catalog import open_catalog
from pipeline.column_plan import ColumnPlan
from pipeline.column_worker import run_columns
from pipeline.conditions import AiFunctionError
from pipeline.ddl import parse_type
from pipeline.errors import ConfigError
from pipeline.prompts import TextTemplate
from pipeline.readings import result_type
from pipeline.templates import load_templates
from pipeline.watch import Watcher

ENDPOINTS = "conf/endpoints.toml"  # read at the first call where `configure` was not called
_PIECE_ROWS = 4096
# What pandas has no other null for.
_DTYPES = {
    pa.bool_(): pd.BooleanDtype(),
    pa.int8(): pd.Int8Dtype(),
    pa.int16(): pd.Int16Dtype(),
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
}


class _Configured:
    """What `configure` was told."""

    def __init__(self) -> None:
        self.place: Place | None = None
        self.shows_progress = True


_configured = _Configured()


def configure(
    endpoints: str | Mapping[str, Any] | None = ENDPOINTS,
    *,
    default_endpoint: str | None = None,
    default_embedding_endpoint: str | None = None,
    templates: str | None = None,
    cache: str | None = None,
    progress: bool = True,
) -> None:
    """Says which endpoints there are: a file or nested tables, as for `register`. Raises ConfigError.

    `cache` is a folder whose answers are not bought again; `templates` a file of prompts over the shipped ones.
    """
    _configured.place = Place(
        catalog=open_catalog(endpoints),
        read_type=parse_type,
        templates=load_templates(templates),
        default_endpoint=default_endpoint,
        default_embedding_endpoint=default_embedding_endpoint,
        cache_path=local_path(cache),
    )
    _configured.shows_progress = progress


def place() -> Place:
    """Where pandas makes its calls; by `conf/endpoints.toml` where `configure` was not called and the file is there."""
    if _configured.place is None:
        configure(ENDPOINTS if Path(ENDPOINTS).exists() else None)
    assert _configured.place is not None
    return _configured.place


def run(plan: ColumnPlan, arrays: Sequence[pa.Array]) -> pa.Array:
    """The whole column; Ctrl-C ends its calls."""
    rows = len(arrays[0])
    pieces: list[pa.Array] = []
    batches = (tuple(array.slice(at, _PIECE_ROWS) for array in arrays) for at in range(0, rows, _PIECE_ROWS))
    with Watcher().rows(plan.function, rows, is_shown=_configured.shows_progress) as advance:
        for piece in run_columns(batches, plan):
            pieces.append(piece)
            advance(len(piece))
    return pa.concat_arrays(pieces) if pieces else pa.array([], result_type(plan.result))


def rendered(source: str, frame: pd.DataFrame) -> pd.Series:
    """A text per row; NULL where a column that the template reads is NULL."""
    try:
        template = TextTemplate(source)
    except ConfigError as exc:
        raise wrong_prompt(str(exc).removeprefix("[request] prompt: ")) from exc
    if unknown := sorted(set(template.columns) - {str(name) for name in frame.columns}):
        raise wrong_prompt(f"{', '.join(unknown)} is no column. Known: {listed(frame.columns)}")
    columns = [frame[name].to_numpy(object) for name in template.columns]
    texts: list[str | None] = []
    for at in range(len(frame)):
        row = {name: column[at] for name, column in zip(template.columns, columns, strict=True)}
        try:
            texts.append(None if any(_is_null(value) for value in row.values()) else template.render(row))
        except ValueError as exc:
            raise wrong_prompt(f"row {frame.index[at]}: {exc}") from exc
    return pd.Series(texts, index=frame.index, dtype=object)


def wrong_prompt(reason: str) -> AiFunctionError:
    """The error of a prompt that does not fit its frame."""
    return AiFunctionError("AI_FUNCTION_COMPILATION_ERROR", f"the prompt: {reason}.")


def to_array(series: pd.Series) -> pa.Array:
    """The values as Arrow holds them, pandas' nulls as nulls."""
    try:
        found = pa.array([None if _is_null(value) else value for value in series.to_numpy(object)])
    except (pa.ArrowInvalid, pa.ArrowTypeError) as exc:
        raise AiFunctionError("DATATYPE_MISMATCH", "the values are of several types that no column can hold.") from exc
    return found


def to_series(found: pa.Array, frame: pa.Array | None = None) -> pd.Series:
    """As pandas holds it; `frame` is the struct that it is a field of, whose nulls are nulls of the field."""
    if frame is not None and frame.null_count:
        found = pc.if_else(frame.is_valid(), found, pa.scalar(None, found.type))
    return pd.Series(found.to_pandas(types_mapper=_DTYPES.get))


def to_struct(found: pa.Array) -> pa.Array:
    """{response, error_message} of the JSON that stands for a VARIANT; an object in it is a dict."""
    rows = [None if text is None else json.loads(text) for text in found.to_pylist()]
    values = [[None if row is None else row.get(name) for row in rows] for name in ("response", "error_message")]
    return pa.StructArray.from_arrays([pa.array(each) for each in values], ["response", "error_message"])


def listed(names: "pd.Index[Any]") -> str:
    """Column names, for messages."""
    return ", ".join(str(name) for name in names[:50])


def _is_null(value: Any) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value)
