"""The job's quota while it runs: a server on the driver where workers can reach it, else an equal part for each."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pyspark.sql import SparkSession

from pipeline.limits import NOTHING, Budget, LimitUse, QuotaSpec
from pipeline.quota import QuotaLink, QuotaServer

EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104 - never listened on


@dataclass(frozen=True, slots=True)
class Leasing:
    """How the workers of one run get their quota."""

    quota: QuotaSpec  # as it travels to them
    server: QuotaServer | None = None
    link: QuotaLink | None = None
    why_static: str = ""

    def used(self) -> list[LimitUse]:
        """Of each limit and cap, for display; nothing where every worker counts for itself."""
        return self.server.used() if self.server is not None else []


@contextlib.contextmanager
def leased(spark: SparkSession, quota: QuotaSpec, *, is_static: bool, buckets: int) -> Iterator[Leasing]:
    """The quota for one action. A server that cannot listen is no failure: the parts are static then, and it is said."""
    if is_static or (quota.workers == 1 and not quota.is_metered):
        yield Leasing(static_parts(quota, buckets))
        return
    seen_as = str(spark.conf.get("spark.driver.host") or "127.0.0.1")
    bound_to = str(spark.conf.get("spark.driver.bindAddress", seen_as) or seen_as)
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(QuotaServer(quota, seen_as if bound_to in EVERYWHERE else bound_to))
        except (OSError, TimeoutError) as exc:
            leasing = Leasing(static_parts(quota, buckets), why_static=f"{type(exc).__name__} on {seen_as}: {exc}")
        else:
            leasing = Leasing(quota, server, server.link(seen_as))
        yield leasing


def static_parts(quota: QuotaSpec, buckets: int) -> QuotaSpec:
    """The same for tasks that ask nobody: what is left of the budget in equal parts, one for each bucket."""

    def part(cap: int | None, spent: int) -> int | None:
        return None if cap is None else max(0, cap - spent) // max(1, buckets)

    caps, spent = quota.budget, quota.spent
    budget = Budget(
        part(caps.max_requests, spent.requests),
        part(caps.max_tokens, spent.tokens),
        part(caps.max_micros, spent.micros),
    )
    return replace(quota, budget=budget, spent=NOTHING)
