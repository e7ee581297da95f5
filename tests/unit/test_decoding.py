import base64
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as np_st

from pipeline.decoding import _base64_decoder, decode, decode_base64, decode_floats
from pipeline.errors import ErrorCode
from pipeline.vectors import EmbeddingContract, check
from tests.cases import cases

matrices = np_st.arrays(
    np.float32,
    np_st.array_shapes(min_dims=2, max_dims=2, max_side=8),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
)


def to_base64(row):
    return base64.b64encode(np.asarray(row, "<f4").tobytes()).decode()


@given(matrices)
def test_base64_gives_back_every_bit(matrix):
    decoded = decode_base64([to_base64(row) for row in matrix])
    assert decoded.dtype == np.float32
    assert decoded.tobytes() == matrix.tobytes()


def test_both_base64_decoders_give_the_same(monkeypatch):
    matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
    texts = [to_base64(row) for row in matrix]
    _base64_decoder.cache_clear()
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "pybase64", None)  # as if it were not installed
        np.testing.assert_array_equal(decode_base64(texts), matrix)
        with pytest.raises(ValueError):
            decode_base64(["AAA AAA=="])
    _base64_decoder.cache_clear()
    np.testing.assert_array_equal(decode_base64(texts), matrix)


@given(matrices)
def test_float_lists_give_back_every_float32(matrix):
    np.testing.assert_array_equal(decode_floats(matrix.astype(np.float64).tolist()), matrix)


@given(matrices, st.data())
def test_any_mix_of_wire_forms_decodes_to_one_matrix(matrix, data):
    forms = [data.draw(st.sampled_from([to_base64, lambda row: row.astype(float).tolist()])) for _ in matrix]
    decoded, fits = decode([form(row) for form, row in zip(forms, matrix, strict=True)])
    np.testing.assert_array_equal(decoded, matrix)
    assert all(fits)


def test_base64_takes_bytes_too():
    np.testing.assert_array_equal(decode_base64([to_base64([1, 2]).encode()]), [[1, 2]])


@cases(
    "texts",
    [["AAAA"], ["AAAAAAA="], ["AAAAAA"], ["AAA AAA=="], ["é"], [to_base64([1]), to_base64([1, 2])], ["AAAA", ""]],
    ids=["3 bytes", "5 bytes", "no padding", "a space", "not ASCII", "ragged", "ragged with empty"],
)
def test_what_is_no_whole_vector_in_base64_is_refused(texts):
    with pytest.raises(ValueError):
        decode_base64(texts)


@cases(
    "rows",
    [
        [[1.0], [1.0, 2.0]],
        [[], [1.0]],
        [["1.0"]],
        [[None]],
        [[True]],
        [[0.5, False]],
        [[[1.0]]],
        [[{}]],
        [[10**400]],
    ],
)
def test_what_is_no_matrix_of_numbers_is_refused(rows):
    with pytest.raises(ValueError):
        decode_floats(rows)


def test_no_rows_and_empty_rows_are_matrices_without_numbers():
    assert decode_floats([]).shape == (0, 0)
    assert decode_floats([[], []]).shape == (2, 0)
    assert decode_base64(["", ""]).shape == (2, 0)
    assert decode([])[0].shape == (0, 0)


@cases("value", [1e39, -1e39, 1.7e308])
def test_a_number_beyond_float32_is_not_finite(value):
    matrix = decode_floats([[value, 0.0], [1.0, 0.0]])
    assert check(matrix, EmbeddingContract()) == [ErrorCode.NOT_FINITE, None]


def test_a_null_spoils_its_own_row_only():
    matrix, fits = decode([[1.0, None], [0.0, 1.0]])
    assert fits == [True, True]
    assert check(matrix, EmbeddingContract()) == [ErrorCode.NOT_FINITE, None]


def test_the_commonest_length_counts_and_the_first_on_a_tie():
    assert decode([[1.0], [1.0, 2.0], [3.0, 4.0]])[1] == [False, True, True]
    assert decode([[1.0], [1.0, 2.0]])[1] == [True, False]


def test_configured_dimensions_beat_the_majority():
    matrix, fits = decode([[1.0], [1.0, 2.0], [3.0]], dimensions=2)
    assert fits == [False, True, False]
    np.testing.assert_array_equal(matrix, [[0, 0], [1, 2], [0, 0]])


def test_a_batch_of_one_wrong_length_fits_nowhere():
    matrix, fits = decode([[1.0, 2.0], [3.0, 4.0]], dimensions=3)
    assert fits == [False, False]
    assert matrix.shape == (2, 3)


@cases("value", [None, 1.0, {"a": 1}, True])
def test_a_value_that_is_no_vector_is_refused(value):
    with pytest.raises(ValueError):
        decode([[1.0], value])
