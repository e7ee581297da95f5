"""How many retries an endpoint that fails most of its calls gets. Pure; time is an argument."""

# A tenth of first attempts (Google SRE), and ten a second beside them as probes (Finagle's minimum).
SHARE_OF_FIRST = 0.1
PROBES_PER_S = 10.0
CAPACITY = 100.0


class RetryBudget:
    """A token bucket that first attempts and time fill, and retries empty."""

    def __init__(self) -> None:
        self._tokens = 0.0
        self._at_s = 0.0
        self.refused = 0  # times a retry had to wait for it

    def first_attempt(self) -> None:
        """A call started that is no retry."""
        self._tokens = min(CAPACITY, self._tokens + SHARE_OF_FIRST)

    def take(self, now_s: float) -> float:
        """Seconds until a retry may start; 0 takes it."""
        if self._at_s:
            self._tokens = min(CAPACITY, self._tokens + (now_s - self._at_s) * PROBES_PER_S)
        self._at_s = now_s
        if self._tokens >= 1.0 - 1e-9:
            self._tokens -= 1.0
            return 0.0
        self.refused += 1
        return (1.0 - self._tokens) / PROBES_PER_S
