"""A response's body as it comes in: unpacked, and bounded on the wire and decoded. Pure."""

import zlib

from pipeline.errors import ConnectionBroken, ResponseTooLarge

_GZIP = b"\x1f\x8b"  # what each member begins with


class BoundedBody:
    """Collects the parts of one body. A library's own decoded chunks have no bound: a bomb would be unpacked whole."""

    __slots__ = ("_decoded", "_inflater", "_max_bytes", "_wire_bytes")

    def __init__(self, max_bytes: int, is_gzip: bool) -> None:
        self._max_bytes = max_bytes
        self._inflater = zlib.decompressobj(wbits=31) if is_gzip else None
        self._decoded: bytes | bytearray = b""  # one part stays as it came; more are one array, not an object each
        self._wire_bytes = 0

    def add(self, chunk: bytes) -> None:
        """The next part, as it travelled. Raises ResponseTooLarge, and ConnectionBroken where it is not gzip."""
        self._wire_bytes += len(chunk)
        if self._wire_bytes > self._max_bytes:
            raise too_large(self._max_bytes)
        if self._inflater is None:
            self._append(chunk)
            return
        try:
            while chunk:
                self._append(self._inflater.decompress(chunk, self._max_bytes - len(self._decoded) + 1))
                chunk = self._inflater.unused_data
                if chunk.startswith(_GZIP):  # a further member (RFC 1952); anything else behind the last one is padding
                    self._inflater = zlib.decompressobj(wbits=31)
                else:
                    break
        except zlib.error as exc:
            raise ConnectionBroken("the answer's gzip cannot be decoded") from exc

    def whole(self) -> bytes:
        """All of it, unpacked. Raises ConnectionBroken where the gzip was cut off."""
        if self._inflater is not None and not self._inflater.eof and self._wire_bytes:
            raise ConnectionBroken("the answer's gzip was cut off")
        return bytes(self._decoded)

    def _append(self, part: bytes) -> None:
        if not self._decoded:
            self._decoded = part
        else:
            if isinstance(self._decoded, bytes):
                self._decoded = bytearray(self._decoded)
            self._decoded += part
        if len(self._decoded) > self._max_bytes:
            raise too_large(self._max_bytes)


def too_large(max_bytes: int) -> ResponseTooLarge:
    """What a body beyond its bound is called."""
    return ResponseTooLarge(f"the answer is larger than {max_bytes:,} bytes")
