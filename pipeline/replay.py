"""What the journal already answers: no call for it, the same parser as a live answer."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from pipeline.endpoints import Endpoint
from pipeline.engine import ExchangeLog
from pipeline.errors import Verdict
from pipeline.exchanges import read
from pipeline.journal import Entry
from pipeline.records import NO_USAGE, Batch, Exchange, Failure, Outcome, Request, RowError
from pipeline.retry import NOT_SENT, Attempts

RetryFailed = Literal["transient", "all", "none"]

# Exchanges that carry many rows are parsed once while their rows pass by.
PARSED_EXCHANGES = 64


class ResponseLog(ExchangeLog, Protocol):
    """A journal of one bucket."""

    def lookup(self, ids: Sequence[str]) -> list[Entry | None]:
        """The latest exchange of each request, None where there is none."""
        ...

    def read(self, entry: Entry) -> Exchange:
        """The exchange behind an entry, its checksum verified."""
        ...

    def claim(self, ids: Sequence[str]) -> None:
        """Notes that rows have taken the usage of these requests."""
        ...

    def is_held(self) -> bool:
        """False once another attempt of the bucket has taken over."""
        ...


class Replay:
    """Divides requests into those that the log answers and those that must be called."""

    def __init__(
        self, log: ResponseLog, endpoint: Endpoint, retry_failed: RetryFailed, max_unknown_resends: int | None
    ) -> None:
        self._log = log
        self._endpoint = endpoint
        self._retry_failed = retry_failed
        self._max_unknown_resends = max_unknown_resends
        self._parsed: OrderedDict[tuple[int, int], dict[str, Outcome]] = OrderedDict()

    def divide(self, requests: Sequence[Request]) -> tuple[list[Outcome], list[tuple[Request, Attempts]]]:
        """Replayed outcomes, and the requests to call with what was already spent on them."""
        replayed: list[Outcome] = []
        calls: list[tuple[Request, Attempts]] = []
        known = {request.request_id: request for request in requests}
        entries = self._log.lookup([request.request_id for request in requests])
        for request, entry in zip(requests, entries, strict=True):
            if entry is None:
                calls.append((request, NOT_SENT))
                continue
            outcome = self._outcome(entry, request.request_id, known)
            if outcome is None or (outcome.error is not None and self._asks_again(outcome.error, entry)):
                unknown = 0 if self._max_unknown_resends is None else entry.unknown_outcomes
                calls.append((request, Attempts(unknown=unknown)))
            else:
                # the usage of an answer is in one row of the table, however many rows share it
                replayed.append(outcome.with_usage(NO_USAGE) if entry.is_claimed else outcome)
        return replayed, calls

    def claim(self, ids: Sequence[str]) -> None:
        """See `ResponseLog.claim`."""
        self._log.claim(ids)

    def _asks_again(self, error: RowError, entry: Entry) -> bool:
        if self._retry_failed == "none" and entry.is_final:  # not final: killed between two attempts
            return False
        if self._retry_failed == "transient" and not error.is_retryable:
            return False
        # each unknown outcome may have been billed: past the allowed resends the row stays as it is
        return self._max_unknown_resends is None or entry.unknown_outcomes <= self._max_unknown_resends

    def _outcome(self, entry: Entry, request_id: str, known: Mapping[str, Request]) -> Outcome | None:
        key = (entry.segment, entry.offset)
        parsed = self._parsed.get(key)
        if parsed is None:
            exchange = self._log.read(entry)
            parsed = {outcome.request_id: outcome for outcome in replayed_outcomes(self._endpoint, exchange, known)}
            self._parsed[key] = parsed
            if len(self._parsed) > PARSED_EXCHANGES:
                self._parsed.popitem(last=False)
        return parsed.get(request_id)


def replayed_outcomes(endpoint: Endpoint, exchange: Exchange, known: Mapping[str, Request]) -> list[Outcome]:
    """The outcomes of a journaled exchange, one per request, in its order; none where it ended no request.

    Of the `known` requests the texts and estimates serve the parser as they did when the answer was live.
    """
    batch = Batch(tuple(known.get(request_id, Request(request_id)) for request_id in exchange.request_ids))
    result: list[Outcome] | Failure | RowError
    if exchange.response is None:
        assert exchange.transport_error is not None
        result = RowError(exchange.transport_error, exchange.message)
    else:
        result = read(endpoint, batch, exchange.response)
    if isinstance(result, Failure) and (
        result.verdict is Verdict.STOP or (result.verdict is Verdict.SPLIT and len(batch) > 1)
    ):
        return []  # the job was told to stop, or the batch to come in halves: no row was refused
    completed_at_s = exchange.sent_at_s + exchange.latency_ms / 1e3
    if not isinstance(result, list):
        usages = exchange.usage.split(len(batch))
        error = result if isinstance(result, RowError) else RowError(result.code, result.message, result.status)
        result = [
            Outcome(request_id, error=error, usage=usage)
            for request_id, usage in zip(exchange.request_ids, usages, strict=True)
        ]
    return [
        outcome.with_timing(
            attempts=exchange.attempt,
            latency_ms=exchange.latency_ms,
            completed_at_s=completed_at_s,
            is_replayed=True,
        )
        for outcome in result
    ]
