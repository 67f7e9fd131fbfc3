"""Making webhooks as their senders would: for testing a set-up, and for the demo."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from crossdock.connectors.webhooks import content_types
from crossdock.connectors.webhooks.identity import EventIdentity
from crossdock.connectors.webhooks.preset import Preset
from crossdock.connectors.webhooks.request import Headers, InboundRequest
from crossdock.connectors.webhooks.scheme import HmacScheme
from crossdock.connectors.webhooks.verify import signature_of

_NO_HEADERS: Mapping[str, str] = {}
_NO_EVENT = EventIdentity()


def sign(
    source: Preset | HmacScheme,
    *,
    secret: str,
    body: bytes,
    url: str,
    now: datetime,
    event: EventIdentity = _NO_EVENT,
    headers: Mapping[str, str] = _NO_HEADERS,
    also_secrets: Sequence[str] = (),
) -> InboundRequest:
    """A POST request that the preset's sender could have made.

    Send it to the answer's `url`, which may differ from the one given (Twilio adds the body's hash to
    it for JSON), with all of the answer's headers. The event's type and id go where the sender puts
    them beside the body (GitHub's headers); without them they are made up. `headers` come on top, and
    win: give a Content-Type there if it cannot be told from the body. `also_secrets` sign too, as
    during a rotation. Raises InvalidSettingsError for a secret that cannot be one.
    """
    companions = source.companions(event.type, event.id) if isinstance(source, Preset) else {}
    usual = {"Content-Type": _content_type(source, body), **companions}
    request = InboundRequest(url=url, headers=Headers(usual.items()).replaced(headers.items()), body=body)
    return signature_of(source).sign(request, secrets=(secret, *also_secrets), now=now)


def _content_type(source: Preset | HmacScheme, body: bytes) -> str:
    if body.lstrip().startswith(b"<"):
        return f"{content_types.XML}; charset=utf-8"
    return source.content_type if isinstance(source, Preset) else content_types.JSON
