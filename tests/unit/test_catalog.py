import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.catalog import Catalog, open_catalog
from pipeline.errors import ConfigError
from pipeline.records import Task
from pipeline.workspace_auth import WorkspaceCredentials
from tests.cases import cases

CHAT = {"kind": "chat", "base_url": "http://127.0.0.1:8000/v1/"}
EMBEDDING = {"kind": "embedding", "base_url": "http://127.0.0.1:8000/v1"}


def test_the_shipped_file_is_valid():
    catalog = open_catalog(str(Path(__file__).parents[2] / "conf" / "endpoints.toml"))
    assert catalog.default(Task.CHAT).name == "local-chat"
    assert catalog.default(Task.EMBEDDING).contract is not None


def test_a_named_endpoint_has_its_defaults_and_travels():
    endpoint = open_catalog({"endpoints": {"a": CHAT}}).find("a", {})
    assert (endpoint.model, endpoint.api, endpoint.base_url) == ("a", "openai", "http://127.0.0.1:8000/v1")
    assert (endpoint.task, endpoint.in_flight, endpoint.credentials) == (Task.CHAT, 256, None)
    assert pickle.loads(pickle.dumps(endpoint)) == endpoint


def test_limits_retry_and_a_reference_are_read():
    table = {
        **EMBEDDING,
        "model": "m",
        "auth": {"scheme": "api-key", "secret": "env:KEY_OF_TEST"},
        "limits": {"in_flight": 3, "max_batch_rows": 7},
        "retry": {"max_attempts": 2},
        "embedding": {"dimensions": 4},
    }
    endpoint = open_catalog({"endpoints": {"e": table}}).find("e", {})
    assert (endpoint.in_flight, endpoint.pack.max_rows, endpoint.retry.max_attempts) == (3, 7, 2)
    assert endpoint.credentials is not None
    assert endpoint.credentials.describe() == "env:KEY_OF_TEST"
    assert endpoint.contract is not None
    assert endpoint.contract.dimensions == 4


def test_static_parts_may_be_said():
    static = {"endpoints": {"a": {**CHAT, "limits": {"shared": "static", "in_flight": 3}}}}
    assert open_catalog(static) == open_catalog({"endpoints": {"a": {**CHAT, "limits": {"in_flight": 3}}}})


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"'c' is unknown. Known in endpoints: a, b; DATABRICKS_HOST is not set"):
        open_catalog({"endpoints": {"b": CHAT, "a": CHAT}}).find("c", {})
    with pytest.raises(ConfigError, match="Known in no endpoints file: none"):
        Catalog().find("c", {})


@cases(
    ("name", "task"),
    [
        ("databricks-gpt-oss-20b", Task.CHAT),
        ("databricks-gte-large-en", Task.EMBEDDING),
        ("my-Embedding-endpoint", Task.EMBEDDING),
    ],
)
def test_the_workspace_of_the_environment_is_asked_next(name, task):
    endpoint = open_catalog({"endpoints": {"a": CHAT}}).find(
        name, {"DATABRICKS_HOST": "adb-1.net", "DATABRICKS_TOKEN": "x"}
    )
    assert (endpoint.task, endpoint.api, endpoint.base_url) == (task, "databricks", "https://adb-1.net")
    assert endpoint.credentials is not None
    assert endpoint.credentials.describe() == "env:DATABRICKS_TOKEN"
    assert endpoint.note == "Known in endpoints: a; every other name is DATABRICKS_HOST's"
    without = open_catalog({"endpoints": {"a": CHAT}}).find(name, {"DATABRICKS_HOST": "adb-1.net"})
    assert without == replace(endpoint, credentials=WorkspaceCredentials("https://adb-1.net"))


def test_the_session_overrides_the_default():
    catalog = open_catalog({"default_endpoint": "a", "endpoints": {"a": CHAT, "b": CHAT, "e": EMBEDDING}})
    assert catalog.default(Task.CHAT, "b").name == "b"
    with pytest.raises(ConfigError, match="default_endpoint = e: is of kind embedding, not chat"):
        catalog.default(Task.CHAT, "e")
    with pytest.raises(ConfigError, match="no embedding endpoint is the default"):
        catalog.default(Task.EMBEDDING)


@cases(
    ("document", "message"),
    [
        ({"endpoints": {"a": {"kind": "chat"}}}, "[endpoints.a] base_url: is missing"),
        ({"endpoints": {"a": {**CHAT, "kind": "chats"}}}, "[endpoints.a] kind: must be 'chat', 'embedding', "),
        ({"endpoints": {"a": {**CHAT, "kind": "custom"}}}, '[endpoints.a] api: must be "databricks" for kind = "custom"'),
        ({"endpoints": {"a": {**CHAT, "modle": "x"}}}, "[endpoints.a] modle: unknown key; did you mean model?"),
        (
            {"endpoints": {"a": {**CHAT, "limits": {"in_flihgt": 1}}}},
            "[endpoints.a.limits] in_flihgt: unknown key; did you mean in_flight?",
        ),
        (
            {"endpoints": {"a": {**CHAT, "limits": {"shared": "leases"}}}},
            '[endpoints.a.limits] shared: must be "static" or left out; the tasks of a query have equal parts of a limit',
        ),
        ({"endpoint": {}}, "endpoint: unknown key; did you mean endpoints?"),
        ({"default_endpoint": "z", "endpoints": {"a": CHAT}}, "there is no [endpoints.z]. Known: a"),
        ({"default_embedding_endpoint": "a", "endpoints": {"a": CHAT}}, "must be of kind embedding"),
        (
            {"endpoints": {"a": {**CHAT, "auth": {"scheme": "bearer", "secret": "sk-12345678"}}}},
            'must be a reference, "env:NAME"',
        ),
    ],
)  # fmt: skip
def test_mistakes_name_their_place_and_show_no_value(document, message):
    with pytest.raises(ConfigError) as caught:
        open_catalog(document)
    assert message in str(caught.value)
    assert "sk-12345678" not in str(caught.value)
