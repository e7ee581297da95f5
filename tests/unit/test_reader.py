"""Whether the reader of a worker's output is still there."""

import os

import pytest

from pipeline import reader


@pytest.fixture
def unwatched(monkeypatch):
    monkeypatch.setattr(reader, "_poll", None)


def test_nobody_is_gone_where_nothing_is_watched(unwatched):
    assert not reader.is_gone()


def test_a_reader_is_gone_once_it_closes_its_end(unwatched):
    theirs, ours = os.pipe()
    with os.fdopen(ours, "wb") as stream:
        reader.watch(stream)
        assert not reader.is_gone()
        os.close(theirs)
        assert reader.is_gone()
