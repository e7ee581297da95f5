"""The identity of a request: SHA-256 over all that changes its answer, and the size up to which it is sent. Pure."""

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

from pipeline.errors import ErrorCode
from pipeline.messages import Messages, encoded_messages
from pipeline.records import Request, RowError, Task
from pipeline.tokens import Estimator


def canonical(task: Task, identity: Mapping[str, Any], *more: Any) -> bytes:
    """What all rows of a job or call share, as bytes that do not depend on the order of keys."""
    return orjson.dumps([str(task), dict(identity), *more], option=orjson.OPT_SORT_KEYS) + b"\n"


class Identifier:
    """Gives texts and messages their request. `common` is `canonical` of what all of them share."""

    def __init__(self, common: bytes, max_request_bytes: int, estimator: Estimator | None = None) -> None:
        self._estimate = (estimator or Estimator()).estimate
        self._common = hashlib.sha256(common)
        self._max_request_bytes = max_request_bytes

    def of_text(self, text: str) -> Request | RowError:
        """The request of a text, with an estimate of its tokens; `input_too_large` where it is."""
        encoded = text.encode("utf-8", "surrogatepass")
        return self._too_large(encoded) or Request(self._digest(encoded), text=text, input_tokens=self._estimate(text))

    def of_messages(self, messages: Messages) -> Request | RowError:
        """The same of a message list."""
        encoded = encoded_messages(messages)
        return self._too_large(encoded) or Request(
            self._digest(encoded), messages=tuple(messages), input_tokens=self._estimate(encoded)
        )

    def _too_large(self, encoded: bytes) -> RowError | None:
        if len(encoded) <= self._max_request_bytes:
            return None
        return RowError(
            ErrorCode.INPUT_TOO_LARGE,
            f"{len(encoded):,} bytes; [limits] max_request_bytes is {self._max_request_bytes:,}",
        )

    def _digest(self, encoded: bytes) -> str:
        digest = self._common.copy()
        digest.update(encoded)
        return digest.hexdigest()
