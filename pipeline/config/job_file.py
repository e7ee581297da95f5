"""The whole job file: its sections, what contradicts what, and what is worth a warning. Pure."""

import math
import posixpath
from collections.abc import Callable, Iterator
from typing import Any, Self

from pydantic import ConfigDict, Field, model_validator

from pipeline.config.embedding import JobEmbeddingSection
from pipeline.config.mistakes import Mistake, written_as
from pipeline.config.models import (
    EMBEDDED,
    LOCAL,
    BudgetSection,
    EndpointSection,
    JobSection,
    LimitsSection,
    RequestSection,
    RetrySection,
    Section,
    SinkSection,
    SourceSection,
    StateSection,
)
from pipeline.config.urls import is_loopback
from pipeline.records import Task

MIB = 1024 * 1024
_BATCH_ROWS = {"databricks": 150, "openai": 128}  # wire_formats 1.8: at most 150; OpenAI takes 2,048, but slowly
# What the job fills in by itself, and where a person says it.
OWN_PARAMETERS = {
    "messages": "[request] prompt or messages",
    "model": "[endpoint] name",
    "input": "[request] text",
    "prompt": "[request] prompt",
    "stream": "the design: answers are read whole",
}
_LOCATIONS_OF_FORMAT = {"table": "table", "query": "query"}  # every other format has a path


class JobFile(Section):
    """A checked job file. What it lacks and a rule decides is a property; nothing is resolved or opened here."""

    model_config = ConfigDict(title="job file")

    job: JobSection = Field(description="name and mode of the job")
    source: SourceSection = Field(description="the table that is read")
    request: RequestSection = Field(description="what is asked for each row")
    endpoint: EndpointSection = Field(description="the server that answers")
    limits: LimitsSection = Field(default=LimitsSection(), description="what may happen at once")
    retry: RetrySection = Field(default=RetrySection(), description="how often a row is tried")
    budget: BudgetSection = Field(default=BudgetSection(), description="what the job may spend")
    embedding: JobEmbeddingSection = Field(default=JobEmbeddingSection(), description="vectors and long texts")
    sink: SinkSection = Field(description="the table that is written")
    state: StateSection = Field(default=StateSection(), description="what a rerun resumes from")

    @property
    def state_path(self) -> str:
        """Folder of the journal and the run sequence: as given, or beside the sink."""
        return self.state.path or f"{(self.sink.path or '').rstrip('/')}.state"

    @property
    def batch_rows(self) -> int:
        """Texts per embedding call at most."""
        return self.limits.max_batch_rows or _BATCH_ROWS[self.endpoint.api]

    @property
    def batch_bytes(self) -> int:
        """Body of an embedding call of several texts at most."""
        return min(self.limits.max_batch_bytes, self.limits.max_request_bytes)

    @property
    def response_bytes(self) -> int:
        """Decoded size of an answer at most."""
        return self.endpoint.max_response_bytes or (16 * MIB if self.request.task is not Task.EMBEDDING else 64 * MIB)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What works and may still surprise, one sentence each."""
        return tuple(_warnings(self))

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> Self:
        if mistakes := [mistake for _, rule in RULES for mistake in rule(self)]:
            raise ValueError("; ".join(f"{written_as(mistake.location)}: {mistake.text}" for mistake in mistakes))
        return self


def _source_location(job: JobFile) -> Iterator[Mistake]:
    source = job.source
    needed = _LOCATIONS_OF_FORMAT.get(source.format, "path")
    for name in ("path", "table", "query"):
        is_given = getattr(source, name) is not None
        if name == needed and not is_given:
            yield Mistake(("source", name), f'is missing; format = "{source.format}" needs {name}', has_value=False)
        if name != needed and is_given:
            yield Mistake(("source", name), f'does not go with format = "{source.format}", which needs {needed}')


def _source_options(job: JobFile) -> Iterator[Mistake]:
    if job.source.format == "query" and job.source.options:
        yield Mistake(("source", "options"), 'does not go with format = "query", which has no reader')


def _source_key(job: JobFile) -> Iterator[Mistake]:
    select = job.source.select
    if select is not None:
        kept = {name.casefold() for name in select}
        if lost := [name for name in job.source.key if name.casefold() not in kept]:
            yield Mistake(("source", "select"), f"must contain the key columns; it lacks {', '.join(lost)}")


def _request_of_chat(job: JobFile) -> Iterator[Mistake]:
    request = job.request
    if request.task is not Task.CHAT:
        return
    if request.text is not None:
        yield Mistake(("request", "text"), 'does not go with task = "chat", which needs prompt or messages')
    elif request.prompt is None and request.messages is None:
        yield Mistake(("request", "prompt"), 'is missing; task = "chat" needs prompt or messages', has_value=False)
    if request.prompt is not None and request.messages is not None:
        yield Mistake(("request", "messages"), "does not go with prompt; give one of the two")


def _request_of_completion(job: JobFile) -> Iterator[Mistake]:
    request = job.request
    if request.task is not Task.COMPLETION:
        return
    for name in ("system", "messages", "text"):
        if getattr(request, name) is not None:
            yield Mistake(("request", name), 'does not go with task = "completion", which needs prompt')
    if request.prompt is None:
        yield Mistake(("request", "prompt"), 'is missing; task = "completion" needs prompt', has_value=False)


def _request_of_embedding(job: JobFile) -> Iterator[Mistake]:
    request = job.request
    if request.task is not Task.EMBEDDING:
        return
    for name in ("system", "prompt", "messages"):
        if getattr(request, name) is not None:
            yield Mistake(("request", name), 'does not go with task = "embedding", which needs text')
    if request.text is None and request.prompt is None:
        yield Mistake(("request", "text"), 'is missing; task = "embedding" needs text', has_value=False)


def _parameters(job: JobFile) -> Iterator[Mistake]:
    for name, value in job.request.parameters.items():
        if name in OWN_PARAMETERS:
            yield Mistake(("request", "parameters", name), f"is filled in by the job, from {OWN_PARAMETERS[name]}")
        elif not _is_json(value):
            yield Mistake(
                ("request", "parameters", name), "must be what JSON can say: no date, no time, no nan, no inf"
            )


def _is_json(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_json(inner) for key, inner in value.items())
    if isinstance(value, list):
        return all(_is_json(inner) for inner in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, str | int)


def _dimensions(job: JobFile) -> Iterator[Mistake]:
    asked, expected = job.request.parameters.get("dimensions"), job.embedding.dimensions
    if asked is not None and expected is not None and asked != expected:
        yield Mistake(("embedding", "dimensions"), "must equal dimensions in [request] parameters, which are asked for")


def _chunk_rows(job: JobFile) -> Iterator[Mistake]:
    section = job.embedding
    if job.job.mode == "merge" and section.long_text == "chunk" and section.chunks == "rows":
        yield Mistake(("embedding", "chunks"), 'must be "pooled" with [job] mode = "merge": a key has one row there')


def _overlap(job: JobFile) -> Iterator[Mistake]:
    section = job.embedding
    if section.max_text_tokens is not None and section.chunk_overlap_tokens >= section.max_text_tokens:
        text = f"must be less than max_text_tokens = {section.max_text_tokens}"
        yield Mistake(("embedding", "chunk_overlap_tokens"), text)


def _truncation(job: JobFile) -> Iterator[Mistake]:
    kept, asked = job.embedding.truncate_to, job.request.parameters.get("dimensions")
    if kept is None:
        return
    if job.embedding.dimensions is not None and kept > job.embedding.dimensions:
        yield Mistake(("embedding", "truncate_to"), f"must be at most dimensions = {job.embedding.dimensions}")
    elif type(asked) is int and kept > asked:
        yield Mistake(("embedding", "truncate_to"), f"must be at most dimensions = {asked} in [request] parameters")


def _scaled_vectors(job: JobFile) -> Iterator[Mistake]:
    if job.embedding.normalization in ("require", "normalize"):
        for name in ("finite", "non_zero"):
            if not getattr(job.embedding, name):
                text = (
                    f'must be true with normalization = "{job.embedding.normalization}"; such a vector has no length 1'
                )
                yield Mistake(("embedding", name), text)


def _local_endpoint(job: JobFile) -> Iterator[Mistake]:
    if job.endpoint.base_url != LOCAL:
        return
    if job.request.task is not Task.EMBEDDING:
        yield Mistake(("endpoint", "base_url"), '"local" is for task = "embedding"; chat needs a server')
    if job.endpoint.api != "openai":
        yield Mistake(("endpoint", "api"), 'must be "openai" with base_url = "local"')


def _endpoint_path(job: JobFile) -> Iterator[Mistake]:
    url = job.endpoint.base_url
    if job.endpoint.api == "databricks" and "/serving-endpoints" in url:
        text = 'must be the workspace host alone; api = "databricks" adds /serving-endpoints/{name}/invocations'
        yield Mistake(("endpoint", "base_url"), text)
    if job.endpoint.api == "openai" and url.endswith(("/chat/completions", "/embeddings")):
        text = 'must end before /chat/completions or /embeddings, like "https://host/v1"; api = "openai" adds them'
        yield Mistake(("endpoint", "base_url"), text)


def _batch_bytes(job: JobFile) -> Iterator[Mistake]:
    limits = job.limits
    if "max_batch_bytes" in limits.model_fields_set and limits.max_batch_bytes > limits.max_request_bytes:
        yield Mistake(("limits", "max_batch_bytes"), f"must be at most max_request_bytes = {limits.max_request_bytes}")


def _sink_location(job: JobFile) -> Iterator[Mistake]:
    sink = job.sink
    if sink.table is not None and sink.format == "parquet":
        yield Mistake(("sink", "table"), 'does not go with format = "parquet", which needs path')
    elif sink.table is not None and sink.path is not None:
        yield Mistake(("sink", "table"), "does not go with path; give one of the two")
    if sink.table is None and sink.path is None:
        allowed = "path" if sink.format == "parquet" else "path or table"
        yield Mistake(("sink", "path"), f'is missing; format = "{sink.format}" needs {allowed}', has_value=False)


def _merge_key(job: JobFile) -> Iterator[Mistake]:
    if job.job.mode == "merge" and not job.source.key:
        yield Mistake(("job", "mode"), "needs [source] key, the columns that identify a row; or use append, overwrite")


def _changed_rows(job: JobFile) -> Iterator[Mistake]:
    if job.source.changed and job.job.mode != "merge":
        yield Mistake(("source", "changed"), 'needs [job] mode = "merge", which replaces the row that has landed')


def _streaming(job: JobFile) -> Iterator[Mistake]:
    source = job.source
    if source.trigger is None:
        if source.change_feed:
            yield Mistake(("source", "change_feed"), 'needs trigger = "available_now"')
        return
    if source.format == "query":
        yield Mistake(("source", "trigger"), 'does not go with format = "query"; use a table, Delta or files')
    if source.limit is not None:
        yield Mistake(("source", "limit"), "does not go with trigger: a stream has no first rows")
    if source.changed:
        yield Mistake(("source", "changed"), "does not go with trigger; change_feed tells what changed")
    if job.job.mode == "overwrite":
        yield Mistake(("job", "mode"), "overwrite does not go with [source] trigger: each batch would replace the last")
    if source.change_feed and (job.job.mode != "merge" or source.format not in ("delta", "table")):
        yield Mistake(("source", "change_feed"), 'needs a Delta source, key, and [job] mode = "merge"')


def _merge_format(job: JobFile) -> Iterator[Mistake]:
    if job.job.mode == "merge" and job.sink.format == "parquet":
        yield Mistake(("job", "mode"), 'needs [sink] format = "delta"; Parquet knows append and overwrite')


def _state_location(job: JobFile) -> Iterator[Mistake]:
    sink, state = job.sink, job.state.path
    if state is None and sink.table is not None and sink.path is None:
        text = "is missing; a sink that is a table has no folder to put the state beside"
        yield Mistake(("state", "path"), text, has_value=False)
    if state is not None and sink.path is not None and _is_within(state, sink.path):
        yield Mistake(("state", "path"), f"must not lie within the sink's path {sink.path}, which belongs to the table")


def _sink_is_source(job: JobFile) -> Iterator[Mistake]:
    source, sink = job.source, job.sink
    if source.path is not None and sink.path is not None and _is_within(sink.path, source.path):
        yield Mistake(("sink", "path"), "must not lie within [source] path: the job would read what it writes")
    if source.table is not None and sink.table is not None and source.table.casefold() == sink.table.casefold():
        yield Mistake(("sink", "table"), "must not be [source] table: the job would read what it writes")


def _is_within(path: str, folder: str) -> bool:
    inner, outer = posixpath.normpath(path), posixpath.normpath(folder)
    return inner == outer or inner.startswith(f"{outer}/")


Rule = Callable[[JobFile], Iterator[Mistake]]

# What a rule reads, and the rule. A rule is silent where one of these is already known to be wrong.
RULES: tuple[tuple[tuple[tuple[str, str], ...], Rule], ...] = (
    ((("source", "format"), ("source", "path"), ("source", "table"), ("source", "query")), _source_location),
    ((("source", "format"), ("source", "options")), _source_options),
    ((("source", "key"), ("source", "select")), _source_key),
    ((("request", "task"), ("request", "prompt"), ("request", "messages"), ("request", "text")), _request_of_chat),
    (
        (
            ("request", "task"),
            ("request", "system"),
            ("request", "prompt"),
            ("request", "messages"),
            ("request", "text"),
        ),
        _request_of_embedding,
    ),
    (
        (
            ("request", "task"),
            ("request", "system"),
            ("request", "prompt"),
            ("request", "messages"),
            ("request", "text"),
        ),
        _request_of_completion,
    ),
    ((("request", "parameters"),), _parameters),
    ((("request", "parameters"), ("embedding", "dimensions")), _dimensions),
    ((("embedding", "normalization"), ("embedding", "finite"), ("embedding", "non_zero")), _scaled_vectors),
    ((("endpoint", "api"), ("endpoint", "base_url")), _endpoint_path),
    ((("endpoint", "api"), ("endpoint", "base_url"), ("request", "task")), _local_endpoint),
    ((("job", "mode"), ("embedding", "long_text"), ("embedding", "chunks")), _chunk_rows),
    ((("embedding", "chunk_overlap_tokens"), ("embedding", "max_text_tokens")), _overlap),
    ((("embedding", "truncate_to"), ("embedding", "dimensions"), ("request", "parameters")), _truncation),
    ((("limits", "max_batch_bytes"), ("limits", "max_request_bytes")), _batch_bytes),
    ((("sink", "format"), ("sink", "path"), ("sink", "table")), _sink_location),
    ((("job", "mode"), ("source", "key")), _merge_key),
    ((("job", "mode"), ("source", "changed")), _changed_rows),
    (
        (*(("source", name) for name in ("trigger", "change_feed", "changed", "limit", "format")), ("job", "mode")),
        _streaming,
    ),
    ((("job", "mode"), ("sink", "format")), _merge_format),
    ((("sink", "path"), ("sink", "table"), ("state", "path")), _state_location),
    ((("source", "path"), ("source", "table"), ("sink", "path"), ("sink", "table")), _sink_is_source),
)


def _warnings(job: JobFile) -> Iterator[str]:
    url = job.endpoint.base_url
    if url != EMBEDDED and url.lower().startswith("http:") and not is_loopback(url):
        travels = "rows and the credential travel" if job.endpoint.auth else "rows travel"
        yield f"[endpoint] base_url = {url}: {travels} unencrypted; use https"
    if job.job.mode == "append" and not job.source.key and job.source.trigger is None:
        yield "[source] key is not set: a rerun asks for all rows and appends them once more"
    task = job.request.task
    if task is not Task.EMBEDDING:
        if "embedding" in job.model_fields_set:
            yield f'[embedding] has no effect with [request] task = "{task}"'
        for name in ("max_batch_rows", "max_batch_tokens", "max_batch_bytes"):
            if name in job.limits.model_fields_set:
                yield f'[limits] {name} has no effect with task = "{task}": every row is a call of its own'
        answers = job.request.parameters.get("n", 1)
        if answers != 1:
            yield f"[request] parameters.n = {answers}: every choice is billed, only the first is kept"
