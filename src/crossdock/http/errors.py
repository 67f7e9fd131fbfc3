"""Errors of the HTTP layer itself.

CrossdockError
├── BadRequestError            400
│   └── UnknownParameterError       a query parameter that the operation does not have
├── MethodNotAllowedError      405
├── UnsupportedMediaTypeError  415
├── ConflictError
│   ├── IdempotencyConflictError    409  same Idempotency-Key, another request
│   ├── IdempotencyBusyError        409  the same request is being served right now
│   └── IdempotencyAnswerLostError  409  the request was carried out; what it was answered is not known any more
└── InvalidInputError          422
    ├── MalformedRequestError       one of the request's parts does not fit the operation's description
    └── UnstorableValueError        a value that PostgreSQL cannot hold
"""

from collections.abc import Mapping, Sequence
from typing import Any

from crossdock.kit.errors import ConflictError, CrossdockError, InvalidInputError


class BadRequestError(CrossdockError):
    """The request cannot be understood."""

    code = "bad_request"
    status = 400


class UnknownParameterError(BadRequestError):
    """The operation has no such query parameter."""

    code = "unknown_parameter"

    def __init__(self, name: str, *, known: Sequence[str] = ()) -> None:
        there_are = f"it has {', '.join(known)}" if known else "it has none"
        super().__init__(f"This operation has no query parameter {name!r}; {there_are}.")
        self.errors = ({"in": "query", "name": name, "detail": "There is no such parameter."},)


class MethodNotAllowedError(CrossdockError):
    """The path does not take this method; the `Allow` header names those it takes."""

    code = "method_not_allowed"
    status = 405

    def __init__(self, message: str | None = None, *, allow: str = "") -> None:
        super().__init__(message)
        self.headers: Mapping[str, str] = {"Allow": allow} if allow else {}


class UnsupportedMediaTypeError(CrossdockError):
    """The path does not take a body of this content type."""

    code = "unsupported_media_type"
    status = 415


class IdempotencyConflictError(ConflictError):
    """The Idempotency-Key was used for another request in the last 24 hours; use a fresh key."""

    code = "idempotency_conflict"


class IdempotencyBusyError(ConflictError):
    """A request under this Idempotency-Key is being served; ask again in a moment for its answer."""

    code = "idempotency_busy"

    def __init__(self, message: str | None = None, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class IdempotencyAnswerLostError(ConflictError):
    """The request under this Idempotency-Key was carried out, but its answer was not kept; look what it made."""

    code = "idempotency_answer_lost"


class MalformedRequestError(InvalidInputError):
    """The request does not fit this operation's description; `errors` says where."""

    def __init__(self, message: str | None = None, *, errors: tuple[Mapping[str, Any], ...] = ()) -> None:
        super().__init__(message)
        self.errors = errors


class UnstorableValueError(InvalidInputError):
    """A value cannot be stored: text with a NUL character or half a surrogate pair, or a number out of range."""
