"""The vectors of a table against those that the simulator has for the rows' texts. Pure."""

from base64 import b64decode
from collections.abc import Collection, Iterable, Mapping, Sequence

from pipeline.simulator.vectors import canned_vector

_SHOWN = 3


def complaints(
    texts: Mapping[str, str],
    refused: Collection[str],
    landed: Iterable[Sequence[str | None]],
    dimensions: int,
    seed: int,
) -> list[str]:
    """Every way in which a landed row is not what its text must get; empty where all are.

    `texts` by key; `refused` are the keys of texts that the endpoint never answers; `landed` as (key, error code,
    float32 bytes in base64). Not how many rows there are: that is in the books.
    """
    odd, wrong = [], []
    for key, code, data in landed:
        assert key is not None
        if key in refused:
            if (code, data) != ("bad_request", None):
                odd.append(f"{key} ended as {code}")
        elif data is None:
            odd.append(f"{key} has no vector: {code}")
        elif b64decode(data) != canned_vector(texts[key], dimensions, seed).astype("<f4").tobytes():
            wrong.append(key)
    found = [f"{len(odd)} rows did not end as their text must: {'; '.join(odd[:_SHOWN])}"] if odd else []
    if wrong:
        found.append(f"{len(wrong)} vectors are not the simulator's bit for bit: {', '.join(wrong[:_SHOWN])}")
    return found
