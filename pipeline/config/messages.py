"""What pydantic found wrong, as mistakes that name the place, what is allowed and the nearest known key. Pure."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from pipeline.config.job_file import JobFile
from pipeline.config.mistakes import Location, Mistake

_MUST_BE = {
    "bool_type": "must be true or false",
    "dict_type": "must be a table",
    "finite_number": "must be a finite number",
    "float_type": "must be a number",
    "int_type": "must be a whole number",
    "model_type": "must be a table",
    "string_type": "must be a string in quotes",
    "tuple_type": "must be a list",
}


def to_mistakes(errors: Sequence[ErrorDetails]) -> list[Mistake]:
    """One mistake per error; a key that is missing because it was misspelled is one mistake, not two."""
    misspelled = _misspelled(errors)
    return [_to_mistake(error) for error in errors if not (error["type"] == "missing" and error["loc"] in misspelled)]


def places_in_doubt(errors: Sequence[ErrorDetails]) -> set[Location]:
    """`(section, key)` of what is wrong or misspelled: contradictions with it would be noise."""
    return {error["loc"][:2] for error in errors} | _misspelled(errors)


def _misspelled(errors: Sequence[ErrorDetails]) -> set[Location]:
    places: set[Location] = set()
    for error in errors:
        *parents, word = error["loc"]
        if error["type"] == "extra_forbidden" and (meant := nearest(str(word), known_keys(tuple(parents)))):
            places.add((*parents, meant))
    return places


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant."""
    found = get_close_matches(word.lower().replace("-", "_"), list(known), n=1)
    return found[0] if found else None


def known_keys(location: Location) -> tuple[str, ...]:
    """The keys of the table at `location`; empty for a free table."""
    model = _model_at(location)
    return tuple(model.model_fields) if model else ()


def _to_mistake(error: ErrorDetails) -> Mistake:
    location, kind = error["loc"], error["type"]
    if kind == "extra_forbidden":
        return Mistake(location, _unknown(location))
    field = _field_at(location)
    allowed = f" ({field.description})" if field and field.description else ""
    if kind == "missing":
        return Mistake(location, f"is missing{allowed}", has_value=False)
    return Mistake(location, reason(error) + allowed)


def reason(error: ErrorDetails) -> str:
    """What the value must be, without the value."""
    kind, context = error["type"], error.get("ctx", {})
    if kind in ("literal_error", "enum"):
        return f"must be {context['expected']}"
    if kind == "value_error":
        return str(context["error"])
    if kind == "string_pattern_mismatch":
        return "has characters or a length that are not allowed"
    if kind == "too_short":
        return "must not be empty"
    return _MUST_BE.get(kind) or error["msg"].replace("Input should be", "must be", 1)


def _unknown(location: Location) -> str:
    parent, word = location[:-1], str(location[-1])
    known = known_keys(parent)
    what = "key" if parent else "section"
    if meant := nearest(word, known):
        guess = f"; did you mean {meant if parent else f'[{meant}]'}?"
    elif homes := [f"[{section}]" for section in known_keys(()) if word in known_keys((section,))]:
        guess = f"; {word} belongs to {' or '.join(homes)}."
    else:
        guess = "."
    return f"unknown {what}{guess} Known: {', '.join(known)}"


def _model_at(location: Location) -> type[BaseModel] | None:
    if not location:
        return JobFile
    field = _field_at(location)
    return _model_of(field.annotation) if field else None


def _field_at(location: Location) -> FieldInfo | None:
    # an index, or a key of a free table, is described by the field around it
    model: type[BaseModel] | None = JobFile
    field = None
    for part in location:
        if model is None or part not in model.model_fields:
            break
        field = model.model_fields[str(part)]
        model = _model_of(field.annotation)
    return field


def _model_of(annotation: Any) -> type[BaseModel] | None:
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None
