"""GitHub (https://docs.github.com/webhooks): HMAC-SHA256 of the body; event and delivery in headers.

The delivery id is not signed. Whoever captured a request could send it again under a new one, as on
every receiver of GitHub's.
"""

from collections.abc import Mapping
from datetime import datetime
from uuid import uuid4

from crossdock.connectors.webhooks.form_payload import payload_as_document
from crossdock.connectors.webhooks.hmac_signature import HmacSignature
from crossdock.connectors.webhooks.identity import EventIdentity, member, text_of
from crossdock.connectors.webhooks.preset import Preset
from crossdock.connectors.webhooks.request import InboundRequest
from crossdock.connectors.webhooks.scheme import HmacScheme
from crossdock.connectors.webhooks.shared_tokens import SHORTEST
from crossdock.connectors.webhooks.times import time_of
from crossdock.mapping.json_values import JsonValue

_EVENT = "X-GitHub-Event"
_DELIVERY = "X-GitHub-Delivery"
# What an event is about, where that is not named like the event.
_SUBJECTS = {
    "issues": "issue",
    "commit_comment": "comment",
    "issue_comment": "comment",
    "pull_request_review_comment": "comment",
    "pull_request_review": "review",
}
_TIMES = ("updated_at", "submitted_at", "created_at")


def _identify(request: InboundRequest, document: JsonValue) -> EventIdentity:
    event, action = request.headers.get(_EVENT), text_of(member(document, "action"))
    named = [part for part in ("github", event, action) if part]
    return EventIdentity(
        id=request.headers.get(_DELIVERY),
        type=".".join(named) if event else None,
        time=_time(event, document) if event else None,
    )


def _time(event: str, document: JsonValue) -> datetime | None:
    """When its subject was last changed: GitHub gives events no time of their own."""
    if event == "push":
        return time_of(member(document, "repository", "pushed_at"), "s")
    subject = member(document, _SUBJECTS.get(event, event))
    times = (time_of(member(subject, name)) for name in _TIMES)
    return next((time for time in times if time), None)


def _companions(event_type: str | None, event_id: str | None) -> Mapping[str, str]:
    event = (event_type or "ping").removeprefix("github.").partition(".")[0]
    return {_EVENT: event, _DELIVERY: event_id or str(uuid4())}


GITHUB = Preset(
    name="github",
    title="GitHub",
    how_to="Repository or organization, Settings, Webhooks: enter the URL, JSON, and the secret you choose.",
    signature=HmacSignature(HmacScheme(header="X-Hub-Signature-256", prefix="sha256="), shortest_secret=SHORTEST),
    identify=_identify,
    arrange=payload_as_document,
    companions=_companions,
)
