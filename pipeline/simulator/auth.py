"""Whether a request may come in: bearer, basic or api-key. Pure."""

from base64 import b64encode
from collections.abc import Mapping
from hmac import compare_digest


class Gate:
    """Compares the three forms in which clients send a token (wire_formats 2); without a token all may pass."""

    def __init__(self, token: str | None) -> None:
        self._token = token
        basic = b64encode(f"token:{token}".encode()).decode()
        self._accepted = (f"Bearer {token}".encode(), f"Basic {basic}".encode())

    def admits(self, headers: Mapping[str, str]) -> bool:
        """True where one of the forms holds the token."""
        if self._token is None:
            return True
        given = headers.get("Authorization")
        if given is not None:
            return any(compare_digest(_to_bytes(given), accepted) for accepted in self._accepted)
        return compare_digest(_to_bytes(headers.get("api-key", "")), self._token.encode())


def _to_bytes(header: str) -> bytes:
    return header.encode("utf-8", "surrogateescape")  # as aiohttp decoded it
