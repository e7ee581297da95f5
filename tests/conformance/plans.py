"""Statements in which Spark would evaluate a call twice, and how many calls each one costs. Two rows of `good` ask.

A statement over `{answers}` and the like is run twice: over the sub-query that calls in SQL, and over a view of the same
made with columns. A statement that has its calls in it is written a second time with columns.
"""

from collections.abc import Callable
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from pipeline import ai_query


@dataclass(frozen=True)
class Inner:
    """Rows with a call, as a sub-query and as a frame."""

    query: str
    frame: Callable[[SparkSession], DataFrame]


@dataclass(frozen=True)
class Plan:
    """What a statement costs, and the same with columns."""

    calls: int
    frame: Callable[[SparkSession], DataFrame]


def asked(column: Column | str = "p") -> Column:
    return ai_query("chat", column).alias("r")


def rows_of(column: Column) -> Column:
    return ai_query("chat", F.concat(F.lit("Row "), column)).alias("r")


def good(spark: SparkSession, *columns: Column | str) -> DataFrame:
    return spark.table("good").select(*columns)


INNERS = {
    "answers": Inner("SELECT i, ai_query('chat', p) r FROM good", lambda s: good(s, "i", asked())),
    "known": Inner(
        "SELECT i, ai_query('chat', p) r FROM good WHERE p IS NOT NULL",
        lambda s: s.table("good").where("p IS NOT NULL").select("i", asked()),
    ),
    "envelopes": Inner(
        "SELECT i, ai_query('chat', p, failOnError => false) r FROM good",
        lambda s: good(s, "i", ai_query("chat", "p", fail_on_error=False).alias("r")),
    ),
    "many": Inner(
        "SELECT ai_query('chat', 'Row ' || id) r FROM range(0, 100000, 1, 1)",
        lambda s: s.range(0, 100_000, 1, 1).select(rows_of(F.col("id"))),
    ),
}

# The double purchases of the plans that were measured: statement -> calls
OVER = {
    "SELECT r.result, r.errorMessage FROM {envelopes}": 2,
    "SELECT upper(r), lower(r), length(r) FROM {answers}": 2,
    "SELECT * FROM {answers} WHERE r IS NOT NULL": 2,
    "SELECT * FROM {answers} WHERE r LIKE 'P%' AND length(r) > 2": 2,
    "SELECT CASE WHEN r LIKE 'P%' THEN r ELSE 'x' || r END FROM {answers}": 2,
    "SELECT coalesce(r, r || 'x', 'none') FROM {answers}": 2,
    "SELECT r, count(*) FROM {answers} GROUP BY r": 2,
    "SELECT count(*) FROM {answers}": 0,
    "SELECT i FROM {answers}": 0,
    "WITH c AS (SELECT r FROM {answers}) SELECT a.r FROM c a WHERE a.r = (SELECT min(p) FROM good)": 2,
    "SELECT r FROM {many} LIMIT 10": 10,
    "WITH c AS (SELECT * FROM {envelopes})"
    " SELECT i FROM c WHERE r.result IS NULL UNION ALL SELECT i FROM c WHERE r.result > ''": 2,
    "WITH c AS (SELECT * FROM {envelopes}) SELECT a.i FROM c a JOIN c b ON a.r.result = b.r.result": 2,
    "SELECT i FROM good WHERE i IN (SELECT i FROM {envelopes} WHERE r.result LIKE 'P%')": 2,
    "SELECT (SELECT max(r) FROM {answers}) m FROM good": 2,
    "SELECT DISTINCT r FROM {answers}": 2,
    "SELECT r, rank() OVER (ORDER BY r) FROM {answers}": 2,
    "SELECT explode(split(r, ' ')) FROM {answers}": 2,
    "SELECT * FROM {known} PIVOT (max(r) FOR i IN (1, 3))": 2,
    "CREATE TABLE landed USING parquet AS SELECT * FROM {answers}": 2,
    "INSERT INTO landed SELECT * FROM {answers}": 2,
    "INSERT OVERWRITE landed SELECT * FROM {answers} ORDER BY r": 2,
    "CREATE OR REPLACE TEMP VIEW seen AS SELECT * FROM {answers}": 0,
    "SELECT upper(r), length(r) FROM seen WHERE r LIKE 'P%'": 2,
}


def detailed(field: str) -> Column:
    return ai_query("chat", "p", details=True)[field]


PLANS = {
    "SELECT ai_query('chat', p) r, count(*) FROM good GROUP BY ai_query('chat', p)": Plan(
        2, lambda s: s.table("good").groupBy(asked()).count()
    ),
    "SELECT ai_query('chat', max(p)) r FROM good": Plan(1, lambda s: s.table("good").agg(asked(F.max("p")))),
    "SELECT ai_query('chat', 'Row ' || id) FROM range(0, 100000, 1, 1) LIMIT 10": Plan(
        10, lambda s: s.range(0, 100_000, 1, 1).select(rows_of(F.col("id"))).limit(10)
    ),
    "SELECT ai_query('chat', p, details => true).result, ai_query('chat', p, details => true).errorMessage FROM good": (
        Plan(2, lambda s: good(s, detailed("result"), detailed("errorMessage")))
    ),
    "SELECT ai_query('chat', p) a, upper(ai_query('chat', p)) b FROM good": Plan(
        2, lambda s: good(s, asked(), F.upper(asked()))
    ),
    "SELECT ai_query('chat', p) r FROM good WHERE i < 3 UNION ALL SELECT ai_query('chat', p) r FROM good WHERE i >= 3": (
        Plan(2, lambda s: s.table("good").where("i < 3").select(asked()).union(
            s.table("good").where("i >= 3").select(asked())))
    ),
    "SELECT ai_query('chat', p) r FROM good UNION SELECT ai_query('chat', p) r FROM good": Plan(
        2, lambda s: good(s, asked()).union(good(s, asked())).distinct()
    ),
    "SELECT id, ai_query('chat', 'Row ' || id) r FROM range(0, 20, 1, 2) ORDER BY r": Plan(
        20, lambda s: s.range(0, 20, 1, 2).select("id", rows_of(F.col("id"))).orderBy("r")
    ),
    "SELECT ai_query('chat', 'Row ' || id % 5) r FROM range(0, 100, 1, 4)": Plan(
        5, lambda s: s.range(0, 100, 1, 4).select(rows_of(F.col("id") % 5))
    ),
    "SELECT r FROM good LATERAL VIEW explode(array(ai_query('chat', p))) AS r": Plan(
        2, lambda s: good(s, F.explode(F.array(asked())))
    ),
    # Spark takes Python functions out of CASE and COALESCE before it decides; a NULL request is what skips
    "SELECT CASE WHEN i = 1 THEN ai_query('chat', p) END FROM good": Plan(
        2, lambda s: good(s, F.when(F.col("i") == 1, asked()))
    ),
    "SELECT coalesce(p, ai_query('chat', p)) FROM good": Plan(2, lambda s: good(s, F.coalesce("p", asked()))),
    "SELECT coalesce(IF(i = 1, p, NULL), ai_query('chat', IF(i = 1, NULL, p))) FROM good": Plan(
        1,
        lambda s: good(
            s, F.coalesce(F.when(F.col("i") == 1, F.col("p")), asked(F.when(F.col("i") != 1, F.col("p"))))
        ),
    ),
}  # fmt: skip

# What Spark refuses to any nondeterministic function, which is what keeps calls from being evaluated twice
NOT_ALLOWED = {
    "SELECT max(ai_query('chat', p)) FROM good": Plan(0, lambda s: s.table("good").agg(F.max(asked()))),
    "SELECT r FROM good, LATERAL (SELECT ai_query('chat', p) AS r)": Plan(
        0, lambda s: s.table("good").lateralJoin(s.range(1).select(asked(F.col("p").outer())))
    ),
}
NOT_ALLOWED_AS = "AGGREGATE_FUNCTION_WITH_NONDETERMINISTIC_EXPRESSION|UNSUPPORTED_SUBQUERY_EXPRESSION_CATEGORY"


def halves(spark: SparkSession) -> DataFrame:
    frame = spark.table("good").withColumn("r", ai_query("chat", "p", fail_on_error=False))
    return frame.where("r.result IS NOT NULL").unionByName(frame.where("r.errorMessage IS NOT NULL"))


def chained(spark: SparkSession) -> DataFrame:
    frame = spark.table("good").withColumn("r", ai_query("chat", "p", fail_on_error=False))
    return (
        frame.withColumn("a", F.upper("r.result")).withColumn("b", F.length("a")).select("r.*", "a", "b").where("b > 1")
    )


# frames as only columns write them
FRAMES: dict[str, tuple[Callable[[SparkSession], DataFrame], int]] = {
    "union of the filtered halves": (halves, 2),
    "a chain of columns, all fields, a filter": (chained, 2),
    "sorted": (lambda s: s.table("good").repartition(2, "i").select(asked()).orderBy("r"), 2),
}
