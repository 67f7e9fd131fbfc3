"""Senders without a preset of their own: HMAC as a tenant describes it, and no signature at all.

Settings of `generic`: `{"signature": {…an HmacScheme…}}` and those of event_settings.py; of `none`
the latter alone. A place is `{"header": "X-Event-Id"}` or `{"expression": "data.id"}`.
"""

from dataclasses import replace

from pydantic import Field

from crossdock.connectors.webhooks.event_settings import EventSettings, with_events
from crossdock.connectors.webhooks.hmac_signature import HmacSignature
from crossdock.connectors.webhooks.preset import Configured, Preset
from crossdock.connectors.webhooks.scheme import HmacScheme
from crossdock.connectors.webhooks.signature import Unsigned


class GenericSettings(EventSettings):
    """How the sender signs, and where the events stand."""

    signature: HmacScheme = Field(
        default_factory=lambda: HmacScheme(header="X-Signature"), description="How the sender signs."
    )


def _configure_generic(settings: GenericSettings) -> Preset:
    return replace(with_events(GENERIC, settings), signature=HmacSignature(settings.signature))


def _configure_none(settings: EventSettings) -> Preset:
    return with_events(NONE, settings)


GENERIC = Preset(
    name="generic",
    title="HMAC, as configured",
    how_to="Describe how the sender signs; without settings: X-Signature with the body's HMAC-SHA256 in hex.",
    signature=HmacSignature(HmacScheme(header="X-Signature")),
    configured=Configured(GenericSettings, _configure_generic),
)

NONE = Preset(
    name="none",
    title="No signature",
    how_to="Whoever knows the URL is believed: keep it secret, and set a list of source addresses.",
    signature=Unsigned(),
    configured=Configured(EventSettings, _configure_none),
)
