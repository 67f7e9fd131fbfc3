"""One correlation id from the request to everything it causes."""

import re
from collections.abc import Iterable

from starlette.types import Scope
from structlog.contextvars import bind_contextvars, clear_contextvars

from crossdock.kit.ids import new_uuid

HEADER = "X-Correlation-Id"

_HEADER_BYTES = HEADER.lower().encode()
_ID_KEY = "crossdock.correlation_id"
_HEADERS_KEY = "crossdock.answer_headers"
_ACCEPTED = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


def correlation_id_of(scope: Scope) -> str:
    """The correlation id of the request that this ASGI scope belongs to."""
    found: str = scope.get(_ID_KEY, "")
    return found


def add_answer_headers(scope: Scope, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Send these headers, names in lower case, with the request's answer, whatever it will be."""
    scope[_HEADERS_KEY].extend(headers)


def begin_correlation(scope: Scope) -> list[tuple[bytes, bytes]]:
    """Take the caller's `X-Correlation-Id` or make one, and log under it from here on.

    Returns the headers to answer with; `add_answer_headers` adds to them.
    """
    correlation_id = _named(scope) or new_uuid().hex
    headers = [(_HEADER_BYTES, correlation_id.encode())]
    scope[_ID_KEY] = correlation_id
    scope[_HEADERS_KEY] = headers
    clear_contextvars()
    bind_contextvars(correlation_id=correlation_id)
    return headers


def _named(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == _HEADER_BYTES and _ACCEPTED.fullmatch(value):
            text: str = value.decode()
            return text
    return None
