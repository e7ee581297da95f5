"""Whom a TLS connection trusts."""

import functools
import ssl

import certifi


@functools.lru_cache(maxsize=8)  # reading the authorities takes tens of milliseconds
def tls_context(ca_bundle: str | None) -> ssl.SSLContext:
    """The public authorities, those of the machine, and those of `ca_bundle`. OSError where that cannot be read."""
    context = ssl.create_default_context(cafile=certifi.where())
    context.load_default_certs()  # a company's own root is often installed on the machine alone
    if ca_bundle is not None:
        context.load_verify_locations(ca_bundle)
    return context
