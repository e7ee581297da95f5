"""From the sections that job files and endpoints files share to the values that the parts below take."""

import os

from pipeline.auth import Credentials
from pipeline.config import AuthTable, EmbeddingSection, EndpointSection, NamedEndpointTable, RetrySection
from pipeline.retry import RetrySettings
from pipeline.transports import TransportSpec
from pipeline.vectors import EmbeddingContract
from pipeline.version import VERSION


def retry_settings(retry: RetrySection) -> RetrySettings:
    """`[retry]`."""
    return RetrySettings(
        max_attempts=retry.max_attempts,
        base_s=retry.base_s,
        max_wait_s=retry.max_wait_s,
        deadline_s=retry.deadline_s,
        max_unknown_resends=retry.max_unknown_resends,
        max_invalid_resends=retry.max_invalid_resends,
    )


def embedding_contract(embedding: EmbeddingSection) -> EmbeddingContract:
    """`[embedding]`."""
    return EmbeddingContract(
        normalization=embedding.normalization,
        tolerance=embedding.tolerance,
        dimensions=embedding.dimensions,
        finite=embedding.finite,
        non_zero=embedding.non_zero,
        model=embedding.model,
    )


def transport_spec(
    endpoint: EndpointSection | NamedEndpointTable, *, in_flight: int, response_bytes: int
) -> TransportSpec:
    """How a server is reached, by one worker that has `in_flight` calls open at most."""
    return TransportSpec(
        timeout_s=endpoint.timeout_s,
        connect_timeout_s=endpoint.connect_timeout_s,
        read_timeout_s=endpoint.read_timeout_s,
        max_response_bytes=response_bytes,
        in_flight=in_flight,
        ca_bundle=os.path.abspath(endpoint.ca_bundle) if endpoint.ca_bundle else None,
        user_agent=f"spark-ai-query/{VERSION}",
    )


def credentials_of(auth: AuthTable | None) -> Credentials | None:
    """`auth`; a reference, nothing is resolved."""
    return Credentials.parse(auth.scheme, auth.secret) if auth else None
