"""`section.key=value` from a command line, laid over what the file says. Pure."""

import copy
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.config.mistakes import Location

_KEY = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+")


@dataclass(frozen=True, slots=True)
class Override:
    """One value from the command line."""

    location: tuple[str, ...]
    value: Any

    @property
    def origin(self) -> str:
        """How messages name it; never its value, which may be a secret."""
        return f"--set {'.'.join(self.location)}=..."

    def touches(self, location: Location) -> bool:
        """True where the value at `location`, or a part of it, came from here."""
        shared = min(len(location), len(self.location))
        return bool(location) and location[:shared] == self.location[:shared]


def parse_override(text: str) -> Override:
    """The value is read as TOML (`5`, `true`, `["a"]`), else it is a plain string.

    Raises ValueError that never repeats what follows the equals sign.
    """
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not _KEY.fullmatch(key):
        shown = key if equals and len(key) <= 80 and key.isprintable() else "..."
        raise ValueError(f"--set {shown}: must be section.key=value, like limits.in_flight=64")
    return Override(tuple(key.split(".")), _to_value(value.strip()))


def laid_over(mapping: Mapping[str, Any], overrides: Iterable[Override]) -> dict[str, Any]:
    """A changed copy; tables on the way are made where they are missing.

    Something on the way that is not a table is replaced, so that what was asked for is what is checked.
    """
    changed = copy.deepcopy(dict(mapping))
    for override in overrides:
        table = changed
        for part in override.location[:-1]:
            if not isinstance(table.get(part), dict):
                table[part] = {}
            table = table[part]
        table[override.location[-1]] = copy.deepcopy(override.value)
    return changed


def _to_value(text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    # a line break could smuggle further keys in
    return parsed["value"] if len(parsed) == 1 else text
