"""URLs and heads, as they are written into a request."""

import pytest

from pipeline.errors import ConnectFailed
from pipeline.transports.targets import Origin, head_of, target_of


@pytest.mark.parametrize(
    ("url", "origin", "host", "path"),
    [
        ("http://h/v1/x", ("http", "h", 80), "h", "/v1/x"),
        ("https://h", ("https", "h", 443), "h", "/"),
        ("https://h:443/x", ("https", "h", 443), "h", "/x"),
        ("https://h:80/x", ("https", "h", 80), "h:80", "/x"),
        ("http://h:8200/x?a=1&b=%20#end", ("http", "h", 8200), "h:8200", "/x?a=1&b=%20"),
        ("http://[::1]:8200/x", ("http", "::1", 8200), "[::1]:8200", "/x"),
        ("HTTPS://Host.Example/A", ("https", "host.example", 443), "host.example", "/A"),
        ("https://bücher.example/ä b", ("https", "xn--bcher-kva.example", 443), "xn--bcher-kva.example", "/%C3%A4%20b"),
        ("http://h/a\r\nb", ("http", "h", 80), "h", "/ab"),
    ],
)
def test_a_url_has_an_origin_a_host_and_a_path(url, origin, host, path):
    target = target_of(url)
    assert (target.origin, target.host_header, target.path) == (Origin(*origin), host, path)


@pytest.mark.parametrize(
    "url",
    [
        "not a url",
        "/v1",
        "http://",
        "ftp://h/",
        "http://[::1",
        "http://h:99999/",
        "http://h:x/",
        "http://user:secret@h/",
        "http://h h/",
        "http://\ud800/",
        "http://h/\ud800",
        f"http://{'x' * 64}.example/",
    ],
    ids=ascii,
)
def test_a_url_that_is_none_is_refused_without_being_repeated(url):
    with pytest.raises(ConnectFailed) as caught:
        target_of(url)
    assert str(caught.value) == "the request cannot be built"
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_head_is_a_post_and_the_last_of_equal_headers_counts():
    headers = [("User-Agent", "ours"), ("content-type", "application/json"), ("user-agent", "theirs")]
    assert head_of(target_of("http://h:1/x?y"), headers).split(b"\r\n") == [
        b"POST /x?y HTTP/1.1",
        b"host: h:1",
        b"accept: */*",
        b"user-agent: theirs",
        b"content-type: application/json",
        b"",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("authorization", "Bearer a\r\nx-injected: 1"),
        ("authorization", "Bearer a\nb"),
        ("authorization", "Bearer \x00"),
        ("authorization", "Bearer ü"),
        ("authorization", "Bearer \ud800"),
        ("two words", "x"),
        ("colon:", "x"),
        ("", "x"),
        ("Content-Length", "5"),
        ("transfer-encoding", "chunked"),
        ("host", "elsewhere"),
        ("connection", "close"),
    ],
    ids=ascii,
)
def test_a_header_that_would_change_the_request_is_refused_without_being_repeated(name, value):
    with pytest.raises(ConnectFailed) as caught:
        head_of(target_of("http://h/"), [(name, value)])
    assert str(caught.value) == "the request cannot be built"
