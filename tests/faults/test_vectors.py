from base64 import b64encode

import numpy as np
import pytest

from pipeline.simulator.vectors import canned_vector
from tests.faults.vectors import complaints

TEXTS = {"a": "first", "b": "second", "bad": "refused"}


def sent(vector):
    return b64encode(vector.astype("<f4").tobytes()).decode()


FIRST, SECOND = (canned_vector(text, 4, 7) for text in ("first", "second"))
SOUND = {"a": (None, sent(FIRST)), "b": (None, sent(SECOND)), "bad": ("bad_request", None)}


def found(**changed):
    landed = [(key, *rest) for key, rest in {**SOUND, **changed}.items()]
    return complaints(TEXTS, {"bad"}, landed, 4, 7)


def test_the_simulators_own_vectors_are_no_complaint():
    assert found() == []


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"a": (None, sent(SECOND)), "b": (None, sent(FIRST))}, "2 vectors are not the simulator's bit for bit: a, b"),
        ({"a": (None, sent(np.nextafter(FIRST, np.float32(9))))}, "1 vectors are not"),
        ({"b": (None, sent(SECOND[:3]))}, "1 vectors are not the simulator's bit for bit: b"),
        ({"b": ("internal", None)}, "1 rows did not end as their text must: b has no vector: internal"),
        ({"bad": (None, sent(FIRST))}, "1 rows did not end as their text must: bad ended as None"),
    ],
    ids=["swapped", "last bit", "shorter", "failed", "answered"],
)
def test_what_is_not_what_the_text_gets_is_told(changed, complaint):
    assert found(**changed)[0].startswith(complaint)
