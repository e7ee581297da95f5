"""Calls of every function, in SQL and as columns: what comes back, of which type, and how many calls it costs."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType, StructType

from pipeline import (
    ai_analyze_sentiment,
    ai_classify,
    ai_count_tokens,
    ai_embed,
    ai_extract,
    ai_filter,
    ai_fix_grammar,
    ai_gen,
    ai_mask,
    ai_query,
    ai_similarity,
    ai_summarize,
    ai_translate,
)

ROWS = [
    (1, "Paris is big.", None),
    (2, None, b"\x89PNG\r\n\x1a\n."),
    (3, "Rome is old.", b"\xff\xd8\xff."),
    (4, "No [[fault:bad_request]]", b"%PDF"),
]
SIMULATED = "[AI_FUNCTION_HTTP_REQUEST_ERROR] bad_request, HTTP 400: the request is not acceptable (request simulated). SQLSTATE: 08000"  # noqa: E501
REFUSED = "[AI_FUNCTION_HTTP_REQUEST_ERROR] bad_request, HTTP 400: the request is not acceptable. SQLSTATE: 08000"
ENVELOPE = "struct<result:string,errorMessage:string>"


@dataclass(frozen=True)
class Case:
    """A call over a view, in SQL and as a column, or why in SQL only; what comes back, and what it cost."""

    call: str
    kind: str = "string"
    rows: list[Any] | None = None  # None: whatever they are
    billed: int = 2
    view: str = "good"  # the rows 1 to 3; `t` has all
    column: Callable[[], Column] | None = None
    sql_only: str | None = None  # why a column cannot say this


def message(role: str, content: Column) -> Column:
    """One message of a chat."""
    return F.struct(F.lit(role).alias("role"), content.alias("content"))


P = F.col
SCHEMA = '{"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object", "properties": {"city": {"type": "string"}, "n": {"type": "integer"}}}}}'  # noqa: E501
PLAIN = ["Paris is big.", None, "Rome is old."]
CITY = "struct<city:string,n:int>"
LEAST = '{"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object", "properties": {"n": {"type": "integer", "minimum": 5}}}}}'  # noqa: E501
BROKEN = "[AI_FUNCTION_HTTP_PARSE_CAST_ERROR] the answer breaks the schema's properties/n/minimum. SQLSTATE: 2203G"
LABELLED = {"response": ["city"], "error_message": None}
FIELDS = '{"n": {"type": "integer"}, "mood": {"type": "enum", "labels": ["good", "bad"]}}'
EXTRACTED = {"response": {"n": 1, "mood": "good"}, "error_message": None}

CASES = {
    "positional": Case("ai_query('chat', p)", rows=PLAIN, column=lambda: ai_query("chat", "p")),
    "named": Case(
        "ai_query(request => p, endpoint => 'chat')", rows=PLAIN, column=lambda: ai_query("chat", request=P("p"))
    ),
    "names in any case": Case("ai_query('chat', REQUEST => p)", rows=PLAIN,
        sql_only="names of Python's arguments have one spelling",
    ),
    "folded endpoint": Case("ai_query(concat('ch', lower('AT')), p)", rows=PLAIN,
        sql_only="Python has computed its values before the call: there is nothing to fold",
    ),
    "databricks wire": Case("ai_query('wire', p)", rows=PLAIN, column=lambda: ai_query("wire", "p")),
    "built prompt": Case(
        "ai_query('chat', 'Say: ' || p)", rows=PLAIN, column=lambda: ai_query("chat", F.concat(F.lit("Say: "), "p"))
    ),
    "return type string": Case(
        "ai_query('chat', p, 'STRING')", rows=PLAIN, column=lambda: ai_query("chat", "p", "STRING")
    ),
    "null literal": Case("ai_query('chat', NULL)", rows=[None] * 3, billed=0,
        column=lambda: ai_query("chat", F.lit(None)),
    ),
    "constant asked once": Case("ai_query('chat', 'Hi.')", rows=["Hi."] * 3, billed=1,
        column=lambda: ai_query("chat", F.lit("Hi.")),
    ),
    "null skips": Case(
        "ai_query('chat', IF(i = 1, NULL, p))",
        rows=[None, None, "Rome is old."],
        billed=1,
        column=lambda: ai_query("chat", F.when(P("i") != 1, P("p"))),
    ),
    "fail on error, all well": Case(
        "ai_query('chat', p, failOnError => true)", rows=PLAIN, column=lambda: ai_query("chat", "p", fail_on_error=True)
    ),
    "envelope": Case(
        "ai_query('chat', p, failOnError => false)",
        ENVELOPE,
        [("Paris is big.", None), (None, None), ("Rome is old.", None), (None, REFUSED)],
        billed=3,
        view="t",
        column=lambda: ai_query("chat", "p", fail_on_error=False),
    ),
    "envelope by position": Case(
        "ai_query('chat', p, 'STRING', false)", ENVELOPE, [("Paris is big.", None), (None, None), ("Rome is old.", None)],
        column=lambda: ai_query("chat", "p", "STRING", fail_on_error=False),
    ),
    "parameters": Case(
        "ai_query('chat', p, modelParameters => named_struct('max_tokens', 2, 'temperature', 0.5))",
        rows=["Paris is", None, "Rome is "],
        column=lambda: ai_query("chat", "p", model_parameters={"max_tokens": 2, "temperature": 0.5}),
    ),
    "more parameters": Case(
        "ai_query('chat', p, modelParameters => named_struct('stop', array('x'), 'seed', 7, 'top_p', 1))",
        rows=PLAIN,
        column=lambda: ai_query("chat", "p", model_parameters={"stop": ["x"], "seed": 7, "top_p": 1}),
    ),
    "response format text": Case(
        """ai_query('chat', p, responseFormat => '{"type": "text"}')""",
        rows=PLAIN,
        column=lambda: ai_query("chat", "p", response_format={"type": "text"}),
    ),
    "json object stays text": Case(
        """ai_query('chat', p, responseFormat => '{"type": "json_object"}')""",
        rows=['{"answer":"Paris is big."}', None, '{"answer":"Rome is old."}'],
        column=lambda: ai_query("chat", "p", response_format={"type": "json_object"}),
    ),
    "json schema stays text": Case(
        f"ai_query('chat', p, responseFormat => '{SCHEMA}')",
        rows=['{"city":"Paris is big.","n":1}', None, '{"city":"Rome is old.","n":1}'],
        column=lambda: ai_query("chat", "p", response_format=SCHEMA),
    ),
    "json schema in the envelope": Case(
        f"ai_query('chat', p, responseFormat => '{SCHEMA}', failOnError => false)",
        ENVELOPE,
        [('{"city":"Paris is big.","n":1}', None), (None, None), ('{"city":"Rome is old.","n":1}', None)],
        column=lambda: ai_query("chat", "p", response_format=SCHEMA, fail_on_error=False),
    ),
    "return type over json schema": Case(
        f"ai_query('chat', p, 'STRUCT<city: STRING, n: INT>', responseFormat => '{SCHEMA}')",
        CITY,
        [("Paris is big.", 1), None, ("Rome is old.", 1)],
        column=lambda: ai_query("chat", "p", "STRUCT<city: STRING, n: INT>", response_format=SCHEMA),
    ),
    "schema_of_json": Case(
        """ai_query('chat', p, schema_of_json('{"answer": ""}'), responseFormat => '{"type": "json_object"}')""",
        "struct<answer:string>",
        [("Paris is big.",), None, ("Rome is old.",)],
        column=lambda: ai_query("chat", "p", StructType().add("answer", "string"), response_format={"type": "json_object"}),
    ),
    "ddl of several fields": Case(
        "ai_query('chat', p, responseFormat => 'STRUCT<city: STRING, n: INT>')",
        CITY,
        [("Paris is big.", 1), None, ("Rome is old.", 1)],
        column=lambda: ai_query("chat", "p", response_format="STRUCT<city: STRING, n: INT>"),
    ),
    "ddl with a wrapper": Case(
        "ai_query('chat', p, responseFormat => 'STRUCT<out: STRUCT<city: STRING, n: INT>>')",
        CITY,
        [("Paris is big.", 1), None, ("Rome is old.", 1)],
        column=lambda: ai_query("chat", "p", response_format="STRUCT<out: STRUCT<city: STRING, n: INT>>"),
    ),
    "ddl of one plain field": Case(
        "ai_query('chat', p, responseFormat => 'STRUCT<city: STRING>')",
        "struct<city:string>",
        [("Paris is big.",), None, ("Rome is old.",)],
        column=lambda: ai_query("chat", "p", response_format="STRUCT<city: STRING>"),
    ),
    "ddl nested": Case(
        "ai_query('chat', p, responseFormat => 'STRUCT<a: ARRAY<STRUCT<b: BOOLEAN, d: DOUBLE>>, x: BIGINT>')",
        "struct<a:array<struct<b:boolean,d:double>>,x:bigint>",
        [([(True, 0.5)], 1), None, ([(True, 0.5)], 1)],
        column=lambda: ai_query(
            "chat", "p", response_format="STRUCT<a: ARRAY<STRUCT<b: BOOLEAN, d: DOUBLE>>, x: BIGINT>"
        ),
    ),
    "ddl in the envelope": Case(
        "ai_query('chat', p, responseFormat => 'STRUCT<city: STRING, n: INT>', failOnError => false)",
        f"struct<result:{CITY},errorMessage:string>",
        [(("Paris is big.", 1), None), (None, None), (("Rome is old.", 1), None)],
        column=lambda: ai_query(
            "chat", "p", response_format="STRUCT<city: STRING, n: INT>", fail_on_error=False
        ),
    ),
    "map": Case(
        """ai_query('chat', p, 'MAP<STRING, STRING>', responseFormat => '{"type": "json_object"}')""",
        "map<string,string>",
        [{"answer": "Paris is big."}, None, {"answer": "Rome is old."}],
        column=lambda: ai_query("chat", "p", "MAP<STRING, STRING>", response_format={"type": "json_object"}),
    ),
    "number": Case("ai_query('chat', '42')", rows=["42"] * 3, billed=1,
        column=lambda: ai_query("chat", F.lit("42")),
    ),
    "int": Case("ai_query('chat', '42', 'INT')", "int", [42] * 3, 1, column=lambda: ai_query("chat", F.lit("42"), "INT")),
    "double": Case("ai_query('chat', '2.5', 'DOUBLE')", "double", [2.5] * 3, 1,
        column=lambda: ai_query("chat", F.lit("2.5"), DoubleType()),
    ),
    "boolean": Case("ai_query('chat', 'true', 'BOOLEAN')", "boolean", [True] * 3, 1,
        column=lambda: ai_query("chat", F.lit("true"), "BOOLEAN"),
    ),
    "array": Case("ai_query('chat', '[1, 2]', 'ARRAY<INT>')", "array<int>", [[1, 2]] * 3, 1,
        column=lambda: ai_query("chat", F.lit("[1, 2]"), "ARRAY<INT>"),
    ),
    "misfit is a message": Case(
        "ai_query('chat', p, 'INT', false)",
        "struct<result:int,errorMessage:string>",
        [
            (None, "[AI_FUNCTION_HTTP_PARSE_CAST_ERROR] the answer is a string, not INT32. SQLSTATE: 2203G"),
            (None, None),
            (None, "[AI_FUNCTION_HTTP_PARSE_CAST_ERROR] the answer is a string, not INT32. SQLSTATE: 2203G"),
        ],
        column=lambda: ai_query("chat", "p", "INT", fail_on_error=False),
    ),
    "columns misfit": Case(
        """ai_query('chat', '{"a":1,"b":2}', 'INT', false).errorMessage""",
        rows=["[AI_FUNCTION_HTTP_PARSE_COLUMNS_ERROR] the answer has 2 columns, INT32 is one. SQLSTATE: 2203G"] * 3,
        billed=1,
        column=lambda: ai_query("chat", F.lit('{"a":1,"b":2}'), "INT", fail_on_error=False)["errorMessage"],
    ),
    "vector": Case(
        "size(ai_query('embed', p))", "int", [4, None, 4], 1, column=lambda: F.size(ai_query("embed", P("p")))
    ),
    "vector type": Case("ai_query('embed', NULL)", "array<float>", [None] * 3, 0,
        column=lambda: ai_query("embed", F.lit(None)),
    ),
    "vector as doubles": Case("size(ai_query('embed', p, 'ARRAY<DOUBLE>'))", "int", [4, None, 4], 1,
        column=lambda: F.size(ai_query("embed", "p", "ARRAY<DOUBLE>")),
    ),
    "vector in the envelope": Case(
        "size(ai_query('embed', p, failOnError => false).result)", "int", [4, None, 4], 1,
        column=lambda: F.size(ai_query("embed", "p", fail_on_error=False)["result"]),
    ),
    "message struct": Case(
        "ai_query('chat', IF(p IS NULL, NULL, named_struct('role', 'user', 'content', p)))", rows=PLAIN,
        column=lambda: ai_query("chat", F.when(P("p").isNotNull(), message("user", P("p")))),
    ),
    "message list": Case(
        "ai_query('chat', IF(p IS NULL, NULL, array(named_struct('role', 'system', 'content', 'Be brief:'),"
        " named_struct('role', 'user', 'content', p))))",
        rows=["Paris is big.", None, "Rome is old."],
        column=lambda: ai_query(
            "chat",
            F.when(P("p").isNotNull(), F.array(message("system", F.lit("Be brief:")), message("user", P("p")))),
        ),
    ),
    "files": Case(
        "ai_query('chat', p, files => f)", rows=PLAIN, column=lambda: ai_query("chat", "p", files=P("f"))
    ),
    "several files": Case("ai_query('chat', p, files => array(f, f))", rows=PLAIN,
        column=lambda: ai_query("chat", "p", files=F.array("f", "f")),
    ),
    "no image": Case(
        "ai_query('chat', 'See.', files => f, failOnError => false).errorMessage",
        rows=[
            None,
            None,
            None,
            "[AI_FUNCTION_HTTP_REQUEST_ERROR] invalid_input: file 1 is no JPEG, PNG, GIF or WebP image. SQLSTATE: 08000",
        ],
        billed=3,
        view="t",
        column=lambda: ai_query("chat", F.lit("See."), files="f", fail_on_error=False)["errorMessage"],
    ),
    "blank request": Case(
        "ai_query('chat', ' ', failOnError => false).errorMessage",
        rows=["[AI_FUNCTION_HTTP_REQUEST_ERROR] empty_input: the request is blank. SQLSTATE: 08000"] * 3,
        billed=0,
        column=lambda: ai_query("chat", F.lit(" "), fail_on_error=False)["errorMessage"],
    ),
    "retried once": Case("ai_query('chat', p || ' [[fault:overloaded_529:1]]')", rows=PLAIN, billed=4,
        column=lambda: ai_query("chat", F.concat("p", F.lit("  [[fault:overloaded_529:1]]"))),
    ),
    "details": Case(
        "ai_query('chat', p, details => true).attempts", "int", [1, None, 1],
        column=lambda: ai_query("chat", "p", details=True)["attempts"],
    ),
    "usage": Case("ai_query('chat', p, details => true).usage.output_tokens", "bigint", [4, None, 3],
        column=lambda: ai_query("chat", "p", details=True)["usage"]["output_tokens"],
    ),
    "in a case": Case("CASE WHEN i < 3 THEN ai_query('chat', p) END", rows=["Paris is big.", None, None],
        column=lambda: F.when(P("i") < 3, ai_query("chat", "p")),
    ),
    "in coalesce": Case("coalesce(ai_query('chat', p), 'none')", rows=["Paris is big.", "none", "Rome is old."],
        column=lambda: F.coalesce(ai_query("chat", "p"), F.lit("none")),
    ),
    "nested": Case("ai_query('chat', ai_query('chat', p))", rows=PLAIN,
        column=lambda: ai_query("chat", ai_query("chat", "p")),
    ),
    "two calls": Case(
        "ai_query('chat', p) || ai_query('chat', 'Hi.')", rows=["Paris is big.Hi.", None, "Rome is old.Hi."], billed=3,
        column=lambda: F.concat(ai_query("chat", "p"), ai_query("chat", F.lit("Hi."))),
    ),
    "completion": Case("ai_query('complete', p)", rows=PLAIN, column=lambda: ai_query("complete", "p")),
    "completion on databricks": Case("ai_query('complete_wire', p)", rows=PLAIN,
        column=lambda: ai_query("complete_wire", "p"),
    ),
    "completion cut": Case(
        "ai_query('complete', p, modelParameters => named_struct('max_tokens', 2))",
        rows=["Paris is", None, "Rome is "],
        column=lambda: ai_query("complete", "p", model_parameters={"max_tokens": 2}),
    ),
    "completion typed": Case(
        "ai_query('complete', '42', 'INT')", "int", [42] * 3, 1, column=lambda: ai_query("complete", F.lit("42"), "INT")
    ),
    "completion in the envelope": Case(
        "ai_query('complete', p, failOnError => false)",
        ENVELOPE,
        [("Paris is big.", None), (None, None), ("Rome is old.", None), (None, REFUSED)],
        billed=3,
        view="t",
        column=lambda: ai_query("complete", "p", fail_on_error=False),
    ),
    "completion details": Case(
        "ai_query('complete', p, details => true).finish_reason", rows=["stop", None, "stop"],
        column=lambda: ai_query("complete", "p", details=True)["finish_reason"],
    ),
    "custom over a column": Case(
        "ai_query('custom', i, 'DOUBLE')", "double", [1.0, 2.0, 3.0], 1, column=lambda: ai_query("custom", "i", "DOUBLE")
    ),
    "custom over a struct": Case(
        "ai_query('custom', named_struct('n', i, 'text', p), 'INT')", "int", [14, 2, 15], 1,
        column=lambda: ai_query("custom", F.struct(P("i").alias("n"), P("p").alias("text")), "INT"),
    ),
    "custom over an array": Case("ai_query('custom', array(i, 10), 'BIGINT')", "bigint", [11, 12, 13], 1,
        column=lambda: ai_query("custom", F.array(P("i"), F.lit(10)), "BIGINT"),
    ),
    "custom over a decimal": Case("ai_query('custom', 1.5BD, 'DECIMAL(4, 2)')", "decimal(4,2)", [1.5] * 3, 1,
        column=lambda: ai_query("custom", F.lit(Decimal("1.5")), "DECIMAL(4, 2)"),
    ),
    "custom as it came": Case("ai_query('custom', i, 'STRING')", rows=["1", "2", "3"], billed=1,
        column=lambda: ai_query("custom", "i", "STRING"),
    ),
    "custom null": Case("ai_query('custom', NULL, returnType => 'INT')", "int", [None] * 3, 0,
        column=lambda: ai_query("custom", F.lit(None), return_type="INT"),
    ),
    "custom in the envelope": Case(
        "ai_query('custom', i, 'INT', false)", "struct<result:int,errorMessage:string>", [(1, None), (2, None), (3, None)],
        1, column=lambda: ai_query("custom", "i", "INT", fail_on_error=False),
    ),
    "custom misfit": Case(
        "ai_query('custom', i + 0.5D, 'INT', false).errorMessage",
        rows=["[AI_FUNCTION_HTTP_PARSE_CAST_ERROR] the answer is a number, not INT32. SQLSTATE: 2203G"] * 3,
        billed=1,
        column=lambda: ai_query("custom", P("i") + 0.5, "INT", fail_on_error=False)["errorMessage"],
    ),
    "custom, one bad record of three": Case(
        "ai_query('custom', IF(i = 2, '[[fault:bad_request]]', 'x'), 'INT', false)",
        "struct<result:int,errorMessage:string>", [(1, None), (None, SIMULATED), (1, None)], 3,
        column=lambda: ai_query(
            "custom", F.when(P("i") == 2, "[[fault:bad_request]]").otherwise("x"), "INT", fail_on_error=False
        ),
    ),
    "json schema broken": Case(
        f"ai_query('chat', p, responseFormat => '{LEAST}', failOnError => false).errorMessage",
        rows=[BROKEN, None, BROKEN],
        column=lambda: ai_query("chat", "p", response_format=LEAST, fail_on_error=False)["errorMessage"],
    ),
    "json schema broken, typed": Case(
        f"ai_query('chat', p, 'STRUCT<n: INT>', responseFormat => '{LEAST}', failOnError => false).errorMessage",
        rows=[BROKEN, None, BROKEN],
        column=lambda: ai_query("chat", "p", "STRUCT<n: INT>", response_format=LEAST, fail_on_error=False)["errorMessage"],
    ),
    "map of structs": Case(
        """ai_query('chat', '{"a":{"n":1}}', 'MAP<STRING, STRUCT<n: INT>>')""", "map<string,struct<n:int>>",
        [{"a": (1,)}] * 3, 1,
        column=lambda: ai_query("chat", F.lit('{"a":{"n":1}}'), "MAP<STRING, STRUCT<n: INT>>"),
    ),
    "date and timestamp": Case(
        """ai_query('chat', '{"d":"2026-11-21","t":"2026-11-21T10:00:00Z"}', 'STRUCT<d: DATE, t: TIMESTAMP>').d""",
        "date", [date(2026, 11, 21)] * 3, 1,
        column=lambda: ai_query(
            "chat", F.lit('{"d":"2026-11-21","t":"2026-11-21T10:00:00Z"}'), "STRUCT<d: DATE, t: TIMESTAMP>"
        )["d"],
    ),
    "single object for an array": Case(
        """ai_query('chat', '{"a":1}', 'ARRAY<STRUCT<a: INT>>')""", "array<struct<a:int>>", [[(1,)]] * 3, 1,
        column=lambda: ai_query("chat", F.lit('{"a":1}'), "ARRAY<STRUCT<a: INT>>"),
    ),
    "one column for a scalar": Case("""ai_query('chat', '{"a":7}', 'BIGINT')""", "bigint", [7] * 3, 1,
        column=lambda: ai_query("chat", F.lit('{"a":7}'), "BIGINT"),
    ),
    "null answer": Case("ai_query('chat', 'null', 'INT')", "int", [None] * 3, 1,
        column=lambda: ai_query("chat", F.lit("null"), "INT"),
    ),
    "details of a vector": Case(
        "ai_query('embed', p, details => true).model", rows=["canned-embedding", None, "canned-embedding"], billed=1,
        column=lambda: ai_query("embed", "p", details=True)["model"],
    ),
    "request id": Case("length(ai_query('chat', p, details => true).request_id)", "int", [64, None, 64],
        column=lambda: F.length(ai_query("chat", "p", details=True)["request_id"]),
    ),
    "classify, labels in json": Case(
        """ai_classify(p, '["city", "land"]')""", "variant", [LABELLED, None, LABELLED],
        column=lambda: ai_classify("p", '["city", "land"]'),
    ),
    "classify, labels described": Case(
        """ai_classify(p, '{"city": "a large town", "land": ""}', map('multilabel', 'true', 'instructions', 'Map.'))""",
        "variant", [LABELLED, None, LABELLED],
        column=lambda: ai_classify("p", {"city": "a large town", "land": ""}, {"multilabel": "true"}),
    ),
    "classify, a variant": Case(
        """ai_classify(parse_json('{"x": 1}'), '["city", "land"]')""", "variant", [LABELLED] * 3, 1,
        column=lambda: ai_classify(F.to_json(F.parse_json(F.lit('{"x": 1}'))), '["city", "land"]'),
    ),
    "classify, by path": Case(
        """ai_classify(p, labels => '["city", "land"]'):response[0]::string""", rows=["city", None, "city"],
        column=lambda: F.variant_get(ai_classify("p", labels='["city", "land"]'), "$.response[0]", "string"),
    ),
    "classify, a failed row": Case(
        """ai_classify(p, '["city", "land"]'):error_message::string""", rows=[None, None, None, REFUSED], billed=3, view="t",
        column=lambda: F.variant_get(ai_classify("p", '["city", "land"]'), "$.error_message", "string"),
    ),
    "extract, names in json": Case(
        """ai_extract(p, '["place", "size"]'):response.size::string IS NULL""", "boolean", [False, True, False],
        column=lambda: F.variant_get(ai_extract("p", '["place", "size"]'), "$.response.size", "string").isNull(),
    ),
    "extract, a schema": Case(
        f"ai_extract(p, '{FIELDS}')", "variant", [EXTRACTED, None, EXTRACTED],
        column=lambda: ai_extract("p", FIELDS, {"instructions": "Count."}),
    ),
    "extract, options": Case(
        f"ai_extract(p, '{FIELDS}', options => map('version', '2.0')):response.n::int", "int", [1, None, 1],
        column=lambda: F.variant_get(
            ai_extract("p", FIELDS, options={"version": "2.0"}), "$.response.n", "int"
        ),
    ),
    "gen": Case("ai_gen(p)", rows=PLAIN, column=lambda: ai_gen("p")),
    "classify, version 1": Case(
        "ai_classify(p, array('city', 'land'))", rows=["city", None, "city"],
        column=lambda: ai_classify("p", ["city", "land"]),
    ),
    "extract, version 1": Case(
        "ai_extract(p, array('place', 'size')) IS NULL", "boolean", [False, True, False],
        column=lambda: ai_extract("p", ["place", "size"]).isNull(),
    ),
    "extract, version 1, its type": Case(
        "ai_extract(NULL, array('place', 'size'))", "struct<place:string,size:string>", [None] * 3, 0,
        column=lambda: ai_extract(F.lit(None), ["place", "size"]),
    ),
    "summarize": Case("ai_summarize(p) IS NULL", "boolean", [False, True, False], column=lambda: ai_summarize("p").isNull()),
    "summarize, any length": Case(
        "ai_summarize(content => p, max_words => 0) IS NULL", "boolean", [False, True, False],
        column=lambda: ai_summarize(content="p", max_words=0).isNull(),
    ),
    "translate": Case(
        "ai_translate(p, 'de') IS NULL", "boolean", [False, True, False], column=lambda: ai_translate("p", "de").isNull()
    ),
    "mask": Case(
        "ai_mask(p, array('city')) IS NULL", "boolean", [False, True, False], column=lambda: ai_mask("p", ["city"]).isNull()
    ),
    "fix grammar": Case(
        "ai_fix_grammar(p) IS NULL", "boolean", [False, True, False], column=lambda: ai_fix_grammar("p").isNull()
    ),
    "sentiment": Case(
        "ai_analyze_sentiment(p) IN ('positive', 'negative', 'neutral', 'mixed')", "boolean", [True, None, True],
        column=lambda: ai_analyze_sentiment("p").isin("positive", "negative", "neutral", "mixed"),
    ),
    "filter": Case("ai_filter(p) IS NULL", "boolean", [False, True, False], column=lambda: ai_filter("p").isNull()),
    "embed": Case("size(ai_embed(p))", "int", [4, None, 4], 1, column=lambda: F.size(ai_embed("p"))),
    "similarity": Case(
        "round(ai_similarity(p, p), 4)", "float", [1.0, None, 1.0], 1, column=lambda: F.round(ai_similarity("p", "p"), 4)
    ),
    "similarity to null": Case(
        "ai_similarity(p, NULL)", "float", [None] * 3, 1, column=lambda: ai_similarity("p", F.lit(None))
    ),
    "count tokens": Case(
        "ai_count_tokens(p) > 2", "boolean", [True, None, True], 0, column=lambda: ai_count_tokens("p") > 2
    ),
    "blank content": Case("ai_gen(' ')", rows=[None] * 3, billed=0, column=lambda: ai_gen(F.lit(" "))),
}  # fmt: skip
