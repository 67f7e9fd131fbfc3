"""Builder.io (https://www.builder.io/c/docs/webhooks): no signature, but headers of one's own choice.

One of them carries the secret: `Authorization: Bearer …`, or whichever the settings name. There is no
event id. A webhook with its payload switched off has no body, and so no type.
"""

from dataclasses import replace

from pydantic import Field

from crossdock.connectors.webhooks.identity import LocatedIdentity, Locator
from crossdock.connectors.webhooks.preset import Configured, Preset
from crossdock.connectors.webhooks.scheme import HeaderName
from crossdock.connectors.webhooks.settings_reading import SettingsPart
from crossdock.connectors.webhooks.shared_tokens import HeaderToken

_USUAL_HEADER = "Authorization"
_USUAL_PREFIX = "Bearer "


class BuilderIoSettings(SettingsPart):
    """Where the secret stands."""

    header: HeaderName = Field(_USUAL_HEADER, description="The custom header that holds the secret.")
    prefix: str | None = Field(
        None, max_length=20, description="What stands before it: Bearer and a blank in Authorization, else nothing."
    )


def _configure(settings: BuilderIoSettings) -> Preset:
    usual = _USUAL_PREFIX if settings.header.lower() == _USUAL_HEADER.lower() else ""
    prefix = usual if settings.prefix is None else settings.prefix
    return replace(
        BUILDER_IO,
        signature=HeaderToken(header=settings.header, prefix=prefix),
        secret_headers=frozenset({settings.header.lower()}),
    )


BUILDER_IO = Preset(
    name="builder_io",
    title="Builder.io",
    how_to="Model, Edit Webhooks: the URL, and the custom header Authorization with Bearer and the secret.",
    signature=HeaderToken(header=_USUAL_HEADER, prefix=_USUAL_PREFIX),
    identify=LocatedIdentity(type=Locator(expression="operation"), type_prefix="builder_io."),
    secret_headers=frozenset({_USUAL_HEADER.lower()}),
    configured=Configured(BuilderIoSettings, _configure),
)
