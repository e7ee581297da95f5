"""The table of all faults, and which call gets which: by a marker in its text, else by a seeded share. Pure."""

import re
from collections import Counter
from collections.abc import Mapping
from random import Random

from pipeline.records import Task
from pipeline.simulator.bill import text_digest
from pipeline.simulator.breaks import BREAKS, Break
from pipeline.simulator.calls import Call, Refused
from pipeline.simulator.refusals import REFUSALS, Refusal
from pipeline.simulator.spoils import SPOILS, Spoil
from pipeline.simulator.wire import error

Fault = Refusal | Spoil | Break

FAULTS: Mapping[str, Fault] = {**REFUSALS, **SPOILS, **BREAKS}

_MARKER = re.compile(r"\[\[fault:([a-z0-9_]+)(?::(\d+))?\]\]")


def marker(name: str, attempts: int | None = None) -> str:
    """The text that makes every call with it fail, or only its first `attempts`."""
    return f"[[fault:{name}]]" if attempts is None else f"[[fault:{name}:{attempts}]]"


def applies_to(fault: Fault, task: Task) -> bool:
    """False where the fault has no meaning, as a wrong dimension in a chat answer."""
    return not isinstance(fault, Spoil) or task in fault.tasks


def check_shares(shares: Mapping[str, float]) -> None:
    """Raises ValueError for an unknown fault, a share outside 0..1, or shares that sum to more than 1."""
    if unknown := sorted(set(shares) - set(FAULTS)):
        raise ValueError(f"unknown faults {unknown}; known: {', '.join(FAULTS)}")
    if any(not isinstance(share, int | float) or not 0 <= share <= 1 for share in shares.values()):
        raise ValueError(f"a fault's share lies between 0 and 1, got {dict(shares)}")
    if sum(shares.values()) > 1 + 1e-9:
        raise ValueError(f"the shares of all faults sum to at most 1, got {sum(shares.values())}")


class FaultPicker:
    """Chooses by text and by seed: the k-th unmarked call gets the same fault for the same seed and shares."""

    def __init__(self, shares: Mapping[str, float], seed: int) -> None:
        self._random = Random(seed)  # noqa: S311 - not a secret
        self._attempts: Counter[str] = Counter()  # digest of a marked text -> times it came
        self.set_shares(shares)

    def set_shares(self, shares: Mapping[str, float]) -> None:
        """Other shares from now on. Raises ValueError as `check_shares` does."""
        check_shares(shares)
        self._shares = dict(shares)

    def pick(self, call: Call) -> str | None:
        """The name of this call's fault. Raises Refused where a marker names none that applies."""
        if call.has_marker and (marked := self._marked(call)):
            return marked
        if not self._shares:
            return None
        drawn = self._random.random()
        for name, share in self._shares.items():
            drawn -= share
            if drawn < 0:
                return name if applies_to(FAULTS[name], call.task) else None
        return None

    def _marked(self, call: Call) -> str | None:
        """The first marker still in force, over all texts; every marked text counts this attempt."""
        chosen = None
        for text in call.texts:
            markers = _MARKER.findall(text)
            if not markers:
                continue
            digest = text_digest(text)
            self._attempts[digest] += 1
            for name, attempts in markers:
                if name not in FAULTS or not applies_to(FAULTS[name], call.task):
                    raise Refused(
                        error(call.api, 400, f"no fault {name!r} for {call.task}; known: {', '.join(FAULTS)}")
                    )
                if chosen is None and (not attempts or self._attempts[digest] <= int(attempts)):
                    chosen = name
        return chosen
