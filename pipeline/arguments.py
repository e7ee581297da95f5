"""Binds the arguments of a SQL function call to its parameters, or says what is wrong as Spark does. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.conditions import AiFunctionError


class MapValue(dict[str, Any]):
    """The value of a constant MAP; a plain dict is that of a STRUCT."""


_SQL_NAMES: Mapping[type, str] = {
    str: "a STRING",
    bool: "a BOOLEAN",
    int: "an INT",
    list: "an ARRAY<STRING>",
    dict: "a STRUCT",
    MapValue: "a MAP<STRING, STRING>",
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter; `is_constant`: known at analysis, else row data. `takes_variant`: as the text of its JSON.

    `other_name` means the same in a call.
    """

    name: str
    is_constant: bool = True
    is_required: bool = False
    takes_variant: bool = False
    other_name: str | None = None


def bind(function: str, parameters: Sequence[Parameter], arguments: Sequence[tuple[str | None, Any]]) -> dict[str, Any]:
    """The argument of each parameter that has one, by the parameter's name.

    `arguments` are in the order of the call, positional ones with None for a name; names match in any case. Raises
    AiFunctionError.
    """
    if len(arguments) > len(parameters):
        least = sum(parameter.is_required for parameter in parameters)
        expected = str(least) if least == len(parameters) else f"{least} to {len(parameters)}"
        raise AiFunctionError(
            "WRONG_NUM_ARGS.WITHOUT_SUGGESTION",
            f"The `{function}` requires {expected} parameters but the actual number is {len(arguments)}.",
        )
    names = [(name, parameter.name) for parameter in parameters for name in (parameter.name, parameter.other_name)]
    by_name = {name.casefold(): meant for name, meant in names if name is not None}
    bound: dict[str, Any] = {}
    positional: set[str] = set()
    has_named = False
    for index, (given, value) in enumerate(arguments):
        if given is None:
            if has_named:
                raise AiFunctionError(
                    "UNEXPECTED_POSITIONAL_ARGUMENT",
                    f"Cannot invoke routine `{function}` because it contains positional argument(s) following the "
                    f"named argument; argument {index + 1} has no name.",
                )
            name = parameters[index].name
            positional.add(name)
        else:
            has_named = True
            found = by_name.get(given.casefold())
            if found is None:
                raise AiFunctionError(
                    "UNRECOGNIZED_PARAMETER_NAME",
                    f"Cannot invoke routine `{function}` because the routine call included a named argument "
                    f"reference for the argument named `{given}`. Known: {_listed(parameters)}.",
                )
            name = found
        if name in bound:
            kind = "BOTH_POSITIONAL_AND_NAMED" if name in positional else "DOUBLE_NAMED_ARGUMENT_REFERENCE"
            raise AiFunctionError(
                f"DUPLICATE_ROUTINE_PARAMETER_ASSIGNMENT.{kind}",
                f"Call to routine `{function}` is invalid because it assigns the parameter `{name}` twice.",
            )
        bound[name] = value
    _require(function, parameters, bound)
    return bound


def not_constant(function: str, name: str) -> AiFunctionError:
    """A column, a parameter of a SQL function or a random value where the call needs to know it at analysis."""
    return AiFunctionError(
        "NON_FOLDABLE_ARGUMENT",
        f"The function `{function}` requires the parameter `{name}` to be a foldable expression (a literal, or made of "
        "literals), but the actual argument is non-foldable.",
    )


def wrong_type(function: str, name: str, wanted: str) -> AiFunctionError:
    """An argument of another type."""
    return AiFunctionError("DATATYPE_MISMATCH", f"The parameter `{name}` of `{function}` must be {wanted}.")


def require_text(function: str, parameters: Sequence[Parameter], types: Mapping[str, str | None]) -> None:
    """Row arguments are texts; `types` as Spark writes them, None where not known yet. Raises AiFunctionError."""
    for parameter in parameters:
        kind = types.get(parameter.name)
        if kind is None or kind in ("string", "void") or kind.startswith(("string collate", "varchar", "char")):
            continue
        if parameter.takes_variant and kind == "variant":
            continue
        allowed = "a STRING or a VARIANT" if parameter.takes_variant else "a STRING"
        raise wrong_type(function, parameter.name, f"{allowed}, not {kind.upper()}; CAST says which text is meant")


def constant(function: str, values: Mapping[str, Any], name: str, kind: type, default: Any = None) -> Any:
    """A constant argument of this Python type; NULL and absent are the default. Raises AiFunctionError."""
    value = values.get(name)
    if value is None:
        return default
    if type(value) is not kind:
        raise wrong_type(function, name, _SQL_NAMES[kind])
    return value


def _require(function: str, parameters: Sequence[Parameter], bound: Mapping[str, Any]) -> None:
    for index, parameter in enumerate(parameters):
        if parameter.is_required and parameter.name not in bound:
            raise AiFunctionError(
                "REQUIRED_PARAMETER_NOT_FOUND",
                f"Cannot invoke routine `{function}` because the parameter named `{parameter.name}` is required, but "
                f"the routine call did not supply a value: give it at index {index} or by name.",
            )


def _listed(parameters: Sequence[Parameter]) -> str:
    return ", ".join(f"`{parameter.name}`" for parameter in parameters)
