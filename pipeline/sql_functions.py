"""`ai_query` in SQL: a builder in Spark's function registry, so that the return type follows from the constants."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.java_gateway import ensure_callback_server_started
from pyspark.sql import SparkSession
from pyspark.sql.classic.column import _to_seq
from pyspark.sql.utils import is_remote

from pipeline.arguments import MapValue, bind, not_constant, require_text
from pipeline.catalog import open_catalog
from pipeline.errors import PipelineError
from pipeline.fixed_functions import DIFFERENCES, register_fixed
from pipeline.functions import invoke, let_output_flow, place, registered
from pipeline.guard import guard
from pipeline.siblings import FUNCTIONS, Function
from pipeline.templates import load_templates


def register(
    spark: SparkSession,
    endpoints: str | Mapping[str, Any] | None = "conf/endpoints.toml",
    *,
    templates: str | None = None,
) -> None:
    """Makes the AI functions known to this session's SQL, with the endpoints of a file (or of nested tables).

    `templates` is a file of prompts that replace shipped ones. Raises ConfigError for a file that is wrong, and for
    settings of Spark under which calls are bought twice. Over Spark Connect the names have one type each, and a
    warning says what differs; the column functions are the same.
    """
    for warning in guard(spark):
        warnings.warn(warning, stacklevel=2)
    let_output_flow(spark)
    registered.catalog = open_catalog(endpoints)
    registered.templates = load_templates(templates)
    if is_remote():
        register_fixed(spark)
        warnings.warn(DIFFERENCES, stacklevel=2)
        return
    gateway = spark.sparkContext._gateway
    ensure_callback_server_started(gateway)
    # the Java exception that a builder raises is rethrown in the JVM as it is
    gateway._callback_server.callback_server_parameters.propagate_java_exceptions = True
    logging.getLogger("py4j").setLevel(logging.CRITICAL)  # it logs every refusal with a traceback
    registry = spark._jsparkSession.sessionState().functionRegistry()
    for function in FUNCTIONS:
        registry.createOrReplaceTempFunction(function.name, _Builder(spark, function), "python_udf")


class _Builder:
    """`Seq[Expression] => Expression` in Python."""

    def __init__(self, spark: SparkSession, function: Function) -> None:
        self._spark = spark
        self._function = function

    def apply(self, expressions: Any) -> Any:
        """The expression of a UDF made for this call; called by Spark's analyzer."""
        try:
            return self._build(expressions)
        except PipelineError as exc:
            # unchecked, so that it reaches the user as it is; an AnalysisException would arrive wrapped
            raise Py4JJavaError(str(exc), self._jvm.java.lang.IllegalArgumentException(str(exc))) from None

    def toString(self) -> str:
        """For Java."""
        return f"{self._function.name} builder"

    class Java:
        """Read by py4j."""

        implements = ("scala.Function1",)

    @property
    def _jvm(self) -> Any:
        return self._spark.sparkContext._jvm

    def _build(self, expressions: Any) -> Any:
        function = self._function
        bound = bind(function.name, function.parameters, [_named(expression) for expression in _items(expressions)])
        values: dict[str, Any] = {}
        rows: dict[str, Any] = {}
        for parameter in function.parameters:
            if parameter.name not in bound:
                continue
            expression = bound[parameter.name]
            if not parameter.is_constant:
                rows[parameter.name] = expression
            elif expression.foldable():
                values[parameter.name] = self._folded(expression)
            else:
                raise not_constant(function.name, parameter.name)
        types: dict[str, str | None] = {name: str(row.dataType().simpleString()) for name, row in rows.items()}
        if function.takes_text:
            require_text(function.name, function.parameters, types)
        for parameter in function.parameters:
            if parameter.takes_variant and types.get(parameter.name) == "variant":
                rows[parameter.name] = self._to_json(rows[parameter.name])
        call = function.plan(place(), values, types)
        return invoke(call, list(rows.values()), self._expression, self._parse_json)

    def _parse_json(self, text: Any) -> Any:
        return self._jvm.org.apache.spark.sql.catalyst.expressions.variant.ParseJson(text, True)

    def _to_json(self, value: Any) -> Any:
        return self._jvm.org.apache.spark.sql.catalyst.expressions.StructsToJson(value)

    def _expression(self, udf: Any, arguments: Sequence[Any]) -> Any:
        judf = getattr(udf, "_judf", None) or udf._unwrapped._judf
        return judf.builder(_to_seq(self._spark.sparkContext, list(arguments)))

    def _folded(self, expression: Any) -> Any:
        """The value of a constant expression as Python holds it."""
        kind = expression.dataType()
        try:
            value = expression.eval(None)
        except Py4JJavaError:  # an expression that the optimizer must rewrite before it has a value
            folded = self._spark.sql(f"SELECT {expression.sql()} AS value").first()
            assert folded is not None
            return _plain(folded["value"])
        converters = self._jvm.org.apache.spark.sql.catalyst.CatalystTypeConverters
        return _to_python(converters.convertToScala(value, kind))


def _items(sequence: Any) -> list[Any]:
    return [sequence.apply(index) for index in range(sequence.size())]


def _named(expression: Any) -> tuple[str | None, Any]:
    if expression.getClass().getSimpleName() == "NamedArgumentExpression":
        return str(expression.key()), expression.value()
    return None, expression


def _to_python(value: Any) -> Any:
    """A Scala value that py4j holds a reference to, or has converted already."""
    if value is None or isinstance(value, bool | int | float | str | Decimal):
        return value
    name = value.getClass().getName()
    if name == "java.math.BigDecimal":
        return Decimal(value.toString())
    if "Row" in name:
        names = value.schema().fieldNames()
        return {str(names[index]): _to_python(value.get(index)) for index in range(value.length())}
    if ".Map" in name or "HashMap" in name:
        pairs = value.toSeq()
        return MapValue({str(pair._1()): _to_python(pair._2()) for pair in _items(pairs)})
    if "Seq" in name or "List" in name or "Vector" in name:
        return [_to_python(item) for item in _items(value)]
    return str(value.toString())


def _plain(value: Any) -> Any:
    """A value of a Row as plain Python."""
    if hasattr(value, "asDict"):
        return value.asDict(recursive=True)
    return value
