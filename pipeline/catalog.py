"""Endpoints by name: what the endpoints file says, then the workspace that the environment names."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.batching import PackLimits
from pipeline.config import EndpointsFile, NamedEndpointTable, endpoints_from_mapping, load_endpoints
from pipeline.errors import ConfigError
from pipeline.limits import Limit, ReserveOutput
from pipeline.records import Api, Task
from pipeline.retry import RetrySettings
from pipeline.settings import (
    credentials_of,
    embedding_contract,
    rate_limits,
    reserve_output,
    retry_settings,
    transport_spec,
)
from pipeline.transports import TransportSpec
from pipeline.vectors import EmbeddingContract
from pipeline.workspace_auth import AnyCredentials, WorkspaceCredentials

# Databricks' own embedding models by what their names contain; every other endpoint of a workspace is taken for chat.
_EMBEDDING_WORDS = ("embedding", "gte-", "bge-")
_CUSTOM_ROWS = 100  # records per call of a custom model; its body may have 16 MB (wire_formats 1.11)
_BATCH_ROWS = {"databricks": 150, "openai": 128}  # wire_formats 1.8: at most 150; OpenAI takes 2,048, but slowly
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class NamedEndpoint:
    """One endpoint as a function call uses it; holds references to secrets, never secrets."""

    name: str
    task: Task
    model: str
    api: Api
    base_url: str
    in_flight: int = 256  # of the whole query
    parameters: Mapping[str, Any] = field(default_factory=dict)
    credentials: AnyCredentials | None = None
    pack: PackLimits = field(default_factory=PackLimits)
    retry: RetrySettings = field(default_factory=RetrySettings)
    contract: EmbeddingContract | None = None
    transport_kind: str = "httptools"
    transport: TransportSpec = field(default_factory=TransportSpec)
    max_request_bytes: int = 4_000_000
    limits: tuple[Limit, ...] = ()  # of the whole query; each task has an equal part
    reserve_output: ReserveOutput = "max_tokens"
    note: str = ""  # for messages: where its name was looked for before


@dataclass(frozen=True, slots=True)
class Catalog:
    """The endpoints that a session knows."""

    endpoints: Mapping[str, NamedEndpoint] = field(default_factory=dict)
    default_endpoint: str | None = None
    default_embedding_endpoint: str | None = None
    origin: str = "no endpoints file"

    def find(self, name: str, environment: Mapping[str, str] | None = None) -> NamedEndpoint:
        """The endpoint of this name; where the file has none, a serving endpoint at DATABRICKS_HOST.

        Raises ConfigError that lists what is known.
        """
        found = self.endpoints.get(name)
        if found is not None:
            return found
        variables = os.environ if environment is None else environment
        known = ", ".join(sorted(self.endpoints)) or "none"
        if name and variables.get("DATABRICKS_HOST"):
            endpoint = _of_workspace(name, variables["DATABRICKS_HOST"], bool(variables.get("DATABRICKS_TOKEN")))
            return replace(endpoint, note=f"Known in {self.origin}: {known}; every other name is DATABRICKS_HOST's")
        raise ConfigError(
            f"the endpoint {name!r} is unknown. Known in {self.origin}: {known}; DATABRICKS_HOST is not set"
        )

    def default(self, task: Task, configured: str | None = None) -> NamedEndpoint:
        """The endpoint of functions that name none: as configured for the session, else by the file."""
        is_chat = task is Task.CHAT
        name = configured or (self.default_endpoint if is_chat else self.default_embedding_endpoint)
        key = "default_endpoint" if is_chat else "default_embedding_endpoint"
        if name is None:
            raise ConfigError(
                f"no {task} endpoint is the default: set spark.conf pipeline.ai.{key}, or {key} in the file"
            )
        endpoint = self.find(name)
        if endpoint.task is not task:
            raise ConfigError(f"{key} = {name}: is of kind {endpoint.task}, not {task}")
        return endpoint


def open_catalog(source: str | Mapping[str, Any] | None) -> Catalog:
    """The catalog of a TOML file, of nested tables, or an empty one. Raises ConfigError."""
    if source is None:
        return Catalog()
    if isinstance(source, Mapping):
        return _catalog(endpoints_from_mapping(source, "endpoints"), "endpoints")
    return _catalog(load_endpoints(source), source)


def _catalog(file: EndpointsFile, origin: str) -> Catalog:
    return Catalog(
        {name: _named(name, table) for name, table in file.endpoints.items()},
        file.default_endpoint,
        file.default_embedding_endpoint,
        origin,
    )


def _named(name: str, table: NamedEndpointTable) -> NamedEndpoint:
    limits = table.limits
    is_embedding = table.kind == "embedding"
    most_rows = _BATCH_ROWS[table.api] if is_embedding else _CUSTOM_ROWS if table.kind == "custom" else 1
    return NamedEndpoint(
        name,
        Task(table.kind),
        table.model or name,
        table.api,
        table.base_url,
        in_flight=limits.in_flight,
        parameters=dict(table.parameters),
        credentials=credentials_of(table.auth),
        pack=PackLimits(limits.max_batch_rows or most_rows, limits.max_batch_tokens, limits.max_batch_bytes)
        if most_rows > 1
        else PackLimits(),
        retry=retry_settings(table.retry)
        if "outage_limit_s" in table.retry.model_fields_set
        else replace(retry_settings(table.retry), outage_limit_s=0.0),  # somebody waits for the query
        contract=embedding_contract(table.embedding) if is_embedding else None,
        transport_kind=table.transport,
        transport=transport_spec(
            table,
            in_flight=limits.in_flight,
            response_bytes=table.max_response_bytes or (64 if is_embedding else 16) * _MIB,
        ),
        max_request_bytes=limits.max_request_bytes,
        limits=rate_limits(limits),
        reserve_output=reserve_output(limits),
    )


def _of_workspace(name: str, host: str, has_token: bool) -> NamedEndpoint:
    """A serving endpoint of the workspace; a token of the environment needs no SDK, every other credential does."""
    kind = "embedding" if any(word in name.lower() for word in _EMBEDDING_WORDS) else "chat"
    base_url = host if "://" in host else f"https://{host}"
    table: dict[str, Any] = {"kind": kind, "api": "databricks", "base_url": base_url}
    if has_token:
        table["auth"] = {"scheme": "bearer", "secret": "env:DATABRICKS_TOKEN"}
    file = endpoints_from_mapping({"endpoints": {name: table}}, "DATABRICKS_HOST")
    found = _named(name, file.endpoints[name])
    return found if has_token else replace(found, credentials=WorkspaceCredentials(base_url))
