"""Serve the simulator: an endpoint without account, key or cost, that can also be slow and fail."""

import os
from typing import Annotated, Any

import typer

from jobs.command_line import new_app
from pipeline.simulator import FAULTS, Quotas, SimulatorSettings, serve

app = new_app()  # rich takes [[fault:...]] for markup
EPILOG = (
    "Models: local-chat (the sentence that says most of a text), local-embedding and local-embedding-normalized"
    " (256 dimensions, needs the package wordllama), canned-chat and canned-embedding (fixed, for measurements)."
    " Its bill: GET /bill. Any text can ask for a fault: [[fault:rate_429]], or [[fault:rate_429:2]] for two attempts."
    f" Faults: {', '.join(FAULTS)}."
    " Quotas, as providers enforce them: requests_per_second, requests_per_minute, requests_per_hour,"
    " input_tokens_per_minute, output_tokens_per_minute, tokens_per_minute; reserve=max_tokens|larger|none;"
    " enforce=window|bucket|both; burst_s; slice_s; default_reserve_tokens; refused_count=true;"
    " headers=none|retry_after|openai|azure|anthropic; databricks_body=documented|seen."
)


@app.command(epilog=EPILOG)
def main(
    port: Annotated[int, typer.Option(help="0 takes any free one.")] = 8200,
    host: Annotated[str, typer.Option(help="Loopback unless you know who can reach this machine.")] = "127.0.0.1",
    latency_ms: Annotated[float, typer.Option(help="Before each answer.")] = 0.0,
    per_token_ms: Annotated[float, typer.Option(help="More of it for each output token.")] = 0.0,
    jitter: Annotated[float, typer.Option(help="Log-normal: the sigma of the latency's logarithm.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of jitter, faults and canned vectors.")] = 0,
    fault: Annotated[
        list[str] | None, typer.Option(help="NAME=SHARE, as rate_429=0.1; can be given many times.")
    ] = None,
    quota: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE, as requests_per_minute=600; can be given many times.")
    ] = None,
    slots: Annotated[int | None, typer.Option(help="Calls worked on at once; all of them unless given.")] = None,
    overload: Annotated[str, typer.Option(help="What more calls get: 503, 429, 529, or queue: they wait.")] = "503",
    token: Annotated[
        str | None, typer.Option(help="Asked of every caller; env:NAME reads it from that variable.")
    ] = None,
    canned_vectors: Annotated[int, typer.Option(help="Dimensions of canned-embedding.")] = 1024,
) -> None:
    """Serve until interrupted: OpenAI's API under /v1, Databricks' under /serving-endpoints."""
    try:
        settings = SimulatorSettings(
            host=host,
            port=port,
            token=_token(token),
            latency_ms=latency_ms,
            per_token_ms=per_token_ms,
            jitter=jitter,
            jitter_shape="lognormal",
            seed=seed,
            faults=dict(map(_share, fault or [])),
            quotas=Quotas().with_changes(dict(map(_setting, quota or []))),
            slots=slots,
            overload=overload,  # type: ignore[arg-type] # the settings check it, and name the choices
            canned_vectors=canned_vectors,
        )
        serve(settings, lambda bound: _announce(f"http://{host}:{bound}", needs_token=token is not None))
    except (ValueError, OSError) as exc:
        raise typer.BadParameter(str(exc)) from exc


def _token(given: str | None) -> str | None:
    if given is None or not given.startswith("env:"):
        return given
    name = given.removeprefix("env:")
    if not os.environ.get(name):
        raise ValueError(f"the environment variable {name} is not set")
    return os.environ[name]


def _share(given: str) -> tuple[str, float]:
    name, _, share = given.partition("=")
    try:
        return name, float(share)
    except ValueError:
        raise ValueError(f"--fault is NAME=SHARE, as rate_429=0.1, got {given!r}") from None


def _setting(given: str) -> tuple[str, Any]:
    """A number, true or false where it reads as one, else the word."""
    name, separator, value = given.partition("=")
    if not separator or not value:
        raise ValueError(f"--quota is NAME=VALUE, as requests_per_minute=600, got {given!r}")
    if value in ("true", "false"):
        return name, value == "true"
    try:
        return name, float(value)
    except ValueError:
        return name, value


def _announce(host_url: str, needs_token: bool) -> None:
    credential = " -H 'Authorization: Bearer <token>'" if needs_token else ""
    question = '{"model": "local-chat", "messages": [{"role": "user", "content": "It rains. The rain is warm."}]}'
    typer.echo(f"base_url {host_url}/v1 (OpenAI), host {host_url} (Databricks), bill {host_url}/bill")
    typer.echo(f"curl {host_url}/v1/chat/completions{credential} -d '{question}'")


if __name__ == "__main__":
    app()
