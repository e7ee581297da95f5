"""What the journals of a job hold, for people."""

from datetime import UTC, datetime

from pipeline import plans
from pipeline.config import JobFile
from pipeline.journal import JournalTotals, fingerprints, journal_totals, prune
from pipeline.landing import absolute
from pipeline.storage import open_store


def journal_report(job: JobFile, now_s: float) -> list[tuple[str, str]]:
    """Each journal under the job's state, the current one marked, as (label, value)."""
    state = open_store(absolute(job.state_path))
    current = plans.journal_name(state, plans.fingerprint(job), fresh=False)
    lines: list[tuple[str, str]] = [("state", job.state_path)]
    for name in fingerprints(state):
        mark = " (of this job file)" if name == current else " (of an earlier question)"
        lines.append((f"{name[:16]}", "journal" + mark))
        lines.extend(_lines(journal_totals(state, name), now_s))
    if len(lines) == 1:
        lines.append(("", "no journal: nothing was asked yet"))
    return lines


def prune_journals(job: JobFile, older_than_s: float, now_s: float) -> list[tuple[str, str]]:
    """Removes old journals that nobody works on; says which."""
    removed = prune(open_store(absolute(job.state_path)), older_than_s, now_s)
    lines = [
        ("removed", f"{each.fingerprint[:16]}: {each.segments:,} segments, {size_text(each.segment_bytes)}")
        for each in removed
    ]
    return lines or [("", "nothing is that old")]


def size_text(size: int) -> str:
    """Bytes as people read them."""
    for unit, power in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size >= 1 << power:
            return f"{size / (1 << power):.1f} {unit}"
    return f"{size} bytes"


def _lines(totals: JournalTotals, now_s: float) -> list[tuple[str, str]]:
    unknown = f", {totals.unknown:,} of unknown outcome" if totals.unknown else ""
    lines = [
        ("", f"{totals.sent:,} requests sent: {totals.answered:,} answered, {totals.failed:,} refused{unknown}"),
        ("", f"{totals.requests:,} distinct rows asked, {totals.requests_answered:,} answered"),
        ("", f"{totals.input_tokens:,} tokens in, {totals.output_tokens:,} out"),
        ("", f"{totals.segments:,} segments, {size_text(totals.segment_bytes)}"),
    ]
    if totals.oldest_s is not None and totals.newest_s is not None:
        oldest, newest = (
            f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}" for at in (totals.oldest_s, totals.newest_s)
        )
        lines.append(("", f"from {oldest} to {newest} UTC, {(now_s - totals.newest_s) / 3600:,.1f} h old"))
    lines.extend(("damage", str(damage)) for damage in totals.damage)
    return lines
