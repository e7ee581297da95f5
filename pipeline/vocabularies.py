"""OpenAI's own tokenizers, where they are installed and their files lie on the disk; the only door to tiktoken.

Nothing is ever fetched: tiktoken downloads a vocabulary that it does not find, or finds changed, so it is asked for one
only after the file was found whole in `TIKTOKEN_CACHE_DIR`.
"""

import hashlib
import os
from functools import lru_cache
from pathlib import Path

from pipeline.tokens import TokenCount

# (name in the cache folder, SHA-256) by encoding, as tiktoken 0.8 to 0.14 have them. Others are too old to be worth it.
_O200K = "fb374d419588a4632f3f557e76b4b70aebbca790", "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
_CL100K = "9b5ad71b2ce5302211f9c61530b329a4922fc6a4", "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"
FILES = {"o200k_base": _O200K, "o200k_harmony": _O200K, "cl100k_base": _CL100K}
# Of a longer text the beginning is counted and stands for the rest.
MOST_CHARACTERS = 16_384


@lru_cache(maxsize=8)
def vocabulary_of(model: str) -> TokenCount | None:
    """Counts the tokens of a text as this model does; None where the tokenizer or its file is not at hand."""
    folder = os.environ.get("TIKTOKEN_CACHE_DIR")
    if not folder:
        return None
    try:
        import tiktoken

        encoding = tiktoken.encoding_name_for_model(model.rpartition("/")[2].removeprefix("databricks-"))
    except (ImportError, KeyError):
        return None
    name, sha256 = FILES.get(encoding, ("", ""))
    if not name or not _is_whole(Path(folder, name), sha256):
        return None
    encode = tiktoken.get_encoding(encoding).encode_ordinary

    def count(text: str | bytes) -> int:
        whole = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        begun = whole[:MOST_CHARACTERS]
        return round(len(encode(begun)) * len(whole) / max(1, len(begun)))

    return count


def _is_whole(path: Path, sha256: str) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    except OSError:
        return False
