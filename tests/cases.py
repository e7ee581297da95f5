"""Tables of cases within one test. A case costs a call here; as a test of pytest's and xdist's own it costs 2-4 ms of CPU."""

import inspect
import reprlib
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any

import pytest

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80


def cases(
    names: str | Sequence[str], rows: Iterable[Any], ids: Iterable[str | None] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Written as `pytest.mark.parametrize`: every case is tried, also behind one that failed, and each that failed is named.

    The cases share the test's fixtures. `pytest.param` may give an id, no marks.
    """
    names = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    table = list(_named(names, list(rows), ids))
    if not table:
        raise ValueError("a table without cases tests nothing")

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @wraps(test)
        def every_case(**fixtures: Any) -> None:
            failed = {}
            for number, (name, values) in enumerate(table):
                try:
                    test(**fixtures, **values)
                except (Exception, pytest.fail.Exception) as exc:  # noqa: BLE001 - the other cases come first
                    exc.add_note(f"in the case {name}")
                    failed[number] = exc
            if len(failed) == 1:
                raise next(iter(failed.values()))
            if failed:
                told = "; ".join(table[number][0] for number in failed)
                raise BaseExceptionGroup(f"{len(failed)} of {len(table)} cases failed: {told}", list(failed.values()))

        signature = inspect.signature(test)
        left = [parameter for name, parameter in signature.parameters.items() if name not in names]
        every_case.__signature__ = signature.replace(parameters=left)  # type: ignore[attr-defined]
        return every_case

    return decorate


def _named(names: list[str], rows: list[Any], ids: Iterable[str | None] | None) -> Iterable[tuple[str, dict[str, Any]]]:
    given = [None] * len(rows) if ids is None else list(ids)
    for row, name in zip(rows, given, strict=True):
        if is_param := isinstance(row, type(pytest.param())):
            if row.marks:
                raise ValueError("a case has no marks: make it a test of its own")
            name, row = row.id or name, row.values
        values = (row,) if len(names) == 1 and not is_param else row
        arguments = dict(zip(names, values, strict=True))
        told = ", ".join(f"{key}={_SHORT.repr(value)}" for key, value in arguments.items())
        yield f"{name}: {told}" if name else told, arguments
