import numpy as np
import pyarrow as pa
import pytest

from pipeline.nearest import SCORE, Nearest, rank_biased_overlap
from pipeline.vector_types import ARROW_TYPES, to_column
from tests.cases import cases

MATRIX = np.random.default_rng(3).standard_normal((50, 8)).astype(np.float32)


def table(kind):
    column, scales = to_column(list(MATRIX), kind)
    columns = {"id": pa.array(range(50)), "response": column}
    return pa.RecordBatch.from_pydict(columns | ({"scale": scales} if scales is not None else {}))


@pytest.mark.parametrize("kind", ["float", "double", "float16", "int8"])
def test_the_nearest_rows_of_all_batches_are_found(kind, monkeypatch):
    monkeypatch.setattr("pipeline.nearest.ROWS_AT_ONCE", 7)
    whole = table(kind)
    nearest = Nearest(MATRIX[20], 4, kind, "response", "scale" if "scale" in whole.schema.names else None)
    (found,) = nearest(iter([whole.slice(0, 30), whole.slice(30)]))
    cosines = (MATRIX @ MATRIX[20]) / np.linalg.norm(MATRIX, axis=1) / np.linalg.norm(MATRIX[20])
    rows = sorted(found.to_pylist(), key=lambda row: -row[SCORE])
    assert found.schema.names == ["id", SCORE]
    assert [row["id"] for row in rows] == np.argsort(-cosines)[:4].tolist()
    assert rows[0][SCORE] == pytest.approx(1.0, abs=2e-2)


def test_signs_alone_find_the_row_itself():
    (found,) = Nearest(MATRIX[20], 1, "bits", "response", "scale")(iter([table("bits")]))
    assert found.to_pylist()[0]["id"] == 20


def test_nothing_is_near_in_an_empty_table():
    assert list(Nearest(MATRIX[0], 3, "float", "response")(iter([]))) == []
    assert list(Nearest(MATRIX[0], 3, "float", "response")(iter([table("float").slice(0, 0)]))) == []


def test_vectors_of_another_length_are_refused():
    with pytest.raises(ValueError, match="have 8 numbers and the query's 3"):
        list(Nearest(MATRIX[0][:3], 3, "float", "response")(iter([table("float")])))


def test_every_type_of_the_tables_can_be_searched():
    assert set(ARROW_TYPES) == {"float", "double", "float16", "int8", "bits"}


@cases(
    ("ours", "theirs", "expected"),
    [
        ("abcd", "abcd", 1.0),
        ("abcd", "wxyz", 0.0),
        ("", "abcd", 0.0),
        ("", "", 0.0),
        # by hand, agreement 0, 1: (1 - p) / p * p**2 + p**2
        ("ab", "ba", 0.1 / 0.9 * 0.81 + 0.81),
        # agreement 1, 1/2, and 1/2 from there on
        ("ab", "ac", 0.1 / 0.9 * (0.9 + 0.5 * 0.81) + 0.5 * 0.81),
        # the shorter one is assumed to go on as it ended: agreement 1 at both depths
        ("a", "ab", 1.0),
        # 0 at depth 1, 1/2 at depth 2, where the shorter one had ended without any
        ("b", "ab", 0.1 / 0.9 * 0.5 * 0.81 + 0.5 * 0.81),
        ("aab", "ab", 1.0),
    ],
)
def test_rank_biased_overlap_is_that_of_the_paper(ours, theirs, expected):
    assert rank_biased_overlap(ours, theirs) == pytest.approx(expected)
    assert rank_biased_overlap(theirs, ours) == pytest.approx(expected)


def test_a_change_at_the_top_counts_more_than_one_at_the_end():
    assert rank_biased_overlap("abcdef", "bacdef") < rank_biased_overlap("abcdef", "abcdfe") < 1
    assert rank_biased_overlap("abcdef", "xbcdef") < rank_biased_overlap("abcdef", "abcdex") < 1
