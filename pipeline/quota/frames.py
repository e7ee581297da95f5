"""Signed frames: a length, 32 bytes of HMAC-SHA256, then JSON. Bound to their connection, direction and place in it."""

import asyncio
import hashlib
import hmac
from typing import Any, Literal

import orjson

FRAME_BYTES = 4096
NONCE_BYTES = 16
MAC_BYTES = 32
KEY_BYTES = 32
LENGTH_BYTES = 4

# What a frame is: from a worker and from the driver, each as [kind, value].
ASK, BYE = 0, 1
GRANT, NUDGE = 0, 1

Side = Literal[b"w", b"d"]  # the worker's, the driver's


class BadFrame(ValueError):
    """Unsigned, altered, replayed, out of order, too large or no JSON: never acted upon."""


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """The next frame. Its length is checked before any of it is read. Raises BadFrame, or EOFError at the end."""
    size = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
    if not 0 < size <= FRAME_BYTES:
        raise BadFrame(f"a frame of {size} bytes; {FRAME_BYTES} are allowed")
    return await reader.readexactly(size)


def with_length(frame: bytes) -> bytes:
    """A frame as it travels."""
    return len(frame).to_bytes(LENGTH_BYTES, "big") + frame


class Channel:
    """One end of a connection. Both ends have put in a nonce, so that no frame fits any other connection."""

    def __init__(self, key: bytes, nonces: bytes, side: Side) -> None:
        self._key = key
        self._nonces = nonces
        self._out: bytes = side
        self._in: bytes = b"d" if side == b"w" else b"w"
        self._sent = 0
        self._received = 0

    def seal(self, value: Any) -> bytes:
        """The next frame to send. Raises BadFrame where the value is larger than a frame."""
        payload = orjson.dumps(value)
        if MAC_BYTES + len(payload) > FRAME_BYTES:
            raise BadFrame(f"{len(payload)} bytes do not fit into a frame of {FRAME_BYTES}")
        mac = self._mac(self._out, self._sent, payload)
        self._sent += 1
        return mac + payload

    def open(self, frame: bytes) -> Any:
        """The value of the next frame received. Raises BadFrame; the frame has had no effect then."""
        if not MAC_BYTES < len(frame) <= FRAME_BYTES:
            raise BadFrame("too short or too long")
        mac, payload = frame[:MAC_BYTES], frame[MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(self._in, self._received, payload)):
            raise BadFrame("the signature does not fit")
        self._received += 1
        try:
            return orjson.loads(payload)
        except orjson.JSONDecodeError as exc:
            raise BadFrame("no JSON") from exc

    def _mac(self, side: bytes, place: int, payload: bytes) -> bytes:
        head = self._nonces + side + place.to_bytes(8, "big")
        return hmac.digest(self._key, head + payload, hashlib.sha256)
