from hypothesis import given
from hypothesis import strategies as st

from pipeline.endpoints.usage import distribute, read_usage
from pipeline.records import NO_USAGE, Usage
from tests.cases import cases

counts = st.none() | st.integers(0, 2**53)


@given(
    st.builds(Usage, counts, counts, counts, counts, counts), st.lists(st.integers(-3, 10**9), min_size=1, max_size=40)
)
def test_the_shares_sum_to_the_usage_of_the_call(usage, weights):
    shares = distribute(usage, weights)
    assert len(shares) == len(weights)
    for name in Usage._fields:
        column = [getattr(share, name) for share in shares]
        if getattr(usage, name) is None:
            assert set(column) == {None}
        else:
            assert sum(column) == getattr(usage, name)
            assert min(column) >= 0


@given(st.integers(0, 10**6), st.lists(st.integers(0, 1000), min_size=1, max_size=40).filter(any))
def test_a_share_is_off_its_proportion_by_less_than_one_token(count, weights):
    for share, weight in zip(distribute(Usage(input_tokens=count), weights), weights, strict=True):
        assert abs(share.input_tokens - count * weight / sum(weights)) < 1


def test_without_estimates_the_shares_are_even():
    assert [share.input_tokens for share in distribute(Usage(input_tokens=7), [0, 0, 0])] == [3, 2, 2]


def test_no_usage_stays_no_usage():
    assert distribute(NO_USAGE, [1, 2]) == [NO_USAGE, NO_USAGE]


@cases(
    ("value", "expected"),
    [
        (0, 0),
        (12.0, 12),
        (2**53, 2**53),
        (2**53 + 1, None),
        (2**70, None),
        (-1, None),
        (1.5, None),
        (float("nan"), None),
        (float("inf"), None),
        (True, None),
        ("12", None),
        (None, None),
        ([1], None),
    ],
)
def test_a_count_is_a_credible_whole_number_or_absent(value, expected):
    usage = {"prompt_tokens": value, "completion_tokens": value, "total_tokens": value}
    assert read_usage({"usage": usage}) == Usage(expected, expected, expected)


@cases("answer", [None, [], "x", 1, {}, {"usage": None}, {"usage": [1]}, {"usage": "x"}])
def test_an_answer_without_usage_has_none(answer):
    assert read_usage(answer) is NO_USAGE


def test_a_missing_total_is_not_made_up():
    assert read_usage({"usage": {"input_tokens": 1, "output_tokens": 2}}) == Usage(1, 2)
