"""JSON schemas of answers: which ones are taken, and whether an answer keeps one. Pure; the only door to jsonschema."""

import functools
import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import referencing

_DIALECT = jsonschema.Draft202012Validator
_MOST_LEVELS = 64


def check_schema(schema: Any) -> None:
    """Raises ValueError with a sentence for what is no schema, or one that points outside of itself."""
    try:
        _DIALECT.check_schema(schema)
    except jsonschema.SchemaError as exc:
        place = "/".join(str(step) for step in exc.absolute_path) or "its root"
        raise ValueError(f"the schema is wrong at {place}: {exc.message[:200]}") from None
    for reference in _references(schema, 0):
        if not reference.startswith("#"):
            raise ValueError(f"the schema refers to {reference[:100]!r}; only references within it are followed")
        try:
            _resolver(schema).lookup(reference)
        except referencing.exceptions.Unresolvable:
            raise ValueError(f"the schema refers to {reference[:100]!r}, which is not in it") from None


def mistake(value: Any, schema: str) -> str | None:
    """Which rule of the schema, given as JSON, a value breaks; None where it keeps all. Shows nothing of the value."""
    error = next(iter(_validator(schema).iter_errors(value)), None)
    if error is None:
        return None
    return f"the answer breaks the schema's {'/'.join(str(step) for step in error.absolute_schema_path)}"


@functools.lru_cache(maxsize=64)
def _validator(schema: str) -> jsonschema.Draft202012Validator:
    return _DIALECT(json.loads(schema), registry=referencing.Registry())


def _resolver(schema: Any) -> Any:
    resource = referencing.Resource.from_contents(schema, default_specification=referencing.jsonschema.DRAFT202012)
    return referencing.Registry().with_resource("", resource).resolver()


def _references(schema: Any, level: int) -> Iterator[str]:
    if level > _MOST_LEVELS:
        raise ValueError(f"the schema is nested deeper than {_MOST_LEVELS} levels")
    if isinstance(schema, dict):
        for name, value in schema.items():
            if name in ("$ref", "$dynamicRef") and isinstance(value, str):
                yield value
            else:
                yield from _references(value, level + 1)
    elif isinstance(schema, list):
        for value in schema:
            yield from _references(value, level + 1)
