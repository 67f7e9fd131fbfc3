"""Zoho CRM's notifications (https://www.zoho.com/crm/developer/docs/api/v8/notifications/overview.html).

Nothing is signed: the body repeats the `token` given to actions/watch. There is no event id; channel,
records, operation and the server's time stand in for one. Only ids come: the records are to be fetched.
"""

from collections.abc import Sequence

from crossdock.connectors.webhooks.bodies import ParsedBody
from crossdock.connectors.webhooks.errors import InvalidBodyError
from crossdock.connectors.webhooks.identity import EventIdentity, joined, member, text_of
from crossdock.connectors.webhooks.preset import Preset
from crossdock.connectors.webhooks.request import InboundRequest
from crossdock.connectors.webhooks.shared_tokens import BodyToken
from crossdock.connectors.webhooks.times import time_of
from crossdock.mapping.json_values import JsonValue

_LONGEST_TOKEN = 50
_TOKEN = "token"  # noqa: S105 - the name of a member


def _tokens(document: JsonValue) -> Sequence[JsonValue]:
    return [member(document, _TOKEN)]


def _written(document: JsonValue, secret: str) -> JsonValue:
    if not isinstance(document, dict):
        raise InvalidBodyError("A notification of Zoho's is a JSON object.")
    return document | {_TOKEN: secret}


def _arrange(_request: InboundRequest, body: ParsedBody) -> ParsedBody:
    """The document without the secret."""
    if not isinstance(body.document, dict):
        return body
    return ParsedBody(body.format, {name: value for name, value in body.document.items() if name != _TOKEN})


def _identify(_request: InboundRequest, document: JsonValue) -> EventIdentity:
    module, operation = text_of(member(document, "module")), text_of(member(document, "operation"))
    ids, sent = member(document, "ids"), member(document, "server_time")
    records = ",".join(str(one) for one in ids) if isinstance(ids, list) else None
    return EventIdentity(
        id=joined(text_of(member(document, "channel_id")), records, operation, text_of(sent)),
        type=f"zoho.{module}.{operation}" if module and operation else None,
        time=time_of(sent, "ms"),
    )


ZOHO = Preset(
    name="zoho",
    title="Zoho CRM",
    how_to="POST actions/watch: the URL as notify_url, the secret as token (50 characters at most).",
    signature=BodyToken(name=_TOKEN, tokens=_tokens, written=_written, longest=_LONGEST_TOKEN),
    identify=_identify,
    arrange=_arrange,
)
