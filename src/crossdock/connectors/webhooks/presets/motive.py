"""Motive (https://developer.gomotive.com/docs/webhooks): HMAC-SHA1 of the body in hex.

Neither id nor time is signed, and events have no id of their own: what arrives twice with the same
content is one event. A body may be a list; the test message is a list of bare action names, which
are no events.
"""

import hashlib
import json
from collections.abc import Sequence
from http import HTTPStatus

from crossdock.connectors.webhooks.hmac_signature import HmacSignature
from crossdock.connectors.webhooks.identity import EventIdentity, member, text_of
from crossdock.connectors.webhooks.preset import Answer, Preset, SecretOrigin
from crossdock.connectors.webhooks.request import InboundRequest
from crossdock.connectors.webhooks.scheme import HmacScheme
from crossdock.connectors.webhooks.times import time_of
from crossdock.mapping.json_values import JsonValue

# The first that an action has.
_TIMES = ("located_at", "last_observed_at", "updated_at")


def _split(document: JsonValue) -> Sequence[JsonValue] | None:
    if not isinstance(document, list):
        return None
    return [event for event in document if not isinstance(event, str)]


def _identify(_request: InboundRequest, event: JsonValue) -> EventIdentity:
    action = text_of(member(event, "action"))
    times = (time_of(member(event, name)) for name in _TIMES)
    return EventIdentity(
        id=_content_hash(event) if isinstance(event, dict) else None,
        type=f"motive.{action}" if action else None,
        time=next((time for time in times if time), None),
    )


def _content_hash(event: JsonValue) -> str:
    written = json.dumps(event, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(written.encode()).hexdigest()}"


MOTIVE = Preset(
    name="motive",
    title="Motive",
    how_to="Admin, Developer, Webhooks: add the URL and the actions, then enter the shared secret shown there here.",
    secret_from=SecretOrigin.SENDER,
    signature=HmacSignature(HmacScheme(header="X-KT-Webhook-Signature", algorithm="sha1")),
    identify=_identify,
    split=_split,
    refused=Answer(status=HTTPStatus.FORBIDDEN),
)
