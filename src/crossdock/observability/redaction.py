"""Masking what must not be seen: by the name a value goes under, and by what secrets of ours look like."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

MASK = "•••"

_SECRET_NAME = re.compile(
    r"pass(word|phrase)?$|secret|token|authorization|cookie|api[-_]?key$|private[-_]?key|credential|signature|dsn$"
    r"|session[-_]?id$|client[-_]?state$|(auth|access|subscription|functions|shared|account)[-_]?key$"
    r"|^x-auth$|assertion$|code[-_]?verifier$|^(pwd|pin|otp|jwt|x-jwt)$|hmac$",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(r"\b(cdk_|whsec_|whsk_|Bearer |Basic )[A-Za-z0-9+/=_.~-]{8,}|://[^/\s:@]+:[^/\s@]+@")


@lru_cache(maxsize=4096)  # the same few names come again in every line of the log
def is_secret_name(name: str) -> bool:
    """Whether a field or header of this name holds something to hide."""
    return _SECRET_NAME.search(name) is not None


def redact(name: str, value: Any) -> Any:  # noqa: ANN401 - any value may be logged
    """The value to show under this name: itself, or masked."""
    if value is not None and is_secret_name(name):
        return MASK
    if isinstance(value, str):
        return _SECRET_VALUE.sub(MASK, value) if _may_hold_secret(value) else value
    if isinstance(value, Mapping):
        return {key: redact(str(key), inner) for key, inner in value.items()}
    return value


def _may_hold_secret(text: str) -> bool:
    """Whether it is worth asking the pattern, which takes a hundred times as long as this."""
    return "cdk_" in text or "://" in text or "whs" in text or "Bearer " in text or "Basic " in text
