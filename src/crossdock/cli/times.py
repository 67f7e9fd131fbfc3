"""Moments as people write them on a command line."""

import re
from datetime import UTC, datetime, timedelta

from crossdock.kit.errors import InvalidInputError

_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def moment(text: str) -> datetime:
    """A moment as RFC 3339 (UTC where no offset is given), or how long ago: 90s, 15m, 2h, 7d."""
    ago = _AGO.fullmatch(text.strip())
    try:
        if ago is not None:
            return datetime.now(UTC) - timedelta(seconds=float(ago[1]) * _SECONDS[ago[2]])
        read = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise InvalidInputError(
            f"{text!r} is no time; write 2026-03-14T09:00:00Z, or 15m for 15 minutes ago."
        ) from None
    return read.replace(tzinfo=UTC) if read.tzinfo is None else read
