"""One request from arrival to bill: route, authenticate, read, admit, maybe fail, answer, wait, charge."""

import asyncio
import time
from dataclasses import replace
from http import HTTPStatus

from pipeline.simulator.admission import Admission, Refusal429, Ticket
from pipeline.simulator.auth import Gate
from pipeline.simulator.bill import Bill, Ledger, Result, Tally
from pipeline.simulator.breaks import Break
from pipeline.simulator.calls import Call, Refused, Route, max_output_tokens, read_call
from pipeline.simulator.capacity import Capacity
from pipeline.simulator.connection import ClientLeft, Exchange
from pipeline.simulator.delays import Delays
from pipeline.simulator.faults import FAULTS, FaultPicker
from pipeline.simulator.latency import LatencyModel
from pipeline.simulator.models import Answer, answer
from pipeline.simulator.outage import OutageSpan
from pipeline.simulator.rate_replies import rate_headers, refused
from pipeline.simulator.refusals import Refusal
from pipeline.simulator.settings import SimulatorSettings
from pipeline.simulator.spoils import Spoil
from pipeline.simulator.wire import JSON, Reply, error

_NO_ANSWER = Answer(b"", 0, 0)


class App:
    """The state behind all connections; lives on one event loop."""

    def __init__(self, settings: SimulatorSettings) -> None:
        self.settings = settings
        self.now_s = asyncio.get_running_loop().time  # what quotas and outages go by
        self.ledger = Ledger()
        self.faults = FaultPicker(settings.faults, settings.seed)
        self.latency = LatencyModel(settings)
        self.admission = Admission(settings.quotas, self.now_s())
        self.capacity = Capacity(settings.slots, settings.overload)
        self.outage = OutageSpan()
        self._gate = Gate(settings.token)
        self._delays = Delays()
        self._number = 0

    def bill(self) -> Bill:
        """What has been asked, answered and admitted so far."""
        return replace(self.ledger.to_bill(), limits=self.admission.use())

    async def infer(self, exchange: Exchange, where: Route) -> Reply | None:
        """The answer to a call to a model, None where it has been sent; the call is counted whatever happens."""
        tally = self.ledger.open(exchange.headers.get(b"x-client-run", b"default").decode("latin-1"))
        result: Result = "unknown"
        reply: Reply | None = None
        try:
            reply, result = await self._respond(exchange, where, tally)
        except ClientLeft:  # before its request was whole, or during a drip
            pass
        except Refused as refused:
            reply, result = refused.reply, "refused"
        finally:
            tally.closed(result, reply.status if reply is not None else 0, self.now_s())
        if result == "answer" and exchange.is_abandoned:
            tally.undelivered += 1
        return reply

    async def _respond(self, exchange: Exchange, where: Route, tally: Tally) -> tuple[Reply | None, Result]:
        outage = self.outage.at(self.now_s())
        if outage != "none":
            tally.in_outage += 1
        if outage in ("reset", "refuse"):
            exchange.reset()
            return None, "unknown"
        if outage == "unavailable":
            raise Refused(error(where.api, 503, "the endpoint is down"))
        if not self._gate.admits(exchange.headers):
            raise Refused(error(where.api, 401, "the credential is missing or not valid"))
        call = read_call(where, await self._read(exchange, where), self.settings)
        if self.settings.log_requests:
            self.ledger.log(self.ledger.received, call.texts)
        admitted = self.admission.admit(call.input_tokens, max_output_tokens(call), self.now_s())
        if isinstance(admitted, Refusal429):
            limits = self.admission.limits
            raise Refused(refused(call.api, admitted, self.settings.quotas, limits, self.now_s(), time.time()))
        admission = self.admission  # another one may be in force when this call ends
        try:
            return await self._serve(exchange, call, tally, admitted)
        finally:  # also of a call that failed, or whose client left
            admission.settle(admitted, self.now_s())

    async def _serve(self, exchange: Exchange, call: Call, tally: Tally, ticket: Ticket) -> tuple[Reply | None, Result]:
        name = self.faults.pick(call)
        if name is not None:
            tally.faults[name] += 1
        fault = FAULTS[name] if name is not None else None
        if isinstance(fault, Refusal):
            reply = fault.reply(call.api, self.settings)
            return reply, "useless" if reply.status == HTTPStatus.OK else "refused"
        return await self._answer(exchange, call, fault, tally, ticket)

    async def _answer(
        self, exchange: Exchange, call: Call, fault: Spoil | Break | None, tally: Tally, ticket: Ticket
    ) -> tuple[Reply | None, Result]:
        """Do the work, wait as long as it would take, charge it."""
        made = _NO_ANSWER
        if not isinstance(fault, Break) or fault.is_billed:
            self._number += 1
            async with self.capacity.slot(call.api):
                made = answer(call, self.settings, self._number)
                if delay_s := self.latency.delay_s(made.output_tokens):
                    await self._delays.sleep(delay_s)
            ticket.output_tokens = made.output_tokens
            tally.charged(len(call.texts), made.input_tokens, made.output_tokens)
            if self.settings.log_requests:
                self.ledger.log(self.ledger.bought, call.texts)
        if isinstance(fault, Break):
            await fault.send(exchange, made.body, self.settings)
            return None, fault.result
        headers = (JSON, *rate_headers(self.settings.quotas, self.admission.limits, self.now_s(), time.time()))
        if isinstance(fault, Spoil):
            reply = Reply(200, fault.change(made.body), headers)
            return reply, "answer" if fault.is_usable else "useless"
        return Reply(200, made.body, headers), "answer"

    async def _read(self, exchange: Exchange, where: Route) -> bytes:
        limit = self.settings.max_body_bytes
        raw = await exchange.body(limit)
        if raw is None:
            raise Refused(error(where.api, 413, f"the body is larger than {limit} bytes"))
        return raw
