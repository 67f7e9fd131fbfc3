"""Slack (https://docs.slack.dev/authentication/verifying-requests-from-slack): `v0:{time}:{body}`.

Three kinds of requests: events as JSON, slash commands as forms, and interaction as a form whose
`payload` is JSON. The challenge with which Slack tries a URL is signed like all else, so it is
answered once that is proven. Checked against the vendor's `slack_sdk.signature`.
"""

from crossdock.connectors.webhooks.form_payload import payload_as_document
from crossdock.connectors.webhooks.hmac_signature import HmacSignature
from crossdock.connectors.webhooks.identity import EventIdentity, member, text_of
from crossdock.connectors.webhooks.preset import Answer, Preset, SecretOrigin
from crossdock.connectors.webhooks.request import InboundRequest
from crossdock.connectors.webhooks.scheme import HmacScheme, TimestampRule
from crossdock.connectors.webhooks.times import time_of
from crossdock.mapping.json_values import JsonValue


def _identify(_request: InboundRequest, document: JsonValue) -> EventIdentity:
    if text_of(member(document, "command")) is not None:
        # A command is sent once, however it is answered.
        return EventIdentity(id=text_of(member(document, "trigger_id")), type="slack.slash_command")
    event = member(document, "event")
    if event is not None:
        word, happened = text_of(member(event, "type")), member(event, "event_ts") or member(document, "event_time")
        return _identity(text_of(member(document, "event_id")), word, happened)
    return _identity(text_of(member(document, "trigger_id")), text_of(member(document, "type")), _acted_at(document))


def _acted_at(document: JsonValue) -> JsonValue:
    actions = member(document, "actions")
    acted = member(actions[0], "action_ts") if isinstance(actions, list) and actions else None
    return acted or member(document, "action_ts")


def _identity(event_id: str | None, word: str | None, happened: JsonValue) -> EventIdentity:
    return EventIdentity(id=event_id, type=f"slack.{word}" if word else None, time=time_of(happened, "s"))


def _reply(_request: InboundRequest, document: JsonValue) -> Answer | None:
    """Slack's question whether the URL is ours."""
    challenge = member(document, "challenge")
    if member(document, "type") != "url_verification" or not isinstance(challenge, str):
        return None
    return Answer(body=challenge.encode(), content_type="text/plain")


SLACK = Preset(
    name="slack",
    title="Slack",
    how_to="api.slack.com, your app: enter the URL under Event Subscriptions, and its signing secret here.",
    secret_from=SecretOrigin.SENDER,
    signature=HmacSignature(
        HmacScheme(
            header="X-Slack-Signature",
            prefix="v0=",
            timestamp=TimestampRule(header="X-Slack-Request-Timestamp"),
            signed_content="v0:{timestamp}:{body}",
        )
    ),
    identify=_identify,
    arrange=payload_as_document,
    reply=_reply,
    # Whatever else a command or a dialog is answered, Slack shows to the person or takes for a mistake.
    accepted=Answer(),
)
