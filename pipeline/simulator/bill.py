"""The simulator's own count of what it was asked, what it answered and what it would charge. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from hashlib import sha256
from typing import Any, Literal

from pipeline.simulator.admission import LimitUse

Result = Literal["answer", "useless", "refused", "unknown"]


def text_digest(text: str) -> str:
    """SHA-256, hex, of a prompt or text, as `texts` counts them. A prompt is its messages' texts, one per line."""
    return sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Bill:
    """Counts since the start or the last reset; `requests` = answers + useless + refused + unknown + in_flight."""

    requests: int = 0
    answers: int = 0  # 200 with a usable result
    useless: int = 0  # 200 without one
    unknown: int = 0  # the connection broke on purpose, or before the request was whole
    undelivered: int = 0  # of the answers: the client had left before; billed all the same
    inputs: int = 0  # prompts or texts in all answers that were billed
    input_tokens: int = 0  # billed
    output_tokens: int = 0  # billed
    in_flight: int = 0
    peak_in_flight: int = 0
    in_outage: int = 0  # requests that came while the endpoint was away
    refused: Mapping[int, int] = field(default_factory=dict)  # status -> times
    faults: Mapping[str, int] = field(default_factory=dict)  # injected, name -> times
    runs: Mapping[str, "Bill"] = field(default_factory=dict)  # by header x-client-run; "default" without one
    answers_per_second: tuple[int, ...] = ()  # since the first answer
    limits: Mapping[str, LimitUse] = field(default_factory=dict)  # limit -> what was used of it; of the whole

    def to_json(self) -> dict[str, Any]:
        """As `GET /bill` answers; JSON's keys are strings."""
        document = asdict(self)
        document["refused"] = {str(status): times for status, times in self.refused.items()}
        document["runs"] = {name: run.to_json() for name, run in self.runs.items()}
        document["limits"] = {name: use.to_json() for name, use in self.limits.items()}
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Bill":
        """The inverse of `to_json`."""
        values = {item.name: document[item.name] for item in fields(cls)}
        values["refused"] = {int(status): times for status, times in document["refused"].items()}
        values["runs"] = {name: cls.from_json(run) for name, run in document["runs"].items()}
        values["answers_per_second"] = tuple(document["answers_per_second"])
        values["limits"] = {name: LimitUse.from_json(use) for name, use in document["limits"].items()}
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Texts:
    """How often each text digest came in, and how often it was paid for. Empty unless `log_requests` is on."""

    received: Mapping[str, int]
    bought: Mapping[str, int]


@dataclass(slots=True)
class Tally:
    """The running counts of one client run."""

    requests: int = 0
    answers: int = 0
    useless: int = 0
    unknown: int = 0
    undelivered: int = 0
    inputs: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    in_flight: int = 0
    peak_in_flight: int = 0
    in_outage: int = 0
    refused: Counter[int] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    seconds: Counter[int] = field(default_factory=Counter)  # whole second of the loop's clock -> answers

    def opened(self) -> None:
        """A request begins."""
        self.requests += 1
        self.in_flight += 1
        if self.in_flight > self.peak_in_flight:
            self.peak_in_flight = self.in_flight

    def charged(self, inputs: int, input_tokens: int, output_tokens: int) -> None:
        """Work was done for it."""
        self.inputs += inputs
        self.input_tokens += input_tokens
        self.output_tokens += output_tokens

    def closed(self, result: Result, status: int, now_s: float) -> None:
        """It ended."""
        self.in_flight -= 1
        if result == "answer":
            self.answers += 1
            self.seconds[int(now_s)] += 1
            if len(self.seconds) > _KEPT_S:
                del self.seconds[min(self.seconds)]
        elif result == "useless":
            self.useless += 1
        elif result == "refused":
            self.refused[status] += 1
        else:
            self.unknown += 1

    def to_bill(self) -> Bill:
        """A frozen copy."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        seconds = _by_second(values.pop("seconds"))
        shown = {"refused": dict(self.refused), "faults": dict(self.faults), "answers_per_second": seconds}
        return Bill(**{**values, **shown})


_KEPT_S = 7200  # of the answers by second
_SUMMED = tuple(
    item.name for item in fields(Tally) if item.name not in ("peak_in_flight", "refused", "faults", "seconds")
)


class Ledger:
    """All tallies. A request that spans a reset is counted where it began, so no count goes below zero."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start at zero."""
        self._runs: dict[str, Tally] = {}
        self._peak_in_flight = 0
        self.received: Counter[str] = Counter()
        self.bought: Counter[str] = Counter()

    def open(self, run: str) -> Tally:
        """A request of a client run begins; its tally."""
        found = self._runs.get(run)
        if found is None:
            found = self._runs[run] = Tally()
        found.opened()
        in_flight = sum([tally.in_flight for tally in self._runs.values()])
        if in_flight > self._peak_in_flight:
            self._peak_in_flight = in_flight
        return found

    def log(self, counter: Counter[str], texts: Iterable[str]) -> None:
        """Count the digests of these texts."""
        counter.update(map(text_digest, texts))

    def to_bill(self) -> Bill:
        """Totals and one bill per run."""
        runs = {name: tally.to_bill() for name, tally in self._runs.items()}
        sums = {name: sum(getattr(run, name) for run in runs.values()) for name in _SUMMED}
        refused: Counter[int] = Counter()
        faults: Counter[str] = Counter()
        answers: Counter[int] = Counter()
        for tally in self._runs.values():
            answers.update(tally.seconds)
        for run in runs.values():
            refused.update(run.refused)
            faults.update(run.faults)
        return Bill(
            **sums,
            peak_in_flight=self._peak_in_flight,
            refused=dict(refused),
            faults=dict(faults),
            runs=runs,
            answers_per_second=_by_second(answers),
        )


def _by_second(answers: Counter[int]) -> tuple[int, ...]:
    if not answers:
        return ()
    last = max(answers)
    return tuple(answers[second] for second in range(max(min(answers), last - _KEPT_S), last + 1))
