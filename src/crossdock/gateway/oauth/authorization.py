"""Sending a person to the authorization server, and reading what the browser brings back."""

import hashlib
import hmac
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar
from urllib.parse import quote, urlencode, urlsplit

from crossdock.gateway.interpolation import fill, fill_url
from crossdock.gateway.oauth.answers import capture
from crossdock.gateway.oauth.grants import TokenGrant
from crossdock.gateway.oauth.settings import Grant, OAuthSettings
from crossdock.kit.errors import ConflictError, CrossdockError

_VERIFIER_BYTES = 48
_ERROR_CODE = re.compile(r"[A-Za-z0-9_.\-]{1,64}")
_MAX_CODE_CHARACTERS = 4096


class AuthorizationRefusedError(CrossdockError):
    """The authorization server gave no permission."""

    code = "authorization_refused"
    status: ClassVar[int] = 400


class NoAuthorizationStepError(ConflictError):
    """The provider asks nobody for permission: there is no authorization step to start."""

    code = "no_authorization_step"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationRequest:
    """Where to send the browser, and the PKCE secret (RFC 7636) that must come along with the code."""

    url: str
    code_verifier: str | None = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect:
    """What the browser brought back."""

    code: str = field(repr=False)
    values: Mapping[str, str]


def authorization_request(grant: TokenGrant, *, redirect_uri: str, state: str) -> AuthorizationRequest:
    """The authorization server's page for this grant (RFC 6749 section 4.1.1, with PKCE S256).

    Raises NoAuthorizationStepError, and InterpolationError for a URL that cannot be filled.
    """
    settings = grant.settings
    if settings.grant is not Grant.AUTHORIZATION_CODE or settings.authorize_url is None:
        raise NoAuthorizationStepError
    # All of it is seen by the browser and whoever looks at it: no secret goes there.
    filling = {name: value for name, value in grant.filling().items() if not name.startswith("credentials.")}
    parameters = {name: fill(text, filling) for name, text in settings.authorize_parameters.items()}
    parameters |= {
        "response_type": "code",
        "client_id": grant.client.id,
        "redirect_uri": redirect_uri,
        "state": state,
    }
    if settings.scopes:
        parameters["scope"] = settings.scope_separator.join(settings.scopes)
    verifier = secrets.token_urlsafe(_VERIFIER_BYTES) if settings.pkce else None
    if verifier is not None:
        parameters |= {"code_challenge": code_challenge(verifier), "code_challenge_method": "S256"}
    base = fill_url(settings.authorize_url, filling, hosts=settings.hosts)
    # Spaces as %20: not every authorization server reads "+" as one.
    query = urlencode(parameters, quote_via=quote)
    return AuthorizationRequest(url=f"{base}{'&' if urlsplit(base).query else '?'}{query}", code_verifier=verifier)


def code_challenge(verifier: str) -> str:
    """The S256 challenge of a verifier (RFC 7636 section 4.2)."""
    return urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def read_redirect(settings: OAuthSettings, query: Mapping[str, Sequence[str]]) -> Redirect:
    """The code and the values to keep of a redirect whose state was good.

    Raises AuthorizationRefusedError for an error or what cannot be one, TokenFetchError for a value that
    is missing or names a host that is none of the provider's.
    """
    single = {name: values[0] for name, values in query.items() if len(values) == 1}
    _check_issuer(settings, query.get("iss", ()))
    if "error" in query:
        code = single.get("error", "")
        named = f" ({code})" if _ERROR_CODE.fullmatch(code) else ""
        raise AuthorizationRefusedError(f"The provider gave no permission{named}. Start anew.")
    code = single.get(settings.code_parameter, "")
    if not code or len(code) > _MAX_CODE_CHARACTERS:
        raise AuthorizationRefusedError("The provider sent no code along. Start anew.")
    return Redirect(code=code, values=capture(settings.redirect_values, single))


def _check_issuer(settings: OAuthSettings, named: Sequence[str]) -> None:
    """Raise AuthorizationRefusedError for an answer of another server than the settings' issuer (RFC 9207).

    One that names no server is not that of a server which names itself: whoever gives an `issuer` says that it does.
    """
    if settings.issuer is None:
        return
    if not named:
        raise AuthorizationRefusedError(
            f"The answer does not say that it comes from {settings.issuer} (no `iss`). Start anew; if the provider "
            "never says it, take `issuer` out of the settings."
        )
    if len(named) != 1 or not hmac.compare_digest(named[0].encode(), settings.issuer.encode()):
        raise AuthorizationRefusedError(
            f"The answer came from another authorization server than {settings.issuer}, which was asked. Start anew."
        )
