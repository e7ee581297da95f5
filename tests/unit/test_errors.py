import pickle

from pipeline import errors
from pipeline.errors import RETRYABLE_CODES, ErrorCode, PipelineError, Verdict, classify, is_listed
from tests.cases import cases

TREE = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, PipelineError)]


@cases("error", TREE)
def test_the_tree_in_the_docstring_names_every_exception(error):
    assert f"── {error.__name__} " in errors.__doc__ or errors.__doc__.find(f"\n{error.__name__}\n") > 0


@cases("error", TREE)
def test_exceptions_survive_pickling_with_their_message(error):
    copy = pickle.loads(pickle.dumps(error("conf/a.toml", "[sink] path")))
    assert type(copy) is error
    assert copy.args == ("conf/a.toml", "[sink] path")


@cases(
    ("status", "expected"),
    [
        (200, ("retry", "invalid_response")),
        (302, ("reject", "bad_request")),
        (400, ("split", "bad_request")),
        (401, ("stop", "authentication")),
        (402, ("stop", "quota_exhausted")),
        (403, ("stop", "permission")),
        (404, ("stop", "not_found")),
        (405, ("reject", "bad_request")),
        (408, ("retry", "request_timeout")),
        (409, ("retry", "conflict")),
        (413, ("split", "payload_too_large")),
        (422, ("split", "bad_request")),
        (424, ("retry", "backend_failed")),
        (429, ("retry", "rate_limited")),
        (500, ("retry", "server_error")),
        (502, ("retry", "server_error")),
        (503, ("retry", "overloaded")),
        (504, ("retry", "server_error")),
        (529, ("retry", "overloaded")),
        (599, ("retry", "server_error")),
    ],
)
def test_without_a_code_the_status_decides(status, expected):
    assert classify(status, None) == expected
    assert classify(status, "a_code_of_no_row") == expected


@cases(
    ("status", "code", "expected"),
    [
        (429, "insufficient_quota", ("stop", "quota_exhausted")),
        (403, "insufficient_quota", ("stop", "quota_exhausted")),
        (429, "credit_balance_exhausted", ("stop", "quota_exhausted")),
        (429, "organization_spend_limit_exceeded", ("stop", "quota_exhausted")),
        (429, "project_spend_limit_exceeded", ("stop", "quota_exhausted")),
        (429, "organization_usage_limit_exceeded", ("stop", "quota_exhausted")),
        (429, "CapacityLimitExceeded", ("stop", "quota_exhausted")),
        (429, "request_too_large", ("split", "payload_too_large")),
        (503, "slow_down", ("retry", "rate_limited")),
        (400, "REQUEST_LIMIT_EXCEEDED", ("retry", "rate_limited")),
        (200, "rate_limit_exceeded", ("retry", "rate_limited")),
        (200, "server_error", ("retry", "server_error")),
        (200, "invalid_prompt", ("split", "bad_request")),
        (200, "invalid_image", ("split", "bad_request")),
        (400, "context_length_exceeded", ("split", "context_length")),
        (400, "content_filter", ("split", "content_filter")),
        (400, "ResponsibleAIPolicyViolation", ("split", "content_filter")),
        (400, "model_not_found", ("stop", "not_found")),
        (400, "invalid_api_key", ("stop", "authentication")),
        (500, "overloaded_error", ("retry", "overloaded")),
    ],
)
def test_a_listed_code_beats_the_status_in_any_case(status, code, expected):
    for spelling in (code, code.upper(), code.lower()):
        assert is_listed(spelling)
        assert classify(status, spelling) == expected


def test_every_status_has_a_verdict_and_a_code():
    found = {status: classify(status, None) for status in range(100, 1000)}
    odd = {
        status: (verdict, code)
        for status, (verdict, code) in found.items()
        if not (isinstance(verdict, Verdict) and isinstance(code, ErrorCode))
    }
    assert odd == {}


def test_what_is_worth_a_retry_now_is_retryable_as_a_row():
    found = {status: classify(status, None) for status in range(100, 600)}
    odd = {
        status: (verdict, code)
        for status, (verdict, code) in found.items()
        if (verdict is Verdict.RETRY) != (code in RETRYABLE_CODES)
    }
    assert odd == {}
