"""What earlier runs learnt about the tokens of an endpoint's texts: `calibration.json` in the state folder."""

import orjson

from pipeline.storage import Store
from pipeline.tokens import NO_CALIBRATION, Calibration, merged

_FILE = "calibration.json"


def load_calibration(store: Store, endpoint: str) -> Calibration:
    """That of an endpoint, empty where there is none; one that cannot be read is worth no failure."""
    return _all(store).get(endpoint, NO_CALIBRATION)


def add_calibration(store: Store, endpoint: str, added: Calibration) -> None:
    """Keeps what a run has added."""
    if added:
        known = _all(store)
        known[endpoint] = merged(known.get(endpoint, NO_CALIBRATION), added)
        store.write_atomic(_FILE, orjson.dumps(known))


def _all(store: Store) -> dict[str, Calibration]:
    found = store.find(_FILE)
    try:
        tables = orjson.loads(found) if found is not None else {}
        return {endpoint: {script: _sums(sums) for script, sums in table.items()} for endpoint, table in tables.items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def _sums(values: list[float]) -> tuple[float, ...]:
    inverse, answers, units, ratios, tokens = map(float, values)
    return (inverse, answers, units, ratios, tokens)
