"""What README says can be done, can be done."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("module", COMMANDS)
def test_every_command_explains_itself(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) > 200


def test_the_job_file_of_the_readme_is_accepted() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    jobs = [block for block in blocks if "[job]" in block]
    assert jobs
    for block in jobs:
        assert job_from_mapping(tomllib.loads(block), "README.md").warnings == ()


def test_options_named_in_the_readme_exist() -> None:
    help_text = subprocess.run(
        [sys.executable, "-m", "jobs.run", "--help"], cwd=ROOT, capture_output=True, text=True, timeout=120
    ).stdout
    for option in ("--limit", "--set", "--run-id", "--fresh", "--retry-errors"):
        assert option in README
        assert option in help_text
