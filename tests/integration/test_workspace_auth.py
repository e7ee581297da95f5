"""Databricks authentication against a workspace of this test: a token of the environment, one that expires, and none."""

import json
import os
import pickle
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pandas as pd
import pytest

from pipeline import AiFunctionError, ConfigError, workspace_auth
from pipeline.pandas_api import configure
from pipeline.pandas_calls import _configured
from pipeline.simulator import Simulator, SimulatorSettings
from pipeline.workspace_auth import WorkspaceCredentials


class Workspace(BaseHTTPRequestHandler):
    """Hands out tokens that live for a second, which the SDK takes for expired."""

    tokens = 0

    def do_GET(self) -> None:
        host = f"http://{self.headers['host']}"
        self._answer({"oidc_endpoint": f"{host}/oidc", "token_endpoint": f"{host}/oidc/v1/token"})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        Workspace.tokens += 1
        self._answer({"access_token": f"token-{Workspace.tokens}", "token_type": "Bearer", "expires_in": 1})

    def _answer(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Nothing on the screen."""


@pytest.fixture
def host() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Workspace) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(autouse=True)
def _nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for name in list(os.environ):
        if name.startswith(("DATABRICKS_", "ARM_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("PATH", str(tmp_path))  # no command line tools that could log in
    monkeypatch.setattr(workspace_auth, "_TIMEOUT_S", 1)
    monkeypatch.setattr(workspace_auth, "_sources", {})


def test_a_token_that_expires_is_fetched_again_and_never_travels(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("databricks.sdk")
    monkeypatch.setenv("DATABRICKS_CLIENT_ID", "someone")
    monkeypatch.setenv("DATABRICKS_CLIENT_SECRET", "sesame-71")
    credentials: WorkspaceCredentials = pickle.loads(pickle.dumps(WorkspaceCredentials(host)))
    first, second = credentials.headers(), credentials.headers()
    assert list(first) == list(second) == ["authorization"]
    assert first["authorization"].startswith("Bearer token-")
    assert first != second
    travelling = pickle.dumps(credentials)
    assert b"token-" not in travelling
    assert b"sesame" not in travelling


def test_without_any_credential_the_sentence_names_the_workspace(host: str) -> None:
    pytest.importorskip("databricks.sdk")
    with pytest.raises(ConfigError, match=f"^Databricks authentication for {host}: ") as caught:
        WorkspaceCredentials(host).headers()
    assert "\n" not in str(caught.value)
    assert "Config:" not in str(caught.value)


def test_without_the_package_the_sentence_says_what_to_install(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "databricks.sdk.core", None)
    with pytest.raises(ConfigError, match=r"DATABRICKS_TOKEN is not set.*pip install 'spark-ai-query\[databricks\]'"):
        WorkspaceCredentials(host).headers()


def test_a_name_that_no_file_knows_is_an_endpoint_of_the_workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    with Simulator(SimulatorSettings(token="sesame-72")) as simulator:
        monkeypatch.setenv("DATABRICKS_HOST", simulator.host_url)
        monkeypatch.setenv("DATABRICKS_TOKEN", "sesame-72")
        configure(None, progress=False)
        try:
            assert pd.Series(["Hi."]).ai.query("local-chat").tolist() == ["Hi."]
            configure({"endpoints": {"mine": {"kind": "chat", "base_url": simulator.base_url}}}, progress=False)
            with pytest.raises(AiFunctionError) as caught:
                pd.Series(["Hi."]).ai.query("mime")
        finally:
            _configured.place = None
    assert caught.value.getCondition() == "AI_FUNCTION_HTTP_REQUEST_ERROR"
    assert f"the endpoint mime at {simulator.host_url} was not found: " in str(caught.value)
    assert " Known in endpoints: mine; every other name is DATABRICKS_HOST's. SQLSTATE: " in str(caught.value)
