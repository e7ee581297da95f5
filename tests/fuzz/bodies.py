"""Answers of an embeddings endpoint as no server should send them, seeded: mutations of sound ones, and worse."""

import base64
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
    b"null",
    b"true",
    b"1" + b"0" * 400,
    b"9" * 5000,
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
    b'"\x00"',
    b'"\\u0000"',
    b'"a\\',
    b'"' + b"x" * 2000 + b'"',
)
_USAGES = (b"{}", b"null", b"[]", b'{"prompt_tokens":-1}', b'{"prompt_tokens":1e400}', b'{"prompt_tokens":NaN}', b"7")


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
    length = DIMENSIONS if chooser.random() < 0.98 else chooser.choice((0, 1, 3, 5, 4096))
    numbers = [chooser.uniform(-1, 1) for _ in range(length)]
    kind = chooser.random()
    if kind < 0.45:
        return orjson.dumps(numbers)
    if kind < 0.5:
        spelled = [orjson.dumps(number) for number in numbers] or [b"0"]
        spelled[chooser.randrange(len(spelled))] = chooser.choice(_NUMBERS)
        return b"[" + b",".join(spelled) + b"]"
    if kind < 0.93:
        return b'"' + base64.b64encode(np.array(numbers, "<f4").tobytes()) + b'"'
    if kind < 0.99:
        raw = chooser.randbytes(4 * length)  # NaN, infinities and subnormals as bits
        return b'"' + base64.b64encode(raw) + b'"'
    return chooser.choice((*_STRINGS, *_NUMBERS, *_USAGES))


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
    piece = chooser.choice(
        (*_NUMBERS, *_STRINGS, b"[", b"]", b"{", b"}", b",", b'"', b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf")
    )
    return body[:at] + piece + body[at:]


def _nest(chooser: random.Random, body: bytes) -> bytes:
    depth = chooser.choice((10, 1_000, 1_025, 20_000))
    at = body.find(b'"embedding":')
    nested = b"[" * depth + b"]" * chooser.choice((depth, 0))
    return nested if at < 0 or chooser.random() < 0.5 else body[: at + 12] + nested + body[at + 12 :]


def _wrap(chooser: random.Random, body: bytes) -> bytes:
    return chooser.choice((b"[%b]", b'{"data":%b}', b'{"error":{"message":%b}}', b"\xef\xbb\xbf%b", b"%b%b"[:2])) % body


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
)
