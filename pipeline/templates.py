"""What the AI functions ask: the shipped prompts, with those of a user's file laid over them."""

from collections.abc import Mapping
from pathlib import Path

from pipeline.config import read_toml
from pipeline.errors import ConfigError
from pipeline.prompts import PromptSpec, prompt_columns
from pipeline.records import Task

Templates = Mapping[str, Mapping[str, str]]  # function -> `prompt`, and `system` where it has one


def load_templates(path: str | None) -> Templates:
    """The shipped templates, or these under those of a file. Raises ConfigError."""
    templates = {name: dict(table) for name, table in SHIPPED.items()}
    for name, table in (read_toml(path) if path is not None else {}).items():
        if name not in templates:
            raise ConfigError(f"{path}: [{name}]: unknown function. Known: {', '.join(sorted(templates))}")
        wrong = [key for key in table if key not in ("prompt", "system")]
        if wrong or not all(isinstance(value, str) and value.strip() for value in table.values()):
            raise ConfigError(f"{path}: [{name}]: holds prompt and system, both strings, and nothing else")
        known = prompt_columns(PromptSpec(Task.CHAT, template=templates[name]["prompt"]))
        used = prompt_columns(PromptSpec(Task.CHAT, template=table.get("prompt"), system=table.get("system")))
        if unknown := sorted(set(used) - set(known)):
            raise ConfigError(f"{path}: [{name}]: {', '.join(unknown)} is no argument. Known: {', '.join(known)}")
        templates[name].update(table)
    return templates


SHIPPED: Templates = read_toml(str(Path(__file__).with_name("templates.toml")))
