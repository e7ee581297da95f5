"""What one HTTP exchange means and used: answers read, transport failures named. Pure but for the parser."""

from pipeline.endpoints import Endpoint
from pipeline.errors import (
    ConnectFailed,
    DeadlineExceeded,
    ErrorCode,
    ResponseTooLarge,
    TransportError,
    Verdict,
)
from pipeline.records import Batch, Failure, HttpResponse, Outcome


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
