"""The accessor `.ai` on pandas against the simulator: values, nulls, templates, errors, cache; and no Spark at all."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from pipeline import AiFunctionError
from pipeline.pandas_api import configure
from pipeline.pandas_calls import _configured
from pipeline.simulator import Simulator, SimulatorSettings, canned_vector
from pipeline.simulator.handle import Handle

ROOT = Path(__file__).parents[2]
TEXTS = pd.Series(["Paris is big.", None, "Rome is old.", "Paris is big."], index=[7, 8, 9, 9], name="text")
ANSWERS = ["Paris is big.", None, "Rome is old.", "Paris is big."]
FRAME = pd.DataFrame({"city": ["Oslo", None, "Rome"], "size": [1, 2, 3], "land": ["Norway", "Chad", "Italy"]})


@pytest.fixture(scope="module")
def simulator() -> Iterator[Handle]:
    with Simulator(SimulatorSettings(canned_vectors=4, canned_answer="positive")) as handle:
        yield handle


def endpoints(simulator: Handle) -> dict[str, Any]:
    chat = {"kind": "chat", "base_url": simulator.base_url, "retry": {"base_s": 0.01, "max_attempts": 2}}
    return {
        "default_endpoint": "chat",
        "default_embedding_endpoint": "embed",
        "endpoints": {
            "chat": {**chat, "model": "local-chat"},
            "fixed": {**chat, "model": "canned-chat"},
            "embed": {"kind": "embedding", "base_url": simulator.base_url, "model": "canned-embedding"},
        },
    }


@pytest.fixture(autouse=True)
def _place(simulator: Handle) -> Iterator[None]:
    configure(endpoints(simulator))
    simulator.reset_bill()
    yield
    _configured.place = None


def same(found: pd.Series, expected: list[Any], index: pd.Index = TEXTS.index, name: str | None = "text") -> None:
    assert list(found.index) == list(index)
    assert found.name == name
    assert [None if value is None or value is pd.NA or value != value else value for value in found] == expected


def test_query_asks_each_value_once_and_keeps_index_name_and_nulls(simulator: Handle) -> None:
    same(TEXTS.ai.query("chat"), ANSWERS)
    assert simulator.bill().requests == 2
    same(TEXTS[:0].ai.query("chat"), [], TEXTS.index[:0])
    same(TEXTS.ai.query("chat", prompt="{{ text | upper }}"), [None if t is None else t.upper() for t in ANSWERS])
    same(pd.Series(["a", float("nan"), pd.NA]).ai.query("chat", "{{ value }}!"), ["a!", None, None], range(3), None)


def test_structs_are_frames_and_failed_rows_are_messages() -> None:
    bad = pd.Series(["Fine.", "No [[fault:bad_request]]", None])
    found = bad.ai.query("chat", fail_on_error=False, details=True)
    assert list(found.columns[:2]) == ["result", "errorMessage"]
    assert found["result"].tolist() == ["Fine.", None, None]
    assert found["errorMessage"].tolist() == [
        None,
        "[AI_FUNCTION_HTTP_REQUEST_ERROR] bad_request, HTTP 400: the request is not acceptable. SQLSTATE: 08000",
        None,
    ]
    assert found["usage"][0]["output_tokens"] == 2
    assert found["attempts"].tolist() == [1, 1, pd.NA]
    with pytest.raises(AiFunctionError, match=r"^\[AI_FUNCTION_HTTP_REQUEST_ERROR\]"):
        bad.ai.query("chat")
    typed = TEXTS.ai.query("chat", return_type="STRUCT<answer: STRING>", response_format={"type": "json_object"})
    assert typed["answer"].tolist() == ANSWERS
    same(pd.Series(["42", None]).ai.query("chat", None, pa.int32()), [42, None], range(2), None)
    messages = pd.Series([[{"role": "user", "content": "Hi."}]])
    same(messages.ai.query("chat", files=pd.Series([b"\xff\xd8\xff."])), ["Hi."], range(1), None)


def test_every_sibling(simulator: Handle) -> None:
    same(TEXTS.ai.gen(), ANSWERS)
    same(TEXTS.ai.gen("{{ value }}"), ANSWERS)
    same(TEXTS.ai.classify(["city", "land"]), ["city", None, "city", "city"])
    extracted = TEXTS.ai.extract(["place", "size"])
    assert extracted["place"].isna().tolist() == [False, True, False, False]
    labelled = TEXTS.ai.classify({"city": "a town", "land": ""}, {"multilabel": "true"})
    assert list(labelled.columns) == ["response", "error_message"]
    assert [None if each is None else list(each) for each in labelled["response"]][1:3] == [None, ["city"]]
    typed = TEXTS.ai.extract('{"place": {"type": "string"}, "stars": {"type": "integer"}}')
    assert typed["response"].iloc[0]["stars"] == 1
    assert typed["response"].iloc[1] is None
    for found in (
        TEXTS.ai.summarize(5),
        TEXTS.ai.translate("de"),
        TEXTS.ai.mask(["city"]),
        TEXTS.ai.fix_grammar(),
        TEXTS.ai.analyze_sentiment(),
    ):
        assert list(found.index) == list(TEXTS.index)
        assert found.iloc[1] is None
    same(TEXTS.ai.filter(), [True, None, True, True])
    assert TEXTS[TEXTS.ai.filter()].tolist() == ["Paris is big.", "Rome is old.", "Paris is big."]
    simulator.reset_bill()
    same(TEXTS.ai.count_tokens(), [3, None, 3, 3])
    assert simulator.bill().requests == 0
    vectors = TEXTS.ai.embed()
    assert vectors.iloc[1] is None
    np.testing.assert_allclose(vectors.iloc[2], canned_vector("Rome is old.", dimensions=4), rtol=1e-6)
    assert vectors.iloc[2].dtype == np.float32
    assert TEXTS.ai.similarity("Paris is big.").iloc[0] == pytest.approx(1.0)
    assert TEXTS.ai.similarity(TEXTS).isna().tolist() == [False, True, False, False]


def test_frames_take_columns_and_templates(simulator: Handle) -> None:
    found = FRAME.ai.query("chat", "{{ city }} in {{ land }}, {{ size + 1 }}")
    same(found, ["Oslo in Norway, 2", None, "Rome in Italy, 4"], range(3), None)
    assert simulator.bill().requests == 2
    same(FRAME.ai.gen("land"), ["Norway", "Chad", "Italy"], range(3), "land")
    assert FRAME[FRAME.ai.filter("{{ city }} is in {{ land }}")]["city"].tolist() == ["Oslo", "Rome"]
    same(FRAME.ai.count_tokens("{{ land }}"), [2, 1, 1], range(3), None)
    assert FRAME.ai.similarity("city", "{{ city }}").round(3).tolist()[::2] == [1.0, 1.0]
    assert FRAME.ai.embed("land").map(len).tolist() == [4, 4, 4]
    assert FRAME.ai.classify("land", ["a", "b"]).tolist() == ["a", "a", "a"]
    assert list(FRAME.ai.extract("land", ["x"]).columns) == ["x"]
    for found in (
        FRAME.ai.summarize("land"),
        FRAME.ai.translate("land", "de"),
        FRAME.ai.mask("land", ["x"]),
        FRAME.ai.fix_grammar("land"),
        FRAME.ai.analyze_sentiment("land"),
    ):
        assert len(found) == 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TEXTS.ai.query("nope"), "the endpoint 'nope' is unknown. Known in endpoints: chat, embed, fixed"),
        (lambda: TEXTS.ai.query("chat", "{{ nowhere }}"), "the prompt: nowhere is no column. Known: value, text"),
        (lambda: TEXTS.ai.query("chat", "{{ text"), "the prompt: line 1 of the template"),
        (lambda: FRAME.ai.gen("town"), "'town' is neither a column nor a template. Columns: city, size, land"),
        (lambda: FRAME.ai.gen("{{ size / 0 }}"), "the prompt: row 0: the prompt cannot be rendered: ZeroDivisionError"),
        (lambda: TEXTS.ai.query("chat", return_type="WORDS"), "INVALID_SCHEMA.PARSE_ERROR"),
        (lambda: TEXTS.ai.query("chat", model_parameters={"top_p": 3}), "INVALID_NUMERIC_PARAMETER"),
        (lambda: TEXTS.ai.query("chat", files=TEXTS[:1]), "`files` has 1 rows, the Series 4"),
        (lambda: TEXTS.ai.similarity(TEXTS[:1]), "the other Series has 1 rows, this one 4"),
        (lambda: TEXTS.ai.classify(["one"]), "DATATYPE_MISMATCH"),
        (lambda: TEXTS.ai.summarize(-1), "AI_FUNCTION_INVALID_MAX_WORDS"),
        (lambda: pd.Series([1, 2]).ai.query("chat"), "`request` must be a STRING"),
        (lambda: pd.Series([1, "x"]).ai.query("chat"), "the values are of several types"),
    ],
)
def test_mistakes_are_the_errors_of_sql(simulator: Handle, call: Any, message: str) -> None:
    with pytest.raises(AiFunctionError) as caught:
        call()
    assert message in str(caught.value)
    assert " SQLSTATE: " in str(caught.value)
    assert simulator.bill().requests == 0


def test_a_cache_answers_the_next_call(simulator: Handle, tmp_path: Path) -> None:
    configure(endpoints(simulator), cache=str(tmp_path), default_endpoint="fixed")
    assert [TEXTS.ai.gen().iloc[0] for _ in range(2)] == ["positive", "positive"]
    assert simulator.bill().requests == 2


def test_it_runs_within_a_running_loop_and_without_spark(simulator: Handle, tmp_path: Path) -> None:
    async def notebook() -> pd.Series:
        return TEXTS.ai.query("chat")

    same(asyncio.run(notebook()), ANSWERS)
    script = (
        "import sys, pandas as pd\nimport pipeline.pandas_api\n"
        "print(pd.Series(['Hi.']).ai.gen().tolist(), [m for m in sys.modules if m.split('.')[0] in ('pyspark', 'py4j')])"
    )
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "endpoints.toml").write_text(
        f'default_endpoint = "c"\n[endpoints.c]\nkind = "chat"\nbase_url = "{simulator.base_url}"\nmodel = "local-chat"\n'
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("['Hi.'] []\n", "")
