"""Every error as `application/problem+json` (RFC 9457), with a stable `code` and where the input is wrong.

`errors` lists the faults of the input: `in` (body, query, path, header or cookie) with a `pointer`
(RFC 6901, into the body) or the parameter's `name`, and `detail`. What the caller sent is never repeated.
"""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import asyncpg
import structlog
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from crossdock.http.correlation import correlation_id_of
from crossdock.http.errors import (
    BadRequestError,
    MalformedRequestError,
    MethodNotAllowedError,
    UnknownParameterError,
    UnstorableValueError,
    UnsupportedMediaTypeError,
)
from crossdock.kit.errors import (
    CrossdockError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    PayloadTooLargeError,
    UnauthorizedError,
    UnavailableError,
)
from crossdock.kit.json_pointer import pointer_to
from crossdock.kit.wording import in_words

MEDIA_TYPE = "application/problem+json"

_BY_STATUS: dict[int, type[CrossdockError]] = {
    400: BadRequestError,
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    413: PayloadTooLargeError,
    415: UnsupportedMediaTypeError,
}

_UNREACHABLE = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    PoolTimeoutError,
)

_log = structlog.get_logger(__name__)


def answer(error: Exception, scope: Scope) -> Response:
    """The answer to a request that ended in `error`; what nobody foresaw is logged and told without details."""
    known = translated(error)
    if known is None:
        _log.error("unexpected_error", path=scope.get("path"), method=scope.get("method"), exc_info=error)
        known = CrossdockError("Something went wrong on our side; the log has it under this correlation_id.")
    elif known.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.warning("request_failed", path=scope.get("path"), code=known.code, error=known.message)
    return _response(known, scope)


def translated(error: Exception) -> CrossdockError | None:
    """The same error as one of ours; None when it is none that a caller can do anything about."""
    if isinstance(error, CrossdockError):
        return error
    if isinstance(error, RequestValidationError):
        return MalformedRequestError(errors=tuple(_fault(item, error.body) for item in error.errors()))
    if isinstance(error, HTTPException):
        return _from_framework(error)
    return _from_database(_cause(error) if isinstance(error, DBAPIError) else error)


def _from_framework(error: HTTPException) -> CrossdockError | None:
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return MethodNotAllowedError(allow=(error.headers or {}).get("Allow", ""))
    kind = _BY_STATUS.get(error.status_code)
    if kind is None:
        return None
    said_more = error.detail != HTTPStatus(error.status_code).phrase
    return kind(error.detail if said_more else None)


def _from_database(error: BaseException | None) -> CrossdockError | None:
    if isinstance(error, asyncpg.DataError):
        return UnstorableValueError()
    if isinstance(error, _UNREACHABLE):
        return UnavailableError("The database cannot be reached. Try again, a write under the same Idempotency-Key.")
    return None


def _response(error: CrossdockError, scope: Scope) -> Response:
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": error.message,
        "instance": scope.get("path", ""),
        "code": error.code,
        "correlation_id": correlation_id_of(scope),
    }
    faults = _faults(error)
    if faults:
        body["errors"] = faults
    return Response(
        json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"),
        status_code=error.status,
        media_type=MEDIA_TYPE,
        headers=_headers(error),
    )


def _headers(error: CrossdockError) -> dict[str, str]:
    headers: dict[str, str] = {"Cache-Control": "no-store"}
    retry_after_s = getattr(error, "retry_after_s", None)
    if retry_after_s is not None:
        headers["Retry-After"] = str(retry_after_s)
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="crossdock"'
    headers.update(getattr(error, "headers", {}))
    return headers


def _faults(error: CrossdockError) -> Sequence[Mapping[str, Any]]:
    if isinstance(error, MalformedRequestError | UnknownParameterError) and error.errors:
        return error.errors
    if isinstance(error, InvalidInputError):
        return [{"in": "body", "pointer": fault.pointer, "detail": fault.message} for fault in error.faults]
    return []


def _fault(item: Mapping[str, Any], body: object) -> dict[str, Any]:
    """One of FastAPI's validation errors, as we tell it."""
    place, *steps = item["loc"]
    detail = in_words(item)
    if item["type"] == "json_invalid":
        return {"in": "body", "pointer": "", "detail": f"The body is not JSON: {item['ctx']['error']}."}
    if place == "body" and isinstance(body, bytes):
        return {
            "in": "body",
            "pointer": "",
            "detail": "The body is not sent as JSON: add Content-Type: application/json.",
        }
    if place == "body":
        return {"in": "body", "pointer": _pointer(steps, body, item["type"]), "detail": detail}
    return {"in": place, "name": ".".join(map(str, steps)), "detail": detail}


def _pointer(steps: Sequence[str | int], body: object, kind: str) -> str:
    """The JSON pointer into the body; pydantic's steps also name the member of a union, which is not there."""
    found: list[str | int] = []
    for number, step in enumerate(steps, 1):
        missing = kind == "missing" and number == len(steps)
        if not missing and not _holds(body, step):
            continue
        found.append(step)
        body = None if missing else body[step]  # type: ignore[index]  # it holds the step
    return pointer_to(found)


def _holds(body: object, step: str | int) -> bool:
    if isinstance(body, list):
        return isinstance(step, int) and step < len(body)
    return isinstance(body, Mapping) and step in body


def _cause(error: DBAPIError) -> BaseException | None:
    return getattr(error.orig, "__cause__", None)
