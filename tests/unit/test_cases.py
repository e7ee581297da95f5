"""The tables of the other tests: no case is left out, and each that fails is named."""

import inspect

import pytest

from tests.cases import cases


def test_every_case_is_tried_of_every_pair_of_tables():
    tried = []

    @cases(("a", "b"), [(1, 2), (3, 4)])
    @cases("c", [5, 6])
    def test(fixture, a, b, c):
        tried.append((fixture, a, b, c))

    assert list(inspect.signature(test).parameters) == ["fixture"]
    test(fixture=0)
    assert tried == [(0, 1, 2, 5), (0, 1, 2, 6), (0, 3, 4, 5), (0, 3, 4, 6)]


@cases(("a", "b"), [(1, 2), (3, 4)])
def test_the_other_arguments_are_fixtures(tmp_path, a, b):
    assert tmp_path.exists()
    assert a + 1 == b


def test_each_case_that_fails_is_named_and_keeps_its_failure():
    tried = []

    @cases("value", [0, pytest.param(1, id="one"), 2, 3], ids=["none", None, "two", "three"])
    def test(value):
        tried.append(value)
        with pytest.raises(ZeroDivisionError):
            1 / value
        assert value != 3

    with pytest.raises(
        BaseExceptionGroup, match="3 of 4 cases failed: one: value=1; two: value=2; three: value=3"
    ) as group:
        test()
    assert tried == [0, 1, 2, 3]
    assert [exc.__notes__ for exc in group.value.exceptions] == [
        ["in the case one: value=1"],
        ["in the case two: value=2"],
        ["in the case three: value=3"],
    ]


def test_one_that_fails_is_raised_as_it_is():
    @cases("a, b", [(1, 1), ("x" * 500, 2), (3, 3)])
    def test(a, b):
        assert a == b

    with pytest.raises(AssertionError) as failure:
        test()
    (note,) = failure.value.__notes__
    assert note.startswith("in the case a='xxx")
    assert len(note) < 120


@pytest.mark.parametrize(
    ("rows", "ids"),
    [([], None), ([pytest.param(1, marks=pytest.mark.long)], None), ([1, 2], ["one"]), ([(1, 2), 3], None)],
)
def test_a_table_that_would_leave_a_case_out_is_refused(rows, ids):
    with pytest.raises((ValueError, TypeError)):
        cases("a" if rows[:1] != [(1, 2)] else ("a", "b"), rows, ids)


def test_a_skip_is_no_failure():
    @cases("a", [1, 2])
    def test(a):
        pytest.skip("all of it")

    with pytest.raises(pytest.skip.Exception, match="all of it"):
        test()
