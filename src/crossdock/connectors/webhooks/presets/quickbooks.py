"""QuickBooks Online (https://developer.intuit.com/app/developer/qbo/docs/develop/webhooks).

HMAC-SHA256 of the body in base64; no time is signed. There are two payloads, both read here: the
older nests entities in notifications, the newer (2026) is a list of CloudEvents. Both become events
of one type, such as `quickbooks.invoice.created`. They carry ids alone: fetch the record, and look
for missed changes, since Intuit does not promise delivery.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from crossdock.connectors.webhooks.hmac_signature import HmacSignature
from crossdock.connectors.webhooks.identity import EventIdentity, joined, member, text_of
from crossdock.connectors.webhooks.preset import Preset, SecretOrigin
from crossdock.connectors.webhooks.request import InboundRequest
from crossdock.connectors.webhooks.scheme import HmacScheme
from crossdock.connectors.webhooks.times import time_of
from crossdock.mapping.json_values import JsonValue

# From the older payload's words to the newer's.
_OPERATIONS: Mapping[str, str] = {
    "Create": "created",
    "Update": "updated",
    "Delete": "deleted",
    "Merge": "merged",
    "Void": "voided",
    "Emailed": "emailed",
}
_CLOUD_TYPE = re.compile(r"(?:qbo\.)?(.+?)(?:\.v\d+)?")


def _split(document: JsonValue) -> Sequence[JsonValue] | None:
    if isinstance(document, list):
        return document
    notifications = member(document, "eventNotifications")
    if not isinstance(notifications, list):
        return None
    return [part for notification in notifications for part in _entities(notification)]


def _entities(notification: JsonValue) -> Iterator[JsonValue]:
    """Each changed entity, with the company it belongs to; what is built otherwise, as it is."""
    realm, entities = member(notification, "realmId"), member(notification, "dataChangeEvent", "entities")
    if not isinstance(entities, list):
        yield notification
        return
    for entity in entities:
        yield {"realmId": realm, **entity} if isinstance(entity, dict) else entity


def _identify(_request: InboundRequest, event: JsonValue) -> EventIdentity:
    return _identify_cloud_event(event) if member(event, "specversion") is not None else _identify_entity(event)


def _identify_cloud_event(event: JsonValue) -> EventIdentity:
    found = _CLOUD_TYPE.fullmatch(text_of(member(event, "type")) or "")
    return EventIdentity(
        id=text_of(member(event, "id")),
        type=f"quickbooks.{found[1]}" if found else None,
        time=time_of(member(event, "time")),
    )


def _identify_entity(entity: JsonValue) -> EventIdentity:
    realm, number = text_of(member(entity, "realmId")), text_of(member(entity, "id"))
    name, operation = text_of(member(entity, "name")), text_of(member(entity, "operation"))
    updated = text_of(member(entity, "lastUpdated"))
    word = _OPERATIONS.get(operation, operation.lower()) if operation else None
    return EventIdentity(
        id=joined(realm, name, number, operation, updated),
        type=f"quickbooks.{name.lower()}.{word}" if name and word else None,
        time=time_of(updated),
    )


QUICKBOOKS = Preset(
    name="quickbooks",
    title="QuickBooks Online",
    how_to="Developer portal, your app, Webhooks: enter the URL and the entities, then enter its verifier token here.",
    secret_from=SecretOrigin.SENDER,
    signature=HmacSignature(HmacScheme(header="intuit-signature", encoding="base64")),
    identify=_identify,
    split=_split,
)
