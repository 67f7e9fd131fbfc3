"""Making webhooks as their senders would: for testing a set-up, and for the demo."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime

from crossdock.connectors.webhooks import content_types
from crossdock.connectors.webhooks.identity import EventIdentity
from crossdock.connectors.webhooks.preset import Preset
from crossdock.connectors.webhooks.request import Headers, InboundRequest
from crossdock.connectors.webhooks.scheme import HmacScheme
from crossdock.connectors.webhooks.verify import signature_of

_FORM = re.compile(rb"[A-Za-z0-9_.%+\[\]-]+=")
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

    Send the answer's `body` to its `url`, with all of its headers; both may differ from those given
    (Twilio adds a JSON body's hash to the URL, Mailgun's signature stands in the body). The event's
    type and id go where the sender puts them beside the body (GitHub's headers); without them they are
    made up. `headers` come on top, and win: give a Content-Type there if it cannot be told from the
    body. `also_secrets` sign too, as during a rotation. Raises InvalidSettingsError for a secret that
    cannot be one.
    """
    companions = source.companions(event.type, event.id) if isinstance(source, Preset) else {}
    usual = {"Content-Type": _content_type(source, body), **companions}
    request = InboundRequest(url=url, headers=Headers(usual.items()).replaced(headers.items()), body=body)
    return signature_of(source).sign(request, secrets=(secret, *also_secrets), now=now)


def _content_type(source: Preset | HmacScheme, body: bytes) -> str:
    """As the body looks; what looks like nothing is what the preset's sender sends."""
    start = body.lstrip()
    if start.startswith(b"<"):
        return f"{content_types.XML}; charset=utf-8"
    if start.startswith((b"{", b"[")):
        return content_types.JSON
    if _FORM.match(start):
        return content_types.FORM
    return source.content_type if isinstance(source, Preset) else content_types.JSON
