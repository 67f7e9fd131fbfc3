"""What an event's data are, by their content type."""

import re
from functools import lru_cache

JSON = "application/json"

# RFC 9110, 8.3.1; of the parameters what matters here: a header can hold them, without obs-text.
_MEDIA_TYPE = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+/[!#$%&'*+\-.^_`|~0-9A-Za-z]+( *;[\x20-\x7e]*)?")


@lru_cache(maxsize=1024)
def is_json(content_type: str) -> bool:
    """Whether a media type says that the data are JSON (RFC 8259, or a +json suffix by RFC 6839)."""
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == JSON or media_type.endswith("+json")


@lru_cache(maxsize=1024)
def is_media_type(text: str) -> bool:
    """Whether this can stand in a Content-Type header: a delivery of the data alone has it there."""
    return _MEDIA_TYPE.fullmatch(text) is not None
