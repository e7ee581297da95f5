"""What a job file says, and what is taken where it says nothing."""

from typing import Any

import pytest

from pipeline import plans
from pipeline.config import JobFile, job_from_mapping
from pipeline.estimates import Speed
from tests.cases import cases

REQUESTS = {
    "chat": {"task": "chat", "prompt": "{{ doc }}"},
    "completion": {"task": "completion", "prompt": "{{ doc }}"},
    "embedding": {"task": "embedding", "text": "{{ doc }}"},
}


def job(task: str, **limits: Any) -> JobFile:
    document = {
        "job": {"name": "j"},
        "source": {"format": "parquet", "path": "in", "key": ["id"]},
        "request": REQUESTS[task],
        "endpoint": {"name": "m", "api": "openai", "base_url": "https://host/v1"},
        "limits": limits,
        "sink": {"format": "parquet", "path": "out"},
    }
    return job_from_mapping(document, "job.toml")


@cases(
    ("task", "limits", "first", "most"),
    [
        pytest.param("chat", {}, 32, 1_024, id="chat looks far"),
        pytest.param("completion", {}, 32, 256, id="completion"),
        pytest.param("embedding", {}, 16, 256, id="embedding calls are large"),
        pytest.param("chat", {"in_flight": 256}, None, 256, id="as configured"),
        pytest.param("embedding", {"in_flight": 8}, None, 8, id="as configured, embedding"),
    ],
)
def test_how_many_calls_at_once_a_job_begins_with_and_tries(
    task: str, limits: dict[str, int], first: int | None, most: int
) -> None:
    assert plans.first_in_flight(job(task, **limits)) == first
    assert plans.most_in_flight(job(task, **limits)) == most


@cases(
    ("task", "limits", "expected"),
    [
        ("chat", {}, Speed((), 32, 2, 1_024)),
        ("embedding", {}, Speed((), 16, 2, 256)),
        ("embedding", {"in_flight": 5}, Speed((), 5, 2)),
    ],
)
def test_a_preview_reckons_with_what_the_run_begins_with(task: str, limits: dict[str, int], expected: Speed) -> None:
    assert plans.speed(job(task, **limits), 2) == expected


@cases(
    ("task", "limits", "workers", "first"),
    [
        pytest.param("embedding", {}, 1, 16, id="one worker"),
        pytest.param("embedding", {}, 2, 8, id="in equal parts"),
        pytest.param("embedding", {}, 64, 4, id="enough to learn from"),
        pytest.param("chat", {}, 2, 16, id="chat"),
        pytest.param("embedding", {"in_flight": 256}, 2, None, id="a configured number is where it begins"),
    ],
)
def test_each_worker_begins_with_its_part(task: str, limits: dict[str, int], workers: int, first: int | None) -> None:
    one = job(task, **limits)
    plan = plans.worker_plan(one, "http://127.0.0.1:1", "run", plans.quota_spec(one, workers, None))
    assert plan.window.first_guess == first
