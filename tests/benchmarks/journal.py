"""How fast the journal writes, opens and replays: `python -m tests.benchmarks.journal [--requests N]`."""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pipeline.journal import BucketJournal, journal_spend, journal_totals
from pipeline.records import Exchange, HttpResponse, Usage
from pipeline.storage import LocalStore

FRAME_BYTES = 2_000
ROUNDS = 5


def request_id(number: int) -> str:
    return f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}{number:048x}"


def exchange(number: int, body: bytes) -> Exchange:
    return Exchange(
        (request_id(number),),
        1,
        1.8e9,
        812.5,
        HttpResponse(200, body, {"content-type": "application/json"}),
        run_id="r0001-20261121T120000",
        usage=Usage(120, 80, 200),
        is_final=True,
    )


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor time."""
    started_s, cpu_s = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - started_s, time.process_time() - cpu_s


def open_bucket(root: str, attempt: str) -> BucketJournal:
    return BucketJournal.open(LocalStore(root), "fingerprint", 0, run_id="run", attempt=attempt)


def measure_appends(root: str, count: int) -> None:
    """Rounds of both kinds take turns, so that a busy machine slows both."""
    frame = os.urandom(FRAME_BYTES)
    exchanges = [exchange(number, os.urandom(FRAME_BYTES - 300)) for number in range(count)]
    journal = open_bucket(root, "appends")
    fd = os.open(f"{root}/bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def appends() -> None:
        for each in exchanges:
            journal.append(each)

    def bare() -> None:
        for _ in range(count):
            os.write(fd, frame)

    rounds = [(seconds(appends), seconds(bare)) for _ in range(ROUNDS)]
    append_s, append_cpu_s = min(mine for mine, _ in rounds)
    bare_s, bare_cpu_s = min(theirs for _, theirs in rounds)
    os.close(fd)
    journal.close()
    print(f"append, {FRAME_BYTES} B    {count / append_s:>10,.0f}/s  {append_s / count * 1e6:6.1f} us each")
    print(f"bare os.write     {count / bare_s:>10,.0f}/s  {bare_s / count * 1e6:6.1f} us each")
    own_us = (append_cpu_s - bare_cpu_s) / count * 1e6
    print(f"ratio             {append_s / bare_s:>10.2f}    of processor, beyond the write: {own_us:.1f} us each")


def measure_replay(root: str, count: int) -> None:
    journal = open_bucket(root, "fills")
    body = os.urandom(FRAME_BYTES - 300)
    for number in range(count):
        journal.append(exchange(number, body))
    journal.close()
    opened: list[BucketJournal] = []
    open_s, _ = seconds(lambda: opened.append(open_bucket(root, "replays")))
    journal = opened[0]

    def replay() -> None:
        for start in range(0, count, 10_000):
            ids = [request_id(number) for number in range(start, min(start + 10_000, count))]
            for entry in journal.lookup(ids):
                assert entry is not None
                journal.read(entry)

    replay_s, _ = seconds(replay)
    journal.close()
    totals_s, _ = seconds(lambda: journal_totals(LocalStore(root), "fingerprint"))
    spend_s, _ = seconds(lambda: journal_spend(LocalStore(root), "fingerprint"))
    print(f"open, verified    {count / open_s:>10,.0f}/s")
    print(f"lookup and read   {count / replay_s:>10,.0f}/s  (to reach: 20,000)")
    print(f"totals            {count / totals_s:>10,.0f}/s")
    print(f"spend, from seals {count / spend_s:>10,.0f}/s")


def measure_opening(root: str, count: int) -> None:
    """A fresh process, so that its memory is what opening takes."""
    journal = open_bucket(root, "fills")
    body = os.urandom(FRAME_BYTES - 300)
    for number in range(count):
        journal.append(exchange(number, body))
    journal.close()
    size = sum(path.stat().st_size for path in Path(root).rglob("*.seg"))
    script = f"from tests.benchmarks.journal import open_and_report; open_and_report({root!r}, {count})"
    print(f"opening {count:,} requests, {size / 2**20:,.0f} MiB of journal:")
    sys.stdout.flush()
    subprocess.run([sys.executable, "-c", script], check=True)


def open_and_report(root: str, count: int) -> None:
    before_mib = peak_mib()
    opened: list[BucketJournal] = []
    wall_s, cpu_s = seconds(lambda: opened.append(open_bucket(root, "opens")))
    ids = [request_id(number) for number in range(0, count, 97)]
    assert all(opened[0].lookup(ids))
    opened[0].close()
    print(f"  {wall_s:.1f} s, {cpu_s:.1f} s of processor  (to reach: 60)")
    print(f"  {peak_mib():.0f} MiB resident at most, {before_mib:.0f} before opening  (to reach: 512)")


def peak_mib() -> float:
    """The largest resident size of this process so far; `getrusage` would count its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000, help="in the journal that is opened")
    options = parser.parse_args()
    for work, count in ((measure_appends, 20_000), (measure_replay, 50_000), (measure_opening, options.requests)):
        with tempfile.TemporaryDirectory() as root:
            work(root, count)


if __name__ == "__main__":
    main()
