"""Runs SQL with ai_query and its siblings: `python -m jobs.sql "SELECT ..."`."""

import contextlib
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from jobs.command_line import exit_status, new_app
from pipeline import (
    ConfigError,
    SqlResult,
    StatementRefused,
    Watcher,
    embedded_endpoints,
    open_session,
    register,
    run_sql,
    split_statements,
)

HELP = """Runs SQL with ai_query and its siblings, for trying prompts from a terminal.

\b
  python -m jobs.sql --local "SELECT ai_query('local-chat', 'Say hello.')"
  python -m jobs.sql "SELECT name, ai_summarize(doc, 20) AS s FROM parquet.`out/docstrings`" --rows 5
  python -m jobs.sql "SELECT ai_query('gpt', doc, failOnError => false) AS r FROM delta.`out/docs`" --output csv
  python -m jobs.sql --file prompts.sql --conf my_endpoints.toml

A file on disk is a table: parquet.`path`, delta.`path`, json.`path`, csv.`path`. Several statements are separated by
semicolons; the last one's rows are shown. At most --rows rows are asked and shown, so that a first look at a large
table costs little.

\b
  ai_query(endpoint, request [, returnType, failOnError, modelParameters, responseFormat, files, details])
  ai_gen(prompt)  ai_summarize(content [, max_words])  ai_translate(content, to_lang)  ai_fix_grammar(content)
  ai_classify(content, array('a', 'b'))  ai_extract(content, array('a'))  ai_mask(content, array('a'))
  ai_analyze_sentiment(content)  ai_filter(predicate)  ai_embed(content)  ai_similarity(a, b)  ai_count_tokens(content)

Rows go to standard output, what they cost to standard error. docs/ explains every function.

Exit status: 0 done; 1 the statement failed while it ran; 2 refused before anything was sent; 130 interrupted.
"""


class Output(StrEnum):
    """How rows are written."""

    table = "table"
    json = "json"
    csv = "csv"


app = new_app()


@app.command(help=HELP)
def main(
    statement: Annotated[str | None, typer.Argument(help="The SQL; or give --file.", metavar="SQL")] = None,
    file: Annotated[Path | None, typer.Option(help="Read the SQL from there; - is standard input.")] = None,
    conf: Annotated[Path, typer.Option(help="The endpoints by name.")] = Path("conf/endpoints.toml"),
    local: Annotated[
        bool, typer.Option("--local", help="Serve local-chat and local-embedding for this command; no account.")
    ] = False,
    output: Annotated[Output, typer.Option(help="How rows are written.")] = Output.table,
    rows: Annotated[int, typer.Option(help="At most so many are asked and shown; 0 is all.", min=0)] = 100,
    prices: Annotated[Path | None, typer.Option(help="A file of prices over the shipped ones.", metavar="FILE")] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Keep answers in this folder, and take them from there.", metavar="DIR")
    ] = None,
) -> None:
    """See HELP."""
    watcher = Watcher()
    with exit_status((ConfigError, StatementRefused), "Broken off; answers are kept only with --cache."):
        statements = split_statements(_text(statement, file))
        if not statements:
            raise ConfigError("there is no statement")
        with embedded_endpoints() if local else contextlib.nullcontext(str(conf)) as endpoints:
            with watcher.busy("starting Spark"):
                spark = open_session("sql")
                register(spark, endpoints)
            if cache is not None:
                spark.conf.set("pipeline.ai.cache", str(cache.absolute()))
            with watcher.busy("running"):
                priced = str(prices) if prices is not None else None
                results = [run_sql(spark, each, rows=rows or None, prices=priced) for each in statements]
    with contextlib.suppress(BrokenPipeError):  # `| head` has seen enough
        _show(watcher, results[-1], output)
    for line in _told(results, rows):
        print(line, file=sys.stderr)


def _text(statement: str | None, file: Path | None) -> str:
    if (statement is None) == (file is None):
        raise ConfigError("give one SQL statement, or --file; --help has examples")
    if file is None:
        return statement or ""
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "is no UTF-8 text"
        raise ConfigError(f"--file {file}: {reason}") from exc


def _show(watcher: Watcher, result: SqlResult, output: Output) -> None:
    if not result.columns:
        return
    if output is Output.table:
        watcher.table(result.columns, result.cells(), wrap=result.columns)
    else:
        print(result.to_json() if output is Output.json else result.to_csv(), flush=True)


def _told(results: list[SqlResult], rows: int) -> Iterator[str]:
    last = results[-1]
    parts = [f"{len(last.rows):,} rows" if len(last.rows) != 1 else "1 row"] if last.columns else ["done"]
    parts[0] += f" in {sum(each.duration_s for each in results):.1f} s"
    calls, failed = sum(each.calls for each in results), sum(each.failed for each in results)
    if calls:
        tokens_in, tokens_out = (
            sum(each.input_tokens for each in results),
            sum(each.output_tokens for each in results),
        )
        refused = f" ({failed:,} without an answer)" if failed else ""
        parts += [f"{calls:,} calls{refused}" if calls != 1 else f"1 call{refused}"]
        parts += [f"{tokens_in:,} tokens in, {tokens_out:,} out"]
        parts += [each.cost_text() for each in results if each.cost]
    yield " · ".join(parts)
    models = sorted({model for each in results for model in each.unpriced})
    if models:
        counted = calls - sum(sum(each.unpriced.values()) for each in results)
        yield (
            f"No price is known for model{'s' if len(models) > 1 else ''} {', '.join(models)}: cost counts {counted:,} of "
            f"{'1 call' if calls == 1 else f'{calls:,} calls'}; --prices FILE gives one."
        )
    if last.is_cut:
        yield f"At most {rows:,} rows were asked; --rows N asks more, --rows 0 all."


if __name__ == "__main__":
    app()
