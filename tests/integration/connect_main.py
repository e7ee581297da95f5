"""What `test_connect.py` asks of a local Spark Connect server: a JSON object of answers on the last line."""

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from pipeline import AiFunctionError, ai_classify, ai_extract, ai_query, ai_similarity, register
from pipeline.functions import slots
from pipeline.statements import sentence

TEXTS = [("Paris is big.",), (None,), ("Rome is old.",)]


def main(base_url: str, folder: Path) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Spark's own, about settings that a server cannot change
        spark = (
            SparkSession.builder.remote("local[2]")
            .config("spark.driver.defaultJavaOptions", os.environ.get("SPARK_DRIVER_JAVA_OPTIONS", ""))
            .config("spark.ui.enabled", "false")
            .config("spark.sql.shuffle.partitions", "2")
            .getOrCreate()
        )
    chat = {"kind": "chat", "base_url": base_url, "model": "local-chat", "retry": {"max_attempts": 1}}
    embed = {"kind": "embedding", "base_url": base_url, "model": "canned-embedding"}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        register(
            spark,
            {
                "default_endpoint": "chat",
                "default_embedding_endpoint": "embed",
                "endpoints": {"chat": chat, "embed": embed},
            },
        )
    told: dict[str, Any] = {"told": [str(each.message) for each in caught], "slots": slots()}
    frame = spark.createDataFrame(TEXTS, "p string").coalesce(1)
    frame.createOrReplaceTempView("t")
    # few calls a query: Spark starts a worker for each of them
    columns = frame.select(
        ai_query("chat", "p", fail_on_error=False).alias("envelope"),
        ai_query("chat", "p", response_format="STRUCT<city: STRING>")["city"].alias("typed"),
        F.round(ai_similarity("p", "p"), 3).alias("cosine"),
    )
    told["columns"] = [list(row) for row in columns.collect()]
    told["label type"] = frame.select(ai_classify("p", ["a", "b"]).alias("r")).schema["r"].dataType.simpleString()
    every = spark.sql(
        "SELECT ai_query('chat', p), ai_gen(p), ai_classify(p, array('a', 'b')), ai_extract(p, array('a', 'b')),"
        " ai_summarize(p), ai_translate(p, 'de'), ai_mask(p, array('a')), ai_fix_grammar(p), ai_analyze_sentiment(p),"
        " ai_filter(p), ai_embed(p), ai_similarity(p, p), ai_count_tokens(p) FROM t"
    )
    told["types"] = [field.dataType.simpleString() for field in every.schema.fields]
    names = spark.sql(
        "SELECT ai_query('chat', p, NULL, true, named_struct('max_tokens', 1)), size(ai_embed(p)),"
        " ai_extract(p, array('a', 'b')).a IS NOT NULL FROM t"
    )
    told["names"] = [list(row) for row in names.collect()]
    # version 2: labels and schemas in JSON, options as a map
    second = spark.sql("SELECT ai_classify(p, '[\"a\", \"b\"]', map('instructions', 'the first')) AS c FROM t")
    told["second"] = [row["c"] and json.loads(row["c"]) for row in second.collect()]
    told["second refused"] = _refused(spark, """ai_extract(p, '{"city": {"type": "string"}}')""")
    second_columns = frame.select(
        ai_classify("p", {"a": "the first", "b": "the second"}).alias("c"),
        ai_extract("p", '{"city": {"type": "string"}}', {"instructions": "cities only"}).alias("e"),
    )
    told["second types"] = [field.dataType.simpleString() for field in second_columns.schema.fields]
    told["second columns"] = [[value and value.toPython() for value in row] for row in second_columns.collect()]
    told["refused"] = _refused(spark, "ai_query('nope', p)")
    try:
        ai_query("nope", "p")
    except AiFunctionError as exc:
        told["column refused"] = str(exc)
    told["stream"] = _streamed(spark, folder)
    spark.stop()
    return told


def _refused(spark: SparkSession, call: str) -> str:
    try:
        spark.sql(f"SELECT {call} FROM t WHERE p IS NOT NULL").collect()
    except PySparkException as exc:
        return sentence(exc)
    return "answered"


def _streamed(spark: SparkSession, folder: Path) -> list[Any]:
    spark.table("t").write.parquet(str(folder / "in"))
    query = (
        spark.readStream.schema("p string")
        .parquet(str(folder / "in"))
        .select(ai_query("chat", "p").alias("c"), F.expr("ai_gen(p)").alias("s"))
        .writeStream.format("parquet")
        .option("checkpointLocation", str(folder / "checkpoint"))
        .trigger(availableNow=True)
        .start(str(folder / "out"))
    )
    query.awaitTermination()
    return [list(row) for row in spark.read.parquet(str(folder / "out")).collect()]


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]))))
