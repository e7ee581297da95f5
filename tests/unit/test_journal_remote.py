import os
import threading
import time
from pathlib import Path

import pyarrow.fs as arrow_fs
import pytest

from pipeline.errors import JournalCorrupt, LeaseLost, StateError
from pipeline.journal import BucketJournal
from pipeline.journal import spool as spool_module
from pipeline.journal.spool import Spool
from pipeline.storage import RemoteStore, Store, open_store
from tests.unit.journals import FINGERPRINT, crash, exchange, open_bucket, request_id


class Time:
    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


class Unreachable(RemoteStore):
    """Fails its next puts of segments; `arrives` says whether the bytes were stored all the same."""

    failures = 0
    arrives = False

    def put_if_absent(self, name, data):
        if self.failures == 0 or not name.endswith(".seg"):
            return super().put_if_absent(name, data)
        self.failures -= 1
        if self.arrives:
            super().put_if_absent(name, data)
        raise StateError(f"cannot create {name}: connection reset")


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture(params=["fsspec", "pyarrow"])
def store(request, tmp_path) -> Store:
    if request.param == "fsspec":
        return open_store(f"memory://{tmp_path.name}/state")
    return RemoteStore(arrow_fs.LocalFileSystem(), str(tmp_path / "remote"), "remote")


@pytest.fixture
def node(tmp_path) -> Path:
    """The local disk of the machine on which attempts run."""
    return tmp_path / "node"


def open_remote(store: Store, node: Path, attempt: str = "a1", **options) -> BucketJournal:
    return open_bucket(store, attempt, **{"background": False, "spool_folder": str(node), **options})


def uploaded(store: Store) -> list[str]:
    return [f.name.rsplit("/", 1)[1] for f in store.list("journal") if f.name.endswith(".seg")]


def held(journal: BucketJournal, numbers: range) -> list[int]:
    entries = journal.lookup([request_id(n) for n in numbers])
    for number, entry in zip(numbers, entries, strict=True):
        if entry is not None:
            assert request_id(number) in journal.read(entry).request_ids
    return [number for number, entry in zip(numbers, entries, strict=True) if entry is not None]


def test_what_one_machine_appended_another_reads(store, node, tmp_path):
    journal = open_remote(store, node)
    for number in range(20):
        journal.append(exchange(number))
    assert held(journal, range(25)) == list(range(20))
    assert uploaded(store) == []
    journal.close()
    assert uploaded(store) == ["000001-a1-000000.seg"]
    again = open_remote(store, tmp_path / "another node", "a2")
    assert held(again, range(25)) == list(range(20))
    assert again.totals().answered == 20
    assert len(list(again.entries())) == 20
    again.close()


def test_nothing_is_left_on_the_machine_after_closing(store, node):
    journal = open_remote(store, node)
    journal.append(exchange(1))
    assert list(node.rglob("*.seg"))
    journal.close()
    assert [path for path in node.rglob("*") if path.is_file()] == []


def test_a_segment_is_uploaded_when_it_is_full(store, node):
    journal = open_remote(store, node, seal_bytes=2_000)
    for number in range(7):
        journal.append(exchange(number, body=b"x" * 600))
        journal.tick()
    assert uploaded(store) == ["000001-a1-000000.seg", "000001-a1-000001.seg"]
    journal.close()
    assert len(uploaded(store)) == 3


def test_a_segment_is_uploaded_after_its_interval_also_when_nothing_more_is_appended(store, node, clock):
    journal = open_remote(store, node, clock=clock, seal_interval_s=10.0)
    journal.append(exchange(1))
    clock.now_s += 9.9
    journal.tick()
    assert uploaded(store) == []
    clock.now_s += 0.2
    journal.tick()
    assert uploaded(store) == ["000001-a1-000000.seg"]
    journal.append(exchange(2))
    clock.now_s += 10.1
    journal.append(exchange(3))
    journal.tick()
    assert len(uploaded(store)) == 2
    assert held(journal, range(5)) == [1, 2, 3]
    journal.close()


def test_a_lost_machine_loses_no_more_than_what_was_not_uploaded(store, node, tmp_path):
    journal = open_remote(store, node)
    journal.append(exchange(1))
    journal.flush()
    journal.append(exchange(2))
    crash(journal)
    again = open_remote(store, tmp_path / "another node", "a2")
    assert held(again, range(4)) == [1]
    again.close()


def test_a_killed_process_loses_nothing_where_the_next_attempt_runs_on_the_same_machine(store, node, tmp_path):
    journal = open_remote(store, node)
    journal.append(exchange(1))
    journal.flush()
    journal.append(exchange(2))
    journal.append(exchange(3))
    crash(journal)
    (torn,) = node.rglob("*-000001.seg")
    torn.write_bytes(torn.read_bytes()[:-5])
    again = open_remote(store, node, "a2")
    assert held(again, range(5)) == [1, 2]
    assert uploaded(store) == ["000001-a1-000000.seg", "000001-a1-000001.seg"]
    again.append(exchange(4))
    again.close()
    last = open_remote(store, tmp_path / "another node", "a3")
    assert held(last, range(5)) == [1, 2, 4]
    assert last.damage == []
    last.close()


def test_the_files_of_a_living_attempt_are_left_alone(store, node):
    folder = f"journal/{FINGERPRINT}/000007"
    living = Spool(store, folder, "living", str(node))
    living.files.write_atomic(f"{folder}/x.seg", b"being written")
    other = Spool(store, folder, "other", str(node))
    assert other.recover() == 0
    assert living.files.read(f"{folder}/x.seg") == b"being written"
    with pytest.raises(StateError, match="in use"):
        Spool(store, folder, "living", str(node))
    living.release()
    other.release()


@pytest.mark.parametrize("arrives", [False, True])
def test_an_upload_that_failed_is_tried_again(tmp_path, node, arrives):
    store = Unreachable(arrow_fs.LocalFileSystem(), str(tmp_path / "remote"), "remote")
    store.failures, store.arrives = 2, arrives
    journal = open_remote(store, node, seal_bytes=500)
    for number in range(3):
        journal.append(exchange(number, body=b"x" * 300))
        journal.tick()
    journal.close()
    assert len(uploaded(store)) == 3
    again = open_remote(store, node, "a2")
    assert held(again, range(5)) == [0, 1, 2]
    again.close()


def test_an_outage_of_the_store_stops_appending_and_loses_nothing(tmp_path, node):
    store = Unreachable(arrow_fs.LocalFileSystem(), str(tmp_path / "remote"), "remote")
    journal = open_remote(store, node, seal_bytes=500)
    store.failures = 1000
    appended: list[int] = []

    def append_until_it_fails() -> None:
        for number in range(10):
            appended.append(number)  # also the last one, whose append fails after it was written
            journal.append(exchange(number, body=b"x" * 300))
            journal.tick()

    with pytest.raises(StateError, match=r"[34] journal segments are not uploaded: .*connection reset"):
        append_until_it_fails()
    with pytest.raises(StateError, match="not uploaded"):
        journal.close()
    store.failures = 0
    again = open_remote(store, node, "a2")
    assert held(again, range(10)) == appended
    again.close()


def test_a_name_that_another_attempt_uses_is_an_error_not_an_overwrite(store, node):
    journal = open_remote(store, node)
    journal.append(exchange(1))
    store.write_atomic(f"journal/{FINGERPRINT}/000007/000001-a1-000000.seg", b"theirs")
    with pytest.raises(StateError, match="another attempt uses this name"):
        journal.close()
    assert store.read(f"journal/{FINGERPRINT}/000007/000001-a1-000000.seg") == b"theirs"


def test_a_flipped_bit_in_the_store_is_reported(store, node):
    journal = open_remote(store, node)
    journal.append(exchange(1))
    journal.close()
    name = f"journal/{FINGERPRINT}/000007/000001-a1-000000.seg"
    data = bytearray(store.read(name))
    data[200] ^= 1
    store.write_atomic(name, bytes(data))
    with pytest.raises(JournalCorrupt, match=r"000001-a1-000000\.seg"):
        open_remote(store, node, "a2")
    again = open_remote(store, node, "a3", on_corrupt="skip")
    assert [damage.kind for damage in again.damage] == ["corrupt"]
    assert held(again, range(3)) == []
    again.close()


def test_an_attempt_that_was_fenced_still_writes_what_it_paid_for(store, node, tmp_path, clock):
    older = open_remote(store, node, clock=clock)
    older.append(exchange(1))
    with pytest.raises(StateError, match="in use by run-1 attempt a1"):
        open_remote(store, tmp_path / "another node", "a2", clock=clock)
    clock.now_s += 6
    older.tick()
    with pytest.raises(LeaseLost, match="attempt a2"):
        older.append(exchange(2))
    assert not older.is_held()
    older.close()
    newer = open_remote(store, tmp_path / "another node", "a3", clock=clock)
    assert held(newer, range(4)) == [1, 2]
    newer.close()


def test_a_thread_uploads_while_the_caller_does_something_else(store, node):
    journal = open_remote(store, node, background=True, seal_interval_s=0.05)
    journal.append(exchange(1))
    until = time.monotonic() + 10
    while not uploaded(store) and time.monotonic() < until:
        time.sleep(0.01)
    assert uploaded(store)
    for number in range(2, 200):
        journal.append(exchange(number))
    journal.close()
    assert not {thread.name for thread in threading.enumerate()} & {"journal-uploads", "lease"}
    again = open_remote(store, node, "a2")
    assert held(again, range(200)) == list(range(1, 200))
    again.close()


def test_a_spool_folder_that_others_may_enter_is_refused(store, tmp_path, monkeypatch):
    monkeypatch.setattr(spool_module.tempfile, "gettempdir", lambda: str(tmp_path))
    journal = open_bucket(store, background=False)
    journal.close()
    (folder,) = tmp_path.glob("ai-query-journal-*")
    assert folder.stat().st_mode & 0o777 == 0o700
    os.chmod(folder, 0o777)
    with pytest.raises(StateError, match="only its owner"):
        open_bucket(store, "a2", background=False)
    os.chmod(folder, 0o700)
    again = open_bucket(store, "a3", background=False)  # the failed attempt let go of its lease
    again.close()
