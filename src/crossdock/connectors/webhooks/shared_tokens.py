"""Senders that sign nothing and repeat a shared secret in every request, in a header or in the body.

Whoever reads one such request can make others. So the secret is never part of the document that is
mapped and published, and headers that hold one are never stored.
"""

import secrets as random_secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeAlias

import msgspec

from crossdock.connectors.webhooks.bodies import BodyLimits, parse_body
from crossdock.connectors.webhooks.errors import (
    InvalidBodyError,
    MalformedSignatureError,
    MissingSignatureError,
    UnsupportedBodyError,
    WrongSignatureError,
)
from crossdock.connectors.webhooks.request import InboundRequest
from crossdock.connectors.webhooks.scheme import invalid_secret
from crossdock.connectors.webhooks.signature import ReadsBody, Verified, first_match, require_secrets
from crossdock.mapping.json_values import JsonValue

SHORTEST = 16
_LONGEST = 1_000
_NEW_BYTES = 32
# Such senders send JSON; anybody may send elements or fields by the hundred thousand to be read before he is refused.
_LIMITS = BodyLimits(max_parts=10_000)

# From a document to what stands, or should stand, in each of the places for the secret.
Tokens: TypeAlias = Callable[[JsonValue], Sequence[JsonValue]]
# From a document and a secret to the document with the secret in its places.
Written: TypeAlias = Callable[[JsonValue, str], JsonValue]


def new_token() -> str:
    """A random text of 43 characters that may stand in any header, URL or body."""
    return random_secrets.token_urlsafe(_NEW_BYTES)


def check_token(secret: str, *, longest: int, pointer: str) -> None:
    """Raise InvalidSettingsError for a secret that is easily guessed, or that does not come through as it is."""
    if len(secret) < SHORTEST:
        raise invalid_secret(f"The secret is shorter than {SHORTEST} characters, which could be guessed.", pointer)
    if len(secret) > longest:
        raise invalid_secret(f"The secret is longer than the {longest} characters that the sender keeps.", pointer)
    if not (secret.isascii() and secret.isprintable()) or secret != secret.strip():
        raise invalid_secret("The secret may hold printable ASCII alone, and no blank at either end.", pointer)


def matching(given: str, secrets: Sequence[str]) -> int:
    """Which of the secrets this is, each compared in constant time; raises WrongSignatureError for none."""
    try:
        return first_match([secret.encode() for secret in secrets], [given.encode()])
    except WrongSignatureError:
        raise WrongSignatureError("The secret that came with the webhook is none of the endpoint's.") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderToken:
    """The secret stands in a header, behind a prefix whose case does not matter."""

    header: str
    prefix: str = ""
    longest: int = _LONGEST
    needs_secret: bool = True

    def check_secret(self, secret: str, *, pointer: str = "") -> None:
        """Raise InvalidSettingsError for a secret that is too short, too long, or changed by a header."""
        check_token(secret, longest=self.longest, pointer=pointer)

    def new_secret(self) -> str:
        """A fresh random secret of 43 characters."""
        return new_token()

    def verify(
        self,
        request: InboundRequest,
        *,
        secrets: Sequence[str],
        now: datetime,  # noqa: ARG002 - no time is signed
        tolerance_s: int | None = None,  # noqa: ARG002 - no time is signed
    ) -> Verified:
        """Accept a request whose header holds one of the secrets; raise a WebhookRefusedError otherwise."""
        require_secrets(secrets)
        values = request.headers.all(self.header)
        if not any(values):
            raise MissingSignatureError(f"The webhook has no header {self.header}.")
        if len(values) > 1:
            raise MalformedSignatureError(f"The header {self.header} comes more than once.")
        prefix, given = values[0][: len(self.prefix)], values[0][len(self.prefix) :]
        if prefix.lower() != self.prefix.lower() or not given:
            raise MalformedSignatureError(f"The header {self.header} should hold {self.prefix!r} and then the secret.")
        return Verified(matching(given, secrets))

    def sign(
        self,
        request: InboundRequest,
        *,
        secrets: Sequence[str],
        now: datetime,  # noqa: ARG002 - no time is signed
    ) -> InboundRequest:
        """The request with the first secret in its header."""
        self.check_secret(secrets[0])
        return replace(request, headers=request.headers.replaced([(self.header, self.prefix + secrets[0])]))


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyToken(ReadsBody):
    """The secret stands in the body, in one place or in several; `name` is what the sender calls it."""

    name: str
    tokens: Tokens
    written: Written
    longest: int
    needs_secret: bool = True

    def check_secret(self, secret: str, *, pointer: str = "") -> None:
        """Raise InvalidSettingsError for a secret that is too short, or longer than the sender keeps."""
        check_token(secret, longest=self.longest, pointer=pointer)

    def new_secret(self) -> str:
        """A fresh random secret of 43 characters."""
        return new_token()

    def verify(
        self,
        request: InboundRequest,
        *,
        secrets: Sequence[str],
        now: datetime,  # noqa: ARG002 - no time is signed
        tolerance_s: int | None = None,  # noqa: ARG002 - no time is signed
    ) -> Verified:
        """Accept a body with one of the secrets in every place; the index is that of the oldest one used."""
        require_secrets(secrets)
        try:
            document = parse_body(request.body, request.headers.get("content-type"), limits=_LIMITS).document
        except (InvalidBodyError, UnsupportedBodyError) as error:
            raise MalformedSignatureError(f"The body, which should hold {self.name}: {error.message}") from None
        tokens = self.tokens(document)
        if not tokens or not all(tokens):
            raise MissingSignatureError(f"The webhook has no {self.name} in its body, or not in every entry.")
        texts = [token for token in tokens if isinstance(token, str)]
        if len(texts) < len(tokens):
            raise MalformedSignatureError(f"{self.name} in the webhook's body is not a text.")
        return Verified(max(matching(text, secrets) for text in texts))

    def sign(
        self,
        request: InboundRequest,
        *,
        secrets: Sequence[str],
        now: datetime,  # noqa: ARG002 - no time is signed
    ) -> InboundRequest:
        """The request with the first secret in every place; raises InvalidBodyError for a body without them."""
        self.check_secret(secrets[0])
        document = parse_body(request.body, request.headers.get("content-type")).document
        tokens = self.tokens(document)
        if tokens and all(token == secrets[0] for token in tokens):
            return request
        return replace(request, body=msgspec.json.encode(self.written(document, secrets[0])))
