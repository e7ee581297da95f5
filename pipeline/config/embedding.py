"""`[embedding]` of a job file: the contract, and what a job does with vectors and with texts. Pure."""

from typing import Literal

from pydantic import Field

from pipeline.config.models import Count, EmbeddingSection, Name


class JobEmbeddingSection(EmbeddingSection):
    """`[embedding]` of a job."""

    type: Literal["float", "double", "float16", "int8", "bits"] = Field(
        default="float",
        description="float, double: ARRAY; float16, int8 with scale, bits (signs, packed) with scale: BINARY",
    )
    truncate_to: int | None = Field(
        default=None,
        ge=1,
        le=65_536,
        description="keep the first numbers and scale to length 1; for models made for it",
    )
    max_error_ratio: float | None = Field(
        default=None, ge=0, le=1, allow_inf_nan=False, description="share of bad vectors that stops the job, 0 to 1"
    )
    drift: Literal["stop", "warn", "off"] = Field(
        default="stop", description="what to do where 32 fixed texts no longer get the vectors of the run before"
    )
    drift_cosine: float = Field(
        default=0.99, gt=0, le=1, allow_inf_nan=False, description="cosine below which a vector has drifted"
    )
    long_text: Literal["error", "truncate", "chunk"] = Field(
        default="error", description="what to do with texts of more than max_text_tokens"
    )
    max_text_tokens: Count | None = Field(
        default=None, description="estimated tokens of one text; default from pipeline/models.toml, else no limit"
    )
    chunk_overlap_tokens: int = Field(default=0, ge=0, description="what a chunk repeats of the one before")
    chunks: Literal["rows", "pooled"] = Field(
        default="rows", description="rows: a row per chunk; pooled: their weighted mean, scaled to length 1"
    )
    role: Literal["document", "query"] = Field(
        default="document", description="which instruction of pipeline/models.toml is put before each text"
    )
    instruction: str | None = Field(default=None, description='put before each text; "" for none')
    query_instruction: str | None = Field(
        default=None, description="put before what is searched for; default from pipeline/models.toml"
    )
    models: Name | None = Field(default=None, description="a file instead of pipeline/models.toml")
