"""From any body to the columns of a table: nothing raises, and every vector that lands is finite and whole."""

import random
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from pipeline.columns import ResultShape, to_arrow
from pipeline.endpoints import EndpointSpec, open_endpoint
from pipeline.engine import read
from pipeline.errors import ErrorCode
from pipeline.records import Batch, Failure, HttpResponse, Outcome, Request, Task
from pipeline.vector_types import LARGEST, SCALED, VectorType, from_column
from pipeline.vectors import EmbeddingContract, is_normalized, norms
from tests.fuzz.bodies import DIMENSIONS, TEXTS, bodies

BATCH = Batch(tuple(Request(f"r{at}", text=f"text {at}", input_tokens=at + 1) for at in range(TEXTS)))
ROWS_AT_ONCE = 300
# Of the bodies; what they say may be anything there too.
_ERROR_SHARE = 0.05
_ERROR_STATUSES = (400, 401, 404, 413, 422, 429, 500, 503, 529)


@dataclass(slots=True)
class Case:
    """A contract, a type of the table, and the outcomes that are to land under them."""

    contract: EmbeddingContract
    kind: VectorType = "float"
    numbers: int = DIMENSIONS  # of a vector in the table
    is_unit: bool = False
    landing: list[Outcome] = field(default_factory=list)


def cases() -> list[Case]:
    """One of each kind; fresh ones."""
    fixed = DIMENSIONS
    return [
        Case(EmbeddingContract(dimensions=fixed)),
        Case(EmbeddingContract("normalize", dimensions=fixed), is_unit=True),
        Case(EmbeddingContract("require", dimensions=fixed), is_unit=True),
        Case(EmbeddingContract("off", dimensions=fixed)),
        Case(EmbeddingContract(dimensions=fixed), "double"),
        Case(EmbeddingContract(dimensions=fixed, largest=LARGEST["float16"]), "float16"),
        Case(EmbeddingContract(dimensions=fixed), "int8"),
        Case(EmbeddingContract(dimensions=fixed), "bits", numbers=8),
        Case(EmbeddingContract(truncate_to=2), numbers=2, is_unit=True),
    ]


class Checker:
    """Counts what became of the bodies; AssertionError names a body that did harm."""

    def __init__(self) -> None:
        self.vectors = self.row_errors = self.failures = 0
        self.codes: Counter[str] = Counter()

    def add(self, other: "Checker") -> None:
        """What another one has counted."""
        self.vectors += other.vectors
        self.row_errors += other.row_errors
        self.failures += other.failures
        self.codes += other.codes

    def run(self, seed: int, count: int) -> None:
        """`count` bodies of the seed, each under one of the cases."""
        chooser = random.Random(seed)
        opened = [(case, _open(case.contract)) for case in cases()]
        for place, body in enumerate(bodies(seed, count)):
            case, endpoint = opened[place % len(opened)]
            status = 200 if chooser.random() >= _ERROR_SHARE else chooser.choice(_ERROR_STATUSES)
            result = read(endpoint, BATCH, HttpResponse(status, body))
            if isinstance(result, Failure):
                self.failures += 1
                self.codes[result.code] += 1
                assert result.code is not ErrorCode.INTERNAL, f"the parser broke on {body!r}: {result.message}"
                assert len(result.message) <= 500, body
                result.message.encode()  # a table and a journal hold no lone surrogates
                continue
            assert status == 200, body
            assert [outcome.request_id for outcome in result] == ["r0", "r1", "r2"], body
            case.landing.extend(result)
            if len(case.landing) >= ROWS_AT_ONCE:
                self._land(case)
        for case, _ in opened:
            self._land(case)

    def _land(self, case: Case) -> None:
        outcomes, case.landing = case.landing, []
        table = to_arrow(outcomes, ResultShape(Task.EMBEDDING, vectors=case.kind), "run")
        table.validate(full=True)
        landed = table.filter(table.column("response").is_valid())
        scales = landed.column("scale") if case.kind in SCALED else None
        matrix = from_column(landed.column("response"), case.kind, scales)
        assert landed.num_rows == 0 or matrix.shape == (landed.num_rows, case.numbers), outcomes
        assert np.isfinite(matrix).all(), outcomes
        assert not case.is_unit or is_normalized(norms(matrix), case.contract.tolerance).all(), outcomes
        self.vectors += landed.num_rows
        self.row_errors += len(outcomes) - landed.num_rows
        self.codes.update(str(outcome.error.code) for outcome in outcomes if outcome.error is not None)


def _open(contract: EmbeddingContract):
    return open_endpoint(EndpointSpec(Task.EMBEDDING, "m", "openai", "http://127.0.0.1:1/v1", contract=contract))
