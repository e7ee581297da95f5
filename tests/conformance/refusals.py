"""Calls that are wrong, refused before anything is asked; and queries that fail while they run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pyspark.sql import Column
from pyspark.sql import functions as F

from pipeline import (
    ai_classify,
    ai_count_tokens,
    ai_embed,
    ai_extract,
    ai_gen,
    ai_mask,
    ai_query,
    ai_similarity,
    ai_summarize,
    ai_translate,
)

# of a condition, without its sub-condition; the reference, 3.2 and 9.4
STATES = {
    "AI_FUNCTION_COMPILATION_ERROR": "42883",
    "AI_FUNCTION_HTTP_PARSE_CAST_ERROR": "2203G",
    "AI_FUNCTION_HTTP_PARSE_COLUMNS_ERROR": "2203G",
    "AI_FUNCTION_HTTP_REQUEST_ERROR": "08000",
    "AI_FUNCTION_INVALID_HTTP_RESPONSE": "08000",
    "AI_FUNCTION_INVALID_MAX_WORDS": "22023",
    "AI_FUNCTION_INVALID_MODEL_PARAMETERS": "22023",
    "AI_FUNCTION_UNSUPPORTED_RESPONSE_FORMAT": "0A000",
    "DATATYPE_MISMATCH": "42K09",
    "DUPLICATE_ROUTINE_PARAMETER_ASSIGNMENT": "4274K",
    "INVALID_SCHEMA": "42K07",
    "NON_FOLDABLE_ARGUMENT": "42K08",
    "REMOTE_FUNCTION_HTTP_RETRY_TIMEOUT": "08000",
    "REQUIRED_PARAMETER_NOT_FOUND": "4274K",
    "UNEXPECTED_POSITIONAL_ARGUMENT": "4274K",
    "UNRECOGNIZED_PARAMETER_NAME": "4274K",
    "WRONG_NUM_ARGS": "42605",
}
COMPILATION = "AI_FUNCTION_COMPILATION_ERROR"
PARAMETERS = "AI_FUNCTION_INVALID_MODEL_PARAMETERS"
FORMAT = "AI_FUNCTION_UNSUPPORTED_RESPONSE_FORMAT"
MISMATCH = "DATATYPE_MISMATCH"

PYTHONS_OWN = "Python itself binds the arguments of a column function: a TypeError, or a SyntaxError"
P = F.col


@dataclass(frozen=True)
class Refusal:
    """What a wrong call is refused with, in SQL and as a column, or why in SQL only.

    Where a column is written its type is not known: `is_late` ones are refused by the first row that is read.
    """

    condition: str
    column: Callable[[], Column] | None = None
    sql_only: str | None = None
    is_late: bool = False


def own(condition: str) -> Refusal:
    return Refusal(condition, sql_only=PYTHONS_OWN)


def late(column: Callable[[], Column]) -> Refusal:
    return Refusal(MISMATCH, column, is_late=True)


# how a name, a struct or a schema is wrong, once for SQL and Python: SQL's struct, the parameters, the sub-condition
WRONG_PARAMETERS: tuple[tuple[str, Mapping[str, Any], str], ...] = (
    ("'messages', 'x'", {"messages": "x"}, "FOUND_RESERVED_PARAMETER_NAME"),
    ("'model', 'x'", {"model": "x"}, "FOUND_RESERVED_PARAMETER_NAME"),
    ("'stream', true", {"stream": True}, "FOUND_RESERVED_PARAMETER_NAME"),
    ("'response_format', 'x'", {"response_format": "x"}, "FOUND_RESERVED_PARAMETER_NAME"),
    ("'max_tokens', '9'", {"max_tokens": "9"}, "INVALID_PARAMETER_DATA_TYPE"),
    ("'max_tokens', 1.5", {"max_tokens": 1.5}, "INVALID_PARAMETER_DATA_TYPE"),
    ("'max_tokens', 0", {"max_tokens": 0}, "INVALID_NUMERIC_PARAMETER"),
    ("'temperature', 2.5", {"temperature": 2.5}, "INVALID_NUMERIC_PARAMETER"),
    ("'top_p', -0.1", {"top_p": -0.1}, "INVALID_NUMERIC_PARAMETER"),
    ("'n', 2", {"n": 2}, "UNSUPPORTED_MODEL_PARAMETER"),
    ("'dimensions', 4", {"dimensions": 4}, "UNSUPPORTED_MODEL_PARAMETER"),
    ("'prompt', 'x'", {"prompt": "x"}, "FOUND_RESERVED_PARAMETER_NAME"),
    ("'input', 'x'", {"input": "x"}, "FOUND_RESERVED_PARAMETER_NAME"),
    ("'presence_penalty', 3", {"presence_penalty": 3}, "INVALID_NUMERIC_PARAMETER"),
    ("'frequency_penalty', -3", {"frequency_penalty": -3}, "INVALID_NUMERIC_PARAMETER"),
    ("'seed', 'x'", {"seed": "x"}, "INVALID_PARAMETER_DATA_TYPE"),
    ("'stop', 7", {"stop": 7}, "INVALID_PARAMETER_DATA_TYPE"),
    ("'user', 7", {"user": 7}, "INVALID_PARAMETER_DATA_TYPE"),
    ("'top_k', 0", {"top_k": 0}, "INVALID_NUMERIC_PARAMETER"),
)

NO_SCHEMA = '{"type": "json_schema"}'
BIG = '{"type": "json_schema", "json_schema": {"schema": {"type": "big"}}}'
REF = '{"type": "json_schema", "json_schema": {"schema": {"$ref": "x"}}}'

REFUSALS = {
    "ai_query()": own("REQUIRED_PARAMETER_NOT_FOUND"),
    "ai_query('chat')": own("REQUIRED_PARAMETER_NOT_FOUND"),
    "ai_query(request => p)": own("REQUIRED_PARAMETER_NOT_FOUND"),
    "ai_query('chat', p, 'INT', true, named_struct('n', 1), 'x', f, true, 1)": own("WRONG_NUM_ARGS.WITHOUT_SUGGESTION"),
    "ai_query('chat', p, temperature => 1)": own("UNRECOGNIZED_PARAMETER_NAME"),
    "ai_query('chat', p, request => p)": own("DUPLICATE_ROUTINE_PARAMETER_ASSIGNMENT.BOTH_POSITIONAL_AND_NAMED"),
    "ai_query(endpoint => 'chat', p)": own("UNEXPECTED_POSITIONAL_ARGUMENT"),
    "ai_query(p, p)": Refusal("NON_FOLDABLE_ARGUMENT", lambda: ai_query(P("p"), "p")),  # type: ignore[arg-type]
    "ai_query('chat', p, failOnError => i > 1)": Refusal(
        "NON_FOLDABLE_ARGUMENT", lambda: ai_query("chat", "p", fail_on_error=P("i") > 1)  # type: ignore[arg-type]
    ),
    "ai_query('chat', p, returnType => p)": Refusal(
        "NON_FOLDABLE_ARGUMENT", lambda: ai_query("chat", "p", return_type=P("p"))  # type: ignore[arg-type]
    ),
    "ai_query('chat', p, responseFormat => p)": Refusal(
        "NON_FOLDABLE_ARGUMENT", lambda: ai_query("chat", "p", response_format=P("p"))  # type: ignore[arg-type]
    ),
    "ai_query('chat', p, modelParameters => named_struct('seed', i))": Refusal(
        "NON_FOLDABLE_ARGUMENT", lambda: ai_query("chat", "p", model_parameters={"seed": P("i")})
    ),
    "ai_query('nope', p)": Refusal(COMPILATION, lambda: ai_query("nope", "p")),
    "ai_query(NULL, p)": Refusal(COMPILATION, lambda: ai_query(None, "p")),  # type: ignore[arg-type]
    "ai_query('embed', p, 'INT')": Refusal(COMPILATION, lambda: ai_query("embed", "p", "INT")),
    "ai_query('embed', p, files => f)": Refusal(COMPILATION, lambda: ai_query("embed", "p", files="f")),
    "ai_query('chat', p, 'INT', responseFormat => 'STRUCT<a: INT>')": Refusal(
        COMPILATION, lambda: ai_query("chat", "p", "INT", response_format="STRUCT<a: INT>")
    ),
    "ai_query(7, p)": Refusal(MISMATCH, lambda: ai_query(7, "p")),  # type: ignore[arg-type]
    "ai_query('chat', i)": late(lambda: ai_query("chat", "i")),
    "ai_query('chat', named_struct('a', p))": late(lambda: ai_query("chat", F.struct(P("p").alias("a")))),
    "ai_query('embed', named_struct('role', p, 'content', p))": late(
        lambda: ai_query("embed", F.struct(P("p").alias("role"), P("p").alias("content")))
    ),
    "ai_query('chat', p, files => p)": late(lambda: ai_query("chat", "p", files="p")),
    "ai_query('chat', p, failOnError => 'no')": Refusal(
        MISMATCH, lambda: ai_query("chat", "p", fail_on_error="no")  # type: ignore[arg-type]
    ),
    "ai_query('chat', p, modelParameters => 'max_tokens')": Refusal(
        MISMATCH, lambda: ai_query("chat", "p", model_parameters="max_tokens")  # type: ignore[arg-type]
    ),
    "ai_query('chat', p, modelParameters => map('a', 1))": Refusal(
        MISMATCH, sql_only="a mapping is what Python gives for a struct"
    ),
    "ai_query('chat', p, 'STRUCT<')": Refusal("INVALID_SCHEMA.PARSE_ERROR", lambda: ai_query("chat", "p", "STRUCT<")),
    "ai_query('chat', p, 'WORDS')": Refusal("INVALID_SCHEMA.PARSE_ERROR", lambda: ai_query("chat", "p", "WORDS")),
    "ai_query('chat', p, responseFormat => 'INT')": Refusal(
        f"{FORMAT}.DDL_STRING", lambda: ai_query("chat", "p", response_format="INT")
    ),
    "ai_query('chat', p, responseFormat => 'xml')": Refusal(
        f"{FORMAT}.DDL_STRING", lambda: ai_query("chat", "p", response_format="xml")
    ),
    "ai_query('chat', p, responseFormat => '{')": Refusal(
        f"{FORMAT}.JSON_STRING", lambda: ai_query("chat", "p", response_format="{")
    ),
    """ai_query('chat', p, responseFormat => '{"type": "xml"}')""": Refusal(
        f"{FORMAT}.JSON_STRING", lambda: ai_query("chat", "p", response_format={"type": "xml"})
    ),
    f"ai_query('chat', p, responseFormat => '{NO_SCHEMA}')": Refusal(
        f"{FORMAT}.JSON_STRING", lambda: ai_query("chat", "p", response_format={"type": "json_schema"})
    ),
    """ai_query('embed', p, responseFormat => '{"type": "text"}')""": Refusal(
        FORMAT, lambda: ai_query("embed", "p", response_format={"type": "text"})
    ),
    "ai_query('chat', p, 'VARIANT')": Refusal("INVALID_SCHEMA", lambda: ai_query("chat", "p", "VARIANT")),
    "ai_query('chat', p, 'STRUCT<a: VARIANT>')": Refusal(
        "INVALID_SCHEMA", lambda: ai_query("chat", "p", "STRUCT<a: VARIANT>")
    ),
    "ai_query('chat', p, responseFormat => 'STRUCT<a: VARIANT>')": Refusal(
        "INVALID_SCHEMA", lambda: ai_query("chat", "p", response_format="STRUCT<a: VARIANT>")
    ),
    "ai_query('custom', i)": Refusal(COMPILATION, lambda: ai_query("custom", "i")),
    "ai_query('custom', i, 'INT', files => f)": Refusal(
        COMPILATION, lambda: ai_query("custom", "i", "INT", files="f")
    ),
    "ai_query('custom', i, 'INT', modelParameters => named_struct('max_tokens', 1))": Refusal(
        f"{PARAMETERS}.UNSUPPORTED_ENDPOINT_TYPE",
        lambda: ai_query("custom", "i", "INT", model_parameters={"max_tokens": 1}),
    ),
    "ai_query('custom', i, 'INT', responseFormat => 'STRUCT<a: INT>')": Refusal(
        FORMAT, lambda: ai_query("custom", "i", "INT", response_format="STRUCT<a: INT>")
    ),
    "ai_query('complete', named_struct('role', p, 'content', p))": late(
        lambda: ai_query("complete", F.struct(P("p").alias("role"), P("p").alias("content")))
    ),
    "ai_query('complete', p, files => f)": Refusal(COMPILATION, lambda: ai_query("complete", "p", files="f")),
    "ai_query('complete', p, responseFormat => 'STRUCT<a: INT>')": Refusal(
        FORMAT, lambda: ai_query("complete", "p", response_format="STRUCT<a: INT>")
    ),
    "ai_query('complete', p, modelParameters => named_struct('reasoning_effort', 'low'))": Refusal(
        f"{PARAMETERS}.UNSUPPORTED_MODEL_PARAMETER",
        lambda: ai_query("complete", "p", model_parameters={"reasoning_effort": "low"}),
    ),
    "ai_query('embed', p, modelParameters => named_struct('temperature', 1))": Refusal(
        f"{PARAMETERS}.UNSUPPORTED_MODEL_PARAMETER",
        lambda: ai_query("embed", "p", model_parameters={"temperature": 1}),
    ),
    f"ai_query('chat', p, responseFormat => '{BIG}')": Refusal(
        f"{FORMAT}.JSON_STRING", lambda: ai_query("chat", "p", response_format=BIG)
    ),
    f"ai_query('chat', p, responseFormat => '{REF}')": Refusal(
        f"{FORMAT}.JSON_STRING", lambda: ai_query("chat", "p", response_format=REF)
    ),
    "ai_classify(p, 'city, land')": Refusal(MISMATCH, lambda: ai_classify("p", "city, land")),
    "ai_gen(7)": late(lambda: ai_gen(F.lit(7))),
    "ai_summarize(i)": late(lambda: ai_summarize("i")),
    "ai_summarize(array(p))": late(lambda: ai_summarize(F.array("p"))),
    "ai_embed(i)": late(lambda: ai_embed("i")),
    "ai_similarity(p, i)": late(lambda: ai_similarity("i", "i")),
    "ai_count_tokens(7)": late(lambda: ai_count_tokens(F.lit(7))),
    "ai_summarize(p, -1)": Refusal("AI_FUNCTION_INVALID_MAX_WORDS", lambda: ai_summarize("p", -1)),
    "ai_translate(p, ' ')": Refusal(MISMATCH, lambda: ai_translate("p", " ")),
    "ai_translate(p, p)": Refusal("NON_FOLDABLE_ARGUMENT", lambda: ai_translate("p", P("p"))),  # type: ignore[arg-type]
    "ai_mask(p, array())": Refusal(MISMATCH, lambda: ai_mask("p", [])),
    "ai_mask(p, array(p))": Refusal("NON_FOLDABLE_ARGUMENT", lambda: ai_mask("p", [P("p")])),  # type: ignore[list-item]
    "ai_classify(p, array('one'))": Refusal(MISMATCH, lambda: ai_classify("p", ["one"])),
    """ai_classify(p, '["city"]')""": Refusal(MISMATCH, lambda: ai_classify("p", '["city"]')),
    """ai_classify(p, '["city", "land"]', map('best', '1'))""": Refusal(
        MISMATCH, lambda: ai_classify("p", '["city", "land"]', {"best": "1"})
    ),
    """ai_classify(p, '["city", "land"]', named_struct('multilabel', 'true'))""": Refusal(
        MISMATCH, sql_only="a mapping is what Python gives for a map and for a struct"
    ),
    """ai_classify(p, '["city", "land"]', map('instructions', p))""": Refusal(
        "NON_FOLDABLE_ARGUMENT",
        lambda: ai_classify("p", '["city", "land"]', {"instructions": P("p")}),  # type: ignore[dict-item]
    ),
    "ai_classify(p, array('city', 'land'), map('multilabel', 'true'))": Refusal(
        MISMATCH, lambda: ai_classify("p", ["city", "land"], {"multilabel": "true"})
    ),
    "ai_extract(p, array())": Refusal(MISMATCH, lambda: ai_extract("p", [])),
    """ai_extract(p, '{"a": {"type": "date"}}')""": Refusal(
        MISMATCH, lambda: ai_extract("p", {"a": {"type": "date"}})
    ),
    "ai_extract(p, p)": Refusal("NON_FOLDABLE_ARGUMENT", lambda: ai_extract("p", P("p"))),  # type: ignore[arg-type]
    **{
        f"ai_query('chat', p, modelParameters => named_struct({arguments}))": Refusal(
            f"{PARAMETERS}.{sub}", lambda given=given: ai_query("chat", "p", model_parameters=given)  # type: ignore[misc]
        )
        for arguments, given, sub in WRONG_PARAMETERS
    },
}  # fmt: skip


@dataclass(frozen=True)
class Failing:
    """A call that fails its query while it runs, in SQL and as a column, over a view."""

    condition: str
    column: Callable[[], Column]
    view: str = "good"


def faulty(kind: str) -> Column:
    """The prompt with a fault that the simulator plays."""
    return F.concat("p", F.lit(f"[[fault:{kind}]]"))


# the query fails under either setting where no later row could succeed
FAILURES = {
    "ai_query('chat', p)": Failing("AI_FUNCTION_HTTP_REQUEST_ERROR", lambda: ai_query("chat", "p"), "t"),
    "ai_query('chat', p, 'INT')": Failing("AI_FUNCTION_HTTP_PARSE_CAST_ERROR", lambda: ai_query("chat", "p", "INT")),
    """ai_query('chat', '{"a":1,"b":2}', 'INT')""": Failing(
        "AI_FUNCTION_HTTP_PARSE_COLUMNS_ERROR", lambda: ai_query("chat", F.lit('{"a":1,"b":2}'), "INT")
    ),
    "ai_query('chat', p || '[[fault:overloaded_529]]')": Failing(
        "REMOTE_FUNCTION_HTTP_RETRY_TIMEOUT", lambda: ai_query("chat", faulty("overloaded_529"))
    ),
    "ai_query('chat', p || '[[fault:null_content]]')": Failing(
        "AI_FUNCTION_INVALID_HTTP_RESPONSE", lambda: ai_query("chat", faulty("null_content"))
    ),
    "ai_query('lost', p, failOnError => false)": Failing(
        "AI_FUNCTION_HTTP_REQUEST_ERROR", lambda: ai_query("lost", "p", fail_on_error=False)
    ),
    "ai_query('slow', p || '[[fault:quota_exhausted]]', failOnError => false)": Failing(
        "AI_FUNCTION_HTTP_REQUEST_ERROR", lambda: ai_query("slow", faulty("quota_exhausted"), fail_on_error=False)
    ),
}
