"""Signed assertions (RFC 7523): the client's proof of itself, and the grant of type JWT bearer."""

import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from crossdock.gateway.errors import TokenFetchError
from crossdock.gateway.interpolation import fill
from crossdock.gateway.oauth.grants import OAuthClient
from crossdock.gateway.oauth.settings import JwtFormat

CLIENT_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
JWT_BEARER_GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"

# Clocks differ: an assertion from the future would be refused.
_SKEW = timedelta(seconds=5)


def signed_assertion(
    wanted: JwtFormat, client: OAuthClient, *, variables: Mapping[str, str], audience: str, now: datetime
) -> str:
    """A JWT signed with the client's key; `audience` is the token URL unless the settings say another.

    Raises TokenFetchError for a key that cannot sign so, InterpolationError for a claim that cannot be filled.
    """
    import jwt  # noqa: PLC0415 - most installations never sign one
    from jwt.exceptions import PyJWTError  # noqa: PLC0415 - as above

    headers: dict[str, Any] = {}
    if client.key_id:
        headers["kid"] = client.key_id
    if wanted.certificate_thumbprint:
        headers["x5t#S256"] = client.certificate_thumbprint()
    issued_at = now - _SKEW
    claims = {name: fill(text, variables) for name, text in wanted.claims.items()} | {
        "iss": fill(wanted.issuer, variables),
        "sub": fill(wanted.subject, variables),
        "aud": fill(wanted.audience, variables) if wanted.audience else audience,
        "iat": int(issued_at.timestamp()),
        "exp": int((issued_at + timedelta(seconds=wanted.lifetime_s)).timestamp()),
        "jti": secrets.token_urlsafe(16),
    }
    try:
        return jwt.encode(claims, client.private_key_pem or "", algorithm=wanted.algorithm, headers=headers)
    except (PyJWTError, ValueError, TypeError):  # the cause may quote the key
        raise TokenFetchError(
            f"The client's private key cannot sign with {wanted.algorithm}; give an unencrypted key in PEM that can.",
            retryable=False,
        ) from None
