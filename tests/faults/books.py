"""Three books of one job, kept by three parties: the simulator's bill, the journal, the table. Pure but for `journaled`."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline import plans
from pipeline.config import JobFile
from pipeline.journal.frames import summarize
from pipeline.journal.segments import ROOT, SUFFIX, folder_of, read_segment
from pipeline.prompts import Renderer
from pipeline.records import Request
from pipeline.simulator import text_digest
from pipeline.simulator.bill import Bill, Texts
from pipeline.storage import Store

_ID_BYTES = 32


def requests_by_digest(job: JobFile, rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The simulator's name of each question (digest of its text) -> ours (request id)."""
    renderer = Renderer(plans.prompt_spec(job))
    known = {}
    for row in rows:
        request = renderer.render(row)
        assert isinstance(request, Request)
        known[text_digest(_text(request))] = request.request_id
    return known


def _text(request: Request) -> str:
    """As the simulator counts it."""
    if request.text is not None:
        return request.text
    return "\n".join(message["content"] for message in request.messages or ())


def journaled(store: Store, fingerprint: str, bucket: int | None = None) -> Counter[str]:
    """How many exchanges each request id has in the journal, or in one bucket of it; works while others write."""
    folder = f"{ROOT}/{fingerprint}" if bucket is None else folder_of(fingerprint, bucket)
    found: Counter[str] = Counter()
    for name, _, _ in store.list(folder):
        if name.endswith(SUFFIX) and (data := store.find(name)) is not None:
            for frame in read_segment(name, data).exchanges:
                ids = summarize(frame.payload).request_ids
                found.update(ids[at : at + _ID_BYTES].hex() for at in range(0, len(ids), _ID_BYTES))
    return found


@dataclass(frozen=True, slots=True)
class Books:
    """What the three say, and where they differ. Of calls that carry many texts it is the texts that are counted."""

    rows: int  # of the source
    landed: int
    lost: int
    duplicates: int
    strangers: int  # landed keys that the source does not have
    failed: int  # rows that landed with an error and had no reason to, or the other way round
    calls: int  # on the bill
    bought: int
    bought_again: int
    journaled: int
    unjournaled: int  # on the bill and not in the journal: in flight when something died
    uncalled: int  # in the journal and not on the bill
    undelivered: int  # answered by the simulator when the client had gone

    def complaints(self, in_flight_at_kills: int = 0) -> list[str]:
        """Every promise that does not hold; empty where all do."""
        broken = {
            f"{self.lost} rows lost": self.lost,
            f"{self.duplicates} duplicate keys": self.duplicates,
            f"{self.strangers} rows of an unknown key": self.strangers,
            f"{self.failed} rows failed without a reason": self.failed,
            f"{self.landed} rows landed of {self.rows}": self.landed != self.rows,
            f"{self.bought_again} calls bought again, {in_flight_at_kills} were in flight at the kills": (
                self.bought_again > in_flight_at_kills
            ),
            f"{self.unjournaled} calls are on the bill only, {in_flight_at_kills} were in flight at the kills": (
                self.unjournaled > in_flight_at_kills
            ),
            f"{self.uncalled} exchanges are in the journal only": self.uncalled,
        }
        return [text for text, is_broken in broken.items() if is_broken]


def compare(
    known: Mapping[str, str],
    keys: Iterable[str],
    landed: Sequence[tuple[str, bool]],
    bill: Bill,
    texts: Texts,
    journal: Mapping[str, int],
) -> Books:
    """The books of a job: `known` as `requests_by_digest`, `landed` as (key, has an error that it should not have)."""
    expected = set(keys)
    found = Counter(key for key, _ in landed)
    differences = [times - journal.get(known.get(digest, ""), 0) for digest, times in texts.received.items()]
    sent = {known.get(digest, "") for digest in texts.received}
    return Books(
        rows=len(expected),
        landed=len(landed),
        lost=len(expected - found.keys()),
        duplicates=sum(times - 1 for times in found.values()),
        strangers=len(found.keys() - expected),
        failed=sum(has_error for _, has_error in landed),
        calls=bill.requests,
        bought=sum(texts.bought.values()),
        bought_again=sum(times - 1 for times in texts.bought.values()),
        journaled=sum(journal.values()),
        unjournaled=sum(max(0, difference) for difference in differences),
        uncalled=sum(max(0, -difference) for difference in differences)
        + sum(times for request_id, times in journal.items() if request_id not in sent),
        undelivered=bill.undelivered,
    )
