import pickle

from pipeline.conditions import SQLSTATES, AiFunctionError, row_condition, row_failure
from pipeline.errors import RETRYABLE_CODES, ErrorCode
from pipeline.records import RowError
from tests.cases import cases


def test_a_condition_reads_as_sparks_own():
    error = AiFunctionError("AI_FUNCTION_INVALID_MODEL_PARAMETERS.FOUND_RESERVED_PARAMETER_NAME", "`model` is taken.")
    assert str(error) == (
        "[AI_FUNCTION_INVALID_MODEL_PARAMETERS.FOUND_RESERVED_PARAMETER_NAME] `model` is taken. SQLSTATE: 22023"
    )
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@cases("code", ErrorCode)
def test_every_row_error_has_a_condition(code):
    condition = row_condition(code)
    assert condition in SQLSTATES
    if condition == "REMOTE_FUNCTION_HTTP_RETRY_TIMEOUT":
        assert code in RETRYABLE_CODES


def test_attempts_and_status_are_told_and_the_prompt_is_not():
    error = RowError(ErrorCode.RATE_LIMITED, "cannot answer 'what is it' now", 429)
    text = str(row_failure(error, 3, "what is it"))
    assert text == (
        "[REMOTE_FUNCTION_HTTP_RETRY_TIMEOUT] gave up after 3 attempts (rate_limited, HTTP 429): "
        "cannot answer '<input>' now. SQLSTATE: 08000"
    )
