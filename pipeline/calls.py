"""A function call that was checked, as the plan of its workers; needs no Spark, so that pandas makes the same calls."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from pipeline.answer_types import ReadType, answer_format, asked_type, object_format
from pipeline.arguments import Parameter, constant, wrong_type
from pipeline.catalog import Catalog, NamedEndpoint
from pipeline.column_plan import ColumnPlan
from pipeline.conditions import AiFunctionError
from pipeline.endpoints import EndpointSpec
from pipeline.engine import WindowSettings
from pipeline.errors import ConfigError
from pipeline.limits import Costing, QuotaSpec
from pipeline.model_parameters import checked
from pipeline.questions import QuestionSpec, mismatch
from pipeline.readings import ResultSpec
from pipeline.records import Task
from pipeline.settings import longest_output
from pipeline.templates import SHIPPED, Templates

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


def _no_types(ddl: str) -> pa.DataType:
    raise ValueError(ddl)


@dataclass(frozen=True, slots=True)
class Place:
    """Where calls are made: what a session, or a Python process, tells their plans."""

    catalog: Catalog = field(default_factory=Catalog)
    read_type: ReadType = _no_types
    templates: Templates = field(default_factory=lambda: SHIPPED)
    slots: int = 1  # tasks that run at once, among which an endpoint's limits are shared
    default_endpoint: str | None = None  # over those of the catalog
    default_embedding_endpoint: str | None = None
    cache_path: str | None = None
    zone: str = "UTC"  # of a time that an answer gives without one

    def find_endpoint(self, name: str) -> NamedEndpoint:
        """The endpoint of this name. Raises AiFunctionError that lists what is known."""
        try:
            return self.catalog.find(name)
        except ConfigError as exc:
            raise AiFunctionError("AI_FUNCTION_COMPILATION_ERROR", f"{exc}.") from exc

    def endpoint_for(self, task: Task) -> NamedEndpoint:
        """The endpoint of functions that name none: the session's, else the file's. Raises AiFunctionError."""
        configured = self.default_endpoint if task is Task.CHAT else self.default_embedding_endpoint
        try:
            return self.catalog.default(task, configured)
        except ConfigError as exc:
            raise AiFunctionError("AI_FUNCTION_COMPILATION_ERROR", f"{exc}.") from exc


def local_path(path: str | None) -> str | None:
    """A folder so that a worker finds it from wherever it runs; an URI as it is."""
    return os.path.abspath(path) if path and "://" not in path else path or None


def plan_ai_query(place: Place, values: Mapping[str, Any], rows: Mapping[str, str | None]) -> ColumnPlan:
    """The call with these constants, by the names of the SQL parameters. Raises AiFunctionError.

    `rows` are the row arguments that were given, with their type as Spark writes it where it is known.
    """
    name = "ai_query"
    has_files = "files" in rows
    endpoint = place.find_endpoint(constant(name, values, "endpoint", str, ""))
    parameters = checked(constant(name, values, "modelParameters", dict, {}), endpoint.task)
    asked = asked_type(name, "returnType", values.get("returnType"), place.read_type)
    response_format = constant(name, values, "responseFormat", str)
    answer = answer_format(endpoint.task, endpoint.name, asked, response_format, place.read_type)
    if has_files and endpoint.task is not Task.CHAT:
        raise AiFunctionError("AI_FUNCTION_COMPILATION_ERROR", f"the endpoint {endpoint.name} takes no `files`.")
    _check_row_types(endpoint.task, rows)
    result = ResultSpec(
        answer.kind,
        answer.reading,
        schema=answer.schema,
        fails=constant(name, values, "failOnError", bool, True),
        has_details=constant(name, values, "details", bool, False),
        zone=place.zone,
    )
    question = QuestionSpec(endpoint.task, ("request", "files") if has_files else ("request",))
    return planned(place, name, endpoint, question, result, {**parameters, **answer.sent})


def planned(
    place: Place,
    function: str,
    endpoint: NamedEndpoint,
    question: QuestionSpec,
    result: ResultSpec,
    parameters: Mapping[str, Any],
) -> ColumnPlan:
    """The plan of a call; `parameters` go over those of the endpoint."""
    sent = {**endpoint.parameters, **parameters}
    share = max(1, endpoint.in_flight // place.slots)
    identity = {"api": endpoint.api, "name": endpoint.model, "endpoint": endpoint.name, "parameters": sent}
    return ColumnPlan(
        function,
        endpoint.name,
        replace(question, identity=identity, max_request_bytes=endpoint.max_request_bytes),
        EndpointSpec(endpoint.task, endpoint.model, endpoint.api, endpoint.base_url, sent, endpoint.contract),
        result,
        WindowSettings(
            in_flight=share,
            pack=endpoint.pack,
            retry=endpoint.retry,
            quota=QuotaSpec(endpoint.in_flight, endpoint.limits, workers=place.slots),
            costing=Costing(endpoint.reserve_output, longest_output(endpoint.task, sent)),
        ),
        endpoint.transport_kind,
        replace(endpoint.transport, in_flight=share),
        endpoint.credentials,
        place.cache_path,
        endpoint.note,
    )


def asked(
    place: Place,
    function: str,
    column: str,
    result: ResultSpec,
    values: Mapping[str, Any] | None = None,
    properties: Mapping[str, Any] | None = None,
    template: str | None = None,
) -> ColumnPlan:
    """A chat call with the function's template over the constant `values` and one column.

    `properties` are the JSON schemas of the fields that an answer must have, None for a text.
    """
    prompt = place.templates[template or function]
    question = QuestionSpec(
        Task.CHAT,
        (column,),
        template=prompt["prompt"].strip(),
        system=prompt.get("system"),
        values=dict(values or {}),
        is_blank_null=True,
    )
    sent = object_format(function, properties) if properties is not None else {}
    return planned(place, function, place.endpoint_for(Task.CHAT), question, result, sent)


def _check_row_types(task: Task, rows: Mapping[str, str | None]) -> None:
    request, files = rows.get("request"), rows.get("files")
    takes_anything = request is None or task is Task.CUSTOM or _TEXT.fullmatch(request)
    if not takes_anything and not (task is Task.CHAT and _MESSAGES.match(request or "")):
        raise mismatch(task)
    if files not in (None, "void", "binary", "array<binary>"):
        raise wrong_type("ai_query", "files", "a BINARY or an ARRAY<BINARY>")
