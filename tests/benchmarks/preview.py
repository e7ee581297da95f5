"""How near a preview comes to the run that follows, on the table of the quick start.

    python -m tests.benchmarks.preview [--rows 2000] [--latency-ms 300] [--in-flight 32] [--sample 20]

The preview sends its sample, the run replays it; the simulator has a process of its own and log-normal latencies.
"""

import argparse
import tempfile
from pathlib import Path

from jobs.stdlib_table import write_stdlib_table
from pipeline import load_job, open_session, preview_job, run_job
from pipeline.simulator import SimulatorProcess, SimulatorSettings

ROOT = Path(__file__).parents[2]


def main() -> None:
    """Prints estimates beside what came."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--latency-ms", type=float, default=300.0)
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--sample", type=int, default=20)
    parser.add_argument("--set", action="append", default=[], help="section.key=value over the job file")
    given = parser.parse_args()
    settings = SimulatorSettings(latency_ms=given.latency_ms, jitter=0.3, jitter_shape="lognormal")
    with tempfile.TemporaryDirectory() as folder, SimulatorProcess(settings) as simulator:
        write_stdlib_table(Path(folder, "docs"))
        overrides = [
            f"source.path={folder}/docs",
            f"source.limit={given.rows}",
            f"sink.path={folder}/results",
            f"endpoint.base_url={simulator.base_url}",
            f"limits.in_flight={given.in_flight}",
            *given.set,
        ]
        job = load_job(ROOT / "conf" / "docstring_summaries.toml", overrides)
        spark = open_session("preview")
        estimate = preview_job(job, spark, rows=given.sample, calls=given.sample).estimate
        report = run_job(job, spark)
        bill = simulator.bill()
    output = estimate.output_tokens
    assert output is not None
    assert estimate.duration_s is not None
    lines = [
        ("requests", estimate.requests, bill.requests),
        ("input tokens", estimate.input_tokens.middle, bill.input_tokens),
        ("output tokens", output.middle, bill.output_tokens),
        ("all tokens", estimate.input_tokens.middle + output.middle, bill.input_tokens + bill.output_tokens),
        ("seconds to land", estimate.duration_s, report.calling_s),
    ]
    print(f"{report.rows_landed:,} rows {report.status}; what binds: {estimate.binds}")
    print(f"output tokens between {output.low:,.0f} and {output.high:,.0f}")
    for name, reckoned, came in lines:
        print(f"{name:<17} reckoned {reckoned:>12,.1f}   came {came:>12,.1f}   {reckoned / came - 1:+.1%}")
    spark.stop()


if __name__ == "__main__":
    main()
