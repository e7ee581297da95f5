"""Who may work on a bucket or a job: a number that only grows, and a sign of life.

Whoever takes the lease announces the next number; an older holder sees it and stops. On a local file system the sign of
life is a file lock, which the kernel frees when its holder dies. Elsewhere it is an object renewed every few seconds,
and its age is judged by the clocks of the machines: they must agree better than `EXPIRY_S`.
"""

import contextlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal, Protocol

import orjson

from pipeline.errors import LeaseHeld, LeaseLost, StateError
from pipeline.storage import FileLock, LocalStore, Store

EXPIRY_S = 30.0
RENEW_S = 5.0
POLL_S = 0.5
LOCAL_WAIT_S = 15.0
# an expired holder must be seen to be silent for the whole time
REMOTE_WAIT_S = EXPIRY_S + 2 * RENEW_S
_LOCAL_RETRY_S = 0.05
_REMOTE_RETRY_S = 1.0

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Holder:
    """Who announced a number. `token` tells two holders of one process apart."""

    number: int
    owner: str
    pid: int
    host: str
    since_s: float
    token: str

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.since_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return f"{self.owner} (process {self.pid} on {self.host}, since {since})"


class _Life(Protocol):
    """The sign of life of one holder."""

    is_renewed: bool  # someone has to renew it

    def is_free(self, number: int) -> bool:
        """True where no older holder lives; from then on this one does."""
        ...

    def renew(self, number: int) -> None:
        """Shows life."""
        ...

    def end(self, number: int) -> None:
        """Takes the sign away."""
        ...


class _LocalLife:
    is_renewed = False

    def __init__(self, store: LocalStore, folder: str) -> None:
        self._store = store
        self._name = f"{folder}/lock"
        self._lock: FileLock | None = None

    def is_free(self, number: int) -> bool:
        if self._lock is None:
            self._lock = self._store.try_lock(self._name)
        return self._lock is not None

    def renew(self, number: int) -> None:
        """A lock needs none."""

    def end(self, number: int) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()


class _RemoteLife:
    is_renewed = True

    def __init__(self, store: Store, folder: str, clock: Clock) -> None:
        self._store = store
        self._folder = folder
        self._clock = clock
        self._seen: dict[str, tuple[bytes, float]] = {}

    def is_free(self, number: int) -> bool:
        return not any(
            self._is_alive(name) for name in _names(self._store, self._folder, "alive") if _number_of(name) < number
        )

    def renew(self, number: int) -> None:
        self._store.write_atomic(f"{self._folder}/alive-{number:08d}", orjson.dumps({"at_s": self._clock()}))

    def end(self, number: int) -> None:
        self._store.delete(f"{self._folder}/alive-{number:08d}")

    def _is_alive(self, name: str) -> bool:
        now_s = self._clock()
        data = self._store.find(name)
        if data is None:
            return False
        if self._seen.get(name, (b"", 0.0))[0] != data:
            self._seen[name] = (data, now_s)
        unchanged_s = now_s - self._seen[name][1]
        return bool(max(now_s - orjson.loads(data)["at_s"], unchanged_s) < EXPIRY_S)


class Lease:
    """A held lease; made by `Lease.acquire`."""

    def __init__(self, store: Store, folder: str, holder: Holder, life: _Life, clock: Clock, poll_s: float) -> None:
        self.holder = holder
        self._store = store
        self._folder = folder
        self._life = life
        self._clock = clock
        self._poll_s = poll_s
        self._polled_at_s = clock()
        self._renewed_at_s = clock()
        self._is_held = True
        self._released = threading.Event()
        self._thread: threading.Thread | None = None

    @classmethod
    def acquire(
        cls,
        store: Store,
        folder: str,
        *,
        owner: str,
        mode: Literal["fence", "refuse"] = "fence",
        clock: Clock = time.time,
        sleep: Callable[[float], None] = time.sleep,
        wait_s: float | None = None,
        poll_s: float | None = None,
        background: bool = True,
    ) -> "Lease":
        """Takes the lease of a folder.

        `refuse`: LeaseHeld, which names the holder while one lives. `fence`: tells the holder to stop and waits up to
        `wait_s` until it has let go, so that all it wrote can be seen; then LeaseHeld. LeaseLost where a third one
        takes over meanwhile. `clock` gives seconds since the epoch. A remote lease is renewed by a thread of its own,
        or without `background` by calls of `tick`.
        """
        is_local = isinstance(store, LocalStore)
        life: _Life = _LocalLife(store, folder) if isinstance(store, LocalStore) else _RemoteLife(store, folder, clock)
        poll_s = poll_s if poll_s is not None else POLL_S if is_local else RENEW_S
        wait_s = wait_s if wait_s is not None else LOCAL_WAIT_S if is_local else REMOTE_WAIT_S
        lease: Lease | None = None
        try:
            if mode == "refuse" and not life.is_free(_highest(store, folder) + 1):
                raise _refused(store, folder, current_holder(store, folder))
            lease = cls(store, folder, _announce(store, folder, owner, clock), life, clock, poll_s)
            life.renew(lease.number)
            lease._wait(0.0 if mode == "refuse" else wait_s, sleep)
            lease._forget_older()
        except StateError:
            with contextlib.suppress(StateError):
                life.end(lease.number if lease is not None else 0)
            raise
        if background and life.is_renewed:
            lease._thread = threading.Thread(target=lease._keep_alive, name="lease", daemon=True)
            lease._thread.start()
        return lease

    @property
    def number(self) -> int:
        """The fencing number: a later holder has a larger one."""
        return self.holder.number

    def is_held(self) -> bool:
        """False once another has announced itself or the sign of life is too old; looks every `poll_s` at most."""
        if self._is_held and not self._life.is_renewed:
            now_s = self._clock()
            if not 0 <= now_s - self._polled_at_s < self._poll_s:
                self._polled_at_s = now_s
                self._is_held = self._is_newest()
        elif self._is_held and self._clock() - self._renewed_at_s > EXPIRY_S:
            self._is_held = False
        return self._is_held

    def check(self) -> None:
        """LeaseLost where `is_held` says no."""
        if not self.is_held():
            raise self._lost()

    def tick(self) -> None:
        """Renews a remote lease and looks for a newer holder, when it is time."""
        now_s = self._clock()
        if self._is_held and self._life.is_renewed and now_s - self._polled_at_s >= self._poll_s:
            self._polled_at_s = now_s
            self._is_held = self._is_newest()
            if self._is_held:
                self._life.renew(self.number)
                self._renewed_at_s = now_s

    def release(self) -> None:
        """Lets the next one in."""
        self._released.set()
        if self._thread is not None:
            self._thread.join()
        self._is_held = False
        self._life.end(self.number)

    def _keep_alive(self) -> None:
        while not self._released.wait(min(self._poll_s, RENEW_S)):
            with contextlib.suppress(StateError):  # `is_held` gives up when no renewal works for too long
                self.tick()

    def _wait(self, wait_s: float, sleep: Callable[[float], None]) -> None:
        until_s = self._clock() + wait_s
        while not self._life.is_free(self.number):
            if not self._is_newest():
                raise self._lost()
            if self._clock() >= until_s:
                raise _refused(self._store, self._folder, _older_holder(self._store, self._folder, self.number))
            sleep(_REMOTE_RETRY_S if self._life.is_renewed else _LOCAL_RETRY_S)
            self.tick()

    def _is_newest(self) -> bool:
        """Its own announcement still stands, as it wrote it, and there is no later one."""
        own = self._store.find(_file(self._folder, self.number))
        return own == _encoded(self.holder) and not self._store.exists(_file(self._folder, self.number + 1))

    def _forget_older(self) -> None:
        for kind in ("lease", "alive"):
            for name in _names(self._store, self._folder, kind):
                if _number_of(name) < self.number:
                    self._store.delete(name)

    def _lost(self) -> LeaseLost:
        newer = current_holder(self._store, self._folder)
        by = str(newer) if newer is not None and newer.token != self.holder.token else "another attempt"
        return LeaseLost(f"{self._store.root}/{self._folder} was taken over by {by}; this attempt stops calling")


def current_holder(store: Store, folder: str) -> Holder | None:
    """Who announced the highest number; it may be dead. None where nobody ever did."""
    data = store.find(_file(folder, _highest(store, folder)))
    return Holder(**orjson.loads(data)) if data is not None else None


def is_alive(store: Store, folder: str, now_s: float) -> bool:
    """True while some process holds the lease of the folder."""
    if isinstance(store, LocalStore):
        if not store.exists(f"{folder}/lock"):
            return False
        lock = store.try_lock(f"{folder}/lock")
        if lock is not None:
            lock.release()
        return lock is None
    return not _RemoteLife(store, folder, lambda: now_s).is_free(_highest(store, folder) + 1)


def _announce(store: Store, folder: str, owner: str, clock: Clock) -> Holder:
    while True:
        number = _highest(store, folder) + 1
        holder = Holder(number, owner, os.getpid(), socket.gethostname(), clock(), uuid.uuid4().hex)
        if store.put_if_absent(_file(folder, number), _encoded(holder)):
            return holder


def _encoded(holder: Holder) -> bytes:
    return orjson.dumps(asdict(holder))


def _file(folder: str, number: int) -> str:
    return f"{folder}/lease-{number:08d}"


def _names(store: Store, folder: str, kind: str) -> list[str]:
    return [name for name, _, _ in store.list(folder) if name.startswith(f"{folder}/{kind}-")]


def _number_of(name: str) -> int:
    return int(name.rsplit("-", 1)[1])


def _highest(store: Store, folder: str) -> int:
    return max((_number_of(name) for name in _names(store, folder, "lease")), default=0)


def _older_holder(store: Store, folder: str, number: int) -> Holder | None:
    older = [n for n in map(_number_of, _names(store, folder, "lease")) if n < number]
    data = store.find(_file(folder, max(older))) if older else None
    return Holder(**orjson.loads(data)) if data is not None else None


def _refused(store: Store, folder: str, holder: Holder | None) -> LeaseHeld:
    who = str(holder) if holder is not None else "another process"
    frees = "at once" if isinstance(store, LocalStore) else f"within {EXPIRY_S:.0f} s"
    return LeaseHeld(
        f"{store.root}/{folder} is in use by {who}: wait for it or end it; "
        f"once that process is gone, it is free {frees}"
    )
