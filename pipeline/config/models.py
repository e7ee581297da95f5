"""The sections of a job file as frozen pydantic models; each description is what a message says is allowed. Pure."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from pipeline.config.presets import Preset
from pipeline.config.urls import check_base_url
from pipeline.records import Api, Task
from pipeline.references import parse_reference

LOCAL = "local"  # as base_url: no server, each worker embeds with wordllama
EMBEDDED = "embedded"  # as base_url: the simulator is started with the job


def _check_printable(text: str) -> str:
    if not text.strip() or any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise ValueError("must not be blank or contain control characters")
    return text


def _check_not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


def _check_distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if len({name.casefold() for name in names}) < len(names):
        raise ValueError("must name each column once; Spark does not tell upper from lower case")
    return names


def _check_reference(text: str) -> str:
    parse_reference(text)
    return text


def _check_base_url(text: str) -> str:
    return text if text in (EMBEDDED, LOCAL) else check_base_url(text)


def _check_job_task(value: Any) -> Any:
    if value not in ("chat", "embedding", "completion"):  # custom models are for functions
        raise ValueError("must be 'chat', 'embedding' or 'completion'")
    return value


JobTask = Annotated[Task, Field(strict=False), BeforeValidator(_check_job_task)]
Name = Annotated[str, AfterValidator(_check_printable)]
Template = Annotated[str, AfterValidator(_check_not_blank)]
# TOML has lists only; a tuple keeps the model frozen. The names inside stay strict.
Columns = Annotated[tuple[Name, ...], Field(strict=False), AfterValidator(_check_distinct)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Wait = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Resends = Annotated[int, Field(ge=0, le=100)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Section(BaseModel):
    """What all sections share: frozen, nothing unknown, nothing converted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


class JobSection(Section):
    """`[job]`: what the job is called and how it lands."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,128}\z", description="1 to 128 of A-Z a-z 0-9 . _ -")
    mode: Literal["append", "overwrite", "merge"] = Field(
        default="append",
        description="append: only rows whose key is not there yet; overwrite: all anew; merge: update by key",
    )
    on_error: Literal["keep", "fail"] = Field(
        default="keep", description="keep: failed rows land; fail: so they do, then exit 1"
    )
    buckets: int | None = Field(
        default=None, ge=1, le=100_000, description="request buckets, 1 to 100000; default from the rows"
    )


class SourceSection(Section):
    """`[source]`: the table that is read."""

    format: Literal["delta", "parquet", "csv", "json", "table", "query"] = Field(
        description="table needs table, query needs query, the others need path"
    )
    path: Name | None = Field(default=None, description="file or folder, for delta, parquet, csv and json")
    table: Name | None = Field(default=None, description="catalog.schema.name, for table")
    query: Template | None = Field(default=None, description="a SELECT, for query")
    key: Columns = Field(default=(), description='columns that identify a row, like ["name"]')
    where: Template | None = Field(default=None, description="SQL condition that rows must meet")
    limit: Count | None = Field(default=None, description="rows at most, 1 or more")
    select: Annotated[Columns, Field(min_length=1)] | None = Field(
        default=None, description='columns to keep, like ["name", "doc"]; default all'
    )
    changed: bool = Field(False, description="true: rows whose prompt inputs changed since they landed are asked again")
    trigger: Literal["available_now"] | None = Field(
        None, description="available_now: a stream (delta, parquet, csv, json, table), worked off batch by batch"
    )
    change_feed: bool = Field(False, description="true: the changes of a Delta source since the last run; with trigger")
    options: dict[Name, str] = Field(
        default_factory=dict, description='options of Spark\'s reader, all strings, like { header = "true" }'
    )


class RequestSection(Section):
    """`[request]`: what is asked for each row. Templates are Jinja2 over the row's columns."""

    task: JobTask = Field(description="what is asked")
    system: Template | None = Field(default=None, description="system prompt template, for chat")
    prompt: Template | None = Field(default=None, description="user prompt template, for chat and completion")
    messages: Name | None = Field(default=None, description="column that holds a JSON array of messages, for chat")
    text: Template | None = Field(default=None, description="template of the text to embed, for embedding")
    parameters: dict[str, Any] = Field(default_factory=dict, description="sent as given, like { max_tokens = 60 }")


class AuthTable(Section):
    """`auth` of `[endpoint]`: how a credential is sent, and where it is found."""

    scheme: Literal["bearer", "basic", "api-key"] = Field(description="how the credential is sent")
    secret: Annotated[str, AfterValidator(_check_reference)] = Field(description="where the credential is found")


class EndpointSection(Section):
    """`[endpoint]`: the server and its wire protocol."""

    name: Name = Field(description="the model, or the serving endpoint")
    api: Api = Field(description="the wire protocol: openai or databricks")
    base_url: Annotated[str, AfterValidator(_check_base_url)] = Field(
        description='like "https://host/v1"; for databricks the host; "embedded": the simulator; "local": no server'
    )
    auth: AuthTable | None = Field(
        default=None, description='like { scheme = "bearer", secret = "env:NAME" }; absent: none'
    )
    transport: Literal["httptools", "reqwest", "httpx"] = Field(default="httptools", description="the HTTP library")
    timeout_s: Seconds = Field(default=120.0, description="of a whole exchange, more than 0")
    connect_timeout_s: Seconds = Field(default=10.0, description="of a connection, more than 0")
    read_timeout_s: Seconds | None = Field(
        default=None, description="between two reads, more than 0; default timeout_s"
    )
    max_response_bytes: int | None = Field(
        default=None,
        ge=1024,
        description="of an answer, decoded, 1024 or more; default 16 MiB for chat, 64 MiB for embedding",
    )
    send_run_id: bool = Field(default=False, description="true: a header names the run; the simulator always gets it")
    ca_bundle: Name | None = Field(default=None, description="PEM file of further certificate authorities")


class LimitsSection(Section):
    """`[limits]`: what the whole job may send, and how large a call may be."""

    in_flight: int = Field(default=256, ge=1, le=100_000, description="calls at once of the whole job, 1 to 100000")
    preset: Preset | None = Field(default=None, description="a provider's limits and rule; single values go over it")
    requests_per_second: Rate | None = Field(default=None, description="calls per second, more than 0")
    requests_per_minute: Rate | None = Field(default=None, description="calls per minute, more than 0")
    requests_per_hour: Rate | None = Field(default=None, description="calls per hour, more than 0")
    input_tokens_per_minute: Rate | None = Field(default=None, description="tokens sent per minute, more than 0")
    output_tokens_per_minute: Rate | None = Field(default=None, description="tokens answered per minute, more than 0")
    tokens_per_minute: Rate | None = Field(default=None, description="tokens of both kinds per minute, more than 0")
    reserve_output: Literal["max_tokens", "larger", "estimate", "none"] | None = Field(
        default=None,
        description="what the provider takes off before the answer: max_tokens, of tokens_per_minute the larger of input "
        "and max_tokens, an estimate, or none",
    )
    shared: Literal["leases", "static"] = Field(
        default="leases", description="leases: by demand, from the driver; static: an equal part for each task"
    )
    max_batch_rows: Count | None = Field(
        default=None, description="texts per embedding call, 1 or more; default 150 for databricks, 128 for openai"
    )
    max_batch_tokens: Count | None = Field(
        default=None, description="estimated tokens per embedding call, 1 or more; default no limit"
    )
    max_batch_bytes: Count = Field(
        default=4_000_000, description="body of an embedding call of several texts, 1 or more"
    )
    max_request_bytes: Count = Field(
        default=4_000_000, description="body of any call, 1 or more; larger rows are refused"
    )


class RetrySection(Section):
    """`[retry]`: how often and how long a row is tried. Rate limits use up time, not attempts."""

    max_attempts: int = Field(default=5, ge=1, le=100, description="calls per row, the first included, 1 to 100")
    base_s: Wait = Field(default=0.5, description="first wait at most, doubled each time, 0 or more")
    max_wait_s: Wait = Field(default=60.0, description="one wait at most, 0 or more")
    deadline_s: Wait = Field(default=900.0, description="a row with all its waits, 0 or more")
    max_unknown_resends: Resends = Field(
        default=1, description="resends where the connection broke after sending, 0 to 100"
    )
    max_invalid_resends: Resends = Field(default=1, description="resends where the answer was unusable, 0 to 100")
    outage_limit_s: Wait = Field(
        default=900.0,
        description="an endpoint that is down pauses the job; after so long it stops; 0: rows fail at once",
    )
    retry_failed: Literal["transient", "all", "none"] = Field(
        default="transient",
        description="rows that failed in an earlier run and are asked again: transient, all or none",
    )


class BudgetSection(Section):
    """`[budget]`: what the job may spend, over all its runs and workers, and by which prices."""

    max_requests: Count | None = Field(default=None, description="calls in all, 1 or more")
    max_tokens: Count | None = Field(default=None, description="tokens in all, sent and answered, 1 or more")
    max_cost: Rate | None = Field(default=None, description="in the currency of the prices, more than 0")
    prices: Name | None = Field(
        default=None, description="file with [[prices]] tables, before the shipped pipeline/prices.toml"
    )


class EmbeddingSection(Section):
    """`[embedding]`: what a vector must be like."""

    normalization: Literal["check", "require", "normalize", "off"] = Field(
        default="check",
        description="check: tell per row; require: else an error; normalize: scale to length 1; off: not judged",
    )
    dimensions: int | None = Field(
        default=None, ge=1, le=65_536, description="what must come back, 1 to 65536; default any"
    )
    tolerance: float = Field(
        default=1e-3, gt=0, lt=1, allow_inf_nan=False, description="|norm - 1| of a normalised vector, between 0 and 1"
    )
    model: Name | None = Field(default=None, description="the model that must have answered; default any")
    finite: bool = Field(default=True, description="true: nan or inf in a vector is an error")
    non_zero: bool = Field(default=True, description="true: a vector of zeros is an error")


class SinkSection(Section):
    """`[sink]`: the table that is written."""

    format: Literal["delta", "parquet"] = Field(description="kind of table")
    path: Name | None = Field(default=None, description="folder of the table")
    table: Name | None = Field(default=None, description="catalog.schema.name, Delta only")
    prefix: str = Field(
        default="",
        pattern=r"^([A-Za-z_][A-Za-z0-9_]{0,63})?\z",
        description="put before each result column, like ai_; up to 64 letters, digits and _",
    )


class StateSection(Section):
    """`[state]`: what a rerun resumes from."""

    path: Name | None = Field(default=None, description="folder of the journal; default the sink's path with .state")
    fsync: Literal["never", "interval", "always"] = Field(
        default="never", description="when the journal is forced to the disk"
    )
