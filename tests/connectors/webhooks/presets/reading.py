"""Reading a webhook as the hub does, up to the events in it."""

from crossdock.connectors.webhooks import EventIdentity, Headers, InboundRequest, Preset, identify, read_document
from crossdock.mapping.json_values import JsonValue
from tests.connectors.webhooks.samples import JSON, URL


def webhook(body: bytes, *headers: tuple[str, str], content_type: str = JSON, url: str = URL) -> InboundRequest:
    """A request with this body and these headers."""
    return InboundRequest(url=url, headers=Headers([("Content-Type", content_type), *headers]), body=body)


def events_of(preset: Preset, request: InboundRequest) -> list[JsonValue]:
    """The document of each event in a request."""
    document = read_document(preset, request).document
    parts = preset.split(document)
    return [document] if parts is None else list(parts)


def identities_of(preset: Preset, request: InboundRequest) -> list[EventIdentity]:
    """Each event's identity, found from its own document alone."""
    return [identify(preset, request, event) for event in events_of(preset, request)]
