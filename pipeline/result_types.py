"""From the text of an answer to a value of the type that was asked for, as `from_json` would read it. Pure."""

import base64
import binascii
import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any

import pyarrow as pa

from pipeline.moments import read_date, read_local, read_timestamp

_FENCED = re.compile(r"\s*```[\w-]*[ \t]*\r?\n(.*?)\r?\n?[ \t]*```\s*", re.DOTALL)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TEXT_TYPES = (pa.types.is_string, pa.types.is_large_string)


class NotOfType(ValueError):
    """The answer does not fit the type; the message holds none of the answer. `is_columns`: several for one."""

    def __init__(self, message: str, is_columns: bool = False) -> None:
        super().__init__(message)
        self.is_columns = is_columns


def unfenced(text: str) -> str:
    """The text without the code fence that models like to put around JSON."""
    found = _FENCED.fullmatch(text)
    return found[1] if found else text


def json_text(text: str, *, is_object: bool) -> str:
    """The JSON of an answer, unfenced and otherwise as it came. NotOfType for anything else."""
    inner = unfenced(text).strip()
    value = _load(inner)
    if is_object and not isinstance(value, dict):
        raise NotOfType(f"the answer is a JSON {_kind(value)}, not an object")
    return inner


def parse(text: str, wanted: pa.DataType, zone: tzinfo | None = None) -> Any:
    """The answer as a value that `pa.array(..., type=wanted)` takes.

    Scalars are read from JSON or from bare text, an object of one field counts as its field, a single object is an
    array of one. Fields that are missing are null, unknown ones are dropped. A time that names no zone is one of `zone`.
    Raises NotOfType.
    """
    if any(is_text(wanted) for is_text in _TEXT_TYPES):
        return text
    inner = unfenced(text).strip()
    if pa.types.is_nested(wanted):
        value = _load(inner)
        if pa.types.is_list(wanted) and isinstance(value, dict) and not pa.types.is_map(wanted):
            value = [value]
        return _convert(value, wanted, "$", zone)
    try:
        value = json.loads(inner, parse_float=Decimal)
    except (ValueError, RecursionError):
        value = inner
    if isinstance(value, dict):
        if len(value) != 1:
            raise NotOfType(f"the answer has {len(value)} columns, {_name(wanted)} is one", is_columns=True)
        (value,) = value.values()
    if value is None:
        return None
    return _convert(value, wanted, "$", zone)


def to_json_schema(kind: pa.DataType) -> dict[str, Any]:
    """The JSON schema of a type, in the subset that strict structured output takes. ValueError where it has none."""
    types = pa.types
    if any(is_text(kind) for is_text in _TEXT_TYPES):
        return {"type": "string"}
    if types.is_boolean(kind):
        return {"type": "boolean"}
    if types.is_integer(kind):
        return {"type": "integer"}
    if types.is_floating(kind) or types.is_decimal(kind):
        return {"type": "number"}
    if types.is_date(kind) or types.is_timestamp(kind):
        return {"type": "string", "format": "date" if types.is_date(kind) else "date-time"}
    if types.is_list(kind):
        return {"type": "array", "items": to_json_schema(kind.value_type)}
    if types.is_struct(kind):
        fields = {field.name: to_json_schema(field.type) for field in kind}
        return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}
    if types.is_map(kind):
        return {"type": "object", "additionalProperties": to_json_schema(kind.item_type)}
    raise ValueError(f"{_name(kind)} has no form in JSON")


def has_map(kind: pa.DataType) -> bool:
    """Whether a map is in it, whose keys no strict schema can name."""
    if pa.types.is_map(kind):
        return True
    if pa.types.is_list(kind):
        return has_map(kind.value_type)
    return pa.types.is_struct(kind) and any(has_map(field.type) for field in kind)


def _load(text: str) -> Any:
    try:
        return json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError):
        raise NotOfType("the answer is not JSON") from None


def _convert(value: Any, wanted: pa.DataType, place: str, zone: tzinfo | None) -> Any:
    if value is None:
        return None
    types = pa.types
    if types.is_struct(wanted):
        if not isinstance(value, dict):
            raise _misfit(value, wanted, place)
        return {
            field.name: _convert(value.get(field.name), field.type, f"{place}.{field.name}", zone) for field in wanted
        }
    if types.is_map(wanted):
        if not isinstance(value, dict):
            raise _misfit(value, wanted, place)
        return [
            (_convert(name, wanted.key_type, place, zone), _convert(item, wanted.item_type, f"{place}[*]", zone))
            for name, item in value.items()
        ]
    if types.is_list(wanted):
        if not isinstance(value, list):
            raise _misfit(value, wanted, place)
        return [_convert(item, wanted.value_type, f"{place}[{index}]", zone) for index, item in enumerate(value)]
    try:
        if types.is_timestamp(wanted):
            return _timestamp(value, wanted, zone)
        for accepts, read in _READERS:
            if accepts(wanted):
                return read(value, wanted)
    except (ValueError, ArithmeticError, TypeError, binascii.Error):
        raise _misfit(value, wanted, place) from None
    raise NotOfType(f"{place}: {_name(wanted)} cannot be read from an answer")


def _misfit(value: Any, wanted: pa.DataType, place: str) -> NotOfType:
    where = "the answer" if place == "$" else f"{place} of the answer"
    return NotOfType(f"{where} is {_article(_kind(value))}, not {_name(wanted)}")


def _article(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def _kind(value: Any) -> str:
    names: Mapping[type, str] = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")


def _text(value: Any, wanted: pa.DataType) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=float, ensure_ascii=False)


def _boolean(value: Any, wanted: pa.DataType) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    raise ValueError


def _integer(value: Any, wanted: pa.DataType) -> int:
    number = _number(value)
    if not number.is_finite() or number != number.to_integral_value():
        raise ValueError
    whole = int(number)
    bits = wanted.bit_width
    if not -(2 ** (bits - 1)) <= whole < 2 ** (bits - 1):
        raise ValueError
    return whole


def _float(value: Any, wanted: pa.DataType) -> float:
    if isinstance(value, float):  # NaN and infinities, as Spark's own reader takes them
        return value
    number = float(_number(value))
    if math.isinf(number):
        raise ValueError
    return number


def _decimal(value: Any, wanted: pa.DataType) -> Decimal:
    number = _number(value).quantize(Decimal(1).scaleb(-wanted.scale), ROUND_HALF_UP)  # as Spark's reader of JSON
    if len(number.as_tuple().digits) > wanted.precision:
        raise ValueError
    return number


def _number(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        raise ValueError
    try:
        return Decimal(value.strip() if isinstance(value, str) else value)
    except InvalidOperation:
        raise ValueError from None


def _date(value: Any, wanted: pa.DataType) -> date:
    return read_date(_string(value))


def _timestamp(value: Any, wanted: pa.DataType, zone: tzinfo | None) -> datetime:
    if wanted.tz is None:
        return read_local(_string(value))
    if type(value) is int:
        return _EPOCH + timedelta(seconds=value)
    return read_timestamp(_string(value), zone)


def _binary(value: Any, wanted: pa.DataType) -> bytes:
    return base64.b64decode(_string(value), validate=True)


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value.strip()


def _name(kind: pa.DataType) -> str:
    return str(kind).upper() if not pa.types.is_nested(kind) else str(kind).split("<")[0].upper()


_READERS: tuple[tuple[Callable[[pa.DataType], bool], Callable[[Any, pa.DataType], Any]], ...] = (
    (pa.types.is_string, _text),
    (pa.types.is_large_string, _text),
    (pa.types.is_boolean, _boolean),
    (pa.types.is_integer, _integer),
    (pa.types.is_floating, _float),
    (pa.types.is_decimal, _decimal),
    (pa.types.is_date, _date),
    (pa.types.is_binary, _binary),
)
