"""Where a job's quota server is found, as it travels to the workers."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class QuotaLink:
    """Travels inside the closure of one run; the key never shows."""

    host: str
    port: int
    key: bytes = field(repr=False)

    def __str__(self) -> str:
        """For people."""
        return f"{self.host}:{self.port}"
