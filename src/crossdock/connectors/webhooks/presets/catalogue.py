"""The presets by name."""

from collections.abc import Mapping
from types import MappingProxyType

from crossdock.connectors.webhooks.errors import InvalidSettingsError
from crossdock.connectors.webhooks.preset import Preset
from crossdock.connectors.webhooks.presets.amazon_sns import AMAZON_SNS
from crossdock.connectors.webhooks.presets.basic_auth import BASIC_AUTH
from crossdock.connectors.webhooks.presets.builder_io import BUILDER_IO
from crossdock.connectors.webhooks.presets.docusign import DOCUSIGN
from crossdock.connectors.webhooks.presets.generic import GENERIC, NONE
from crossdock.connectors.webhooks.presets.github import GITHUB
from crossdock.connectors.webhooks.presets.github_sha1 import GITHUB_SHA1
from crossdock.connectors.webhooks.presets.google_calendar import GOOGLE_CALENDAR
from crossdock.connectors.webhooks.presets.hubspot import HUBSPOT, HUBSPOT_V1, HUBSPOT_V2
from crossdock.connectors.webhooks.presets.mailgun import MAILGUN
from crossdock.connectors.webhooks.presets.microsoft_graph import MICROSOFT_GRAPH
from crossdock.connectors.webhooks.presets.motive import MOTIVE
from crossdock.connectors.webhooks.presets.mutual_tls import MUTUAL_TLS
from crossdock.connectors.webhooks.presets.paypal import PAYPAL
from crossdock.connectors.webhooks.presets.quickbooks import QUICKBOOKS
from crossdock.connectors.webhooks.presets.quiltt import QUILTT
from crossdock.connectors.webhooks.presets.salesforce import SALESFORCE
from crossdock.connectors.webhooks.presets.samsara import SAMSARA
from crossdock.connectors.webhooks.presets.sendgrid import SENDGRID
from crossdock.connectors.webhooks.presets.shared_secret import SHARED_SECRET
from crossdock.connectors.webhooks.presets.slack import SLACK
from crossdock.connectors.webhooks.presets.square import SQUARE
from crossdock.connectors.webhooks.presets.standard_webhooks import STANDARD_WEBHOOKS
from crossdock.connectors.webhooks.presets.stripe import STRIPE
from crossdock.connectors.webhooks.presets.twilio import TWILIO
from crossdock.connectors.webhooks.presets.xero import XERO
from crossdock.connectors.webhooks.presets.zoho import ZOHO
from crossdock.kit.errors import Fault

# By name, and last what is no sender's own.
_ALL = (
    AMAZON_SNS,
    BASIC_AUTH,
    BUILDER_IO,
    DOCUSIGN,
    GITHUB,
    GITHUB_SHA1,
    GOOGLE_CALENDAR,
    HUBSPOT,
    HUBSPOT_V1,
    HUBSPOT_V2,
    MAILGUN,
    MICROSOFT_GRAPH,
    MOTIVE,
    MUTUAL_TLS,
    PAYPAL,
    QUICKBOOKS,
    QUILTT,
    SALESFORCE,
    SAMSARA,
    SENDGRID,
    SHARED_SECRET,
    SLACK,
    SQUARE,
    STANDARD_WEBHOOKS,
    STRIPE,
    TWILIO,
    XERO,
    ZOHO,
    GENERIC,
    NONE,
)
_PRESETS: Mapping[str, Preset] = MappingProxyType({preset.name: preset for preset in _ALL})


def presets() -> Mapping[str, Preset]:
    """Every preset by its name, in the order to show them."""
    return _PRESETS


def preset_for(
    name: str,
    settings: object = None,
    *,
    name_pointer: str = "/preset",
    settings_pointer: str = "/settings",
) -> Preset:
    """The preset of this name with an endpoint's own settings (plain JSON values, or None for none).

    Raises InvalidSettingsError that names each fault by its place in the caller's document.
    """
    preset = _PRESETS.get(name)
    if preset is None:
        what = f"There is no preset {name[:40]!r}; there are {', '.join(_PRESETS)}."
        raise InvalidSettingsError(what, (Fault(name_pointer, what),))
    if not preset.needs_settings and (settings is None or settings == {}):
        return preset
    if preset.configured is None:
        what = f"The preset {name} takes no settings."
        raise InvalidSettingsError(what, (Fault(settings_pointer, what),))
    return preset.configured.preset(settings or {}, pointer=settings_pointer)
