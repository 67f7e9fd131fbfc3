"""What an event's data are, by their content type."""

from functools import lru_cache

JSON = "application/json"


@lru_cache(maxsize=1024)
def is_json(content_type: str) -> bool:
    """Whether a media type says that the data are JSON (RFC 8259, or a +json suffix by RFC 6839)."""
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == JSON or media_type.endswith("+json")
