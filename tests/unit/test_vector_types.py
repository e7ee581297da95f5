import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as np_st

from pipeline.vector_types import ARROW_TYPES, SCALED, from_column, to_column
from tests.cases import cases

matrices = np_st.arrays(
    np.float32,
    np_st.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=20),
    elements=st.floats(-100, 100, width=32, allow_subnormal=False),
)


def round_trip(matrix, kind):
    column, scales = to_column(list(matrix), kind)
    assert column.type == ARROW_TYPES[kind]
    assert (scales is not None) == (kind in SCALED)
    assert scales is None or (scales.type == pa.float32() and scales.null_count == 0)
    return from_column(column, kind, scales)


@given(matrices)
def test_floats_and_doubles_come_back_bit_for_bit(matrix):
    for kind in ("float", "double"):
        assert round_trip(matrix, kind).tobytes() == matrix.tobytes()


@given(matrices)
def test_half_precision_comes_back_as_numpy_rounds_it(matrix):
    np.testing.assert_array_equal(round_trip(matrix, "float16"), matrix.astype(np.float16).astype(np.float32))


@given(matrices)
def test_int8_is_within_half_a_step_of_each_number(matrix):
    step = np.abs(matrix).max(axis=1, keepdims=True) / 127
    assert (np.abs(round_trip(matrix, "int8") - matrix) <= step * 0.501 + 1e-30).all()


@given(matrices)
def test_bits_keep_the_signs_and_the_mean_magnitude(matrix):
    found = round_trip(matrix, "bits")[:, : matrix.shape[1]]
    mean = np.abs(matrix).mean(axis=1, keepdims=True, dtype=np.float64)
    np.testing.assert_allclose(found, np.where(matrix > 0, mean, -mean), rtol=1e-5)


@cases("kind", ARROW_TYPES)
def test_rows_without_a_vector_are_null_and_the_others_keep_their_place(kind):
    vectors = [None, np.array([1, -2], np.float32), None, np.array([3, 4], np.float32)]
    column, scales = to_column(vectors, kind)
    assert column.is_null().to_pylist() == [True, False, True, False]
    assert scales is None or scales.is_null().to_pylist() == [True, False, True, False]
    full, _ = to_column([vectors[1], vectors[3]], kind)
    assert column.drop_null().to_pylist() == full.to_pylist()
    column.validate(full=True)


@cases("kind", ARROW_TYPES)
def test_vectors_of_several_lengths_make_one_column_and_are_refused_on_the_way_back(kind):
    column, scales = to_column([np.ones(8, np.float32), np.ones(24, np.float32)], kind)
    assert len(column) == 2
    with pytest.raises(ValueError, match="numbers or bytes in one table"):
        from_column(column, kind, scales)


@cases("kind", ARROW_TYPES)
def test_no_rows_and_only_nulls_are_columns_too(kind):
    for vectors in ([], [None, None]):
        column, scales = to_column(vectors, kind)
        assert (column.type, len(column), column.null_count) == (ARROW_TYPES[kind], len(vectors), len(vectors))
        assert scales is None or scales.null_count == len(vectors)


def test_a_slice_of_a_column_gives_its_own_rows():
    matrix = np.arange(12, dtype=np.float32).reshape(4, 3)
    for kind in ("float", "float16", "int8"):
        column, scales = to_column(list(matrix), kind)
        sliced = from_column(column.slice(1, 2), kind, scales and scales.slice(1, 2))
        np.testing.assert_allclose(sliced, matrix[1:3], atol=0.05)
