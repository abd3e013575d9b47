"""Times, sizes and counts as people read them."""

from __future__ import annotations

from datetime import datetime


def stamp(when: datetime | None) -> str:
    """Write a time (UTC, as everywhere in the node)."""
    return f"{when:%Y-%m-%d %H:%M:%S}Z" if when else ""


def duration(seconds: float | None) -> str:
    """Write a duration with the two units that matter."""
    if seconds is None:
        return ""
    if seconds < 0.95:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 59.5:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def size(bytes_: float) -> str:
    """Write a number of bytes."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if bytes_ < 1000:
            return f"{bytes_:.0f} {unit}" if unit == "bytes" or bytes_ >= 100 else f"{bytes_:.1f} {unit}"
        bytes_ /= 1000
    return f"{bytes_:.1f} TB"


def plural(count: int, one: str, many: str = "") -> str:
    """Count something."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def figure(value: float) -> str:
    """Write a number to three digits."""
    return f"{value:.3g}"
