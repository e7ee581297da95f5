import os
import threading
import time
from pathlib import Path

import pytest

from pipeline.errors import LeaseHeld, LeaseLost, StateError
from pipeline.journal import Lease, current_holder
from pipeline.journal.lease import EXPIRY_S, RENEW_S, is_alive
from pipeline.storage import LocalStore, Store, open_store

ROOT = Path(__file__).parents[2]


class Time:
    """Seconds that pass only in `sleep`; others may act in between."""

    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0
        self.meanwhile = lambda: None

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.meanwhile()


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture(params=["local", "remote"])
def store(request, tmp_path) -> Store:
    return open_store(str(tmp_path) if request.param == "local" else f"memory://{tmp_path.name}/state")


def take(store: Store, clock: Time, owner: str = "run-1", mode: str = "fence", wait_s: float | None = None) -> Lease:
    return Lease.acquire(
        store, "job/lease", owner=owner, mode=mode, clock=clock, sleep=clock.sleep, wait_s=wait_s, background=False
    )


def test_numbers_grow(store, clock):
    numbers = []
    for _ in range(4):
        lease = take(store, clock)
        numbers.append(lease.number)
        assert lease.is_held()
        lease.release()
        assert not lease.is_held()
    assert numbers == [1, 2, 3, 4]
    assert len([f for f in store.list("job/lease") if "lease-" in f.name]) == 1


def test_the_second_is_refused_while_the_first_lives_and_told_who_it_is(store, clock):
    first = take(store, clock, "run nightly-7", "refuse")
    message = rf"{store.root}/job/lease is in use by run nightly-7 \(process {os.getpid()} on .*since 2027-01-15"
    with pytest.raises(LeaseHeld, match=message):
        take(store, clock, "run-2", "refuse")
    assert first.is_held()
    holder = current_holder(store, "job/lease")
    assert holder is not None
    assert (holder.owner, holder.pid, holder.number) == ("run nightly-7", os.getpid(), 1)
    first.release()
    second = take(store, clock, "run-2", "refuse")
    assert second.number == 2
    second.release()


def test_nobody_holds_what_nobody_took(store):
    assert current_holder(store, "job/lease") is None
    assert not is_alive(store, "job/lease", time.time())


def test_a_fenced_holder_is_told_to_stop_and_waited_for(store, clock):
    older = take(store, clock, "older")
    noticed: list[float] = []

    def work() -> None:
        older.tick()
        if not noticed and not older.is_held():
            noticed.append(clock.now_s)
            with pytest.raises(LeaseLost, match="taken over by newer"):
                older.check()
            older.release()

    clock.meanwhile = work
    started_s = clock.now_s
    newer = take(store, clock, "newer")
    assert noticed
    assert noticed[0] - started_s <= (0.6 if isinstance(store, LocalStore) else RENEW_S + 1.1)
    assert newer.is_held()
    newer.check()
    newer.release()


def test_who_does_not_let_go_is_named_after_a_bounded_wait(store, clock):
    older = take(store, clock, "stubborn")
    clock.meanwhile = lambda: older._life.renew(older.number)
    started_s = clock.now_s
    with pytest.raises(StateError, match="in use by stubborn"):
        take(store, clock, "newer", wait_s=15.0)
    assert 15.0 <= clock.now_s - started_s <= 17.0
    assert not is_held_later(older, clock)
    older.release()
    third = take(store, clock, "third")
    assert third.is_held()
    third.release()


def is_held_later(lease: Lease, clock: Time) -> bool:
    clock.now_s += RENEW_S
    lease.tick()
    return lease.is_held()


def test_of_two_that_wait_the_later_one_wins(store, clock):
    first = take(store, clock, "first")
    leases: list[Lease] = []

    def third_comes() -> None:
        clock.meanwhile = lambda: first._life.renew(first.number)
        with pytest.raises(StateError):
            leases.append(take(store, clock, "third", wait_s=2.0))

    clock.meanwhile = third_comes
    with pytest.raises(LeaseLost, match="taken over by third"):
        take(store, clock, "second", wait_s=15.0)
    assert leases == []
    first.release()


def test_a_holder_whose_announcement_vanished_holds_nothing(store, clock):
    lease = take(store, clock)
    store.delete_tree("job")
    assert not is_held_later(lease, clock)


def test_the_holder_is_asked_for_seldom(tmp_path, clock):
    class Counting(LocalStore):
        looks = 0

        def find(self, name):
            self.looks += 1
            return super().find(name)

    store = Counting(str(tmp_path))
    lease = take(store, clock)
    before = store.looks
    for _ in range(1000):
        assert lease.is_held()
        clock.now_s += 0.001
    assert 1 <= store.looks - before <= 3
    lease.release()


class TestRemote:
    """What only a remote lease does: it ages."""

    @pytest.fixture
    def store(self, tmp_path) -> Store:
        return open_store(f"memory://{tmp_path.name}/state")

    def test_a_silent_holder_is_dead_after_its_expiry(self, store, clock):
        take(store, clock, "silent")
        clock.now_s += EXPIRY_S - 1
        assert is_alive(store, "job/lease", clock.now_s)
        with pytest.raises(StateError, match="free within 30 s"):
            take(store, clock, "second", "refuse")
        clock.now_s += 2
        assert not is_alive(store, "job/lease", clock.now_s)
        lease = take(store, clock, "second", "refuse")
        assert lease.number == 2
        lease.release()

    def test_a_holder_whose_clock_is_ahead_is_dead_when_it_is_silent_for_as_long(self, store, clock):
        ahead = Time()
        ahead.now_s += 1_000_000
        take(store, ahead, "ahead")
        started_s = clock.now_s
        lease = take(store, clock, "second")
        assert EXPIRY_S <= clock.now_s - started_s <= EXPIRY_S + 2
        lease.release()

    def test_a_holder_that_renews_is_alive_for_ever(self, store, clock):
        lease = take(store, clock)
        for _ in range(100):
            clock.now_s += RENEW_S
            lease.tick()
            assert lease.is_held()
            assert is_alive(store, "job/lease", clock.now_s)
        lease.release()
        assert not is_alive(store, "job/lease", clock.now_s)

    def test_a_holder_that_could_not_renew_holds_nothing(self, store, clock):
        lease = take(store, clock)
        clock.now_s += EXPIRY_S + 1
        assert not lease.is_held()

    def test_of_two_with_one_number_the_overwritten_one_stops(self, store, clock):
        lease = take(store, clock)
        store.write_atomic("job/lease/lease-00000001", b"{}")  # a store without a conditional put
        assert not is_held_later(lease, clock)

    def test_a_thread_renews(self, store, monkeypatch):
        lease = Lease.acquire(store, "job/lease", owner="run-1", poll_s=0.01)
        before = store.read("job/lease/alive-00000001")
        until = time.time() + 5
        while store.read("job/lease/alive-00000001") == before and time.time() < until:
            time.sleep(0.01)
        assert store.read("job/lease/alive-00000001") != before
        lease.release()
        assert not store.exists("job/lease/alive-00000001")
        assert not any(thread.name == "lease" for thread in threading.enumerate())
