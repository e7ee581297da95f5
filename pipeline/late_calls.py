"""Calls whose constants arrive as columns, where a function has one type for all calls: SQL over Spark Connect.

Spark Connect registers a function by name with one return type, and plans it without looking at its arguments. So the
call is planned by the worker, from the first row of its partition.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.arguments import MapValue, bind, not_constant
from pipeline.calls import Place
from pipeline.column_plan import ColumnPlan
from pipeline.column_worker import run_columns
from pipeline.conditions import AiFunctionError
from pipeline.siblings import BY_NAME, Finish

# The one type of each function; ai_extract's fields are keys, since they differ from call to call.
FIXED_TYPES: Mapping[str, pa.DataType] = {
    **dict.fromkeys(
        (
            *("ai_query", "ai_gen", "ai_classify", "ai_summarize", "ai_translate", "ai_mask", "ai_fix_grammar"),
            "ai_analyze_sentiment",
        ),
        pa.string(),
    ),
    "ai_extract": pa.map_(pa.string(), pa.string()),
    "ai_filter": pa.bool_(),
    "ai_embed": pa.list_(pa.float32()),
    "ai_similarity": pa.float32(),
    "ai_count_tokens": pa.int32(),
}


def run_late(
    batches: Iterable[pa.Array | tuple[pa.Array, ...]], *, name: str, place: Place, folder: Path | None = None
) -> Iterator[pa.Array]:
    """The results of a call by its SQL name, as `run_columns`. Raises AiFunctionError for a call that is wrong.

    Arguments are by position. Those that must be constant have to be the same in all rows of the partition.
    """
    tuples = (batch if isinstance(batch, tuple) else (batch,) for batch in batches)
    filled = (arrays for arrays in tuples if len(arrays[0]))
    first = next(filled, None)
    if first is None:
        return
    function = BY_NAME[name]
    bound = bind(name, function.parameters, [(None, index) for index in range(len(first))])
    constants = {p.name: bound[p.name] for p in function.parameters if p.is_constant and p.name in bound}
    rows = [bound[p.name] for p in function.parameters if not p.is_constant and p.name in bound]
    values = {name: _value(first[index]) for name, index in constants.items()}
    call = function.plan(place, values, {function.parameters[index].name: None for index in rows})
    asked = _rows_of(name, chain([first], filled), constants, values, rows)
    if isinstance(call, Finish):
        yield from _finished(call, asked)
    else:
        yield from run_columns(asked, _of_type(name, call), folder=folder)


def _rows_of(
    name: str,
    batches: Iterable[tuple[pa.Array, ...]],
    constants: Mapping[str, int],
    values: Mapping[str, Any],
    rows: Sequence[int],
) -> Iterator[tuple[pa.Array, ...]]:
    for arrays in batches:
        for parameter, index in constants.items():
            if not _is_constant(arrays[index], values[parameter]):
                raise not_constant(name, parameter)
        yield tuple(arrays[index] for index in rows)


def _value(array: pa.Array) -> Any:
    value = array[0].as_py()
    return MapValue(value) if pa.types.is_map(array.type) and value is not None else value


def _is_constant(array: pa.Array, value: Any) -> bool:
    if pa.types.is_map(array.type):
        return all(each is not None and dict(each) == value for each in array.to_pylist())
    if pa.types.is_nested(array.type):
        return all(each == value for each in array.to_pylist())
    return bool(array.unique().to_pylist() == [value])


def _finished(call: Finish, batches: Iterable[tuple[pa.Array, ...]]) -> Iterator[pa.Array]:
    for arrays in batches:
        each = call.each
        if each is not None:
            arrays = tuple(pa.concat_arrays(list(run_columns([array], each))) for array in arrays)
        yield call.compute(*arrays)


def _of_type(name: str, plan: ColumnPlan) -> ColumnPlan:
    """The plan with the function's one type. Raises AiFunctionError where the call asks for another."""
    kind, asked = FIXED_TYPES[name], plan.result.kind
    if pa.types.is_map(kind) and pa.types.is_struct(asked):
        return replace(plan, result=replace(plan.result, kind=kind))
    if asked != kind or plan.result.is_struct:
        raise AiFunctionError(
            "AI_FUNCTION_COMPILATION_ERROR",
            f"over Spark Connect `{name}` in SQL is always {str(kind).upper()}: use the column function for another "
            "type, for failOnError => false and for details, and ai_embed for vectors.",
        )
    return plan
