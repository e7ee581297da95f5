import errno
import os
import threading

import pyarrow.fs as arrow_fs
import pytest

from pipeline.errors import StateError
from pipeline.storage import AppendFile, FileOps, LocalStore, RemoteStore, Store, open_store
from tests.cases import cases
from tests.unit.journals import FaultyOps, local_store


@pytest.fixture(params=["local", "pyarrow", "fsspec"])
def store(request, tmp_path) -> Store:
    if request.param == "local":
        return open_store(str(tmp_path / "state"))
    if request.param == "pyarrow":
        return RemoteStore(arrow_fs.LocalFileSystem(), str(tmp_path / "state"), "remote")
    return open_store(f"memory://{tmp_path.name}/state")


def test_a_written_file_is_read_back_whole_and_in_part(store):
    store.write_atomic("a/b.json", b"0123456789")
    assert store.read("a/b.json") == b"0123456789"
    assert store.read_range("a/b.json", 3, 4) == b"3456"
    assert store.read_range("a/b.json", 8, 100) == b"89"
    assert store.read_range("a/b.json", 10, 5) == b""
    assert store.find("a/b.json") == b"0123456789"
    assert store.size("a/b.json") == 10
    assert store.exists("a/b.json")


def test_a_second_write_replaces_the_first(store):
    store.write_atomic("x", b"a longer text")
    store.write_atomic("x", b"short")
    assert store.read("x") == b"short"
    assert [(f.name, f.size) for f in store.list("")] == [("x", 5)]


def test_the_first_put_wins(store):
    assert store.put_if_absent("runs/1.json", b"mine")
    assert not store.put_if_absent("runs/1.json", b"yours")
    assert store.read("runs/1.json") == b"mine"
    assert [f.name for f in store.list("runs")] == ["runs/1.json"]


def test_a_listing_is_sorted_recursive_and_only_below_the_folder(store):
    for name in ("b/2", "b/1", "b/c/3", "bb/4", "a"):
        store.write_atomic(name, name.encode())
    assert [(f.name, f.size) for f in store.list("b")] == [("b/1", 3), ("b/2", 3), ("b/c/3", 5)]
    assert [f.name for f in store.list("")] == ["a", "b/1", "b/2", "b/c/3", "bb/4"]
    assert store.list("nothing/here") == []


def test_deleted_files_and_trees_are_gone_and_deleting_nothing_is_fine(store):
    for name in ("t/1", "t/u/2", "other"):
        store.write_atomic(name, b"x")
    store.delete("t/1")
    store.delete("t/1")
    assert [f.name for f in store.list("")] == ["other", "t/u/2"]
    store.delete_tree("t")
    store.delete_tree("t")
    assert [f.name for f in store.list("")] == ["other"]


def test_what_is_missing_is_named(store):
    assert store.find("no/such") is None
    assert not store.exists("no/such")
    for ask in (store.read, store.size, lambda name: store.read_range(name, 0, 1)):
        with pytest.raises(StateError, match="no/such"):
            ask("no/such")


@cases(
    "name", ["../x", "a/../b", "/etc/passwd", "a//b", "a/", ".", "a b", "a\nb", "é", "a\0", "x.tmp-1", "a;b", "a\\b"]
)
def test_a_name_cannot_leave_the_root(store, name):
    for call in (store.read, store.find, store.exists, store.delete, store.delete_tree, store.list):
        with pytest.raises(StateError, match="no name for a state file"):
            call(name)
    with pytest.raises(StateError, match="no name for a state file"):
        store.write_atomic(name, b"")


def test_of_many_threads_one_creates_the_file(tmp_path):
    store = LocalStore(str(tmp_path))
    wins: list[int] = []

    def race(number: int) -> None:
        if store.put_if_absent("lease-1", str(number).encode()):
            wins.append(number)

    threads = [threading.Thread(target=race, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wins) == 1
    assert store.read("lease-1") == str(wins[0]).encode()


def test_the_kind_of_store_follows_the_address(tmp_path):
    assert isinstance(open_store(str(tmp_path)), LocalStore)
    assert open_store(f"file://{tmp_path}").root == str(tmp_path)
    assert isinstance(open_store("memory://m/state"), RemoteStore)
    assert isinstance(open_store("/Volumes/main/default/state"), RemoteStore)
    with pytest.raises(StateError, match="nosuch://x"):
        open_store("nosuch://x")


@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.ENOSPC, r"disk is full.*\(ENOSPC\)"), (errno.EACCES, r"permission.*\(EACCES\)"), (errno.EIO, r"\(EIO\)")],
)
def test_an_error_names_the_path_and_the_reason(tmp_path, number, reason):
    class FullDisk(FileOps):
        def write(self, fd, data):
            raise OSError(number, os.strerror(number))

    with pytest.raises(StateError, match=f"{tmp_path}/a/b.*{reason}"):
        LocalStore(str(tmp_path), FullDisk()).write_atomic("a/b", b"x")
    assert os.listdir(tmp_path / "a") == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES], ids=errno.errorcode.get)
def test_a_replacement_that_fails_at_any_operation_leaves_the_old_bytes_or_the_new(tmp_path, number):
    faults = 0
    for fail_at in range(1, 100):
        root = tmp_path / str(fail_at)
        local_store(root).write_atomic("x", b"old")
        ops = FaultyOps(fail_at, number)
        try:
            local_store(root, ops).write_atomic("x", b"new")
        except StateError as exc:
            faults += 1
            assert errno.errorcode[number] in str(exc)  # noqa: PT017
        assert local_store(root).read("x") in (b"old", b"new")
        assert [f.name for f in local_store(root).list("")] == ["x"]
        if not ops.failed:
            break
    assert faults > 5
    assert local_store(root).read("x") == b"new"


def test_short_writes_are_continued(tmp_path):
    class OneByte(FileOps):
        def write(self, fd, data):
            return os.write(fd, memoryview(data)[:1])

    store = LocalStore(str(tmp_path), OneByte())
    store.write_atomic("x", b"hello")
    file = store.create("y")
    file.append(b"some")
    file.append(b"thing")
    file.close()
    assert (store.read("x"), store.read("y"), file.size) == (b"hello", b"something", 9)


def fails_after(writes: int, *, also_truncate: bool = False) -> FileOps:
    class FullDisk(FileOps):
        left = writes

        def write(self, fd, data):
            if self.left == 0:
                raise OSError(errno.ENOSPC, "full")
            self.left -= 1
            return os.write(fd, memoryview(data)[:3])

        def truncate(self, fd, size):
            if also_truncate:
                raise OSError(errno.EIO, "broken")
            super().truncate(fd, size)

    return FullDisk()


def appended(tmp_path, ops: FileOps) -> AppendFile:
    file = LocalStore(str(tmp_path), ops).create("y")
    file.append(b"abc")
    with pytest.raises(StateError, match="ENOSPC"):
        file.append(b"defghijk")
    file.close()
    return file


def test_a_piece_that_does_not_fit_is_taken_back(tmp_path):
    file = appended(tmp_path, fails_after(2))
    assert (tmp_path / "y").read_bytes() == b"abc"
    assert not file.is_broken


def test_a_file_whose_rest_cannot_be_taken_back_is_broken(tmp_path):
    file = appended(tmp_path, fails_after(2, also_truncate=True))
    assert (tmp_path / "y").read_bytes() == b"abcdef"
    assert file.is_broken


def test_a_lock_has_one_holder(tmp_path):
    store = LocalStore(str(tmp_path))
    lock = store.try_lock("lock")
    assert lock is not None
    assert store.try_lock("lock") is None
    lock.release()
    again = store.try_lock("lock")
    assert again is not None
    again.release()


def test_files_move(tmp_path):
    store = LocalStore(str(tmp_path))
    store.write_atomic("a/x", b"1")
    store.rename("a/x", "a/y")
    assert [f.name for f in store.list("")] == ["a/y"]
    with pytest.raises(StateError, match="a/x"):
        store.rename("a/x", "a/z")


def test_a_new_file_never_overwrites(tmp_path):
    store = LocalStore(str(tmp_path))
    store.create("x").close()
    with pytest.raises(StateError, match="EEXIST"):
        store.create("x")
