"""Tables that results land in; one file per kind. A run lands whole or not at all, and never twice."""

from pipeline.errors import ConfigError
from pipeline.sinks.delta import DeltaSink
from pipeline.sinks.kinds import Mode, RunKey, Sink, SinkSpec
from pipeline.sinks.parquet import ParquetSink

__all__ = ["Mode", "RunKey", "Sink", "SinkSpec", "open_sink"]

_KINDS: dict[str, type[Sink]] = {"delta": DeltaSink, "parquet": ParquetSink}


def open_sink(spec: SinkSpec) -> Sink:
    """The sink of a description; touches nothing yet."""
    try:
        return _KINDS[spec.format](spec)  # type: ignore[call-arg]
    except KeyError:
        raise ConfigError(f"[sink] format = {spec.format!r}: unknown; known: {', '.join(_KINDS)}") from None
