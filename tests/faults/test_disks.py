"""Every file operation fails once; nothing is lost, and nothing that was paid for is bought again."""

import errno
from pathlib import Path

import pytest

from tests.faults.disks import ERRORS, failing_disks


@pytest.mark.parametrize(
    "number",
    [errno.ENOSPC, *(pytest.param(number, marks=pytest.mark.long) for number in ERRORS if number != errno.ENOSPC)],
    ids=lambda number: errno.errorcode[number],
)
def test_each_file_operation_failed_once_gives_a_clear_error_and_costs_what_was_in_flight(
    tmp_path: Path, number: int
) -> None:
    result = failing_disks(tmp_path, (number,))
    assert result.complaints == []
    assert result.raised > 50
    assert {"open", "write", "sync", "rename", "link", "lock", "pread"} <= result.operations
