"""A call's record as it may be kept: without secrets, and without what it tells of persons (requirement G5)."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec

from crossdock.gateway.call_log import CallRecord
from crossdock.gateway.headers import HeaderPairs
from crossdock.observability.masking import (
    covered,
    field_spans,
    is_private_name,
    mask_members,
    masked_query,
    secret_spans,
    shown,
    storable,
    without_personal_values,
    without_secrets,
)
from crossdock.observability.redaction import MASK, is_secret_name, redact

_MAX_URL_CHARACTERS = 2048
_MAX_HEADERS = 100
_MAX_NAME_CHARACTERS = 128
_MAX_VALUE_CHARACTERS = 1024
_MAX_VALUE_SEARCHED = 8192
# Of a provider that sends tens of thousands of characters in headers, the first are enough.
_MAX_HEADERS_CHARACTERS = 32 * 1024
_TEXT_TYPE = re.compile(r"text/|[/+](json|xml)|x-www-form-urlencoded|javascript|graphql|ndjson|multipart/|yaml|csv")
_LEAST_TAIL = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedCall:
    """What may be shown of a call; bodies are text, None where they are not kept."""

    url: str
    path: str
    request_headers: HeaderPairs
    request_body: str | None
    response_headers: HeaderPairs
    response_body: str | None
    error: str | None


def masked(record: CallRecord, *, max_body_bytes: int) -> MaskedCall:
    """The record without its secrets, with at most so much of each body."""
    secrets = record.secrets
    url = _masked_text(masked_query(record.url, is_private_name), secrets)[:_MAX_URL_CHARACTERS]
    return MaskedCall(
        url=url,
        path=urlsplit(url).path or "/",
        request_headers=_masked_headers(record.request_headers, secrets),
        request_body=_masked_body(record.request_body, record.request_headers, secrets, max_body_bytes),
        response_headers=_masked_headers(record.response_headers, secrets),
        response_body=_masked_body(record.response_body, record.response_headers, secrets, max_body_bytes),
        error=None if record.error is None else _masked_text(record.error, secrets),
    )


def _masked_headers(headers: HeaderPairs, secrets: tuple[str, ...]) -> HeaderPairs:
    kept = _first(headers)
    # Together: looking through many short texts takes much longer than through one.
    together = "\n".join([_searched(name, value) for name, value in kept])
    values = _masked_text(together, secrets).split("\n")
    if len(values) != len(kept):  # a folded header has lines of its own
        values = [_masked_text(_searched(name, value), secrets) for name, value in kept]
    return tuple(
        [
            (storable(name[:_MAX_NAME_CHARACTERS]), value[:_MAX_VALUE_CHARACTERS])
            for (name, _), value in zip(kept, values, strict=True)
        ]
    )


def _first(headers: HeaderPairs) -> HeaderPairs:
    left = _MAX_HEADERS_CHARACTERS
    for number, (name, value) in enumerate(headers[:_MAX_HEADERS]):
        left -= min(len(name), _MAX_NAME_CHARACTERS) + min(len(value), _MAX_VALUE_SEARCHED)
        if left < 0:
            return headers[:number]
    return headers[:_MAX_HEADERS]


def _searched(name: str, value: str) -> str:
    """A header's value as far as it is looked through for secrets and persons; nothing of it where the name tells."""
    if is_secret_name(name):
        return MASK
    cut = value[:_MAX_VALUE_SEARCHED]
    return masked_query(cut, is_private_name) if "?" in cut else cut


def _masked_body(body: bytes | None, headers: HeaderPairs, secrets: tuple[str, ...], most: int) -> str | None:
    if not body:
        return None
    content_type = next((value for name, value in headers if name.lower() == "content-type"), "").lower()
    coding = next((value for name, value in headers if name.lower() == "content-encoding"), "identity").lower()
    if coding != "identity":
        return storable(f"({coding}, not shown)")
    if content_type and not _TEXT_TYPE.search(content_type):
        return storable(f"({content_type}, not shown)")
    if "json" in content_type or body[:1] in b"{[":
        text = _masked_json(body, secrets)
        if text is not None:
            return _cut(text, secrets, most)
    # Without the NULs of UTF-16, whose text is then found like any other.
    text = body.replace(b"\0", b"").decode("utf-8", "backslashreplace")
    spans = [*secret_spans(text, secrets), *field_spans(text, is_private_name)]
    # What is hidden keeps its length until the end is cut off: nothing moves into what is shown.
    text = covered(text, spans)[:most]
    return storable(str(redact("body", without_personal_values(_without_tail(shown(text), secrets)))))


def _masked_json(body: bytes, secrets: tuple[str, ...]) -> str | None:
    """JSON that is whole, by the names of its members."""
    try:
        value = msgspec.json.decode(body)
        mask_members(value, is_private_name)
        text = msgspec.json.encode(value).decode()
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    return str(redact("body", without_personal_values(without_secrets(text, secrets))))


def _cut(text: str, secrets: tuple[str, ...], most: int) -> str:
    return text if len(text) <= most else _without_tail(text[:most], secrets)


def _without_tail(text: str, secrets: tuple[str, ...]) -> str:
    """The text without the beginning of a secret whose end was cut off."""
    for secret in secrets:
        for length in range(min(len(secret), len(text)), _LEAST_TAIL - 1, -1):
            if text.endswith(secret[:length]):
                return text[:-length] + MASK
    return text


def _masked_text(text: str, secrets: tuple[str, ...]) -> str:
    return storable(str(redact("text", without_personal_values(without_secrets(text, secrets)))))
