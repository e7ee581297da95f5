"""What can go wrong: the exception tree, the closed list of row errors, and the table that judges an answer. Pure.

PipelineError
├── ConfigError           wrong before anything was read or sent: names file, section, key, value and what is allowed
├── SourceError           the input table is missing, or lacks what the job needs
├── SinkError             results cannot be written there, or the table there has other columns
├── StateError            the journal or the run sequence cannot be read or written
│   ├── JournalCorrupt    a frame does not match its checksum
│   ├── LeaseHeld         another run of the same job is alive
│   └── LeaseLost         another attempt of the same bucket or job took over
├── StatementError        a SQL statement of a person, as one sentence
│   ├── StatementRefused  wrong at analysis: nothing was sent
│   └── StatementFailed   failed while it ran
├── JobStopped            every further request would fail too (credential, unknown model, credit, budget, outage)
└── TransportError        one HTTP exchange did not complete
    ├── ConnectFailed     nothing was sent
    ├── ConnectionBroken  sent, then the connection broke: the outcome is unknown
    ├── DeadlineExceeded  sent, no whole answer in time: the outcome is unknown
    └── ResponseTooLarge  the answer is larger than allowed, on the wire or decoded
"""

from enum import StrEnum


class PipelineError(Exception):
    """Root of everything this package raises on purpose."""


class ConfigError(PipelineError):
    """A job file or option is wrong; nothing was read or sent."""


class SourceError(PipelineError):
    """The input table is missing or lacks what the job needs; nothing was sent."""


class SinkError(PipelineError):
    """Results cannot be written to the configured table."""


class StateError(PipelineError):
    """The journal or the run sequence cannot be read or written."""


class JournalCorrupt(StateError):
    """A journal frame does not match its checksum; it is never served."""


class LeaseHeld(StateError):
    """Another run of this job is alive; this one did nothing."""


class LeaseLost(StateError):
    """Another attempt took this bucket or job over; this one stops calling."""


class StatementError(PipelineError):
    """A SQL statement did not give its rows."""


class StatementRefused(StatementError):
    """A SQL statement is wrong; nothing was sent."""


class StatementFailed(StatementError):
    """A SQL statement failed while it ran."""


class JobStopped(PipelineError):
    """Every further request would fail too; what is finished lands."""


class TransportError(PipelineError):
    """One HTTP exchange did not complete."""


class ConnectFailed(TransportError):
    """No connection, so nothing was sent and nothing can be billed."""


class ConnectionBroken(TransportError):
    """The connection broke after sending: the outcome is unknown."""


class DeadlineExceeded(TransportError):
    """No whole answer before the deadline: the outcome is unknown."""


class ResponseTooLarge(TransportError):
    """The answer exceeds the allowed size, on the wire or decoded."""


class ErrorCode(StrEnum):
    """The closed list of ways in which a row can end without a response."""

    # the row itself; no call is made
    EMPTY_INPUT = "empty_input"
    INVALID_INPUT = "invalid_input"
    INPUT_TOO_LARGE = "input_too_large"
    # the endpoint refused the request
    BAD_REQUEST = "bad_request"
    CONTEXT_LENGTH = "context_length"
    CONTENT_FILTER = "content_filter"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    AUTHENTICATION = "authentication"
    PERMISSION = "permission"
    NOT_FOUND = "not_found"
    QUOTA_EXHAUSTED = "quota_exhausted"
    # the endpoint could not answer now
    RATE_LIMITED = "rate_limited"
    REQUEST_TIMEOUT = "request_timeout"
    CONFLICT = "conflict"
    BACKEND_FAILED = "backend_failed"
    SERVER_ERROR = "server_error"
    OVERLOADED = "overloaded"
    # the exchange did not complete
    CONNECT_FAILED = "connect_failed"
    UNKNOWN_OUTCOME = "unknown_outcome"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    RESPONSE_TOO_LARGE = "response_too_large"
    # an answer came and cannot be used
    INVALID_RESPONSE = "invalid_response"
    EMPTY_RESPONSE = "empty_response"
    REFUSAL = "refusal"
    WRONG_COUNT = "wrong_count"
    WRONG_DIMENSIONS = "wrong_dimensions"
    NOT_FINITE = "not_finite"
    ZERO_VECTOR = "zero_vector"
    NOT_NORMALIZED = "not_normalized"
    WRONG_MODEL = "wrong_model"
    # ours
    NOT_ATTEMPTED = "not_attempted"
    INTERNAL = "internal"


class Verdict(StrEnum):
    """What the engine does with a failed exchange."""

    RETRY = "retry"  # may work later
    SPLIT = "split"  # refused as a whole: halve the batch; a batch of one is rejected
    REJECT = "reject"  # this request will never work
    STOP = "stop"  # no request will work any more


RETRYABLE_CODES = frozenset(
    {
        ErrorCode.RATE_LIMITED,
        ErrorCode.REQUEST_TIMEOUT,
        ErrorCode.CONFLICT,
        ErrorCode.BACKEND_FAILED,
        ErrorCode.SERVER_ERROR,
        ErrorCode.OVERLOADED,
        ErrorCode.CONNECT_FAILED,
        ErrorCode.UNKNOWN_OUTCOME,
        ErrorCode.DEADLINE_EXCEEDED,
        ErrorCode.INVALID_RESPONSE,
        ErrorCode.WRONG_COUNT,
        ErrorCode.NOT_ATTEMPTED,
        ErrorCode.INTERNAL,
    }
)

_FAILED = (Verdict.RETRY, ErrorCode.SERVER_ERROR)
_OVERLOADED = (Verdict.RETRY, ErrorCode.OVERLOADED)

# Provider codes, compared in lower case, before the status is looked at. Sources: wire_formats 3.1, 3.2, 3.5.
_BY_CODE: dict[str, tuple[Verdict, ErrorCode]] = {
    **dict.fromkeys(
        (
            "insufficient_quota",
            "credit_balance_exhausted",
            "organization_spend_limit_exceeded",
            "project_spend_limit_exceeded",
            "organization_usage_limit_exceeded",
            "billing_hard_limit_reached",
            "capacitylimitexceeded",
        ),
        (Verdict.STOP, ErrorCode.QUOTA_EXHAUSTED),
    ),
    **dict.fromkeys(("invalid_api_key", "unauthenticated"), (Verdict.STOP, ErrorCode.AUTHENTICATION)),
    **dict.fromkeys(
        ("model_not_found", "resource_does_not_exist", "endpoint_not_found", "deploymentnotfound"),
        (Verdict.STOP, ErrorCode.NOT_FOUND),
    ),
    **dict.fromkeys(
        ("rate_limit_exceeded", "request_limit_exceeded", "slow_down", "resource_exhausted"),
        (Verdict.RETRY, ErrorCode.RATE_LIMITED),
    ),
    # one request that exceeds the whole bucket never fits (wire_formats 3.2)
    "request_too_large": (Verdict.SPLIT, ErrorCode.PAYLOAD_TOO_LARGE),
    "context_length_exceeded": (Verdict.SPLIT, ErrorCode.CONTEXT_LENGTH),
    **dict.fromkeys(
        ("content_filter", "responsibleaipolicyviolation", "content_policy_violation"),
        (Verdict.SPLIT, ErrorCode.CONTENT_FILTER),
    ),
    # of the Responses API, which states them under a 200 (wire_formats 3.1)
    **dict.fromkeys(
        (
            "invalid_prompt",
            "invalid_image",
            "invalid_image_format",
            "invalid_base64_image",
            "invalid_image_url",
            "image_too_large",
            "image_too_small",
            "image_parse_error",
        ),
        (Verdict.SPLIT, ErrorCode.BAD_REQUEST),
    ),
    **dict.fromkeys(("server_error", "internal_error"), _FAILED),
    **dict.fromkeys(("overloaded_error", "temporarily_unavailable", "server_overloaded"), _OVERLOADED),
}

_BY_STATUS: dict[int, tuple[Verdict, ErrorCode]] = {
    400: (Verdict.SPLIT, ErrorCode.BAD_REQUEST),
    401: (Verdict.STOP, ErrorCode.AUTHENTICATION),
    402: (Verdict.STOP, ErrorCode.QUOTA_EXHAUSTED),
    403: (Verdict.STOP, ErrorCode.PERMISSION),
    404: (Verdict.STOP, ErrorCode.NOT_FOUND),
    408: (Verdict.RETRY, ErrorCode.REQUEST_TIMEOUT),
    409: (Verdict.RETRY, ErrorCode.CONFLICT),
    413: (Verdict.SPLIT, ErrorCode.PAYLOAD_TOO_LARGE),
    422: (Verdict.SPLIT, ErrorCode.BAD_REQUEST),
    424: (Verdict.RETRY, ErrorCode.BACKEND_FAILED),
    429: (Verdict.RETRY, ErrorCode.RATE_LIMITED),
    503: _OVERLOADED,
    529: _OVERLOADED,
}


def is_listed(code: str) -> bool:
    """Whether a provider code has a row of its own, so that it decides before the status does."""
    return code.lower() in _BY_CODE


def classify(status: int, code: str | None) -> tuple[Verdict, ErrorCode]:
    """What to do about an answer that carries no result: specific code rows first, status rows second.

    `code` is the provider's own error code where the body has one. A 200 without a usable result is an invalid
    response; an unlisted 4xx refuses this request only; everything from 500 on may work later.
    """
    by_code = _BY_CODE.get(code.lower()) if code is not None else None
    by_status = _BY_STATUS.get(status)
    if by_code == _FAILED and by_status == _OVERLOADED:
        return _OVERLOADED  # "server_error" with a 503: the status says more, that the server has too much to do
    if row := by_code or by_status:
        return row
    if status >= 500:
        return Verdict.RETRY, ErrorCode.SERVER_ERROR
    if 300 <= status < 500:
        return Verdict.REJECT, ErrorCode.BAD_REQUEST
    return Verdict.RETRY, ErrorCode.INVALID_RESPONSE
