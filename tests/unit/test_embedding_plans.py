"""What a job says, what is known of its model, and which of the two counts."""

import pytest

from pipeline import embedding_plans, plans
from pipeline.batching import PackLimits
from pipeline.config import find_model, job_from_mapping
from pipeline.errors import ConfigError
from pipeline.report import NormStatistics, Report
from tests.cases import cases


def job_document(sections):
    document = {
        "job": {"name": "j"},
        "source": {"format": "parquet", "path": "in", "key": ["id"]},
        "request": {"task": "embedding", "text": "{{ doc }}"},
        "endpoint": {"name": "m", "api": "openai", "base_url": "https://host/v1"},
        "sink": {"format": "parquet", "path": "out"},
    }
    for section, values in sections.items():
        document[section] = values if section == "request" else {**document.get(section, {}), **values}
    return document


def job(name="text-embedding-3-small", **sections):
    endpoint = {"name": name, **sections.pop("endpoint", {})}
    return job_from_mapping(job_document({**sections, "endpoint": endpoint}), "job.toml")


@cases("name", ["nomic-embed-text", "library/Nomic-Embed-Text:v1.5", "nomic-embed-text:latest"])
def test_a_model_is_known_under_the_names_that_servers_give_it(name):
    known = find_model(name)
    assert known is not None
    assert (known.dimensions, known.document) == (768, "search_document: ")


def test_every_known_model_says_who_says_so_and_none_is_there_twice():
    names = ["text-embedding-3-large", "databricks-gte-large-en", "local-embedding", "multilingual-e5-large"]
    assert all(find_model(name).source for name in names)
    assert find_model("no-such-model") is None


def test_what_the_job_says_beats_what_is_known():
    assert embedding_plans.pack_limits(job()) == PackLimits(2048, 300_000, 4_000_000)
    limits = {"max_batch_rows": 7, "max_batch_tokens": 99, "max_batch_bytes": 1000}
    assert embedding_plans.pack_limits(job(limits=limits)) == PackLimits(7, 99, 1000)
    assert embedding_plans.pack_limits(job("unheard-of")) == PackLimits(128, None, 4_000_000)
    databricks = job("my-own", endpoint={"api": "databricks", "base_url": "https://host"})
    assert embedding_plans.pack_limits(databricks) == PackLimits(150, None, 4_000_000)


def test_instructions_come_from_the_model_unless_the_job_has_its_own():
    e5 = "multilingual-e5-large"
    assert embedding_plans.instruction(job(e5)) == "passage: "
    assert embedding_plans.instruction(job(e5, embedding={"role": "query"})) == "query: "
    assert embedding_plans.instruction(job(e5, embedding={"instruction": ""})) == ""
    assert embedding_plans.instruction(job(e5, embedding={"instruction": "x: "}), role="query") == "query: "
    assert embedding_plans.instruction(job("unheard-of")) == ""


@cases(
    ("name", "section", "documents", "queries"),
    [
        ("multilingual-e5-large", {}, "passage: ", "query: "),
        ("multilingual-e5-large", {"query_instruction": "find: "}, "passage: ", "find: "),
        ("multilingual-e5-large", {"query_instruction": ""}, "passage: ", ""),
        ("multilingual-e5-large", {"query_instruction": "find: ", "role": "query"}, "find: ", "find: "),
        ("multilingual-e5-large", {"query_instruction": "find: ", "role": "query", "instruction": "x"}, "x", "find: "),
        ("unheard-of", {"query_instruction": "find: "}, "", "find: "),
    ],
)
def test_queries_have_an_instruction_of_their_own(name, section, documents, queries):
    asked = job(name, embedding=section)
    assert (embedding_plans.instruction(asked), embedding_plans.instruction(asked, role="query")) == (
        documents,
        queries,
    )


def test_another_instruction_for_queries_buys_no_document_again():
    assert plans.fingerprint(job(embedding={"query_instruction": "find: "})) == plans.fingerprint(job())


@cases(
    ("section", "expected"),
    [
        ({}, 768),  # one and a half times 512: surely too long, however tokens are counted
        ({"long_text": "truncate"}, 384),
        ({"long_text": "chunk", "max_text_tokens": 100}, 100),
    ],
)
def test_the_limit_of_a_text_leaves_room_for_the_estimate(section, expected):
    assert embedding_plans.long_texts(job("bge-large-en-v1.5", embedding=section)).max_tokens == expected


@cases(
    ("name", "section", "note"),
    [
        ("unheard-of", {}, "is not in pipeline/models.toml"),
        ("text-embedding-ada-002", {"truncate_to": 256}, "nothing says that text-embedding-ada-002 was trained for it"),
        ("unheard-of", {"long_text": "chunk"}, "max_text_tokens is not known"),
        ("bge-large-en", {"chunk_overlap_tokens": 5}, 'has no effect without long_text = "chunk"'),
        ("bge-large-en", {"max_text_tokens": 5, "instruction": "a long instruction: "}, "more than half"),
    ],
)
def test_what_a_person_should_know_before_the_run(name, section, note):
    assert any(note in text for text in embedding_plans.notes(job(name, embedding=section)))


def test_a_known_model_has_nothing_to_tell():
    assert list(embedding_plans.notes(job())) == []


@cases(
    ("sections", "message"),
    [
        ({"embedding": {"type": "float64"}}, "[embedding] type"),
        ({"embedding": {"truncate_to": 512, "dimensions": 256}}, "must be at most dimensions = 256"),
        (
            {
                "embedding": {"truncate_to": 512},
                "request": {"task": "embedding", "text": "x", "parameters": {"dimensions": 256}},
            },
            "must be at most dimensions = 256 in [request] parameters",
        ),
        ({"embedding": {"max_text_tokens": 10, "chunk_overlap_tokens": 10}}, "must be less than max_text_tokens = 10"),
        (
            {"job": {"mode": "merge"}, "sink": {"format": "delta"}, "embedding": {"long_text": "chunk"}},
            'must be "pooled" with [job] mode = "merge"',
        ),
        ({"endpoint": {"base_url": "local", "api": "databricks"}}, 'must be "openai" with base_url = "local"'),
        (
            {"endpoint": {"base_url": "local"}, "request": {"task": "chat", "prompt": "x"}},
            '"local" is for task = "embedding"',
        ),
    ],
)
def test_contradictions_are_refused_with_their_place(sections, message):
    with pytest.raises(ConfigError) as refused:
        job_from_mapping(job_document(sections), "job.toml")
    assert message in str(refused.value)


def test_more_numbers_than_the_model_has_are_refused_before_the_run_unless_the_job_says_that_they_come():
    with pytest.raises(ConfigError) as refused:
        list(embedding_plans.notes(job(embedding={"truncate_to": 2_000})))
    assert str(refused.value).startswith(
        "[embedding] truncate_to = 2000: must be at most 1536, the dimensions of text-embedding-3-small (OpenAI"
    )
    assert list(embedding_plans.notes(job(embedding={"truncate_to": 1_536}))) == []
    assert list(embedding_plans.notes(job(embedding={"truncate_to": 2_000, "dimensions": 3_072}))) == []


def test_a_models_file_that_is_wrong_is_told_with_its_place(tmp_path):
    path = tmp_path / "models.toml"
    path.write_text('[[models]]\nnames = ["a"]\nsource = "me"\nmax_tokens = 0\n')
    with pytest.raises(ConfigError, match=r"models.toml: models.0.max_tokens"):
        find_model("a", str(path))
    path = tmp_path / "others.toml"
    path.write_text('[[models]]\nnames = ["a"]\nsource = "me"\nquery = "q: "\n')
    assert embedding_plans.instruction(job("x/a", embedding={"models": str(path), "role": "query"})) == "q: "


def report(broken):
    return Report("j", "r", status="landed", rows_landed=100, errors={"zero_vector": broken, "bad_request": 50})


def test_too_many_bad_vectors_make_the_run_partial_and_refused_rows_do_not():
    strict = job(embedding={"max_error_ratio": 0.02})
    within, beyond = report(2), report(3)
    embedding_plans.judge(strict, within)
    embedding_plans.judge(strict, beyond)
    assert (within.status, within.stopped) == ("landed", "")
    assert (beyond.status, beyond.stopped[:41]) == ("partial", "3.0% of 100 vectors break the contract; [")


def test_vectors_that_are_not_those_of_the_known_model_are_noted():
    landed = report(0)
    landed.norms = NormStatistics(50, 768, 0.9, 0.8, 1.0, 0.25)
    embedding_plans.judge(job(), landed)
    assert landed.notes[0].startswith("vectors have 768 dimensions; text-embedding-3-small has 1536 (OpenAI")
    assert landed.notes[1].startswith("75.0% of the vectors are not of length 1")


def test_unjudged_norms_are_no_surprise_and_their_dimensions_are():
    landed = report(0)
    landed.norms = NormStatistics(50, 768, 0.9, 0.8, 1.0, None)
    embedding_plans.judge(job(embedding={"normalization": "off"}), landed)
    (note,) = landed.notes
    assert note.startswith("vectors have 768 dimensions")
