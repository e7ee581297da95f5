"""Credentials as references that travel; the only door to secrets in the environment and in files."""

import base64
import codecs
import os
import re
import stat
import time
from dataclasses import dataclass, field
from typing import Literal, NoReturn, Self, assert_never

from pipeline.errors import ConfigError
from pipeline.references import ReferenceKind, parse_reference

Scheme = Literal["bearer", "basic", "api-key"]
Stamp = tuple[int, int, int]  # time of change in ns, size, inode

SECRET_BYTES = 65_536  # more is not a secret but a wrong path
# A file this young may change again without a new time stamp: file systems count in up to 2 s (FAT).
_SETTLED_NS = 2_000_000_000
_MASK = "****"
_SENDABLE = re.compile(r"[\x21-\x7e]+( +[\x21-\x7e]+)*")


class Secret:
    """A value that shows itself only to `reveal`: never in text, never in a pickle."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself, for a header that is about to be sent."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({_MASK})"

    def __str__(self) -> str:
        return _MASK

    def __format__(self, format_spec: str) -> str:
        return _MASK

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret does not travel; send its SecretRef and resolve it there")


@dataclass(frozen=True, slots=True)
class SecretRef:
    """Where a secret is found: a variable of the environment or a file."""

    kind: ReferenceKind
    name: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """The reference written as `env:NAME` or `file:PATH`; ConfigError for anything else, without repeating it."""
        try:
            kind, name = parse_reference(text)
        except ValueError as exc:
            raise ConfigError(f"a secret {exc}") from None
        return cls(kind, name)

    def describe(self) -> str:
        """The reference as it is written in a job file, for messages."""
        return f"{self.kind}:{self.name}"

    def resolve(self) -> Secret:
        """The secret as it is now. Raises ConfigError that names the reference, never the value."""
        if self.kind == "env":
            return _check(self, os.environ.get(self.name))
        found = _read(self)
        return _check(self, found.text if found else None)


class _Kept:
    """The last headers from a file and the stamp that they are good for; stays in this process."""

    __slots__ = ("headers", "stamp")

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.stamp: Stamp | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """How a credential is sent and where it is found. Picklable: what travels is the description alone."""

    scheme: Scheme
    ref: SecretRef
    _kept: _Kept = field(default_factory=_Kept, init=False, repr=False, compare=False)

    @classmethod
    def parse(cls, scheme: Scheme, secret: str) -> Self:
        """From the two values of `auth` in a job file."""
        return cls(scheme, SecretRef.parse(secret))

    def describe(self) -> str:
        """The reference, for messages."""
        return self.ref.describe()

    def headers(self) -> dict[str, str]:
        """The header to send now, its name in lower case; a file that changed is read again.

        While a file is being replaced (missing or empty) the header sent before stays good. Raises ConfigError that
        names the reference where there is no usable secret.
        """
        if self.ref.kind == "env":
            return _headers(self.scheme, self.ref.resolve())
        kept = self._kept
        if kept.stamp is None or kept.stamp != _stamp_now(self.ref):
            found = _read(self.ref)
            is_being_replaced = found is None or not found.text
            if not (is_being_replaced and kept.headers):
                kept.headers = _headers(self.scheme, _check(self.ref, found.text if found else None))
                kept.stamp = found.stamp if found else None
        return dict(kept.headers)

    def __reduce__(self) -> tuple[type["Credentials"], tuple[Scheme, SecretRef]]:
        return Credentials, (self.scheme, self.ref)


@dataclass(frozen=True, slots=True)
class _Found:
    text: str = field(repr=False)
    stamp: Stamp | None


def _read(ref: SecretRef) -> _Found | None:
    """What the file holds now; None where there is no file."""
    path = os.path.expanduser(ref.name)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ConfigError(f"{ref.describe()}: is not a plain file")
        with open(path, "rb") as file:
            stamp = _to_stamp(os.fstat(file.fileno()))
            content = file.read(SECRET_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise ConfigError(f"{ref.describe()}: cannot be read by this process: {exc.strerror}") from exc
    if len(content) > SECRET_BYTES:
        raise ConfigError(f"{ref.describe()}: is larger than {SECRET_BYTES} bytes; it must hold only the secret")
    # latin-1 reads every byte, so no decoding error carries the content; what is not ASCII is refused afterwards
    return _Found(content.removeprefix(codecs.BOM_UTF8).decode("latin-1"), stamp)


def _check(ref: SecretRef, text: str | None) -> Secret:
    if text is None and ref.kind == "env":
        raise ConfigError(f"{ref.name} is not set in the environment of this process: export it, or use file:PATH")
    if text is None:
        raise ConfigError(f"{ref.describe()}: this process finds no such file")
    value = text.rstrip("\r\n")
    if not value:
        raise ConfigError(f"{ref.describe()}: is empty")
    if not _SENDABLE.fullmatch(value):
        raise ConfigError(
            f"{ref.describe()}: holds line breaks, control characters, blanks at an end or characters outside "
            "ASCII, which no header can carry; it must hold only the secret, on one line"
        )
    if value.lower().startswith(("bearer ", "basic ")):
        raise ConfigError(f"{ref.describe()}: begins with the scheme; it must hold only the secret")
    return Secret(value)


def _stamp_now(ref: SecretRef) -> Stamp | None:
    try:
        return _to_stamp(os.stat(os.path.expanduser(ref.name)))
    except OSError:
        return None


def _to_stamp(status: os.stat_result) -> Stamp | None:
    is_settled = time.time_ns() - status.st_mtime_ns > _SETTLED_NS
    return (status.st_mtime_ns, status.st_size, status.st_ino) if is_settled else None


def _headers(scheme: Scheme, secret: Secret) -> dict[str, str]:
    match scheme:
        case "bearer":
            return {"authorization": f"Bearer {secret.reveal()}"}
        case "basic":
            # the user name that Databricks documents for tokens
            pair = base64.b64encode(f"token:{secret.reveal()}".encode("ascii")).decode("ascii")
            return {"authorization": f"Basic {pair}"}
        case "api-key":
            return {"api-key": secret.reveal()}
        case _:
            assert_never(scheme)
