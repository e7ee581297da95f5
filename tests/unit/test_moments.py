from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from pipeline.moments import read_date, read_local, read_timestamp, zone_of
from tests.cases import cases

BERLIN = ZoneInfo("Europe/Berlin")


@cases(
    ("text", "moment"),
    [
        ("2024-05-01 12:00:00", datetime(2024, 5, 1, 10)),
        ("2024-05-01T12:00:00Z", datetime(2024, 5, 1, 12)),
        ("2024-05-01 12:00:00 UTC+3", datetime(2024, 5, 1, 9)),
        ("2024-05-01 12:00:00.123456789+02:00", datetime(2024, 5, 1, 10, 0, 0, 123456)),
        ("2024-12-01 12:00:00 America/New_York", datetime(2024, 12, 1, 17)),
        (" 2024-5-1 1:2:3\n", datetime(2024, 4, 30, 23, 2, 3)),
        ("2024-05-01", datetime(2024, 4, 30, 22)),
        ("2024", datetime(2023, 12, 31, 23)),
        ("2024-03-31 02:30:00", datetime(2024, 3, 31, 1, 30)),  # an hour that was skipped: later by the hour
        ("2024-10-27 02:30:00", datetime(2024, 10, 27, 0, 30)),  # an hour that came twice: the first
    ],
)
def test_a_time_without_a_zone_is_of_the_given_one(text: str, moment: datetime) -> None:
    assert read_timestamp(text, BERLIN) == moment.replace(tzinfo=UTC)


@cases(
    "text",
    [
        "",
        "now",
        "20240501",
        "2024-13-01",
        "2024-05-01 24:00:00",
        "2024-05-01x",
        "2024-05-01 12:00:00 nowhere",
        "12:00:00",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        read_timestamp(text, BERLIN)


def test_the_first_moments_of_the_calendar_lie_before_it_in_utc() -> None:
    with pytest.raises(OverflowError):
        read_timestamp("0001-01-01 00:00:00", BERLIN)


def test_an_unknown_zone_leaves_times_without_one_unread() -> None:
    with pytest.raises(ValueError):
        read_timestamp("2024-05-01 12:00:00", zone_of("nowhere"))
    assert read_timestamp("2024-05-01 12:00:00Z", None) == datetime(2024, 5, 1, 12, tzinfo=UTC)


def test_a_local_time_names_no_zone() -> None:
    assert read_local("2024-05-01 12:00") == datetime(2024, 5, 1, 12)
    with pytest.raises(ValueError):
        read_local("2024-05-01 12:00:00Z")


@cases("text", ["2024-05-01", "2024-5-1", "2024-05-01T23:59:00Z", "2024-05-01 or so"])
def test_a_date_is_read_from_the_front(text: str) -> None:
    assert read_date(text) == date(2024, 5, 1)


@cases(
    ("name", "zone"),
    [
        ("Z", UTC),
        ("GMT+1", timezone(timedelta(hours=1))),
        ("-0530", timezone(-timedelta(hours=5, minutes=30))),
        ("Europe/Berlin", BERLIN),
        ("+19:00", None),
        ("+01:99", None),
        ("../etc/passwd", None),
        ("Europe", None),
        ("", None),
    ],
)
def test_zones_are_regions_or_offsets(name: str, zone: object) -> None:
    assert zone_of(name) == zone
