"""Dates and times in a text, as Spark's `from_json` reads them; a time alone has no day here. Pure, but for Python's zones."""

import re
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from functools import cache
from zoneinfo import ZoneInfo

# Spark's stringToDate and stringToTimestamp: months, days and times may have one digit, and parts may be missing.
_DATE = re.compile(r"([+-]?\d{4,7})(?:-(\d{1,2})(?:-(\d{1,2})(?:[ T].*)?)?)?", re.ASCII | re.DOTALL)
_MOMENT = re.compile(
    r"(\+?\d{4,6})(?:-(\d{1,2})(?:-(\d{1,2})(?:[ T](\d{1,2})(?::(\d{1,2})(?::(\d{1,2})(?:\.(\d*))?(\D.*)?)?)?)?)?)?",
    re.ASCII | re.DOTALL,
)
_OFFSET = re.compile(r"(?:UTC|GMT|UT)?([+-])(\d{1,2})(?::?(\d{1,2}))?(?::?(\d{2}))?", re.ASCII)
_ZERO = ("Z", "UTC", "GMT", "UT")
_MOST_OFFSET_S = 18 * 3600  # java.time's


def read_date(text: str) -> date:
    """The day; what follows it is not read. Raises ValueError."""
    found = _DATE.fullmatch(text.strip())
    if found is None:
        raise ValueError
    year, month, day = found.groups(default="1")
    return date(int(year), int(month), int(day))


def read_timestamp(text: str, zone: tzinfo | None) -> datetime:
    """The moment, in UTC; `zone` is that of a text that names none. Raises ValueError."""
    local, named = _parts(text)
    where = zone_of(named) if named else zone
    if where is None:
        raise ValueError
    return local.replace(tzinfo=where).astimezone(UTC)


def read_local(text: str) -> datetime:
    """The day and time without a zone, which the text must not name. Raises ValueError."""
    local, named = _parts(text)
    if named:
        raise ValueError
    return local


@cache
def zone_of(name: str) -> tzinfo | None:
    """The zone of a region, like Europe/Berlin, or an offset, like +01:00; None for what is neither."""
    name = name.strip()
    if name in _ZERO:
        return UTC
    if (found := _OFFSET.fullmatch(name)) is not None:
        hours, minutes, seconds = (int(part or 0) for part in found.groups()[1:])
        offset_s = hours * 3600 + minutes * 60 + seconds
        if minutes > 59 or seconds > 59 or offset_s > _MOST_OFFSET_S:
            return None
        return timezone(timedelta(seconds=-offset_s if found[1] == "-" else offset_s))
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return None


def _parts(text: str) -> tuple[datetime, str]:
    found = _MOMENT.fullmatch(text.strip())
    if found is None:
        raise ValueError
    year, month, day, hour, minute, second, fraction, named = found.groups()
    whole = datetime(int(year), int(month or 1), int(day or 1), int(hour or 0), int(minute or 0), int(second or 0))
    return whole.replace(microsecond=int((fraction or "")[:6].ljust(6, "0"))), named or ""
