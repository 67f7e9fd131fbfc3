"""Senders without a preset of their own: HMAC as a tenant describes it, and no signature at all.

Settings of `generic`: `{"signature": {…an HmacScheme…}, "event_id": {…}, "event_type": {…}}`; of
`none` the last two. A place is `{"header": "X-Event-Id"}` or `{"expression": "data.id"}`.
"""

from dataclasses import replace

from pydantic import Field

from crossdock.connectors.webhooks.hmac_signature import HmacSignature
from crossdock.connectors.webhooks.identity import LocatedIdentity, Locator
from crossdock.connectors.webhooks.preset import Preset
from crossdock.connectors.webhooks.scheme import HmacScheme
from crossdock.connectors.webhooks.settings_reading import SettingsPart, read_settings
from crossdock.connectors.webhooks.signature import Unsigned


class UnsignedSettings(SettingsPart):
    """Where the event's id and type stand."""

    event_id: Locator | None = Field(None, description="What a redelivery repeats; without it none is known.")
    event_type: Locator | None = Field(None, description="The type of the event, as dotted segments.")


class GenericSettings(UnsignedSettings):
    """How the sender signs, and where the event's id and type stand."""

    signature: HmacScheme = Field(
        default_factory=lambda: HmacScheme(header="X-Signature"), description="How the sender signs."
    )


def _configure_generic(document: object, pointer: str) -> Preset:
    settings = read_settings(GenericSettings, document, pointer=pointer)
    return replace(GENERIC, signature=HmacSignature(settings.signature), identify=_identity(settings))


def _configure_none(document: object, pointer: str) -> Preset:
    return replace(NONE, identify=_identity(read_settings(UnsignedSettings, document, pointer=pointer)))


def _identity(settings: UnsignedSettings) -> LocatedIdentity:
    return LocatedIdentity(id=settings.event_id, type=settings.event_type)


GENERIC = Preset(
    name="generic",
    title="HMAC, as configured",
    how_to="Describe how the sender signs; without settings: X-Signature with the body's HMAC-SHA256 in hex.",
    signature=HmacSignature(HmacScheme(header="X-Signature")),
    configure=_configure_generic,
)

NONE = Preset(
    name="none",
    title="No signature",
    how_to="Whoever knows the URL is believed: keep it secret, and set a list of source addresses.",
    signature=Unsigned(),
    configure=_configure_none,
)
