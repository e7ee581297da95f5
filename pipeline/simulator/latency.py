"""How long an answer takes: base, output tokens, seeded jitter. No clock."""

from random import Random

from pipeline.simulator.settings import SimulatorSettings


class LatencyModel:
    """Draws one delay per answer; the same seed and order give the same delays."""

    def __init__(self, settings: SimulatorSettings) -> None:
        self._settings = settings
        self._random = Random(settings.seed)  # noqa: S311 - jitter is no secret

    def delay_s(self, output_tokens: int) -> float:
        """Seconds from the whole request to the first byte of its answer."""
        settings = self._settings
        delay_s = (settings.latency_ms + settings.per_token_ms * output_tokens) / 1000
        if not delay_s or not settings.jitter:
            return delay_s
        if settings.jitter_shape == "lognormal":
            # mu = -sigma^2/2 keeps the mean at the configured latency
            return delay_s * self._random.lognormvariate(-(settings.jitter**2) / 2, settings.jitter)
        return delay_s * self._random.uniform(1 - settings.jitter, 1 + settings.jitter)
