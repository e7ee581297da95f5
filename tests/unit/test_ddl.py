import pyarrow as pa
import pytest

from pipeline.ddl import parse_type
from tests.cases import cases

US = pa.timestamp("us")
TYPES = {
    "STRING": pa.string(),
    " int ": pa.int32(),
    "DECIMAL": pa.decimal128(10, 0),
    "decimal( 12 , 3 )": pa.decimal128(12, 3),
    "TIMESTAMP": pa.timestamp("us", tz="UTC"),
    "TIMESTAMP_NTZ": US,
    "ARRAY<FLOAT>": pa.list_(pa.float32()),
    "array<array<bigint>>": pa.list_(pa.list_(pa.int64())),
    "MAP<STRING, ARRAY<DOUBLE>>": pa.map_(pa.string(), pa.list_(pa.float64())),
    "STRUCT<>": pa.struct([]),
    "STRUCT<a: INT, b:STRUCT<c BOOLEAN NOT NULL>>": pa.struct(
        [("a", pa.int32()), ("b", pa.struct([("c", pa.bool_())]))]
    ),
    "STRUCT<`odd, name``s`: DATE, 2x: BINARY>": pa.struct([("odd, name`s", pa.date32()), ("2x", pa.binary())]),
    "a INT, b STRING": pa.struct([("a", pa.int32()), ("b", pa.string())]),
    "INT STRING": pa.struct([("INT", pa.string())]),
    "a: TINYINT": pa.struct([("a", pa.int8())]),
    "STRUCT<map: INT, array: SHORT>": pa.struct([("map", pa.int32()), ("array", pa.int16())]),
}


@cases("ddl", TYPES)
def test_types_are_those_that_spark_reads(ddl: str) -> None:
    assert parse_type(ddl) == TYPES[ddl]


@cases(
    "ddl",
    ["", "WORDS", "STRUCT<", "STRUCT<a>", "ARRAY", "ARRAY<INT", "ARRAY<INT>>", "MAP<INT>", "DECIMAL(39)", "DECIMAL(2,3)",
     "DECIMAL(x)", "a INT,", "STRUCT<a: INT; b: INT>", "VARIANT", "STRUCT<a: INT NOT>"],
)  # fmt: skip
def test_what_is_no_type_is_refused(ddl: str) -> None:
    with pytest.raises(ValueError, match="not a type"):
        parse_type(ddl)
