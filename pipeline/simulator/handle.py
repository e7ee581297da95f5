"""A running simulator as its user sees it: addresses, bill, switches."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any

from pipeline.simulator.bill import Bill, Texts
from pipeline.simulator.outage import Outage
from pipeline.simulator.settings import Overload


@dataclass(slots=True)
class Handle:
    """Speaks to a simulator on this machine. After its end `bill` and `texts` give their last state."""

    host: str
    port: int
    control_port: int
    _last_bill: Bill | None = field(default=None, repr=False)
    _last_texts: Texts | None = field(default=None, repr=False)

    @property
    def host_url(self) -> str:
        """Without a path, as a Databricks workspace has it."""
        return f"http://{self.host}:{self.port}"

    @property
    def base_url(self) -> str:
        """With /v1, as OpenAI clients want it."""
        return f"{self.host_url}/v1"

    def bill(self) -> Bill:
        """What has been asked and answered so far."""
        return self._last_bill or Bill.from_json(self._ask("GET", "/bill"))

    def texts(self) -> Texts:
        """Digests of what came in and of what was bought; needs `log_requests`."""
        return self._last_texts or Texts(**self._ask("GET", "/bill/texts"))

    def reset_bill(self) -> None:
        """Count from zero."""
        self._ask("POST", "/bill/reset", {})

    def set_faults(self, shares: Mapping[str, float]) -> None:
        """Replace all shares. Raises ValueError for an unknown fault or shares above 1."""
        self._ask("POST", "/admin/faults", dict(shares))

    def set_latency(self, **changes: float | str) -> None:
        """Change `latency_ms`, `per_token_ms`, `jitter`, `jitter_shape`. Raises ValueError for anything else."""
        self._ask("POST", "/admin/latency", changes)

    def set_seed(self, seed: int) -> None:
        """Begin all draws and the count of marked attempts anew."""
        self._ask("POST", "/admin/seed", {"seed": seed})

    def set_quotas(self, **changes: float | str | bool | None) -> None:
        """Change fields of `Quotas`, None lifts a limit; windows begin empty. Raises ValueError for a wrong one."""
        self._ask("POST", "/admin/quotas", changes)

    def set_capacity(self, slots: int | None, overload: Overload = "503") -> None:
        """How many calls are worked on at once, and what becomes of more."""
        self._ask("POST", "/admin/capacity", {"slots": slots, "overload": overload})

    def set_outage(self, mode: Outage, after_s: float = 0.0, for_s: float | None = None) -> None:
        """Away in `after_s` for `for_s` seconds, without end where None.

        `unavailable`: 503; `reset`: RST after accepting; `refuse`: nobody listens; `none`: back to work.
        """
        self._ask("POST", "/admin/outage", {"mode": mode, "after_s": after_s, "for_s": for_s})

    def freeze(self) -> None:
        """Keep the last bill, for after the end."""
        self._last_bill, self._last_texts = self.bill(), self.texts()

    def _ask(self, method: str, path: str, document: Mapping[str, Any] | None = None) -> dict[str, Any]:
        # not through a proxy from the environment, so not urllib
        connection = HTTPConnection("127.0.0.1", self.control_port, timeout=30)
        try:
            connection.request(method, path, body=None if document is None else json.dumps(document))
            response = connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read())
        finally:
            connection.close()
        if response.status != 200:
            raise ValueError(answer["error"]["message"])
        return answer
