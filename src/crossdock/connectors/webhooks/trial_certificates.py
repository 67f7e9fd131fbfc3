"""Certificates that an installation makes for itself, to try out set-ups whose real senders sign with one.

Whoever has such a certificate's key can forge webhooks of its sender wherever it is trusted.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from crossdock.connectors.webhooks.certificate_signature import CertificateSignature, CertificateSigner
from crossdock.connectors.webhooks.certificates import (
    Authorities,
    CertificateSource,
    SigningCertificate,
    read_certificates,
)
from crossdock.connectors.webhooks.errors import InvalidSettingsError, TrialCertificateError
from crossdock.connectors.webhooks.preset import Preset

_KEY_BITS = 2048
_PUBLIC_EXPONENT = 65537
_LIFE = timedelta(days=3650)
# Machines whose clocks differ a little shall agree that it is valid.
_LEAD = timedelta(days=1)
_AUTHORITY = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Crossdock testing authority")])


def new_trial_identity(method: CertificateSignature, *, now: datetime) -> str:
    """A private key, its certificate and its authority's, in PEM; the authority's own key is thrown away."""
    authority_key, key = _new_key(), _new_key()
    host = urlsplit(method.trial_url).hostname or ""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    authority = (
        _unsigned(_AUTHORITY, authority_key, now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_signs_certificates(), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, SHA256())
    )
    leaf = (
        _unsigned(subject, key, now)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return b"".join((private, leaf.public_bytes(Encoding.PEM), authority.public_bytes(Encoding.PEM))).decode()


def trial_certificate(identity: str) -> SigningCertificate:
    """The certificate of an identity, trusted through its own authority alone."""
    leaf, authority = read_certificates(identity.encode())
    return SigningCertificate(leaf, (), Authorities.of([authority]))


def signing_as(preset: Preset, identity: str) -> Preset:
    """The preset, signing with the key of an identity that `new_trial_identity` made.

    Raises InvalidSettingsError for a preset that is not signed with a certificate, and for another key.
    """
    method = preset.signature
    key = load_pem_private_key(identity.encode(), password=None)
    if not isinstance(method, CertificateSignature) or not isinstance(key, RSAPrivateKey):
        raise InvalidSettingsError(f"The preset {preset.name} does not sign with a certificate of this kind.")
    signature = method.with_signer(CertificateSigner(method.trial_url, key))
    return replace(preset, signature=signature)


class TrialCertificates:
    """A CertificateSource that gives an installation's own certificates where `trusted` has them by their URLs.

    For one that it has not it says so, and asks the other source for all the rest.
    """

    def __init__(
        self, *, others: CertificateSource, trusted: Mapping[str, SigningCertificate], urls: AbstractSet[str]
    ) -> None:
        self._others = others
        self._trusted = trusted
        self._urls = urls

    async def certificate(self, url: str, *, with_issuers: bool) -> SigningCertificate:
        """The certificate at a URL; raises TrialCertificateError, or as the other source does."""
        if url not in self._urls:
            return await self._others.certificate(url, with_issuers=with_issuers)
        if url not in self._trusted:
            raise TrialCertificateError
        return self._trusted[url]


def _new_key() -> RSAPrivateKey:
    return generate_private_key(public_exponent=_PUBLIC_EXPONENT, key_size=_KEY_BITS)


def _unsigned(subject: x509.Name, key: RSAPrivateKey, now: datetime) -> x509.CertificateBuilder:
    return x509.CertificateBuilder(
        issuer_name=_AUTHORITY,
        subject_name=subject,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - _LEAD,
        not_valid_after=now + _LIFE,
    )


def _signs_certificates() -> x509.KeyUsage:
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    never = dict.fromkeys((*names, "encipher_only", "decipher_only"), False)
    return x509.KeyUsage(**never, key_cert_sign=True, crl_sign=True)
