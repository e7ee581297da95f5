import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.endpoints.error_bodies import ErrorBody, page_text, read_error
from pipeline.endpoints.failures import refused, retry_after_s
from pipeline.records import Batch, HttpResponse, Request
from tests.cases import cases

NOW_S = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT
BATCH = Batch((Request("r", text="red"),))


@cases(
    ("headers", "error", "expected"),
    [
        ({}, ErrorBody(), None),
        ({"retry-after-ms": "1500", "retry-after": "9"}, ErrorBody(retry_after=7), 1.5),
        ({"retry-after-ms": "x", "retry-after": "9"}, ErrorBody(retry_after=7), 9),
        ({"retry-after": "0.5"}, ErrorBody(), 0.5),
        ({"retry-after": "0"}, ErrorBody(retry_after=7), 0),
        ({"retry-after": "-3"}, ErrorBody(), 0),
        ({"retry-after": "nan"}, ErrorBody(), None),
        ({"retry-after": "inf"}, ErrorBody(retry_after=7), 7),
        ({"retry-after": "1e999"}, ErrorBody(), None),
        ({"retry-after": "Sun, 06 Nov 1994 08:50:37 GMT"}, ErrorBody(), 60),
        ({"retry-after": "Sunday, 06-Nov-94 08:50:37 GMT"}, ErrorBody(), 60),
        ({"retry-after": "Sun Nov  6 08:50:37 1994"}, ErrorBody(), 60),
        ({"retry-after": "Sun, 06 Nov 1994 08:00:00 GMT"}, ErrorBody(), 0),
        ({"retry-after": "Sun, 99 Nov 1994 08:00:00 GMT"}, ErrorBody(), None),
        ({}, ErrorBody(retry_after=7), 7),
        ({}, ErrorBody(retry_after="7.5"), 7.5),
        ({}, ErrorBody(retry_after=True), None),
        ({}, ErrorBody(retry_after=[1]), None),
        ({}, ErrorBody(retry_after=10**400), None),
        ({}, ErrorBody(message="Please retry after 20 seconds."), 20),
        ({}, ErrorBody(message="Please retry after 1 second."), 1),
        ({}, ErrorBody(message="Please try again in 1.25s. Visit"), 1.25),
        ({}, ErrorBody(message="Please try again in 12ms."), 0.012),
        ({}, ErrorBody(message="Please try again in 1m30s."), None),
        ({}, ErrorBody(message="retry after lunch"), None),
    ],
)
def test_the_wait_is_the_first_that_the_server_states(headers, error, expected):
    assert retry_after_s(headers, error, NOW_S) == pytest.approx(expected)


def test_a_date_without_a_clock_gives_way_to_the_body():
    headers = {"retry-after": "Sun, 06 Nov 1994 08:50:37 GMT"}
    assert retry_after_s(headers, ErrorBody(), None) is None
    assert retry_after_s(headers, ErrorBody(retry_after=7), None) == 7


@given(st.text(), st.text(), st.text())
def test_no_header_breaks_the_reading(date, retry_after, milliseconds):
    headers = {"date": date, "retry-after": retry_after, "retry-after-ms": milliseconds, "x-should-retry": date}
    failure = refused(BATCH, HttpResponse(429, b"", headers))
    assert failure.retry_after_s is None or failure.retry_after_s >= 0


@cases(
    ("page", "expected"),
    [
        ("<html><pre class='a'> b &lt; c </pre><title>t</title>", "b < c"),
        ("<TITLE>Sign in</TITLE>", "Sign in"),
        ("<pre></pre><title>t</title>", "t"),
        ("<pre", "an HTML page"),
        ("<pre>open", "an HTML page"),
        ("</pre><pre>", "an HTML page"),
        ("<p>text</p>", "an HTML page"),
    ],
)
def test_a_page_is_told_by_its_pre_or_its_title(page, expected):
    assert page_text(page) == expected


@cases(
    ("body", "codes"),
    [
        (b'{"error":{"code":429,"type":"t"}}', ("t",)),
        (b'{"error":{"code":"429","type":"t"}}', ("t",)),
        (b'{"error":{"code":null,"type":null}}', ()),
        (b'{"error":{"code":"c","type":"t","innererror":{"code":"i"}}}', ("i", "c", "t")),
        (b'{"error_code":"BAD_REQUEST","message":"{\\"code\\":\\"c\\"}"}', ("c", "BAD_REQUEST")),
        (b'{"error":"invalid_client","error_description":"d"}', ("invalid_client",)),
        (b'{"error":"Not a code"}', ()),
        (b"BAD_THING: happened", ("BAD_THING",)),
        (b'"BAD_THING: happened"', ("BAD_THING",)),
        (b"[]", ()),
        (b"[[]]", ()),
        (b"null", ()),
        (b"42", ()),
    ],
)
def test_codes_are_named_innermost_first_and_never_a_status(body, codes):
    assert read_error(body).codes == codes


def test_relaying_is_followed_to_a_depth():
    body = b'{"error":{"code":"deep","message":"end"}}'
    for _ in range(3):
        body = b'{"error_code":"BAD_REQUEST","message":' + _quoted(body) + b"}"
    assert read_error(body).codes[0] == "deep"
    for _ in range(30):
        body = b'{"error_code":"BAD_REQUEST","message":' + _quoted(body)[:20_000] + b"}"
    assert "deep" not in read_error(body).codes


def test_a_chain_of_prefixes_ends():
    assert read_error(b"BAD_REQUEST: " * 1000 + b"end").codes[0] == "BAD_REQUEST"


@cases("body", [b"\0", b'"\\u001b"', b'{"message":"\\u200b"}'])
def test_a_message_that_nobody_can_see_is_replaced(body):
    assert refused(BATCH, HttpResponse(400, body)).message == "HTTP 400 without an explanation"


def _quoted(body):
    return b'"' + body.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


@cases(
    "piece",
    [b"<pre", b"<pre>", b"BAD_REQUEST:", b"key ", b"retry after 1", b"sk-", b"eyJaaaaaaaa.", b"//a:", b"\\ud800"],
)
def test_a_hostile_body_is_read_in_linear_time(piece):
    started_s = time.process_time()
    failure = refused(BATCH, HttpResponse(500, piece * (1_000_000 // len(piece))))
    assert time.process_time() - started_s < 2.5  # a tenth of a second when linear, minutes when quadratic
    assert len(failure.message) <= 500
