"""Showing a part of a webhook without what is secret in it: for people who look into why it was refused."""

import re
from collections.abc import Iterable

from crossdock.connectors.webhooks import Headers
from crossdock.connectors.webhooks.variants import inflated
from crossdock.observability.masking import (
    covered,
    field_spans,
    masked_query,
    secret_spans,
    shown,
    storable,
    without_secrets,
)
from crossdock.observability.redaction import MASK, is_secret_name, redact

BODY_SHOWN = 300
_URL_SHOWN = 1_000
_HEADERS_SHOWN = 50
_NAME_SHOWN = 100
_VALUE_SHOWN = 300
# Enough that a secret that begins in the part that is shown ends within what is searched.
_BODY_SEARCHED = 8_192
_GZIP_MAGIC = b"\x1f\x8b"

_SIGNATURE_NAME = re.compile(r"signature|hmac|digest|(^|-)sig(n)?$")
_LONG_TOKEN = re.compile(r"[A-Za-z0-9+/_-]{20,}={0,2}")
_TOKEN_SHOWN = 6
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
# What is no secret, however long it is.
_PLAIN_NAME = re.compile(
    r"user-agent|host|date|via|accept(-.*)?|content-(type|length|encoding)|x-forwarded-.*|forwarded|x-real-ip"
    r"|x-correlation-id|x-request-id|traceparent"
)


def masked_url(url: str, secrets: Iterable[str]) -> str:
    """The URL without secrets and without the values in its query whose names say that they are some."""
    found = masked_query(without_secrets(url[:_BODY_SEARCHED], secrets))
    return storable(str(redact("url", found))[:_URL_SHOWN])


def masked_headers(headers: Headers, secrets: Iterable[str], *, secret_names: frozenset[str]) -> list[tuple[str, str]]:
    """The first headers; of signatures and of other long tokens the beginning alone."""
    known = list(secrets)
    shown: list[tuple[str, str]] = []
    for name, value in headers.items():
        if len(shown) == _HEADERS_SHOWN:
            break
        text = MASK if name in secret_names else _masked_value(name, without_secrets(value, known))
        shown.append((storable(name[:_NAME_SHOWN]), storable(text[:_VALUE_SHOWN])))
    return shown


def masked_text(text: str, secrets: Iterable[str]) -> str:
    """The text without secrets."""
    return storable(without_secrets(text, secrets))


def masked_start(body: bytes, secrets: Iterable[str]) -> str:
    """The first 300 characters of a body, decompressed, without secrets and the values of fields named like some."""
    is_gzip = body.startswith(_GZIP_MAGIC)
    start = inflated(body, limit=_BODY_SEARCHED) if is_gzip else body[:_BODY_SEARCHED]
    # Without the NULs of UTF-16, whose text is then found like any other.
    text = start.replace(b"\0", b"").decode("utf-8", "backslashreplace")
    # What is hidden keeps its length until the end is cut off: nothing moves into what is shown.
    text = covered(text, [*secret_spans(text, secrets), *field_spans(text)])
    return storable(str(redact("body", shown(text[:BODY_SHOWN]))))


def _masked_value(name: str, value: str) -> str:
    if _PLAIN_NAME.fullmatch(name) or _UUID.fullmatch(value):
        return str(redact("value", value))
    if _SIGNATURE_NAME.search(name) and not is_secret_name(_SIGNATURE_NAME.sub("", name)):
        return _shortened(value)
    return _shortened(str(redact(name, value)))


def _shortened(value: str) -> str:
    return _LONG_TOKEN.sub(lambda token: f"{token[0][:_TOKEN_SHOWN]}…", value)
