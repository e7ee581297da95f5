"""`ai_query` as a column function, and the plan of its call."""

import json
import re
from collections.abc import Mapping
from typing import Any

from pyspark.sql import Column
from pyspark.sql.types import DataType

from pipeline.answer_types import answer_type, to_arrow, to_type
from pipeline.arguments import Parameter, constant, wrong_type
from pipeline.calls import Planned, as_column, find_endpoint, let_output_flow, planned, to_udf
from pipeline.conditions import AiFunctionError
from pipeline.model_parameters import checked
from pipeline.questions import QuestionSpec, mismatch
from pipeline.readings import ResultSpec
from pipeline.records import Task

AI_QUERY = (
    Parameter("endpoint", is_required=True),
    Parameter("request", is_constant=False, is_required=True),
    Parameter("returnType"),
    Parameter("failOnError"),
    Parameter("modelParameters"),
    Parameter("responseFormat"),
    Parameter("files", is_constant=False),
    Parameter("details"),
)

# Types as Spark writes them.
_TEXT = re.compile(r"void|string.*|(var)?char\(\d+\)")
_MESSAGES = re.compile(r"(array<)?struct<(?=.*\brole:string)(?=.*\bcontent:string)")


def ai_query(
    endpoint: str,
    request: Column | str,
    return_type: str | DataType | None = None,
    *,
    fail_on_error: bool = True,
    model_parameters: Mapping[str, Any] | None = None,
    response_format: str | Mapping[str, Any] | None = None,
    files: Column | str | None = None,
    details: bool = False,
) -> Column:
    """One question per row to a named endpoint; NULL asks nothing and gives NULL.

    `request` is a column (or its name) of STRING, STRUCT<role, content> or an ARRAY of it; `files` of BINARY images or
    an ARRAY of them. The column is STRING for chat, ARRAY<FLOAT> for embeddings, `return_type` or the struct of
    `response_format` where given; without `fail_on_error`, or with `details`, that is `result` in
    STRUCT<result, errorMessage, ...>. Raises AiFunctionError for a call that is wrong; a row that fails fails the
    query, or is its `errorMessage`.
    """
    values = {
        "endpoint": endpoint,
        "returnType": return_type,
        "failOnError": fail_on_error,
        "modelParameters": dict(model_parameters) if model_parameters is not None else None,
        "responseFormat": json.dumps(response_format) if isinstance(response_format, Mapping) else response_format,
        "details": details,
    }
    let_output_flow()
    columns = [as_column(request)] + ([as_column(files)] if files is not None else [])
    rows = {"request": None} | ({"files": None} if files is not None else {})
    return to_udf(plan_ai_query(values, rows))(*columns)


def plan_ai_query(values: Mapping[str, Any], rows: Mapping[str, str | None]) -> Planned:
    """The call with these constants, by the names of the SQL parameters. Raises AiFunctionError.

    `rows` are the row arguments that were given, with their type as Spark writes it where it is known.
    """
    name = "ai_query"
    has_files = "files" in rows
    endpoint = find_endpoint(constant(name, values, "endpoint", str, ""))
    parameters = checked(constant(name, values, "modelParameters", dict, {}), endpoint.task)
    sent, kind, reading = answer_type(
        endpoint, to_type(name, "returnType", values.get("returnType")), constant(name, values, "responseFormat", str)
    )
    if has_files and endpoint.task is Task.EMBEDDING:
        raise AiFunctionError("AI_FUNCTION_COMPILATION_ERROR", f"the endpoint {endpoint.name} takes no `files`.")
    _check_row_types(endpoint.task, rows)
    result = ResultSpec(
        to_arrow(kind),
        reading,
        fails=constant(name, values, "failOnError", bool, True),
        has_details=constant(name, values, "details", bool, False),
    )
    question = QuestionSpec(endpoint.task, ("request", "files") if has_files else ("request",))
    return planned(name, endpoint, question, result, kind, {**parameters, **sent})


def _check_row_types(task: Task, rows: Mapping[str, str | None]) -> None:
    request, files = rows.get("request"), rows.get("files")
    if request is not None and not _TEXT.fullmatch(request) and not (task is Task.CHAT and _MESSAGES.match(request)):
        raise mismatch(task)
    if files not in (None, "void", "binary", "array<binary>"):
        raise wrong_type("ai_query", "files", "a BINARY or an ARRAY<BINARY>")
