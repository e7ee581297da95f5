import json
from dataclasses import replace

import numpy as np
import pytest

from pipeline.records import HttpResponse, Task
from pipeline.retry import RetrySettings
from pipeline.vectors import EmbeddingContract
from tests.fuzz.bodies import DIMENSIONS, TEXTS, bodies
from tests.fuzz.check import Checker
from tests.unit.journals import local_store, open_bucket
from tests.unit.test_worker import answers, batch, loop, plan, timeless

__all__ = ["loop"]  # the fixture


@pytest.mark.parametrize("count", [4_000, pytest.param(1_000_000, marks=pytest.mark.long)])
def test_no_body_breaks_a_task_or_lands_a_broken_vector(count):
    checker = Checker()
    checker.run(seed=1, count=count)
    assert checker.vectors > count  # many bodies are near enough to sound ones to tell the parser's corners
    assert checker.failures > count // 10
    expected = {"not_finite", "wrong_dimensions", "not_normalized", "zero_vector", "wrong_count", "invalid_response"}
    assert expected <= set(checker.codes)


class Babbler:
    """Answers every call with the next body."""

    def __init__(self, answered):
        self._answered = answered
        self.calls = 0

    async def send(self, request, auth_headers):
        self.calls += 1
        return HttpResponse(200, next(self._answered))

    async def close(self): ...


def test_a_partition_ends_every_row_whatever_is_answered_and_its_journal_gives_the_same_rows_back(loop, tmp_path):
    """Parser, retries, splits, journal, replay and columns together."""
    count = 600
    the_plan = plan(Task.EMBEDDING, max_rows=TEXTS, retry=RetrySettings(2, 0.0001, 0.0002, 60.0))
    the_plan = replace(the_plan, endpoint=replace(the_plan.endpoint, contract=EmbeddingContract(dimensions=DIMENSIONS)))
    texts = [f"text {place}" for place in range(count)]
    found = []
    for attempt in ("a1", "a2"):
        babbler = Babbler(bodies(seed=3, count=10 * count))
        journal = open_bucket(local_store(tmp_path), attempt)
        found.append(answers([batch(*texts)], the_plan, loop, transport=babbler, log=journal))
        journal.close()
        assert [row["id"] for row in found[-1]] == list(range(count))
        for row in found[-1]:
            assert (row["error"] is None) == (row["response"] is not None)
            assert row["response"] is None or (
                np.isfinite(row["response"]).all() and len(row["response"]) == DIMENSIONS
            )
        assert 0 < sum(row["error"] is None for row in found[-1]) < count
    first, second = ({row["id"]: row["response"] for row in timeless(rows) if row["error"] is None} for rows in found)
    assert first.items() <= second.items()  # what had come is not asked again; what had failed for a time may be


def is_utf8(body):
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def items(body):
    """Of an answer that is JSON."""
    try:
        return [item for item in json.loads(body)["data"] if isinstance(item, dict)]
    except (ValueError, TypeError, KeyError, RecursionError):
        return []


def indices(body):
    return [item.get("index") for item in items(body) if type(item.get("index")) is int]


def vectors(body):
    return [item["embedding"] for item in items(body) if isinstance(item.get("embedding"), list)]


KINDS = {
    "lists deeper than readers go": lambda body: b"[" * 1_000 in body,
    "objects deeper than readers go": lambda body: b'{"a":' * 1_000 in body,
    "NaN": lambda body: b"NaN" in body,
    "infinity": lambda body: b"Infinity" in body or b"1e999" in body,
    "beyond float32": lambda body: b"1e39" in body,
    "too few numbers": lambda body: any(len(vector) < 4 for vector in vectors(body)),
    "too many numbers": lambda body: any(len(vector) > 4 for vector in vectors(body)),
    "too few vectors": lambda body: len(items(body)) < 3,
    "too many vectors": lambda body: len(items(body)) > 3,
    "another order": lambda body: sorted(indices(body)) == [0, 1, 2] != indices(body),
    "an index twice": lambda body: len(indices(body)) > len(set(indices(body))),
    "an integer of hundreds of digits": lambda body: b"9" * 400 in body,
    "an integer beyond 64 bits": lambda body: b"18446744073709551616" in body,
    "bad UTF-8": lambda body: not is_utf8(body),
    "an escaped surrogate": lambda body: b"\\ud800" in body,
    "an encoded surrogate": lambda body: b"\xed\xa0\x80" in body,
    "NUL": lambda body: b"\x00" in body or b"\\u0000" in body,
    "a byte order mark": lambda body: body.startswith((b"\xef\xbb\xbf", b"\xff\xfe")),
    "cut off": lambda body: body.startswith(b'{"object"') and not body.endswith(b"}"),
    "zeros": lambda body: any(vector and not np.any(vector) for vector in vectors(body) if all_numbers(vector)),
    "a key twice": lambda body: b'"embedding":[1],"embedding":' in body,
    "base64 of another alphabet": lambda body: b"____" in body,
}


def all_numbers(vector):
    return all(type(number) is float or type(number) is int for number in vector)


def test_every_kind_of_damage_is_among_the_bodies():
    made = list(bodies(seed=1, count=4_000))
    assert made == list(bodies(seed=1, count=4_000))
    missing = [name for name, is_there in KINDS.items() if not any(map(is_there, made))]
    assert missing == []
