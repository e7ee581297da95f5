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
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])

    assert told["slots"] == 2
    (warning,) = told["told"]
    assert "registers SQL functions with one type each" in warning
    paris, none, rome = told["columns"]
    assert paris == ["Paris is big.", ["Paris is big.", None], "Paris is big.", "city", 4, 1.0]
    assert none == [None, [None, None], None, None, None, None]
    assert rome[0] == "Rome is old."

    assert told["types"] == ["string"] * 4 + ["boolean", "string", "boolean", "boolean", "int", "float", "int"]
    paris, none, rome = told["names"]
    assert paris[:4] == ["Paris is big.", "Pari", "Say Paris is big.", "city"]
    assert paris[4:] == [True, paris[5], False, True, 4, 1.0, 3]
    assert none == [None, None, None, None, False, None, True, None, None, None, None]
    unknown, vectors = told["refused"]
    assert unknown.startswith(
        "[AI_FUNCTION_COMPILATION_ERROR] the endpoint 'nope' is unknown. Known in endpoints: chat"
    )
    assert vectors.startswith("[AI_FUNCTION_COMPILATION_ERROR] over Spark Connect `ai_query` in SQL is always STRING")
    assert told["column refused"].startswith("[AI_FUNCTION_COMPILATION_ERROR]")
    assert sorted(told["stream"], key=str) == sorted(
        [["Paris is big.", "Paris is big."], [None, None], ["Rome is old.", "Rome is old."]], key=str
    )
