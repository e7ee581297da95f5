"""What README says can be done, can be done."""

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline import job_from_mapping

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = sorted(set(re.findall(r"python -m ((?:jobs|tests)\.[\w.]+)", README)))
INSTALLS = re.findall(r"^python3 -m venv .*$", README, re.MULTILINE)


def test_the_two_commands_are_there() -> None:
    assert INSTALLS == [
        "python3 -m venv .venv && .venv/bin/pip install -e '.[local]' && .venv/bin/python -m jobs.quickstart",
        "python3 -m venv .venv && .venv/bin/pip install -e '.[local,dev]' && .venv/bin/python -m pytest",
    ]
    assert "grep -m 1 -E '^python3 -m venv .* -m pytest$' README.md" in (ROOT / ".ci/run").read_text()


def test_every_job_is_in_the_readme() -> None:
    jobs = {f"jobs.{path.stem}" for path in (ROOT / "jobs").glob("*.py") if "= new_app()" in path.read_text()}
    assert jobs <= set(COMMANDS)


def explained(module: str) -> tuple[int, str]:
    """Exit status and text of `--help`; jobs within this process, since each would load Spark's libraries anew."""
    if module.startswith("jobs."):
        done = CliRunner().invoke(importlib.import_module(module).app, ["--help"], env={"COLUMNS": "100"})
        return done.exit_code, done.output
    ran = subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    return ran.returncode, ran.stdout + ran.stderr


@pytest.mark.parametrize("module", COMMANDS)
def test_every_command_explains_itself(module: str) -> None:
    status, text = explained(module)
    assert status == 0, text
    assert len(text) > 200


def test_the_job_file_of_the_readme_is_accepted() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    jobs = [block for block in blocks if "[job]" in block]
    assert jobs
    for block in jobs:
        assert job_from_mapping(tomllib.loads(block), "README.md").warnings == ()


def test_options_named_in_the_readme_exist() -> None:
    _, help_text = explained("jobs.run")
    for option in ("--limit", "--set", "--run-id", "--fresh", "--retry-errors"):
        assert option in README
        assert option in help_text
