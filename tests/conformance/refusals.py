"""Calls that are wrong, refused before anything is asked; and queries that fail while they run."""

from collections.abc import Callable

from pyspark.sql import Column
from pyspark.sql import functions as F

from pipeline import ai_classify, ai_extract, ai_mask, ai_query, ai_summarize, ai_translate

# call -> condition
REFUSALS = {
    "ai_query()": "REQUIRED_PARAMETER_NOT_FOUND",
    "ai_query('chat')": "REQUIRED_PARAMETER_NOT_FOUND",
    "ai_query(request => p)": "REQUIRED_PARAMETER_NOT_FOUND",
    "ai_query('chat', p, 'INT', true, named_struct('n', 1), 'x', f, true, 1)": "WRONG_NUM_ARGS.WITHOUT_SUGGESTION",
    "ai_query('chat', p, temperature => 1)": "UNRECOGNIZED_PARAMETER_NAME",
    "ai_query('chat', p, request => p)": "DUPLICATE_ROUTINE_PARAMETER_ASSIGNMENT.BOTH_POSITIONAL_AND_NAMED",
    "ai_query(endpoint => 'chat', p)": "UNEXPECTED_POSITIONAL_ARGUMENT",
    "ai_query(p, p)": "NON_FOLDABLE_ARGUMENT",
    "ai_query('chat', p, failOnError => i > 1)": "NON_FOLDABLE_ARGUMENT",
    "ai_query('chat', p, returnType => p)": "NON_FOLDABLE_ARGUMENT",
    "ai_query('chat', p, responseFormat => p)": "NON_FOLDABLE_ARGUMENT",
    "ai_query('chat', p, modelParameters => named_struct('seed', i))": "NON_FOLDABLE_ARGUMENT",
    "ai_query('nope', p)": "AI_FUNCTION_COMPILATION_ERROR",
    "ai_query(NULL, p)": "AI_FUNCTION_COMPILATION_ERROR",
    "ai_query('embed', p, 'INT')": "AI_FUNCTION_COMPILATION_ERROR",
    "ai_query('embed', p, files => f)": "AI_FUNCTION_COMPILATION_ERROR",
    "ai_query('chat', p, 'INT', responseFormat => 'STRUCT<a: INT>')": "AI_FUNCTION_COMPILATION_ERROR",
    "ai_query(7, p)": "DATATYPE_MISMATCH",
    "ai_query('chat', i)": "DATATYPE_MISMATCH",
    "ai_query('chat', named_struct('a', p))": "DATATYPE_MISMATCH",
    "ai_query('embed', named_struct('role', p, 'content', p))": "DATATYPE_MISMATCH",
    "ai_query('chat', p, files => p)": "DATATYPE_MISMATCH",
    "ai_query('chat', p, failOnError => 'no')": "DATATYPE_MISMATCH",
    "ai_query('chat', p, modelParameters => 'max_tokens')": "DATATYPE_MISMATCH",
    "ai_query('chat', p, modelParameters => map('a', 1))": "DATATYPE_MISMATCH",
    "ai_query('chat', p, 'STRUCT<')": "INVALID_SCHEMA.PARSE_ERROR",
    "ai_query('chat', p, 'WORDS')": "INVALID_SCHEMA.PARSE_ERROR",
    "ai_query('chat', p, responseFormat => 'INT')": "AI_FUNCTION_UNSUPPORTED_RESPONSE_FORMAT.DDL_STRING",
    "ai_query('chat', p, responseFormat => 'xml')": "AI_FUNCTION_UNSUPPORTED_RESPONSE_FORMAT.DDL_STRING",
    "ai_query('chat', p, responseFormat => '{')": "AI_FUNCTION_UNSUPPORTED_RESPONSE_FORMAT.JSON_STRING",
    """ai_query('chat', p, responseFormat => '{"type": "xml"}')""": (
        "AI_FUNCTION_UNSUPPORTED_RESPONSE_FORMAT.JSON_STRING"
    ),
    """ai_query('chat', p, responseFormat => '{"type": "json_schema"}')""": (
        "AI_FUNCTION_UNSUPPORTED_RESPONSE_FORMAT.JSON_STRING"
    ),
    """ai_query('embed', p, responseFormat => '{"type": "text"}')""": "AI_FUNCTION_UNSUPPORTED_RESPONSE_FORMAT",
    "ai_query('chat', p, 'VARIANT')": "INVALID_SCHEMA",
    "ai_query('chat', p, 'STRUCT<a: VARIANT>')": "INVALID_SCHEMA",
    "ai_query('chat', p, responseFormat => 'STRUCT<a: VARIANT>')": "INVALID_SCHEMA",
    "ai_query('custom', i)": "AI_FUNCTION_COMPILATION_ERROR",
    "ai_query('custom', i, 'INT', files => f)": "AI_FUNCTION_COMPILATION_ERROR",
    "ai_query('custom', i, 'INT', modelParameters => named_struct('max_tokens', 1))": (
        "AI_FUNCTION_INVALID_MODEL_PARAMETERS.UNSUPPORTED_ENDPOINT_TYPE"
    ),
    "ai_query('custom', i, 'INT', responseFormat => 'STRUCT<a: INT>')": "AI_FUNCTION_UNSUPPORTED_RESPONSE_FORMAT",
    "ai_query('complete', named_struct('role', p, 'content', p))": "DATATYPE_MISMATCH",
    "ai_query('complete', p, files => f)": "AI_FUNCTION_COMPILATION_ERROR",
    "ai_query('complete', p, responseFormat => 'STRUCT<a: INT>')": "AI_FUNCTION_UNSUPPORTED_RESPONSE_FORMAT",
    "ai_query('complete', p, modelParameters => named_struct('reasoning_effort', 'low'))": (
        "AI_FUNCTION_INVALID_MODEL_PARAMETERS.UNSUPPORTED_MODEL_PARAMETER"
    ),
    "ai_query('embed', p, modelParameters => named_struct('temperature', 1))": (
        "AI_FUNCTION_INVALID_MODEL_PARAMETERS.UNSUPPORTED_MODEL_PARAMETER"
    ),
    """ai_query('chat', p, responseFormat => '{"type": "json_schema", "json_schema": {"schema": {"type": "big"}}}')""": (
        "AI_FUNCTION_UNSUPPORTED_RESPONSE_FORMAT.JSON_STRING"
    ),
    """ai_query('chat', p, responseFormat => '{"type": "json_schema", "json_schema": {"schema": {"$ref": "x"}}}')""": (
        "AI_FUNCTION_UNSUPPORTED_RESPONSE_FORMAT.JSON_STRING"
    ),
    "ai_classify(p, 'city, land')": "DATATYPE_MISMATCH",
    "ai_gen(7)": "DATATYPE_MISMATCH",
    "ai_summarize(i)": "DATATYPE_MISMATCH",
    "ai_summarize(array(p))": "DATATYPE_MISMATCH",
    "ai_embed(i)": "DATATYPE_MISMATCH",
    "ai_similarity(p, i)": "DATATYPE_MISMATCH",
    "ai_count_tokens(7)": "DATATYPE_MISMATCH",
    """ai_classify(p, '["city"]')""": "DATATYPE_MISMATCH",
    """ai_classify(p, '["city", "land"]', map('best', '1'))""": "DATATYPE_MISMATCH",
    """ai_classify(p, '["city", "land"]', named_struct('multilabel', 'true'))""": "DATATYPE_MISMATCH",
    """ai_classify(p, '["city", "land"]', map('instructions', p))""": "NON_FOLDABLE_ARGUMENT",
    "ai_classify(p, array('city', 'land'), map('multilabel', 'true'))": "DATATYPE_MISMATCH",
    """ai_extract(p, '{"a": {"type": "date"}}')""": "DATATYPE_MISMATCH",
    "ai_extract(p, p)": "NON_FOLDABLE_ARGUMENT",
    **{
        f"ai_query('chat', p, modelParameters => named_struct({arguments}))": (
            f"AI_FUNCTION_INVALID_MODEL_PARAMETERS.{sub}"
        )
        for arguments, sub in {
            "'messages', 'x'": "FOUND_RESERVED_PARAMETER_NAME",
            "'model', 'x'": "FOUND_RESERVED_PARAMETER_NAME",
            "'stream', true": "FOUND_RESERVED_PARAMETER_NAME",
            "'response_format', 'x'": "FOUND_RESERVED_PARAMETER_NAME",
            "'max_tokens', '9'": "INVALID_PARAMETER_DATA_TYPE",
            "'max_tokens', 1.5": "INVALID_PARAMETER_DATA_TYPE",
            "'max_tokens', 0": "INVALID_NUMERIC_PARAMETER",
            "'temperature', 2.5": "INVALID_NUMERIC_PARAMETER",
            "'top_p', -0.1": "INVALID_NUMERIC_PARAMETER",
            "'n', 2": "UNSUPPORTED_MODEL_PARAMETER",
            "'dimensions', 4": "UNSUPPORTED_MODEL_PARAMETER",
            "'prompt', 'x'": "FOUND_RESERVED_PARAMETER_NAME",
            "'input', 'x'": "FOUND_RESERVED_PARAMETER_NAME",
            "'presence_penalty', 3": "INVALID_NUMERIC_PARAMETER",
            "'frequency_penalty', -3": "INVALID_NUMERIC_PARAMETER",
            "'seed', 'x'": "INVALID_PARAMETER_DATA_TYPE",
            "'stop', 7": "INVALID_PARAMETER_DATA_TYPE",
            "'user', 7": "INVALID_PARAMETER_DATA_TYPE",
            "'top_k', 0": "INVALID_NUMERIC_PARAMETER",
        }.items()
    },
}

# the same as columns: what SQL's analyzer says, they say where they are written
COLUMN_REFUSALS: dict[str, tuple[Callable[[], Column], str]] = {
    "unknown endpoint": (lambda: ai_query("nope", "p"), "AI_FUNCTION_COMPILATION_ERROR"),
    "endpoint of another type": (lambda: ai_query(7, "p"), "DATATYPE_MISMATCH"),  # type: ignore[arg-type]
    "max_tokens of 0": (
        lambda: ai_query("chat", "p", model_parameters={"max_tokens": 0}),
        "AI_FUNCTION_INVALID_MODEL_PARAMETERS.INVALID_NUMERIC_PARAMETER",
    ),
    "max_tokens as text": (
        lambda: ai_query("chat", "p", model_parameters={"max_tokens": "9"}),
        "AI_FUNCTION_INVALID_MODEL_PARAMETERS.INVALID_PARAMETER_DATA_TYPE",
    ),
    "messages as a parameter": (
        lambda: ai_query("chat", "p", model_parameters={"messages": []}),
        "AI_FUNCTION_INVALID_MODEL_PARAMETERS.FOUND_RESERVED_PARAMETER_NAME",
    ),
    "parameters of a custom model": (
        lambda: ai_query("custom", "i", "INT", model_parameters={"seed": 1}),
        "AI_FUNCTION_INVALID_MODEL_PARAMETERS.UNSUPPORTED_ENDPOINT_TYPE",
    ),
    "custom without a type": (lambda: ai_query("custom", "i"), "AI_FUNCTION_COMPILATION_ERROR"),
    "no type": (lambda: ai_query("chat", "p", "STRUCT<"), "INVALID_SCHEMA.PARSE_ERROR"),
    "variant": (lambda: ai_query("chat", "p", "VARIANT"), "INVALID_SCHEMA"),
    "type of a vector": (lambda: ai_query("embed", "p", "INT"), "AI_FUNCTION_COMPILATION_ERROR"),
    "files of a vector": (lambda: ai_query("embed", "p", files="f"), "AI_FUNCTION_COMPILATION_ERROR"),
    "files of a completion": (lambda: ai_query("complete", "p", files="f"), "AI_FUNCTION_COMPILATION_ERROR"),
    "failing by text": (lambda: ai_query("chat", "p", fail_on_error="no"), "DATATYPE_MISMATCH"),  # type: ignore[arg-type]
    "no format": (
        lambda: ai_query("chat", "p", response_format="xml"),
        "AI_FUNCTION_UNSUPPORTED_RESPONSE_FORMAT.DDL_STRING",
    ),
    "format of an unknown type": (
        lambda: ai_query("chat", "p", response_format={"type": "xml"}),
        "AI_FUNCTION_UNSUPPORTED_RESPONSE_FORMAT.JSON_STRING",
    ),
    "format without a schema": (
        lambda: ai_query("chat", "p", response_format={"type": "json_schema"}),
        "AI_FUNCTION_UNSUPPORTED_RESPONSE_FORMAT.JSON_STRING",
    ),
    "format of a completion": (
        lambda: ai_query("complete", "p", response_format={"type": "json_object"}),
        "AI_FUNCTION_UNSUPPORTED_RESPONSE_FORMAT",
    ),
    "type and struct format": (
        lambda: ai_query("chat", "p", "INT", response_format="STRUCT<a: INT>"),
        "AI_FUNCTION_COMPILATION_ERROR",
    ),
    "one label": (lambda: ai_classify("p", ["one"]), "DATATYPE_MISMATCH"),
    "one label in json": (lambda: ai_classify("p", '["one"]'), "DATATYPE_MISMATCH"),
    "options of version 1": (lambda: ai_classify("p", ["a", "b"], {"multilabel": "true"}), "DATATYPE_MISMATCH"),
    "no fields": (lambda: ai_extract("p", []), "DATATYPE_MISMATCH"),
    "a field of no type": (lambda: ai_extract("p", {"a": {"type": "date"}}), "DATATYPE_MISMATCH"),
    "nothing to mask": (lambda: ai_mask("p", []), "DATATYPE_MISMATCH"),
    "a negative length": (lambda: ai_summarize("p", -1), "AI_FUNCTION_INVALID_MAX_WORDS"),
    "no language": (lambda: ai_translate(F.col("p"), " "), "DATATYPE_MISMATCH"),
}

# statement -> condition of the failure; the query fails under either setting where no later row could succeed
FAILURES = {
    "SELECT ai_query('chat', p) FROM t": "AI_FUNCTION_HTTP_REQUEST_ERROR",
    "SELECT ai_query('chat', p, 'INT') FROM good": "AI_FUNCTION_HTTP_PARSE_CAST_ERROR",
    "SELECT ai_query('chat', p || '[[fault:overloaded_529]]') FROM good": "REMOTE_FUNCTION_HTTP_RETRY_TIMEOUT",
    "SELECT ai_query('chat', p || '[[fault:null_content]]') FROM good": "AI_FUNCTION_INVALID_HTTP_RESPONSE",
    "SELECT ai_query('lost', p, failOnError => false) FROM good": "AI_FUNCTION_HTTP_REQUEST_ERROR",
    "SELECT ai_query('slow', p || '[[fault:quota_exhausted]]', failOnError => false) FROM good": (
        "AI_FUNCTION_HTTP_REQUEST_ERROR"
    ),
}
