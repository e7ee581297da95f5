"""Which names a store takes."""

import re

from pipeline.errors import StateError

_NAME = re.compile(r"[A-Za-z0-9._=-]+(/[A-Za-z0-9._=-]+)*", re.ASCII)
TEMPORARY = ".tmp-"  # in the name of a file that is not whole yet; never listed


def check_name(name: str) -> str:
    """The name itself; StateError where it could leave the root or needs quoting somewhere."""
    if not _NAME.fullmatch(name) or any(part in (".", "..") or TEMPORARY in part for part in name.split("/")):
        raise StateError(f"{name!r} is no name for a state file: letters, digits and ._=- only, folders by /, no '..'")
    return name
