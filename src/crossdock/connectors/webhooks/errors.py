"""Why a webhook is not accepted, one class per reason.

WebhookRefusedError             401  not proven to come from the sender
├── MissingSignatureError
├── MalformedSignatureError
├── WrongSignatureError
│   └── UnlistedSenderError          from somebody whom the endpoint's settings do not name
├── MissingTimestampError
├── MalformedTimestampError
├── StaleTimestampError
├── FutureTimestampError
├── MissingSecretError               the endpoint has no secret to check with
├── UntrustedProxyError              what only a proxy can know came from no proxy of ours
├── WrongCertificateError            what signed it is no certificate of the sender's
│   └── TrialCertificateError        `crossdock webhook sign` signed it, and that is not believed here
└── UnknownTopicError                not from a topic that the endpoint accepts
CertificateUnavailableError     503  the sender's certificate cannot be fetched now; it should send again
AddressRefusedError             403  the source address is not on the list
InvalidBodyError                422  not the JSON, XML or form that it says it is
UnsupportedBodyError            415  a content type that is not read
└── UnsupportedEncodingError         a content coding that is not undone
InvalidSettingsError            422  the endpoint's own settings; `faults` says where
"""

from collections.abc import Mapping
from typing import ClassVar

from crossdock.kit.errors import CrossdockError, Fault, ForbiddenError, InvalidInputError, UnavailableError


class WebhookRefusedError(CrossdockError):
    """The webhook is not proven to come from its sender."""

    code = "webhook_refused"
    status = 401

    def __init__(self, message: str | None = None, *, challenge: str | None = None) -> None:
        super().__init__(message)
        self.headers = {"WWW-Authenticate": challenge} if challenge else {}


class MissingSignatureError(WebhookRefusedError):
    """The webhook carries no signature."""

    code = "signature_missing"


class MalformedSignatureError(WebhookRefusedError):
    """The webhook's signature is not written as this sender writes it."""

    code = "signature_malformed"


class WrongSignatureError(WebhookRefusedError):
    """The webhook's signature fits none of the endpoint's secrets.

    Usual causes: another secret (test and live swapped, or rotated), a body changed on its way, or a
    public URL other than the one the sender calls.
    """

    code = "signature_wrong"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or "The webhook's signature fits none of the endpoint's secrets.")


class UnlistedSenderError(WrongSignatureError):
    """The webhook comes from somebody whom the endpoint's settings do not name."""

    code = "sender_unlisted"


class MissingTimestampError(WebhookRefusedError):
    """The webhook carries no timestamp."""

    code = "timestamp_missing"


class MalformedTimestampError(WebhookRefusedError):
    """The webhook's timestamp is not written as this sender writes it."""

    code = "timestamp_malformed"


class StaleTimestampError(WebhookRefusedError):
    """The webhook was signed too long ago."""

    code = "timestamp_stale"


class FutureTimestampError(WebhookRefusedError):
    """The webhook was signed in the future; one of the two clocks is wrong."""

    code = "timestamp_in_future"


class MissingSecretError(WebhookRefusedError):
    """The endpoint has no secret to check the signature with."""

    code = "secret_missing"


class UntrustedProxyError(WebhookRefusedError):
    """The webhook came through no trusted proxy; set CROSSDOCK_TRUSTED_PROXIES to the address of yours."""

    code = "proxy_untrusted"


class WrongCertificateError(WebhookRefusedError):
    """The certificate that the webhook is signed with is not the sender's, or is not valid."""

    code = "certificate_wrong"


class TrialCertificateError(WrongCertificateError):
    """The webhook was signed for testing, by `crossdock webhook sign`, which this hub does not believe."""

    code = "certificate_for_testing"


class UnknownTopicError(WebhookRefusedError):
    """The webhook comes from a topic that the endpoint does not accept; add it to topic_arns if it should."""

    code = "topic_unknown"


class CertificateUnavailableError(UnavailableError):
    """The sender's certificate cannot be fetched now, so that nothing can be verified; send again later."""

    code = "certificate_unavailable"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message, retry_after_s=10)


class AddressRefusedError(ForbiddenError):
    """The webhook comes from an address that the endpoint does not accept."""

    code = "address_refused"


class InvalidBodyError(InvalidInputError):
    """The body cannot be read."""

    code = "invalid_body"

    def __init__(self, message: str, *, pointer: str = "") -> None:
        super().__init__(message, (Fault(pointer, message),))


class UnsupportedBodyError(CrossdockError):
    """The body's content type is not one that Crossdock reads."""

    code = "unsupported_body"
    status = 415


class UnsupportedEncodingError(UnsupportedBodyError):
    """The body's content coding is not one that Crossdock undoes; send gzip, or the body as it is."""

    code = "unsupported_encoding"
    headers: ClassVar[Mapping[str, str]] = {"Accept-Encoding": "gzip, identity"}


class InvalidSettingsError(InvalidInputError):
    """The endpoint's settings are not valid."""

    code = "invalid_settings"
