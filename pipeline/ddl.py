"""Types written as Spark's SQL writes them, for where there is no Spark to read them. Pure."""

import re

import pyarrow as pa

_SCALARS: dict[str, pa.DataType] = {
    **dict.fromkeys(("STRING", "TEXT"), pa.string()),
    "BOOLEAN": pa.bool_(),
    **dict.fromkeys(("TINYINT", "BYTE"), pa.int8()),
    **dict.fromkeys(("SMALLINT", "SHORT"), pa.int16()),
    **dict.fromkeys(("INT", "INTEGER"), pa.int32()),
    **dict.fromkeys(("BIGINT", "LONG"), pa.int64()),
    **dict.fromkeys(("FLOAT", "REAL"), pa.float32()),
    "DOUBLE": pa.float64(),
    **dict.fromkeys(("DECIMAL", "DEC", "NUMERIC"), pa.decimal128(10, 0)),
    "DATE": pa.date32(),
    **dict.fromkeys(("TIMESTAMP", "TIMESTAMP_LTZ"), pa.timestamp("us", tz="UTC")),
    "TIMESTAMP_NTZ": pa.timestamp("us"),
    "BINARY": pa.binary(),
}
_TOKEN = re.compile(r"\s*(?:(?P<word>\w+)|`(?P<quoted>(?:[^`]|``)*)`|(?P<sign>[<>(),:]))")


def parse_type(ddl: str) -> pa.DataType:
    """The type of a DDL text; `a INT, b STRING` is a struct, as Spark reads it. Raises ValueError."""
    try:
        return _Reader(ddl).whole()
    except _NoType:
        pass
    try:
        return _Reader(ddl).fields_alone()
    except _NoType:
        raise ValueError(f"not a type: {ddl[:200]}") from None


class _NoType(Exception):
    pass


class _Reader:
    def __init__(self, ddl: str) -> None:
        self._tokens: list[tuple[str, str]] = []
        position = 0
        text = ddl.rstrip()
        while position < len(text):
            token = _TOKEN.match(text, position)
            if token is None:
                raise _NoType
            kind = token.lastgroup or ""
            self._tokens.append((kind, token[kind]))
            position = token.end()
        self._next = 0

    def whole(self) -> pa.DataType:
        """A type and nothing behind it."""
        return self._end(self._type())

    def fields_alone(self) -> pa.DataType:
        """The fields of a struct without its frame."""
        return self._end(self._fields())

    def _end(self, kind: pa.DataType) -> pa.DataType:
        if self._next != len(self._tokens):
            raise _NoType
        return kind

    def _type(self) -> pa.DataType:
        name = self._take("word").upper()
        if name == "ARRAY":
            return pa.list_(self._framed())
        if name == "MAP":
            self._sign("<")
            key = self._type()
            self._sign(",")
            value = self._type()
            self._sign(">")
            return pa.map_(key, value)
        if name == "STRUCT":
            self._sign("<")
            fields = pa.struct([]) if self._peek() == ("sign", ">") else self._fields()
            self._sign(">")
            return fields
        if name not in _SCALARS:
            raise _NoType
        if pa.types.is_decimal(_SCALARS[name]) and self._peek() == ("sign", "("):
            return self._decimal()
        return _SCALARS[name]

    def _framed(self) -> pa.DataType:
        self._sign("<")
        kind = self._type()
        self._sign(">")
        return kind

    def _fields(self) -> pa.DataType:
        fields = [self._field()]
        while self._peek() == ("sign", ","):
            self._next += 1
            fields.append(self._field())
        return pa.struct(fields)

    def _field(self) -> pa.Field:
        kind, name = self._peek()
        if kind not in ("word", "quoted"):
            raise _NoType
        self._next += 1
        if self._peek() == ("sign", ":"):
            self._next += 1
        made = pa.field(name.replace("``", "`"), self._type())
        if [word.upper() for _, word in self._tokens[self._next : self._next + 2]] == ["NOT", "NULL"]:
            self._next += 2
        return made

    def _decimal(self) -> pa.DataType:
        self._sign("(")
        precision, scale = self._number(), 0
        if self._peek() == ("sign", ","):
            self._next += 1
            scale = self._number()
        self._sign(")")
        if not 1 <= precision <= 38 or scale > precision:
            raise _NoType
        return pa.decimal128(precision, scale)

    def _number(self) -> int:
        word = self._take("word")
        if not word.isdecimal():
            raise _NoType
        return int(word)

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._next] if self._next < len(self._tokens) else ("end", "")

    def _take(self, kind: str) -> str:
        found, text = self._peek()
        if found != kind:
            raise _NoType
        self._next += 1
        return text

    def _sign(self, sign: str) -> None:
        if self._take("sign") != sign:
            raise _NoType
