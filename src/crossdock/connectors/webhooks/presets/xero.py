"""Xero (https://developer.xero.com/documentation/guides/webhooks): HMAC-SHA256 of the body in base64.

Before it sends events, and now and then after, Xero tries the endpoint with bodies without events,
some of them wrongly signed: 401 and 200, each with an empty body, are the right answers. Events have
no id of their own, no time is signed, and `eventDateUtc` has no zone because it is in UTC.
"""

from collections.abc import Sequence
from http import HTTPStatus

from crossdock.connectors.webhooks.hmac_signature import HmacSignature
from crossdock.connectors.webhooks.identity import EventIdentity, joined, member, text_of
from crossdock.connectors.webhooks.preset import Answer, Preset, SecretOrigin
from crossdock.connectors.webhooks.request import InboundRequest
from crossdock.connectors.webhooks.scheme import HmacScheme
from crossdock.connectors.webhooks.times import time_of
from crossdock.mapping.json_values import JsonValue


def _split(document: JsonValue) -> Sequence[JsonValue] | None:
    events = member(document, "events")
    return events if isinstance(events, list) else None


def _identify(_request: InboundRequest, event: JsonValue) -> EventIdentity:
    category, word = text_of(member(event, "eventCategory")), text_of(member(event, "eventType"))
    resource, date = text_of(member(event, "resourceId")), text_of(member(event, "eventDateUtc"))
    return EventIdentity(
        id=joined(text_of(member(event, "tenantId")), category, word, resource, date),
        type=f"xero.{category}.{word}".lower() if category and word else None,
        time=time_of(date),
    )


XERO = Preset(
    name="xero",
    title="Xero",
    how_to="Developer portal, your app, Webhooks: enter the delivery URL, then enter its webhooks key here.",
    secret_from=SecretOrigin.SENDER,
    signature=HmacSignature(HmacScheme(header="x-xero-signature", encoding="base64")),
    identify=_identify,
    split=_split,
    accepted=Answer(),
    refused=Answer(status=HTTPStatus.UNAUTHORIZED),
)
