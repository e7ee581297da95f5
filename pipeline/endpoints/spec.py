"""The description of an endpoint that travels to executors. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from pipeline.records import Api, Task
from pipeline.vectors import EmbeddingContract


@dataclass(frozen=True, slots=True)
class EndpointSpec:
    """Where to ask, what, and how; holds no credential.

    `name` is the model in the body ("openai") or the serving endpoint in the URL ("databricks"). `base_url` may carry a
    query, such as Azure's api-version. `parameters` are sent as given, and nothing that was not asked for is.
    """

    task: Task
    name: str
    api: Api
    base_url: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    contract: EmbeddingContract | None = None

    def url(self, openai_path: str) -> str:
        """The whole URL; `openai_path`, such as "/embeddings", counts for the OpenAI layout only."""
        base, _, query = self.base_url.partition("?")
        databricks_path = f"/serving-endpoints/{quote(self.name, safe='')}/invocations"
        path = databricks_path if self.api == "databricks" else openai_path
        return f"{base.rstrip('/')}{path}{'?' if query else ''}{query}"

    def fixed_fields(self) -> dict[str, Any]:
        """The part of the body that is the same for every request."""
        named = {"model": self.name} if self.api == "openai" else {}
        return {**self.parameters, **named}
