"""Faults that refuse a call before any work, so that nothing is billed. Pure."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import orjson

from pipeline.records import Api
from pipeline.simulator.settings import SimulatorSettings
from pipeline.simulator.wire import HTML, JSON, Reply, databricks_error, error, openai_error


@dataclass(frozen=True, slots=True)
class Refusal:
    """Answers instead of the model. A 200 here is an answer without a result."""

    reply: Callable[[Api, SimulatorSettings], Reply]


def _plain(status: int, message: str) -> Refusal:
    return Refusal(lambda api, settings: error(api, status, message))


def _fixed(status: int, body: object, *headers: tuple[str, str]) -> Refusal:
    reply = Reply(status, orjson.dumps(body), (JSON, *headers))
    return Refusal(lambda api, settings: reply)


def _rate_429(api: Api, settings: SimulatorSettings) -> Reply:
    message = "Rate limit reached for requests. Please try again later."
    return openai_error(429, "requests", "rate_limit_exceeded", message, ("Retry-After", settings.retry_after))


def _rate_429_databricks(api: Api, settings: SimulatorSettings) -> Reply:
    described = {
        "message": "Rate limit exceeded: input tokens per minute",
        "type": "rate_limit_exceeded",
        "code": 429,
        "limit_type": "input_tokens_per_minute",
        "limit": 200_000,
        "current": 200_150,
        "retry_after": settings.retry_after_s,
    }
    return Reply(429, orjson.dumps({"error": described}))


def _rate_429_platform(api: Api, settings: SimulatorSettings) -> Reply:
    message = "Exceeded workspace input tokens per minute rate limit for this endpoint. Please retry later."
    return databricks_error(429, "REQUEST_LIMIT_EXCEEDED", message)


def _quota_exhausted(api: Api, settings: SimulatorSettings) -> Reply:
    message = "You exceeded your current quota, please check your plan and billing details."
    return openai_error(429, "insufficient_quota", "insufficient_quota", message)


def _nested(inner: object) -> Refusal:
    return Refusal(lambda api, settings: databricks_error(400, "BAD_REQUEST", json.dumps(inner)))


def _context_length(api: Api, settings: SimulatorSettings) -> Reply:
    message = "This model's maximum context length is 8192 tokens. Please reduce the length of the messages."
    return openai_error(400, "invalid_request_error", "context_length_exceeded", message, param="messages")


_CONTENT_FILTER = {
    "error": {
        "message": "The response was filtered due to the prompt triggering the content management policy.",
        "type": None,
        "param": "prompt",
        "code": "content_filter",
        "status": 400,
        "innererror": {
            "code": "ResponsibleAIPolicyViolation",
            "content_filter_result": {"violence": {"filtered": True, "severity": "high"}},
        },
    }
}
_OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
_ERROR_200 = {
    "error": {"message": "The server had an error.", "type": "server_error", "param": None, "code": "server_error"}
}
_LOGIN_PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body><form>Sign in</form></body></html>"
_BAD_GATEWAY = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"

# The shapes and codes are those of wire_formats 3.1, 3.2 and 3.5.
REFUSALS: Mapping[str, Refusal] = {
    "rate_429": Refusal(_rate_429),
    "rate_429_databricks": Refusal(_rate_429_databricks),
    "rate_429_platform": Refusal(_rate_429_platform),
    "rate_429_bare": Refusal(lambda api, settings: Reply(429, b"", ())),
    "quota_exhausted": Refusal(_quota_exhausted),
    "bad_request": _plain(400, "the request is not acceptable"),
    "bad_request_nested": _nested(
        {"error": {"message": "not acceptable", "type": "invalid_request_error", "code": None}}
    ),
    "context_length": Refusal(_context_length),
    "context_length_nested": _nested({"message": "Input is too long for requested model."}),
    "content_filter": _fixed(400, _CONTENT_FILTER),
    "unauthorized_401": _plain(401, "the credential is not valid"),
    "forbidden_403": _plain(403, "the credential may not query this model"),
    "not_found_404": _plain(404, "the model does not exist"),
    "timeout_408": _plain(408, "the request took too long to arrive"),
    "conflict_409": _plain(409, "the endpoint is being updated"),
    "too_large_413": _plain(413, "the request is too large"),
    "unprocessable_422": _fixed(422, {"message": "the tokenizer failed", "code": 422, "type": "Tokenizer"}),
    "backend_424": _fixed(424, {"message": "the backend failed", "code": 424, "type": "Backend"}),
    "error_500": _plain(500, "internal error"),
    "error_502": Refusal(lambda api, settings: Reply(502, _BAD_GATEWAY, (HTML,))),
    "unavailable_503": _plain(503, "the endpoint is starting"),
    "overloaded_529": _fixed(529, _OVERLOADED),
    "error_200": _fixed(200, _ERROR_200),
    "login_page_200": Refusal(lambda api, settings: Reply(200, _LOGIN_PAGE, (HTML,))),
    "empty_body": Refusal(lambda api, settings: Reply(200, b"")),
}
