"""Microsoft Graph's change notifications (https://learn.microsoft.com/graph/change-notifications-delivery-webhooks).

Nothing is signed: each entry repeats the `clientState` of its subscription. A subscription is made
only after the URL has echoed a `validationToken`. One request may hold entries of many
subscriptions; lifecycle notifications come the same way. Of resource data nothing is decrypted or
checked: `encryptedContent` stays in its event as it came, and `validationTokens` in the receipt's body.
"""

from collections.abc import Sequence
from urllib.parse import parse_qs

from crossdock.connectors.webhooks.bodies import ParsedBody
from crossdock.connectors.webhooks.errors import InvalidBodyError
from crossdock.connectors.webhooks.identity import EventIdentity, joined, member, text_of
from crossdock.connectors.webhooks.preset import Answer, Preset
from crossdock.connectors.webhooks.request import InboundRequest
from crossdock.connectors.webhooks.shared_tokens import BodyToken
from crossdock.mapping.json_values import JsonValue

_LONGEST_CLIENT_STATE = 128
# What Graph sends has some 150 characters.
_LONGEST_VALIDATION_TOKEN = 2_000
_PLAIN_TEXT = "text/plain; charset=utf-8"
_STATE = "clientState"


def _handshake(request: InboundRequest) -> Answer | None:
    """The echo of the token, decoded, that proves to Graph that the URL is ours."""
    query = request.url.partition("?")[2]
    if request.method.upper() != "POST" or "validationToken=" not in query:
        return None
    try:
        tokens = parse_qs(query, errors="strict", max_num_fields=100).get("validationToken", [])
    except ValueError:
        return None
    if len(tokens) != 1 or len(tokens[0]) > _LONGEST_VALIDATION_TOKEN:
        return None
    return Answer(body=tokens[0].encode(), content_type=_PLAIN_TEXT)


def _entries(document: JsonValue) -> list[JsonValue]:
    entries = member(document, "value")
    return entries if isinstance(entries, list) else []


def _states(document: JsonValue) -> Sequence[JsonValue]:
    return [member(entry, _STATE) for entry in _entries(document)]


def _written(document: JsonValue, secret: str) -> JsonValue:
    entries = _entries(document)
    if not isinstance(document, dict) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise InvalidBodyError('A notification of Microsoft Graph is written {"value": [{…}, …]}.')
    return document | {"value": [entry | {_STATE: secret} for entry in entries if isinstance(entry, dict)]}


def _arrange(_request: InboundRequest, body: ParsedBody) -> ParsedBody:
    """The document without the secret in each entry."""
    document = body.document
    if not isinstance(document, dict):
        return body
    kept = _without_state(document)
    entries = _entries(document)
    if entries:
        kept["value"] = [_without_state(entry) if isinstance(entry, dict) else entry for entry in entries]
    return ParsedBody(body.format, kept)


def _without_state(entry: dict[str, JsonValue]) -> dict[str, JsonValue]:
    return {name: value for name, value in entry.items() if name != _STATE}


def _split(document: JsonValue) -> Sequence[JsonValue] | None:
    return _entries(document) or None


def _identify(_request: InboundRequest, document: JsonValue) -> EventIdentity:
    lifecycle = text_of(member(document, "lifecycleEvent"))
    if lifecycle is not None:
        # The same may rightly be said again, and what is missed twice is to be fetched twice.
        return EventIdentity(type=f"microsoft_graph.lifecycle.{lifecycle}")
    change = text_of(member(document, "changeType"))
    return EventIdentity(
        id=joined(
            text_of(member(document, "subscriptionId")),
            text_of(member(document, "resource")),
            change,
            text_of(member(document, "resourceData", "@odata.etag")),
        ),
        type=f"microsoft_graph.{change}" if change else None,
    )


MICROSOFT_GRAPH = Preset(
    name="microsoft_graph",
    title="Microsoft Graph",
    how_to="POST /subscriptions: the URL as notificationUrl and lifecycleNotificationUrl, the secret as clientState.",
    signature=BodyToken(name=_STATE, tokens=_states, written=_written, longest=_LONGEST_CLIENT_STATE),
    identify=_identify,
    arrange=_arrange,
    split=_split,
    handshake=_handshake,
    accepted=Answer(status=202),
)
