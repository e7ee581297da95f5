"""`python -m tests.fuzz --bodies 1000000`: answers as no server should send them, to the columns of a table."""

import argparse
import time

from tests.fuzz.check import Checker


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bodies", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    started = time.perf_counter()
    checker = Checker()
    checker.run(arguments.seed, arguments.bodies)
    took_s = time.perf_counter() - started
    print(
        f"{arguments.bodies:,} bodies in {took_s:.0f} s: {checker.vectors:,} vectors landed, {checker.row_errors:,} rows "
        f"and {checker.failures:,} calls failed, nothing raised"
    )
    for code, count in checker.codes.most_common():
        print(f"  {count:>9,} {code}")


if __name__ == "__main__":
    main()
