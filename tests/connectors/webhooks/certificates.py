"""Certificates as webhooks' senders have them, made for a test, and a source that serves them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from crossdock.connectors.webhooks import Preset, preset_for
from crossdock.connectors.webhooks.certificate_signature import CertificateSignature, CertificateSigner
from crossdock.connectors.webhooks.certificates import Authorities, SigningCertificate
from tests.connectors.webhooks.bodies import SNS_CERTIFICATE_URL, SNS_TOPIC

YEAR = timedelta(days=365)


@cache
def rsa_key(number: int = 0, *, bits: int = 2048) -> rsa.RSAPrivateKey:
    """A key; the same for the same number, since making one takes a while."""
    assert number >= 0
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


@dataclass(frozen=True)
class Issuer:
    """An authority, or one that an authority vouches for."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey

    @classmethod
    def root(cls, now: datetime, *, name: str = "Test Root", key: int = 1) -> "Issuer":
        return cls(_sign(name, rsa_key(key), name, rsa_key(key), now=now, authority=True), rsa_key(key))

    def intermediate(
        self, now: datetime, *, name: str = "Test Intermediate", key: int = 2, issuer_at: str | None = None
    ) -> "Issuer":
        made = _sign(name, rsa_key(key), self.name, self.key, now=now, authority=True, issuer_at=issuer_at)
        return Issuer(made, rsa_key(key))

    @property
    def name(self) -> str:
        return str(self.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)

    def leaf(
        self,
        common_name: str,
        now: datetime,
        *,
        key: rsa.RSAPrivateKey | None = None,
        lasts: timedelta = YEAR,
        since: timedelta = YEAR,
        issuer_at: str | None = None,
    ) -> x509.Certificate:
        return _sign(
            common_name,
            key or rsa_key(),
            self.name,
            self.key,
            now=now,
            lasts=lasts,
            since=since,
            issuer_at=issuer_at,
        )


def _sign(
    common_name: str,
    key: rsa.RSAPrivateKey,
    issuer_name: str,
    issuer_key: rsa.RSAPrivateKey,
    *,
    now: datetime,
    authority: bool = False,
    lasts: timedelta = YEAR,
    since: timedelta = YEAR,
    issuer_at: str | None = None,
) -> x509.Certificate:
    built = (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .issuer_name(_name(issuer_name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - since)
        .not_valid_after(now + lasts)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if authority:
        names = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
        never = dict.fromkeys((*names, "encipher_only", "decipher_only", "digital_signature"), False)
        usage = x509.KeyUsage(**never, key_cert_sign=True, crl_sign=True)
        built = built.add_extension(usage, critical=True).add_extension(
            x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
        )
    else:
        built = built.add_extension(x509.SubjectAlternativeName([x509.DNSName(common_name)]), critical=False)
    if issuer_at is not None:
        there = x509.AccessDescription(
            AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier(issuer_at)
        )
        built = built.add_extension(x509.AuthorityInformationAccess([there]), critical=False)
    return built.sign(issuer_key, SHA256())


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)


def signing(leaf: x509.Certificate, *roots: Issuer, issuers: Sequence[Issuer] = ()) -> SigningCertificate:
    """The certificate, trusted through these roots."""
    authorities = Authorities.of(root.certificate for root in roots)
    return SigningCertificate(leaf, tuple(one.certificate for one in issuers), authorities)


def signs_with(preset: Preset, url: str, key: rsa.RSAPrivateKey | None = None) -> Preset:
    """The preset, signing with a key whose certificate is at a URL."""
    assert isinstance(preset.signature, CertificateSignature)
    signer = CertificateSigner(url, key or rsa_key())
    return _with(preset, preset.signature.with_signer(signer))


def checks_with(preset: Preset, certificate: SigningCertificate) -> Preset:
    """The preset, checking with a certificate."""
    assert isinstance(preset.signature, CertificateSignature)
    return _with(preset, preset.signature.with_certificate(certificate))


def _with(preset: Preset, signature: CertificateSignature) -> Preset:
    return replace(preset, signature=signature)


@dataclass
class LocalCertificates:
    """A source that has what it was given, and counts who asked."""

    known: Mapping[str, SigningCertificate | Exception] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def certificate(self, url: str, *, with_issuers: bool) -> SigningCertificate:
        assert isinstance(with_issuers, bool)
        self.asked.append(url)
        found = self.known[url]
        if isinstance(found, Exception):
            raise found
        return found


PAYPAL_URL = "https://api.paypal.com/v1/notifications/certs/CERT-360caa42-fca2a594-1d93a270"
SNS_URL = SNS_CERTIFICATE_URL
TOPIC = SNS_TOPIC
SNS_SETTINGS = {"topic_arns": [TOPIC]}


@cache
def paypal_root(now: datetime) -> Issuer:
    return Issuer.root(now)


@cache
def paypal(now: datetime) -> Preset:
    """PayPal's preset with both sides of a certificate that is as it should be."""
    root = paypal_root(now)
    leaf = root.leaf("messageverificationcerts.paypal.com", now)
    return checks_with(signs_with(preset_for("paypal"), PAYPAL_URL), signing(leaf, root))


@cache
def amazon_sns(now: datetime) -> Preset:
    """Amazon's preset for one topic, with both sides of a certificate that is as it should be."""
    root = paypal_root(now)
    leaf = root.leaf("sns.amazonaws.com", now)
    return checks_with(signs_with(preset_for("amazon_sns", SNS_SETTINGS), SNS_URL), signing(leaf))
