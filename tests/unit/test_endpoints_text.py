import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipeline.endpoints.text import label, message_text, one_line, storable, without_surrogates
from pipeline.records import Batch, Request
from tests.cases import cases

any_text = st.text(st.characters(exclude_categories=()))
NOTHING = Batch((Request("r", text="x"),))
PROMPT = 'My name is "Ada Lovelace",\nand I live in London, as everyone knows.'


@given(any_text)
def test_storable_text_fits_arrow_and_holds_no_nul(text):
    assert pa.array([storable(text)]).to_pylist() == [storable(text)]
    assert "\0" not in storable(text)


@given(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0")))
def test_ordinary_text_is_stored_as_it_is(text):
    assert storable(text) == text == without_surrogates(text)


@given(any_text)
def test_a_message_is_one_printable_line_of_at_most_500_characters(text):
    message = message_text(text, NOTHING)
    assert len(message) <= 500
    assert "\n" not in message
    assert message.encode() is not None
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in message)


def test_a_long_message_shows_that_it_was_cut():
    assert message_text("word " * 200, NOTHING) == ("word " * 200)[:499] + "…"


@cases(
    ("text", "kept"),
    [
        ("Incorrect API key provided: sk-proj-Ab12***wxyz.", "Incorrect API key provided: ***"),
        ("token dapi0123456789abcdef0123456789abcdef is bad", "token *** is bad"),
        ("sent 'Bearer eyJhbGciOi.eyJzdWIi.c2ln'", "sent 'Bearer ***'"),
        ("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln seen", "jwt *** seen"),
        ("Authorization: Basic dXNlcjpwYXNzd29yZA==", "Authorization: Basic ***"),
        ("Access key: 0123456789abcdef0123456789abcdef", "Access key: ***"),
        ('{"token": "c2VjcmV0c2VjcmV0c2VjcmV0MTIz"}', '{"token": "***"}'),
        ("GET https://h/x?api-key=abc&b=1", "GET https://h/x?api-key=***&b=1"),
        ("proxy http://ada:s3cret@host:80/", "proxy http://***@host:80/"),
        ("hf_abcdefghijk was refused", "*** was refused"),
    ],
)
def test_what_looks_like_a_key_is_masked(text, kept):
    assert message_text(text, NOTHING) == kept


@cases(
    "text",
    [
        "Exceeded workspace input tokens per minute rate limit for databricks-meta-llama-3-3-70b-instruct.",
        "The Bearer token is missing",
        "basic authentication is not supported",
        "This model's maximum context length is 8192 tokens.",
        "invalid key 'temperature' for databricks-claude-sonnet-4-5",
        "a task-based limit",
    ],
)
def test_ordinary_words_are_not_masked(text):
    assert message_text(text, NOTHING) == text


@cases(
    "echo",
    [
        PROMPT,
        PROMPT.replace("\n", " "),
        PROMPT.replace("\n", "\\n").replace('"', '\\"'),
        PROMPT[:30],
        PROMPT + PROMPT,
    ],
    ids=["whole", "on one line", "as JSON", "cut short", "twice"],
)
@cases(
    "batch",
    [
        Batch((Request("r", text=PROMPT),)),
        Batch((Request("q", text="short"), Request("r", text=PROMPT))),
        Batch(
            (Request("r", messages=({"role": "system", "content": "Be brief."}, {"role": "user", "content": PROMPT})),)
        ),
        Batch((Request("r", messages=({"role": "user", "content": [{"type": "text", "text": PROMPT}]},)),)),
    ],
    ids=["text", "one of two", "message", "part"],
)
def test_the_prompt_is_not_echoed(batch, echo):
    message = message_text(f"cannot read >{echo}< here", batch)
    assert message.replace("<input><input>", "<input>") == "cannot read ><input>< here"


def test_a_long_prompt_leaves_what_is_said_behind_it():
    prompt = "word " * 2000
    assert message_text(f"{prompt}is too long", Batch((Request("r", text=prompt),))) == "<input> is too long"


def test_a_short_input_is_left_readable():
    assert message_text("bad value red", Batch((Request("r", text="red"),))) == "bad value red"


def test_an_image_is_not_echoed():
    url = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUg=="
    batch = Batch((Request("r", messages=({"content": [{"type": "image_url", "image_url": {"url": url}}]},)),))
    assert message_text(f"cannot load {url}", batch) == "cannot load <input>"


@cases(
    ("value", "expected"),
    [
        ("stop", "stop"),
        ("a\nb", "a b"),
        ("", None),
        ("\0", None),
        (None, None),
        (1, None),
        (["x"], None),
        ("x" * 300, "x" * 200),
    ],
)
def test_a_label_is_a_short_line_or_absent(value, expected):
    assert label(value) == expected


def test_marks_that_reorder_text_are_dropped():
    assert one_line("a\u202eb\u2028c\x1b[31m\td") == "a b c [31m d"
