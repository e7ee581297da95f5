"""Every file operation of a journal's bucket fails once; nothing that was acknowledged is lost."""

import errno
import shutil

import pytest

from pipeline.errors import StateError
from pipeline.journal import BucketJournal
from pipeline.journal.segments import read_segment
from tests.unit.journals import FaultyOps, crash, exchange, held, local_store, open_bucket, segments


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES], ids=errno.errorcode.get)
def test_any_file_operation_may_fail_once_and_nothing_acknowledged_is_lost(tmp_path, number):
    """Over every operation N until a run meets no fault."""
    errors: list[str] = []
    names: set[str] = set()
    left = tmp_path / "left"
    dead = open_bucket(local_store(left), "dead", seal_bytes=700)
    for done in range(4):
        dead.append(exchange(done))
    crash(dead)
    found = [read_segment(str(path.relative_to(left)), path.read_bytes()) for path in segments(left)]
    assert [segment.is_sealed for segment in found] == [True, False]
    torn = segments(left)[-1]
    torn.write_bytes(torn.read_bytes() + b"\xc3JQ\x9d torn")
    for fail_at in range(1, 500):
        root = tmp_path / str(fail_at)
        shutil.copytree(left, root)
        ops = FaultyOps(fail_at, number)
        acknowledged: list[int] = []
        try:
            acknowledged = attempt(local_store(root, ops), 4, errors)
        finally:
            names.add(ops.failed)
        again = open_bucket(local_store(root), "after")
        kept = held(again, range(12))
        assert set(range(4)) | set(acknowledged) <= set(kept)
        assert all(damage.kind == "torn" for damage in again.damage)
        again.append(exchange(11))
        again.close()
        last = open_bucket(local_store(root), "last")
        assert held(last, range(12)) == sorted({*kept, 11})
        last.close()
        if not ops.failed:
            break
    assert ops.failed == ""
    assert len(errors) > 30
    assert all(errno.errorcode[number] in error and str(tmp_path) in error for error in errors)
    assert {"open", "write", "pread", "sync", "truncate", "close", "link", "entries", "lock", "makedirs"} <= names


def attempt(store, first: int, errors: list[str]) -> list[int]:
    """Opens, appends, reads and closes; the numbers that `append` acknowledged before something failed."""
    acknowledged: list[int] = []
    journal = None
    try:
        journal = open_bucket(store, "faulty", seal_bytes=900, fsync="always")
        for number in range(first, first + 5):
            journal.append(exchange(number))
            acknowledged.append(number)
        held(journal, range(first + 5))
        journal.close()
    except StateError as exc:
        errors.append(str(exc))
    finally:
        if journal is not None:
            close_after_failure(journal)
    return acknowledged


def close_after_failure(journal: BucketJournal) -> None:
    """As a task does on its way out; the one fault is spent, so this works."""
    journal.close()
    assert not journal.is_held()
