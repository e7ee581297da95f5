"""What one HTTP exchange means and used: answers read, transport failures named, usage shared out. Pure but for the parser."""

from collections.abc import Iterable

from pipeline.endpoints import Endpoint
from pipeline.errors import (
    ConnectFailed,
    DeadlineExceeded,
    ErrorCode,
    ResponseTooLarge,
    TransportError,
    Verdict,
)
from pipeline.records import Batch, Failure, HttpResponse, Outcome, Usage


def read(endpoint: Endpoint, batch: Batch, response: HttpResponse) -> list[Outcome] | Failure:
    """What an answer means, live or replayed. A parser that fails costs the rows of one exchange, never the task."""
    try:
        return endpoint.parse(batch, response)
    except Exception as exc:  # noqa: BLE001 - the answer is foreign data; the type's name is all that may be shown
        return Failure(Verdict.REJECT, ErrorCode.INTERNAL, f"the answer broke the parser: {type(exc).__name__}")


def transport_failure(exc: TransportError) -> Failure:
    """The failure of an exchange that brought no answer."""
    code = ErrorCode.UNKNOWN_OUTCOME
    verdict = Verdict.RETRY
    if isinstance(exc, ConnectFailed):
        code = ErrorCode.CONNECT_FAILED
    elif isinstance(exc, DeadlineExceeded):
        code = ErrorCode.DEADLINE_EXCEEDED
    elif isinstance(exc, ResponseTooLarge):
        code, verdict = ErrorCode.RESPONSE_TOO_LARGE, Verdict.REJECT
    return Failure(verdict, code, str(exc))


def total_usage(outcomes: list[Outcome]) -> Usage:
    """The sum over the outcomes of one exchange; None where no outcome says."""
    if len(outcomes) == 1:
        return outcomes[0].usage

    def total(values: Iterable[int | None]) -> int | None:
        known = [value for value in values if value is not None]
        return sum(known) if known else None

    usages = [outcome.usage for outcome in outcomes]
    return Usage(
        total(u.input_tokens for u in usages),
        total(u.output_tokens for u in usages),
        total(u.total_tokens for u in usages),
        total(u.cached_input_tokens for u in usages),
        total(u.reasoning_tokens for u in usages),
    )


def split_usage(usage: Usage, count: int) -> list[Usage]:
    """A usage in `count` parts whose sum is exactly the whole."""

    def part(value: int | None, index: int) -> int | None:
        return None if value is None else value // count + (index < value % count)

    return [
        Usage(
            part(usage.input_tokens, i),
            part(usage.output_tokens, i),
            part(usage.total_tokens, i),
            part(usage.cached_input_tokens, i),
            part(usage.reasoning_tokens, i),
        )
        for i in range(count)
    ]
