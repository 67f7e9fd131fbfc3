"""Errors of tenants, users, keys and sessions.

CrossdockError
├── UnauthorizedError
│   ├── InvalidKeyError          unknown or revoked
│   ├── ExpiredKeyError
│   ├── SessionEndedError
│   └── SignInRefusedError
├── ForbiddenError
│   ├── TenantSuspendedError
│   ├── CsrfTokenError
│   └── CannotGrantError
├── ConflictError
│   ├── SlugTakenError
│   ├── EmailTakenError
│   ├── RoleNameTakenError
│   ├── RoleFixedError
│   ├── RoleInUseError
│   ├── LastAdminError
│   ├── KeyLimitReachedError
│   ├── KeyEndedError
│   └── KeyRotatedError
├── RateLimitedError
│   └── KeyRateExceededError
└── UnavailableError
    └── SignInsBusyError
"""

from collections.abc import Iterable, Mapping

from crossdock.http.access import RateState
from crossdock.kit.errors import (
    ConflictError,
    ForbiddenError,
    RateLimitedError,
    UnauthorizedError,
    UnavailableError,
)


class InvalidKeyError(UnauthorizedError):
    """The API key is unknown or revoked."""

    code = "invalid_api_key"


class ExpiredKeyError(UnauthorizedError):
    """The API key has expired; create or rotate to a new one."""

    code = "api_key_expired"


class SessionEndedError(UnauthorizedError):
    """The session has ended; sign in again."""

    code = "session_ended"


class SignInRefusedError(UnauthorizedError):
    """Email, password or organization is wrong, or there were too many attempts: check, wait a little, try again.

    Whoever belongs to several organizations names one as `tenant`.
    """

    code = "sign_in_refused"


class TenantSuspendedError(ForbiddenError):
    """The organization is suspended; its requests are not served. Ask the operator of this installation."""

    code = "tenant_suspended"


class CsrfTokenError(ForbiddenError):
    """A write with the session cookie needs the header X-CSRF-Token; `GET /api/v1/sessions/current` tells its value."""

    code = "csrf_token_required"


class CannotGrantError(ForbiddenError):
    """You cannot give, or take over, permissions that you do not have yourself."""

    code = "cannot_grant"

    def __init__(self, missing: Iterable[str]) -> None:
        super().__init__(
            f"You do not have {', '.join(sorted(missing))} yourself, so you can neither give nor change it."
        )


class SlugTakenError(ConflictError):
    """Another organization has this slug."""

    code = "slug_taken"


class EmailTakenError(ConflictError):
    """Another user of this organization has this email address."""

    code = "email_taken"


class RoleNameTakenError(ConflictError):
    """Another role of this organization has this name."""

    code = "role_name_taken"


class RoleFixedError(ConflictError):
    """A built-in role cannot be changed; make a role of your own."""

    code = "role_built_in"


class RoleInUseError(ConflictError):
    """Users still have this role; give them another first."""

    code = "role_in_use"


class LastAdminError(ConflictError):
    """No active user with tenant:admin would be left; give it to another first."""

    code = "last_admin"


class KeyLimitReachedError(ConflictError):
    """The organization has as many active API keys as it may; revoke one first."""

    code = "api_key_limit_reached"


class KeyEndedError(ConflictError):
    """The API key is revoked or expired, and that is final; create a new one."""

    code = "api_key_ended"


class KeyRotatedError(ConflictError):
    """The API key was rotated already; rotate its successor."""

    code = "api_key_rotated"


class KeyRateExceededError(RateLimitedError):
    """The API key has used up its requests of this hour."""

    code = "rate_limited"

    def __init__(self, rate: RateState) -> None:
        message = (
            f"The API key has used up its {rate.limit} requests of this hour; the next begins in {rate.reset_s} s."
        )
        super().__init__(message, retry_after_s=rate.reset_s)
        self.headers: Mapping[str, str] = {name.decode(): value.decode() for name, value in rate.raw_headers()}


class SignInsBusyError(UnavailableError):
    """Too many sign-ins at once; try again in a moment."""

    code = "sign_ins_busy"
