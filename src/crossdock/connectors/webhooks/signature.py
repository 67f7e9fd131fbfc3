"""What every way of proving a webhook's sender has in common."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hmac import compare_digest
from typing import Protocol

from crossdock.connectors.webhooks.errors import MissingSecretError, WrongSignatureError
from crossdock.connectors.webhooks.request import InboundRequest

# A sender with more active keys than this is not known; more is an attempt to keep us busy.
MAX_SIGNATURES = 100


@dataclass(frozen=True, slots=True)
class Verified:
    """A request that is proven: by which of the secrets (from 0), and when it was signed, where known."""

    secret_index: int | None = None
    timestamp: datetime | None = None


class SignatureMethod(Protocol):
    """One way of signing requests, both sides of it."""

    @property
    def needs_secret(self) -> bool:
        """Whether an endpoint must have a secret."""
        ...

    def check_secret(self, secret: str, *, pointer: str = "") -> None:
        """Raise InvalidSettingsError, at `pointer`, for text that cannot be a secret of this method."""
        ...

    def new_secret(self) -> str:
        """A fresh random secret, written as this method wants it."""
        ...

    def verify(
        self, request: InboundRequest, *, secrets: Sequence[str], now: datetime, tolerance_s: int | None = None
    ) -> Verified:
        """Accept a request that any of the secrets signed; raise a WebhookRefusedError otherwise."""
        ...

    def sign(self, request: InboundRequest, *, secrets: Sequence[str], now: datetime) -> InboundRequest:
        """The request as a sender with these secrets would send it."""
        ...


def first_match(expected: Sequence[bytes], given: Sequence[bytes]) -> int:
    """Which of the expected signatures is among those given; raises WrongSignatureError for none.

    Compares every pair, each in constant time, so that the time tells nothing.
    """
    found = -1
    for index, wanted in enumerate(expected):
        for signature in given:
            if compare_digest(wanted, signature) and found < 0:
                found = index
    if found < 0:
        raise WrongSignatureError
    return found


def require_secrets(secrets: Sequence[str]) -> None:
    """Raise MissingSecretError without a secret or with an empty one: anybody could sign with that."""
    if not secrets or not all(secrets):
        raise MissingSecretError


class ReadsBody:
    """Marks the ways whose proof stands inside the body: they get it as it is read for processing, decompressed.

    What is proven would otherwise be one text, and what is processed another.
    """

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class SecretFree:
    """What the ways have in common that use no secret."""

    needs_secret: bool = field(default=False, init=False)

    def check_secret(self, secret: str, *, pointer: str = "") -> None:
        """Any text will do: it is never used."""

    def new_secret(self) -> str:
        """The empty text."""
        return ""


@dataclass(frozen=True, slots=True)
class Unsigned(SecretFree):
    """No signature at all: whoever knows the endpoint's URL is believed."""

    def verify(
        self,
        request: InboundRequest,  # noqa: ARG002 - the protocol's
        *,
        secrets: Sequence[str],  # noqa: ARG002 - the protocol's
        now: datetime,  # noqa: ARG002 - the protocol's
        tolerance_s: int | None = None,  # noqa: ARG002 - the protocol's
    ) -> Verified:
        """Accept."""
        return Verified()

    def sign(
        self,
        request: InboundRequest,
        *,
        secrets: Sequence[str],  # noqa: ARG002 - the protocol's
        now: datetime,  # noqa: ARG002 - the protocol's
    ) -> InboundRequest:
        """The request as it is."""
        return request
