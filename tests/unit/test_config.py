"""The job file: every mistake is told once, with its place and what is allowed; nothing else is refused."""

import pickle
import subprocess
import sys
import tomllib
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.config import JobFile, job_from_mapping, load_job, parse_reference
from pipeline.config.job_file import RULES
from pipeline.errors import ConfigError
from pipeline.records import Task
from tests.cases import cases

CONF = Path(__file__).parents[2] / "conf"
SECRET = "sk-Xq7vTtKp2mZr9"

# The contract, word for word.
SAMPLE = """
[job]
name = "docstring_summaries"
mode = "append"                     # append | overwrite | merge
on_error = "keep"                   # keep | fail

[source]
format = "parquet"                  # delta | parquet | csv | json | table | query
path = "out/docstrings"             # or table = "catalog.schema.name", query = "SELECT ..."
key = ["name"]
where = "length(doc) > 40"
limit = 2000

[request]
task = "chat"                       # chat | embedding
system = "You are terse."
prompt = "Summarise in one sentence: {{ doc }}"     # for an embedding: text = "{{ name }}: {{ doc }}"
parameters = { max_tokens = 60 }

[endpoint]
name = "local-chat"                 # model, or serving endpoint
api = "openai"                      # openai | databricks
base_url = "http://127.0.0.1:8200/v1"   # databricks: the workspace host; "embedded" starts the simulator with the job
auth = { scheme = "bearer", secret = "env:PIPELINE_TOKEN" }    # bearer | basic | api-key; absent: none
transport = "reqwest"               # httptools | reqwest | httpx
timeout_s = 120

[limits]
in_flight = 256                     # of the whole job

[retry]
max_attempts = 5

[embedding]
normalization = "check"             # check | require | normalize | off
dimensions = 256                    # optional: what must come back

[sink]
format = "delta"                    # delta | parquet
path = "out/docstring_summaries"    # or table = "..."

[state]
path = "out/state"                  # default: beside the sink
"""

SMALL = """
[job]
name = "small"
[source]
format = "parquet"
path = "in"
[request]
task = "chat"
prompt = "{{ a }}"
[endpoint]
name = "m"
api = "openai"
base_url = "embedded"
[sink]
format = "delta"
path = "out"
"""

# What is laid over SMALL, and what the one message must contain.
MISTAKES = {
    # single values
    "unknown key": (
        ["limits.in_fligth=256"],
        ["[limits] in_fligth = 256", "unknown key; did you mean in_flight? Known: in"],
    ),
    "unknown key with hyphens": (["limits.in-flight=256"], ["[limits] in-flight", "did you mean in_flight?"]),
    "unknown key of another section": (["limits.timeout_s=3"], ["timeout_s belongs to [endpoint]. Known: in_flight"]),
    "unknown key of no section": (["limits.xyzzy=3"], ["[limits] xyzzy = 3: unknown key. Known: in_flight, "]),
    "unknown section": (
        ["limit.in_flight=3"],
        ["[limit] = {...}: unknown section; did you mean [limits]? Known: job, "],
    ),
    "name with a blank": (["job.name=my job"], ['[job] name = "my job"', "1 to 128 of A-Z"]),
    "name too long": ([f"job.name={'x' * 129}"], ["[job] name = ", "xxx...", "1 to 128"]),
    "name with a line break": (['job.name="a\\n"'], ['[job] name = "a\\n"']),
    "name a number": (["job.name=7"], ["[job] name = 7: must be a string in quotes"]),
    "mode": (["job.mode=upsert"], ["[job] mode = \"upsert\": must be 'append', 'overwrite' or 'merge'"]),
    "on_error": (["job.on_error=false"], ["[job] on_error = false: must be 'keep' or 'fail'"]),
    "no buckets": (["job.buckets=0"], ["[job] buckets = 0", "1 to 100000"]),
    "source format": (
        ["source.format=orc"],
        ['[source] format = "orc"', "'delta', 'parquet', 'csv', 'json', 'table' or 'query'"],
    ),
    "blank path": (['source.path=" "'], ['[source] path = " ": must not be blank']),
    "key no list": (["source.key=name"], ['[source] key = "name": must be a list', 'like ["name"]']),
    "key with a number": (["source.key=[1]"], ["[source] key[0] = 1: must be a string"]),
    "key twice": (['source.key=["a","A"]'], ['[source] key = ["a", "A"]: must name each column once']),
    "nothing selected": (["source.select=[]"], ["[source] select = []: must not be empty"]),
    "limit 0": (["source.limit=0"], ["[source] limit = 0", "1 or more"]),
    "limit true": (["source.limit=true"], ["[source] limit = true: must be a whole number"]),
    "reader option no string": (
        ["source.options.header=true"],
        ["[source] options.header = true: must be a string in quotes"],
    ),
    "task": (["request.task=complete"], ["[request] task = \"complete\": must be 'chat', 'embedding' or 'completion'"]),
    "parameters no table": (["request.parameters=5"], ["[request] parameters = 5: must be a table"]),
    "parameter that is filled in": (
        ["request.parameters.model=x"],
        ['[request] parameters.model = "x": is filled in by the job, from [endpoint] name'],
    ),
    "parameter stream": (["request.parameters.stream=true"], ["[request] parameters.stream = true", "read whole"]),
    "parameter messages": (
        ["request.parameters.messages=[]"],
        ["[request] parameters.messages = []", "prompt or messages"],
    ),
    "parameter input": (["request.parameters.input=x"], ['parameters.input = "x"', "[request] text"]),
    "parameter prompt": (["request.parameters.prompt=x"], ['parameters.prompt = "x"', "[request] prompt"]),
    "parameter with a date": (
        ["request.parameters.day=2026-01-01"],
        ["parameters.day = 2026-01-01: must be what JSON can say"],
    ),
    "parameter with nan inside": (
        ["request.parameters.a=[{b=nan}]"],
        ["[request] parameters.a = [{...}]: must be what JSON"],
    ),
    "api": (["endpoint.api=anthropic"], ["[endpoint] api = \"anthropic\": must be 'openai' or 'databricks'"]),
    "URL without scheme": (
        ["endpoint.base_url=host/v1"],
        ['[endpoint] base_url = "host/v1": must start with http:// or'],
    ),
    "URL of a file": (["endpoint.base_url=file:///etc"], ["must start with http:// or https://"]),
    "URL without host": (["endpoint.base_url=http:///v1"], ["name a host"]),
    "URL with a port too high": (["endpoint.base_url=http://h:99999"], ["host or port cannot be read"]),
    "URL with broken IPv6": (["endpoint.base_url=http://[::1"], ["host or port cannot be read"]),
    "URL with a blank": (["endpoint.base_url=http://h/a b"], ["must not contain blanks"]),
    "URL with a fragment": (["endpoint.base_url=http://h/v1#a"], ["must not carry a query or fragment"]),
    "URL of the whole route": (
        ["endpoint.base_url=https://h/v1/chat/completions"],
        ['base_url = "https://h/v1/chat/completions": must end before /chat/completions'],
    ),
    "URL of the whole Databricks route": (
        ["endpoint.base_url=https://h/serving-endpoints/", "endpoint.api=databricks"],
        ["[endpoint] base_url = ", "must be the workspace host alone"],
    ),
    "auth no table": (["endpoint.auth=env:TOKEN"], ["[endpoint] auth = (not shown): must be a table", "secret = "]),
    "auth without secret": (['endpoint.auth={scheme="bearer"}'], ["[endpoint] auth.secret: is missing"]),
    "auth scheme": (
        ['endpoint.auth={scheme="digest", secret="env:T"}'],
        ["[endpoint] auth.scheme = \"digest\": must be 'bearer', 'basic' or 'api-key'"],
    ),
    "transport": (["endpoint.transport=aiohttp"], ["must be 'httptools', 'reqwest' or 'httpx'"]),
    "timeout 0": (["endpoint.timeout_s=0"], ["[endpoint] timeout_s = 0: must be greater than 0"]),
    "timeout inf": (["endpoint.timeout_s=inf"], ["[endpoint] timeout_s = inf: must be a finite number"]),
    "timeout true": (["endpoint.timeout_s=true"], ["[endpoint] timeout_s = true: must be a number"]),
    "timeout with a unit": (["endpoint.timeout_s=2m"], ['[endpoint] timeout_s = "2m": must be a number']),
    "connect timeout": (["endpoint.connect_timeout_s=-1"], ["[endpoint] connect_timeout_s = -1", "more than 0"]),
    "read timeout": (["endpoint.read_timeout_s=0"], ["[endpoint] read_timeout_s = 0", "more than 0"]),
    "answers too small": (["endpoint.max_response_bytes=1"], ["max_response_bytes = 1", "1024 or more"]),
    "in_flight a string": (
        ['limits.in_flight="256"'],
        ['[limits] in_flight = "256": must be a whole number', "1 to 100000"],
    ),
    "in_flight a fraction": (["limits.in_flight=2.0"], ["[limits] in_flight = 2.0: must be a whole number"]),
    "in_flight 0": (["limits.in_flight=0"], ["[limits] in_flight = 0", "1 to 100000"]),
    "in_flight too many": (["limits.in_flight=100001"], ["[limits] in_flight = 100001", "1 to 100000"]),
    "attempts": (["retry.max_attempts=0"], ["[retry] max_attempts = 0", "1 to 100"]),
    "wait nan": (["retry.base_s=nan"], ["[retry] base_s = nan: must be a finite number"]),
    "wait negative": (["retry.max_wait_s=-1"], ["[retry] max_wait_s = -1", "0 or more"]),
    "retry_failed": (["retry.retry_failed=some"], ["must be 'transient', 'all' or 'none'"]),
    "normalization": (["embedding.normalization=yes"], ["must be 'check', 'require', 'normalize' or 'off'"]),
    "tolerance": (["embedding.tolerance=1"], ["[embedding] tolerance = 1", "between 0 and 1"]),
    "finite a number": (["embedding.finite=1"], ["[embedding] finite = 1: must be true or false"]),
    "sink format": (["sink.format=csv"], ["[sink] format = \"csv\": must be 'delta' or 'parquet'"]),
    "prefix": (["sink.prefix=a b"], ['[sink] prefix = "a b"', "letters, digits and _"]),
    "fsync": (["state.fsync=true"], ["[state] fsync = true: must be 'never', 'interval' or 'always'"]),
    # contradictions
    "table beside path": (
        ["source.table=t"],
        ['[source] table = "t": does not go with format = "parquet", which needs path'],
    ),
    "merge without key": (["job.mode=merge"], ['[job] mode = "merge": needs [source] key']),
    "merge into Parquet": (
        ["job.mode=merge", "sink.format=parquet", 'source.key=["a"]'],
        ['[job] mode = "merge": needs [sink] format = "delta"'],
    ),
    "key not selected": (['source.key=["a","b"]', 'source.select=["A","c"]'], ["[source] select", "it lacks b"]),
    "prompt and messages": (["request.messages=m"], ['[request] messages = "m": does not go with prompt']),
    "text for chat": (["request.text=t"], ['[request] text = "t": does not go with task = "chat"']),
    "dimensions differ": (
        ["embedding.dimensions=3", "request.parameters.dimensions=4"],
        ["[embedding] dimensions = 3: must equal dimensions in [request] parameters"],
    ),
    "normalize zeros": (
        ["embedding.normalization=normalize", "embedding.non_zero=false"],
        ["[embedding] non_zero = false: must be true"],
    ),
    "batch larger than request": (["limits.max_batch_bytes=5000000"], ["max_batch_bytes = 5000000: must be at most"]),
    "Parquet with table": (["sink.table=t", "sink.format=parquet"], ['[sink] table = "t"', "which needs path"]),
    "sink path and table": (["sink.table=t"], ['[sink] table = "t": does not go with path']),
    "sink in the source": (["sink.path=./in/results"], ['[sink] path = "./in/results": must not lie within']),
    "state in the sink": (["state.path=out/state"], ['[state] path = "out/state": must not lie within']),
    # the command line itself
    "override without section": (["in_flight=3"], ["--set in_flight: must be section.key=value"]),
    "override without value": (["limits.in_flight"], ["must be section.key=value, like limits.in_flight=64"]),
    "override with nothing": ([""], ["must be section.key=value"]),
    "override beneath a value": (["job.name.x=1"], ["[job] name = {...}: must be a string"]),
}

# Whole files that cannot be written as overrides.
FILES = {
    "empty": (
        "",
        ["[job]: is missing", "[source]: is missing", "[request]: is missing", "[endpoint]: is", "[sink]: is missing"],
    ),
    "section no table": (f"retry = 3\n{SMALL}", ["[retry] = 3: must be a table"]),
    "key outside a section": (
        f"mode = 'append'\n{SMALL}",
        ['[mode] = "append": unknown section', "mode belongs to [job]"],
    ),
    "no source path": (SMALL.replace('path = "in"', ""), ['[source] path: is missing; format = "parquet" needs path']),
    "no source table": (
        SMALL.replace('"parquet"\npath = "in"', '"table"'),
        ['[source] table: is missing; format = "table" needs table'],
    ),
    "options of a query": (
        SMALL.replace('"parquet"\npath = "in"', '"query"\nquery = "SELECT 1 a"\noptions = { header = "true" }'),
        ['[source] options = {...}: does not go with format = "query"'],
    ),
    "no prompt": (SMALL.replace('prompt = "{{ a }}"', ""), ['[request] prompt: is missing; task = "chat" needs']),
    "system for completion": (
        SMALL.replace('chat"\nprompt', 'completion"\nsystem = "s"\nprompt'),
        ['[request] system = "s": does not go with task = "completion", which needs prompt'],
    ),
    "no prompt for completion": (
        SMALL.replace('chat"\nprompt = "{{ a }}"', 'completion"'),
        ['[request] prompt: is missing; task = "completion" needs prompt'],
    ),
    "no text": (SMALL.replace('chat"\nprompt = "{{ a }}"', 'embedding"'), ["[request] text: is missing"]),
    "prompt for embedding": (
        SMALL.replace('"chat"', '"embedding"'),
        ['[request] prompt = "{{ a }}": does not go with task = "embedding", which needs text'],
    ),
    "system for embedding": (
        SMALL.replace('chat"\nprompt', 'embedding"\nsystem = "s"\ntext'),
        ['[request] system = "s": does not go with task = "embedding"'],
    ),
    "no sink path": (SMALL.replace('path = "out"', ""), ["[sink] path: is missing", "path or table"]),
    "table without state": (SMALL.replace('path = "out"', 'table = "t"'), ["[state] path: is missing"]),
    "sink is source": (
        SMALL.replace('"parquet"\npath = "in"', '"table"\ntable = "a.B"').replace('path = "out"', 'table = "A.b"')
        + '[state]\npath = "s"',
        ['[sink] table = "A.b": must not be [source] table'],
    ),
    "misspelled and thus missing": (
        SMALL.replace("path =", "pth =", 1),
        ['[source] pth = "in": unknown key; did you mean path?'],
    ),
}

SYNTAX = {
    "value": ("[job]\nname = docs\n", "line 2: not TOML: Invalid value"),
    "unclosed": ('[job]\nname = "docs', "not TOML: "),
    "twice": ("[job]\nname = 'a'\nname = 'b'\n", "line 3: not TOML: Cannot overwrite a value"),
    "not UTF-8": (b"[job]\nname = '\xff'\n", "line 2: not UTF-8 text"),
    "nested too deeply": ("a = " + "[" * 20_000, "nested too deeply"),
}

# Every place in which a person may write a secret by mistake.
LEAKS = {
    "literal secret": [f'endpoint.auth={{scheme="bearer", secret="{SECRET}"}}'],
    "literal secret by its own": [f"endpoint.auth.secret={SECRET}", "endpoint.auth.scheme=bearer"],
    "auth is the secret": [f"endpoint.auth={SECRET}"],
    "secret in a list": [f'endpoint.auth=["{SECRET}"]'],
    "secret as scheme": [f'endpoint.auth={{scheme="{SECRET}", secret="env:A"}}'],
    "unknown key of auth": [f'endpoint.auth={{scheme="bearer", value="{SECRET}"}}'],
    "unknown key api_key": ["endpoint.api_key=Xq7vTtKp2mZr9"],
    "unknown key token": ["endpoint.token=Xq7vTtKp2mZr9"],
    "unknown section": [f"auth.secret={SECRET}"],
    "name is a list with it": [f'endpoint.name=["{SECRET}"]'],
    "user and password in the URL": ["endpoint.base_url=https://me:Xq7vTtKp2mZr9@host/v1"],
    "URLs in a list": ['endpoint.base_url=["https://me:Xq7vTtKp2mZr9@host/v1"]'],
    "key in the URL": ["endpoint.base_url=https://host/v1?key=Xq7vTtKp2mZr9"],
    "bearer in a parameter": ['request.parameters="Bearer Xq7vTtKp2mZr9"'],
    "reader option": ['source.options={password=["Xq7vTtKp2mZr9"]}'],
    "override without section": ["secret=Xq7vTtKp2mZr9"],
    "override of a longer reference": [f"endpoint.auth.secret=env:{SECRET}", "endpoint.auth.scheme=bearer"],
}


def small(*overrides: str) -> JobFile:
    return job_from_mapping(tomllib.loads(SMALL), "conf/x.toml", overrides)


def refusal(text: str, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        job_from_mapping(tomllib.loads(text), "conf/x.toml", overrides)
    return str(caught.value).splitlines()


def test_the_sample_of_the_contract_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text(SAMPLE)
    job = load_job(path)
    written = tomllib.loads(SAMPLE)
    assert {name: getattr(job, name).model_fields_set for name in written} == {
        name: set(written[name]) for name in written
    }
    assert job.source.key == ("name",)
    assert job.request.task is Task.CHAT
    assert job.request.parameters == {"max_tokens": 60}
    assert job.endpoint.auth is not None
    assert job.endpoint.auth.secret == "env:PIPELINE_TOKEN"
    assert job.endpoint.timeout_s == 120.0
    assert job.state_path == "out/state"


@cases(("overrides", "fragments"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_that_names_place_value_and_what_is_allowed(
    overrides: list[str], fragments: list[str]
) -> None:
    [line] = refusal(SMALL, *overrides)
    assert [fragment for fragment in fragments if fragment not in line] == [], line
    assert line.startswith(("--set ", "conf/x.toml: "))


@cases(("text", "fragments"), FILES.values(), ids=FILES)
def test_a_file_with_a_mistake_is_refused(text: str, fragments: list[str]) -> None:
    lines = refusal(text)
    assert all(line.startswith("conf/x.toml: ") for line in lines)
    assert len(lines) == (5 if not text else 1), lines
    assert [fragment for fragment in fragments if not any(fragment in line for line in lines)] == [], lines


def test_all_mistakes_are_told_at_once_contradictions_included() -> None:
    lines = refusal(SMALL.replace("prompt", "promt"), "job.mode=merge", "limits.in_flight=0", "sink.table=t", "x")
    assert [line.partition(": ")[0] for line in lines] == [
        "--set ...",
        "conf/x.toml",
        "--set limits.in_flight=...",
        "--set sink.table=...",
        "--set job.mode=...",
    ]
    assert "did you mean prompt?" in lines[1]


def test_what_follows_from_another_mistake_is_not_told() -> None:
    [line] = refusal(SMALL, "source.key=name", "job.mode=merge")
    assert "[source] key" in line
    [line] = refusal(SMALL, "source.path=3")
    assert "[source] path = 3" in line


@pytest.mark.parametrize(("content", "fragment"), SYNTAX.values(), ids=SYNTAX)
def test_what_is_no_toml_is_refused_with_its_line(tmp_path: Path, content: str | bytes, fragment: str) -> None:
    path = tmp_path / "job.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as caught:
        load_job(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert fragment in str(caught.value)


def test_a_file_that_is_not_there_or_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: there is no such file"):
        load_job(tmp_path / "nowhere.toml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_job(tmp_path)


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_bytes(b"\xef\xbb\xbf" + SAMPLE.replace("\n", "\r\n").encode())
    assert load_job(str(path)).job.name == "docstring_summaries"


@cases("overrides", LEAKS.values(), ids=LEAKS)
def test_a_secret_written_by_mistake_is_refused_and_never_shown(overrides: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        small(*overrides)
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert "Xq7v" not in told
    assert caught.value.__context__ is None


def test_a_literal_secret_is_told_how_to_be_referenced() -> None:
    [line] = refusal(SMALL, *LEAKS["literal secret"])
    assert "[endpoint] auth.secret = (not shown)" in line
    assert '"env:NAME" (an environment variable) or "file:PATH"' in line


def test_broken_toml_does_not_show_the_line_that_may_hold_a_secret(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text(f'[endpoint]\nauth = {{ secret = "{SECRET}" \n')
    with pytest.raises(ConfigError) as caught:
        load_job(path)
    assert "Xq7v" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None


@cases(
    ("override", "section", "key", "value"),
    [
        ("limits.in_flight=64", "limits", "in_flight", 64),
        ("limits.in_flight = 64 ", "limits", "in_flight", 64),
        ("limits.in_flight=1_000 # a thousand", "limits", "in_flight", 1000),
        ("source.where=a = 'b'", "source", "where", "a = 'b'"),
        ('source.where="a = 1"', "source", "where", "a = 1"),
        ("source.path=data/x=1", "source", "path", "data/x=1"),
        ('source.key=["a", "b"]', "source", "key", ("a", "b")),
        ("embedding.finite=false", "embedding", "finite", False),
        ("endpoint.timeout_s=30", "endpoint", "timeout_s", 30.0),
        ("request.parameters.max_tokens=7", "request", "parameters", {"max_tokens": 7}),
        ('request.parameters={stop=["a"]}', "request", "parameters", {"stop": ["a"]}),
        ('source.options={header="true"}', "source", "options", {"header": "true"}),
        ("request.system=1\njob.name='x'", "request", "system", None),
        ("endpoint.base_url=https://host/v1//", "endpoint", "base_url", "https://host/v1"),
    ],
)
def test_an_override_is_toml_or_else_a_plain_string(override: str, section: str, key: str, value: object) -> None:
    if value is None:  # a line break is no way to set a second key
        [line] = refusal(SMALL.replace('prompt = "{{ a }}"', 'messages = "m"'), override, "job.on_error=x")
        assert "on_error" in line
    else:
        assert getattr(getattr(small(override), section), key) == value


def test_the_last_override_is_the_one_that_is_named() -> None:
    [line] = refusal(SMALL, 'endpoint.auth={scheme="bearer", secret="env:A"}', "endpoint.auth.secret=x")
    assert line.startswith("--set endpoint.auth.secret=...: [endpoint] auth.secret = (not shown)")


def test_the_last_override_wins_and_the_mapping_stays_as_it_was() -> None:
    mapping = tomllib.loads(SMALL)
    before = pickle.dumps(mapping)
    job = job_from_mapping(mapping, "x", ["limits.in_flight=1", "limits.in_flight=2", "request.parameters.a=1"])
    assert job.limits.in_flight == 2
    assert pickle.dumps(mapping) == before


def ending(read: Callable[[], JobFile]) -> bytes:
    """`a job`, or the sentence of the refusal."""
    try:
        return f"a job: {read().job.name}".encode()
    except ConfigError as exc:
        return str(exc).encode()


@given(st.text(max_size=40))
def test_no_override_ends_in_anything_but_a_job_or_a_refusal(text: str) -> None:
    for override in (text, f"source.where={text}", f"limits.in_flight={text}", f"endpoint.auth={text}"):
        assert ending(lambda override=override: small(override)).startswith((b"a job", b"--set "))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(list(JobFile.model_fields)), inner),
        max_leaves=8,
    ),
    st.sampled_from([*JobFile.model_fields, "other"]),
)
def test_no_table_ends_in_anything_but_a_job_or_a_refusal(value: object, section: str) -> None:
    table = {**tomllib.loads(SMALL), section: value}
    assert ending(lambda: job_from_mapping(table, "x")).startswith((b"a job", b"x: "))


def test_defaults_follow_task_api_and_sink() -> None:
    chat = small("sink.path=out/t/")
    assert (chat.state_path, chat.response_bytes, chat.embedding.normalization) == (
        "out/t.state",
        16 * 1024**2,
        "check",
    )
    embedding = job_from_mapping(tomllib.loads(SMALL.replace('chat"\nprompt', 'embedding"\ntext')), "x")
    assert (embedding.response_bytes, embedding.batch_rows, embedding.batch_bytes) == (64 * 1024**2, 128, 4_000_000)
    assert small("endpoint.api=databricks").batch_rows == 150
    assert small("endpoint.api=databricks", "limits.max_batch_rows=20").batch_rows == 20
    assert small("limits.max_request_bytes=1000").batch_bytes == 1000
    assert small("endpoint.max_response_bytes=2048").response_bytes == 2048


@cases(
    ("overrides", "fragments"),
    [
        ([], []),
        (["endpoint.base_url=https://host/v1"], []),
        (["endpoint.base_url=http://127.8.0.1:8200/v1"], []),
        (["endpoint.base_url=http://localhost:1"], []),
        (["endpoint.base_url=http://sim.localhost"], []),
        (["endpoint.base_url=http://[::1]:1/v1"], []),
        (["endpoint.base_url=http://10.0.0.7/v1"], ["base_url = http://10.0.0.7/v1: rows travel unencrypted"]),
        (["endpoint.base_url=HTTP://localhost.example.com"], ["rows travel unencrypted"]),
        (
            ["endpoint.base_url=http://host", 'endpoint.auth={scheme="basic", secret="env:A"}'],
            ["rows and the credential travel unencrypted; use https"],
        ),
        (["limits.max_batch_rows=3"], ['[limits] max_batch_rows has no effect with task = "chat"']),
        (["embedding.dimensions=3"], ["[embedding] has no effect"]),
        (["request.parameters.n=3"], ["parameters.n = 3: every choice is billed"]),
    ],
)
def test_what_works_and_may_surprise_is_a_warning(overrides: list[str], fragments: list[str]) -> None:
    warnings = small('source.key=["id"]', *overrides).warnings
    assert len(warnings) == len(fragments)
    assert all(fragment in warning for fragment, warning in zip(fragments, warnings, strict=True)), warnings


def test_appending_without_a_key_is_a_warning() -> None:
    assert [w for w in small().warnings if "a rerun asks for all rows" in w]
    assert not small("job.mode=overwrite").warnings


@cases(
    "overrides",
    [
        ["source.format=csv", 'source.options={header="true"}'],
        ["job.mode=merge", 'source.key=["a"]', 'source.select=["A", "b"]'],
        ["job.name=a-b_c.9", "job.mode=overwrite", "job.on_error=fail", "job.buckets=8"],
        ["source.path=C:\\data\\x", "sink.path=../o", "sink.prefix=ai_"],
        ["sink.path=inside"],
        ["state.path=output"],
        ["endpoint.api=databricks", "endpoint.base_url=https://host/1234"],
        ["endpoint.base_url=https://host/serving-endpoints"],
        ['endpoint.auth={scheme="api-key", secret="file:/run/secrets/a b"}'],
        ["embedding.normalization=off", "embedding.finite=false", "embedding.non_zero=false"],
        ["retry.base_s=0", "retry.max_wait_s=0", "retry.deadline_s=0", "retry.max_unknown_resends=0"],
        ["embedding.dimensions=4", "request.parameters.dimensions=4"],
    ],
)
def test_what_is_no_mistake_is_accepted(overrides: list[str]) -> None:
    assert small(*overrides).job.name


def test_a_job_is_frozen_and_travels() -> None:
    job = small('endpoint.auth={scheme="bearer", secret="env:A"}')
    assert pickle.loads(pickle.dumps(job)) == job
    with pytest.raises(ValidationError):
        job.limits.in_flight = 3


def test_a_job_made_in_python_meets_the_same_rules() -> None:
    job = small()
    sections = {name: getattr(job, name) for name in JobFile.model_fields}
    with pytest.raises(ValidationError, match=r"\[job\] mode: needs \[source\] key"):
        JobFile(**{**sections, "job": job.job.model_copy(update={"mode": "merge"})})


def test_a_rule_reads_no_section_that_it_does_not_name() -> None:
    job = job_from_mapping(tomllib.loads(SAMPLE), "x")
    for reads, rule in RULES:
        named = {section: getattr(job, section) for section, _ in reads}
        partial = JobFile.model_construct(**named)
        for section in JobFile.model_fields.keys() - named.keys():
            partial.__dict__.pop(section, None)
        assert list(rule(partial)) == []


def test_every_key_has_a_description() -> None:
    for name, section in JobFile.model_fields.items():
        fields = section.rebuild_annotation().model_fields
        assert [f"{name}.{key}" for key, field in fields.items() if not field.description] == []


def test_a_reference_is_a_variable_or_a_file() -> None:
    assert parse_reference("env:PIPELINE_TOKEN") == ("env", "PIPELINE_TOKEN")
    assert parse_reference("file:C:\\t o.txt") == ("file", "C:\\t o.txt")
    for text in (
        "",
        "env:",
        "file:",
        "env:A-B",
        "env:1A",
        "ENV:A",
        " env:A",
        "env:A\n",
        "file:a\n",
        "file:a\0b",
        SECRET,
    ):
        with pytest.raises(ValueError, match="must be a reference"):
            parse_reference(text)


@cases("name", ["docstring_summaries", "docstring_embeddings"])
def test_the_jobs_of_the_quick_start_are_accepted_without_a_warning(name: str) -> None:
    job = load_job(CONF / f"{name}.toml")
    assert job.warnings == ()
    assert (job.job.name, job.source.key, job.endpoint.base_url) == (name, ("name",), "embedded")
    assert job.sink.path == f"out/{name}"


def test_the_jobs_of_the_quick_start_explain_every_option() -> None:
    lines = [line for path in CONF.glob("docstring_*.toml") for line in path.read_text().splitlines()]
    for section in JobFile.model_fields.values():
        for key in section.rebuild_annotation().model_fields:
            assert any(line.removeprefix("# ").startswith(f"{key} = ") for line in lines), key
    options = [line for line in lines if " = " in line and not line.startswith("# ")]
    assert [line for line in options if "  # " not in line and '"""' not in line] == []


def test_the_values_of_the_summaries_job_that_it_could_leave_out_are_the_defaults() -> None:
    job = load_job(CONF / "docstring_summaries.toml")
    for name in ("limits", "retry", "sink", "state"):
        section = getattr(job, name)
        plain = type(section).model_construct()
        for key in section.model_fields_set - {"path", "format"}:
            assert getattr(section, key) == getattr(plain, key), f"{name}.{key}"
    assert job.state_path == f"{job.sink.path}.state"


def test_reading_a_job_needs_neither_spark_nor_an_http_library() -> None:
    code = (
        "import sys, pipeline.config.load; "
        "print(sorted({'pyspark', 'httpx', 'pyreqwest', 'httptools'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=CONF.parent)
    assert done.stdout.strip() == "[]"
