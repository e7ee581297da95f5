"""Whether an endpoint is down: when to stop calling it, how to look again, and when to give up. Pure."""

from collections import deque

# So many failures in a row raise suspicion; while others are on their way it takes more to be sure.
FEWEST_FAILURES = 3
MOST_FAILURES = 20
# Under suspicion calls start one by one: failures come back faster than answers, and would use up the queue.
SUSPECT_PACE_S = 0.05
# What was on its way before an outage is still answered: of the calls started since its first failure, so many must
# have failed for each that is out. Where every third call fails, two are out for each that has failed.
FAILED_PER_CALL_OUT = 3
# Netflix and Resilience4j judge by half of the last 100 calls; half of the last 50 here.
REMEMBERED = 50
FEWEST_REMEMBERED = 20
PROBE_FIRST_S = 0.5
PROBE_MOST_S = 5.0


class Breaker:
    """Opens when nothing but failures came for a while; then lets one probe through at a time until one succeeds."""

    def __init__(self) -> None:
        self.is_open = False
        self.opened_s = 0.0
        self.times_opened = 0
        self.probes = 0
        self._failing_since_s = 0.0
        self._in_a_row = 0
        self._dark_since_s: float | None = None  # a failure, and no call started later has succeeded
        self._dark_failures = self._dark_out = 0  # since then: failures, and calls started that are on their way
        self._recent: deque[bool] = deque(maxlen=REMEMBERED)
        self._failures = 0
        self._probe_at_s = 0.0
        self._suspect_at_s = 0.0
        self._probe_wait_s = PROBE_FIRST_S
        self._is_probing = False

    @property
    def is_suspect(self) -> bool:
        """Whether failures may be the endpoint's and not the rows'."""
        return self.is_open or self._in_a_row >= FEWEST_FAILURES or self._is_dark

    @property
    def fails_most(self) -> bool:
        """Whether most of the last calls failed."""
        return len(self._recent) >= FEWEST_REMEMBERED and 2 * self._failures > len(self._recent)

    @property
    def _is_dark(self) -> bool:
        """Whether hardly anything but failures came of what was started last, whatever older calls still bring."""
        return self._dark_failures >= max(FEWEST_FAILURES, FAILED_PER_CALL_OUT * self._dark_out)

    def started(self) -> None:
        """A call goes out."""
        if self._dark_since_s is not None:
            self._dark_out += 1

    def left(self, started_s: float) -> None:
        """A call that had started then is no longer on its way."""
        if self._dark_since_s is not None and started_s >= self._dark_since_s:
            self._dark_out = max(0, self._dark_out - 1)

    def failed(self, now_s: float, *, others: int) -> None:
        """A call failed that the endpoint should have answered; `others` are on their way."""
        self._remember(True)
        if self._dark_since_s is None:
            self._dark_since_s, self._dark_failures, self._dark_out = now_s, 0, 0
        self._dark_failures += 1
        if not self._in_a_row:
            self._failing_since_s = now_s
        self._in_a_row += 1
        if self.is_open:
            self._is_probing = False
            self._probe_at_s = now_s + self._probe_wait_s
            self._probe_wait_s = min(PROBE_MOST_S, 2 * self._probe_wait_s)
        elif self._in_a_row >= (max(MOST_FAILURES, others) if others else FEWEST_FAILURES):
            self.is_open = True
            self.opened_s = now_s
            self.times_opened += 1
            self._probe_wait_s = PROBE_FIRST_S
            self._probe_at_s = now_s + PROBE_FIRST_S

    def succeeded(self, now_s: float, started_s: float) -> float:
        """The endpoint answered a call of then. Seconds that it had been down, 0 where the breaker was closed."""
        self._remember(False)
        self._in_a_row = 0
        if self._dark_since_s is not None and started_s >= self._dark_since_s:
            self._dark_since_s = None
            self._dark_failures = self._dark_out = 0
        if not self.is_open:
            return 0.0
        self.is_open = self._is_probing = False
        self._recent.clear()  # what failed before says nothing about now
        self._failures = 0
        return now_s - self._failing_since_s

    def suspect_wait_s(self, now_s: float, others: int) -> float:
        """Seconds until a call may start although the last ones failed; 0 starts it."""
        if not self.is_suspect or not others:
            return 0.0
        if now_s < self._suspect_at_s:
            return self._suspect_at_s - now_s
        self._suspect_at_s = now_s + SUSPECT_PACE_S
        return 0.0

    def probe_wait_s(self, now_s: float) -> float:
        """Seconds until the next probe may start; 0 starts it. Infinite while one is on its way."""
        if self._is_probing:
            return float("inf")
        if now_s < self._probe_at_s:
            return self._probe_at_s - now_s
        self._is_probing = True
        self.probes += 1
        return 0.0

    def probe_ignored(self) -> None:
        """The probe said nothing about the endpoint; another may go at once."""
        self._is_probing = False

    def down_s(self, now_s: float) -> float:
        """How long nothing has succeeded; 0 while closed."""
        return now_s - self._failing_since_s if self.is_open else 0.0

    def _remember(self, is_failure: bool) -> None:
        if len(self._recent) == REMEMBERED:
            self._failures -= self._recent[0]
        self._recent.append(is_failure)
        self._failures += is_failure
