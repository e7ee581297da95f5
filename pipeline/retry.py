"""When to try again: tenacity's policies, asked only after a failure. Pure; time and chance come in as arguments."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import tenacity

from pipeline.errors import ErrorCode
from pipeline.records import Failure

_UNKNOWN = frozenset({ErrorCode.UNKNOWN_OUTCOME, ErrorCode.DEADLINE_EXCEEDED})
_UNUSABLE = frozenset({ErrorCode.INVALID_RESPONSE, ErrorCode.WRONG_COUNT})

# A row that was told "1 s" comes back within 10 % of it, so that a crowd told the same does not return as one.
RETRY_AFTER_JITTER = 0.1


@dataclass(frozen=True, slots=True)
class RetrySettings:
    """`[retry]` of the job file; seconds."""

    max_attempts: int = 5
    base_s: float = 0.5
    max_wait_s: float = 60.0
    deadline_s: float = 900.0
    max_unknown_resends: int = 1
    max_invalid_resends: int = 1
    outage_limit_s: float = 0.0  # 0: an endpoint that is down pauses nothing


@dataclass(frozen=True, slots=True)
class Attempts:
    """What one call has been through so far."""

    sent: int = 0  # exchanges made
    counted: int = 0  # those that use up attempts: all but rate limits
    rate_limited: int = 0
    unknown: int = 0  # sent, outcome unknown: possibly billed
    unusable: int = 0  # answered and billed, but not usable
    first_at_s: float = 0.0

    def after(self, code: ErrorCode, now_s: float, *, is_parked: bool = False) -> "Attempts":
        """The same, one failed exchange later. `is_parked`: the endpoint is down, which is not the row's doing."""
        is_rate_limit = code is ErrorCode.RATE_LIMITED
        return replace(
            self,
            sent=self.sent + 1,
            counted=self.counted + (not is_rate_limit and not is_parked),
            rate_limited=self.rate_limited + is_rate_limit,
            unknown=self.unknown + (code in _UNKNOWN),
            unusable=self.unusable + (code in _UNUSABLE),
            first_at_s=self.first_at_s or now_s,
        )

    def without(self, down_s: float) -> "Attempts":
        """The same, with the time of an outage not spent."""
        return replace(self, first_at_s=self.first_at_s + down_s) if self.first_at_s else self


NOT_SENT = Attempts()


@dataclass(slots=True)
class _State:
    """The part of tenacity's `RetryCallState` that policies read, and what ours read beside it."""

    attempt_number: int
    seconds_since_start: float
    attempts: Attempts
    failure: Failure


class _StopAfterCount(tenacity.stop.stop_base):
    def __init__(self, field: str, most: int) -> None:
        self._field = field
        self._most = most

    def __call__(self, retry_state: object) -> bool:
        return int(getattr(retry_state.attempts, self._field)) > self._most  # type: ignore[attr-defined]


class RetryPolicy:
    """Full-jitter backoff, or what the endpoint asks for, until attempts or the deadline are used up.

    A rate limit uses up no attempt, only time; an unknown outcome or a useless answer has its own, smaller count,
    because sending it again may buy it again.
    """

    def __init__(self, settings: RetrySettings, uniform: Callable[[float, float], float]) -> None:
        self._settings = settings
        self._uniform = uniform
        # sending these again may buy them again, whatever the endpoint is going through
        self._stop_paying = _StopAfterCount("unknown", settings.max_unknown_resends) | _StopAfterCount(
            "unusable", settings.max_invalid_resends
        )
        self._stop = (
            tenacity.stop_after_delay(settings.deadline_s)
            | _StopAfterCount("counted", settings.max_attempts - 1)
            | self._stop_paying
        )
        self._ceiling = tenacity.wait_exponential(multiplier=settings.base_s, max=settings.max_wait_s)

    def wait_s(self, attempts: Attempts, failure: Failure, now_s: float, is_parked: bool = False) -> float | None:
        """Seconds until the next attempt, or None to give up. `attempts` includes the failed one.

        `is_parked`: while the endpoint is down neither attempts nor the deadline end a row.
        """
        is_rate_limit = failure.code is ErrorCode.RATE_LIMITED
        state = _State(
            attempt_number=max(1, attempts.rate_limited if is_rate_limit else attempts.counted),
            seconds_since_start=max(0.0, now_s - attempts.first_at_s),
            attempts=attempts,
            failure=failure,
        )
        if (self._stop_paying if is_parked else self._stop)(state):  # type: ignore[arg-type]
            return None
        asked_s = failure.retry_after_s
        if asked_s is not None and asked_s >= self._settings.base_s:
            wait_s = asked_s * (1 + self._uniform(0.0, RETRY_AFTER_JITTER))
        else:  # "at once", asked for again and again, would be a hot loop
            wait_s = max(asked_s or 0.0, self._uniform(0.0, self._ceiling(state)))  # type: ignore[arg-type]
        if not is_parked and state.seconds_since_start + wait_s > self._settings.deadline_s:
            return None
        return wait_s
