"""The presets by name."""

from collections.abc import Mapping
from types import MappingProxyType

from crossdock.connectors.webhooks.errors import InvalidSettingsError
from crossdock.connectors.webhooks.preset import Preset
from crossdock.connectors.webhooks.presets.docusign import DOCUSIGN
from crossdock.connectors.webhooks.presets.generic import GENERIC, NONE
from crossdock.connectors.webhooks.presets.github import GITHUB
from crossdock.connectors.webhooks.presets.stripe import STRIPE
from crossdock.connectors.webhooks.presets.twilio import TWILIO
from crossdock.kit.errors import Fault

_PRESETS: Mapping[str, Preset] = MappingProxyType(
    {preset.name: preset for preset in (GITHUB, STRIPE, DOCUSIGN, TWILIO, GENERIC, NONE)}
)


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
    if preset.configure is None:
        what = f"The preset {name} takes no settings."
        raise InvalidSettingsError(what, (Fault(settings_pointer, what),))
    return preset.configure(settings or {}, settings_pointer)
