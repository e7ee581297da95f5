"""What is known of embedding models: `pipeline/models.toml`, checked."""

from functools import lru_cache

from pydantic import Field, ValidationError

from pipeline.config.load import read_shipped, read_toml
from pipeline.config.messages import reason
from pipeline.config.models import Columns, Count, Name, Section
from pipeline.errors import ConfigError


class KnownModel(Section):
    """`[[models]]`: one model under all its names; None where nobody says."""

    names: Columns = Field(min_length=1, description="as endpoints call it")
    source: Name = Field(description="who says so")
    dimensions: Count | None = Field(default=None, description="of a vector")
    max_tokens: Count | None = Field(default=None, description="of one text")
    normalized: bool | None = Field(default=None, description="whether vectors have length 1")
    truncatable: bool | None = Field(default=None, description="whether the first numbers of a vector are a vector")
    query: str = Field(default="", description="put before a text that searches")
    document: str = Field(default="", description="put before a text that is found")
    max_batch_rows: Count | None = Field(default=None, description="texts per call")
    max_batch_tokens: Count | None = Field(default=None, description="tokens per call")


class ModelsFile(Section):
    """The whole file."""

    models: list[KnownModel] = Field(description="tables")


def find_model(name: str, path: str | None = None) -> KnownModel | None:
    """The model that an endpoint of this name serves, None where it is not known.

    Raises ConfigError for a file that is wrong; without `path` it is the shipped `pipeline/models.toml`.
    """
    return _by_name(path).get(_short(name))


@lru_cache(maxsize=4)
def _by_name(path: str | None) -> dict[str, KnownModel]:
    origin, tables = read_shipped("models.toml") if path is None else (path, read_toml(path))
    try:
        file = ModelsFile.model_validate(tables)
    except ValidationError as exc:
        error = exc.errors(include_url=False, include_input=False)[0]
        raise ConfigError(f"{origin}: {'.'.join(map(str, error['loc']))}: {reason(error)}") from None
    return {_short(name): model for model in file.models for name in model.names}


def _short(name: str) -> str:
    return name.rsplit("/", 1)[-1].split(":", 1)[0].lower()
