"""The result columns: types, order, and one row per outcome whatever the outcome."""

import datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.columns import ResultShape, check_collisions, spark_ddl, to_arrow
from pipeline.errors import ConfigError, ErrorCode
from pipeline.prices import Price
from pipeline.records import Outcome, RowError, Task, Usage
from tests.cases import cases

CHAT_NAMES = [
    *("response", "error", "usage", "cost", "finish_reason", "model", "attempts"),
    *("latency_ms", "request_id", "run_id", "completed_at"),
]
EMBEDDING_NAMES = [*CHAT_NAMES[:6], "norm", "is_normalized", *CHAT_NAMES[6:]]


def vector(*numbers: float) -> np.ndarray:
    return np.array(numbers, dtype=np.float32)


def test_the_columns_of_each_task_in_order():
    assert ResultShape(Task.CHAT).schema().names == CHAT_NAMES
    assert ResultShape(Task.EMBEDDING).schema().names == EMBEDDING_NAMES
    assert ResultShape(Task.CHAT, "ai_").schema().names == [f"ai_{name}" for name in CHAT_NAMES]


def test_the_ddl_is_what_spark_reads():
    usage = ", ".join(
        f"{name}: bigint"
        for name in ("input_tokens", "output_tokens", "total_tokens", "cached_input_tokens", "reasoning_tokens")
    )
    assert spark_ddl(ResultShape(Task.EMBEDDING, "x ").schema()) == (
        "`x response` array<float>, "
        "`x error` struct<code: string, message: string, status: int, retryable: boolean>, "
        f"`x usage` struct<{usage}>, `x cost` double, "
        "`x finish_reason` string, `x model` string, `x norm` float, `x is_normalized` boolean, `x attempts` int, "
        "`x latency_ms` float, `x request_id` string, `x run_id` string, `x completed_at` timestamp"
    )
    assert spark_ddl(ResultShape(Task.CHAT).schema()).startswith("`response` string, ")


def test_an_answer_as_a_row():
    outcome = Outcome(
        "r",
        response="Yes.",
        usage=Usage(5, 2, 7, 1, 0),
        finish_reason="stop",
        model="m",
        attempts=2,
        latency_ms=12.5,
        completed_at_s=1_700_000_000.25,
    )
    price = Price(input=2.0, output=10.0, cached_input=0.5)
    assert to_arrow([outcome], ResultShape(Task.CHAT), "run-1", price=price).to_pylist() == [
        {
            "response": "Yes.",
            "error": None,
            "usage": {
                "input_tokens": 5,
                "output_tokens": 2,
                "total_tokens": 7,
                "cached_input_tokens": 1,
                "reasoning_tokens": 0,
            },
            "cost": pytest.approx((4 * 2.0 + 1 * 0.5 + 2 * 10.0) / 1e6),
            "finish_reason": "stop",
            "model": "m",
            "attempts": 2,
            "latency_ms": 12.5,
            "request_id": "r",
            "run_id": "run-1",
            "completed_at": datetime.datetime(2023, 11, 14, 22, 13, 20, 250_000, tzinfo=datetime.UTC),
        }
    ]


@cases(("code", "retryable"), [(ErrorCode.REFUSAL, False), (ErrorCode.OVERLOADED, True)])
def test_an_error_as_a_row(code, retryable):
    outcome = Outcome("r", error=RowError(code, "no", 503))
    (row,) = to_arrow([outcome], ResultShape(Task.CHAT), "run-1").to_pylist()
    assert row["error"] == {"code": str(code), "message": "no", "status": 503, "retryable": retryable}
    assert row["response"] is None
    assert set(row["usage"].values()) == {None}
    assert row["cost"] is None


@cases("task", Task)
def test_no_outcomes_are_no_rows_of_the_same_schema(task):
    batch = to_arrow([], ResultShape(task, "ai_"), "run-1")
    assert batch.num_rows == 0
    assert batch.schema == ResultShape(task, "ai_").schema()


vectors = st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=5).map(lambda numbers: vector(*numbers))


@given(st.lists(st.none() | vectors, max_size=20))
def test_every_vector_is_in_its_own_row_and_failed_rows_are_null(responses):
    outcomes = [
        Outcome("r", response=response, norm=None if response is None else float(np.linalg.norm(response)))
        if response is not None
        else Outcome("r", error=RowError(ErrorCode.NOT_FINITE, "NaN"))
        for response in responses
    ]
    batch = to_arrow(outcomes, ResultShape(Task.EMBEDDING), "run-1")
    batch.validate(full=True)
    assert batch.schema == ResultShape(Task.EMBEDDING).schema()
    expected = [None if response is None else response.tolist() for response in responses]
    assert batch.column("response").to_pylist() == expected
    assert [error is None for error in batch.column("error").to_pylist()] == [r is not None for r in responses]


def test_vectors_that_are_views_of_one_matrix_land_as_they_are():
    matrix = np.arange(12, dtype=np.float32).reshape(3, 4)
    batch = to_arrow([Outcome("r", response=row) for row in matrix[::-1]], ResultShape(Task.EMBEDDING), "run-1")
    assert batch.column("response").to_pylist() == matrix[::-1].tolist()
    assert batch.column("response").type == pa.list_(pa.float32())


@cases(
    ("source", "prefix", "taken"),
    [
        (["id", "response"], "", "response"),
        (["Error", "USAGE", "id"], "", "Error, USAGE"),
        (["ai_model"], "ai_", "ai_model"),
        (["AI_Model"], "ai_", "AI_Model"),
        (["norm"], "", "norm"),
    ],
)
def test_a_source_column_of_the_same_name_is_refused_with_the_way_out(source, prefix, taken):
    with pytest.raises(ConfigError, match=rf"adds itself: {taken}\. Set \[sink\] prefix"):
        check_collisions(source, ResultShape(Task.EMBEDDING, prefix))


@cases("source", [["id", "text", "ID"], ["id", "text", "id"]])
def test_two_source_columns_of_one_name_are_refused_before_anything_is_bought(source):
    with pytest.raises(ConfigError, match=r"columns of the same name: id, (ID|id)"):
        check_collisions(source, ResultShape(Task.CHAT))


@cases(
    ("source", "task", "prefix"),
    [
        (["id", "text"], Task.CHAT, ""),
        (["response", "error"], Task.CHAT, "ai_"),
        (["norm"], Task.CHAT, ""),
        ([], Task.EMBEDDING, ""),
    ],
)
def test_other_names_are_free(source, task, prefix):
    check_collisions(source, ResultShape(task, prefix))
