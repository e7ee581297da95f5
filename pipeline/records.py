"""The values that travel between the modules: frozen, picklable, without behaviour beyond their own arithmetic. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from pipeline.errors import RETRYABLE_CODES, ErrorCode, Verdict


class Task(StrEnum):
    """What is asked of an endpoint."""

    CHAT = "chat"
    EMBEDDING = "embedding"
    COMPLETION = "completion"
    CUSTOM = "custom"  # a model of one's own: a record in, a prediction out


Api = Literal["openai", "databricks"]


class Request(NamedTuple):
    """One question. Exactly one of `messages` and `text` is set; for a custom model `text` is the record as JSON.

    A tuple, as all that is made for every row: a frozen dataclass takes two to five times as long.
    """

    request_id: str  # SHA-256, hex, of everything that changes the answer
    messages: tuple[Mapping[str, Any], ...] | None = None
    text: str | None = None
    input_tokens: int = 0  # estimate
    is_long: bool = False  # its text exceeds the limit: it was cut, or is to be asked in parts


@dataclass(frozen=True, slots=True)
class Batch:
    """The requests that share one call; one request for chat."""

    requests: tuple[Request, ...]

    def __len__(self) -> int:
        """Number of requests."""
        return len(self.requests)

    @property
    def input_tokens(self) -> int:
        """Sum of the estimates."""
        return sum(request.input_tokens for request in self.requests)

    def halves(self) -> tuple["Batch", "Batch"]:
        """The batch cut in the middle; only for two requests or more."""
        middle = len(self.requests) // 2
        return Batch(self.requests[:middle]), Batch(self.requests[middle:])


class HttpRequest(NamedTuple):
    """A POST of JSON, as it travels; never holds a credential."""

    url: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)


_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class HttpResponse(NamedTuple):
    """A whole answer. Header names are lower case."""

    status: int
    body: bytes
    headers: Mapping[str, str] = _NO_HEADERS


class Usage(NamedTuple):
    """Tokens as the endpoint reported them; None where it did not say. `input_tokens` include cached ones."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    cached_input_tokens: int | None = None
    reasoning_tokens: int | None = None

    def split(self, count: int) -> list["Usage"]:
        """`count` parts whose sum is exactly the whole."""

        def part(value: int | None, index: int) -> int | None:
            return None if value is None else value // count + (index < value % count)

        return [Usage(*[part(value, index) for value in self]) for index in range(count)]


NO_USAGE = Usage()


def total_usage(usages: Sequence[Usage]) -> Usage:
    """Each counter's sum; None where no usage says."""
    if len(usages) == 1:
        return usages[0]
    return Usage(*[_total(counters) for counters in zip(*usages, strict=True)])


def _total(counters: tuple[int | None, ...]) -> int | None:
    missing = counters.count(None)
    if missing == len(counters):
        return None
    return sum(counters if not missing else filter(None, counters))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an exchange gave no result, and what to do about it."""

    verdict: Verdict
    code: ErrorCode
    message: str  # sanitised, at most 500 characters
    status: int | None = None
    retry_after_s: float | None = None
    usage: Usage = NO_USAGE  # an unusable answer may still have been billed
    asks_gently: bool = False  # `slow_down`: grow by half at most (wire_formats 3.2)


@dataclass(frozen=True, slots=True)
class RowError:
    """How a row ended without a response."""

    code: ErrorCode
    message: str
    status: int | None = None

    @property
    def is_retryable(self) -> bool:
        """True where the same request may work another time."""
        return self.code in RETRYABLE_CODES


class Outcome(NamedTuple):
    """The answer to one request: a response or an error, never both.

    `response` is text for chat and a float32 vector, shape (dimensions,), for embeddings. A tuple, as `Request` is.
    """

    request_id: str
    response: Any = None
    error: RowError | None = None
    usage: Usage = NO_USAGE
    finish_reason: str | None = None
    model: str | None = None
    norm: float | None = None
    is_normalized: bool | None = None
    attempts: int = 0
    latency_ms: float | None = None
    completed_at_s: float = 0.0  # seconds since the epoch
    is_replayed: bool = False

    def with_timing(
        self, *, attempts: int, latency_ms: float | None, completed_at_s: float, is_replayed: bool = False
    ) -> "Outcome":
        """The same outcome, stamped by the engine."""
        # the call that `_make` ends in, made for every row
        return tuple.__new__(Outcome, (*self[:8], attempts, latency_ms, completed_at_s, is_replayed))

    def with_usage(self, usage: Usage) -> "Outcome":
        """The same outcome, charged with another usage."""
        return self._replace(usage=usage)


class Exchange(NamedTuple):
    """One HTTP exchange as journaled: answered, refused, failed or of unknown outcome."""

    request_ids: tuple[str, ...]  # in the order of the batch
    attempt: int  # 1 is the first
    sent_at_s: float  # seconds since the epoch
    latency_ms: float
    response: HttpResponse | None = None
    transport_error: ErrorCode | None = None  # set where there is no response
    message: str = ""
    run_id: str = ""
    usage: Usage = NO_USAGE  # of the whole exchange, so that accounting needs no parser
    is_final: bool = False  # its requests need no further call

    @property
    def rows(self) -> int:
        """Number of requests."""
        return len(self.request_ids)

    @property
    def is_answered(self) -> bool:
        """Its requests have their answer."""
        return self.is_final and self.response is not None and self.response.status == 200

    @property
    def is_unknown_outcome(self) -> bool:
        """Sent, but whether it was answered and billed is not known."""
        return self.transport_error in (
            ErrorCode.UNKNOWN_OUTCOME,
            ErrorCode.DEADLINE_EXCEEDED,
            ErrorCode.RESPONSE_TOO_LARGE,
        )
