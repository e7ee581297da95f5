"""The write-ahead journal of responses: frames in segments, an index per bucket, leases, and the sums over it all."""

from pipeline.journal.bucket import BucketJournal
from pipeline.journal.frames import Summary
from pipeline.journal.index import Entry
from pipeline.journal.lease import Holder, Lease, current_holder
from pipeline.journal.segments import SegmentDamage
from pipeline.journal.totals import JournalTotals, PrunedJournal, fingerprints, journal_spend, journal_totals, prune

__all__ = [
    "BucketJournal",
    "Entry",
    "Holder",
    "JournalTotals",
    "Lease",
    "PrunedJournal",
    "SegmentDamage",
    "Summary",
    "current_holder",
    "fingerprints",
    "journal_spend",
    "journal_totals",
    "prune",
]
