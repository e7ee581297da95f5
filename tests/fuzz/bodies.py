"""Answers of an embeddings endpoint as no server should send them, seeded: mutations of sound ones, and worse."""

import base64
import math
import random
from collections.abc import Callable, Iterator

import numpy as np
import orjson

TEXTS = 3
DIMENSIONS = 4

_NUMBERS = (
    b"NaN",
    b"-Infinity",
    b"Infinity",
    b"1e999",
    b"-1e309",
    b"1e39",
    b"3.4028235677973366e38",  # halfway between the largest float32 and what rounds to infinity
    b"1e-46",
    b"null",
    b"true",
    b"1" + b"0" * 400,
    b"9" * 5000,
    b"18446744073709551616",
    b"-9223372036854775809",
    b"+1",
    b".5",
    b"01",
    b"0x1",
    b"-0",
    b"1.5e-320",
    b'"0.5"',
    b"[0.5]",
    b"{}",
)
_INDICES = (b"0", b"1", b"2", b"-1", b"3", b"1.0", b"true", b"null", b'"1"', b"99999999999999999999", b"[]")
_STRINGS = (
    b'"\\ud800"',
    b'"\\udc00\\ud800"',
    b'"\xff\xfe"',
    b'"\xc0\x80"',  # overlong
    b'"\xe2\x82"',  # cut off
    b'"\xed\xa0\x80"',  # a surrogate, encoded
    b'"\xf5\x80\x80\x80"',  # beyond Unicode
    b'"\x00"',
    b'"\\u0000"',
    b'"a\\',
    b'"' + b"x" * 2000 + b'"',
)
_USAGES = (
    b"{}",
    b"null",
    b"[]",
    b"7",
    *(b'{"prompt_tokens":%b,"total_tokens":%b}' % (number, number) for number in (
        b"-1", b"1e400", b"NaN", b"1.5", b"true", b'"9"', b"[9]", b"9223372036854775807", b"9223372036854775808",
        b"18446744073709551616", b"9" * 400,
    )),
)  # fmt: skip
_LONG = orjson.dumps([0.5] * 4096), base64.b64encode(np.full(4096, 0.5, "<f4").tobytes())


def bodies(seed: int, count: int) -> Iterator[bytes]:
    """`count` bodies; the same for the same seed."""
    chooser = random.Random(seed)
    for _ in range(count):
        body = _answer(chooser)
        for _ in range(chooser.choice((0, 0, 0, 0, 1, 3))):
            body = chooser.choice(_MUTATIONS)(chooser, body)
        yield body


def _answer(chooser: random.Random) -> bytes:
    count = chooser.choice((TEXTS,) * 60 + (0, 1, 2, 4))
    order = list(range(count))
    if chooser.random() < 0.5:
        chooser.shuffle(order)
    items = []
    for place in order:
        index = chooser.choice(_INDICES) if chooser.random() < 0.03 else b"%d" % place
        parts = [b'"embedding":' + _vector(chooser)]
        if chooser.random() < 0.95:
            parts.append(b'"index":' + index)
        chooser.shuffle(parts)
        items.append(b"{" + b",".join(parts) + b"}")
    usage = chooser.choice(_USAGES) if chooser.random() < 0.1 else b'{"prompt_tokens":9,"total_tokens":9}'
    model = chooser.choice(_STRINGS) if chooser.random() < 0.05 else b'"m"'
    return b'{"object":"list","data":[%b],"model":%b,"usage":%b}' % (b",".join(items), model, usage)


def _vector(chooser: random.Random) -> bytes:
    length = DIMENSIONS if chooser.random() < 0.98 else chooser.choice((0, 1, 2, 3, 5, 8))
    numbers = _numbers(chooser, length)
    kind = chooser.random()
    if kind < 0.45:
        return orjson.dumps(numbers)
    if kind < 0.5:
        spelled = [orjson.dumps(number) for number in numbers] or [b"0"]
        spelled[chooser.randrange(len(spelled))] = chooser.choice(_NUMBERS)
        return b"[" + b",".join(spelled) + b"]"
    if kind < 0.93:
        return b'"' + base64.b64encode(np.array(numbers, "<f4").tobytes()) + b'"'
    if kind < 0.97:
        raw = chooser.randbytes(4 * length)  # NaN, infinities and subnormals as bits
        return b'"' + base64.b64encode(raw) + b'"'
    if kind < 0.985:
        return b'"' + _odd_base64(chooser, np.array(numbers, "<f4").tobytes()) + b'"'
    if kind < 0.99:
        return chooser.choice((_LONG[0], b'"' + _LONG[1] + b'"'))
    return chooser.choice(_NO_VECTORS)


def _numbers(chooser: random.Random, length: int) -> list[float]:
    """Half of them of length 1; some near the ends of float32."""
    numbers = [chooser.uniform(-1, 1) for _ in range(length)]
    drawn = chooser.random()
    if drawn < 0.5:
        norm = math.hypot(*numbers) or 1.0
        return [number / norm for number in numbers]
    if drawn < 0.53:
        scale = chooser.choice((0.0, -0.0, 1e-45, 1e-30, 7e4, 3.4e38))
        return [math.copysign(scale, number) for number in numbers]
    return numbers


def _odd_base64(chooser: random.Random, raw: bytes) -> bytes:
    text = base64.b64encode(raw)
    return chooser.choice(
        (
            base64.b64encode(raw[:-1]),  # no whole number
            base64.b64encode(raw + b"\0"),
            base64.urlsafe_b64encode(b"\xff" * len(raw)),
            text.rstrip(b"="),
            text + b"=",
            b"=" + text,
            text[:4] + b"\\n" + text[4:],
            b" " + text,
            b"data:;base64," + text,
            text[:3] + "é".encode() + text[4:],
        )
    )


def _flip(chooser: random.Random, body: bytes) -> bytes:
    if not body:
        return body
    at = chooser.randrange(len(body))
    return body[:at] + bytes([body[at] ^ 1 << chooser.randrange(8)]) + body[at + 1 :]


def _cut(chooser: random.Random, body: bytes) -> bytes:
    return body[: chooser.randrange(len(body) + 1)]


def _repeat(chooser: random.Random, body: bytes) -> bytes:
    start, end = sorted(chooser.randrange(len(body) + 1) for _ in range(2))
    return body[:end] + body[start:end] + body[end:]


def _remove(chooser: random.Random, body: bytes) -> bytes:
    start = chooser.randrange(len(body) + 1)
    return body[:start] + body[start + chooser.randrange(1, 20) :]


def _insert(chooser: random.Random, body: bytes) -> bytes:
    at = chooser.randrange(len(body) + 1)
    return body[:at] + chooser.choice(_PIECES) + body[at:]


def _nest(chooser: random.Random, body: bytes) -> bytes:
    depth = chooser.choice((10, 1_000, 1_025, 20_000))
    opening, closing = chooser.choice(((b"[", b"]"), (b'{"a":', b"}")))
    nested = opening * depth + b"0" + closing * chooser.choice((depth, 0))
    name = chooser.choice((b'"embedding":', b'"usage":', b'"data":', b'"index":', b'"model":'))
    at = body.find(name)
    if at < 0 or chooser.random() < 0.5:
        return nested
    at += len(name)
    return body[:at] + nested + chooser.choice((b",", b"")) + body[at:]


def _wrap(chooser: random.Random, body: bytes) -> bytes:
    return chooser.choice((b"[%b]", b'{"data":%b}', b'{"error":{"message":%b}}', b"\xef\xbb\xbf%b", b"%b%b"[:2])) % body


def _twice(chooser: random.Random, body: bytes) -> bytes:
    """A key that stands twice in its object: readers may take either."""
    name, value = chooser.choice(
        ((b'"embedding":', b"[1]"), (b'"index":', b"0"), (b'"data":', b"[]"), (b'"model":', b'"n"'))
    )
    at = body.find(name)
    return body if at < 0 else body[:at] + name + value + b"," + body[at:]


def _recode(chooser: random.Random, body: bytes) -> bytes:
    text = body.decode("utf-8", "replace")
    return text.encode(chooser.choice(("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "latin-1", "cp037")), "replace")


_NO_VECTORS = (*_STRINGS, *_NUMBERS, *_USAGES)
_PIECES = (*_NUMBERS, *_STRINGS, b"[", b"]", b"{", b"}", b",", b'"', b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf")
_MUTATIONS: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    _flip,
    _flip,
    _flip,
    _cut,
    _repeat,
    _remove,
    _insert,
    _insert,
    _nest,
    _wrap,
    _twice,
    _recode,
)
