"""Where a job's endpoint listens: its own address, or the simulator that is started with the job."""

import contextlib
from collections.abc import Iterator

from pipeline.config import EMBEDDED, JobFile
from pipeline.simulator import SimulatorProcess


@contextlib.contextmanager
def serving(job: JobFile) -> Iterator[str]:
    """The base URL, for as long as it is served."""
    if job.endpoint.base_url != EMBEDDED:
        yield job.endpoint.base_url
        return
    with SimulatorProcess() as simulator:
        yield simulator.base_url if job.endpoint.api == "openai" else simulator.host_url
