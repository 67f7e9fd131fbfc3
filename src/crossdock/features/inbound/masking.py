"""Showing a part of a webhook without what is secret in it: for people who look into why it was refused."""

import json
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import quote, quote_plus, unquote_plus

from crossdock.connectors.webhooks import Headers
from crossdock.connectors.webhooks.variants import inflated
from crossdock.observability.redaction import MASK, is_secret_name, redact

BODY_SHOWN = 300
_URL_SHOWN = 1_000
_HEADERS_SHOWN = 50
_NAME_SHOWN = 100
_VALUE_SHOWN = 300
# Enough that a secret that begins in the part that is shown ends within what is searched.
_BODY_SEARCHED = 8_192
_GZIP_MAGIC = b"\x1f\x8b"
# Shorter ones would be found everywhere.
_LEAST_SECRET = 4
_FILLER = "\ue000"

_SIGNATURE_NAME = re.compile(r"signature|hmac|digest|(^|-)sig(n)?$")
_LONG_TOKEN = re.compile(r"[A-Za-z0-9+/_-]{20,}={0,2}")
_TOKEN_SHOWN = 6
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
# What is no secret, however long it is.
_PLAIN_NAME = re.compile(
    r"user-agent|host|date|via|accept(-.*)?|content-(type|length|encoding)|x-forwarded-.*|forwarded|x-real-ip"
    r"|x-correlation-id|x-request-id|traceparent"
)
_JSON_NAME = re.compile(r'(\\{0,8})"([^"\\]{1,200})\1"\s*:\s*')
_JSON_TEXT = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?$)')
_JSON_PLAIN = re.compile(r"[^,\]}\s\"]*")
_JSON_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')
_XML_FIELD = re.compile(r"<(?:[\w.-]+:)?([\w.-]{1,200})[^<>]{0,500}>([^<]*)")
_FORM_FIELD = re.compile(r"(?:^|&)([^&=]{1,300})=([^&]*)")
_PART = re.compile(r'name="([^"]{1,200})"[^\n]*\n(?:[^\r\n]+\r?\n)*\r?\n(.*?)(?=\r?\n--|\Z)', re.DOTALL)
_QUERY_FIELD = re.compile(r"(?<=[?&;])([^?&;=]{1,300})=([^?&;]*)")


def masked_url(url: str, secrets: Iterable[str]) -> str:
    """The URL without secrets and without the values in its query whose names say that they are some."""
    searched = _without(url[:_BODY_SEARCHED], secrets)
    found = _QUERY_FIELD.sub(
        lambda field: f"{field[1]}={MASK}" if is_secret_name(unquote_plus(field[1])) else field[0], searched
    )
    return _storable(str(redact("url", found))[:_URL_SHOWN])


def masked_headers(headers: Headers, secrets: Iterable[str], *, secret_names: frozenset[str]) -> list[tuple[str, str]]:
    """The first headers; of signatures and of other long tokens the beginning alone."""
    known = list(secrets)
    shown: list[tuple[str, str]] = []
    for name, value in headers.items():
        if len(shown) == _HEADERS_SHOWN:
            break
        text = MASK if name in secret_names else _masked_value(name, _without(value, known))
        shown.append((_storable(name[:_NAME_SHOWN]), _storable(text[:_VALUE_SHOWN])))
    return shown


def masked_text(text: str, secrets: Iterable[str]) -> str:
    """The text without secrets."""
    return _storable(_without(text, secrets))


def masked_start(body: bytes, secrets: Iterable[str]) -> str:
    """The first 300 characters of a body, decompressed, without secrets and the values of fields named like some."""
    is_gzip = body.startswith(_GZIP_MAGIC)
    start = inflated(body, limit=_BODY_SEARCHED) if is_gzip else body[:_BODY_SEARCHED]
    # Without the NULs of UTF-16, whose text is then found like any other.
    text = start.replace(b"\0", b"").decode("utf-8", "backslashreplace")
    # What is hidden keeps its length until the end is cut off: nothing moves into what is shown.
    for begin, end in sorted([*_secret_spans(text, secrets), *_field_spans(text)]):
        text = text[:begin] + _FILLER * (end - begin) + text[end:]
    return _storable(str(redact("body", re.sub(f"{_FILLER}+", MASK, text[:BODY_SHOWN]))))


def _masked_value(name: str, value: str) -> str:
    if _PLAIN_NAME.fullmatch(name) or _UUID.fullmatch(value):
        return str(redact("value", value))
    if _SIGNATURE_NAME.search(name) and not is_secret_name(_SIGNATURE_NAME.sub("", name)):
        return _shortened(value)
    return _shortened(str(redact(name, value)))


def _shortened(value: str) -> str:
    return _LONG_TOKEN.sub(lambda token: f"{token[0][:_TOKEN_SHOWN]}…", value)


def _without(text: str, secrets: Iterable[str]) -> str:
    for begin, end in sorted(_secret_spans(text, secrets), reverse=True):
        text = text[:begin] + _FILLER * (end - begin) + text[end:]
    return re.sub(f"{_FILLER}+", MASK, text)


def _secret_spans(text: str, secrets: Iterable[str]) -> Iterator[tuple[int, int]]:
    for secret in secrets:
        for written in _written(secret.strip()):
            for found in re.finditer(re.escape(written), text):
                yield found.span()


def _written(secret: str) -> Sequence[str]:
    """The ways in which a secret may stand in a text."""
    if len(secret) < _LEAST_SECRET:
        return ()
    encoded = b64encode(secret.encode()).decode().rstrip("=")
    ways = (secret, quote(secret), quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1], encoded)
    return tuple(dict.fromkeys((*ways, secret.encode().hex())))


def _field_spans(text: str) -> Iterator[tuple[int, int]]:
    """Where the values of fields stand whose names say that they are secret, in whatever the text is."""
    yield from _json_spans(text)
    for pattern in (_XML_FIELD, _PART):
        yield from (field.span(2) for field in pattern.finditer(text) if is_secret_name(field[1]))
    for field in _FORM_FIELD.finditer(text):
        value = unquote_plus(field[2])
        # As GitHub's payload: JSON in a form.
        hides_more = any(is_secret_name(inner[2]) for inner in _JSON_NAME.finditer(value))
        if is_secret_name(unquote_plus(field[1])) or (hides_more and "%" in field[2]):
            yield field.span(2)


def _json_spans(text: str) -> Iterator[tuple[int, int]]:
    for name in _JSON_NAME.finditer(text):
        if is_secret_name(name[2]):
            yield name.end(), _end_of_value(text, name.end(), name[1])


def _end_of_value(text: str, start: int, escape: str) -> int:
    """Where the JSON value ends that starts here; the end of the text for one that is cut off."""
    if escape and text.startswith(f'{escape}"', start):
        end = text.find(f'{escape}"', start + len(escape) + 1)
        return len(text) if end < 0 else end + len(escape) + 1
    if text.startswith('"', start):
        found = _JSON_TEXT.match(text, start)
        return found.end() if found else len(text)
    if text[start : start + 1] in ("{", "["):
        return _end_of_brackets(text, start)
    plain = _JSON_PLAIN.match(text, start)
    return plain.end() if plain else len(text)


def _end_of_brackets(text: str, start: int) -> int:
    depth = 0
    for found in _JSON_BRACKETS.finditer(text, start):
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(found[0], 0)
        if depth == 0:
            return found.end()
    return len(text)


def _storable(text: str) -> str:
    """Text as PostgreSQL takes it: without NULs and halves of surrogate pairs."""
    return text.replace("\0", "").encode("utf-8", "backslashreplace").decode()
