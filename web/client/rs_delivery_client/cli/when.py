"""Times in words: how long ago, and when by this machine's clock, with its zone."""

from __future__ import annotations

from datetime import UTC, datetime

_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def span(seconds: float) -> str:
    """Return how long that is, in two units at most: "1 h 12 min"."""
    left = max(0, round(seconds))
    if left < 1:
        return "0 s"
    for index, (name, size) in enumerate(_UNITS):
        if left >= size:
            said = f"{left // size} {name}"
            rest = left % size
            if index + 1 < len(_UNITS):
                smaller, small = _UNITS[index + 1]
                if rest // small:
                    said += f" {rest // small} {smaller}"
            return said
    raise AssertionError(seconds)


def read(text: str | None) -> datetime | None:
    """Read a time of the service (ISO 8601); None: there is none, or it is none."""
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


def at(moment: datetime) -> str:
    """Return when that is here, with the zone: "2026-11-28 00:18 +01:00"."""
    here = moment.astimezone()
    zone = here.strftime("%z")
    return f"{here:%Y-%m-%d %H:%M} {zone[:3]}:{zone[3:5]}"


def relative(text: str | None, now: datetime) -> str | None:
    """Return how long ago a time is, or in how long: "12 min ago", "in 40 s"."""
    moment = read(text)
    if moment is None:
        return None
    seconds = (moment - now).total_seconds()
    return f"in {span(seconds)}" if seconds >= 1 else f"{span(-seconds)} ago"


def both(text: str | None, now: datetime) -> str | None:
    """Return a time in both ways: "2026-11-28 00:18 +01:00 (12 min ago)"."""
    moment = read(text)
    return None if moment is None else f"{at(moment)} ({relative(text, now)})"
