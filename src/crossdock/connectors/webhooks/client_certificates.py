"""The sender's TLS certificate, as a proxy that ended the connection tells of it in a header.

- `fingerprint`: SHA-1 or SHA-256 in hex, with colons or without (nginx `$ssl_client_fingerprint`,
  HAProxy `ssl_c_sha1` and `ssl_c_der,sha2(256)`, both as hex).
- `subject`: the name as the proxy writes it, compared character by character.
- `xfcc`: Envoy's `X-Forwarded-Client-Cert` with Hash and Subject, set anew by the proxy (SANITIZE_SET).
- `pem`: the certificate itself, URL-encoded (nginx `$ssl_client_escaped_cert`, AWS `X-Amzn-Mtls-Clientcert`).
"""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from hmac import compare_digest
from urllib.parse import quote, unquote

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from crossdock.connectors.webhooks.errors import MalformedSignatureError

_FINGERPRINT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_PEM_START = "-----BEGIN CERTIFICATE-----"
_SHA1_DIGITS = 40
# Ten times an ordinary certificate; nothing longer is read.
_LONGEST = 20_000
_XFCC_PAIR = re.compile(r'\s*([A-Za-z]+)=("(?:[^"\\]|\\.)*"|[^;,"]*)(;|,|$)')
_ESCAPED = re.compile(r"\\(.)")


class CertificateFormat(StrEnum):
    """How a proxy writes the sender's certificate into a header."""

    FINGERPRINT = "fingerprint"
    SUBJECT = "subject"
    XFCC = "xfcc"
    PEM = "pem"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCertificate:
    """What is known of a certificate; fingerprints are in lower-case hex without colons."""

    sha1: str | None = None
    sha256: str | None = None
    subject: str | None = None

    @classmethod
    def of_pem(cls, text: str) -> "ClientCertificate":
        """The first certificate in a PEM text; raises ValueError for none."""
        certificate = x509.load_pem_x509_certificate(text.encode())
        return cls(
            sha1=certificate.fingerprint(hashes.SHA1()).hex(),  # noqa: S303 - a name of the certificate, no signature
            sha256=certificate.fingerprint(hashes.SHA256()).hex(),
        )

    def shares(self, other: "ClientCertificate") -> bool:
        """Whether both say the same of one certificate, as far as both say anything."""
        known = ((self.sha256, other.sha256), (self.sha1, other.sha1), (self.subject, other.subject))
        both = [(one, another) for one, another in known if one is not None and another is not None]
        return bool(both) and all(compare_digest(one.encode(), another.encode()) for one, another in both)


def accepted_certificate(entry: str) -> ClientCertificate:
    """What an entry of the settings stands for: a certificate in PEM, a fingerprint, else a subject.

    Raises ValueError for PEM that holds no certificate, and for the empty text.
    """
    if entry.lstrip().startswith(_PEM_START):
        return ClientCertificate.of_pem(entry)
    if not entry.strip():
        raise ValueError("an entry may not be empty")
    return _fingerprint(entry) or ClientCertificate(subject=entry)


def can_tell(accepted: ClientCertificate, written_as: CertificateFormat) -> bool:
    """Whether a header in this format could ever say that it is this certificate."""
    match written_as:
        case CertificateFormat.SUBJECT:
            return accepted.subject is not None
        case CertificateFormat.XFCC:
            return accepted.subject is not None or accepted.sha256 is not None
    return accepted.subject is None


def read_certificate(written: str, written_as: CertificateFormat) -> ClientCertificate:
    """What the proxy's header says; raises MalformedSignatureError."""
    if len(written) > _LONGEST:
        raise MalformedSignatureError(f"The proxy's header is longer than {_LONGEST} characters.")
    with suppress(UnicodeError):
        # Headers are read as Latin-1, and names with accents are written in UTF-8.
        written = written.encode("latin-1").decode()
    return _READERS[written_as](written)


def write_certificate(entry: str, written_as: CertificateFormat) -> str:
    """An entry of the settings as a proxy would write it; raises ValueError where the entry says too little."""
    accepted = accepted_certificate(entry)
    fingerprint = accepted.sha256 or accepted.sha1
    match written_as:
        case CertificateFormat.PEM if entry.lstrip().startswith(_PEM_START):
            return quote(entry, safe="")
        case CertificateFormat.FINGERPRINT if fingerprint:
            return fingerprint
        case CertificateFormat.SUBJECT if accepted.subject:
            return accepted.subject
        case CertificateFormat.XFCC if accepted.sha256:
            return f"Hash={accepted.sha256}"
        case CertificateFormat.XFCC if accepted.subject:
            return 'Subject="' + re.sub(r'(["\\])', r"\\\1", accepted.subject) + '"'
    raise ValueError(f"the first of `accepted` cannot be written as {written_as}")


def _fingerprint(text: str) -> ClientCertificate | None:
    digits = text.strip().replace(":", "").lower()
    if not _FINGERPRINT.fullmatch(digits):
        return None
    return ClientCertificate(sha1=digits) if len(digits) == _SHA1_DIGITS else ClientCertificate(sha256=digits)


def _read_fingerprint(written: str) -> ClientCertificate:
    found = _fingerprint(written)
    if found is None:
        raise MalformedSignatureError("The proxy's header holds no SHA-1 or SHA-256 fingerprint in hex.")
    return found


def _read_subject(written: str) -> ClientCertificate:
    return ClientCertificate(subject=written)


def _read_pem(written: str) -> ClientCertificate:
    # Not unquote_plus: base64 has a plus of its own, which some proxies leave as it is.
    try:
        return ClientCertificate.of_pem(unquote(written))
    except ValueError:
        raise MalformedSignatureError("The proxy's header holds no URL-encoded PEM certificate.") from None


def _read_xfcc(written: str) -> ClientCertificate:
    fields: dict[str, str] = {}
    at = 0
    while at < len(written):
        pair = _XFCC_PAIR.match(written, at)
        if pair is None:
            raise MalformedSignatureError("The proxy's header is not written as Envoy's X-Forwarded-Client-Cert.")
        name, value, end = pair.groups()
        if end == "," or name.lower() in fields:
            # Of several, anyone before the last proxy may have written the first.
            raise MalformedSignatureError(
                "The proxy's header tells of more than one certificate; let the proxy set it anew (SANITIZE_SET)."
            )
        if name.lower() in _XFCC_ONCE:
            fields[name.lower()] = _ESCAPED.sub(r"\1", value[1:-1]) if value.startswith('"') else value
        at = pair.end()
    fingerprint = _fingerprint(fields.get("hash", ""))
    subject = fields.get("subject") or None
    if fingerprint is None and subject is None:
        raise MalformedSignatureError("The proxy's header holds neither Hash nor Subject of a certificate.")
    return ClientCertificate(sha256=fingerprint.sha256 if fingerprint else None, subject=subject)


# URI and DNS may rightly come more than once, and are not looked at.
_XFCC_ONCE = frozenset({"hash", "subject", "cert", "chain"})
_READERS: Mapping[CertificateFormat, Callable[[str], ClientCertificate]] = {
    CertificateFormat.FINGERPRINT: _read_fingerprint,
    CertificateFormat.SUBJECT: _read_subject,
    CertificateFormat.XFCC: _read_xfcc,
    CertificateFormat.PEM: _read_pem,
}
