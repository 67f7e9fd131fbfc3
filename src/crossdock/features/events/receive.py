"""`POST /api/v1/events`: the hot way in."""

import time

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from crossdock.features.events.ingest import Accepted, EventWriter
from crossdock.features.events.publishing import Publication, Publishing, PublishRequest
from crossdock.http.access import Gatekeeper, admit
from crossdock.http.correlation import correlation_id_of
from crossdock.http.fair_turns import FairTurns
from crossdock.http.hot_routes import hot_route, whole_body
from crossdock.kit.errors import CrossdockError
from crossdock.kit.ids import IdKind, format_id
from crossdock.kit.permissions import Permission
from crossdock.observability import metrics

PUBLISH_PATH = "/api/v1/events"
_NOBODY = "No subscription asks for this event; it is kept, and shown in the list of events."


class AcceptedEvent(msgspec.Struct, omit_defaults=True):
    """What is answered about one accepted event."""

    id: str
    type: str
    deliveries: int
    duplicate: bool = False
    note: str | None = None


class AcceptedBatch(msgspec.Struct):
    """What is answered about a batch, in its order."""

    events: list[AcceptedEvent]


def publish_route(*, gatekeeper: Gatekeeper, publishing: Publishing, writer: EventWriter, turns: FairTurns) -> Route:
    """The route that takes events in; it answers 202 once they are durable."""

    async def publish(request: Request) -> Response:
        started = time.perf_counter()
        try:
            principal = await admit(gatekeeper, request.scope, Permission.EVENT_PUBLISH)
            asked = PublishRequest(
                tenant_id=principal.tenant_id,
                headers=_headers(request),
                body=await whole_body(request),
                correlation_id=correlation_id_of(request.scope),
            )
            await turns.begin(principal.tenant_id, len(asked.body))
            try:
                publication = await publishing.read(asked)
                accepted = await writer.publish(publication.events, claim=publication.claim, claims=publication.claims)
            finally:
                turns.end(principal.tenant_id, len(asked.body))
        except CrossdockError as error:
            metrics.EVENTS_REFUSED.labels(error.code).inc()
            raise
        metrics.INGEST_S.observe(time.perf_counter() - started)
        repeated = publication.claim is not None and accepted[0].duplicate
        return Response(
            _encode(publication, accepted, repeated=repeated),
            status_code=202,
            media_type="application/json",
            headers={"Idempotency-Replayed": "true"} if repeated else None,
        )

    return hot_route(PUBLISH_PATH, publish)


def _headers(request: Request) -> dict[str, str]:
    """The first value of each header, by its name in lower case."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(request.scope["headers"])}


def _encode(publication: Publication, accepted: list[Accepted], *, repeated: bool) -> bytes:
    """What is answered: to a request repeated under its Idempotency-Key, the same as the first time."""
    answers = [
        AcceptedEvent(
            id=format_id(IdKind.EVENT, one.event_id),
            type=event.type,
            deliveries=one.delivery_count,
            duplicate=one.duplicate and not repeated,
            note=None if one.delivery_count or (one.duplicate and not repeated) else _NOBODY,
        )
        for event, one in zip(publication.events, accepted, strict=True)
    ]
    return msgspec.json.encode(AcceptedBatch(answers) if publication.is_batch else answers[0])
