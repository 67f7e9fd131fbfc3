"""DocuSign Connect: JSON and XML; one numbered signature per active key, HMAC-SHA256 of the body.

The key is the text that Connect shows, not what it decodes to. There is no timestamp: a replay is
known by envelope, event and time generated. Times in the XML have no zone; `TimeZoneOffset`, in
hours, is the sender's, and is written behind them here.
"""

import re
from collections.abc import Callable, Mapping

from crossdock.connectors.webhooks.bodies import BodyFormat, ParsedBody
from crossdock.connectors.webhooks.hmac_signature import HmacSignature
from crossdock.connectors.webhooks.identity import EventIdentity, joined, member, text_of
from crossdock.connectors.webhooks.preset import Preset, SecretOrigin
from crossdock.connectors.webhooks.request import InboundRequest
from crossdock.connectors.webhooks.scheme import NUMBER, HmacScheme
from crossdock.connectors.webhooks.times import time_of
from crossdock.mapping.json_values import JsonValue

_ROOT = "DocuSignEnvelopeInformation"
_LISTS = frozenset(
    {"RecipientStatus", "TabStatus", "CustomField", "DocumentStatus", "DocumentPDF", "Attachment", "field"}
)
# By name, so that a signer's own text that looks like a time stays as typed.
_TIMES = frozenset(
    {
        "TimeGenerated",
        "Created",
        "Sent",
        "Delivered",
        "Signed",
        "Completed",
        "Declined",
        "Deleted",
        "Voided",
        "ACStatusDate",
        "EventTimestamp",
    }
)
_TIME_WITHOUT_ZONE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?")
_OFFSET = re.compile(r"([+-]?)(\d{1,2})(?:\.(\d+)|:(\d\d))?")


def _identify(_request: InboundRequest, document: JsonValue) -> EventIdentity:
    status = member(document, _ROOT, "EnvelopeStatus")
    return _identify_xml(status) if status is not None else _identify_json(document)


def _identify_json(document: JsonValue) -> EventIdentity:
    envelope = text_of(member(document, "data", "envelopeId"))
    event, generated = text_of(member(document, "event")), text_of(member(document, "generatedDateTime"))
    found = joined(envelope, event, generated)
    recipient = text_of(member(document, "data", "recipientId"))
    return EventIdentity(
        # Two recipients may act in one envelope at the same instant.
        id=joined(found, recipient) if recipient else found,
        type=f"docusign.{event}" if event else None,
        time=time_of(generated),
    )


def _identify_xml(status: JsonValue) -> EventIdentity:
    envelope, word = text_of(member(status, "EnvelopeID")), text_of(member(status, "Status"))
    generated = text_of(member(status, "TimeGenerated"))
    return EventIdentity(
        id=joined(envelope, word, generated),
        type=f"docusign.envelope-{word.lower()}" if word else None,
        # The zone is the account's, and not known where the offset is not said.
        time=None if _TIME_WITHOUT_ZONE.fullmatch(generated or "") else time_of(generated),
    )


def _arrange(_request: InboundRequest, body: ParsedBody) -> ParsedBody:
    offset = text_of(member(body.document, _ROOT, "TimeZoneOffset"))
    zone = _zone(offset) if offset and body.format is BodyFormat.XML else None
    if zone is None:
        return body
    return ParsedBody(body.format, _map_times(body.document, lambda time: time + zone))


def _zone(hours: str) -> str | None:
    """`-7`, `5.5` or `+05:30` as `-07:00`, `+05:30`; None for what is not an offset."""
    found = _OFFSET.fullmatch(hours.strip())
    if found is None:
        return None
    sign, whole, fraction, minutes = found.groups()
    past = int(minutes) if minutes else round(float(f"0.{fraction or 0}") * 60)
    return f"{sign or '+'}{int(whole):02}:{past:02}"


def _map_times(value: JsonValue, change: Callable[[str], str]) -> JsonValue:
    if isinstance(value, list):
        return [_map_times(item, change) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: change(part)
        if name in _TIMES and isinstance(part, str) and _TIME_WITHOUT_ZONE.fullmatch(part)
        else _map_times(part, change)
        for name, part in value.items()
    }


def _companions(_event_type: str | None, _event_id: str | None) -> Mapping[str, str]:
    return {"X-Authorization-Digest": "HMACSHA256"}


DOCUSIGN = Preset(
    name="docusign",
    title="DocuSign Connect",
    how_to="Settings, Connect: add the URL, include HMAC signature, then enter the Connect key here as shown.",
    secret_from=SecretOrigin.SENDER,
    signature=HmacSignature(HmacScheme(header=f"X-DocuSign-Signature-{NUMBER}", encoding="base64")),
    identify=_identify,
    arrange=_arrange,
    xml_lists=_LISTS,
    companions=_companions,
)
