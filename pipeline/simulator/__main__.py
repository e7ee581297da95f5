"""The child of `SimulatorProcess`: settings as a line of JSON on standard input, ports as a line on standard output."""

import asyncio
import signal
import sys
from threading import Thread

import orjson

from pipeline.simulator.server import Server, collect_less_often, run, serve_until
from pipeline.simulator.settings import SimulatorSettings


def announce(server: Server) -> None:
    """Tell the parent where to connect."""
    print(orjson.dumps({"port": server.port, "control_port": server.control_port}).decode(), flush=True)


async def parent_left() -> None:
    """Return when standard input ends: the parent closed it or died."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def read_to_end() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(ended.set)

    Thread(target=read_to_end, daemon=True).start()
    await ended.wait()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which then closes our input
    settings = SimulatorSettings.from_json(sys.stdin.readline())
    collect_less_often()
    run(serve_until(settings, announce, parent_left))
