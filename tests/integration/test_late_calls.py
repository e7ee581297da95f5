from collections.abc import Iterator

import pyarrow as pa
import pytest

from pipeline.calls import Place
from pipeline.catalog import open_catalog
from pipeline.conditions import AiFunctionError
from pipeline.late_calls import FIXED_TYPES, run_late
from pipeline.siblings import BY_NAME
from pipeline.simulator import Simulator, SimulatorSettings


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with Simulator(SimulatorSettings(canned_vectors=4)) as simulator:
        chat = {"kind": "chat", "base_url": simulator.base_url, "model": "local-chat"}
        embed = {"kind": "embedding", "base_url": simulator.base_url, "model": "canned-embedding"}
        names = {"default_endpoint": "chat", "default_embedding_endpoint": "embed"}
        yield Place(catalog=open_catalog({**names, "endpoints": {"chat": chat, "embed": embed}}))


def strings(*values: str | None) -> pa.Array:
    return pa.array(values, pa.string())


def results(place: Place, name: str, *batches: tuple[pa.Array, ...]) -> list[object]:
    found = list(run_late(batches, name=name, place=place))
    assert {array.type for array in found} <= {FIXED_TYPES[name]}
    return [value for array in found for value in array.to_pylist()]


def test_every_function_has_its_type() -> None:
    assert FIXED_TYPES.keys() == BY_NAME.keys()


def test_the_first_row_plans_the_call(place: Place) -> None:
    empty = (strings(), strings())
    one, two = (strings("chat", "chat"), strings("A.", None)), (strings("chat"), strings("B."))
    assert results(place, "ai_query", empty, one, two) == ["A.", None, "B."]
    assert results(place, "ai_query", empty) == []
    parameters = pa.array([{"max_tokens": 1}])
    nothing, yes = strings(None), pa.array([True])
    assert results(place, "ai_query", (strings("chat"), strings("A long one."), nothing, yes, parameters)) == ["A lo"]
    labels = pa.array([["x", "y"]] * 2)
    assert results(place, "ai_classify", (strings("A.", None), labels)) == ["x", None]
    extracted, nothing_asked = results(place, "ai_extract", (strings("A.", None), labels))
    assert isinstance(extracted, list)
    assert [name for name, _ in extracted] == ["x", "y"]
    assert nothing_asked is None
    assert results(place, "ai_similarity", (strings("A.", None), strings("A.", "B."))) == [pytest.approx(1.0), None]
    assert results(place, "ai_count_tokens", (strings("A.", None),)) == [1, None]


@pytest.mark.parametrize(
    ("name", "arrays", "condition"),
    [
        ("ai_query", (strings("chat", "embed"), strings("A.", "B.")), "NON_FOLDABLE_ARGUMENT"),
        ("ai_classify", (strings("A.", "B."), pa.array([["x", "y"], ["x", "z"]])), "NON_FOLDABLE_ARGUMENT"),
        ("ai_query", (strings("embed"), strings("A.")), "AI_FUNCTION_COMPILATION_ERROR"),
        (
            "ai_query",
            (strings("chat"), strings("A."), strings(None), pa.array([False])),
            "AI_FUNCTION_COMPILATION_ERROR",
        ),
        ("ai_query", (strings("chat"),), "REQUIRED_PARAMETER_NOT_FOUND"),
        ("ai_gen", (strings("A."), strings("B.")), "WRONG_NUM_ARGS.WITHOUT_SUGGESTION"),
    ],
)
def test_calls_that_are_wrong(place: Place, name: str, arrays: tuple[pa.Array, ...], condition: str) -> None:
    with pytest.raises(AiFunctionError) as caught:
        results(place, name, arrays)
    assert caught.value.condition == condition
