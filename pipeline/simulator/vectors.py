"""Embeddings: a small real model, and pre-encoded pools whose cost is a look-up. The only door to wordllama."""

import logging
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from pipeline.simulator.wire import encode_vector

POOL_SIZE = 256
WORDLLAMA_DIMENSIONS = 256
_BATCH = 64

Vectors = NDArray[np.float32]


def canned_index(text: str) -> int:
    """Which vector of the pool a text gets: CRC-32 of its UTF-8, modulo the pool's size."""
    return crc32(text.encode()) % POOL_SIZE


@lru_cache(maxsize=32)
def canned_pool(dimensions: int, seed: int = 0) -> Vectors:
    """All canned vectors, shape (POOL_SIZE, dimensions), float32, read-only, nearly but not exactly of unit length."""
    pool = np.random.default_rng(seed).standard_normal((POOL_SIZE, dimensions)) / np.sqrt(dimensions)
    vectors: Vectors = pool.astype(np.float32)
    vectors.setflags(write=False)
    return vectors


def canned_vector(text: str, dimensions: int = 1024, seed: int = 0) -> Vectors:
    """The vector, shape (dimensions,), that `canned-embedding` answers for a text.

    `dimensions` and `seed` are those of the settings; a request that asks for fewer gets the head of this vector.
    """
    vector: Vectors = canned_pool(dimensions, seed)[canned_index(text)]
    return vector


@lru_cache(maxsize=16)
def encoded_pool(dimensions: int, seed: int, wanted: int, is_base64: bool) -> tuple[bytes, ...]:
    """The pool as JSON values, each cut to `wanted` dimensions."""
    return tuple(encode_vector(vector[:wanted], is_base64) for vector in canned_pool(dimensions, seed))


@lru_cache(maxsize=1)
def load_wordllama() -> Any:
    """The bundled model, loaded once. Raises ImportError where the package is missing."""
    # its import configures the root logger; whoever embeds the simulator keeps the one they had
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    try:
        import wordllama
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers

    # without a folder it looks beside the user's caches and then downloads
    model = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
    model.tokenizer.no_padding()  # texts are pooled one by one below: padding is most of the cost
    return model


def embed(texts: Sequence[str], dimensions: int = WORDLLAMA_DIMENSIONS, is_normalized: bool = False) -> Vectors:
    """The mean of each text's token vectors, shape (len(texts), dimensions), float32.

    A text has the same vector in every batch. Cut to `dimensions` before it is normalised; a text without tokens is
    zero.
    """
    model = load_wordllama()
    table = model.embedding
    vectors = np.zeros((len(texts), dimensions), dtype=np.float32)
    for start in range(0, len(texts), _BATCH):
        some = list(texts[start : start + _BATCH])
        for row, encoded in enumerate(model.tokenizer.encode_batch(some, add_special_tokens=False), start):
            if encoded.ids:
                vectors[row] = table[encoded.ids].mean(axis=0)[:dimensions]
    if is_normalized:
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-30))
    return vectors
