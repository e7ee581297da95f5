"""What is not inference: health, models, the bill, and switches for tests, which only loopback may turn."""

from collections.abc import Callable, Mapping
from typing import Any, get_args

import orjson

from pipeline.simulator.admission import Admission
from pipeline.simulator.app import App
from pipeline.simulator.capacity import Capacity
from pipeline.simulator.connection import Exchange
from pipeline.simulator.faults import FaultPicker, check_shares
from pipeline.simulator.latency import LatencyModel
from pipeline.simulator.outage import Outage, span
from pipeline.simulator.wire import CREATED_S, Reply

Document = dict[str, Any]
_CAPACITY = {"slots", "overload"}
_OUTAGE = {"mode", "after_s", "for_s"}
_LATENCY = {"latency_ms", "per_token_ms", "jitter", "jitter_shape"}


async def administer(app: App, exchange: Exchange) -> Reply:
    """Answer a request that is no call to a model: 404 for an unknown path, 403 from afar, 400 with the reason."""
    key = (exchange.method, exchange.path.partition("?")[0])
    if reader := _READ.get(key):
        return _json(reader(app))
    change = _CHANGE.get(key)
    if change is None:
        return _json({"error": {"message": f"no {key[0]} {key[1]}", "type": "invalid_request_error"}}, 404)
    if not exchange.is_from_here:
        return _json({"error": {"message": "from this machine only"}}, 403)
    try:
        raw = await exchange.body(app.settings.max_body_bytes)
        if raw is None:
            return _json({"error": {"message": "the order is too long"}}, 413)
        document = orjson.loads(raw or b"{}")
        if not isinstance(document, dict):
            raise ValueError("a JSON object is expected")
        change(app, document)
    except (ValueError, TypeError) as exc:
        return _json({"error": {"message": str(exc)}}, 400)
    return _json({"status": "ok"})


def _models(app: App) -> Document:
    served = [
        {"id": name, "object": "model", "created": CREATED_S, "owned_by": "simulator"} for name in app.settings.models
    ]
    return {"object": "list", "data": served}


def _texts(app: App) -> Document:
    return {"received": dict(app.ledger.received), "bought": dict(app.ledger.bought)}


def _reset_bill(app: App, document: Document) -> None:
    app.ledger.reset()
    app.admission.reset_use()


def _set_faults(app: App, document: Document) -> None:
    """The body is the whole table of shares: name -> share."""
    check_shares(document)
    app.settings = app.settings.with_changes({"faults": document})
    app.faults.set_shares(document)


def _set_seed(app: App, document: Document) -> None:
    """Begin the draws of faults and jitter, and the count of marked attempts, anew."""
    app.settings = app.settings.with_changes({"seed": int(document.get("seed", app.settings.seed))})
    app.faults = FaultPicker(app.settings.faults, app.settings.seed)
    app.latency = LatencyModel(app.settings)


def _set_latency(app: App, document: Document) -> None:
    _check_names(document, _LATENCY)
    app.settings = app.settings.with_changes(document)
    app.latency = LatencyModel(app.settings)


def _set_quotas(app: App, document: Document) -> None:
    """The body is what changes, null lifts a limit; the windows begin empty."""
    app.settings = app.settings.with_changes({"quotas": app.settings.quotas.with_changes(document)})
    app.admission = Admission(app.settings.quotas, app.now_s())


def _set_capacity(app: App, document: Document) -> None:
    """Calls that are being worked on keep their old slots."""
    _check_names(document, _CAPACITY)
    app.settings = app.settings.with_changes(document)
    app.capacity = Capacity(app.settings.slots, app.settings.overload)


def _set_outage(app: App, document: Document) -> None:
    _check_names(document, _OUTAGE)
    mode: Any = document.get("mode")
    if mode not in get_args(Outage):
        raise ValueError(f"mode is one of {get_args(Outage)}, got {mode!r}")
    app.outage = span(mode, document.get("after_s", 0), document.get("for_s"), app.now_s())


def _check_names(document: Document, known: set[str]) -> None:
    if unknown := sorted(set(document) - known):
        raise ValueError(f"unknown fields {unknown}; known: {sorted(known)}")


_READ: Mapping[tuple[str, str], Callable[[App], Document]] = {
    ("GET", "/healthz"): lambda app: {"status": "ok"},
    ("GET", "/v1/models"): _models,
    ("GET", "/bill"): lambda app: app.bill().to_json(),
    ("GET", "/bill/texts"): _texts,
}
_CHANGE: Mapping[tuple[str, str], Callable[[App, Document], None]] = {
    ("POST", "/bill/reset"): _reset_bill,
    ("POST", "/admin/faults"): _set_faults,
    ("POST", "/admin/seed"): _set_seed,
    ("POST", "/admin/latency"): _set_latency,
    ("POST", "/admin/quotas"): _set_quotas,
    ("POST", "/admin/capacity"): _set_capacity,
    ("POST", "/admin/outage"): _set_outage,
}


def _json(document: Document, status: int = 200) -> Reply:
    return Reply(status, orjson.dumps(document))
