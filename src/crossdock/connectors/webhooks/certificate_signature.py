"""What signatures have in common that are made with the key of a certificate, which the webhook names by its URL."""

import binascii
from abc import ABC, abstractmethod
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import ClassVar, Self

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import HashAlgorithm

from crossdock.connectors.webhooks.certificates import SigningCertificate
from crossdock.connectors.webhooks.errors import (
    CertificateUnavailableError,
    InvalidSettingsError,
    MalformedSignatureError,
)
from crossdock.connectors.webhooks.request import InboundRequest
from crossdock.connectors.webhooks.signature import Verified


@dataclass(frozen=True, slots=True)
class CertificateSigner:
    """A certificate's private key, and the URL under which the certificate is found."""

    url: str
    key: RSAPrivateKey = field(repr=False)

    def sign(self, content: bytes, algorithm: HashAlgorithm) -> str:
        """The signature in base64 (RSA, PKCS #1 v1.5)."""
        return b64encode(self.key.sign(content, PKCS1v15(), algorithm)).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateSignature(ABC):
    """A signature to check with the certificate at `certificate_url`, given by `with_certificate`.

    To sign, it needs a signer. `trial_url` is the place of the certificate that an installation makes
    for testing a set-up: one that passes for the sender's own, and where the sender has nothing.
    """

    certificate: SigningCertificate | None = field(default=None, repr=False)
    signer: CertificateSigner | None = field(default=None, repr=False)

    trial_url: ClassVar[str]
    # Whether the issuers matter, or the place where the certificate was found is proof enough.
    needs_issuers: ClassVar[bool]

    @property
    @abstractmethod
    def needs_secret(self) -> bool:
        """Whether an endpoint must have a secret."""

    @abstractmethod
    def check_secret(self, secret: str, *, pointer: str = "") -> None:
        """Raise InvalidSettingsError, at `pointer`, for text that cannot be a secret of this method."""

    @abstractmethod
    def new_secret(self) -> str:
        """A fresh random secret, written as this method wants it."""

    @abstractmethod
    def certificate_url(self, request: InboundRequest) -> str:
        """Where the certificate is; raises the WebhookRefusedError of a place that is not the sender's own."""

    @abstractmethod
    def verify(
        self, request: InboundRequest, *, secrets: Sequence[str], now: datetime, tolerance_s: int | None = None
    ) -> Verified:
        """Accept a request that the certificate's key signed; raise a WebhookRefusedError otherwise."""

    @abstractmethod
    def sign(self, request: InboundRequest, *, secrets: Sequence[str], now: datetime) -> InboundRequest:
        """The request as a sender with the signer's certificate would send it."""

    def with_certificate(self, certificate: SigningCertificate) -> Self:
        """The same, checking with this certificate."""
        return replace(self, certificate=certificate)

    def with_signer(self, signer: CertificateSigner) -> Self:
        """The same, signing with this key."""
        return replace(self, signer=signer)

    def known_certificate(self) -> SigningCertificate:
        """The certificate to check with; raises CertificateUnavailableError before there is one."""
        if self.certificate is None:
            raise CertificateUnavailableError("The sender's certificate is needed, and was not fetched.")
        return self.certificate

    def known_signer(self) -> CertificateSigner:
        """What to sign with; raises InvalidSettingsError without it."""
        if self.signer is None:
            raise InvalidSettingsError(
                "These webhooks are signed with a certificate's key; there is none to sign with."
            )
        return self.signer


def decoded_signature(text: str, place: str) -> bytes:
    """The signature's bytes; raises MalformedSignatureError, which names the place, for what is not base64."""
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise MalformedSignatureError(f"The {place} should hold an RSA signature in base64.") from None
