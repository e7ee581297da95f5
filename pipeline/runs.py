"""The run sequence: numbers handed out durably before a run, so that a landing can be told from its repetition."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Literal

import orjson

from pipeline.errors import StateError
from pipeline.storage import Store

Status = Literal["running", "landed", "partial", "failed", "abandoned"]


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run of a job. `sequence` grows by one with each; a run that never landed hands its number on."""

    sequence: int
    run_id: str
    fingerprint: str
    status: Status
    started_at_s: float
    ended_at_s: float | None = None


class RunBook:
    """`runs/<sequence>.json` in the state folder."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    def records(self) -> list[RunRecord]:
        """All runs, oldest first."""
        names = sorted(
            name for name, _, _ in self._store.list("runs") if name.endswith(".json") and name.count("/") == 1
        )
        return [RunRecord(**orjson.loads(self._store.read(name))) for name in names]

    def begin(self, run_id: str | None, fingerprint: str, has_landed: Callable[[RunRecord], bool]) -> RunRecord:
        """The record of this run. Its status is `landed` where a run of this id has landed before: nothing is to do.

        `has_landed` asks the table about a run that died after its commit and before it could say so here. A run that
        died before its commit is continued under its own number, so that a commit that did arrive is never repeated.
        """
        records = [self._settled(record, has_landed) for record in self.records()]
        if run_id is not None:
            for record in records:
                if record.run_id == run_id and record.status == "landed":
                    return record
        last = records[-1] if records else None
        if last is not None and last.status == "running":
            if run_id in (None, last.run_id) and last.fingerprint == fingerprint:
                return self._write(replace(last, started_at_s=self._clock()))
            self._write(replace(last, status="abandoned", ended_at_s=self._clock()))
        sequence = (last.sequence if last is not None else 0) + 1
        now = self._clock()
        name = run_id or f"r{sequence:04d}-{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%S}"
        if any(record.run_id == name and record.status in ("landed", "partial") for record in records):
            name = f"{name}-{sequence}"  # a part landed under this name; what is added has its own
        record = RunRecord(sequence, name, fingerprint, "running", now)
        if not self._store.put_if_absent(_file(sequence), orjson.dumps(asdict(record))):
            raise StateError(f"run {sequence} was handed out to another driver at this moment; start again")
        return record

    def end(self, record: RunRecord, status: Status) -> RunRecord:
        """Writes how the run ended."""
        return self._write(replace(record, status=status, ended_at_s=self._clock()))

    def _settled(self, record: RunRecord, has_landed: Callable[[RunRecord], bool]) -> RunRecord:
        if record.status == "running" and has_landed(record):
            return self._write(replace(record, status="landed", ended_at_s=self._clock()))
        return record

    def _write(self, record: RunRecord) -> RunRecord:
        self._store.write_atomic(_file(record.sequence), orjson.dumps(asdict(record)))
        return record


def _file(sequence: int) -> str:
    return f"runs/{sequence:08d}.json"
