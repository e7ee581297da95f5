"""Every fault of the simulator through a whole partition: how the row ends, and that three counts agree."""

import threading
from collections import Counter
from dataclasses import dataclass, field

import pyarrow as pa
import pytest

from pipeline.batching import PackLimits
from pipeline.endpoints import EndpointSpec
from pipeline.engine import WindowSettings
from pipeline.errors import ErrorCode
from pipeline.journal import Entry
from pipeline.loop import LoopThread
from pipeline.progress import Progress
from pipeline.prompts import PromptSpec
from pipeline.records import Exchange, Task
from pipeline.retry import RetrySettings
from pipeline.simulator import FAULTS, Bill, Simulator, SimulatorSettings, marker
from pipeline.simulator.faults import applies_to
from pipeline.transports import TransportSpec
from pipeline.vectors import EmbeddingContract
from pipeline.worker import run_partition
from pipeline.worker_plan import Plan

SETTINGS = SimulatorSettings(
    hang_s=30.0,
    huge_body_bytes=1_000_000,
    bomb_bytes=5_000_000,
    drip_bytes=512,
    drip_interval_s=0.002,
    canned_vectors=8,
    retry_after="0",
    retry_after_s=0.0,
)
RETRY = RetrySettings(max_attempts=2, base_s=0.005, max_wait_s=0.01, deadline_s=0.3)
TRANSPORT = TransportSpec(timeout_s=1.0, connect_timeout_s=1.0, max_response_bytes=200_000)

# As base64: JSON has no NaN, so a list with one would be no JSON at all.
PARAMETERS = {Task.CHAT: {}, Task.EMBEDDING: {"encoding_format": "base64"}}
CONTRACT = EmbeddingContract(dimensions=8)

ANSWERED, STOPPED = "answered", "stopped"
BOTH = {
    "rate_429": ErrorCode.RATE_LIMITED,
    "rate_429_databricks": ErrorCode.RATE_LIMITED,
    "rate_429_platform": ErrorCode.RATE_LIMITED,
    "rate_429_bare": ErrorCode.RATE_LIMITED,
    "quota_exhausted": STOPPED,
    "bad_request": ErrorCode.BAD_REQUEST,
    "bad_request_nested": ErrorCode.BAD_REQUEST,
    "context_length": ErrorCode.CONTEXT_LENGTH,
    "context_length_nested": ErrorCode.CONTEXT_LENGTH,
    "content_filter": ErrorCode.CONTENT_FILTER,
    "unauthorized_401": STOPPED,
    "forbidden_403": STOPPED,
    "not_found_404": STOPPED,
    "timeout_408": ErrorCode.REQUEST_TIMEOUT,
    "conflict_409": ErrorCode.CONFLICT,
    "too_large_413": ErrorCode.PAYLOAD_TOO_LARGE,
    "unprocessable_422": ErrorCode.BAD_REQUEST,
    "backend_424": ErrorCode.BACKEND_FAILED,
    "error_500": ErrorCode.SERVER_ERROR,
    "error_502": ErrorCode.SERVER_ERROR,
    "unavailable_503": ErrorCode.OVERLOADED,  # though the body says "server_error"
    "overloaded_529": ErrorCode.OVERLOADED,
    "error_200": ErrorCode.SERVER_ERROR,
    "login_page_200": ErrorCode.INVALID_RESPONSE,
    "empty_body": ErrorCode.INVALID_RESPONSE,
    "malformed": ErrorCode.INVALID_RESPONSE,
    "huge_usage": ANSWERED,
    "negative_usage": ANSWERED,
    "no_usage": ANSWERED,
    "reset": ErrorCode.UNKNOWN_OUTCOME,
    "hang": ErrorCode.DEADLINE_EXCEEDED,
    "truncated": ErrorCode.UNKNOWN_OUTCOME,
    "huge_body": ErrorCode.RESPONSE_TOO_LARGE,
    "gzip_bomb": ErrorCode.RESPONSE_TOO_LARGE,
    "slow_drip": ANSWERED,
}
CHAT = {
    "empty_choices": ErrorCode.INVALID_RESPONSE,
    "null_content": ErrorCode.EMPTY_RESPONSE,
    "refusal": ErrorCode.REFUSAL,
    "content_filter_200": ErrorCode.CONTENT_FILTER,
    "surrogate": ANSWERED,
    "block_content": ANSWERED,
    "reasoning_content": ANSWERED,
}
EMBEDDING = {
    "wrong_order": ANSWERED,
    "shuffled_order": ANSWERED,
    "wrong_count": ErrorCode.WRONG_COUNT,
    "wrong_dimension": ErrorCode.WRONG_DIMENSIONS,
    "nan": ErrorCode.NOT_FINITE,
    "zero_vector": ErrorCode.ZERO_VECTOR,
}
EXPECTED = {Task.CHAT: BOTH | CHAT, Task.EMBEDDING: BOTH | EMBEDDING}
CASES = [(task, fault) for task, expected in EXPECTED.items() for fault in expected]
# The work was done and is billed, yet no credible number of tokens came back.
UNTOLD = {"malformed", "truncated", "huge_body", "gzip_bomb", "huge_usage", "negative_usage", "no_usage"}


@dataclass
class Log:
    """Exchanges in order, as a journal that was empty before."""

    exchanges: list[Exchange] = field(default_factory=list)

    def append(self, *exchanges: Exchange) -> None:
        self.exchanges.extend(exchanges)

    def is_held(self) -> bool:
        return True

    def claim(self, ids) -> None: ...

    def lookup(self, ids) -> list[Entry | None]:
        return [None] * len(ids)

    def read(self, entry: Entry) -> Exchange:
        raise AssertionError(entry)

    def tokens(self) -> tuple[int, int]:
        usages = [exchange.usage for exchange in self.exchanges]
        return sum(u.input_tokens or 0 for u in usages), sum(u.output_tokens or 0 for u in usages)

    def last_tokens(self) -> tuple[int, int]:
        """Of the exchange that ended each request; the ones before are in the log alone."""
        last = {exchange.request_ids: exchange.usage for exchange in self.exchanges}.values()
        return sum(u.input_tokens or 0 for u in last), sum(u.output_tokens or 0 for u in last)


class Control:
    def __init__(self) -> None:
        self.last = Progress()

    def report(self, progress: Progress) -> None:
        self.last = progress

    def stop_reason(self) -> str | None:
        return None


@pytest.fixture(scope="module")
def sim():
    with Simulator(SETTINGS) as sim:
        yield sim


@pytest.fixture(scope="module")
def loop():
    loop = LoopThread()
    yield loop
    loop.close()


def play(sim, loop, kind: str, task: Task, texts: list[str], **changes) -> tuple[dict[str, dict], Log, Progress, Bill]:
    """The rows that left, by text; the log; the last report; what the simulator billed."""
    sim.reset_bill()
    sim.set_seed(0)
    model = "canned-chat" if task is Task.CHAT else "canned-embedding"
    plan = Plan(
        PromptSpec(task, template="{{ text }}"),
        EndpointSpec(task, model, "openai", sim.base_url, PARAMETERS[task], CONTRACT),
        WindowSettings(in_flight=4, pack=PackLimits(max_rows=changes.pop("max_rows", 1)), retry=RETRY),
        transport_kind=kind,
        transport=TRANSPORT,
        **changes,
    )
    log, control, rows = Log(), Control(), []
    batch = pa.RecordBatch.from_pydict({"text": pa.array(texts, pa.string())})

    def consume() -> None:
        for out in run_partition([batch], plan, log=log, control=control, loop=loop):
            rows.extend(out.to_pylist())

    thread = threading.Thread(target=consume, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), "the partition hangs"
    assert len({row["text"] for row in rows}) == len(rows), "a row left twice"
    return {row["text"]: row for row in rows}, log, control.last, sim.bill()


def tokens_of(rows: dict[str, dict]) -> tuple[int, int]:
    usages = [row["usage"] for row in rows.values()]
    return sum(u["input_tokens"] or 0 for u in usages), sum(u["output_tokens"] or 0 for u in usages)


def assert_counts_agree(rows, log: Log, progress: Progress, bill: Bill, fault: str) -> None:
    statuses = Counter(e.response.status for e in log.exchanges if e.response is not None)
    assert bill.requests == len(log.exchanges) == progress.tally.sent
    assert bill.refused == {status: count for status, count in statuses.items() if status != 200}
    if fault in UNTOLD:
        told_in, told_out = log.tokens()
        assert told_in <= bill.input_tokens
        assert told_out <= bill.output_tokens
    else:
        assert log.tokens() == (bill.input_tokens, bill.output_tokens)
    assert tokens_of(rows) == log.last_tokens()
    unknown = sum(e.is_unknown_outcome for e in log.exchanges)
    assert unknown == sum(count for name, count in bill.faults.items() if name in BROKEN)


BROKEN = {"reset", "hang", "truncated", "huge_body", "gzip_bomb"}


def test_every_fault_is_expected_somewhere():
    for task, expected in EXPECTED.items():
        assert set(expected) == {name for name, fault in FAULTS.items() if applies_to(fault, task)}


@pytest.mark.parametrize("kind", ["httptools", "reqwest", "httpx"])
@pytest.mark.parametrize(("task", "fault"), CASES)
def test_a_row_under_a_fault_ends_as_listed_and_the_others_are_answered(sim, loop, kind, task, fault):
    expected = EXPECTED[task][fault]
    bad = f"{marker(fault)} a text that fails"
    rows, log, progress, bill = play(sim, loop, kind, task, [bad, "good one", "good two"])
    if expected is STOPPED:
        assert bad not in rows
        assert progress.stopped_code in {"quota_exhausted", "authentication", "permission", "not_found"}
        assert progress.rows_not_attempted == 3 - len(rows)
    elif expected is ANSWERED:
        assert rows[bad]["error"] is None
        assert rows[bad]["response"]
    else:
        assert rows[bad]["error"]["code"] == expected
        assert rows[bad]["response"] is None
        assert rows[bad]["attempts"] == len([e for e in log.exchanges if e.request_ids == (rows[bad]["request_id"],)])
    if expected is not STOPPED:
        assert rows["good one"]["error"] is rows["good two"]["error"] is None
        assert (progress.rows_in, progress.rows_done, progress.rows_failed) == (3, 3, expected is not ANSWERED)
    assert_counts_agree(rows, log, progress, bill, fault)


# A refusal of the whole is cut until the bad row is alone; what else fails a call fails all of its rows.
CUT = {
    "bad_request",
    "bad_request_nested",
    "context_length",
    "context_length_nested",
    "content_filter",
    "too_large_413",
}
CUT |= {"unprocessable_422"}
OF_ONE_ROW = {"wrong_dimension"}


@pytest.mark.parametrize("fault", EXPECTED[Task.EMBEDDING])
def test_a_batch_under_a_fault_costs_other_rows_only_what_it_must(sim, loop, fault):
    expected = EXPECTED[Task.EMBEDDING][fault]
    bad = f"{marker(fault)} a text that fails"
    texts = ["one", "two", "three", bad]
    rows, log, progress, bill = play(sim, loop, "httptools", Task.EMBEDDING, texts, max_rows=4)
    codes = [rows[text]["error"] and rows[text]["error"]["code"] for text in texts if text in rows]
    if expected is STOPPED:
        assert codes == []
    elif expected is ANSWERED:
        assert codes == [None] * 4
    elif fault in CUT | OF_ONE_ROW:
        assert codes == [None, None, None, expected]
    else:
        assert codes == [expected] * 4
    assert_counts_agree(rows, log, progress, bill, fault)


PASSING = [
    fault
    for fault, expected in BOTH.items()
    if expected in {ErrorCode.RATE_LIMITED, ErrorCode.SERVER_ERROR, ErrorCode.OVERLOADED, ErrorCode.INVALID_RESPONSE}
    or expected in {ErrorCode.UNKNOWN_OUTCOME, ErrorCode.REQUEST_TIMEOUT, ErrorCode.CONFLICT, ErrorCode.BACKEND_FAILED}
]


@pytest.mark.parametrize("task", [Task.CHAT, Task.EMBEDDING])
@pytest.mark.parametrize("fault", PASSING)
def test_a_fault_that_passes_costs_one_more_call(sim, loop, task, fault):
    text = f"{marker(fault, 1)} a text that fails once"
    rows, log, progress, bill = play(sim, loop, "httptools", task, [text])
    assert rows[text]["error"] is None
    assert rows[text]["attempts"] == len(log.exchanges) == bill.requests == 2
    assert [e.is_final for e in log.exchanges] == [False, True]
    assert_counts_agree(rows, log, progress, bill, fault)


@pytest.mark.parametrize("kind", ["httptools", "reqwest", "httpx"])
@pytest.mark.parametrize("mode", ["refuse", "reset", "unavailable"])
def test_an_outage_ends_rows_and_hangs_nobody(sim, kind, mode):
    fresh = LoopThread()  # a connection that was kept would be reset, not refused
    sim.set_outage(mode)
    try:
        rows, log, progress, _ = play(sim, fresh, kind, Task.CHAT, ["a", "b"])
    finally:
        sim.set_outage("none")
        fresh.close()
    assert all(exchange.response is None or exchange.response.status == 503 for exchange in log.exchanges)
    if mode == "refuse":
        assert (rows, progress.stopped_code, progress.rows_not_attempted) == ({}, "connect_failed", 2)
        assert not any(exchange.is_unknown_outcome for exchange in log.exchanges)
    else:
        codes = {row["error"]["code"] for row in rows.values()}
        assert codes == {"unknown_outcome" if mode == "reset" else "overloaded"}
        assert len(rows) == 2


@pytest.mark.parametrize("task", [Task.CHAT, Task.EMBEDDING])
def test_a_storm_of_faults_leaves_every_row_with_an_end(sim, loop, task):
    shares = {
        "rate_429": 0.1,
        "error_500": 0.1,
        "reset": 0.05,
        "truncated": 0.05,
        "bad_request": 0.05,
        "malformed": 0.05,
    }
    sim.set_faults(shares)
    try:
        texts = [f"text {i}" for i in range(300)]
        rows, log, progress, bill = play(sim, loop, "httptools", task, texts, max_rows=1 if task is Task.CHAT else 8)
    finally:
        sim.set_faults({})
    assert set(rows) == set(texts)
    assert {row["error"]["code"] for row in rows.values() if row["error"]} <= set(ErrorCode)
    assert sum(bill.faults.values()) > 0
    assert_counts_agree(rows, log, progress, bill, "truncated")
    assert progress.rows_done == 300
