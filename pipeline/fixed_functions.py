"""SQL names under Spark Connect: ordinary UDFs with one type each, planned by their workers."""

from dataclasses import replace
from functools import partial

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from pipeline.ddl import parse_type
from pipeline.functions import calling_udf, place, registered
from pipeline.late_calls import FIXED_TYPES, run_late

DIFFERENCES = (
    "Spark Connect registers SQL functions with one type each: ai_query(endpoint, request [, NULL, true, "
    "modelParameters, responseFormat]) is STRING and ai_extract a MAP<STRING, STRING>, without its version 2; arguments are "
    "by position, and a wrong call fails when it runs, not at analysis; version 2 of ai_classify is the text of its JSON, "
    "and spark.conf pipeline.ai.* counts as it is at register. The column functions of this package have no such limits"
)


def register_fixed(spark: SparkSession) -> None:
    """Registers every function by its name; endpoints and settings are those of now, not of the later statement."""
    # Spark makes so many partitions of a range: a client cannot read the setting
    last = spark.range(1 << 16).select(F.spark_partition_id().alias("at")).agg(F.max("at")).first()
    registered.remote_slots = last[0] + 1 if last is not None else 1
    # Spark reads types on the driver; a worker has no Spark to ask
    at = replace(place(), read_type=parse_type)
    for name, kind in FIXED_TYPES.items():
        spark.udf.register(name, calling_udf(name, partial(run_late, name=name, place=at), kind))
