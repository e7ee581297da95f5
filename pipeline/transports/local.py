"""No server: an embedding model in the worker process, behind the same seam. A door to wordllama."""

import asyncio
import logging
from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from pipeline.errors import ConnectFailed
from pipeline.records import HttpRequest, HttpResponse
from pipeline.transports.spec import TransportSpec

_BATCH = 64


class LocalTransport:
    """Answers `POST /embeddings` as OpenAI's protocol says, with wordllama's bundled model."""

    async def send(self, request: HttpRequest, auth_headers: Mapping[str, str]) -> HttpResponse:
        """See `Transport.send`; the credential is not looked at."""
        return await asyncio.to_thread(_answer, request.body)

    async def close(self) -> None:
        """The model stays with the process."""


def open_local(spec: TransportSpec) -> LocalTransport:
    """Loads nothing yet."""
    return LocalTransport()


def _answer(body: bytes) -> HttpResponse:
    asked = orjson.loads(body)
    model = _model()
    available = int(model.embedding.shape[1])
    dimensions = asked.get("dimensions", available)
    if type(dimensions) is not int or not 1 <= dimensions <= available:
        message = f"dimensions must be 1 to {available}, the size of wordllama's bundled model"
        return HttpResponse(400, orjson.dumps({"error": {"message": message, "code": "invalid_value"}}))
    vectors, tokens = embed(model, asked["input"], dimensions)
    parts = [
        b'{"index":%d,"embedding":"%b"}' % (index, b64encode(vector.tobytes())) for index, vector in enumerate(vectors)
    ]
    answered = b'{"data":[%b],"model":%b,"usage":{"prompt_tokens":%d,"total_tokens":%d}}'
    return HttpResponse(200, answered % (b",".join(parts), orjson.dumps(asked.get("model")), tokens, tokens))


def embed(model: Any, texts: Sequence[str], dimensions: int) -> tuple[NDArray[np.float32], int]:
    """The mean of each text's token vectors, shape (len(texts), dimensions), little-endian, and how many tokens.

    A text without tokens is zero. Nothing is padded: padding to the longest text is most of what the package's own
    `embed` does, and a text has the same vector in every batch.
    """
    vectors = np.zeros((len(texts), dimensions), "<f4")
    tokens = 0
    for start in range(0, len(texts), _BATCH):
        encoded = model.tokenizer.encode_batch(list(texts[start : start + _BATCH]), add_special_tokens=False)
        for row, one in enumerate(encoded, start):
            if one.ids:
                vectors[row] = model.embedding[one.ids].mean(axis=0)[:dimensions]
                tokens += len(one.ids)
    return vectors, tokens


@lru_cache(maxsize=1)
def _model() -> Any:
    """Loaded once per process. ConnectFailed where the package is missing."""
    root = logging.getLogger()  # its import configures the root logger
    level, handlers = root.level, list(root.handlers)
    try:
        import wordllama
    except ImportError:
        raise ConnectFailed("the package wordllama is not installed: pip install 'spark-ai-query[local]'") from None
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers
    # without a folder it looks beside the user's caches and then downloads
    model = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
    model.tokenizer.no_padding()
    return model
