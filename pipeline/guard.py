"""Settings under which Spark itself would buy twice: refused where it is certain, named where it is possible."""

from pyspark.sql import SparkSession

from pipeline.errors import ConfigError

_STAGE_ATTEMPTS_AT_MOST = 16
# The SQL setting falls back to the other one.
_SQL_IDLE, _IDLE = "spark.sql.execution.pyspark.udf.idleTimeoutSeconds", "spark.python.worker.idleTimeoutSeconds"
_IDLE_TIMEOUTS = (
    (_SQL_IDLE, "spark.sql.execution.pyspark.udf.killOnIdleTimeout"),
    (_IDLE, "spark.sql.execution.pyspark.udf.killOnIdleTimeout"),
    (_IDLE, "spark.python.worker.killOnIdleTimeout"),
)


def guard(spark: SparkSession) -> list[str]:
    """Warnings about this session. Raises ConfigError with the setting to change."""
    if _is_on(spark, "spark.speculation"):
        raise ConfigError(
            "spark.speculation = true runs slow tasks twice, and every call of the copy is billed: "
            "start Spark with --conf spark.speculation=false"
        )
    for seconds, kill in _IDLE_TIMEOUTS:
        if _is_on(spark, kill) and float(_value(spark, seconds, "0") or 0) > 0:
            raise ConfigError(
                f"{kill} = true with {seconds} = {_value(spark, seconds, '0')} kills a worker that waits for a slow "
                f"answer and runs its calls again: set {kill}=false"
            )
    if _is_on(spark, "spark.sql.execution.pyspark.udf.tracebackWithLocals.enabled"):
        raise ConfigError(
            "spark.sql.execution.pyspark.udf.tracebackWithLocals.enabled = true writes prompts and credentials into "
            "error texts: set it to false"
        )
    warnings = []
    attempts = int(_value(spark, "spark.stage.maxConsecutiveAttempts", "4") or 4)
    if attempts > _STAGE_ATTEMPTS_AT_MOST:
        warnings.append(
            f"spark.stage.maxConsecutiveAttempts = {attempts}: a stage that keeps failing re-buys what was in flight "
            f"each time; {_STAGE_ATTEMPTS_AT_MOST} or fewer is wiser"
        )
    return warnings


def _value(spark: SparkSession, name: str, default: str) -> str:
    return str(spark.conf.get(name, default))


def _is_on(spark: SparkSession, name: str) -> bool:
    return _value(spark, name, "false").lower() == "true"
