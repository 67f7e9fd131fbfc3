"""The base of every error that Crossdock raises on purpose.

CrossdockError
├── InvalidInputError       422  the caller's data is malformed; `faults` says where
├── UnauthorizedError       401
├── ForbiddenError          403
├── NotFoundError           404
├── ConflictError           409
├── PayloadTooLargeError    413
├── RateLimitedError        429  `retry_after_s`
└── UnavailableError        503  `retry_after_s`
"""

from dataclasses import dataclass
from typing import ClassVar


class CrossdockError(Exception):
    """Something went wrong in Crossdock."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or " ".join((type(self).__doc__ or "").split()))

    @property
    def message(self) -> str:
        """What went wrong and what to do, in one or two sentences."""
        return str(self.args[0])


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault in the caller's input: where (a JSON pointer, RFC 6901) and what."""

    pointer: str
    message: str


class InvalidInputError(CrossdockError):
    """The input is not valid."""

    code = "invalid_input"
    status = 422

    def __init__(self, message: str | None = None, faults: tuple[Fault, ...] = ()) -> None:
        super().__init__(message)
        self.faults = faults


class UnauthorizedError(CrossdockError):
    """Sign in, or send a valid API key as `Authorization: Bearer <key>`."""

    code = "unauthorized"
    status = 401


class ForbiddenError(CrossdockError):
    """You may not do this."""

    code = "forbidden"
    status = 403


class NotFoundError(CrossdockError):
    """There is nothing here under this name."""

    code = "not_found"
    status = 404


class ConflictError(CrossdockError):
    """The request contradicts what is already stored."""

    code = "conflict"
    status = 409


class PayloadTooLargeError(CrossdockError):
    """The body is larger than this endpoint accepts."""

    code = "payload_too_large"
    status = 413


class RateLimitedError(CrossdockError):
    """Too many requests; wait before the next one."""

    code = "rate_limited"
    status = 429

    def __init__(self, message: str | None = None, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class UnavailableError(CrossdockError):
    """Crossdock cannot do this right now; nothing was stored. Try again."""

    code = "unavailable"
    status = 503

    def __init__(self, message: str | None = None, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
