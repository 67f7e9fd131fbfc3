"""Any sender that repeats a shared secret in a header, such as GitLab's `X-Gitlab-Token`.

Settings: `{"header": "X-Gitlab-Token", "prefix": ""}` and those of event_settings.py.
"""

from dataclasses import replace

from pydantic import Field

from crossdock.connectors.webhooks.event_settings import EventSettings, with_events
from crossdock.connectors.webhooks.preset import Configured, Preset
from crossdock.connectors.webhooks.scheme import HeaderName
from crossdock.connectors.webhooks.shared_tokens import HeaderToken

_USUAL_HEADER = "X-Webhook-Secret"


class SharedSecretSettings(EventSettings):
    """Where the secret stands, and where the events do."""

    header: HeaderName = Field(_USUAL_HEADER, description="The header that holds the secret.")
    prefix: str = Field("", max_length=20, description="What stands before it, such as Bearer and a blank.")


def _configure(settings: SharedSecretSettings) -> Preset:
    return replace(
        with_events(SHARED_SECRET, settings),
        signature=HeaderToken(header=settings.header, prefix=settings.prefix),
        secret_headers=frozenset({settings.header.lower()}),
    )


SHARED_SECRET = Preset(
    name="shared_secret",
    title="Shared secret in a header",
    how_to=f"Let the sender put the secret into the header {_USUAL_HEADER}, or into the one that the settings name.",
    signature=HeaderToken(header=_USUAL_HEADER),
    secret_headers=frozenset({_USUAL_HEADER.lower()}),
    configured=Configured(SharedSecretSettings, _configure),
)
