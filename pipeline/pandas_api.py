"""The AI functions on pandas, without Spark: importing this gives every Series and DataFrame the accessor `.ai`.

The same engine, errors, endpoints and cache as in SQL. A call blocks until its rows are there, also within a notebook
whose own event loop runs: the engine's loop has a thread of its own.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa

from pipeline.calls import plan_ai_query
from pipeline.column_plan import ColumnPlan
from pipeline.conditions import AiFunctionError
from pipeline.pandas_calls import configure, listed, place, rendered, run, to_array, to_series, to_struct
from pipeline.siblings import BY_NAME, labelled

__all__ = ["FrameAi", "SeriesAi", "configure"]

Text = str | None
Answers = pd.Series | pd.DataFrame
Labels = Sequence[str] | str | Mapping[str, Any]


@pd.api.extensions.register_series_accessor("ai")
class SeriesAi:
    """The AI functions over the values of a Series; NULL asks nothing and gives NULL, the index stays.

    A STRUCT comes as a DataFrame with a column per field, an array of floats as a numpy array. `prompt` is a Jinja2
    template that reads the value by the Series' name, or as `value`.
    """

    def __init__(self, series: pd.Series) -> None:
        self._series = series

    def query(
        self,
        endpoint: str,
        prompt: Text = None,
        return_type: str | pa.DataType | None = None,
        *,
        fail_on_error: bool = True,
        model_parameters: Mapping[str, Any] | None = None,
        response_format: str | Mapping[str, Any] | None = None,
        files: pd.Series | None = None,
        details: bool = False,
    ) -> Answers:
        """`ai_query`: each value, or the prompt made of it, to a named endpoint. Raises AiFunctionError."""
        values = {
            "endpoint": endpoint,
            "returnType": return_type,
            "failOnError": fail_on_error,
            "modelParameters": dict(model_parameters) if model_parameters is not None else None,
            "responseFormat": json.dumps(response_format) if isinstance(response_format, Mapping) else response_format,
            "details": details,
        }
        rows = {"request": None} | ({"files": None} if files is not None else {})
        plan = plan_ai_query(place(), values, rows)
        arrays = [to_array(self._prompted(prompt))]
        if files is not None:
            if len(files) != len(self._series):
                raise AiFunctionError(
                    "DATATYPE_MISMATCH", f"`files` has {len(files):,} rows, the Series {len(self._series):,}."
                )
            arrays.append(to_array(files))
        found = run(plan, arrays)
        return self._as_frame(found) if pa.types.is_struct(found.type) else self._as_series(found)

    def gen(self, prompt: Text = None) -> pd.Series:
        """`ai_gen`: the default endpoint's answer to each value, or to the prompt made of it."""
        return self._called("ai_gen", {}, self._prompted(prompt))

    def classify(self, labels: Labels, options: Mapping[str, str] | None = None) -> Answers:
        """`ai_classify`: the label that fits best, NULL where none does.

        Labels as JSON or as a mapping are version 2: a DataFrame of response and error_message.
        """
        return self._of_version("ai_classify", labels, options)

    def extract(self, labels: Labels, options: Mapping[str, str] | None = None) -> pd.DataFrame:
        """`ai_extract`: a column per label, NULL where the text names none; a JSON schema as in `classify`."""
        found = self._of_version("ai_extract", labels, options)
        assert isinstance(found, pd.DataFrame)
        return found

    def summarize(self, max_words: int = 50) -> pd.Series:
        """`ai_summarize`: about so many words, 0 for any length."""
        return self._called("ai_summarize", {"max_words": max_words})

    def translate(self, to_lang: str) -> pd.Series:
        """`ai_translate`: in another language, by code or name."""
        return self._called("ai_translate", {"to_lang": to_lang})

    def similarity(self, other: pd.Series | str) -> pd.Series:
        """`ai_similarity`: the cosine of the embeddings of two texts, row by row or with one text."""
        texts = pd.Series([other] * len(self._series)) if isinstance(other, str) else other
        if len(texts) != len(self._series):
            raise AiFunctionError(
                "DATATYPE_MISMATCH", f"the other Series has {len(texts):,} rows, this one {len(self._series):,}."
            )
        return self._called("ai_similarity", {}, self._series, texts)

    def mask(self, labels: Sequence[str]) -> pd.Series:
        """`ai_mask`: what the labels name as [MASKED]."""
        return self._called("ai_mask", labelled(labels))

    def fix_grammar(self) -> pd.Series:
        """`ai_fix_grammar`: the text without mistakes."""
        return self._called("ai_fix_grammar", {})

    def analyze_sentiment(self) -> pd.Series:
        """`ai_analyze_sentiment`: positive, negative, neutral or mixed."""
        return self._called("ai_analyze_sentiment", {})

    def embed(self) -> pd.Series:
        """`ai_embed`: a float32 array per text."""
        return self._called("ai_embed", {})

    def filter(self, prompt: Text = None) -> pd.Series:
        """`ai_filter`: whether the statement is true, as a mask that takes NULL for no."""
        return self._called("ai_filter", {}, self._prompted(prompt))

    def count_tokens(self) -> pd.Series:
        """`ai_count_tokens`: an estimate, without a call."""
        return self._called("ai_count_tokens", {})

    def _prompted(self, prompt: Text) -> pd.Series:
        if prompt is None:
            return self._series
        frame = pd.DataFrame({"value": self._series.to_numpy(object)}, index=self._series.index)
        if self._series.name is not None:
            frame[str(self._series.name)] = frame["value"]
        return rendered(prompt, frame)

    def _called(self, name: str, values: Mapping[str, Any], *texts: pd.Series) -> pd.Series:
        return self._as_series(self._computed(name, values, *texts))

    def _of_version(self, name: str, labels: Labels, options: Mapping[str, str] | None) -> Answers:
        call = BY_NAME[name].plan(place(), labelled(labels, options), {})
        assert isinstance(call, ColumnPlan)
        found = run(call, [to_array(self._series)])
        if call.result.is_variant:
            return self._as_frame(to_struct(found))
        return self._as_frame(found) if pa.types.is_struct(found.type) else self._as_series(found)

    def _computed(self, name: str, values: Mapping[str, Any], *texts: pd.Series) -> pa.Array:
        arrays = [to_array(each) for each in texts or (self._series,)]
        call = BY_NAME[name].plan(place(), values, {})
        if isinstance(call, ColumnPlan):
            return run(call, arrays)
        if call.each is not None:
            arrays = [run(call.each, [array]) for array in arrays]
        return call.compute(*arrays)

    def _as_series(self, found: pa.Array) -> pd.Series:
        made = to_series(found).set_axis(self._series.index)
        made.name = self._series.name
        return made

    def _as_frame(self, found: pa.Array) -> pd.DataFrame:
        columns = {field.name: to_series(found.field(at), found) for at, field in enumerate(found.type)}
        return pd.DataFrame(columns).set_axis(self._series.index)


@pd.api.extensions.register_dataframe_accessor("ai")
class FrameAi:
    """The AI functions over the rows of a DataFrame: each takes a column's name, or a Jinja2 template over columns."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame

    def query(
        self, endpoint: str, prompt: str, return_type: str | pa.DataType | None = None, **options: Any
    ) -> Answers:
        """`ai_query`; further options, and `files` as a column's name, as on a Series."""
        if isinstance(options.get("files"), str):
            options["files"] = self._texts(options["files"])
        return self._ai(prompt).query(endpoint, None, return_type, **options)

    def gen(self, prompt: str) -> pd.Series:
        """See `SeriesAi.gen`; as all below."""
        return self._ai(prompt).gen()

    def classify(self, content: str, labels: Labels, options: Mapping[str, str] | None = None) -> Answers:
        """`ai_classify`."""
        return self._ai(content).classify(labels, options)

    def extract(self, content: str, labels: Labels, options: Mapping[str, str] | None = None) -> pd.DataFrame:
        """`ai_extract`."""
        return self._ai(content).extract(labels, options)

    def summarize(self, content: str, max_words: int = 50) -> pd.Series:
        """`ai_summarize`."""
        return self._ai(content).summarize(max_words)

    def translate(self, content: str, to_lang: str) -> pd.Series:
        """`ai_translate`."""
        return self._ai(content).translate(to_lang)

    def similarity(self, expr1: str, expr2: str) -> pd.Series:
        """`ai_similarity` of two columns or templates."""
        return self._ai(expr1).similarity(self._texts(expr2))

    def mask(self, content: str, labels: Sequence[str]) -> pd.Series:
        """`ai_mask`."""
        return self._ai(content).mask(labels)

    def fix_grammar(self, content: str) -> pd.Series:
        """`ai_fix_grammar`."""
        return self._ai(content).fix_grammar()

    def analyze_sentiment(self, content: str) -> pd.Series:
        """`ai_analyze_sentiment`."""
        return self._ai(content).analyze_sentiment()

    def embed(self, content: str) -> pd.Series:
        """`ai_embed`."""
        return self._ai(content).embed()

    def filter(self, predicate: str) -> pd.Series:
        """`ai_filter`: a mask, for `frame[frame.ai.filter("{{ city }} is in Europe")]`."""
        return self._ai(predicate).filter()

    def count_tokens(self, content: str) -> pd.Series:
        """`ai_count_tokens`."""
        return self._ai(content).count_tokens()

    def _ai(self, text: str) -> SeriesAi:
        return SeriesAi(self._texts(text))

    def _texts(self, text: str) -> pd.Series:
        """The column of this name, else the template's text for every row."""
        if text in self._frame.columns:
            column: pd.Series = self._frame[text]
            return column
        if "{" not in text:
            raise AiFunctionError(
                "AI_FUNCTION_COMPILATION_ERROR",
                f"{text[:100]!r} is neither a column nor a template. Columns: {listed(self._frame.columns)}.",
            )
        return rendered(text, self._frame)
