"""Senders that prove themselves with a TLS certificate, behind a proxy that checks it.

The proxy has to ask for the certificate, to set the header itself in every request, and to drop what
came under its name. It is believed only if it is one of CROSSDOCK_TRUSTED_PROXIES. Settings, beside
those of event_settings.py:
`{"header": "X-SSL-Client-Fingerprint", "format": "fingerprint", "accepted": ["ab:cd:…"],
"verified_header": "X-SSL-Client-Verify", "verified_value": "SUCCESS"}`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hmac import compare_digest
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from crossdock.connectors.webhooks.client_certificates import (
    CertificateFormat,
    ClientCertificate,
    accepted_certificate,
    can_tell,
    read_certificate,
    write_certificate,
)
from crossdock.connectors.webhooks.errors import (
    InvalidSettingsError,
    MalformedSignatureError,
    MissingSecretError,
    MissingSignatureError,
    UnlistedSenderError,
    UntrustedProxyError,
    WrongSignatureError,
)
from crossdock.connectors.webhooks.event_settings import EventSettings, with_events
from crossdock.connectors.webhooks.preset import Configured, Preset
from crossdock.connectors.webhooks.request import InboundRequest
from crossdock.connectors.webhooks.scheme import HeaderName
from crossdock.connectors.webhooks.signature import SecretFree, Verified


def _accepted(entry: str) -> str:
    accepted_certificate(entry)
    return entry


AcceptedText = Annotated[str, Field(max_length=8_000), AfterValidator(_accepted)]


class MutualTlsSettings(EventSettings):
    """What the proxy tells of the sender's certificate, and which certificates to accept."""

    header: HeaderName = Field(description="The header in which the proxy tells of the certificate.")
    format: CertificateFormat = Field(CertificateFormat.FINGERPRINT, strict=False, description="What the header holds.")
    accepted: list[AcceptedText] = Field(
        min_length=1,
        max_length=50,
        description="Fingerprints, certificates in PEM, or subjects as the proxy writes them.",
    )
    verified_header: HeaderName | None = Field(
        None,
        description="The header in which the proxy says whether the certificate is valid; needed for subjects "
        "unless the proxy lets nobody else pass.",
    )
    verified_value: str = Field("SUCCESS", min_length=1, max_length=100, description="What it then says.")

    @model_validator(mode="after")
    def _all_can_match(self) -> Self:
        for index, entry in enumerate(self.accepted):
            if not can_tell(accepted_certificate(entry), self.format):
                raise ValueError(f"a header in the format {self.format} could never match accepted/{index}")
        return self


@dataclass(frozen=True, slots=True)
class CertificateCheck(SecretFree):
    """The certificate that a trusted proxy tells of must be one of those accepted; of none without settings."""

    settings: MutualTlsSettings | None = None
    accepted: tuple[ClientCertificate, ...] = ()

    def verify(
        self,
        request: InboundRequest,
        *,
        secrets: Sequence[str],  # noqa: ARG002 - the certificate is the secret
        now: datetime,  # noqa: ARG002 - the proxy has looked at the certificate's dates
        tolerance_s: int | None = None,  # noqa: ARG002 - no time is signed
    ) -> Verified:
        """Accept a request with an accepted certificate; raise a WebhookRefusedError otherwise."""
        settings = self.settings
        if settings is None:
            raise MissingSecretError("The endpoint's settings name no certificates to accept.")
        if not request.via_trusted_proxy:
            raise UntrustedProxyError
        _check_verified(request, settings)
        given = read_certificate(_only(request, settings.header), settings.format)
        if not any(given.shares(accepted) for accepted in self.accepted):
            raise UnlistedSenderError("The webhook's certificate is not one of those that the endpoint accepts.")
        return Verified()

    def sign(
        self,
        request: InboundRequest,
        *,
        secrets: Sequence[str],  # noqa: ARG002 - the certificate is the secret
        now: datetime,  # noqa: ARG002 - no time is signed
    ) -> InboundRequest:
        """The request as the proxy would hand it over for the first accepted certificate.

        Raises InvalidSettingsError where that entry says too little to make the header of.
        """
        settings = self.settings
        if settings is None:
            raise InvalidSettingsError("The settings name no certificate to send with.")
        try:
            added = {settings.header: write_certificate(settings.accepted[0], settings.format)}
        except ValueError as error:
            raise InvalidSettingsError(f"The header cannot be made: {error}.") from None
        if settings.verified_header is not None:
            added[settings.verified_header] = settings.verified_value
        return replace(request, headers=request.headers.replaced(added.items()), via_trusted_proxy=True)


def _check_verified(request: InboundRequest, settings: MutualTlsSettings) -> None:
    if settings.verified_header is None:
        return
    said = _only(request, settings.verified_header)
    if not compare_digest(said.encode(), settings.verified_value.encode()):
        raise WrongSignatureError(f"The proxy found the sender's certificate not valid: it says {said[:60]!r}.")


def _only(request: InboundRequest, header: str) -> str:
    values = request.headers.all(header)
    if not any(values):
        raise MissingSignatureError(f"The webhook has no header {header}: the sender showed no certificate.")
    if len(values) > 1:
        # The proxy adds to what the sender wrote, so that nobody can tell which is whose.
        raise MalformedSignatureError(f"The header {header} comes more than once; the proxy has to replace it.")
    return values[0]


def _configure(settings: MutualTlsSettings) -> Preset:
    accepted = tuple(accepted_certificate(entry) for entry in settings.accepted)
    return replace(with_events(MUTUAL_TLS, settings), signature=CertificateCheck(settings, accepted))


MUTUAL_TLS = Preset(
    name="mutual_tls",
    title="Mutual TLS behind a proxy",
    how_to="A proxy in CROSSDOCK_TRUSTED_PROXIES tells of the certificate in a header; name both in the settings.",
    signature=CertificateCheck(),
    configured=Configured(MutualTlsSettings, _configure),
    needs_settings=True,
)
