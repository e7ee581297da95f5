"""The price file: `[[prices]]` tables, checked; the shipped one lies behind a user's."""

import datetime
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, ValidationError

from pipeline.config.load import read_shipped, read_toml
from pipeline.config.messages import nearest, reason
from pipeline.config.models import Name, Section
from pipeline.errors import ConfigError
from pipeline.prices import Price, PriceEntry

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class PriceTable(Section):
    """`[[prices]]`: what some models cost."""

    models: Annotated[tuple[Name, ...], Field(strict=False, min_length=1)] = Field(
        description='names as [endpoint] name has them, like ["gpt-5-mini", "gpt-5-mini-20??-*"]'
    )
    input: Amount = Field(description="per million input tokens, 0 or more")
    cached_input: Amount | None = Field(default=None, description="per million cached input tokens; default input")
    output: Amount = Field(default=0.0, description="per million output tokens, 0 or more; embeddings have none")
    currency: str = Field(default="USD", pattern=r"^[A-Z]{3}\z", description="three capitals, like USD")
    source: Name = Field(description="where the price was read")
    date: datetime.date = Field(description="when it was read, like 2026-11-21")


class PricesFile(Section):
    """The whole file."""

    prices: tuple[PriceTable, ...] = Field(default=(), strict=False, description="tables; the first that fits counts")


def load_prices(path: str | None = None) -> tuple[PriceEntry, ...]:
    """The prices of a user's file, then the shipped ones. Raises ConfigError with one line per mistake."""
    own = prices_from_mapping(read_toml(path), path) if path is not None else ()
    origin, shipped = read_shipped("prices.toml")
    return (*own, *prices_from_mapping(shipped, origin))


def prices_from_mapping(mapping: Mapping[str, Any], origin: str) -> tuple[PriceEntry, ...]:
    """The entries of nested tables, in order; `origin` opens every message."""
    try:
        file = PricesFile.model_validate(mapping)
    except ValidationError as exc:
        lines = [f"{origin}: {_line(error)}" for error in exc.errors(include_url=False, include_input=False)]
        raise ConfigError("\n".join(lines)) from None
    return tuple(PriceEntry(table.models, _price(table)) for table in file.prices)


def _price(table: PriceTable) -> Price:
    return Price(table.input, table.output, table.cached_input, table.currency, table.source, table.date.isoformat())


def _line(error: Any) -> str:
    location = error["loc"]
    place = f"[[prices]] number {location[1] + 1}" if len(location) > 1 else "the file"
    key = ".".join(map(str, location[2:])) if len(location) > 2 else str(location[0])
    if error["type"] == "extra_forbidden":
        known = tuple(PriceTable.model_fields if len(location) > 2 else PricesFile.model_fields)
        meant = nearest(key, known)
        return f"{place} {key}: unknown key{f'; did you mean {meant}?' if meant else '.'} Known: {', '.join(known)}"
    if error["type"] == "missing":
        return f"{place} {key}: is missing; {PriceTable.model_fields[key].description}"
    return f"{place} {key}: {reason(error)}"
