"""32 fixed texts, embedded when a run begins: a model that was changed is noticed before two spaces mix in one table.

Their calls are journaled, billed and accounted like those of rows, in a bucket of their own.
"""

import os
import uuid
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import orjson
import pyarrow as pa

from pipeline.journal import BucketJournal, JournalTotals, journal_totals
from pipeline.long_texts import LongTexts
from pipeline.storage import Store
from pipeline.vectors import CONTRACT_CODES, EmbeddingContract, Matrix, norms
from pipeline.worker import run_partition
from pipeline.worker_plan import Plan

BUCKET = 999_999  # no job has so many
# The same request gives the same number, or nearly: servers that batch differently differ in the last bits.
_NORM_SHARE = 0.01

TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "Copy the contents of a file to another file.",
    "How do I reset my password?",
    "Quarterly revenue rose by 12 % to 4.3 billion euros.",
    "She sells sea shells by the sea shore.",
    "def add(a, b):\n    return a + b",
    "SELECT name, count(*) FROM orders GROUP BY name",
    "E = mc^2",
    "The patient has had a dry cough and a fever of 39 degrees for three days.",
    "A contract is void if one of the parties was under duress.",
    "Boil the pasta for nine minutes, then drain it and add the sauce.",
    "It was the best of times, it was the worst of times.",
    "Paris is the capital of France.",
    "Water freezes at zero degrees Celsius.",
    "This product broke after two days, I want my money back!",
    "I love this phone, the camera is amazing.",
    "Der schnelle braune Fuchs springt über den faulen Hund.",
    "Où se trouve la gare la plus proche ?",
    "¿Cuánto cuesta este libro?",
    "東京は日本の首都です。",
    "今天天气很好。",
    "Быстрая коричневая лиса прыгает через ленивую собаку.",
    "مرحبا بالعالم",
    "안녕하세요",
    "hello",
    "0",
    "3.14159265358979",
    "2026-11-21T14:55:00Z",
    "user@example.com",
    "https://example.com/a/b?c=d#e",
    "🦊 jumps over 🐶",
    "To be, or not to be, that is the question: whether 'tis nobler in the mind to suffer the slings and arrows of "
    "outrageous fortune, or to take arms against a sea of troubles, and by opposing end them.",
)

_WAYS = (
    "Nothing was landed, since distances between two models mean nothing: take another [sink], embed all "
    'rows anew with [job] mode = "overwrite", or accept it with [embedding] drift = "warn"'
)


@dataclass(frozen=True, slots=True)
class Canary:
    """What the fixed texts got in one run."""

    run_id: str
    model: str | None
    vectors: Matrix  # shape (32, dimensions)

    def to_json(self) -> bytes:
        """For the state folder."""
        data = b64encode(np.ascontiguousarray(self.vectors, "<f4").tobytes()).decode()
        shape = list(self.vectors.shape)
        return orjson.dumps({"run_id": self.run_id, "model": self.model, "shape": shape, "vectors": data})

    @staticmethod
    def from_json(data: bytes) -> "Canary":
        """The inverse of `to_json`."""
        read = orjson.loads(data)
        vectors = np.frombuffer(b64decode(read["vectors"]), "<f4").reshape(read["shape"])
        return Canary(read["run_id"], read["model"], vectors)


def differences(before: Canary, now: Canary, least_cosine: float) -> list[str]:
    """In what the vectors of now are not those of before, as clauses; empty where they are the same space."""
    found = []
    if before.model != now.model:
        found.append(f"the model that answers was {before.model} and is {now.model}")
    if before.vectors.shape != now.vectors.shape:
        found.append(f"vectors had {before.vectors.shape[1]} dimensions and have {now.vectors.shape[1]}")
        return found
    was, is_now = norms(before.vectors), norms(now.vectors)
    if abs(is_now.mean() - was.mean()) > _NORM_SHARE * was.mean():
        found.append(f"their mean norm was {was.mean():.4g} and is {is_now.mean():.4g}")
    products = np.einsum("ij,ij->i", before.vectors, now.vectors, dtype=np.float64)
    cosines = products / np.maximum(was * is_now, np.finfo(np.float64).tiny)
    worst = int(cosines.argmin())
    if cosines[worst] < least_cosine:
        found.append(
            f"{int((cosines < least_cosine).sum())} of {len(TEXTS)} fixed texts moved: the cosine of {TEXTS[worst][:40]!r} "
            f"to its vector of before is {cosines[worst]:.4f}"
        )
    return found


@dataclass(slots=True)
class DriftGate:
    """Stands before a run's first call for rows; opened once."""

    state: Store
    journal: str
    run_id: str
    earlier_runs: Sequence[str]  # that landed rows of which this run's will stand beside, oldest first
    action: Literal["stop", "warn"]
    least_cosine: float
    notes: list[str] = field(default_factory=list)
    _refusal: str | None = None
    _is_asked: bool = False

    def refusal(self, plan: Plan) -> str | None:
        """Why no row may be asked; None where they may. Asks the fixed texts the first time."""
        if not self._is_asked:
            self._is_asked = True
            self._refusal = self._ask(plan)
        return self._refusal

    def _ask(self, plan: Plan) -> str | None:
        now = self._embedded(plan)
        if isinstance(now, str):
            self.notes.append(f"the {len(TEXTS)} fixed texts that tell whether the model changed got no vectors: {now}")
            before = self._before()
            if before is None or now not in CONTRACT_CODES or self.action == "warn":
                return None  # the rows will say why
            return f"the fixed texts had vectors in run {before.run_id} and now end as {now}. {_WAYS}"
        self.state.write_atomic(_file(self.run_id), now.to_json())
        before = self._before()
        if before is None:
            return None
        found = differences(before, now, self.least_cosine)
        if not found:
            return None
        text = f"the vectors are not those of run {before.run_id}: {'; '.join(found)}"
        if self.action == "warn":
            self.notes.append(f'{text}; [embedding] drift = "warn" lets both into one table')
            return None
        return f"{text}. {_WAYS}"

    def _before(self) -> Canary | None:
        for run_id in reversed(self.earlier_runs):
            found = self.state.find(_file(run_id))
            if found is not None:
                return Canary.from_json(found)
        return None

    def _embedded(self, plan: Plan) -> Canary | str:
        """Or why some text got no vector, as an error code. A changed model or dimension is for the comparison to tell."""
        identity = {**plan.prompt.identity, "canary": self.run_id}  # asked anew by each run, replayed within one
        prompt = replace(plan.prompt, template="{{ text }}", identity=identity, long_texts=LongTexts())
        contract = replace(plan.endpoint.contract or EmbeddingContract(), model=None, dimensions=None)
        endpoint = replace(plan.endpoint, contract=contract)
        plan = replace(
            plan,
            prompt=prompt,
            endpoint=endpoint,
            prefix="",
            vectors="float",
            max_error_ratio=None,
            on_unfinished="drop",
        )
        journal = BucketJournal.open(
            self.state, self.journal, BUCKET, run_id=self.run_id, attempt=f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
        )
        try:
            batch = pa.RecordBatch.from_pydict({"place": list(range(len(TEXTS))), "text": list(TEXTS)})
            rows = [row for part in run_partition([batch], plan, log=journal) for row in part.to_pylist()]
        finally:
            journal.close()
        failed = [row["error"]["code"] for row in rows if row["error"] is not None]
        lengths = {len(row["response"]) for row in rows if row["error"] is None}
        if len(rows) < len(TEXTS) or failed or len(lengths) != 1:
            return failed[0] if failed else "not attempted" if len(rows) < len(TEXTS) else "vectors of several lengths"
        rows.sort(key=lambda row: int(row["place"]))
        return Canary(self.run_id, rows[0]["model"], np.array([row["response"] for row in rows], np.float32))


def canary_totals(state: Store, journal: str) -> JournalTotals:
    """What the fixed texts of all runs cost."""
    return journal_totals(state, f"{journal}/{BUCKET:06d}")


def _file(run_id: str) -> str:
    return f"canaries/{run_id}.json"
