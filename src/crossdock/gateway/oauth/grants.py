"""All that decides which token is issued."""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from crossdock.gateway.errors import TokenFetchError
from crossdock.gateway.oauth.settings import OAuthSettings
from crossdock.gateway.transport import TlsIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthClient:
    """The application that asks: its id, and its secret or key (PEM, unencrypted) with the key's name there."""

    id: str
    secret: str | None = field(default=None, repr=False)
    private_key_pem: str | None = field(default=None, repr=False)
    key_id: str | None = None
    certificate_pem: str | None = None

    def certificate_thumbprint(self) -> str:
        """The certificate's SHA-256 in base64url (`x5t#S256`, RFC 7515). Raises TokenFetchError without one."""
        try:
            certificate = x509.load_pem_x509_certificate((self.certificate_pem or "").encode())
        except ValueError:
            raise TokenFetchError(
                "The client needs a certificate in PEM for its assertions.", retryable=False
            ) from None
        digest = hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenGrant:
    """Who asks whom for what; equal grants get equal tokens.

    `variables` fill the settings' `{{ … }}`: pairs such as `("config.region", "eu")`. `parameters` go into
    the body of every token request as they are.
    """

    settings: OAuthSettings
    client: OAuthClient
    variables: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    parameters: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    tls: TlsIdentity | None = None

    def filling(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """What may be filled in, by name."""
        return {**dict(self.variables), "client.id": self.client.id, **(more or {})}
