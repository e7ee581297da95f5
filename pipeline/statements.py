"""One SQL statement from a person: its rows, what its calls used, and its failure as one sentence."""

import contextlib
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pyspark.errors import AnalysisException, IllegalArgumentException, ParseException, PySparkException
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql.types import VariantVal

from pipeline.config import load_prices
from pipeline.errors import StatementFailed, StatementRefused
from pipeline.functions import CONF, registered
from pipeline.journal import JournalTotals, fingerprints, journal_totals
from pipeline.prices import PriceEntry, price_of
from pipeline.session import without_query_log
from pipeline.simulator import SimulatorProcess
from pipeline.storage import open_store
from pipeline.tables import SqlResult

_CACHE = f"{CONF}cache"
_MOST_CHARS = 500  # of a sentence; Spark lists all columns of a table, and more
# a quoted text or name, a comment, the semicolon that ends a statement, or any other character
_TOKEN = re.compile(
    r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|`[^`]*`|(?P<comment>--[^\n]*|/\*.*?\*/)|(?P<end>;)|.""", re.DOTALL
)
_RAISED = re.compile(r"^(?:[\w.]+\.)?(\w+(?:Error|Exception|Stopped)): (.+)$", re.MULTILINE)


def run_sql(spark: SparkSession, statement: str, *, rows: int | None = 100, prices: str | None = None) -> SqlResult:
    """Runs one statement; at most `rows` rows are asked and returned, None is all.

    Raises StatementRefused where nothing was sent, StatementFailed otherwise; both hold one sentence with its
    condition, never a stack trace. The calls are counted by their journal, which is the response cache: one of the
    session's own where `pipeline.ai.cache` is set, else one that ends with the statement. `prices` is a file over the
    shipped prices; ConfigError where it is wrong.
    """
    started_s = time.monotonic()
    entries = load_prices(prices)
    with _counted(spark) as path, without_query_log():
        before = _totals(path)
        frame = _analyzed(spark, statement)
        # what is a statement of its own (INSERT, CREATE) has run by now, and its rows are few
        found = _collected(frame if rows is None else frame.limit(rows))
        after = _totals(path)
    calls = {name: _added(totals, before.get(name, JournalTotals())) for name, totals in after.items()}
    return SqlResult(
        tuple(frame.columns),
        found,
        rows is not None and len(found) >= rows,
        time.monotonic() - started_s,
        calls=sum(each.sent for each in calls.values()),
        failed=sum(each.failed + each.unknown for each in calls.values()),
        input_tokens=sum(each.input_tokens for each in calls.values()),
        output_tokens=sum(each.output_tokens for each in calls.values()),
        cost=_cost(calls, entries),
        unpriced=_unpriced(calls, entries),
    )


def split_statements(text: str) -> list[str]:
    """The statements between semicolons, without comments; what is in quotes stays as it is."""
    statements, part = [], ""
    for token in _TOKEN.finditer(text):
        if token["end"]:
            statements.append(part.strip())
            part = ""
        else:
            part += " " if token["comment"] and not token["comment"].startswith("/*+") else token[0]
    return [statement for statement in [*statements, part.strip()] if statement]


@contextlib.contextmanager
def embedded_endpoints() -> Iterator[dict[str, Any]]:
    """The endpoints `local-chat` and `local-embedding`, served by a process of this machine while the context lasts."""
    with SimulatorProcess() as simulator:
        yield {
            "default_endpoint": "local-chat",
            "default_embedding_endpoint": "local-embedding",
            "endpoints": {
                "local-chat": {"kind": "chat", "base_url": simulator.base_url},
                "local-embedding": {"kind": "embedding", "base_url": simulator.base_url},
            },
        }


def sentence(exc: BaseException) -> str:
    """What went wrong, in one line: Spark's condition and sentence, or what a worker's exception said."""
    text = str(exc).strip()
    raised = _RAISED.findall(text)
    if raised and "Traceback (most recent call last)" in text:
        name, said = raised[-1]
        return _shortened(said if said.startswith("[") else f"{name}: {said}")
    first = next((line.strip() for line in text.splitlines() if line.strip()), type(exc).__name__).rstrip(";")
    state = exc.getSqlState() if isinstance(exc, PySparkException) else None
    return _shortened(first) + (f" SQLSTATE: {state}" if state and "SQLSTATE" not in first else "")


def _analyzed(spark: SparkSession, statement: str) -> DataFrame:
    try:
        return spark.sql(statement)
    except (AnalysisException, ParseException, IllegalArgumentException) as exc:
        raise StatementRefused(sentence(exc)) from exc
    except PySparkException as exc:
        raise StatementFailed(sentence(exc)) from exc


def _collected(frame: DataFrame) -> list[tuple[Any, ...]]:
    try:
        return [tuple(_plain(value) for value in row) for row in frame.collect()]
    except PySparkException as exc:
        raise StatementFailed(sentence(exc)) from exc


@contextlib.contextmanager
def _counted(spark: SparkSession) -> Iterator[str]:
    """The folder of the calls' journal, set for the session while the context lasts."""
    own = spark.conf.get(_CACHE, None)
    if own:
        yield own
        return
    with tempfile.TemporaryDirectory(prefix="spark-ai-query-", ignore_cleanup_errors=True) as folder:
        spark.conf.set(_CACHE, folder)
        try:
            yield folder
        finally:
            spark.conf.unset(_CACHE)


def _totals(path: str) -> dict[str, JournalTotals]:
    """By fingerprint: one for each kind of call."""
    store = open_store(path)
    return {name: journal_totals(store, name) for name in fingerprints(store)}


def _added(after: JournalTotals, before: JournalTotals) -> JournalTotals:
    names = ("sent", "failed", "unknown", "input_tokens", "output_tokens", "cached_input_tokens")
    return JournalTotals(**{name: getattr(after, name) - getattr(before, name) for name in names})


def _cost(calls: Mapping[str, JournalTotals], entries: Sequence[PriceEntry]) -> dict[str, float]:
    """By currency; a model without a price has no cost."""
    cost: dict[str, float] = {}
    for name, totals in calls.items():
        price = price_of(registered.models.get(name, ""), entries)
        if price is not None and totals.sent:
            paid = price.of_tokens(totals.input_tokens, totals.output_tokens, totals.cached_input_tokens)
            cost[price.currency] = cost.get(price.currency, 0.0) + paid
    return cost


def _unpriced(calls: Mapping[str, JournalTotals], entries: Sequence[PriceEntry]) -> dict[str, int]:
    """Calls by model, of models without a price."""
    counted: dict[str, int] = {}
    for name, totals in calls.items():
        model = registered.models.get(name, "")
        if totals.sent and price_of(model, entries) is None:
            counted[model] = counted.get(model, 0) + totals.sent
    return counted


def _plain(value: Any) -> Any:
    if isinstance(value, Row):
        return {name: _plain(each) for name, each in zip(value.__fields__, value, strict=True)}
    if isinstance(value, VariantVal):
        return value.toPython()
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def _shortened(text: str) -> str:
    return text if len(text) <= _MOST_CHARS else f"{text[: _MOST_CHARS - 1]}…"
