"""What a search sends to a server, and what it reads of the job that made the table; without Spark."""

from pathlib import Path

import pytest

from pipeline.search import embed_query, job_of_results, note_job
from pipeline.simulator import Simulator, SimulatorSettings, canned_vector
from pipeline.storage import open_store
from tests.jobs import embedding_sections, make_job

DIMENSIONS = 8


@pytest.mark.parametrize(
    ("section", "instruction", "sent"),
    [
        ({"instruction": "passage: "}, None, "copy a file"),
        ({"query_instruction": "find: "}, None, "find: copy a file"),
        ({"query_instruction": "find: "}, "see: ", "see: copy a file"),
        ({"query_instruction": "find: "}, "", "copy a file"),
    ],
)
def test_the_text_is_embedded_behind_the_instruction_for_queries_that_the_run_left(
    tmp_path: Path, section: dict[str, str], instruction: str | None, sent: str
) -> None:
    with Simulator(SimulatorSettings(canned_vectors=DIMENSIONS)) as simulator:
        job = make_job(tmp_path, simulator.base_url, **embedding_sections(), embedding=section)
        note_job(open_store(job.state_path), job)
        found = embed_query(job_of_results(str(tmp_path / "results")), "copy a file", instruction)
    assert found.tobytes() == canned_vector(sent, DIMENSIONS).tobytes()
