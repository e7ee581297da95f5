"""Embeddings: many texts per call, vectors in any wire form back in their order. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.decoding import decode
from pipeline.endpoints.bodies import from_body, from_lenient_body, to_body
from pipeline.endpoints.failures import is_success, refused, unusable
from pipeline.endpoints.spec import EndpointSpec
from pipeline.endpoints.text import label
from pipeline.endpoints.usage import distribute, read_usage
from pipeline.errors import ErrorCode
from pipeline.records import Batch, Failure, HttpRequest, HttpResponse, Outcome, RowError
from pipeline.vectors import EmbeddingContract, Matrix, Norms, check, is_normalized, normalize, norms

_NO_INDEX = object()


class _WrongCount(ValueError):
    """Not exactly one vector per text."""


@dataclass(frozen=True, slots=True)
class EmbeddingsEndpoint:
    """`POST /embeddings`, or the same body to a Databricks serving endpoint."""

    url: str
    fixed: Mapping[str, Any]  # model and parameters
    contract: EmbeddingContract

    def build(self, batch: Batch) -> HttpRequest:
        """The call for the batch; a single text travels as a list too."""
        return HttpRequest(self.url, to_body({**self.fixed, "input": [request.text for request in batch.requests]}))

    def parse(self, batch: Batch, response: HttpResponse) -> list[Outcome] | Failure:
        """One outcome per request, in batch order, or why the call as a whole gave none.

        `response` is float32, shape (dimensions,), a view of the batch's matrix; `norm` and `is_normalized` describe it
        as it lands. Servers may answer out of order: sorted by `index`. A vector that breaks the contract is its own
        row's error, also one that holds the NaN that JSON does not know. A wrong count fails the call, since nothing
        says which text is missing. The call's usage is shared out by the estimates, so that the rows' sums are the
        call's.
        Source: OpenAI API reference, "Create embeddings".
        """
        if not is_success(response):
            return refused(batch, response)
        try:
            answer = from_body(response.body)
        except ValueError as exc:
            try:
                answer = from_lenient_body(response.body)
            except ValueError:
                return unusable(batch, response, f"not JSON: {exc}")
        usage = read_usage(answer)
        try:
            values = _in_order(answer, len(batch))
            matrix, fits = decode(values, self.contract.dimensions)
        except _WrongCount as exc:
            return unusable(batch, response, str(exc), answer=answer, code=ErrorCode.WRONG_COUNT, usage=usage)
        except ValueError as exc:
            return unusable(batch, response, str(exc), answer=answer, usage=usage)
        shares = distribute(usage, [request.input_tokens for request in batch.requests])
        model = label(answer.get("model"))
        codes, matrix, lengths, unit = self._measured(matrix, fits, model)
        outcomes = [
            Outcome(request.request_id, vector, None, share, None, model, norm, is_unit)
            for request, vector, share, norm, is_unit in zip(batch.requests, matrix, shares, lengths, unit, strict=True)
        ]
        for row, code in enumerate(codes):
            if code is not None:
                error = RowError(code, self._why(code, values[row], lengths[row], model), 200)
                outcomes[row] = outcomes[row]._replace(response=None, error=error)
        return outcomes

    def _measured(
        self, matrix: Matrix, fits: Sequence[bool], model: str | None
    ) -> tuple[list[ErrorCode | None], Matrix, Sequence[float | None], Sequence[bool | None]]:
        """Per row: how it breaks the contract, the vector to land, its norm, and whether that is 1 where it is judged."""
        contract = self.contract
        row_norms: Norms = norms(matrix)
        codes = check(matrix, contract, row_norms)
        if not all(fits) or not matrix.shape[1]:
            for row, fit in enumerate(fits):
                if not fit or not matrix.shape[1]:
                    codes[row] = ErrorCode.WRONG_DIMENSIONS
        if contract.model is not None and model != contract.model:
            codes = [ErrorCode.WRONG_MODEL] * len(codes)
        if contract.truncate_to is not None and contract.truncate_to <= matrix.shape[1]:
            matrix = normalize(np.ascontiguousarray(matrix[:, : contract.truncate_to]))
            row_norms = norms(matrix)
            for row in np.flatnonzero(row_norms == 0.0).tolist():
                codes[row] = codes[row] or (ErrorCode.ZERO_VECTOR if contract.non_zero else None)
        if contract.normalization == "normalize":
            matrix = normalize(matrix, row_norms)
            row_norms = norms(matrix)
        is_judged = contract.normalization != "off"
        unit = is_normalized(row_norms, contract.tolerance).tolist() if is_judged else [None] * len(codes)
        if all(fits) and np.isfinite(row_norms).all():
            return codes, matrix, row_norms.tolist(), unit
        is_known = [fit and math.isfinite(norm) for fit, norm in zip(fits, row_norms.tolist(), strict=True)]
        lengths = [norm if known else None for norm, known in zip(row_norms.tolist(), is_known, strict=True)]
        return codes, matrix, lengths, [flag if known else None for flag, known in zip(unit, is_known, strict=True)]

    def _why(self, code: ErrorCode, value: Any, norm: float | None, model: str | None) -> str:
        if code is ErrorCode.WRONG_MODEL:
            return f"asked for {self.contract.model}, answered by {model or 'a model that the answer does not name'}"
        if code is ErrorCode.WRONG_DIMENSIONS:
            found = len(value) if isinstance(value, list) else len(value.rstrip("=")) * 3 // 16
            least = self.contract.truncate_to
            if self.contract.dimensions is None and least is not None and found < least:
                return f"{found} dimensions, expected at least {least}, which truncate_to keeps"
            wanted = self.contract.dimensions or "as many as most of the batch"
            return f"{found} dimensions, expected {wanted}"
        if code is ErrorCode.NOT_NORMALIZED:
            return f"norm {norm:.6g} is not within {self.contract.tolerance:g} of 1"
        if code is ErrorCode.ZERO_VECTOR:
            return "every number of the vector is zero"
        return "the vector holds NaN, an infinity, or a number beyond what its type holds"


def open_embeddings(spec: EndpointSpec) -> EmbeddingsEndpoint:
    """The embeddings endpoint that the spec describes."""
    return EmbeddingsEndpoint(
        url=spec.url("/embeddings"), fixed=spec.fixed_fields(), contract=spec.contract or EmbeddingContract()
    )


def _in_order(answer: Any, count: int) -> list[Any]:
    """The embeddings as they travelled, sorted by `index`; in the server's order where no item has one."""
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, list):
        raise ValueError("no data in the answer")
    if not all(isinstance(item, dict) for item in data):
        raise ValueError("an item of data is no object")
    if len(data) != count:
        raise _WrongCount(f"{len(data)} vectors for {count} texts")
    indices = [item.get("index", _NO_INDEX) for item in data]
    values = [item.get("embedding") for item in data]
    if all(index is _NO_INDEX or index is None for index in indices):
        return values
    if any(type(index) is not int for index in indices) or sorted(indices) != list(range(count)):
        raise _WrongCount(f"the indices of {count} vectors are not 0 to {count - 1}, each once")
    ordered = [None] * count
    for index, value in zip(indices, values, strict=True):
        ordered[index] = value
    return ordered
