"""What a base URL may look like, and whether it stays on this machine. Pure."""

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

_BLANK_OR_CONTROL = re.compile(r"[\x00-\x20\x7f]")


def check_base_url(url: str) -> str:
    """The URL without trailing slashes.

    Raises ValueError that never repeats the URL, since it may carry a credential.
    """
    if _BLANK_OR_CONTROL.search(url):
        raise ValueError("must not contain blanks or control characters")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("must be a URL; its host or port cannot be read") from None
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise ValueError('must start with http:// or https:// and name a host, or be "embedded"')
    if "@" in parts.netloc:
        raise ValueError("must not carry a user name or password; reference a secret in [endpoint] auth")
    if "?" in url or "#" in url:
        raise ValueError("must not carry a query or fragment; reference a key in [endpoint] auth")
    return url.rstrip("/")


def is_loopback(url: str) -> bool:
    """True where the host is this machine; never resolves a name."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
