import pytest

from tests.fuzz.check import Checker


@pytest.mark.parametrize("count", [4_000, pytest.param(1_000_000, marks=pytest.mark.long)])
def test_no_body_breaks_a_task_or_lands_a_broken_vector(count):
    checker = Checker()
    checker.run(seed=1, count=count)
    assert checker.vectors > count  # most bodies are near enough to sound ones to tell the parser's corners
    assert checker.failures > count // 10
    assert {"not_finite", "wrong_dimensions", "wrong_count", "invalid_response"} <= set(checker.codes)
