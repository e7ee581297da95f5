"""From record batches to requests: rows that cannot be read cost themselves only."""

import pyarrow as pa

from pipeline.errors import ErrorCode
from pipeline.prompts import PromptSpec
from pipeline.records import Request, RowError, Task
from pipeline.rendering import BatchRenderer, IdentifyTask, MeasureTask, PickTask

PROMPT = PromptSpec(Task.CHAT, template="Summarise: {{ doc }}")
# Spark's strings hold any bytes.
DOCS = pa.array([b"first", b"\xff\xfe", b"", b"last"], pa.binary()).view(pa.string())
BATCH = pa.RecordBatch.from_arrays([pa.array([1, 2, 3, 4]), DOCS], names=["id", "doc"])


def asked(batch: pa.RecordBatch) -> list[str | ErrorCode]:
    return [one.code if isinstance(one, RowError) else one.request_id for one in BatchRenderer(PROMPT)(batch)]


def test_an_unreadable_row_ends_alone():
    first, unreadable, empty, last = asked(BATCH)
    assert unreadable is ErrorCode.INVALID_INPUT
    assert empty is ErrorCode.EMPTY_INPUT
    assert len({first, last}) == 2
    assert asked(BATCH.slice(3)) == [last]


def test_a_prompt_without_columns_asks_the_same_for_every_row():
    asked = BatchRenderer(PromptSpec(Task.CHAT, template="Hello."))(BATCH)
    assert len(asked) == 4
    assert all(isinstance(one, Request) for one in asked)
    assert len({one.request_id for one in asked if isinstance(one, Request)}) == 1


def test_rows_that_ask_nothing_have_an_empty_id():
    (batch,) = IdentifyTask(PROMPT, "__asked")(iter([BATCH]))
    assert batch.schema.names == ["id", "doc", "__asked"]
    first, *nothing, last = batch.column(2).to_pylist()
    assert nothing == ["", ""]
    assert [first, last] == [asked(BATCH)[0], asked(BATCH)[3]]


def test_rows_are_measured_and_picked_by_their_request():
    (measured,) = MeasureTask(PROMPT, {})(iter([BATCH]))
    ids = measured.column(0).to_pylist()
    assert ids == [asked(BATCH)[0], None, None, asked(BATCH)[3]]
    assert [tokens is not None for tokens in measured.column(1).to_pylist()] == [True, False, False, True]
    (picked,) = PickTask(PROMPT, frozenset([ids[3]]))(iter([BATCH]))
    assert picked.column(0).to_pylist() == [4]
    assert list(PickTask(PROMPT, frozenset(["none"]))(iter([BATCH]))) == []
