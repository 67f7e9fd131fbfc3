"""Reading what a token endpoint answers."""

import json
import math
import re
from base64 import urlsafe_b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

from crossdock.gateway.errors import GrantRevokedError, TokenFetchError
from crossdock.gateway.headers import retry_after
from crossdock.gateway.interpolation import InterpolationError, check_host
from crossdock.gateway.oauth.settings import AnswerFormat, CapturedValue, Expiry, ExpiryUnit
from crossdock.gateway.transport import OutboundResponse

# Wider than RFC 6750 (some tokens have a "!"), but nothing that could inject a header.
_TOKEN = re.compile(r"[\x21-\x7e]+")
_REFRESH_TOKEN = re.compile(r"[\x20-\x7e]+")  # RFC 6749, appendix A.17
_ERROR_CODE = re.compile(r"[A-Za-z0-9_.\-]{1,64}")
_PASSING_STATUSES = frozenset({408, 425, 429})
_MAX_VALUE_CHARACTERS = 2048
# A shorter token is told from other text only where it stands alone.
_SEARCHED_TOKEN_CHARACTERS = 12
# A lifetime beyond this is a fault or means "for ever"; either way nothing is lost by asking again.
_MAX_LIFETIME = timedelta(days=3650)
_JWT_PARTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenAnswer:
    """What was given out. `expires_at` is None for a token that is good until it is refused."""

    access_token: str = field(repr=False)
    refresh_token: str | None = field(default=None, repr=False)
    expires_at: datetime | None = None
    refresh_expires_at: datetime | None = None
    scope: str | None = None
    values: Mapping[str, str] = field(default_factory=dict)


def read_answer(response: OutboundResponse, wanted: AnswerFormat, *, now: datetime) -> TokenAnswer:
    """The token of an answer.

    Raises GrantRevokedError when the answer says that a person must connect anew, else TokenFetchError.
    An answer of the server's own trouble (5xx) never revokes, whatever it says.
    """
    answer = read_json(response, wanted, now=now)
    token = at(answer, wanted.access_token)
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise TokenFetchError("The token endpoint's answer has no usable access_token.", retryable=False)
    kind = answer.get("token_type", wanted.token_type)
    if wanted.token_type is not None and (not isinstance(kind, str) or kind.lower() != wanted.token_type.lower()):
        raise TokenFetchError(f"The token endpoint's token is not of the type {wanted.token_type}.", retryable=False)
    refresh_token = at(answer, wanted.refresh_token) or None
    if isinstance(refresh_token, str) and not _REFRESH_TOKEN.fullmatch(refresh_token):
        raise TokenFetchError("The token endpoint's answer has no usable refresh_token.", retryable=False)
    scope, values = _scope(at(answer, wanted.scope)), capture(wanted.values, answer)
    refuse_to_show(_tokens(answer, wanted), (*values.values(), scope or ""))
    return TokenAnswer(
        access_token=token,
        refresh_token=refresh_token if isinstance(refresh_token, str) else None,
        expires_at=_ends_at(answer, wanted.expiry, now, lifetime_s=wanted.lifetime_s),
        refresh_expires_at=_ends_at(answer, wanted.refresh_expiry, now, lifetime_s=None),
        scope=scope,
        values=values,
    )


def refuse_to_show(tokens: Sequence[str], texts: Sequence[str]) -> None:
    """Raise TokenFetchError where what is kept in clear, and shown, holds a token."""
    if any(_holds(text, token) for token in tokens for text in texts):
        raise TokenFetchError(
            "The settings would keep a token as a value, where everybody sees it: mend their paths.", retryable=False
        )


def read_lookup(response: OutboundResponse, wanted: Mapping[str, CapturedValue], *, now: datetime) -> dict[str, str]:
    """The values to keep of a lookup's answer, whatever JSON it is. Raises TokenFetchError."""
    if response.status != HTTPStatus.OK or response.truncated:
        wait = response.header("Retry-After")
        raise TokenFetchError(
            f"The provider answered {response.status} when asked what the connection belongs to.",
            retryable=_passes(response.status),
            retry_after_s=retry_after(wait, now) if wait else None,
        )
    return capture(wanted, _json(response.body))


def read_json(response: OutboundResponse, wanted: AnswerFormat, *, now: datetime) -> dict[str, Any]:
    """The object that a good answer holds; raises as `read_answer` for one that is an error, even with status 200."""
    answer = {} if response.truncated else _json_object(response.body)
    code = _error_code(answer, wanted)
    if not HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES or code is not None:
        said = None if code in _tokens(answer, wanted) else code
        raise _refusal(response, said, wanted, now=now)
    return answer


def at(answer: Any, path: str) -> Any:  # noqa: ANN401 - any JSON value
    """The value at a path such as `authed_user.access_token` or `accounts.0.id`; None where there is none."""
    for step in path.split("."):
        if isinstance(answer, dict):
            answer = answer.get(step)
        elif isinstance(answer, list) and step.isascii() and step.isdigit() and int(step) < len(answer):
            answer = answer[int(step)]
        else:
            return None
    return answer


def capture(wanted: Mapping[str, CapturedValue], answer: Any) -> dict[str, str]:  # noqa: ANN401 - any JSON value
    """The values to keep, as text. Raises TokenFetchError for one that is missing, or not of the provider's hosts."""
    kept: dict[str, str] = {}
    for name, value in wanted.items():
        found = as_text(at(answer, value.path)) or value.default
        if found is None:
            if value.required:
                raise TokenFetchError(f"The provider did not say {value.path}, which is needed.", retryable=False)
            continue
        if value.hosts:
            _check_hosts(found, value)
        kept[name] = found
    return kept


def as_text(value: object) -> str | None:
    """A scalar as text, bounded; None for all else."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | str):
        text = str(value)
        return text if 0 < len(text) <= _MAX_VALUE_CHARACTERS and text.isprintable() else None
    return None


def _check_hosts(found: str, value: CapturedValue) -> None:
    try:
        check_host(found if "://" in found else f"https://{found}/", value.hosts)
    except InterpolationError as error:
        raise TokenFetchError(f"What the provider sent as {value.path}: {error.message}", retryable=False) from None


def _tokens(answer: Mapping[str, Any], wanted: AnswerFormat) -> tuple[str, ...]:
    found = (at(answer, wanted.access_token), at(answer, wanted.refresh_token))
    return tuple(token for token in found if isinstance(token, str) and token)


def _holds(text: str, token: str) -> bool:
    return text == token or (len(token) >= _SEARCHED_TOKEN_CHARACTERS and token in text)


def _error_code(answer: Mapping[str, Any], wanted: AnswerFormat) -> str | None:
    for path in wanted.error:
        code = at(answer, path)
        if isinstance(code, str | int) and not isinstance(code, bool) and code:
            return str(code)
    return None


def _refusal(response: OutboundResponse, code: str | None, wanted: AnswerFormat, *, now: datetime) -> TokenFetchError:
    # Only the code is quoted, and only a plain one: a description may repeat what was sent.
    named = f" ({code})" if code is not None and _ERROR_CODE.fullmatch(code) else ""
    message = f"The token endpoint answered {response.status}{named}."
    passing = _passes(response.status)
    if not passing and code in wanted.revoked_errors:
        return GrantRevokedError(f"{message} The permission is gone or has run out: connect anew.")
    wait = response.header("Retry-After")
    return TokenFetchError(
        message,
        retryable=passing or code in wanted.passing_errors,
        retry_after_s=retry_after(wait, now) if wait else None,
    )


def _scope(value: object) -> str | None:
    if isinstance(value, list):
        value = " ".join(str(item) for item in value)
    if not isinstance(value, str) or not value or not value.isprintable():
        return None
    return value[:_MAX_VALUE_CHARACTERS]


def _ends_at(
    answer: Mapping[str, Any], places: Sequence[Expiry], now: datetime, *, lifetime_s: float | None
) -> datetime | None:
    for place in places:
        ends = _instant(at(answer, place.path), place.unit, now)
        if ends is not None:
            return min(max(ends, now), now + _MAX_LIFETIME)
    return None if lifetime_s is None else now + min(timedelta(seconds=lifetime_s), _MAX_LIFETIME)


def _instant(value: object, unit: ExpiryUnit, now: datetime) -> datetime | None:
    if unit is ExpiryUnit.INSTANT:
        return _rfc3339(value)
    if unit is ExpiryUnit.JWT:
        value, unit = _jwt_expiry(value), ExpiryUnit.EPOCH_SECONDS
    number = _number(value)
    if number is None:
        return None
    if unit in {ExpiryUnit.MILLISECONDS, ExpiryUnit.EPOCH_MILLISECONDS}:
        number /= 1000
    start = now if unit in {ExpiryUnit.SECONDS, ExpiryUnit.MILLISECONDS} else datetime.fromtimestamp(0, tz=UTC)
    try:
        return start + timedelta(seconds=number)
    except OverflowError:
        return now + _MAX_LIFETIME if number > 0 else now


def _number(value: object) -> float | None:
    """A number, which some servers send as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _rfc3339(value: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    if moment is None:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _jwt_expiry(token: object) -> object:
    """The `exp` claim, unverified: it only says when to ask for the next token."""
    parts = token.split(".") if isinstance(token, str) else []
    if len(parts) != _JWT_PARTS:
        return None
    try:
        claims = json.loads(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, Base64Error, RecursionError):
        return None
    return claims.get("exp") if isinstance(claims, dict) else None


def _passes(status: int) -> bool:
    return status in _PASSING_STATUSES or status >= HTTPStatus.INTERNAL_SERVER_ERROR


def _json_object(body: bytes) -> dict[str, Any]:
    answer = _json(body)
    return answer if isinstance(answer, dict) else {}


def _json(body: bytes) -> Any:  # noqa: ANN401 - any JSON value
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
