"""Custom models behind a Databricks serving endpoint: many records per call, one prediction each. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from pipeline.endpoints.bodies import from_body, to_body
from pipeline.endpoints.failures import is_success, refused, unusable
from pipeline.endpoints.spec import EndpointSpec
from pipeline.endpoints.text import storable
from pipeline.endpoints.usage import distribute, read_usage
from pipeline.errors import ErrorCode
from pipeline.records import Batch, Failure, HttpRequest, HttpResponse, Outcome


class _WrongCount(ValueError):
    """Not exactly one prediction per record."""


@dataclass(frozen=True, slots=True)
class CustomEndpoint:
    """`POST /serving-endpoints/{name}/invocations`; each request's `text` is its record as JSON."""

    url: str
    params: Mapping[str, Any]  # the endpoint's parameters, sent as `params`

    def build(self, batch: Batch) -> HttpRequest:
        """Objects travel as `dataframe_split`, which keeps the order of the columns, anything else as `inputs`."""
        records = [orjson.loads(request.text or "null") for request in batch.requests]
        body: dict[str, Any] = {"params": self.params} if self.params else {}
        if all(isinstance(record, dict) and record.keys() == records[0].keys() for record in records):
            columns = list(records[0])
            body["dataframe_split"] = {"columns": columns, "data": [[row[name] for name in columns] for row in records]}
        else:
            body["inputs"] = records
        return HttpRequest(self.url, to_body(body))

    def parse(self, batch: Batch, response: HttpResponse) -> list[Outcome] | Failure:
        """One outcome per request, in batch order, or why the call as a whole gave none.

        `response` is the prediction: a string as it is, anything else as JSON text. Predictions come as a list, or as an
        object of equally long lists, which is a table by columns. A wrong count fails the call.
        Source: Databricks, "Query serving endpoints for custom models"; wire_formats 1.10.
        """
        if not is_success(response):
            return refused(batch, response)
        try:
            answer = from_body(response.body)
        except ValueError as exc:
            return unusable(batch, response, f"not JSON: {exc}")
        usage = read_usage(answer)
        try:
            predictions = _predictions(answer, len(batch))
        except _WrongCount as exc:
            return unusable(batch, response, str(exc), answer=answer, code=ErrorCode.WRONG_COUNT, usage=usage)
        except ValueError as exc:
            return unusable(batch, response, str(exc), answer=answer, usage=usage)
        shares = distribute(usage, [request.input_tokens for request in batch.requests])
        return [
            Outcome(request_id=request.request_id, response=_text(prediction), usage=share)
            for request, prediction, share in zip(batch.requests, predictions, shares, strict=True)
        ]


def open_custom(spec: EndpointSpec) -> CustomEndpoint:
    """The endpoint of the custom model that the spec describes."""
    return CustomEndpoint(url=spec.url("/invocations"), params=dict(spec.parameters))


def _predictions(answer: Any, count: int) -> list[Any]:
    predictions = answer.get("predictions") if isinstance(answer, dict) else None
    if isinstance(predictions, dict):
        columns = list(predictions.values())
        if columns and all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
            predictions = [dict(zip(predictions, row, strict=True)) for row in zip(*columns, strict=True)]
        else:
            predictions = [predictions]
    if not isinstance(predictions, list):
        raise ValueError("no predictions in the answer")
    if len(predictions) != count:
        raise _WrongCount(f"{len(predictions)} predictions for {count} records")
    return predictions


def _text(prediction: Any) -> str:
    return storable(prediction if isinstance(prediction, str) else orjson.dumps(prediction).decode())
