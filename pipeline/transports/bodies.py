"""A response's body as it comes in: unpacked, and bounded on the wire and decoded. Pure."""

import zlib

from pipeline.errors import ConnectionBroken, ResponseTooLarge


class BoundedBody:
    """Collects the parts of one body. A library's own decoded chunks have no bound: a bomb would be unpacked whole."""

    __slots__ = ("_decoded_bytes", "_inflater", "_max_bytes", "_parts", "_wire_bytes")

    def __init__(self, max_bytes: int, is_gzip: bool) -> None:
        self._max_bytes = max_bytes
        self._inflater = zlib.decompressobj(wbits=31) if is_gzip else None
        self._parts: list[bytes] = []
        self._wire_bytes = self._decoded_bytes = 0

    def add(self, chunk: bytes) -> None:
        """The next part, as it travelled. Raises ResponseTooLarge, and ConnectionBroken where it is not gzip."""
        self._wire_bytes += len(chunk)
        if self._inflater is not None:
            try:
                chunk = self._inflater.decompress(chunk, self._max_bytes - self._decoded_bytes + 1)
            except zlib.error as exc:
                raise ConnectionBroken("the answer's gzip cannot be decoded") from exc
        self._decoded_bytes += len(chunk)
        self._parts.append(chunk)
        if self._wire_bytes > self._max_bytes or self._decoded_bytes > self._max_bytes:
            raise too_large(self._max_bytes)

    def whole(self) -> bytes:
        """All of it, unpacked. Raises ConnectionBroken where the gzip was cut off."""
        if self._inflater is not None and not self._inflater.eof and self._wire_bytes:
            raise ConnectionBroken("the answer's gzip was cut off")
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)


def too_large(max_bytes: int) -> ResponseTooLarge:
    """What a body beyond its bound is called."""
    return ResponseTooLarge(f"the answer is larger than {max_bytes:,} bytes")
