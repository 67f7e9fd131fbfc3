"""Publish requests: plain JSON, CloudEvents 1.0 structured, batched and binary, into events to write.

CloudEvents: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md
and its JSON format. A CloudEvent's `source` and `id` name it: sent again it is accepted once.
"""

import hashlib
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote
from uuid import UUID

import msgspec

from crossdock.features.events.catalogue import Catalogue
from crossdock.features.events.errors import InvalidEventError
from crossdock.features.events.ingest import IdempotencyClaim, NewEvent
from crossdock.features.events.models import EventOrigin
from crossdock.kit.clock import Clock
from crossdock.kit.errors import Fault, InvalidInputError, PayloadTooLargeError
from crossdock.kit.ids import new_uuid
from crossdock.mapping.patterns import is_event_type

MAX_BATCH = 1_000
_MAX_TEXT = 1_024
_MAX_KEY = 255
_JSON = "application/json"
_CE_STRUCTURED = "application/cloudevents+json"
_CE_BATCH = "application/cloudevents-batch+json"
_CE_PREFIX = "ce-"
_CE_CONTEXT = frozenset({"specversion", "id", "source", "type", "time", "subject", "datacontenttype"})
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
    """Validated events, ready to be written, and the caller's idempotency key."""

    events: list[NewEvent]
    claim: IdempotencyClaim | None
    is_batch: bool


@dataclass(slots=True)
class _Draft:
    """An event on its way through validation; `pointer` is where it stood in the body."""

    type: str
    payload: bytes
    pointer: str
    content_type: str = _JSON
    version: int | None = None
    time: datetime | None = None
    source: str | None = None
    subject: str | None = None
    attributes: dict[str, Any] = field(default_factory=dict)


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
        events = [await self._event(draft, request) for draft in drafts]
        return Publication(events, _claim(request, drafts), is_batch)

    async def _event(self, draft: _Draft, request: PublishRequest) -> NewEvent:
        _check_texts(draft)
        if len(draft.payload) > self._max_payload_bytes:
            raise PayloadTooLargeError(
                f"The data of the event at {draft.pointer or '/'} has {len(draft.payload)} bytes; "
                f"at most {self._max_payload_bytes} are accepted."
            )
        if draft.content_type == _JSON:
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


def _drafts(request: PublishRequest) -> tuple[list[_Draft], bool]:
    media_type = request.headers.get("content-type", _JSON).partition(";")[0].strip().lower()
    if "ce-specversion" in request.headers and not media_type.startswith("application/cloudevents"):
        return [_binary_cloud_event(request, media_type)], False
    _check_utf8(request.body)
    try:
        if media_type == _CE_STRUCTURED:
            return [_structured_cloud_event(_object_decoder.decode(request.body), "")], False
        if media_type == _CE_BATCH:
            members = _batch_decoder.decode(request.body)
            return [_structured_cloud_event(event, f"/{index}") for index, event in enumerate(members)], True
        if media_type != _JSON:
            raise InvalidEventError(
                f"Events come as {_JSON}, {_CE_STRUCTURED}, {_CE_BATCH}, or with ce- headers; not as {media_type!r}.",
                (Fault("", f"content type {media_type!r}"),),
            )
        decoded = _plain_decoder.decode(request.body)
    except msgspec.MsgspecError as error:
        raise _not_decodable(error) from None
    if isinstance(decoded, EventInput):
        return [_plain_event(decoded, "")], False
    return [_plain_event(event, f"/{index}") for index, event in enumerate(decoded)], True


def _plain_event(given: EventInput, pointer: str) -> _Draft:
    return _Draft(
        type=given.type,
        payload=bytes(given.data),
        pointer=pointer,
        version=given.version,
        time=given.time,
        source=given.source,
        subject=given.subject,
    )


def _structured_cloud_event(members: dict[str, msgspec.Raw], pointer: str) -> _Draft:
    attributes: dict[str, Any] = {}
    for name, raw in members.items():
        if name not in {"data", "data_base64"}:
            attributes[name] = msgspec.json.decode(raw)
    if "data" in members and "data_base64" in members:
        raise _fault(pointer, "data", "A CloudEvent has data or data_base64, not both.")
    content_type = attributes.get("datacontenttype") or _JSON
    if "data_base64" in members:
        try:
            payload = b64decode(msgspec.json.decode(members["data_base64"], type=str), validate=True)
        except (Base64Error, ValueError, msgspec.MsgspecError):
            raise _fault(pointer, "data_base64", "data_base64 is not base64 text.") from None
    else:
        payload = bytes(members["data"]) if "data" in members else b"null"
    return _cloud_event(attributes, payload, str(content_type), pointer)


def _binary_cloud_event(request: PublishRequest, media_type: str) -> _Draft:
    attributes = {
        name.removeprefix(_CE_PREFIX): unquote(value)
        for name, value in request.headers.items()
        if name.startswith(_CE_PREFIX)
    }
    return _cloud_event(attributes, request.body, request.headers.get("content-type", media_type), "")


def _cloud_event(attributes: dict[str, Any], payload: bytes, content_type: str, pointer: str) -> _Draft:
    if attributes.get("specversion") != "1.0":
        raise _fault(pointer, "specversion", "specversion must be 1.0.")
    for name in ("id", "source", "type"):
        if not isinstance(attributes.get(name), str) or not attributes[name]:
            raise _fault(pointer, name, f"A CloudEvent needs {name}, a text that is not empty.")
    if content_type.partition(";")[0].strip().lower() == _JSON:
        content_type = _JSON
        _check_utf8(payload)
        try:
            msgspec.json.decode(payload)
        except msgspec.MsgspecError:
            raise _fault(pointer, "data", "The data is not JSON, though its content type says so.") from None
    time = attributes.get("time")
    try:
        moment = msgspec.convert(time, datetime) if time is not None else None
    except msgspec.ValidationError:
        raise _fault(pointer, "time", "time is not an RFC 3339 time.") from None
    subject = attributes.get("subject")
    if subject is not None and not isinstance(subject, str):
        raise _fault(pointer, "subject", "subject must be text.")
    extensions = {name: value for name, value in attributes.items() if name not in _CE_CONTEXT}
    return _Draft(
        type=attributes["type"],
        payload=payload,
        pointer=pointer,
        content_type=content_type,
        time=moment,
        source=attributes["source"],
        subject=subject,
        attributes=extensions | {"id": attributes["id"]},
    )


def _check_texts(draft: _Draft) -> None:
    if not is_event_type(draft.type):
        raise _fault(
            draft.pointer,
            "type",
            "An event type has 1 to 255 letters, digits, - and _ in segments joined by dots, such as order.created.",
        )
    texts = {"source": draft.source, "subject": draft.subject, "datacontenttype": draft.content_type}
    for name, text in texts.items():
        if text is not None and (len(text) > _MAX_TEXT or not _is_storable(text)):
            raise _fault(draft.pointer, name, f"{name} has at most {_MAX_TEXT} characters, none of them NUL.")
    if draft.version is not None and not 1 <= draft.version < 2**31:
        raise _fault(draft.pointer, "version", "version is a whole number from 1.")
    if draft.attributes and not _is_storable(msgspec.json.encode(draft.attributes).decode()):
        raise _fault(draft.pointer, "", "An attribute holds a NUL character, which cannot be stored.")


def _is_storable(text: str) -> bool:
    return "\x00" not in text and "\\u0000" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


def _claim(request: PublishRequest, drafts: Sequence[_Draft]) -> IdempotencyClaim | None:
    key = request.headers.get("idempotency-key")
    if key is not None:
        if not 1 <= len(key) <= _MAX_KEY or not key.isprintable():
            raise InvalidInputError(f"An Idempotency-Key has 1 to {_MAX_KEY} printable characters.")
        fingerprint = hashlib.sha256(b"\x00".join(_identity(request))).digest()
        return IdempotencyClaim(request.tenant_id, _PUBLISH_SCOPE, key, fingerprint)
    if len(drafts) == 1 and "id" in drafts[0].attributes:
        name = f"{drafts[0].source}\x1f{drafts[0].attributes['id']}"
        digest = hashlib.sha256(name.encode()).hexdigest()
        return IdempotencyClaim(request.tenant_id, _CLOUD_EVENT_SCOPE, digest, b"")
    return None


def _identity(request: PublishRequest) -> list[bytes]:
    """What makes two requests the same."""
    named = sorted(
        f"{name}:{value}"
        for name, value in request.headers.items()
        if name == "content-type" or name.startswith(_CE_PREFIX)
    )
    return [*(line.encode() for line in named), request.body]


def _in_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _check_utf8(body: bytes) -> None:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise InvalidEventError(f"The body is not UTF-8 at byte {error.start}.", (Fault("", "not UTF-8"),)) from None


def _not_decodable(error: msgspec.MsgspecError) -> InvalidEventError:
    """Msgspec names the place as `$[3].type`; a JSON pointer says `/3/type`."""
    what, _, place = str(error).partition(" - at `$")
    pointer = place.rstrip("`").replace("[...]", "").replace("[", "/").replace("]", "").replace(".", "/")
    return InvalidEventError(f"The body is not an event or a batch of events: {what}.", (Fault(pointer, what),))


def _fault(pointer: str, name: str, what: str) -> InvalidEventError:
    return InvalidEventError(what, (Fault(f"{pointer}/{name}" if name else pointer, what),))
