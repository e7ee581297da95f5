"""The functions beside `ai_query`, as columns; NULL and blank contents ask nothing and give NULL."""

from collections.abc import Mapping, Sequence
from typing import Any

from pyspark.sql import Column

from pipeline.functions import as_column, invoke, let_output_flow, place, require_constants
from pipeline.siblings import BY_NAME, labelled


def ai_gen(prompt: Column | str) -> Column:
    """The answer to a prompt; STRING."""
    return _over("ai_gen", {}, prompt)


def ai_classify(
    content: Column | str, labels: Sequence[str] | str | Mapping[str, str], options: Mapping[str, str] | None = None
) -> Column:
    """The label that fits best, NULL where none does; STRING. 2 to 20 labels.

    Labels as JSON, or as a mapping of label and description, are version 2: VARIANT {response, error_message}, up to 500
    labels, with `options` of `multilabel` ("true") and `instructions`.
    """
    return _over("ai_classify", labelled(labels, options), content)


def ai_extract(
    content: Column | str, labels: Sequence[str] | str | Mapping[str, Any], options: Mapping[str, str] | None = None
) -> Column:
    """One candidate per label, NULL where the text names none; STRUCT of STRING.

    A JSON schema, as text or as a mapping, is version 2: VARIANT {response, error_message}, with `options` of
    `instructions`.
    """
    return _over("ai_extract", labelled(labels, options), content)


def ai_summarize(content: Column | str, max_words: int = 50) -> Column:
    """A summary of about so many words, 0 for any length; STRING."""
    return _over("ai_summarize", {"max_words": max_words}, content)


def ai_translate(content: Column | str, to_lang: str) -> Column:
    """The text in another language, by code or name; STRING."""
    return _over("ai_translate", {"to_lang": to_lang}, content)


def ai_similarity(expr1: Column | str, expr2: Column | str) -> Column:
    """The cosine of two texts' embeddings, 1.0 for equal ones; FLOAT, NULL if either is NULL."""
    return _over("ai_similarity", {}, expr1, expr2)


def ai_mask(content: Column | str, labels: Sequence[str]) -> Column:
    """The text with what the labels name as [MASKED]; STRING."""
    return _over("ai_mask", labelled(labels), content)


def ai_fix_grammar(content: Column | str) -> Column:
    """The text without mistakes; STRING."""
    return _over("ai_fix_grammar", {}, content)


def ai_analyze_sentiment(content: Column | str) -> Column:
    """Positive, negative, neutral or mixed in lower case, NULL for any other answer; STRING."""
    return _over("ai_analyze_sentiment", {}, content)


def ai_embed(content: Column | str) -> Column:
    """The text's vector; ARRAY<FLOAT>."""
    return _over("ai_embed", {}, content)


def ai_filter(predicate: Column | str) -> Column:
    """Whether a statement about the row is true, NULL where the answer is neither; BOOLEAN."""
    return _over("ai_filter", {}, predicate)


def ai_count_tokens(content: Column | str) -> Column:
    """An estimate of the text's tokens, without a call; INT."""
    return _over("ai_count_tokens", {}, content)


def _over(name: str, values: dict[str, Any], *columns: Column | str) -> Column:
    require_constants(name, values)
    let_output_flow()
    call = BY_NAME[name].plan(place(), values, {})
    made: Column = invoke(call, [as_column(column) for column in columns], lambda udf, arguments: udf(*arguments))
    return made
