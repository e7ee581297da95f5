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

    def admits(self, headers: Mapping[bytes, bytes]) -> bool:
        """True where one of the forms holds the token. Names in lower case."""
        if self._token is None:
            return True
        given = headers.get(b"authorization")
        if given is not None:
            return any(compare_digest(given, accepted) for accepted in self._accepted)
        return compare_digest(headers.get(b"api-key", b""), self._token.encode())
