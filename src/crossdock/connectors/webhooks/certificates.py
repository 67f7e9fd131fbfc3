"""X.509 certificates that senders sign webhooks with: reading them, trusting them, and where they come from."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import HashAlgorithm
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from crossdock.connectors.webhooks.errors import MalformedSignatureError, WrongCertificateError

_LEAST_RSA_BITS = 2048
# A leaf, its issuers and room to spare; more would only keep us busy.
_MOST_CERTIFICATES = 10
_HTTPS = re.compile(r"https://(?P<host>[a-z0-9.-]{1,253})(?::443)?(?P<path>/[A-Za-z0-9._~/-]{1,400})", re.ASCII)


class CertificateSource(Protocol):
    """Gets certificates."""

    async def certificate(self, url: str, *, with_issuers: bool) -> "SigningCertificate":
        """The certificate that stands at a URL, which the caller has checked.

        `with_issuers` gets the issuers that did not come with it as well. Raises WrongCertificateError
        when no certificate stands there, CertificateUnavailableError when that cannot be known now.
        """
        ...


@dataclass(frozen=True, slots=True)
class Authorities:
    """Those whose word for a certificate is believed."""

    roots: tuple[x509.Certificate, ...] = field(repr=False)
    # None for none at all, which the library's store cannot say.
    store: Store | None = field(repr=False)

    @classmethod
    def of(cls, roots: Iterable[x509.Certificate]) -> Self:
        """These and no others."""
        kept = tuple(roots)
        return cls(kept, Store(list(kept)) if kept else None)

    def have(self, subject: x509.Name) -> bool:
        """Whether one of them has this name."""
        return any(root.subject == subject for root in self.roots)


@dataclass(frozen=True, slots=True)
class SigningCertificate:
    """A sender's certificate, the issuers known of it, and the authorities to trust it through."""

    leaf: x509.Certificate
    issuers: tuple[x509.Certificate, ...]
    authorities: Authorities

    def check_dates(self, now: datetime) -> None:
        """Raise WrongCertificateError outside the time that the certificate is valid for."""
        begins, ends = self.leaf.not_valid_before_utc, self.leaf.not_valid_after_utc
        if now < begins:
            raise WrongCertificateError(f"The sender's certificate is valid from {begins:%Y-%m-%d} only.")
        if now > ends:
            raise WrongCertificateError(f"The sender's certificate was valid until {ends:%Y-%m-%d}.")

    def check_name(self, pattern: re.Pattern[str]) -> str:
        """The certificate's common name in lower case; raises WrongCertificateError for one that does not fit."""
        names = self.leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        name = str(names[0].value).lower() if len(names) == 1 else ""
        if not pattern.fullmatch(name):
            raise WrongCertificateError(f"The certificate is made out to {name[:100]!r}, which is not the sender.")
        return name

    def check_chain(self, now: datetime, name: str) -> None:
        """Raise WrongCertificateError unless a trusted authority vouches for it as the server `name` (RFC 5280)."""
        if self.authorities.store is None:
            raise WrongCertificateError("This machine trusts no authorities that could vouch for the certificate.")
        verifier = PolicyBuilder().store(self.authorities.store).time(now).build_server_verifier(x509.DNSName(name))
        try:
            verifier.verify(self.leaf, list(self.issuers))
        except VerificationError as error:
            raise WrongCertificateError(f"No trusted authority vouches for the certificate: {error}.") from None

    def signed(self, signature: bytes, content: bytes, algorithm: HashAlgorithm) -> bool:
        """Whether the certificate's key made this signature (RSA, PKCS #1 v1.5).

        Raises WrongCertificateError for a key of another kind, MalformedSignatureError for a signature
        that is not as long as the key.
        """
        key = self.leaf.public_key()
        if not isinstance(key, RSAPublicKey) or key.key_size < _LEAST_RSA_BITS:
            raise WrongCertificateError(f"The certificate's key is not RSA of {_LEAST_RSA_BITS} bits or more.")
        if len(signature) * 8 != key.key_size:
            raise MalformedSignatureError(f"The signature should be {key.key_size // 8} bytes in base64.")
        try:
            key.verify(signature, content, PKCS1v15(), algorithm)
        except InvalidSignature:
            return False
        return True


def read_certificates(encoded: bytes) -> list[x509.Certificate]:
    """The certificates of a file, PEM or DER; raises WrongCertificateError when it holds none that can be read."""
    try:
        if b"-----BEGIN" in encoded:
            found = x509.load_pem_x509_certificates(encoded)
        else:
            found = [x509.load_der_x509_certificate(encoded)]
    except ValueError:
        raise WrongCertificateError("What stands at the certificate's URL is no certificate.") from None
    if len(found) > _MOST_CERTIFICATES:
        raise WrongCertificateError(f"More than {_MOST_CERTIFICATES} certificates stand at the certificate's URL.")
    return found


def issuer_url(certificate: x509.Certificate) -> str | None:
    """Where the certificate says that its issuer's own certificate is (RFC 5280, 4.2.2.1); None if nowhere."""
    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except (x509.ExtensionNotFound, ValueError):
        return None
    urls = (
        one.access_location.value
        for one in access
        if one.access_method == AuthorityInformationAccessOID.CA_ISSUERS
        and isinstance(one.access_location, x509.UniformResourceIdentifier)
    )
    return next((url for url in urls if url.startswith(("http://", "https://"))), None)


def issuer_of(certificate: x509.Certificate, candidates: Sequence[x509.Certificate]) -> x509.Certificate | None:
    """Whichever of the candidates has the issuer's name."""
    return next((one for one in candidates if one.subject == certificate.issuer), None)


def check_certificate_url(url: str, *, host: re.Pattern[str], path: re.Pattern[str], sender: str) -> str:
    """The URL, if it is one of the sender's own, so that fetching it can do no harm.

    Over HTTPS at the standard port, with neither credentials nor query. Raises WrongCertificateError.
    """
    found = _HTTPS.fullmatch(url)
    if found is None or not host.fullmatch(found["host"]) or not path.fullmatch(found["path"]):
        raise WrongCertificateError(f"The certificate's URL {url[:200]!r} is not one of {sender}'s.")
    return url
