"""A job file from TOML, or every mistake in it at once. The only place that reads the file."""

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pipeline.config.job_file import RULES, JobFile
from pipeline.config.messages import places_in_doubt, to_mistakes
from pipeline.config.mistakes import Location, Mistake
from pipeline.config.overrides import Override, laid_over, parse_override
from pipeline.errors import ConfigError

_TOML_PLACE = re.compile(r"(.*) \(at (line \d+), (column \d+)\)", re.DOTALL)


def load_job(path: str | Path, overrides: Sequence[str] = ()) -> JobFile:
    """The checked job of a TOML file, with `section.key=value` overrides laid over it.

    Raises ConfigError with one line per mistake; no line ever shows a secret.
    """
    return job_from_mapping(read_toml(path), str(path), overrides)


def job_from_mapping(mapping: Mapping[str, Any], origin: str, overrides: Sequence[str] = ()) -> JobFile:
    """The checked job of nested tables; `origin` opens every message. Raises ConfigError as `load_job`."""
    parsed, lines = _parse_overrides(overrides)
    laid = laid_over(mapping, parsed)
    job, mistakes = _check(laid)
    for mistake in mistakes:
        override = next((one for one in reversed(parsed) if one.touches(mistake.location)), None)
        lines.append(mistake.line(override.origin if override else origin, laid))
    if job is None or lines:
        raise ConfigError("\n".join(lines))
    return job


def _parse_overrides(texts: Iterable[str]) -> tuple[list[Override], list[str]]:
    parsed, lines = [], []
    for text in texts:
        try:
            parsed.append(parse_override(text))
        except ValueError as exc:
            lines.append(str(exc))
    return parsed, lines


def _check(mapping: dict[str, Any]) -> tuple[JobFile | None, list[Mistake]]:
    """The job, or all mistakes: those of single values, then contradictions among the values that are sound."""
    try:
        return JobFile.model_validate(mapping), []
    except ValidationError as exc:
        # an error at the root itself is a contradiction, told below with its place
        errors = [error for error in exc.errors(include_url=False) if error["loc"]]
    sound = set(JobFile.model_fields)
    wrong = places_in_doubt(errors)
    kept = {name: _without(table, name, wrong) for name, table in mapping.items() if name in sound}
    sections: dict[str, Any] = {}
    for name, field in JobFile.model_fields.items():
        try:
            sections[name] = TypeAdapter[Any](field.rebuild_annotation()).validate_python(kept.get(name, {}))
        except ValidationError:
            sound.remove(name)
    partial = JobFile.model_construct(_fields_set=set(kept), **sections)
    contradictions = [
        mistake
        for reads, rule in RULES
        if sound.issuperset(section for section, _ in reads) and wrong.isdisjoint(reads)
        for mistake in rule(partial)
    ]
    return None, [*to_mistakes(errors), *contradictions]


def _without(table: Any, section: str, wrong: set[Location]) -> Any:
    if not isinstance(table, dict):
        return table
    return {key: value for key, value in table.items() if (section, key) not in wrong}


def read_toml(path: str | Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises ConfigError that names the line and never shows the text."""
    try:
        # files written on Windows may open with a byte order mark, which TOML does not know
        return tomllib.loads(Path(path).read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        reason = "there is no such file"
    except OSError as exc:
        reason = f"cannot be read: {exc.strerror}"
    except UnicodeDecodeError as exc:
        line = exc.object[: exc.start].count(b"\n") + 1
        reason = f"line {line}: not UTF-8 text"
    except tomllib.TOMLDecodeError as exc:
        reason = _syntax(str(exc))
    except RecursionError:
        reason = "nested too deeply"
    # raised outside, so that no traceback carries the file's text
    raise ConfigError(f"{path}: {reason}")


def read_shipped(name: str) -> tuple[str, dict[str, Any]]:
    """Path and tables of a file that comes with the package."""
    path = Path(__file__).parents[1] / name
    return str(path), read_toml(path)


def _syntax(message: str) -> str:
    if match := _TOML_PLACE.fullmatch(message):
        sentence, line, column = match.groups()
        return f"{line}: not TOML: {sentence} ({column})"
    return f"not TOML: {message}"
