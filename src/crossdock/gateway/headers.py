"""Headers that a customer sets on outbound requests, and the one that says when to come back."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from crossdock.kit.errors import Fault, InvalidInputError
from crossdock.kit.json_pointer import pointer_to
from crossdock.observability.redaction import is_secret_name

HeaderPairs = tuple[tuple[str, str], ...]

MAX_CUSTOM_HEADERS = 32
MAX_NAME_CHARACTERS = 128
MAX_VALUE_CHARACTERS = 4096
# Common servers refuse a request head above 8 KiB; ours needs some of it.
MAX_CUSTOM_HEADERS_CHARACTERS = 6144

# RFC 9110 section 5.6.2 (token) and 5.5 (field value, without obs-text).
TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FIELD_VALUE = re.compile(r"[\x20-\x7e\t]*")

# What frames the message, belongs to one connection, or says who we are; the rest is the customer's.
RESERVED_NAMES = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "date",
        "expect",
        "forwarded",
        "host",
        "http2-settings",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-real-ip",
    }
)
RESERVED_PREFIXES = ("webhook-", "crossdock-", "x-crossdock-", "proxy-")

_MAX_DELTA_DIGITS = 9


def first_value(headers: HeaderPairs, name: str) -> str | None:
    """The first value of a header, its name in any case."""
    lowered = name.lower()
    return next((value for key, value in headers if key.lower() == lowered), None)


def name_fault(name: str) -> str | None:
    """What is wrong with a header name that a customer chose, if anything."""
    if not TOKEN.fullmatch(name):
        return "A header name has letters, digits and hyphens (a token, RFC 9110)."
    if len(name) > MAX_NAME_CHARACTERS:
        return f"A header name has at most {MAX_NAME_CHARACTERS} characters."
    lowered = name.lower()
    if lowered in RESERVED_NAMES or lowered.startswith(RESERVED_PREFIXES):
        return f"Crossdock itself sets {name}; choose another header."
    return None


def value_fault(value: str) -> str | None:
    """What is wrong with a header value that a customer chose, if anything."""
    if len(value) > MAX_VALUE_CHARACTERS:
        return f"A header value has at most {MAX_VALUE_CHARACTERS} characters."
    if not _FIELD_VALUE.fullmatch(value):
        return "A header value has visible ASCII characters, spaces and tabs only."
    if value != value.strip(" \t"):
        return "A header value has no space at its start or end."
    return None


def validate_custom_headers(
    headers: Mapping[str, str], *, taken: Iterable[str] = (), pointer: str = "/headers"
) -> HeaderPairs:
    """The headers as pairs, when all may be sent.

    `taken` are names that the destination's authentication sets; headers whose name says that they hold
    a secret belong there too, since these are stored and shown in clear. Raises InvalidInputError with
    a fault for each header, at `{pointer}/{name}`.
    """
    taken_names = {name.lower() for name in taken}
    faults: list[Fault] = []
    seen: set[str] = set()
    for name, value in headers.items():
        message = name_fault(name) or value_fault(value)
        if name.lower() in taken_names:
            message = f"The destination's authentication sets {name}."
        elif name.lower() in seen:
            message = f"{name} is set twice."
        elif message is None and is_secret_name(name):
            message = f"{name} holds a secret, and these headers are shown to readers; set it as `auth` (api_key)."
        seen.add(name.lower())
        if message:
            faults.append(Fault(pointer + pointer_to([name]), message))
    if len(headers) > MAX_CUSTOM_HEADERS:
        faults.append(Fault(pointer, f"At most {MAX_CUSTOM_HEADERS} headers can be set."))
    if sum(len(name) + len(value) for name, value in headers.items()) > MAX_CUSTOM_HEADERS_CHARACTERS:
        faults.append(Fault(pointer, f"All headers together have at most {MAX_CUSTOM_HEADERS_CHARACTERS} characters."))
    if faults:
        raise InvalidInputError("The headers cannot be sent as they are.", tuple(faults))
    return tuple(headers.items())


def retry_after(value: str, now: datetime) -> float | None:
    """Seconds to wait by a Retry-After header, never negative; None when it says nothing readable.

    Both forms of RFC 9110 section 10.2.3: seconds, or an HTTP date. The caller bounds the answer.
    """
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text) if len(text) <= _MAX_DELTA_DIGITS else float("9" * _MAX_DELTA_DIGITS)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, IndexError, OverflowError):
        return None
    if moment.tzinfo is None:  # asctime, which is always UTC
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())
