"""A job's workers and its quota book in virtual time: who starts which call when."""

import heapq
import math
import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count

from pipeline.limits import Ask, Cost, Grant, LeaseHolder, Limit, QuotaBook, QuotaSpec


@dataclass(frozen=True)
class Scene:
    """What happens; times in seconds. A call's input tokens vary by half of `input_tokens` either way."""

    workers: int = 64
    requests_per_minute: float = 1_000
    tokens_per_minute: float = 1_000_000
    input_tokens: int = 900
    output_tokens: int = 100
    reserved_tokens: int = 200
    latency_s: float = 2.0
    trip_s: float = 0.01  # a question and its answer
    lasts_s: float = 100.0
    half_leave_at_s: float | None = None
    are_killed: bool = False  # those that leave give nothing back
    server_dies_at_s: float | None = None
    server_returns_at_s: float | None = None


@dataclass
class Played:
    """What happened: (time, worker) of each start, (time, tokens that the provider counts) of the same."""

    starts: list[tuple[float, int]] = field(default_factory=list)
    tokens: list[tuple[float, float]] = field(default_factory=list)
    questions: int = 0

    @property
    def requests(self) -> list[tuple[float, float]]:
        return [(at_s, 1.0) for at_s, _ in self.starts]


def worst(points: Iterable[tuple[float, float]], window_s: float = 60.0) -> float:
    """The largest sum in any window."""
    held: deque[tuple[float, float]] = deque()
    current = most = 0.0
    for at_s, amount in points:
        held.append((at_s, amount))
        current += amount
        while held[0][0] <= at_s - window_s:
            current -= held.popleft()[1]
        most = max(most, current)
    return most


def per_minute(points: Iterable[tuple[float, float]], since_s: float, until_s: float) -> float:
    return sum(amount for at_s, amount in points if since_s <= at_s < until_s) / (until_s - since_s) * 60


class Simulation:
    """One scene, once."""

    def __init__(self, scene: Scene, seed: int) -> None:
        self.scene = scene
        self.rng = random.Random(seed)
        self.spec = QuotaSpec(
            in_flight=scene.workers * 64,
            limits=(
                Limit("requests_per_minute", "requests", scene.requests_per_minute, 60.0),
                Limit("tokens_per_minute", "tokens", scene.tokens_per_minute, 60.0),
            ),
            workers=scene.workers,
        )
        self.book = QuotaBook(self.spec, 0.0)
        self.is_alive = True
        self.holders = [LeaseHolder(self.spec) for _ in range(scene.workers)]
        self.queues = [deque(self.cost() for _ in range(80)) for _ in range(scene.workers)]
        self.in_flight = [0] * scene.workers
        self.asked_s = [-1.0] * scene.workers
        self.timers = [0.0] * scene.workers
        self.joined: set[int] = set()
        self.gone: set[int] = set()
        self.events: list[tuple[float, int, str, tuple[object, ...]]] = []
        self.numbers = count()
        self.played = Played()

    def cost(self) -> Cost:
        scene = self.scene
        return Cost(1, int(scene.input_tokens * self.rng.uniform(0.5, 1.5)), scene.reserved_tokens)

    def at(self, at_s: float, what: str, *about: object) -> None:
        heapq.heappush(self.events, (at_s, next(self.numbers), what, about))

    def play(self) -> Played:
        scene = self.scene
        for worker in range(scene.workers):
            self.timers[worker] = self.rng.uniform(0, 0.5)
            self.at(self.timers[worker], "turn", worker)
        for at_s, what in (
            (scene.half_leave_at_s, "leave"),
            (scene.server_dies_at_s, "die"),
            (scene.server_returns_at_s, "come_back"),
        ):
            if at_s is not None:
                self.at(at_s, what)
        while self.events:
            now_s, _, what, about = heapq.heappop(self.events)
            if now_s > scene.lasts_s:
                break
            getattr(self, what)(now_s, *about)
        return self.played

    def die(self, now_s: float) -> None:
        self.is_alive = False
        self.joined.clear()

    def come_back(self, now_s: float) -> None:
        self.book = QuotaBook(self.spec, now_s, is_restart=True)
        self.is_alive = True

    def leave(self, now_s: float) -> None:
        for worker in range(0, self.scene.workers, 2):
            self.gone.add(worker)
            if worker in self.joined:
                self.joined.remove(worker)
                credits = () if self.scene.are_killed else self.holders[worker].last_credits(now_s)
                self.book.leave(worker, credits, now_s)

    def turn(self, now_s: float, worker: int) -> None:
        if self.timers[worker] == now_s and worker not in self.gone:
            self.work(now_s, worker)

    def end(self, now_s: float, worker: int, charged: Cost, used: Cost, charged_s: float) -> None:
        self.in_flight[worker] -= 1
        self.holders[worker].settle(charged, used, charged_s)
        if worker not in self.gone:
            self.work(now_s, worker)

    def answer(self, now_s: float, worker: int, ask: Ask, grant: Grant | None) -> None:
        if worker in self.gone:
            return
        if grant is None:
            self.holders[worker].lost(now_s)
        else:
            self.holders[worker].granted(ask, grant, now_s)
        self.work(now_s, worker)

    def work(self, now_s: float, worker: int) -> None:
        """Starts what may start, asks what is due, and comes back when something changes."""
        holder, queue = self.holders[worker], self.queues[worker]
        wait_s = math.inf
        while self.in_flight[worker] < holder.in_flight:
            wait_s = holder.take(queue[0], now_s)
            if wait_s > 0:
                break
            self.start(now_s, worker)
        if holder.ask_in_s(now_s, len(queue)) <= 1e-6 and now_s - self.asked_s[worker] >= 0.02:
            self.ask(now_s, worker)
        due_s = max(holder.ask_in_s(now_s, len(queue)), self.asked_s[worker] + 0.02 - now_s)
        self.timers[worker] = now_s + max(1e-3, min(due_s, wait_s))
        self.at(self.timers[worker], "turn", worker)

    def start(self, now_s: float, worker: int) -> None:
        scene, holder = self.scene, self.holders[worker]
        queue = self.queues[worker]
        queue.popleft()
        queue.append(self.cost())
        self.in_flight[worker] += 1
        charged = holder.charged
        output_tokens = int(scene.output_tokens * self.rng.uniform(0.5, 1.5))
        used = Cost(1, int(charged.input_tokens * self.rng.uniform(0.9, 1.0)), output_tokens)
        self.played.starts.append((now_s, worker))
        self.played.tokens.append((now_s, float(used.tokens)))
        latency_s = scene.latency_s * self.rng.uniform(0.5, 1.5)
        self.at(now_s + latency_s, "end", worker, charged, used, holder.charged_s)

    def ask(self, now_s: float, worker: int) -> None:
        self.asked_s[worker] = now_s
        queue = self.queues[worker]
        ask = self.holders[worker].ask(now_s, self.in_flight[worker], self.spec.in_flight, len(queue), list(queue))
        grant = None
        if self.is_alive:
            self.played.questions += 1
            if worker not in self.joined:
                self.book.join(worker, now_s)
                self.joined.add(worker)
            grant = self.book.ask(worker, ask, now_s + self.scene.trip_s / 2)
        self.at(now_s + self.scene.trip_s, "answer", worker, ask, grant)
