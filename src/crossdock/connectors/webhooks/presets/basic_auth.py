"""Any sender that knows a user and a password: HTTP Basic authentication (RFC 7617), in UTF-8.

The endpoint's secret is `user:password`. A refusal asks for them, since some senders only then send
them. Settings: those of event_settings.py.
"""

import binascii
import unicodedata
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from crossdock.connectors.webhooks.errors import MalformedSignatureError, MissingSignatureError
from crossdock.connectors.webhooks.event_settings import EventSettings, with_events
from crossdock.connectors.webhooks.preset import Configured, Preset
from crossdock.connectors.webhooks.request import InboundRequest
from crossdock.connectors.webhooks.scheme import invalid_secret
from crossdock.connectors.webhooks.shared_tokens import SHORTEST, matching, new_token
from crossdock.connectors.webhooks.signature import Verified, require_secrets

_HEADER = "Authorization"
_SCHEME = "Basic"
_USER = "crossdock"


@dataclass(frozen=True, slots=True)
class BasicCredentials:
    """User and password in the header Authorization."""

    needs_secret: bool = True

    def check_secret(self, secret: str, *, pointer: str = "") -> None:
        """Raise InvalidSettingsError unless it is `user:password`, the password of 16 characters at least."""
        user, colon, password = secret.partition(":")
        if not user or not colon:
            raise invalid_secret("The secret is not written user:password.", pointer)
        if len(password) < SHORTEST:
            raise invalid_secret(
                f"The password is shorter than {SHORTEST} characters, which could be guessed.", pointer
            )
        if not secret.isprintable():
            raise invalid_secret("User and password may not hold control characters.", pointer)

    def new_secret(self) -> str:
        """The user `crossdock` and a fresh random password of 43 characters."""
        return f"{_USER}:{new_token()}"

    def verify(
        self,
        request: InboundRequest,
        *,
        secrets: Sequence[str],
        now: datetime,  # noqa: ARG002 - no time is signed
        tolerance_s: int | None = None,  # noqa: ARG002 - no time is signed
    ) -> Verified:
        """Accept a request with any of the users and passwords; raise a WebhookRefusedError otherwise."""
        require_secrets(secrets)
        return Verified(matching(_given(request), [_normal(secret) for secret in secrets]))

    def sign(
        self,
        request: InboundRequest,
        *,
        secrets: Sequence[str],
        now: datetime,  # noqa: ARG002 - no time is signed
    ) -> InboundRequest:
        """The request with the first user and password."""
        self.check_secret(secrets[0])
        written = f"{_SCHEME} {b64encode(_normal(secrets[0]).encode()).decode()}"
        return replace(request, headers=request.headers.replaced([(_HEADER, written)]))


def _given(request: InboundRequest) -> str:
    values = request.headers.all(_HEADER)
    if not any(values):
        raise MissingSignatureError(f"The webhook has no header {_HEADER}.")
    scheme, _, written = values[0].partition(" ")
    if len(values) > 1 or scheme.lower() != _SCHEME.lower():
        raise MalformedSignatureError(f"The header {_HEADER} should come once, with {_SCHEME} and user:password.")
    try:
        given = b64decode(written.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        raise MalformedSignatureError(f"The header {_HEADER} does not hold user:password as base64 of UTF-8.") from None
    if ":" not in given:
        raise MalformedSignatureError(f"The header {_HEADER} holds no colon between user and password.")
    return _normal(given)


def _normal(text: str) -> str:
    """Letters with accents as single characters, as RFC 7617 wants for UTF-8."""
    return unicodedata.normalize("NFC", text)


def _configure(settings: EventSettings) -> Preset:
    return with_events(BASIC_AUTH, settings)


BASIC_AUTH = Preset(
    name="basic_auth",
    title="Basic authentication",
    how_to="Let the sender use HTTP Basic authentication; the secret is user:password, what stands before : the user.",
    signature=BasicCredentials(),
    challenge='Basic realm="webhooks", charset="UTF-8"',
    secret_headers=frozenset({_HEADER.lower()}),
    configured=Configured(EventSettings, _configure),
)
