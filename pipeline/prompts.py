"""From a row to the question it asks: Jinja2, sandboxed and strict; and the identity of that question. Pure."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jinja2
import jinja2.meta
import jinja2.nodes
import jinja2.sandbox
import orjson

from pipeline.errors import ConfigError, ErrorCode
from pipeline.records import Request, RowError, Task
from pipeline.tokens import estimate_tokens


@dataclass(frozen=True, slots=True)
class PromptSpec:
    """What is asked of each row. Exactly one of `template` and `messages_column` is set.

    `identity` holds all else that changes the answer: endpoint name, wire protocol, parameters, response format.
    """

    task: Task
    template: str | None = None
    system: str | None = None
    messages_column: str | None = None
    identity: Mapping[str, Any] = field(default_factory=dict)
    max_request_bytes: int = 4_000_000


def prompt_columns(spec: PromptSpec) -> tuple[str, ...]:
    """The columns that a prompt reads, sorted. Raises ConfigError for a template that cannot be compiled."""
    names = {spec.messages_column} if spec.messages_column is not None else set()
    for label, source in (("prompt", spec.template), ("system", spec.system)):
        if source is None:
            continue
        try:
            names |= jinja2.meta.find_undeclared_variables(_environment().parse(source))
        except jinja2.TemplateError as exc:
            line = getattr(exc, "lineno", None)
            raise ConfigError(f"[request] {label}: line {line or '?'} of the template: {exc}") from exc
    return tuple(sorted(names))


def fingerprint(spec: PromptSpec) -> str:
    """SHA-256, hex, of everything in the job that changes an answer; jobs with equal fingerprints share a journal."""
    return hashlib.sha256(_canonical(spec, [spec.template, spec.system, spec.messages_column])).hexdigest()


class _Plain:
    """A template of text and column names alone, which most are: the same result at a tenth of the time."""

    def __init__(self, parts: list[tuple[bool, str]]) -> None:
        self._parts = parts

    def render(self, values: Mapping[str, Any]) -> str:
        return "".join(
            [("" if (v := values[part]) is None else str(v)) if is_name else part for is_name, part in self._parts]
        )


def _compiled(source: str) -> "_Plain | jinja2.Template":
    environment = _environment()
    parts: list[tuple[bool, str]] = []
    for statement in environment.parse(source).body:
        if not isinstance(statement, jinja2.nodes.Output):
            return environment.from_string(source)
        for node in statement.nodes:
            if isinstance(node, jinja2.nodes.TemplateData):
                parts.append((False, node.data))
            elif isinstance(node, jinja2.nodes.Name):
                parts.append((True, node.name))
            else:
                return environment.from_string(source)
    return _Plain(parts)


class Renderer:
    """Compiled once per worker; `render` is called for every row."""

    def __init__(self, spec: PromptSpec) -> None:
        self._spec = spec
        self._template = _compiled(spec.template) if spec.template is not None else None
        self._system = _compiled(spec.system) if spec.system is not None else None
        self._columns = prompt_columns(spec)
        self._identity = hashlib.sha256(_canonical(spec, []))

    def render(self, row: Mapping[str, Any]) -> Request | RowError:
        """The row's request, or why it has none. A row whose prompt columns are all null or blank asks nothing."""
        values = {name: row[name] for name in self._columns}
        if values and all(value is None or (isinstance(value, str) and not value.strip()) for value in values.values()):
            return RowError(ErrorCode.EMPTY_INPUT, f"null or blank: {', '.join(self._columns)}")
        try:
            if self._spec.task is Task.EMBEDDING:
                return self._embedding(values)
            return self._chat(values)
        except (
            jinja2.TemplateError,
            ArithmeticError,
            AttributeError,
            LookupError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as exc:
            return RowError(ErrorCode.INVALID_INPUT, f"the prompt cannot be rendered: {type(exc).__name__}")

    def _embedding(self, values: Mapping[str, Any]) -> Request | RowError:
        assert self._template is not None
        text = self._template.render(values)
        if not text.strip():
            return RowError(ErrorCode.EMPTY_INPUT, "the rendered text is blank")
        return self._sized(text.encode("utf-8", "surrogatepass"), text=text, tokens=estimate_tokens(text))

    def _chat(self, values: Mapping[str, Any]) -> Request | RowError:
        system = self._system.render(values) if self._system is not None else None
        if self._spec.messages_column is not None:
            parsed = _messages(values[self._spec.messages_column])
            if isinstance(parsed, RowError):
                return parsed
            messages: list[Mapping[str, Any]] = parsed
        else:
            assert self._template is not None
            content = self._template.render(values)
            if not content.strip():
                return RowError(ErrorCode.EMPTY_INPUT, "the rendered prompt is blank")
            messages = [{"role": "user", "content": content}]
        if system is not None and system.strip():
            messages = [{"role": "system", "content": system}, *messages]
        encoded = encoded_messages(messages)
        return self._sized(encoded, messages=tuple(messages), tokens=max(1, len(encoded) // 4))

    def _sized(
        self,
        encoded: bytes,
        *,
        tokens: int,
        text: str | None = None,
        messages: tuple[Mapping[str, Any], ...] | None = None,
    ) -> Request | RowError:
        if len(encoded) > self._spec.max_request_bytes:
            return RowError(
                ErrorCode.INPUT_TOO_LARGE,
                f"{len(encoded):,} bytes; [limits] max_request_bytes is {self._spec.max_request_bytes:,}",
            )
        digest = self._identity.copy()
        digest.update(encoded)
        return Request(digest.hexdigest(), messages=messages, text=text, input_tokens=tokens)


def encoded_messages(messages: list[Mapping[str, Any]]) -> bytes:
    """JSON of a message list; texts that are no valid Unicode are told apart, not refused."""
    try:
        return orjson.dumps(messages)
    except TypeError:
        return repr(messages).encode("utf-8", "surrogatepass")


def _messages(value: Any) -> list[Mapping[str, Any]] | RowError:
    if value is None or (isinstance(value, str) and not value.strip()):
        return RowError(ErrorCode.EMPTY_INPUT, "no messages")
    try:
        messages = orjson.loads(value)
    except (orjson.JSONDecodeError, TypeError):
        return RowError(ErrorCode.INVALID_INPUT, "the message column is not JSON")
    if not isinstance(messages, list) or not all(
        isinstance(message, dict) and isinstance(message.get("role"), str) and "content" in message
        for message in messages
    ):
        return RowError(ErrorCode.INVALID_INPUT, "the message column is not an array of {role, content}")
    return messages or RowError(ErrorCode.EMPTY_INPUT, "no messages")


def _canonical(spec: PromptSpec, extra: list[Any]) -> bytes:
    parts = [str(spec.task), dict(spec.identity), *extra]
    return orjson.dumps(parts, option=orjson.OPT_SORT_KEYS) + b"\n"


def _environment() -> jinja2.Environment:
    # NULL prints as nothing; names are checked before the run, StrictUndefined catches what only a row can show.
    return jinja2.sandbox.ImmutableSandboxedEnvironment(
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # prompts are not HTML
        keep_trailing_newline=True,
        finalize=lambda value: "" if value is None else value,
    )
