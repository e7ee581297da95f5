import pytest

from pipeline.arguments import Parameter, bind, constant
from pipeline.conditions import AiFunctionError
from pipeline.model_parameters import checked
from pipeline.records import Task
from tests.cases import cases

PARAMETERS = (Parameter("endpoint", is_required=True), Parameter("request", is_required=True), Parameter("failOnError"))


@cases(
    ("arguments", "bound"),
    [
        ([(None, 1), (None, 2)], {"endpoint": 1, "request": 2}),
        ([(None, 1), ("request", 2)], {"endpoint": 1, "request": 2}),
        ([("REQUEST", 2), ("endpoint", 1), ("failonerror", 3)], {"endpoint": 1, "request": 2, "failOnError": 3}),
    ],
)
def test_arguments_find_their_parameters(arguments, bound):
    assert bind("f", PARAMETERS, arguments) == bound


@cases(
    ("arguments", "condition"),
    [
        ([], "REQUIRED_PARAMETER_NOT_FOUND"),
        ([(None, 1)], "REQUIRED_PARAMETER_NOT_FOUND"),
        ([(None, 1)] * 4, "WRONG_NUM_ARGS.WITHOUT_SUGGESTION"),
        ([("endpoint", 1), (None, 2)], "UNEXPECTED_POSITIONAL_ARGUMENT"),
        ([(None, 1), ("what", 2)], "UNRECOGNIZED_PARAMETER_NAME"),
        ([(None, 1), ("endpoint", 2)], "DUPLICATE_ROUTINE_PARAMETER_ASSIGNMENT.BOTH_POSITIONAL_AND_NAMED"),
        ([("request", 1), ("REQUEST", 2)], "DUPLICATE_ROUTINE_PARAMETER_ASSIGNMENT.DOUBLE_NAMED_ARGUMENT_REFERENCE"),
    ],
)
def test_wrong_calls_are_told_as_spark_tells_them(arguments, condition):
    with pytest.raises(AiFunctionError) as caught:
        bind("f", PARAMETERS, arguments)
    assert caught.value.condition == condition


def test_constants_have_their_type():
    assert constant("f", {"a": None}, "a", bool, True) is True
    assert constant("f", {"a": False}, "a", bool, True) is False
    with pytest.raises(AiFunctionError, match="`a` of `f` must be a BOOLEAN"):
        constant("f", {"a": "false"}, "a", bool)


@cases(
    ("parameters", "task", "condition"),
    [
        ({"messages": "x"}, Task.CHAT, "FOUND_RESERVED_PARAMETER_NAME"),
        ({"stream": True}, Task.CHAT, "FOUND_RESERVED_PARAMETER_NAME"),
        ({"max_tokens": 0}, Task.CHAT, "INVALID_NUMERIC_PARAMETER"),
        ({"temperature": 2.1}, Task.CHAT, "INVALID_NUMERIC_PARAMETER"),
        ({"max_tokens": 1.5}, Task.CHAT, "INVALID_PARAMETER_DATA_TYPE"),
        ({"max_tokens": True}, Task.CHAT, "INVALID_PARAMETER_DATA_TYPE"),
        ({"stop": [1]}, Task.CHAT, "INVALID_PARAMETER_DATA_TYPE"),
        ({"reasoning_effort": 1}, Task.CHAT, "INVALID_PARAMETER_DATA_TYPE"),
        ({"n": 2}, Task.CHAT, "UNSUPPORTED_MODEL_PARAMETER"),
        ({"temperature": 1}, Task.EMBEDDING, "UNSUPPORTED_MODEL_PARAMETER"),
        ({"dimensions": 8}, Task.CHAT, "UNSUPPORTED_MODEL_PARAMETER"),
    ],
)
def test_model_parameters_that_cannot_be(parameters, task, condition):
    with pytest.raises(AiFunctionError) as caught:
        checked(parameters, task)
    assert caught.value.condition == f"AI_FUNCTION_INVALID_MODEL_PARAMETERS.{condition}"


def test_model_parameters_travel_as_they_are():
    given = {"temperature": 1, "stop": ["a"], "vendor_option": {"x": 1}, "seed": None}
    assert checked(given, Task.CHAT) == {"temperature": 1, "stop": ["a"], "vendor_option": {"x": 1}}
