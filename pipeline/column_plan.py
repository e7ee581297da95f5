"""What a function call does in a worker, as one frozen value, and how its end is told."""

from dataclasses import dataclass, field

from pipeline.conditions import AiFunctionError, row_condition
from pipeline.endpoints import EndpointSpec
from pipeline.engine import WindowSettings
from pipeline.errors import ErrorCode
from pipeline.questions import QuestionSpec
from pipeline.readings import ResultSpec
from pipeline.records import Failure
from pipeline.transports import TransportSpec
from pipeline.workspace_auth import AnyCredentials


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """Everything a worker needs, frozen and picklable; holds references to secrets, never secrets."""

    function: str
    endpoint_name: str
    question: QuestionSpec
    endpoint: EndpointSpec
    result: ResultSpec
    window: WindowSettings = field(default_factory=WindowSettings)
    transport_kind: str = "httptools"
    transport: TransportSpec = field(default_factory=TransportSpec)
    credentials: AnyCredentials | None = None
    cache_path: str | None = None
    note: str = ""  # where the endpoint's name was looked for before, for messages


def stop_error(failure: Failure | None, plan: ColumnPlan) -> AiFunctionError:
    """Why no later row could succeed, whatever the call says about failed rows."""
    if failure is None:
        return AiFunctionError("AI_FUNCTION_HTTP_REQUEST_ERROR", "the calls were stopped.")
    where = f"the endpoint {plan.endpoint_name} at {plan.endpoint.base_url}"
    secret = f"the credential {plan.credentials.describe()}" if plan.credentials else "a request without credential"
    told = {
        ErrorCode.AUTHENTICATION: f"{where} refused {secret}",
        ErrorCode.PERMISSION: f"{where} does not allow this to {secret}",
        ErrorCode.NOT_FOUND: f"{where} was not found",
        ErrorCode.QUOTA_EXHAUSTED: f"quota or credit of {where} is used up",
        ErrorCode.CONNECT_FAILED: f"{where} cannot be reached",
    }.get(failure.code, where)
    note = f" {plan.note}." if plan.note else ""
    return AiFunctionError(row_condition(failure.code), f"{told}: {failure.message.rstrip('.')}.{note}")
