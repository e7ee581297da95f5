"""One request from arrival to bill: route, authenticate, read, admit, maybe fail, answer, wait, charge."""

import asyncio
import time
from dataclasses import replace
from http import HTTPStatus

from aiohttp import ClientError, web

from pipeline.simulator.admission import Admission, Refusal429, Ticket
from pipeline.simulator.auth import Gate
from pipeline.simulator.bill import Bill, Ledger, Result, Tally
from pipeline.simulator.breaks import Break, reset_connection
from pipeline.simulator.calls import Call, Refused, Route, max_output_tokens, read_call
from pipeline.simulator.capacity import Capacity
from pipeline.simulator.faults import FAULTS, FaultPicker
from pipeline.simulator.latency import LatencyModel
from pipeline.simulator.models import Answer, answer
from pipeline.simulator.outage import OutageSpan
from pipeline.simulator.rate_replies import rate_headers, refused
from pipeline.simulator.refusals import Refusal
from pipeline.simulator.settings import SimulatorSettings
from pipeline.simulator.spoils import Spoil
from pipeline.simulator.whole import WholeResponse
from pipeline.simulator.wire import JSON, Reply, error

_NO_ANSWER = Answer(b"", 0, 0)


def now_s() -> float:
    """The running loop's clock, which quotas and outages go by."""
    return asyncio.get_running_loop().time()


class App:
    """The state behind all connections; lives on one event loop."""

    def __init__(self, settings: SimulatorSettings) -> None:
        self.settings = settings
        self.ledger = Ledger()
        self.faults = FaultPicker(settings.faults, settings.seed)
        self.latency = LatencyModel(settings)
        self.admission = Admission(settings.quotas, now_s())
        self.capacity = Capacity(settings.slots, settings.overload)
        self.outage = OutageSpan()
        self._gate = Gate(settings.token)
        self._number = 0

    def bill(self) -> Bill:
        """What has been asked, answered and admitted so far."""
        return replace(self.ledger.to_bill(), limits=self.admission.use())

    async def infer(self, request: web.BaseRequest, where: Route) -> web.StreamResponse:
        """Answer a call to a model, and count it whatever happens."""
        tally = self.ledger.open(request.headers.get("x-client-run", "default"))
        result: Result = "unknown"
        status = 0
        try:
            response, result = await self._respond(request, where, tally)
            status = response.status
        except (ClientError, ConnectionError):  # the client left: before its request was whole, or during a drip
            response = web.Response()
        except Refused as refused:
            response, result, status = WholeResponse(refused.reply), "refused", refused.reply.status
        finally:
            tally.closed(result, status, now_s())
        if result == "answer" and request.transport is None:
            tally.undelivered += 1
        return response

    async def _respond(self, request: web.BaseRequest, where: Route, tally: Tally) -> tuple[web.StreamResponse, Result]:
        outage = self.outage.at(now_s())
        if outage != "none":
            tally.in_outage += 1
        if outage in ("reset", "refuse"):
            reset_connection(request)
            return web.Response(), "unknown"
        if outage == "unavailable":
            raise Refused(error(where.api, 503, "the endpoint is down"))
        if not self._gate.admits(request.headers):
            raise Refused(error(where.api, 401, "the credential is missing or not valid"))
        call = read_call(where, await self._read(request, where), self.settings)
        if self.settings.log_requests:
            self.ledger.log(self.ledger.received, call.texts)
        admitted = self.admission.admit(call.input_tokens, max_output_tokens(call), now_s())
        if isinstance(admitted, Refusal429):
            raise Refused(
                refused(call.api, admitted, self.settings.quotas, self.admission.limits, now_s(), time.time())
            )
        admission = self.admission  # another one may be in force when this call ends
        try:
            return await self._serve(request, call, tally, admitted)
        finally:  # also of a call that failed, or whose client left
            admission.settle(admitted, now_s())

    async def _serve(
        self, request: web.BaseRequest, call: Call, tally: Tally, ticket: Ticket
    ) -> tuple[web.StreamResponse, Result]:
        name = self.faults.pick(call)
        if name is not None:
            tally.faults[name] += 1
        fault = FAULTS[name] if name is not None else None
        if isinstance(fault, Refusal):
            reply = fault.reply(call.api, self.settings)
            return WholeResponse(reply), "useless" if reply.status == HTTPStatus.OK else "refused"
        return await self._answer(request, call, fault, tally, ticket)

    async def _answer(
        self, request: web.BaseRequest, call: Call, fault: Spoil | Break | None, tally: Tally, ticket: Ticket
    ) -> tuple[web.StreamResponse, Result]:
        """Do the work, wait as long as it would take, charge it."""
        made = _NO_ANSWER
        if not isinstance(fault, Break) or fault.is_billed:
            self._number += 1
            async with self.capacity.slot(call.api):
                made = answer(call, self.settings, self._number)
                if delay_s := self.latency.delay_s(made.output_tokens):
                    await asyncio.sleep(delay_s)
            ticket.output_tokens = made.output_tokens
            tally.charged(len(call.texts), made.input_tokens, made.output_tokens)
            if self.settings.log_requests:
                self.ledger.log(self.ledger.bought, call.texts)
        if isinstance(fault, Break):
            return await fault.send(request, made.body, self.settings), fault.result
        headers = (JSON, *rate_headers(self.settings.quotas, self.admission.limits, now_s(), time.time()))
        if isinstance(fault, Spoil):
            reply = Reply(200, fault.change(made.body), headers)
            return WholeResponse(reply), "answer" if fault.is_usable else "useless"
        return WholeResponse(Reply(200, made.body, headers)), "answer"

    async def _read(self, request: web.BaseRequest, where: Route) -> bytes:
        limit = self.settings.max_body_bytes
        if (request.content_length or 0) <= limit:
            try:
                raw = await request.read()
            except web.HTTPRequestEntityTooLarge:  # sent in chunks, without a length
                raw = None
            if raw is not None and len(raw) <= limit:
                return raw
        raise Refused(error(where.api, 413, f"the body is larger than {limit} bytes"))
