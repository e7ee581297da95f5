"""What an embedding job does with texts and vectors: the job file's words, then what is known of the model."""

from collections.abc import Iterator
from dataclasses import replace

from pipeline.batching import PackLimits
from pipeline.columns import ResultShape
from pipeline.config import JobFile, KnownModel, find_model
from pipeline.errors import ConfigError
from pipeline.long_texts import LongTexts
from pipeline.records import Task
from pipeline.report import NormStatistics, Report
from pipeline.settings import embedding_contract
from pipeline.tokens import estimate_tokens
from pipeline.vector_types import LARGEST
from pipeline.vectors import CONTRACT_CODES, EmbeddingContract

# Tokens are estimated: what is cut must be within the limit in code and Chinese too, and what is refused beyond it in
# the plainest English.
CUT_SHARE, REFUSE_SHARE = 0.75, 1.5


def known_model(job: JobFile) -> KnownModel | None:
    """What pipeline/models.toml says of the job's model. Raises ConfigError for a file that is wrong."""
    if job.request.task is not Task.EMBEDDING:
        return None
    return find_model(job.endpoint.name, job.embedding.models)


def result_shape(job: JobFile) -> ResultShape:
    """Which columns the job adds."""
    section = job.embedding
    return ResultShape(job.request.task, job.sink.prefix, section.type, section.long_text, section.chunks == "pooled")


def contract(job: JobFile) -> EmbeddingContract | None:
    """What a vector must be to land."""
    if job.request.task is not Task.EMBEDDING:
        return None
    kept = embedding_contract(job.embedding)
    return replace(
        kept,
        truncate_to=job.embedding.truncate_to,
        largest=LARGEST.get(job.embedding.type, kept.largest),
    )


def instruction(job: JobFile, role: str | None = None) -> str:
    """What is put before each text of the job; before what is searched for, with `role` "query"."""
    section = job.embedding
    if role is None and section.instruction is not None:
        return section.instruction
    is_query = (role or section.role) == "query"
    if is_query and section.query_instruction is not None:
        return section.query_instruction
    known = known_model(job)
    if known is None:
        return ""
    return known.query if is_query else known.document


def long_texts(job: JobFile) -> LongTexts:
    """What happens to texts beyond the limit, and where that is."""
    section, known = job.embedding, known_model(job)
    most = section.max_text_tokens
    if most is None and known is not None and known.max_tokens is not None:
        most = int(known.max_tokens * (REFUSE_SHARE if section.long_text == "error" else CUT_SHARE))
    return LongTexts(section.long_text, most, section.chunk_overlap_tokens, section.chunks == "pooled")


def pack_limits(job: JobFile) -> PackLimits:
    """What one call carries at most."""
    if job.request.task is not Task.EMBEDDING:
        return PackLimits()
    known = known_model(job)
    rows, tokens = job.limits.max_batch_rows, job.limits.max_batch_tokens
    if known is not None:
        rows, tokens = rows or known.max_batch_rows, tokens or known.max_batch_tokens
    return PackLimits(rows or job.batch_rows, tokens, job.batch_bytes)


def notes(job: JobFile) -> Iterator[str]:
    """What a person should know of the job's model before anything is sent. Raises ConfigError for what it cannot do."""
    if job.request.task is not Task.EMBEDDING:
        return
    section, known = job.embedding, known_model(job)
    _refuse_truncation(job, known)
    if known is None:
        yield (
            f"[endpoint] name = {job.endpoint.name} is not in pipeline/models.toml: no instruction is put before texts, and "
            "limits are the defaults; [embedding] and [limits] can say more"
        )
    elif section.truncate_to is not None and not known.truncatable:
        yield f"[embedding] truncate_to: nothing says that {job.endpoint.name} was trained for it ({known.source})"
    if section.long_text != "error" and long_texts(job).max_tokens is None:
        yield f'[embedding] long_text = "{section.long_text}" has no effect: max_text_tokens is not known'
    if section.chunk_overlap_tokens and section.long_text != "chunk":
        yield '[embedding] chunk_overlap_tokens has no effect without long_text = "chunk"'
    text = instruction(job)
    most = long_texts(job).max_tokens
    if most is not None and text and estimate_tokens(text) * 2 > most:
        yield "[embedding] instruction takes more than half of max_text_tokens"


def judge(job: JobFile, report: Report) -> None:
    """Notes in the report where the landed vectors are not what is known of the model, or too many were bad."""
    if report.norms is not None:
        report.notes.extend(_surprises(job, report.norms))
    most = job.embedding.max_error_ratio
    broken = sum(rows for code, rows in report.errors.items() if code in CONTRACT_CODES)
    if most is not None and report.status == "landed" and broken > most * report.rows_landed:
        report.status = "partial"
        report.stopped = (
            f"{broken / report.rows_landed:.1%} of {report.rows_landed:,} vectors break the contract; [embedding] "
            f"max_error_ratio is {most:g}. The rows have landed with their errors"
        )


def _refuse_truncation(job: JobFile, known: KnownModel | None) -> None:
    """Where the job says how many numbers come, its file has been checked for that."""
    kept, is_said = job.embedding.truncate_to, job.embedding.dimensions or job.request.parameters.get("dimensions")
    if kept is None or is_said or known is None or known.dimensions is None or kept <= known.dimensions:
        return
    raise ConfigError(
        f"[embedding] truncate_to = {kept}: must be at most {known.dimensions}, the dimensions of {job.endpoint.name} "
        f"({known.source}); if it has more, say so in [embedding] dimensions"
    )


def _surprises(job: JobFile, norms: NormStatistics) -> Iterator[str]:
    known = known_model(job)
    if known is None or job.embedding.truncate_to is not None:
        return
    asked = job.request.parameters.get("dimensions", known.dimensions)
    if norms.dimensions is not None and asked is not None and norms.dimensions != asked:
        yield f"vectors have {norms.dimensions} dimensions; {job.endpoint.name} has {asked} ({known.source})"
    share = norms.share_normalized
    if known.normalized and job.embedding.normalization == "check" and share is not None and share < 1:
        yield (
            f"{1 - share:.1%} of the vectors are not of length 1, and those of {job.endpoint.name} should "
            f'be ({known.source}); [embedding] normalization = "normalize" scales them'
        )
