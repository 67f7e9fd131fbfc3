"""TLS contexts: verification always on, one context for each identity."""

import asyncio
import functools
import os
import secrets
import ssl
import warnings
from collections import OrderedDict
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from crossdock.gateway.errors import RequestError, TlsError
from crossdock.gateway.transport import TlsIdentity
from crossdock.kit.errors import Fault, InvalidInputError

# A context with the system's authorities takes about 1 MB.
_MAX_CONTEXTS = 128
_DER_SEQUENCE = b"\x30"

# Some of the system's authorities have such a number; they are old, and none the worse for it.
warnings.filterwarnings("ignore", message="Parsed a serial number which wasn't positive")


class TlsContexts:
    """Makes contexts off the event loop (it takes 20 ms and more) and keeps the most used."""

    def __init__(self) -> None:
        self.plain = _plain_context()
        self._kept: OrderedDict[TlsIdentity, asyncio.Task[ssl.SSLContext]] = OrderedDict()

    async def get(self, identity: TlsIdentity) -> ssl.SSLContext:
        """The identity's context. Raises RequestError when its certificate or key is not usable, else TlsError."""
        task = self._kept.get(identity)
        if task is None:
            task = self._kept[identity] = asyncio.create_task(asyncio.to_thread(build_context, identity))
            task.add_done_callback(functools.partial(self._forget_failed, identity))
            if len(self._kept) > _MAX_CONTEXTS:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(identity)
        # Shielded: others may wait for the same one when this caller is cancelled.
        return await asyncio.shield(task)

    def _forget_failed(self, identity: TlsIdentity, task: asyncio.Task[ssl.SSLContext]) -> None:
        if (task.cancelled() or task.exception() is not None) and self._kept.get(identity) is task:
            del self._kept[identity]


def build_context(identity: TlsIdentity) -> ssl.SSLContext:
    """A verifying client context. Raises RequestError for PEM that cannot be used."""
    try:
        # An empty text would be taken for "the system's authorities".
        context = ssl.create_default_context(cadata=None if identity.ca_pem is None else identity.ca_pem or "none")
    except (ssl.SSLError, ValueError):
        raise RequestError("The authorities to trust (CA) are not PEM certificates.") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if identity.certificate_pem is not None and identity.private_key_pem is not None:
        _load_client_certificate(context, identity.certificate_pem, identity.private_key_pem)
    elif identity.certificate_pem is not None or identity.private_key_pem is not None:
        raise RequestError("A client certificate and its private key come together.")
    else:
        # A destination may ask for one handshake after the other, 1 ms each. Only those that ask for a client
        # certificate after the request's head (IIS) have a reason to.
        context.options |= ssl.OP_NO_RENEGOTIATION
    return context


@functools.cache
def _plain_context() -> ssl.SSLContext:
    """Without an identity; one for the process, since reading the system's authorities is what takes long."""
    return build_context(TlsIdentity())


def trusted_authorities() -> list[x509.Certificate]:
    """The authorities that connections without a CA of their own trust; takes 20 ms and more, and reads files."""
    encoded = build_context(TlsIdentity()).get_ca_certs(binary_form=True)
    folder = ssl.get_default_verify_paths().capath
    if not encoded and folder is not None:
        # OpenSSL reads a folder of authorities only one by one, as it meets their names.
        encoded = [path.read_bytes() for path in Path(folder).glob("*.[0-9]")]
    return [authority for one in encoded for authority in _certificates(one)]


def _certificates(encoded: bytes) -> list[x509.Certificate]:
    try:
        if encoded.startswith(_DER_SEQUENCE):
            return [x509.load_der_x509_certificate(encoded)]
        return x509.load_pem_x509_certificates(encoded)
    except ValueError:
        return []  # what cannot be read is not trusted


def validate_identity(identity: TlsIdentity, *, pointer: str = "/tls") -> None:
    """Raises InvalidInputError with a fault at `pointer` for an identity that cannot be used."""
    try:
        build_context(identity)
    except RequestError as error:
        raise InvalidInputError("The TLS settings cannot be used.", (Fault(pointer, error.message),)) from None


def _load_client_certificate(context: ssl.SSLContext, certificate_pem: str, private_key_pem: str) -> None:
    # Python's ssl reads certificates from files only; the key is encrypted under a throw-away
    # password first, so that it never lies on a disk in clear.
    password = secrets.token_bytes(32).hex()
    try:
        key = load_pem_private_key(private_key_pem.encode(), password=None)
        encrypted = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password.encode()))
        with TemporaryDirectory(prefix="crossdock-tls-") as folder:
            path = Path(folder) / "identity.pem"
            path.write_bytes(encrypted + b"\n" + certificate_pem.encode())
            context.load_cert_chain(path, password=password)
    except (ssl.SSLError, ValueError, TypeError, UnsupportedAlgorithm):
        raise RequestError(
            "The client certificate and private key cannot be used: give a PEM certificate and its unencrypted PEM key."
        ) from None
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise TlsError(f"The client certificate could not be loaded on this machine: {reason}.") from error
