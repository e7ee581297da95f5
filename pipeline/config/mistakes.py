"""One mistake in a job file, and how a value is shown without giving a secret away. Pure."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Location = tuple[str | int, ...]  # ("limits", "in_flight")

HIDDEN = "(not shown)"
SHOWN_CHARACTERS = 80

_SECRET_NAME = re.compile(
    r"(secret|password|passwd|passphrase|token|api[._-]?key|access[._-]?key|account[._-]?key|authorization|bearer"
    r"|credentials?)$",
    re.IGNORECASE,
)
# What common tokens begin with, and a URL's user information.
_SECRET_VALUE = re.compile(
    r"\b(sk-|dapi|dose|gh[pousr]_|github_pat_|xox[a-z]-|AKIA|eyJ)\w|\b(bearer|basic)\s+\S|//[^/\s]*@", re.IGNORECASE
)
_PLAIN_WORD = re.compile(r"[A-Za-z_-]{1,16}")


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong with one place of a job file; `text` says what is allowed."""

    location: Location
    text: str
    has_value: bool = True  # False where something is missing

    def line(self, origin: str, mapping: Mapping[str, Any]) -> str:
        """The message: origin, section, key, value, what is allowed."""
        place = written_as(self.location)
        if self.has_value and (found := value_at(mapping, self.location)) is not None:
            place += f" = {shown(found, self.location)}"
        return f"{origin}: {place}: {self.text}" if place else f"{origin}: {self.text}"


def written_as(location: Location) -> str:
    """`[section] key.inner[0]`."""
    if not location:
        return ""
    section, *rest = location
    text = f"[{section}]"
    for depth, part in enumerate(rest):
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if depth else f" {part}"
    return text


def value_at(mapping: Mapping[str, Any], location: Location) -> Any:
    """The value written at `location`, None where there is none."""
    value: Any = mapping
    for part in location:
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list | tuple) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            return None
    return value


def shown(value: Any, location: Location) -> str:
    """The value as TOML would write it, short; hidden where it may be a secret."""
    text = HIDDEN if _may_be_secret(value, location) else _written(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def _may_be_secret(value: Any, location: Location) -> bool:
    names = [part for part in location if isinstance(part, str)]
    if names[:2] == ["endpoint", "auth"]:
        return not (names[2:] == ["scheme"] and isinstance(value, str) and _PLAIN_WORD.fullmatch(value))
    if names and names[-1] == "base_url" and isinstance(value, str) and re.search("[@?#]", value):
        return True
    if any(_SECRET_NAME.search(name) for name in names):
        return True
    if isinstance(value, str):
        return bool(_SECRET_VALUE.search(value))
    if isinstance(value, Sequence):
        return any(_may_be_secret(element, location) for element in value)
    return False


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # lone surrogates come from command lines that are not UTF-8, and cannot be printed
        return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Mapping):
        return "{...}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_written(element) for element in value)}]"
    return str(value)
