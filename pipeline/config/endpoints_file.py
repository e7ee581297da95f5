"""The endpoints file: named servers for `ai_query`, checked before anything is sent."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, ValidationError
from pydantic_core import ErrorDetails

from pipeline.config.load import read_toml
from pipeline.config.messages import nearest, reason
from pipeline.config.models import (
    AuthTable,
    EmbeddingSection,
    LimitsSection,
    Name,
    RetrySection,
    Seconds,
    Section,
)
from pipeline.config.urls import check_base_url
from pipeline.errors import ConfigError
from pipeline.records import Api


class NamedEndpointTable(Section):
    """`[endpoints.<name>]`: one server and how it is used."""

    kind: Literal["chat", "embedding", "completion", "custom"] = Field(description="what it answers")
    api: Api = Field(default="openai", description="the wire protocol")
    base_url: Annotated[str, AfterValidator(check_base_url)] = Field(
        description='like "https://host/v1"; for databricks the workspace host'
    )
    model: Name | None = Field(default=None, description="the model, or the serving endpoint; default the name itself")
    auth: AuthTable | None = Field(
        default=None, description='like { scheme = "bearer", secret = "env:NAME" }; absent: none'
    )
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="sent with every call unless modelParameters say otherwise"
    )
    transport: Literal["httptools", "reqwest", "httpx"] = Field(default="httptools", description="the HTTP library")
    timeout_s: Seconds = Field(default=120.0, description="of a whole exchange, more than 0")
    connect_timeout_s: Seconds = Field(default=10.0, description="of a connection, more than 0")
    read_timeout_s: Seconds | None = Field(
        default=None, description="between two reads, more than 0; default timeout_s"
    )
    max_response_bytes: int | None = Field(
        default=None, ge=1024, description="of an answer, decoded; default 16 MiB for chat, 64 MiB for embedding"
    )
    ca_bundle: Name | None = Field(default=None, description="PEM file of further certificate authorities")
    limits: LimitsSection = Field(default_factory=LimitsSection, description="see [limits] of a job file")
    retry: RetrySection = Field(default_factory=RetrySection, description="see [retry] of a job file")
    embedding: EmbeddingSection = Field(default_factory=EmbeddingSection, description="what a vector must be like")


class EndpointsFile(Section):
    """The whole file."""

    default_endpoint: Name | None = Field(default=None, description="the chat endpoint of ai_gen and its siblings")
    default_embedding_endpoint: Name | None = Field(default=None, description="that of ai_embed and ai_similarity")
    endpoints: dict[Name, NamedEndpointTable] = Field(default_factory=dict, description="tables by name")


def load_endpoints(path: str) -> EndpointsFile:
    """The checked endpoints of a TOML file. Raises ConfigError with one line per mistake; none shows a value."""
    return endpoints_from_mapping(read_toml(path), path)


def endpoints_from_mapping(mapping: Mapping[str, Any], origin: str) -> EndpointsFile:
    """The same from nested tables; `origin` opens every message."""
    try:
        file = EndpointsFile.model_validate(mapping)
    except ValidationError as exc:
        lines = [f"{origin}: {_line(error)}" for error in exc.errors(include_url=False, include_input=False)]
        raise ConfigError("\n".join(lines)) from None
    wrong = [f"{origin}: {line}" for line in _contradictions(file)]
    if wrong:
        raise ConfigError("\n".join(wrong))
    return file


def _contradictions(file: EndpointsFile) -> Iterator[str]:
    for name, table in file.endpoints.items():
        if table.kind == "custom" and table.api != "databricks":
            yield f'[endpoints.{name}] api: must be "databricks" for kind = "custom"; nobody else serves such models'
        if "shared" in table.limits.model_fields_set and table.limits.shared != "static":
            yield (
                f'[endpoints.{name}.limits] shared: must be "static" or left out; the tasks of a query have equal parts '
                "of a limit, and leases are for jobs"
            )
    wanted = (("default_endpoint", "chat"), ("default_embedding_endpoint", "embedding"))
    for field, kind in wanted:
        name = getattr(file, field)
        if name is None:
            continue
        chosen = file.endpoints.get(name)
        if chosen is None:
            yield f"{field} = {name}: there is no [endpoints.{name}]. Known: {', '.join(sorted(file.endpoints))}"
        elif chosen.kind != kind:
            yield f"{field} = {name}: must be of kind {kind}, and [endpoints.{name}] is of kind {chosen.kind}"


def _line(error: ErrorDetails) -> str:
    location = error["loc"]
    place = _written(location)
    if error["type"] == "extra_forbidden":
        known = tuple(_model_at(location[:-1]).model_fields)
        meant = nearest(str(location[-1]), known)
        return f"{place}: unknown key{f'; did you mean {meant}?' if meant else '.'} Known: {', '.join(known)}"
    if error["type"] == "missing":
        return f"{place}: is missing"
    return f"{place}: {reason(error)}"


def _written(location: tuple[int | str, ...]) -> str:
    tables, key = location[:-1], str(location[-1])
    return f"[{'.'.join(map(str, tables))}] {key}" if tables else key


def _model_at(location: tuple[int | str, ...]) -> type[BaseModel]:
    if location[:1] != ("endpoints",):
        return EndpointsFile
    inner: dict[str, type[BaseModel]] = {
        "auth": AuthTable,
        "limits": LimitsSection,
        "retry": RetrySection,
        "embedding": EmbeddingSection,
    }
    return inner.get(str(location[2]), NamedEndpointTable) if len(location) > 2 else NamedEndpointTable
