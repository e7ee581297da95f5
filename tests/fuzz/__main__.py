"""`python -m tests.fuzz --bodies 1000000`: answers as no server should send them, to the columns of a table."""

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor

from tests.fuzz.check import Checker

BODIES_AT_ONCE = 10_000


def main() -> None:
    """Prints what became of them; an AssertionError names the seed and the body that did harm."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--bodies", type=int, default=1_000_000)
    parser.add_argument(
        "--seed", type=int, default=0, help=f"of the first {BODIES_AT_ONCE:,}; the next as many have the next"
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    options = parser.parse_args()
    started = time.perf_counter()
    counts = [min(BODIES_AT_ONCE, options.bodies - begun) for begun in range(0, options.bodies, BODIES_AT_ONCE)]
    whole = Checker()
    with ProcessPoolExecutor(options.processes) as pool:
        for checker in pool.map(checked, range(options.seed, options.seed + len(counts)), counts):
            whole.add(checker)
    took_s = time.perf_counter() - started
    print(
        f"{options.bodies:,} bodies in {took_s:.0f} s, {options.bodies / took_s:,.0f} per second: {whole.vectors:,} vectors "
        f"landed, {whole.row_errors:,} rows and {whole.failures:,} calls failed, nothing raised"
    )
    for code, count in whole.codes.most_common():
        print(f"  {count:>9,} {code}")


def checked(seed: int, count: int) -> Checker:
    """The bodies of one seed."""
    checker = Checker()
    try:
        checker.run(seed, count)
    except BaseException as exc:
        exc.add_note(f"replay: --seed {seed} --bodies {count}")
        raise
    return checker


if __name__ == "__main__":
    main()
