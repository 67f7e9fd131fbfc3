"""Quiltt (https://www.quiltt.dev/webhooks): HMAC-SHA256 of `1{time}{body}` in base64.

One request brings several events, each with an id; each part takes the request's `environment` with
it, since sandbox and production tell apart by nothing else.
"""

from collections.abc import Sequence

from crossdock.connectors.webhooks.hmac_signature import HmacSignature
from crossdock.connectors.webhooks.identity import LocatedIdentity, Locator, TimeLocator, member
from crossdock.connectors.webhooks.preset import Preset, SecretOrigin
from crossdock.connectors.webhooks.scheme import HmacScheme, TimestampRule
from crossdock.mapping.json_values import JsonValue


def _split(document: JsonValue) -> Sequence[JsonValue] | None:
    events, environment = member(document, "events"), member(document, "environment")
    if not isinstance(events, list):
        return None
    return [{**event, "environment": environment} if isinstance(event, dict) else event for event in events]


QUILTT = Preset(
    name="quiltt",
    title="Quiltt",
    how_to="Dashboard, Webhooks: add the URL and the event types, then enter the webhook's signing secret here.",
    secret_from=SecretOrigin.SENDER,
    signature=HmacSignature(
        HmacScheme(
            header="Quiltt-Signature",
            encoding="base64",
            timestamp=TimestampRule(header="Quiltt-Timestamp"),
            signed_content="1{timestamp}{body}",
        )
    ),
    identify=LocatedIdentity(
        id=Locator(expression="id"),
        type=Locator(expression="type"),
        type_prefix="quiltt.",
        time=TimeLocator(expression="at"),
    ),
    split=_split,
)
