"""The process that Spark forks its Python workers from, with everything loaded that a worker needs.

`spark.python.daemon.module = pipeline.worker_daemon`. Spark's own daemon loads neither Arrow nor this package, so every
worker does, and every retried attempt of a task again: 1 s of CPU each. Loop, clients and connections are made in the
fork; the threads that Arrow's allocator and numpy's BLAS start when they are loaded know how to be forked. Arrow loads
pandas with the first list that it makes an array of, so pandas is loaded too. Nothing may be left to load in a worker:
Spark puts every jar of `spark.jars.packages` on its path, and the first search reads their directories (0.3 s of CPU).

Its workers also know at once when nobody reads them any more (`reader`).
"""

import select
import sys
from typing import BinaryIO

from pipeline import module_path, reader

if __name__ == "__main__":  # before anything is loaded from there
    sys.path[:] = module_path.sooner(sys.path)

import pandas
import pyarrow.pandas_compat
import pyarrow.vendored.version
import pyspark.worker
from pyspark.daemon import manager
from pyspark.sql.pandas import serializers

import pipeline.column_worker
import pipeline.task

LOADED = (pandas, pyarrow, pyspark.worker, serializers, pipeline.column_worker, pipeline.task)

_main = pyspark.worker.main


def main(infile: BinaryIO, outfile: BinaryIO) -> None:
    """What Spark's daemon calls in each fork."""
    reader.watch(outfile)
    _main(infile, outfile)


if hasattr(select, "POLLRDHUP"):  # Linux
    pyspark.worker.main = main

if __name__ == "__main__":
    manager()
