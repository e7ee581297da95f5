"""How many calls at once an endpoint takes, found from its answers. Pure; time is an argument.

Additive increase, multiplicative decrease, judged by goodput: a cut that makes drops go away or leaves the successes
per second as they were stays; a cut that only costs successes is taken back, and the drops are tolerated as not ours.
Netflix's concurrency-limits is the model of the three signals; loss-based control is for clients (its README).
"""

import math
from enum import Enum

# An epoch has at least this many ends of calls, so that one drop is no verdict.
FEWEST_ENDS = 20
# A share of drops up to this is noise.
NOISE = 0.02
# A new limit after drops: a little below the last one without drops, or half where none is known.
BELOW_CLEAN = 0.95
HALF = 0.5
# The additive step, as a share of the limit, so that large limits recover in as many epochs as small ones.
STEP = 0.02
SLOW_START = 2.0
GENTLE_START = 1.5  # "grow by at most 50 %" (wire_formats 3.2, slow_down)
# Without a configured limit growth must pay: doubling that brings less than this has found the endpoint's plateau.
WORTH_IT = 1.15
HOLD_S = 20.0
# Epochs without drops between two steps up, at most: each step too far costs refusals.
MOST_PATIENCE = 8
# A limit that nobody configured starts here. An embedding call carries a hundred texts and more: 16 of them are two
# thousand rows on their way, as many as small servers take, and doubling finds the others within seconds.
FIRST_GUESS = 32
FIRST_EMBEDDING_GUESS = 16


class Signal(Enum):
    """What the end of a call says about the endpoint's load."""

    SUCCESS = "success"
    IGNORE = "ignore"  # the request's own fault, or nothing
    DROPPED = "dropped"  # refused or timed out: perhaps too much at once


class Aimd:
    """The limit that one worker keeps for one endpoint."""

    def __init__(self, ceiling: int, *, start: int | None = None) -> None:
        self.ceiling = ceiling
        self.limit = float(min(ceiling, start or ceiling))
        self.tolerated = 0.0  # the share of drops that does not depend on our load
        self._seeks_plateau = start is not None
        self._is_gentle = False
        self._is_slow_start = start is not None and start < ceiling
        self._clean: float | None = None  # the last limit that was used up without drops
        self._too_much: float | None = None  # the last limit that was too much
        self._patience = self._clean_epochs = 0  # clean epochs to wait before the next growth; those that passed
        self._grew_from: tuple[float, float] | None = None  # (limit, goodput) before the last growth
        self._cut_from: tuple[float, float, float] | None = None  # (limit, goodput, drops) before the first of the cuts
        self._hold_until_s = 0.0
        self._yield = 0.0  # goodput per slot in the last whole epoch
        self._latency_s: float | None = None
        self._epoch = 0
        self._since_s = 0.0
        self._started = self._ended = self._succeeded = self._dropped = self._peak = 0  # in this epoch

    def started(self, in_flight: int, now_s: float) -> int:
        """A call started; `in_flight` counts it. Gives the epoch that its end belongs to."""
        if not self._started:
            self._since_s = now_s
        self._started += 1
        if in_flight > self._peak:
            self._peak = in_flight
        return self._epoch

    def ended(self, signal: Signal, epoch: int, started_s: float, now_s: float) -> None:
        """A call ended. Calls that started under an older limit say nothing about this one."""
        if epoch != self._epoch:
            return
        self._ended += 1
        if signal is Signal.SUCCESS:
            self._succeeded += 1
            latency_s = now_s - started_s
            self._latency_s = latency_s if self._latency_s is None else 0.9 * self._latency_s + 0.1 * latency_s
        elif signal is Signal.DROPPED:
            self._dropped += 1
            # of those that started: refusals come back before answers do
            if self._dropped >= FEWEST_ENDS / 2 and 2 * self._dropped >= self._started:
                self._overrun(now_s)
                return
        if self._ended >= FEWEST_ENDS and self._ended >= self.limit:
            self._judge(now_s)

    def go_gently(self) -> None:
        """The provider asked for slower growth."""
        self._is_gentle = True

    def restart(self, limit: float) -> None:
        """After an outage, whose failures said nothing about load: from half of what worked before, doubling."""
        self._is_slow_start = True
        self._too_much = self._cut_from = self._grew_from = None
        self._patience = 0
        self._change(limit / 2)

    def _begin(self) -> None:
        self._epoch += 1
        self._started = self._ended = self._succeeded = self._dropped = self._peak = 0

    def _change(self, limit: float) -> None:
        self.limit = min(float(self.ceiling), max(1.0, limit))
        self._clean_epochs = 0
        self._begin()

    def _measured_s(self, now_s: float) -> float:
        """The part of the epoch whose calls had time to succeed; 0 while that says nothing."""
        if self._latency_s is None:
            return 0.0
        measured_s = now_s - self._since_s - self._latency_s
        return measured_s if measured_s >= self._latency_s / 2 else 0.0

    def _goodput(self, now_s: float) -> float:
        measured_s = self._measured_s(now_s)
        return self._succeeded / measured_s if measured_s else 0.0

    def _overrun(self, now_s: float) -> None:
        """Most calls are dropped: cut at once; refusals come faster than answers, so there is no time to measure."""
        share = self._dropped / self._started
        if self._is_noise(share):
            return
        if self._cut_from is None:
            self._cut_from = (self.limit, self._goodput(now_s) or self._yield * self.limit, share)
        if self.limit <= 1.0 or self._costs_only(now_s):
            self._tolerate(share)
        else:
            self._cut()

    def _judge(self, now_s: float) -> None:
        """Enough calls have ended; an epoch is over once successes could be measured."""
        if self._succeeded and not self._measured_s(now_s):
            return
        share = self._dropped / self._started
        self._yield = self._goodput(now_s) / self.limit
        if self._cut_from is None:
            if self._is_noise(share):
                self._grow(now_s)
            else:
                self._cut_from = (self.limit, self._goodput(now_s), share)
                self._cut()
        elif share < self._cut_from[2] / 2:  # the cut helped
            self._cut_from = None
            self._grow(now_s)
        elif self.limit <= 1.0 or self._costs_only(now_s):
            self._tolerate(share)
        else:
            self._cut()

    def _is_noise(self, share: float) -> bool:
        """Whether a share of drops is what chance alone brings in so few calls."""
        noise = max(NOISE, self.tolerated)
        return share <= noise + 2 * math.sqrt(noise / self._started)

    def _costs_only(self, now_s: float) -> bool:
        """Whether the cuts took successes and no drops: goodput fell nearly as far as the limit."""
        assert self._cut_from is not None
        before, goodput, _ = self._cut_from
        now = self._goodput(now_s)
        return 0 < now < goodput * (1 + self.limit / before) / 2

    def _tolerate(self, share: float) -> None:
        assert self._cut_from is not None
        before, _, share_before = self._cut_from
        self._cut_from = None
        self.tolerated = min(0.95, 1.5 * max(share, share_before) + NOISE)
        self._too_much = None
        self._change(before)

    def _cut(self) -> None:
        self._is_slow_start = False
        self._grew_from = None
        self._too_much = self.limit
        if self._clean is not None:
            below = BELOW_CLEAN * self._clean if self._clean >= FEWEST_ENDS else self._clean
            self._patience = min(MOST_PATIENCE, 2 * self._patience + 1)
        else:
            below = HALF * self.limit
        self._clean = None  # not twice: the endpoint may have shrunk
        self._change(min(below, self.limit - 1))

    def _grow(self, now_s: float) -> None:
        goodput = self._goodput(now_s)
        if self._peak < int(self.limit) or self.limit >= self.ceiling:
            self._begin()  # grows only when used
            return
        self._clean = self.limit
        self._clean_epochs += 1
        if self._is_beyond:
            self._patience = 0
        if self._seeks_plateau and self._grew_from is not None and goodput < WORTH_IT * self._grew_from[1]:
            self._is_slow_start = False
            self._hold_until_s = now_s + HOLD_S
            before, self._grew_from = self._grew_from[0], None
            self._change(before)
        elif now_s < self._hold_until_s or self._clean_epochs <= self._patience:
            self._begin()
        elif self._is_slow_start or self._hold_until_s:
            factor = GENTLE_START if self._is_gentle or self._hold_until_s else SLOW_START
            self._grew_from = (self.limit, goodput)
            self._hold_until_s = 0.0
            self._change(self.limit * factor)
        else:
            self._change(self.limit + self._step())

    @property
    def _is_beyond(self) -> bool:
        """Whether a limit that was too much no longer is: it had been another worker's calls that were in the way."""
        return self._too_much is not None and self.limit > self._too_much

    def _step(self) -> float:
        """Half way to what was too much, while that is far; then a little at a time; beyond it as far again each time."""
        step = max(1.0, STEP * self.limit)
        if self._too_much is None:
            return max(step, self.limit / 2)
        if self._is_beyond:
            return max(step, self.limit - self._too_much)
        if self._too_much > self.limit + 2 * step:
            return (self._too_much - self.limit) / 2
        return step
