import numpy as np
import pytest

from pipeline.canary import TEXTS, Canary, DriftGate, differences
from pipeline.storage import LocalStore
from tests.cases import cases

VECTORS = np.random.default_rng(7).standard_normal((len(TEXTS), 16)).astype(np.float32)


def canary(vectors=VECTORS, model="m-1"):
    return Canary("r1", model, vectors)


def test_there_are_32_texts_and_none_twice():
    assert len(set(TEXTS)) == 32


def test_a_canary_survives_its_file_bit_for_bit():
    read = Canary.from_json(canary().to_json())
    assert (read.run_id, read.model) == ("r1", "m-1")
    assert read.vectors.tobytes() == VECTORS.tobytes()


@cases(
    ("now", "clauses"),
    [
        (canary(), []),
        (canary(VECTORS * np.float32(1.000_01) + np.float32(1e-6)), []),
        (canary(model="m-2"), ["the model that answers was m-1 and is m-2"]),
        (canary(VECTORS[:, :8]), ["vectors had 16 dimensions and have 8"]),
        (canary(VECTORS * np.float32(1.5)), ["their mean norm was "]),
        (canary(np.roll(VECTORS, 1, axis=1)), ["32 of 32 fixed texts moved: the cosine of "]),
        (canary(-VECTORS), ["32 of 32 fixed texts moved: the cosine of "]),
        (canary(VECTORS * np.eye(len(TEXTS))[0, 0] * np.float32(0)), ["their mean norm was", "32 of 32 fixed"]),
    ],
    ids=["same", "rounding", "model", "dimensions", "norm", "rotated", "mirrored", "zero"],
)
def test_what_changed_is_told(now, clauses):
    found = differences(canary(), now, 0.99)
    assert len(found) == len(clauses)
    assert all(text.startswith(clause) for text, clause in zip(found, clauses, strict=True))


def test_one_text_that_moved_is_enough():
    vectors = VECTORS.copy()
    vectors[5] = np.roll(vectors[5], 1)
    (clause,) = differences(canary(), canary(vectors), 0.99)
    assert clause.startswith(f"1 of 32 fixed texts moved: the cosine of {TEXTS[5][:40]!r}")


@pytest.mark.parametrize(("why", "is_refused"), [("wrong_dimensions", True), ("authentication", False)])
def test_fixed_texts_that_break_the_contract_are_a_changed_model(tmp_path, monkeypatch, why, is_refused):
    store = LocalStore(tmp_path)
    store.write_atomic("canaries/r1.json", canary().to_json())
    monkeypatch.setattr(DriftGate, "_embedded", lambda self, plan: why)
    gate = DriftGate(store, "journal", "r2", ["r1"], "stop", 0.99)
    assert (gate.refusal(None) is not None) is is_refused
    assert why in gate.notes[0]
    warned = DriftGate(store, "journal", "r2", ["r1"], "warn", 0.99)
    assert warned.refusal(None) is None
