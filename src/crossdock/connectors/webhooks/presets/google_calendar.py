"""Google Calendar's push channels (https://developers.google.com/calendar/api/guides/push).

No signature and no body: what is said stands in headers, and the token chosen when the channel was
opened comes back in `X-Goog-Channel-Token`. The document to map is made of the other headers. The
`sync` message that opens a channel is answered and not stored.
"""

from collections.abc import Mapping
from uuid import uuid4

from crossdock.connectors.webhooks.bodies import ParsedBody
from crossdock.connectors.webhooks.identity import EventIdentity, joined, member, text_of
from crossdock.connectors.webhooks.preset import Answer, Preset
from crossdock.connectors.webhooks.request import InboundRequest
from crossdock.connectors.webhooks.shared_tokens import HeaderToken
from crossdock.mapping.json_values import JsonValue

_LONGEST_TOKEN = 256
_HEADERS = {
    "channelId": "X-Goog-Channel-ID",
    "channelExpiration": "X-Goog-Channel-Expiration",
    "resourceId": "X-Goog-Resource-ID",
    "resourceUri": "X-Goog-Resource-URI",
    "resourceState": "X-Goog-Resource-State",
    "messageNumber": "X-Goog-Message-Number",
}
_OPENED = "sync"


def _arrange(request: InboundRequest, body: ParsedBody) -> ParsedBody:
    found: dict[str, JsonValue] = {name: request.headers.get(header) for name, header in _HEADERS.items()}
    return ParsedBody(body.format, {name: value for name, value in found.items() if value is not None})


def _identify(_request: InboundRequest, document: JsonValue) -> EventIdentity:
    state = text_of(member(document, "resourceState"))
    return EventIdentity(
        id=joined(text_of(member(document, "channelId")), text_of(member(document, "messageNumber"))),
        type=f"google_calendar.{state}" if state else None,
    )


def _reply(_request: InboundRequest, document: JsonValue) -> Answer | None:
    return Answer() if member(document, "resourceState") == _OPENED else None


def _companions(event_type: str | None, event_id: str | None) -> Mapping[str, str]:
    channel, _, number = (event_id or "").rpartition(":")
    return {
        "X-Goog-Channel-ID": channel or str(uuid4()),
        "X-Goog-Message-Number": number or "2",
        "X-Goog-Resource-ID": "o3hgv1538sdjfh",
        "X-Goog-Resource-URI": "https://www.googleapis.com/calendar/v3/calendars/primary/events?alt=json",
        "X-Goog-Resource-State": (event_type or "exists").removeprefix("google_calendar."),
    }


GOOGLE_CALENDAR = Preset(
    name="google_calendar",
    title="Google Calendar",
    how_to="events.watch: the URL as address, the secret as token (256 characters at most), type web_hook.",
    signature=HeaderToken(header="X-Goog-Channel-Token", longest=_LONGEST_TOKEN),
    identify=_identify,
    arrange=_arrange,
    reply=_reply,
    secret_headers=frozenset({"x-goog-channel-token"}),
    companions=_companions,
)
