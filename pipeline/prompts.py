"""From a row to the question it asks: Jinja2, sandboxed and strict; and the identity of that question. Pure."""

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jinja2
import jinja2.meta
import jinja2.nodes
import jinja2.sandbox
import orjson

from pipeline.errors import ConfigError, ErrorCode
from pipeline.identity import Identifier, canonical
from pipeline.long_texts import LongTexts, chunks, cut
from pipeline.messages import Messages, checked_messages
from pipeline.records import Request, RowError, Task
from pipeline.tokens import Estimator, estimate_tokens

# What a template can raise over the values of a row.
_UNRENDERABLE = (
    jinja2.TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


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
    instruction: str = ""  # put before each text to embed
    long_texts: LongTexts = field(default_factory=LongTexts)


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
    instruction = (spec.instruction,) if spec.instruction else ()
    return hashlib.sha256(
        canonical(spec.task, spec.identity, spec.template, spec.system, spec.messages_column, *instruction)
    ).hexdigest()


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


class TextTemplate:
    """A template by itself; `columns` are those that it reads. Raises ConfigError where it cannot be compiled."""

    def __init__(self, source: str) -> None:
        self.columns = prompt_columns(PromptSpec(Task.EMBEDDING, template=source))
        self._template = _compiled(source)

    def render(self, row: Mapping[str, Any]) -> str:
        """The text of a row. Raises ValueError that names the kind of failure, never a value."""
        try:
            return self._template.render(row)
        except _UNRENDERABLE as exc:
            raise ValueError(f"the prompt cannot be rendered: {type(exc).__name__}") from None


class Renderer:
    """Compiled once per worker; `render` is called for every row."""

    def __init__(self, spec: PromptSpec, estimator: Estimator | None = None) -> None:
        self._spec = spec
        self._template = _compiled(spec.template) if spec.template is not None else None
        self._system = _compiled(spec.system) if spec.system is not None else None
        self._columns = prompt_columns(spec)
        self._ask = self._chat if spec.task is Task.CHAT else self._text
        common = canonical(spec.task, spec.identity)
        self._identify = Identifier(common, spec.max_request_bytes, estimator)
        self._identify_whole = Identifier(common, sys.maxsize, estimator)  # of texts that never travel as one

    def render(self, row: Mapping[str, Any]) -> Request | RowError:
        """The row's request, or why it has none. A row whose prompt columns are all null or blank asks nothing."""
        for name in self._columns:  # a loop: `all` over a generator takes three times as long
            value = row[name]
            if value is not None and not (isinstance(value, str) and not value.strip()):
                break
        else:
            if self._columns:
                return RowError(ErrorCode.EMPTY_INPUT, f"null or blank: {', '.join(self._columns)}")
        try:
            return self._ask(row)
        except _UNRENDERABLE as exc:
            return RowError(ErrorCode.INVALID_INPUT, f"the prompt cannot be rendered: {type(exc).__name__}")

    def _text(self, values: Mapping[str, Any]) -> Request | RowError:
        assert self._template is not None
        text = self._template.render(values)
        if not text.strip():
            return RowError(ErrorCode.EMPTY_INPUT, "the rendered text is blank")
        text = self._spec.instruction + text
        long_texts = self._spec.long_texts
        if not long_texts.is_long(text):
            return self._identify.of_text(text)
        assert long_texts.max_tokens is not None
        if long_texts.policy == "error":
            return RowError(
                ErrorCode.INPUT_TOO_LARGE,
                f"about {estimate_tokens(text):,} tokens; [embedding] max_text_tokens is {long_texts.max_tokens:,}, and "
                'long_text = "truncate" or "chunk" would embed it',
            )
        if long_texts.policy == "truncate":
            request = self._identify.of_text(cut(text, long_texts.max_tokens))
        else:
            request = self._identify_whole.of_text(text)
        return request if isinstance(request, RowError) else request._replace(is_long=True)

    def parts(self, request: Request) -> list[tuple[str, Request]]:
        """What a long text is asked in: each part without the instruction, and its request."""
        assert request.text is not None
        assert self._spec.long_texts.max_tokens is not None
        instruction, long_texts = self._spec.instruction, self._spec.long_texts
        room = self._spec.long_texts.max_tokens - (estimate_tokens(instruction) if instruction else 0)
        texts = chunks(request.text[len(instruction) :], max(1, room), long_texts.overlap_tokens)
        requests = [(text, self._identify_whole.of_text(instruction + text)) for text in texts]
        return [(text, request) for text, request in requests if isinstance(request, Request)]

    def _chat(self, values: Mapping[str, Any]) -> Request | RowError:
        system = self._system.render(values) if self._system is not None else None
        if self._spec.messages_column is not None:
            parsed = _messages(values[self._spec.messages_column])
            if isinstance(parsed, RowError):
                return parsed
            messages = parsed
        else:
            assert self._template is not None
            content = self._template.render(values)
            if not content.strip():
                return RowError(ErrorCode.EMPTY_INPUT, "the rendered prompt is blank")
            messages = [{"role": "user", "content": content}]
        if system is not None and system.strip():
            messages = [{"role": "system", "content": system}, *messages]
        return self._identify.of_messages(messages)


def _messages(value: Any) -> Messages | RowError:
    if value is None or (isinstance(value, str) and not value.strip()):
        return RowError(ErrorCode.EMPTY_INPUT, "no messages")
    try:
        messages = orjson.loads(value)
    except (orjson.JSONDecodeError, TypeError):
        return RowError(ErrorCode.INVALID_INPUT, "the message column is not JSON")
    return checked_messages(messages)


def _environment() -> jinja2.Environment:
    # NULL prints as nothing; names are checked before the run, StrictUndefined catches what only a row can show.
    return jinja2.sandbox.ImmutableSandboxedEnvironment(
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # prompts are not HTML
        keep_trailing_newline=True,
        finalize=lambda value: "" if value is None else value,
    )
