"""Samsara (https://developers.samsara.com/docs/webhooks): HMAC-SHA256 of `v1:{time}:{body}` in hex.

The key is what the subscription's secret decodes to from base64. Samsara's Python library has a
function for another signature, which its service does not send.
"""

from collections.abc import Mapping

from crossdock.connectors.webhooks.hmac_signature import HmacSignature
from crossdock.connectors.webhooks.identity import EventIdentity, member, text_of
from crossdock.connectors.webhooks.preset import Preset, SecretOrigin
from crossdock.connectors.webhooks.request import InboundRequest
from crossdock.connectors.webhooks.scheme import HmacScheme, TimestampRule
from crossdock.connectors.webhooks.times import time_of
from crossdock.mapping.json_values import JsonValue


def _identify(_request: InboundRequest, document: JsonValue) -> EventIdentity:
    word = text_of(member(document, "eventType"))
    return EventIdentity(
        id=text_of(member(document, "eventId")),
        type=f"samsara.{word}" if word else None,
        # Payloads of version 1 have milliseconds.
        time=time_of(member(document, "eventTime")) or time_of(member(document, "eventMs"), "ms"),
    )


def _companions(event_type: str | None, _event_id: str | None) -> Mapping[str, str]:
    return {"X-Samsara-Event-Type": (event_type or "Ping").removeprefix("samsara.")}


SAMSARA = Preset(
    name="samsara",
    title="Samsara",
    how_to="Settings, Webhooks (or POST /webhooks): add the URL, then enter the webhook's secret key here.",
    secret_from=SecretOrigin.SENDER,
    signature=HmacSignature(
        HmacScheme(
            header="X-Samsara-Signature",
            prefix="v1=",
            timestamp=TimestampRule(header="X-Samsara-Timestamp"),
            signed_content="v1:{timestamp}:{body}",
            secret_encoding="base64",  # noqa: S106 - how it is written, not a secret
        )
    ),
    identify=_identify,
    companions=_companions,
)
