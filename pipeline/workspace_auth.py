"""Databricks unified authentication: what the environment, a profile or the cloud offers; the only door to its SDK.

What travels is the workspace's address. Each worker process finds the credential where it runs, and the SDK refreshes
tokens that expire.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.auth import Credentials
from pipeline.errors import ConfigError

# Of the SDK's own requests for tokens: its default of 300 s would be silence.
_TIMEOUT_S = 20

_sources: dict[str, Callable[[], dict[str, str]]] = {}
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class WorkspaceCredentials:
    """The credential for a workspace, by its host. Picklable: holds no token."""

    host: str

    def describe(self) -> str:
        """For messages."""
        return f"Databricks authentication for {self.host}"

    def headers(self) -> dict[str, str]:
        """The header to send now, its name in lower case. Raises ConfigError where no credential is found."""
        with _lock:
            source = _sources.get(self.host)
            if source is None:
                source = _sources[self.host] = _opened(self.host)
        try:
            return {name.lower(): value for name, value in source().items()}
        except (ValueError, OSError) as exc:
            raise ConfigError(f"{self.describe()}: no token: {_first_sentence(exc)}") from None


AnyCredentials = Credentials | WorkspaceCredentials


def _opened(host: str) -> Callable[[], dict[str, str]]:
    try:
        from databricks.sdk.core import Config
    except ImportError:
        raise ConfigError(
            f"Databricks authentication for {host}: DATABRICKS_TOKEN is not set, and everything else needs the package "
            "databricks-sdk: pip install 'spark-ai-query[databricks]'"
        ) from None
    try:
        config = Config(host=host, http_timeout_seconds=_TIMEOUT_S, retry_timeout_seconds=_TIMEOUT_S)
    except (ValueError, OSError) as exc:
        raise ConfigError(f"Databricks authentication for {host}: {_first_sentence(exc)}") from None
    authenticate: Callable[[], dict[str, str]] = config.authenticate
    return authenticate


def _first_sentence(exc: Exception) -> str:
    """Without the configuration that the SDK appends."""
    return str(exc).split(". Config:")[0].split("\n")[0].rstrip(".")
