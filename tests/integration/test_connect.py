"""The functions over a local Spark Connect server, in a process of its own so that classic sessions stay as they are."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.simulator import Simulator, SimulatorSettings

pytest.importorskip("grpc")


def test_columns_names_and_streams_over_spark_connect(tmp_path: Path) -> None:
    script = Path(__file__).with_name("connect_main.py")
    with Simulator(SimulatorSettings(canned_vectors=4)) as simulator:
        done = subprocess.run(
            [sys.executable, str(script), simulator.base_url, str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert done.returncode == 0, done.stderr[:200] + done.stderr[done.stderr.find("Traceback") :][:3000]
    told = json.loads(done.stdout.splitlines()[-1])

    assert told["slots"] == 2
    (warning,) = told["told"]
    assert "registers SQL functions with one type each" in warning
    assert told["columns"] == [
        [["Paris is big.", None], "Paris is big.", 1.0],
        [[None, None], None, None],
        [["Rome is old.", None], "Rome is old.", 1.0],
    ]
    assert told["label type"] == "string"

    strings, rest = ["string"] * 3, ["boolean", "array<float>", "float", "int"]
    assert told["types"] == [*strings, "map<string,string>", *strings, "string", "string", *rest]
    assert told["names"] == [["Pari", 4, True], [None, None, False], ["Rome", 4, True]]
    first_label = {"response": ["a"], "error_message": None}
    assert told["second"] == [first_label, None, first_label]
    assert "`ai_extract` in SQL is always MAP<STRING, STRING>: use the column function" in told["second refused"]
    assert told["second types"] == ["variant", "variant"]
    assert [labels for labels, _ in told["second columns"]] == [first_label, None, first_label]
    assert [fields and [*fields["response"]] for _, fields in told["second columns"]] == [["city"], None, ["city"]]
    unknown = told["refused"]
    assert unknown.startswith(
        "[AI_FUNCTION_COMPILATION_ERROR] the endpoint 'nope' is unknown. Known in endpoints: chat"
    )
    assert told["column refused"].startswith("[AI_FUNCTION_COMPILATION_ERROR]")
    assert sorted(told["stream"], key=str) == sorted(
        [["Paris is big.", "Paris is big."], [None, None], ["Rome is old.", "Rome is old."]], key=str
    )
