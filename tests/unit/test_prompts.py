"""From a row to its question, and what makes two questions the same."""

import datetime
import decimal
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError, ErrorCode
from pipeline.prompts import PromptSpec, Renderer, fingerprint, prompt_columns
from pipeline.records import Request, RowError, Task
from tests.cases import cases

CHAT = PromptSpec(Task.CHAT, template="Sum up: {{ text }}")
EMBEDDING = PromptSpec(Task.EMBEDDING, template="{{ text }}")
MESSAGES = PromptSpec(Task.CHAT, messages_column="chat")

any_text = st.text(st.characters(exclude_categories=()), max_size=30)


def render(spec: PromptSpec, **row) -> Request | RowError:
    return Renderer(spec).render(row)


def code(result: Request | RowError) -> ErrorCode:
    assert isinstance(result, RowError), result
    return result.code


def test_a_chat_prompt_is_a_user_message_behind_the_system_message():
    request = render(replace(CHAT, system="You know {{ topic }}."), text="x", topic="rain")
    assert request.messages == (
        {"role": "system", "content": "You know rain."},
        {"role": "user", "content": "Sum up: x"},
    )
    assert request.text is None
    assert re.fullmatch("[0-9a-f]{64}", request.request_id)


def test_an_embedding_is_a_text():
    request = render(EMBEDDING, text="rain " * 8)
    assert (request.text, request.messages, request.input_tokens) == ("rain " * 8, None, 10)


def test_a_message_column_is_taken_as_it_is_behind_the_system_message():
    chat = '[{"role": "user", "content": [{"type": "text", "text": "a"}]}, {"role": "assistant", "content": null}]'
    assert render(MESSAGES, chat=chat).messages == (
        {"role": "user", "content": [{"type": "text", "text": "a"}]},
        {"role": "assistant", "content": None},
    )
    first, *_ = render(replace(MESSAGES, system="Be brief."), chat=chat).messages
    assert first == {"role": "system", "content": "Be brief."}


@cases(
    ("chat", "expected"),
    [
        (None, ErrorCode.EMPTY_INPUT),
        (" ", ErrorCode.EMPTY_INPUT),
        ("[]", ErrorCode.EMPTY_INPUT),
        ("what?", ErrorCode.INVALID_INPUT),
        ("{}", ErrorCode.INVALID_INPUT),
        ('["a"]', ErrorCode.INVALID_INPUT),
        ('[{"role": "user"}]', ErrorCode.INVALID_INPUT),
        ('[{"role": 1, "content": "a"}]', ErrorCode.INVALID_INPUT),
        ("null", ErrorCode.INVALID_INPUT),
        (7, ErrorCode.INVALID_INPUT),
    ],
)
def test_a_message_column_that_is_none_is_told(chat, expected):
    assert code(render(MESSAGES, chat=chat)) is expected


@cases("row", [{"a": None, "b": None}, {"a": "", "b": " \n\t"}, {"a": None, "b": "\u2003"}])
def test_a_row_whose_prompt_columns_are_all_blank_asks_nothing(row):
    error = render(PromptSpec(Task.CHAT, template="Sum up: {{ a }} {{ b }}"), **row)
    assert error == RowError(ErrorCode.EMPTY_INPUT, "null or blank: a, b")


def test_a_row_with_one_value_is_asked_and_null_prints_as_nothing():
    request = render(PromptSpec(Task.CHAT, template="{{ a }}|{{ b }}|"), a=None, b=0)
    assert request.messages[0]["content"] == "|0|"


def test_a_prompt_that_comes_out_blank_asks_nothing():
    for task in Task:
        assert code(render(PromptSpec(task, template="{% if n > 3 %}{{ n }}{% endif %}"), n=1)) is ErrorCode.EMPTY_INPUT


@cases(
    ("value", "expected"),
    [
        (1.5, "1.5"),
        (decimal.Decimal("1.10"), "1.10"),
        (datetime.date(2026, 2, 3), "2026-02-03"),
        (True, "True"),
        ([1, "a"], "[1, 'a']"),
        ("<b>&", "<b>&"),
        ("{{ 1 + 1 }}", "{{ 1 + 1 }}"),
    ],
)
def test_values_print_as_python_does_and_are_never_templates_themselves(value, expected):
    assert render(EMBEDDING, text=value).text == expected


@cases(
    ("template", "value"),
    [
        ("{{ x.missing }}", "a"),
        ("{{ x.missing.more }}", {"a": 1}),
        ("{{ 1 / x }}", 0),
        ("{{ x | dictsort }}", "a"),
        ("{{ x + 1 }}", "a"),
        ("{{ x[9] }}", [1]),
        ("{{ x.__class__.__mro__ }}", "a"),
        ("{{ x | tojson }}", datetime.date(2026, 2, 3)),
        ("{{ x.append(1) }}", [1]),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() ~ x }}", "a"),
        ("{% for i in range(10000000) %}{{ x }}{% endfor %}", "a"),
    ],
)
def test_a_template_that_fails_on_a_row_costs_that_row(template, value):
    error = render(PromptSpec(Task.CHAT, template=template), x=value)
    assert code(error) is ErrorCode.INVALID_INPUT
    assert error.message.startswith("the prompt cannot be rendered: ")


def test_a_request_is_measured_in_bytes():
    spec = replace(EMBEDDING, max_request_bytes=10)
    assert isinstance(render(spec, text="ü" * 5), Request)
    error = render(spec, text="ü" * 6)
    assert error == RowError(ErrorCode.INPUT_TOO_LARGE, "12 bytes; [limits] max_request_bytes is 10")


# --- columns


@cases(
    ("template", "expected"),
    [
        ("no column", ()),
        ("{{ b }} {{ a }} {{ b }}", ("a", "b")),
        ("{% for x in xs %}{{ x }}{% endfor %}", ("xs",)),
        ("{% set y = z %}{{ y }}", ("z",)),
        ("{% if a is defined and range(3) %}{{ a.b }}{% endif %}", ("a",)),
        ("{# {{ comment }} #}{% raw %}{{ raw }}{% endraw %}", ()),
    ],
)
def test_a_prompt_tells_the_columns_that_it_reads(template, expected):
    assert prompt_columns(PromptSpec(Task.CHAT, template=template)) == expected


def test_the_system_prompt_and_the_message_column_count():
    assert prompt_columns(replace(CHAT, system="{{ topic }}")) == ("text", "topic")
    assert prompt_columns(MESSAGES) == ("chat",)


@cases("part", ["template", "system"])
def test_a_template_that_cannot_be_compiled_is_told_with_its_line(part):
    name = {"template": "prompt", "system": "system"}[part]
    with pytest.raises(ConfigError, match=rf"\[request\] {name}: line 2 of the template"):
        prompt_columns(replace(CHAT, **{part: "fine\n{{ a"}))


# --- identity

OTHERS = [
    replace(CHAT, template="Sum up:  {{ text }}"),
    replace(CHAT, system="Be brief."),
    replace(CHAT, identity={"endpoint": "other"}),
    replace(CHAT, identity={"parameters": {"temperature": 0}}),
    replace(CHAT, task=Task.EMBEDDING),
]


@cases("other", OTHERS)
def test_whatever_changes_the_answer_changes_id_and_fingerprint(other):
    assert render(CHAT, text="x").request_id != render(other, text="x").request_id
    assert fingerprint(CHAT) != fingerprint(other)


def test_the_order_of_parameters_changes_nothing():
    one, other = (replace(CHAT, identity=dict(items)) for items in ([("a", 1), ("b", 2)], [("b", 2), ("a", 1)]))
    assert render(one, text="x").request_id == render(other, text="x").request_id
    assert fingerprint(one) == fingerprint(other)


def test_a_size_limit_changes_no_answer():
    assert fingerprint(CHAT) == fingerprint(replace(CHAT, max_request_bytes=9))


def test_ids_are_the_same_on_every_machine_and_in_every_version():
    # a change here makes every journal useless: rows that were paid for would be bought again
    assert render(CHAT, text="x").request_id == "8fa82ee3e7679884e6b2c526485e83b6be1d173191cb8c2126f6bab917c0cc93"
    assert render(EMBEDDING, text="x").request_id == "ef4beaceaebbad129e57d093818b32bcfb15822cfae0cb775b60b1e388c614ec"
    assert fingerprint(CHAT) == "097523e72bd89cea29a555a0c0b84cd68f5e913156031c62bbb9ee650216b090"


@given(any_text, any_text)
@pytest.mark.parametrize("spec", [CHAT, EMBEDDING])
def test_equal_texts_have_equal_ids_and_others_have_others(spec, one, other):
    renderer = Renderer(spec)
    first, second = (renderer.render({"text": text}) for text in (one, other))
    if isinstance(first, Request) and isinstance(second, Request):
        assert (first.request_id == second.request_id) == (one == other)
        assert first.input_tokens >= 1


@given(any_text)
def test_any_text_is_a_question_or_a_listed_error(text):
    for spec, name in ((CHAT, "text"), (EMBEDDING, "text"), (MESSAGES, "chat")):
        result = render(spec, **{name: text})
        assert isinstance(result, Request) or result.code in (ErrorCode.EMPTY_INPUT, ErrorCode.INVALID_INPUT)
