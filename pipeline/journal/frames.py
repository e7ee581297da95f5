"""Frames of a journal segment: what is written of an exchange, and how damage is told from a torn tail. Pure.

    frame    marker (4) | payload length (u32) | CRC32C of the payload (u32) | CRC32C of these 12 bytes (u32) | payload
    payload  kind (u8) | number of request ids (u32) | header length (u32) | ids, 32 bytes each | header, JSON | body

Integers are little-endian. The head has its own checksum, so a length is believed only when no bit of it changed: a
frame that ends beyond the file was cut off, and a head that does not check, with another head after it, was damaged.
Checksums start from a seed taken from the segment's name. A body that contains a frame, its author not knowing
the name, is never mistaken for one.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import google_crc32c
import orjson

from pipeline.errors import ErrorCode, JournalCorrupt
from pipeline.records import NO_USAGE, Exchange, HttpResponse, Usage

MARKER = b"\xc3JQ\x9d"
HEAD = struct.Struct("<4sIII")
MAX_PAYLOAD_BYTES = 1 << 30

_CHECKED = struct.Struct("<4sII")
_META = struct.Struct("<BII")
ID_BYTES = 32
_UNKNOWN_OUTCOMES = frozenset(
    code for code in ErrorCode if Exchange((), 1, 0.0, 0.0, transport_error=code).is_unknown_outcome
)

# What may be asked of a journaled answer later: limits, retry times and the ids a vendor's support wants. Cookies and
# whatever else a proxy adds stay out.
_KEPT_HEADERS = frozenset({"content-type", "date", "retry-after", "retry-after-ms", "request-id", "server"})
_KEPT_PREFIXES = ("x-ratelimit-", "x-request-id", "anthropic-", "openai-", "apim-", "x-databricks-", "x-envoy-")


class Kind(IntEnum):
    """What a payload is."""

    OPENING = 1
    EXCHANGE = 2
    SEAL = 3


class Frame(NamedTuple):
    """An intact frame: where its head starts, and what it holds."""

    offset: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes that hold no intact frame. `torn`: nothing follows, as after a cut; `corrupt`: intact frames follow."""

    offset: int
    length: int
    kind: Literal["torn", "corrupt"]


class Summary(NamedTuple):
    """All of an exchange but its body and headers. `request_ids` are 32 bytes each, in the order of the batch."""

    request_ids: bytes
    attempt: int
    sent_at_s: float
    latency_ms: float
    status: int | None
    transport_error: ErrorCode | None
    run_id: str
    usage: Usage
    is_final: bool
    body_bytes: int

    @property
    def rows(self) -> int:
        """Number of requests."""
        return len(self.request_ids) // ID_BYTES

    @property
    def is_answered(self) -> bool:
        """Its requests have their answer."""
        return self.is_final and self.status == 200

    @property
    def is_unknown_outcome(self) -> bool:
        """Sent, but whether it was answered and billed is not known."""
        return self.transport_error in _UNKNOWN_OUTCOMES


def seed_of(name: str) -> int:
    """Where the checksums of a segment start; `name` without its folder."""
    return int(google_crc32c.value(name.encode()))


def encode(exchange: Exchange, seed: int = 0) -> bytes:
    """The frame of an exchange. ValueError where a request id is not 64 hexadecimal digits."""
    ids = exchange.request_ids
    binary_ids = bytes.fromhex(ids[0] if len(ids) == 1 else "".join(ids))
    if len(binary_ids) != ID_BYTES * len(ids) or (len(ids) > 1 and set(map(len, ids)) != {2 * ID_BYTES}):
        raise ValueError("a request id is a SHA-256 in 64 hexadecimal digits")
    header: dict[str, Any] = {
        "attempt": exchange.attempt,
        "sent_at_s": exchange.sent_at_s,
        "latency_ms": exchange.latency_ms,
        "run_id": exchange.run_id,
    }
    body = b""
    if exchange.response is not None:
        body = exchange.response.body
        header["status"] = exchange.response.status
        if exchange.response.headers:
            header["headers"] = {k: _clean(v) for k, v in exchange.response.headers.items() if is_kept(k)}
    if exchange.transport_error is not None:
        header["transport_error"] = exchange.transport_error
    if exchange.message:
        header["message"] = _clean(exchange.message)
    if exchange.usage is not NO_USAGE:
        header["usage"] = tuple(exchange.usage)  # orjson takes no NamedTuple
    if exchange.is_final:
        header["is_final"] = True
    return _framed((_head_of(Kind.EXCHANGE, header, binary_ids), body), seed)


def _clean(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode()  # lone surrogates are no JSON


@lru_cache(maxsize=1024)
def is_kept(header: str) -> bool:
    """True for a response header that is journaled; `header` in lower case."""
    return header in _KEPT_HEADERS or header.startswith(_KEPT_PREFIXES)


def pack(kind: Kind, header: dict[str, Any], binary_ids: bytes = b"", body: bytes = b"") -> bytes:
    """A payload."""
    return _head_of(kind, header, binary_ids) + body


def _head_of(kind: Kind, header: dict[str, Any], binary_ids: bytes) -> bytes:
    encoded = orjson.dumps(header)
    return b"".join((_META.pack(kind, len(binary_ids) // ID_BYTES, len(encoded)), binary_ids, encoded))


def frame(payload: bytes, seed: int = 0) -> bytes:
    """A payload with its head. ValueError where it is too large."""
    return _framed((payload,), seed)


def _framed(parts: Sequence[bytes], seed: int) -> bytes:
    """The frame of a payload in parts, put together once: an answer of 128 vectors has 700 kB."""
    size = sum(map(len, parts))
    if size > MAX_PAYLOAD_BYTES:
        raise ValueError(f"an exchange of {size} bytes does not fit a frame of {MAX_PAYLOAD_BYTES}")
    checksum = seed
    for part in parts:
        checksum = google_crc32c.extend(checksum, part)
    checked = _CHECKED.pack(MARKER, size, checksum)
    return b"".join((checked, google_crc32c.extend(seed, checked).to_bytes(4, "little"), *parts))


def ids_of(data: bytes, count: int) -> bytes:
    """The ids in a frame of `encode`, 32 bytes each."""
    start = HEAD.size + _META.size
    return data[start : start + count * ID_BYTES]


def kind_of(payload: bytes) -> int:
    """The kind of an intact payload."""
    return payload[0]


def header_of(payload: bytes) -> dict[str, Any]:
    """The JSON header of an intact payload. JournalCorrupt where it cannot be read: another version wrote it."""
    return _unpack(payload)[1]


def summarize(payload: bytes) -> Summary:
    """All but body and headers."""
    return _summary(payload, *_unpack(payload))


def decode(payload: bytes) -> Exchange:
    """The exchange of an intact payload, with the headers that are kept."""
    middle, header, end = _unpack(payload)
    ids = payload[_META.size : middle].hex()
    status = header.get("status")
    error = header.get("transport_error")
    usage = header.get("usage")
    try:
        return Exchange(
            (ids,)
            if len(ids) == 2 * ID_BYTES
            else tuple([ids[i : i + 2 * ID_BYTES] for i in range(0, len(ids), 2 * ID_BYTES)]),
            header["attempt"],
            header["sent_at_s"],
            header["latency_ms"],
            HttpResponse(status, payload[end:], header.get("headers", {})) if status is not None else None,
            ErrorCode(error) if error is not None else None,
            header.get("message", ""),
            header["run_id"],
            Usage(*usage) if usage is not None else NO_USAGE,
            header.get("is_final", False),
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise _other_version(exc) from exc


def _unpack(payload: bytes) -> tuple[int, dict[str, Any], int]:
    """Where the ids end, the header, and where it ends."""
    try:
        _, count, length = _META.unpack_from(payload)
        middle = _META.size + count * ID_BYTES
        header = orjson.loads(payload[middle : middle + length])
    except (struct.error, orjson.JSONDecodeError) as exc:
        raise JournalCorrupt(f"a frame checks but cannot be read: {exc}") from exc
    if not isinstance(header, dict):
        raise JournalCorrupt("a frame checks but its header is no object")
    return middle, header, middle + length


def _summary(payload: bytes, middle: int, header: dict[str, Any], end: int) -> Summary:
    usage = header.get("usage")
    error = header.get("transport_error")
    try:
        return Summary(
            request_ids=payload[_META.size : middle],
            attempt=header["attempt"],
            sent_at_s=header["sent_at_s"],
            latency_ms=header["latency_ms"],
            status=header.get("status"),
            transport_error=ErrorCode(error) if error is not None else None,
            run_id=header["run_id"],
            usage=Usage(*usage) if usage is not None else NO_USAGE,
            is_final=header.get("is_final", False),
            body_bytes=len(payload) - end,
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise _other_version(exc) from exc


def _other_version(exc: Exception) -> JournalCorrupt:
    return JournalCorrupt(f"a frame checks but is not one of this version: {type(exc).__name__} {exc}")


def scan(buffer: bytes, seed: int = 0) -> Iterator[Frame | Damage]:
    """The frames of a segment in order; every byte that is in none of them is in a `Damage`."""
    position, end = 0, len(buffer)
    while position < end:
        length = _payload_length(buffer, position, seed)
        stop = position + HEAD.size + length if length is not None else position + 1
        if length is not None and stop <= end:
            payload = buffer[position + HEAD.size : stop]
            if google_crc32c.extend(seed, payload) == int.from_bytes(buffer[position + 8 : position + 12], "little"):
                yield Frame(position, payload)
                position = stop
                continue
        following = _next_head(buffer, stop, seed)
        if following is None:
            yield Damage(position, end - position, "torn")
            return
        yield Damage(position, following - position, "corrupt")
        position = following


def frame_at(buffer: bytes, offset: int, seed: int = 0) -> tuple[int, bytes | None]:
    """The length of the whole frame that starts at `offset`, and its payload: None where the buffer ends before.

    JournalCorrupt where a checksum does not match.
    """
    length = _payload_length(buffer, offset, seed)
    if length is None:
        raise JournalCorrupt("the head of the frame does not match its checksum")
    start = offset + HEAD.size
    payload = buffer[start : start + length]
    if len(payload) < length:
        return HEAD.size + length, None
    if google_crc32c.extend(seed, payload) != int.from_bytes(buffer[offset + 8 : offset + 12], "little"):
        raise JournalCorrupt("the frame does not match its checksum")
    return HEAD.size + length, payload


def _payload_length(buffer: bytes, position: int, seed: int) -> int | None:
    """Of the frame whose head is at `position`; None where there is no intact head."""
    checked = buffer[position : position + _CHECKED.size]
    if len(buffer) - position < HEAD.size or not checked.startswith(MARKER):
        return None
    if google_crc32c.extend(seed, checked) != int.from_bytes(buffer[position + 12 : position + 16], "little"):
        return None
    return int.from_bytes(checked[4:8], "little")


def _next_head(buffer: bytes, position: int, seed: int) -> int | None:
    while (position := buffer.find(MARKER, position)) >= 0:
        if _payload_length(buffer, position, seed) is not None:
            return position
        position += 1
    return None
