"""Statements in which Spark would evaluate a call twice, and how many calls each one costs. Two rows of `good` ask."""

from collections.abc import Callable

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pipeline import ai_query

ASKED = "SELECT i, ai_query('chat', p, failOnError => false) r FROM good"

# The double purchases of the plans that were measured: statement -> calls
PLANS = {
    "SELECT r.result, r.errorMessage FROM (SELECT ai_query('chat', p, failOnError => false) r FROM good)": 2,
    "SELECT upper(r), lower(r), length(r) FROM (SELECT ai_query('chat', p) r FROM good)": 2,
    "SELECT * FROM (SELECT ai_query('chat', p) r FROM good) WHERE r IS NOT NULL": 2,
    "SELECT * FROM (SELECT i, ai_query('chat', p) r FROM good) WHERE r LIKE 'P%' AND length(r) > 2": 2,
    "SELECT CASE WHEN r LIKE 'P%' THEN r ELSE 'x' || r END FROM (SELECT ai_query('chat', p) r FROM good)": 2,
    "SELECT coalesce(r, r || 'x', 'none') FROM (SELECT ai_query('chat', p) r FROM good)": 2,
    "SELECT r, count(*) FROM (SELECT ai_query('chat', p) r FROM good) GROUP BY r": 2,
    "SELECT ai_query('chat', p) r, count(*) FROM good GROUP BY ai_query('chat', p)": 2,
    "SELECT count(*) FROM (SELECT ai_query('chat', p) r FROM good)": 0,
    "SELECT i FROM (SELECT i, ai_query('chat', p) r FROM good)": 0,
    "WITH c AS (SELECT ai_query('chat', p) r FROM good) SELECT a.r FROM c a WHERE a.r = (SELECT min(p) FROM good)": 2,
    "SELECT ai_query('chat', max(p)) r FROM good": 1,
    "SELECT ai_query('chat', 'Row ' || id) FROM range(0, 100000, 1, 1) LIMIT 10": 10,
    "SELECT r FROM (SELECT ai_query('chat', 'Row ' || id) r FROM range(0, 100000, 1, 1)) LIMIT 10": 10,
    "SELECT ai_query('chat', p, details => true).result, ai_query('chat', p, details => true).errorMessage FROM good": 2,
    "SELECT ai_query('chat', p) a, upper(ai_query('chat', p)) b FROM good": 2,
    f"WITH c AS ({ASKED}) SELECT i FROM c WHERE r.result IS NULL UNION ALL SELECT i FROM c WHERE r.result > ''": 2,
    "SELECT ai_query('chat', p) r FROM good WHERE i < 3 UNION ALL SELECT ai_query('chat', p) r FROM good WHERE i >= 3": 2,
    "SELECT ai_query('chat', p) r FROM good UNION SELECT ai_query('chat', p) r FROM good": 2,
    f"WITH c AS ({ASKED}) SELECT a.i FROM c a JOIN c b ON a.r.result = b.r.result": 2,
    f"SELECT i FROM good WHERE i IN (SELECT i FROM ({ASKED}) WHERE r.result LIKE 'P%')": 2,
    "SELECT (SELECT max(r) FROM (SELECT ai_query('chat', p) r FROM good)) m FROM good": 2,
    "SELECT id, ai_query('chat', 'Row ' || id) r FROM range(0, 20, 1, 2) ORDER BY r": 20,
    "SELECT ai_query('chat', 'Row ' || id % 5) r FROM range(0, 100, 1, 4)": 5,
    "SELECT DISTINCT ai_query('chat', p) r FROM good": 2,
    "SELECT r, rank() OVER (ORDER BY r) FROM (SELECT ai_query('chat', p) r FROM good)": 2,
    "SELECT explode(split(r, ' ')) FROM (SELECT ai_query('chat', p) r FROM good)": 2,
    "SELECT * FROM (SELECT i, ai_query('chat', p) r FROM good WHERE p IS NOT NULL) PIVOT (max(r) FOR i IN (1, 3))": 2,
    "SELECT r FROM good LATERAL VIEW explode(array(ai_query('chat', p))) AS r": 2,
    # Spark takes Python functions out of CASE and COALESCE before it decides; a NULL request is what skips
    "SELECT CASE WHEN i = 1 THEN ai_query('chat', p) END FROM good": 2,
    "SELECT coalesce(p, ai_query('chat', p)) FROM good": 2,
    "SELECT coalesce(IF(i = 1, p, NULL), ai_query('chat', IF(i = 1, NULL, p))) FROM good": 1,
    "CREATE TABLE landed USING parquet AS SELECT i, ai_query('chat', p) r FROM good": 2,
    "INSERT INTO landed SELECT i, ai_query('chat', p) r FROM good": 2,
    "INSERT OVERWRITE landed SELECT i, ai_query('chat', p) r FROM good ORDER BY r": 2,
    "CREATE OR REPLACE TEMP VIEW seen AS SELECT i, ai_query('chat', p) r FROM good": 0,
    "SELECT upper(r), length(r) FROM seen WHERE r LIKE 'P%'": 2,
}

# What Spark refuses to any nondeterministic function, which is what keeps calls from being evaluated twice
NOT_ALLOWED = {
    "SELECT max(ai_query('chat', p)) FROM good": "AGGREGATE_FUNCTION_WITH_NONDETERMINISTIC_EXPRESSION",
    "SELECT r FROM good, LATERAL (SELECT ai_query('chat', p) AS r)": "UNSUPPORTED_SUBQUERY_EXPRESSION_CATEGORY",
}


def halves(spark: SparkSession) -> DataFrame:
    asked = spark.table("good").withColumn("r", ai_query("chat", "p", fail_on_error=False))
    return asked.where("r.result IS NOT NULL").unionByName(asked.where("r.errorMessage IS NOT NULL"))


def chained(spark: SparkSession) -> DataFrame:
    asked = spark.table("good").withColumn("r", ai_query("chat", "p", fail_on_error=False))
    return (
        asked.withColumn("a", F.upper("r.result")).withColumn("b", F.length("a")).select("r.*", "a", "b").where("b > 1")
    )


# the same with columns
FRAMES: dict[str, tuple[Callable[[SparkSession], DataFrame], int]] = {
    "union of the filtered halves": (halves, 2),
    "a chain of columns, all fields, a filter": (chained, 2),
    "twice in one select": (
        lambda s: s.table("good").select(ai_query("chat", "p"), F.length(ai_query("chat", "p"))),
        2,
    ),
    "sorted": (lambda s: s.table("good").repartition(2, "i").select(ai_query("chat", "p").alias("r")).orderBy("r"), 2),
    "limit": (lambda s: s.range(0, 10_000, 1, 1).select(ai_query("chat", F.concat(F.lit("Row "), "id"))).limit(10), 10),
    "grouped": (lambda s: s.table("good").select(ai_query("chat", "p").alias("r")).groupBy("r").count(), 2),
}
