"""The two ways to point at a secret without writing it down. Pure."""

import re
from typing import Literal

ReferenceKind = Literal["env", "file"]

_ENV = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)")
_FILE = re.compile(r"file:([^\x00-\x1f\x7f]+)")

HOW_TO_REFERENCE = (
    'must be a reference, "env:NAME" (an environment variable) or "file:PATH" (a file that holds nothing but the '
    "secret), never the secret itself"
)


def parse_reference(text: str) -> tuple[ReferenceKind, str]:
    """Kind and name of `env:NAME` or `file:PATH`.

    Raises ValueError for anything else, with a sentence that never repeats `text`: it may be the secret.
    """
    if match := _ENV.fullmatch(text):
        return "env", match[1]
    if match := _FILE.fullmatch(text):
        return "file", match[1]
    raise ValueError(HOW_TO_REFERENCE)
