"""Publish requests: plain JSON, CloudEvents 1.0 structured, batched and binary, into events to write.

A CloudEvent's `source` and `id` name it: sent again it is accepted once.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from crossdock.features.events import cloud_events
from crossdock.features.events.catalogue import Catalogue
from crossdock.features.events.content import JSON, is_json
from crossdock.features.events.drafts import Draft, check_utf8, fault_at
from crossdock.features.events.errors import InvalidEventError
from crossdock.features.events.ingest import IdempotencyClaim, NewEvent
from crossdock.features.events.models import EventOrigin
from crossdock.http.idempotency import check_key
from crossdock.kit.clock import Clock
from crossdock.kit.errors import Fault, PayloadTooLargeError
from crossdock.kit.ids import new_uuid
from crossdock.kit.loop_turn import LoopTurn
from crossdock.mapping.patterns import is_event_type

MAX_BATCH = 1_000
_MAX_TEXT = 1_024
# Beyond these some zone of the world has a year that Python does not know.
_FIRST_YEAR, _LAST_YEAR = 2, 9998
_MAX_ATTRIBUTES_BYTES = 16 * 1024
_PUBLISH_SCOPE = "events"
_CLOUD_EVENT_SCOPE = "cloudevents"


class EventInput(msgspec.Struct, forbid_unknown_fields=True):
    """One event as an application publishes it; the bytes of `data` are kept as they came."""

    type: str
    data: msgspec.Raw
    version: int | None = None
    time: datetime | None = None
    source: str | None = None
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class PublishRequest:
    """The parts of an HTTP request that publishing looks at; header names in lower case."""

    tenant_id: UUID
    headers: Mapping[str, str]
    body: bytes
    correlation_id: str


@dataclass(slots=True)
class Publication:
    """Validated events, ready to be written.

    `claim` is the caller's idempotency key, `claims` are CloudEvents' own names: one for each event, or none.
    """

    events: list[NewEvent]
    claim: IdempotencyClaim | None
    claims: list[IdempotencyClaim]
    is_batch: bool


_plain_decoder = msgspec.json.Decoder(EventInput | list[EventInput])
_object_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_batch_decoder = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])


class Publishing:
    """Makes publications of requests."""

    def __init__(self, *, catalogue: Catalogue, clock: Clock, max_payload_bytes: int) -> None:
        self._catalogue = catalogue
        self._clock = clock
        self._max_payload_bytes = max_payload_bytes

    async def read(self, request: PublishRequest) -> Publication:
        """The events of a request, all of them valid.

        Raises InvalidInputError with the place of each fault, PayloadTooLargeError, or UnknownEventTypeError.
        """
        drafts, is_batch = _drafts(request)
        if not 1 <= len(drafts) <= MAX_BATCH:
            raise InvalidEventError(f"A batch holds 1 to {MAX_BATCH} events, not {len(drafts)}.")
        events = []
        turn = LoopTurn()
        for draft in drafts:
            events.append(await self._event(draft, request))
            if turn.over():
                await turn.pass_on()
        claim = _key_claim(request)
        return Publication(events, claim, _name_claims(request, drafts) if claim is None else [], is_batch)

    async def _event(self, draft: Draft, request: PublishRequest) -> NewEvent:
        _check_texts(draft)
        if len(draft.payload) > self._max_payload_bytes:
            raise PayloadTooLargeError(
                f"The data of the event at {draft.pointer or '/'} has {len(draft.payload)} bytes; "
                f"at most {self._max_payload_bytes} are accepted."
            )
        if is_json(draft.content_type):
            await self._catalogue.check(request.tenant_id, draft.type, draft.version, draft.payload, draft.pointer)
        return NewEvent(
            tenant_id=request.tenant_id,
            id=new_uuid(),
            type=draft.type,
            payload=draft.payload,
            content_type=draft.content_type,
            correlation_id=request.correlation_id,
            origin=EventOrigin.API,
            occurred_at=_in_utc(draft.time) if draft.time else self._clock.now(),
            type_version=draft.version,
            source=draft.source,
            subject=draft.subject,
            attributes=draft.attributes or None,
        )


def _drafts(request: PublishRequest) -> tuple[list[Draft], bool]:
    media_type = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
    if cloud_events.is_binary(request.headers, media_type):
        return [cloud_events.binary(request.headers, request.body)], False
    check_utf8(request.body)
    try:
        if media_type == cloud_events.STRUCTURED:
            return [cloud_events.structured(_object_decoder.decode(request.body), "")], False
        if media_type == cloud_events.BATCH:
            members = _batch_decoder.decode(request.body)
            return [cloud_events.structured(event, f"/{index}") for index, event in enumerate(members)], True
        if media_type != JSON:
            raise InvalidEventError(
                f"Events come as {JSON}, {cloud_events.STRUCTURED}, {cloud_events.BATCH}, or with ce- headers; "
                f"not as {media_type!r}.",
                (Fault("", f"content type {media_type!r}"),),
            )
        decoded = _plain_decoder.decode(request.body)
    except msgspec.MsgspecError as error:
        raise _not_decodable(error) from None
    except RecursionError:
        raise InvalidEventError("The body is nested too deeply.", (Fault("", "nested too deeply"),)) from None
    if isinstance(decoded, EventInput):
        return [_plain_event(decoded, "")], False
    return [_plain_event(event, f"/{index}") for index, event in enumerate(decoded)], True


def _plain_event(given: EventInput, pointer: str) -> Draft:
    return Draft(
        type=given.type,
        payload=bytes(given.data),
        pointer=pointer,
        version=given.version,
        time=given.time,
        source=given.source,
        subject=given.subject,
    )


def _check_texts(draft: Draft) -> None:
    if not is_event_type(draft.type):
        raise fault_at(
            draft.pointer,
            "type",
            "An event type has 1 to 255 letters, digits, - and _ in segments joined by dots, such as order.created.",
        )
    texts = {"source": draft.source, "subject": draft.subject, "datacontenttype": draft.content_type}
    for name, text in texts.items():
        if text is not None and (len(text) > _MAX_TEXT or not _is_storable(text)):
            raise fault_at(draft.pointer, name, f"{name} has at most {_MAX_TEXT} characters, none of them NUL.")
    if draft.version is not None and not 1 <= draft.version < 2**31:
        raise fault_at(draft.pointer, "version", "version is a whole number from 1.")
    if draft.attributes:
        _check_attributes(draft)
    if draft.time is not None and not _FIRST_YEAR <= draft.time.year <= _LAST_YEAR:
        raise fault_at(draft.pointer, "time", f"time lies between the years {_FIRST_YEAR} and {_LAST_YEAR}.")


def _check_attributes(draft: Draft) -> None:
    encoded = msgspec.json.encode(draft.attributes)
    if len(encoded) > _MAX_ATTRIBUTES_BYTES:
        raise fault_at(draft.pointer, "", f"The attributes have at most {_MAX_ATTRIBUTES_BYTES} bytes in all.")
    if not _is_storable(encoded.decode()):
        raise fault_at(draft.pointer, "", "An attribute holds a NUL character, which cannot be stored.")


def _is_storable(text: str) -> bool:
    return "\x00" not in text and "\\u0000" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


def _key_claim(request: PublishRequest) -> IdempotencyClaim | None:
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    check_key(key)
    fingerprint = hashlib.sha256(b"\x00".join(_identity(request))).digest()
    return IdempotencyClaim(request.tenant_id, _PUBLISH_SCOPE, key, fingerprint)


def _name_claims(request: PublishRequest, drafts: Sequence[Draft]) -> list[IdempotencyClaim]:
    """For each CloudEvent its source and id; plain events have no name."""
    names = [f"{draft.source}\x1f{draft.attributes['id']}" for draft in drafts if "id" in draft.attributes]
    return [
        IdempotencyClaim(request.tenant_id, _CLOUD_EVENT_SCOPE, hashlib.sha256(name.encode()).hexdigest(), b"")
        for name in names
    ]


def _identity(request: PublishRequest) -> list[bytes]:
    """What makes two requests the same."""
    named = sorted(
        f"{name}:{value}"
        for name, value in request.headers.items()
        if name == "content-type" or name.startswith(cloud_events.CE_PREFIX)
    )
    return [*(line.encode() for line in named), request.body]


def _in_utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC)


def _not_decodable(error: msgspec.MsgspecError) -> InvalidEventError:
    """Msgspec names the place as `$[3].type`; a JSON pointer says `/3/type`."""
    what, _, place = str(error).partition(" - at `$")
    pointer = place.rstrip("`").replace("[...]", "").replace("[", "/").replace("]", "").replace(".", "/")
    return InvalidEventError(f"The body is not an event or a batch of events: {what}.", (Fault(pointer, what),))
