"""Which sender a webhook looks like, by the headers that only this sender adds."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache

from crossdock.connectors.webhooks.preset import Preset
from crossdock.connectors.webhooks.presets.catalogue import presets
from crossdock.connectors.webhooks.request import Headers, InboundRequest
from crossdock.kit.errors import CrossdockError

_URL = "https://hub.example.com/"
_LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
# Of everybody's requests, or of every tenant's own making.
_TELLS_NOTHING = frozenset({"authorization", "content-type", "x-signature", "x-api-key"})
# Of senders whose signatures nobody else can make, so that trying does not show their headers.
_KNOWN: Mapping[str, tuple[str, ...]] = {
    "amazon_sns": ("x-amz-sns-message-type",),
    "google_calendar": ("x-goog-channel-id",),
    "paypal": ("paypal-transmission-sig",),
    "sendgrid": ("x-twilio-email-event-webhook-signature",),
}


def looks_like(request: InboundRequest, *, instead_of: Preset) -> Preset | None:
    """The preset whose own headers the request has, while it has no signature of the one it should have."""
    if any(request.headers.get(name) for name in _signature_headers(instead_of)):
        return None
    own = _headers_of(instead_of)
    for header, preset in _telltales().items():
        if header not in own and request.headers.get(header):
            return preset
    return None


@cache
def _telltales() -> Mapping[str, Preset]:
    """From headers to the preset that they tell of; those of several presets tell of the first."""
    found: dict[str, Preset] = {}
    for preset in presets().values():
        if preset.configured is None:
            for header in _headers_of(preset) - _TELLS_NOTHING:
                found.setdefault(header, preset)
    return found


def _headers_of(preset: Preset) -> frozenset[str]:
    """What a sender of this kind adds to a request, in lower case."""
    return _signature_headers(preset) | {name.lower() for name in preset.companions(None, None)}


def _signature_headers(preset: Preset) -> frozenset[str]:
    names = frozenset(_KNOWN.get(preset.name, ()))
    empty = InboundRequest(url=_URL, headers=Headers([("content-type", preset.content_type)]), body=b"")
    try:
        signed = preset.signature.sign(empty, secrets=[preset.signature.new_secret()], now=_LONG_AGO)
    except (CrossdockError, ValueError):
        return names
    return names | {name for name, _ in signed.headers.items()} - {"content-type"}
