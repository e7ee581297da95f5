"""Quotas, slots and timed outages of the simulator over loopback."""

import asyncio
import os
import signal
import ssl
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from jobs import serve
from pipeline.simulator import Handle, LimitUse, Quotas, Simulator, SimulatorProcess, SimulatorSettings

UNUSED_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
ROOT = Path(__file__).parents[2]


def ask(sim: Handle, calls: int = 1, path: str = "/v1/chat/completions", **more) -> list[httpx.Response]:
    """So many calls at once."""
    body = {"model": "canned-chat", "messages": [{"role": "user", "content": "abcdefgh"}], **more}

    async def all_of_them() -> list[httpx.Response]:
        async with httpx.AsyncClient(verify=UNUSED_TLS) as client:
            return list(await asyncio.gather(*[client.post(sim.host_url + path, json=body) for _ in range(calls)]))

    return asyncio.run(all_of_them())


def test_quotas_refuse_what_is_too_much_and_the_bill_shows_their_use():
    quotas = Quotas(requests_per_minute=20, input_tokens_per_minute=1000, headers="openai")
    with Simulator(SimulatorSettings(quotas=quotas)) as sim:
        answers = ask(sim, calls=30)
        assert Counter(answer.status_code for answer in answers) == {200: 20, 429: 10}
        refusal = next(answer for answer in answers if answer.status_code == 429)
        assert refusal.json()["error"]["code"] == "rate_limit_exceeded"
        assert 50 <= int(refusal.headers["retry-after"]) <= 60
        left = {answer.headers["x-ratelimit-remaining-requests"] for answer in answers if answer.status_code == 200}
        assert left <= {str(number) for number in range(20)}
        assert "0" in left
        bill = sim.bill()
        assert (bill.answers, bill.refused, sum(bill.answers_per_second)) == (20, {429: 10}, 20)
        requests, tokens = bill.limits["requests_per_minute"], bill.limits["input_tokens_per_minute"]
        assert (sum(requests.per_second), requests.refused) == (20, 10)
        assert sum(tokens.per_second) == bill.input_tokens == 40
        sim.reset_bill()
        assert sim.bill().limits["requests_per_minute"] == LimitUse(20, 60, 0, ())
        assert ask(sim)[0].status_code == 429  # the quota remembers, though the bill does not
        sim.set_quotas(requests_per_minute=None)
        assert ask(sim)[0].status_code == 200
        assert set(sim.bill().limits) == {"input_tokens_per_minute"}
        with pytest.raises(ValueError, match="reserve is one of"):
            sim.set_quotas(reserve="everything")


def test_a_reservation_comes_back_also_from_a_call_that_failed():
    quotas = Quotas(output_tokens_per_minute=100)
    with Simulator(SimulatorSettings(quotas=quotas, faults={"error_500": 1.0})) as sim:
        path = "/serving-endpoints/canned-chat/invocations"
        assert [answer.status_code for answer in ask(sim, path=path, max_tokens=100)] == [500]
        sim.set_faults({})
        assert [answer.status_code for answer in ask(sim, path=path, max_tokens=100)] == [200]
        refusal = ask(sim, path=path, max_tokens=100)[0]
        assert refusal.json()["error"]["limit_type"] == "output_tokens_per_minute"
        assert sum(sim.bill().limits["output_tokens_per_minute"].per_second) == sim.bill().output_tokens


@pytest.mark.parametrize(("overload", "status"), [("503", 503), ("429", 429), ("529", 529)])
def test_more_calls_than_slots_are_refused_and_cost_nothing(overload, status):
    with Simulator(SimulatorSettings(slots=4, overload=overload, latency_ms=200)) as sim:
        statuses = Counter(answer.status_code for answer in ask(sim, calls=10))
        assert statuses == {200: 4, status: 6}
        assert sim.bill().inputs == 4


def test_more_calls_than_slots_wait_where_they_may():
    with Simulator(SimulatorSettings(slots=4, overload="queue", latency_ms=60)) as sim:
        started = time.monotonic()
        assert {answer.status_code for answer in ask(sim, calls=12)} == {200}
        assert time.monotonic() - started >= 0.18  # three rounds of four
        sim.set_capacity(None)
        assert {answer.status_code for answer in ask(sim, calls=12)} == {200}


def test_an_outage_can_come_and_go_by_itself():
    with Simulator() as sim:
        sim.set_outage("refuse", after_s=0.15, for_s=0.3)
        assert ask(sim)[0].status_code == 200
        time.sleep(0.25)
        with pytest.raises(httpx.ConnectError):
            ask(sim)
        time.sleep(0.3)
        assert ask(sim)[0].status_code == 200
        sim.set_outage("unavailable", for_s=0.1)
        assert ask(sim)[0].status_code == 503
        assert sim.bill().in_outage == 1
        with pytest.raises(ValueError, match="for_s"):
            sim.set_outage("reset", for_s=-1)


def test_quotas_reach_a_process_of_its_own():
    with SimulatorProcess(SimulatorSettings(quotas=Quotas(requests_per_second=1), slots=2)) as sim:
        assert Counter(answer.status_code for answer in ask(sim, calls=2)) == {200: 1, 429: 1}
    assert sim.bill().limits["requests_per_second"].refused == 1


def test_the_command_takes_quotas_and_slots():
    options = ["--quota", "requests_per_minute=1", "--quota", "headers=none", "--slots", "3", "--overload", "queue"]
    command = [sys.executable, "-m", "jobs.serve", "--port", "0", *options]
    with subprocess.Popen(command, cwd=ROOT, env=dict(os.environ), stdout=subprocess.PIPE, text=True) as process:
        try:
            host_url = process.stdout.readline().split()[1].removesuffix("/v1")
            port = int(host_url.rpartition(":")[2])
            answers = ask(Handle("127.0.0.1", port, port), calls=2)
            assert sorted(answer.status_code for answer in answers) == [200, 429]
            assert all("retry-after" not in answer.headers for answer in answers)
        finally:
            process.send_signal(signal.SIGTERM)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--quota", "rpm=600"], "unknown quota settings"),
        (["--quota", "requests_per_minute"], "NAME=VALUE"),
        (["--quota", "requests_per_minute=much"], "a quota is a number"),
        (["--slots", "0"], "slots must be at least 1"),
        (["--overload", "explode"], "overload is one of"),
    ],
)
def test_the_command_refuses_quotas_that_make_no_sense(arguments, part):
    done = CliRunner().invoke(serve.app, ["--port", "0", *arguments])
    assert done.exit_code == 2
    assert part in " ".join(done.output.replace("│", " ").split())
