"""Token estimates. Pure."""

# Four bytes of UTF-8 per token is OpenAI's rule of thumb for English; other scripts have more bytes per character
# and more tokens per character, so bytes stay nearer than characters do.
BYTES_PER_TOKEN = 4.0


def estimate_tokens(text: str) -> int:
    """Tokens of a text, at least 1; used for packing and shares, never for accounting."""
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return max(1, round(size / BYTES_PER_TOKEN))
