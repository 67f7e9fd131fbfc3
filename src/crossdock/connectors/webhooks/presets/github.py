"""GitHub (https://docs.github.com/webhooks): HMAC-SHA256 of the body; event and delivery in headers.

The delivery id is not signed. Whoever captured a request could send it again under a new one, as on
every receiver of GitHub's.
"""

from collections.abc import Mapping
from uuid import uuid4

from crossdock.connectors.webhooks.bodies import BodyFormat, ParsedBody, parse_json
from crossdock.connectors.webhooks.hmac_signature import HmacSignature
from crossdock.connectors.webhooks.identity import EventIdentity, member, text_of
from crossdock.connectors.webhooks.preset import Preset
from crossdock.connectors.webhooks.request import InboundRequest
from crossdock.connectors.webhooks.scheme import HmacScheme
from crossdock.mapping.json_values import JsonValue

_EVENT = "X-GitHub-Event"
_DELIVERY = "X-GitHub-Delivery"
_FORM_FIELD = "payload"


def _identify(request: InboundRequest, document: JsonValue) -> EventIdentity:
    event, action = request.headers.get(_EVENT), text_of(member(document, "action"))
    named = [part for part in ("github", event, action) if part]
    return EventIdentity(id=request.headers.get(_DELIVERY), type=".".join(named) if event else None)


def _arrange(_request: InboundRequest, body: ParsedBody) -> ParsedBody:
    """GitHub's form bodies are one field with the JSON in it."""
    payload = member(body.document, _FORM_FIELD) if body.format is BodyFormat.FORM else None
    return ParsedBody(body.format, parse_json(payload.encode())) if isinstance(payload, str) else body


def _companions(event_type: str | None, event_id: str | None) -> Mapping[str, str]:
    event = (event_type or "ping").removeprefix("github.").partition(".")[0]
    return {_EVENT: event, _DELIVERY: event_id or str(uuid4())}


GITHUB = Preset(
    name="github",
    title="GitHub",
    how_to="Repository or organization, Settings, Webhooks: enter the URL, JSON, and the secret you choose.",
    signature=HmacSignature(HmacScheme(header="X-Hub-Signature-256", prefix="sha256=")),
    identify=_identify,
    arrange=_arrange,
    companions=_companions,
)
