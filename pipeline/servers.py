"""Where a job's endpoint is: at its address, in this process tree, or in the workers themselves."""

import contextlib
from collections.abc import Iterator

from pipeline.config import EMBEDDED, LOCAL, JobFile
from pipeline.simulator import SimulatorProcess


@contextlib.contextmanager
def served(job: JobFile) -> Iterator[str]:
    """The base URL of the endpoint; the simulator runs while the block does, where the job asks for it."""
    if job.endpoint.base_url == LOCAL:
        yield "local:"  # the workers' own transport answers, whatever the address
    elif job.endpoint.base_url != EMBEDDED:
        yield job.endpoint.base_url
    else:
        with SimulatorProcess() as simulator:
            yield simulator.base_url if job.endpoint.api == "openai" else simulator.host_url
