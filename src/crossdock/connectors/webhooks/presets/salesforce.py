"""Salesforce's outbound messages (SOAP; https://developer.salesforce.com/docs: Outbound Messaging).

Nothing is signed and there is no secret: only the organization's id is checked, which is no secret
either. Keep the URL to yourself, and set a list of source addresses or use `mutual_tls` where you can.
One message holds up to 100 notifications, each an event with the record as it is now. They may come
twice and out of order, and are sent again until they are acknowledged. The session id that a message
may carry is never part of a document.

Settings: `{"organization_ids": ["00D…"]}`, of 15 or 18 characters.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated

from pydantic import Field

from crossdock.connectors.webhooks import content_types
from crossdock.connectors.webhooks.bodies import BodyFormat, ParsedBody, parse_body
from crossdock.connectors.webhooks.errors import (
    InvalidBodyError,
    MalformedSignatureError,
    MissingSecretError,
    MissingSignatureError,
    UnlistedSenderError,
    UnsupportedBodyError,
)
from crossdock.connectors.webhooks.identity import EventIdentity, member, text_of
from crossdock.connectors.webhooks.preset import Answer, Configured, Preset
from crossdock.connectors.webhooks.request import InboundRequest
from crossdock.connectors.webhooks.settings_reading import SettingsPart
from crossdock.connectors.webhooks.signature import ReadsBody, SecretFree, Verified
from crossdock.mapping.json_values import JsonValue

# The three characters behind tell letters' case apart, and are left out by some of Salesforce's own pages.
_SIGNIFICANT = 15
_MESSAGE = ("Envelope", "Body", "notifications")
_SESSION = "SessionId"
_ONE = "Notification"
_ACKNOWLEDGED = (
    b'<?xml version="1.0" encoding="UTF-8"?>'
    b'<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Body>'
    b'<notificationsResponse xmlns="http://soap.sforce.com/2005/09/outbound"><Ack>true</Ack></notificationsResponse>'
    b"</soapenv:Body></soapenv:Envelope>"
)

OrganizationId = Annotated[str, Field(pattern=r"^00D[A-Za-z0-9]{12}(?:[A-Za-z0-9]{3})?$")]


class SalesforceSettings(SettingsPart):
    """Whose messages to accept."""

    organization_ids: list[OrganizationId] = Field(
        min_length=1, max_length=50, description="Ids of organizations; see Setup, Company Information."
    )


@dataclass(frozen=True, slots=True)
class OrganizationCheck(SecretFree, ReadsBody):
    """The organization that a message names must be one of these."""

    organization_ids: tuple[str, ...] = ()

    def verify(
        self,
        request: InboundRequest,
        *,
        secrets: Sequence[str],  # noqa: ARG002 - Salesforce has none
        now: datetime,  # noqa: ARG002 - no time is signed
        tolerance_s: int | None = None,  # noqa: ARG002 - no time is signed
    ) -> Verified:
        """Accept a message of one of the organizations; raise a WebhookRefusedError otherwise."""
        if not self.organization_ids:
            raise MissingSecretError("The endpoint's settings name no organization_ids to accept messages of.")
        organization = member(_message(request), "OrganizationId")
        if organization is None:
            raise MissingSignatureError("The webhook is no outbound message: it has no OrganizationId.")
        if not isinstance(organization, str) or len(organization) < _SIGNIFICANT:
            raise MalformedSignatureError("The webhook's OrganizationId is not one of Salesforce's ids.")
        if organization[:_SIGNIFICANT] not in {one[:_SIGNIFICANT] for one in self.organization_ids}:
            raise UnlistedSenderError(
                f"The webhook comes from organization {organization[:18]!r}, which is not in organization_ids."
            )
        return Verified()

    def sign(self, request: InboundRequest, *, secrets: Sequence[str], now: datetime) -> InboundRequest:
        """The request as it is; raises a WebhookRefusedError for a body that would not be accepted."""
        self.verify(request, secrets=secrets, now=now)
        return request


def _message(request: InboundRequest) -> JsonValue:
    try:
        body = parse_body(request.body, request.headers.get("content-type"))
    except (InvalidBodyError, UnsupportedBodyError) as error:
        raise MalformedSignatureError(f"The webhook is no outbound message: {error.message}") from None
    return member(body.document, *_MESSAGE) if body.format is BodyFormat.XML else None


def _arrange(_request: InboundRequest, body: ParsedBody) -> ParsedBody:
    """The message alone, without its envelope and without the session."""
    message = member(body.document, *_MESSAGE)
    if not isinstance(message, dict):
        return body
    return ParsedBody(body.format, {name: value for name, value in message.items() if name != _SESSION})


def _split(document: JsonValue) -> Sequence[JsonValue] | None:
    """Each notification with what the message says of all of them."""
    notifications = member(document, _ONE)
    if not isinstance(document, dict) or not isinstance(notifications, list):
        return None
    common = {name: value for name, value in document.items() if name != _ONE}
    return [common | {_ONE: notification} for notification in notifications]


def _identify(_request: InboundRequest, document: JsonValue) -> EventIdentity:
    kind = text_of(member(document, _ONE, "sObject", "@type"))
    return EventIdentity(
        id=text_of(member(document, _ONE, "Id")),
        type=f"salesforce.{kind.rpartition(':')[2]}" if kind else None,
    )


def _configure(settings: SalesforceSettings) -> Preset:
    return replace(SALESFORCE, signature=OrganizationCheck(tuple(settings.organization_ids)))


SALESFORCE = Preset(
    name="salesforce",
    title="Salesforce outbound messages",
    how_to="Setup, Outbound Messages: the URL, Send Session ID off; here your organization's id as organization_ids.",
    signature=OrganizationCheck(),
    identify=_identify,
    arrange=_arrange,
    split=_split,
    accepted=Answer(body=_ACKNOWLEDGED, content_type=content_types.XML),
    xml_lists=frozenset({_ONE}),
    content_type=content_types.XML,
    configured=Configured(SalesforceSettings, _configure),
    needs_settings=True,
)
