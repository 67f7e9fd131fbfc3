"""How long a session lives: while it is used, and never longer than a week."""

from datetime import datetime, timedelta

IDLE_LIFETIME = timedelta(hours=12)
ABSOLUTE_LIFETIME = timedelta(days=7)


def longest_until(created_at: datetime, used_at: datetime) -> datetime:
    """When a session made and used at these moments ends."""
    return min(used_at + IDLE_LIFETIME, created_at + ABSOLUTE_LIFETIME)
