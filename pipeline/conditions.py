"""SQL error conditions of the AI functions: name, sentence and SQLSTATE, as Spark writes its own. Pure."""

from pipeline.errors import ErrorCode, PipelineError
from pipeline.records import RowError

# Spark 4.2's error-conditions.json, and the error pages of the original (ai_query 3.2); where the original's state is
# not known, the nearest one.
SQLSTATES = {
    "AI_FUNCTION_COMPILATION_ERROR": "42883",
    "AI_FUNCTION_HTTP_PARSE_CAST_ERROR": "2203G",
    "AI_FUNCTION_HTTP_PARSE_COLUMNS_ERROR": "2203G",
    "AI_FUNCTION_HTTP_REQUEST_ERROR": "08000",
    "AI_FUNCTION_INVALID_HTTP_RESPONSE": "08000",
    "AI_FUNCTION_INVALID_MAX_WORDS": "22023",
    "AI_FUNCTION_INVALID_MODEL_PARAMETERS": "22023",
    "AI_FUNCTION_UNSUPPORTED_RESPONSE_FORMAT": "0A000",
    "DATATYPE_MISMATCH": "42K09",
    "DUPLICATE_ROUTINE_PARAMETER_ASSIGNMENT": "4274K",
    "INVALID_SCHEMA": "42K07",
    "NON_FOLDABLE_ARGUMENT": "42K08",
    "REMOTE_FUNCTION_HTTP_RETRY_TIMEOUT": "08000",
    "REQUIRED_PARAMETER_NOT_FOUND": "4274K",
    "UNEXPECTED_POSITIONAL_ARGUMENT": "4274K",
    "UNRECOGNIZED_PARAMETER_NAME": "4274K",
    "WRONG_NUM_ARGS": "42605",
}

_REQUEST_FAILED = frozenset(
    {
        ErrorCode.EMPTY_INPUT,
        ErrorCode.INVALID_INPUT,
        ErrorCode.INPUT_TOO_LARGE,
        ErrorCode.BAD_REQUEST,
        ErrorCode.CONTEXT_LENGTH,
        ErrorCode.CONTENT_FILTER,
        ErrorCode.PAYLOAD_TOO_LARGE,
        ErrorCode.AUTHENTICATION,
        ErrorCode.PERMISSION,
        ErrorCode.NOT_FOUND,
        ErrorCode.QUOTA_EXHAUSTED,
        ErrorCode.NOT_ATTEMPTED,
    }
)
_GAVE_UP = frozenset(
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
    }
)
_MIN_ECHO_CHARS = 4


class AiFunctionError(PipelineError):
    """A call that is wrong, or a row that failed, as an error condition: `[NAME.SUB] sentence SQLSTATE: xxxxx`."""

    def __init__(self, condition: str, sentence: str) -> None:
        super().__init__(condition, sentence)
        self.condition = condition

    def getCondition(self) -> str:
        """The error condition."""
        return self.condition

    def getSqlState(self) -> str:
        """Its SQLSTATE."""
        return sqlstate(self.condition)

    def __str__(self) -> str:
        condition, sentence = self.args
        return formatted(condition, sentence)


def formatted(condition: str, sentence: str) -> str:
    """The condition as text; sub-conditions follow the name after a dot."""
    return f"[{condition}] {sentence} SQLSTATE: {sqlstate(condition)}"


def sqlstate(condition: str) -> str:
    """Of a condition, with or without its sub-condition."""
    return SQLSTATES[condition.split(".")[0]]


def row_condition(code: ErrorCode) -> str:
    """The condition of a row that ended so."""
    if code in _REQUEST_FAILED:
        return "AI_FUNCTION_HTTP_REQUEST_ERROR"
    if code in _GAVE_UP:
        return "REMOTE_FUNCTION_HTTP_RETRY_TIMEOUT"
    return "AI_FUNCTION_INVALID_HTTP_RESPONSE"


def row_failure(error: RowError, attempts: int, prompt: str | None = None) -> AiFunctionError:
    """The failure of one row; its sentence never holds the prompt."""
    condition = row_condition(error.code)
    message = error.message.rstrip(".")  # some providers end theirs with one
    if prompt is not None and len(prompt.strip()) >= _MIN_ECHO_CHARS:
        message = message.replace(prompt.strip(), "<input>")
    status = f", HTTP {error.status}" if error.status is not None else ""
    if condition == "REMOTE_FUNCTION_HTTP_RETRY_TIMEOUT":
        times = "1 attempt" if attempts == 1 else f"{attempts} attempts"
        return AiFunctionError(condition, f"gave up after {times} ({error.code}{status}): {message}.")
    return AiFunctionError(condition, f"{error.code}{status}: {message}.")
