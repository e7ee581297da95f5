import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as np_st

from pipeline.errors import ErrorCode
from pipeline.vectors import (
    EmbeddingContract,
    VectorSum,
    check,
    is_normalized,
    normalize,
    norms,
)
from tests.cases import cases

matrices = np_st.arrays(
    np.float32,
    np_st.array_shapes(min_dims=2, max_dims=2, max_side=8),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
)


def test_the_norm_of_large_floats_does_not_overflow():
    assert norms(np.full((1, 4), 3e38, np.float32)) == pytest.approx(6e38)
    assert norms(np.full((1, 1), 1e-45, np.float32))[0] > 0


def test_a_signalling_nan_raises_no_warning():
    matrix = np.frombuffer(bytes.fromhex("0100a07f0000803f"), "<f4").reshape(1, 2)
    assert math.isnan(norms(matrix)[0])
    assert check(matrix, EmbeddingContract()) == [ErrorCode.NOT_FINITE]


@cases(
    ("norm", "expected"),
    [
        (1.0, True),
        (1.0009, True),
        (0.9991, True),
        (1.0011, False),
        (0.998, False),
        (0.0, False),
        (math.nan, False),
        (math.inf, False),
    ],
)
def test_normalised_means_closer_to_1_than_the_tolerance(norm, expected):
    assert is_normalized(np.array([norm]), 1e-3).tolist() == [expected]


@given(matrices)
def test_normalising_gives_unit_length_and_leaves_zero_alone(matrix):
    before, after = norms(matrix), norms(normalize(matrix))
    ordinary = before > 1e-30  # below, float32 has too few digits left
    assert is_normalized(after[ordinary], 1e-5).all()
    assert (after[before == 0] == 0).all()


def test_normalising_leaves_what_is_not_finite():
    scaled = normalize(np.array([[math.inf, 1.0], [3.0, 4.0]], np.float32))
    np.testing.assert_allclose(scaled, [[math.inf, 1.0], [0.6, 0.8]])


ROWS = np.array([[0.6, 0.8], [3.0, 4.0], [0.0, 0.0], [math.nan, 1.0], [math.inf, 1.0]], np.float32)


@cases(
    ("contract", "expected"),
    [
        (EmbeddingContract(), [None, None, "zero_vector", "not_finite", "not_finite"]),
        (EmbeddingContract("require"), [None, "not_normalized", "zero_vector", "not_finite", "not_finite"]),
        (EmbeddingContract("require", tolerance=4.5), [None, None, "zero_vector", "not_finite", "not_finite"]),
        (EmbeddingContract("normalize"), [None, None, "zero_vector", "not_finite", "not_finite"]),
        (EmbeddingContract("off", finite=False, non_zero=False), [None] * 5),
        (
            EmbeddingContract("require", non_zero=False),
            [None, "not_normalized", "not_normalized", "not_finite", "not_finite"],
        ),
        (EmbeddingContract(dimensions=2), [None, None, "zero_vector", "not_finite", "not_finite"]),
        (EmbeddingContract(dimensions=3), ["wrong_dimensions"] * 5),
    ],
)
def test_the_contract_names_each_rows_fault(contract, expected):
    assert check(ROWS, contract) == expected


LARGE = np.full((3, 2), 3e38, np.float32)


@cases(
    ("matrices", "total", "count"),
    [
        ([[[1, 2], [3, 4]], [[5, 6]]], [9, 12], 3),
        ([LARGE, LARGE], [6 * float(np.float32(3e38))] * 2, 6),  # beyond float32
        ([[[1, 2], [math.nan, 0], [math.inf, -math.inf]], [[3, 4]]], [4, 6], 2),
        ([[[math.nan, 0]]], [0, 0], 0),
        ([[[1, 2]], [[1, 2, 3]]], None, 0),
    ],
    ids=["sum", "large", "not finite", "none finite", "two lengths"],
)
def test_the_sum_of_vectors_is_of_the_finite_ones_and_finite(matrices, total, count):
    summed = VectorSum()
    for matrix in matrices:
        summed.add(np.array(matrix, np.float32))
    assert summed.count == count
    assert (summed.total is None) == (total is None)
    assert total is None or summed.total.tolist() == pytest.approx(total)
