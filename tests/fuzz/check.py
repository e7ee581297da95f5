"""From any body to the columns of a table: nothing raises, and every vector that lands is finite and whole."""

import itertools
from collections import Counter

import numpy as np

from pipeline.columns import ResultShape, to_arrow
from pipeline.endpoints import EndpointSpec, open_endpoint
from pipeline.engine import read
from pipeline.errors import ErrorCode
from pipeline.records import Batch, Failure, HttpResponse, Outcome, Request, Task
from pipeline.vectors import EmbeddingContract
from tests.fuzz.bodies import DIMENSIONS, TEXTS, bodies

BATCH = Batch(tuple(Request(f"r{at}", text=f"text {at}", input_tokens=at + 1) for at in range(TEXTS)))
CONTRACTS = (
    EmbeddingContract(dimensions=DIMENSIONS),
    EmbeddingContract("normalize", dimensions=DIMENSIONS),
    EmbeddingContract("require", dimensions=DIMENSIONS),
    EmbeddingContract("off", dimensions=DIMENSIONS),
)
ROWS_AT_ONCE = 300


class Checker:
    """Counts what became of the bodies; AssertionError names a body that did harm."""

    def __init__(self) -> None:
        self.vectors = self.row_errors = self.failures = 0
        self.codes: Counter[str] = Counter()
        self._landed: list[Outcome] = []

    def run(self, seed: int, count: int) -> None:
        spec = EndpointSpec(Task.EMBEDDING, "m", "openai", "http://127.0.0.1:1/v1")
        endpoints = [
            open_endpoint(EndpointSpec(spec.task, spec.name, spec.api, spec.base_url, contract=contract))
            for contract in CONTRACTS
        ]
        for body, endpoint in zip(bodies(seed, count), itertools.cycle(endpoints), strict=False):
            result = read(endpoint, BATCH, HttpResponse(200, body))
            if isinstance(result, Failure):
                self.failures += 1
                self.codes[result.code] += 1
                assert result.code is not ErrorCode.INTERNAL, f"the parser broke on {body!r}: {result.message}"
                assert len(result.message) <= 500, body
                continue
            assert [outcome.request_id for outcome in result] == ["r0", "r1", "r2"], body
            self._landed.extend(result)
            if len(self._landed) >= ROWS_AT_ONCE:
                self._land()
        self._land()

    def _land(self) -> None:
        outcomes, self._landed = self._landed, []
        column = to_arrow(outcomes, ResultShape(Task.EMBEDDING), "run").column("response")
        vectors = np.asarray(column.flatten())
        landed = len(column) - column.null_count
        assert np.isfinite(vectors).all(), outcomes
        assert len(vectors) == landed * DIMENSIONS, outcomes
        self.vectors += landed
        self.row_errors += column.null_count
        self.codes.update(str(outcome.error.code) for outcome in outcomes if outcome.error is not None)
