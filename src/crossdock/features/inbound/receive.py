"""The door itself: `POST /webhooks/{tenant}/{path}`, a hot route.

Verified first, stored next, answered last. A refusal stores nothing but a line of the audit, and
tells the caller no more than that it was refused; the line says why.
"""

import asyncio
import re
from http import HTTPStatus

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from crossdock.connectors.webhooks import (
    BodyFormat,
    BodyLimits,
    CertificateSource,
    EventIdentity,
    Headers,
    InboundRequest,
    ParsedBody,
    Preset,
    read_document,
    verify_with_certificates,
)
from crossdock.connectors.webhooks.errors import (
    AddressRefusedError,
    CertificateUnavailableError,
    InvalidBodyError,
    UnsupportedBodyError,
    UnsupportedEncodingError,
    WebhookRefusedError,
)
from crossdock.features.inbound.answers import accepted, response_of
from crossdock.features.inbound.bodies import Bodies
from crossdock.features.inbound.doors import Door, DoorTable
from crossdock.features.inbound.errors import BrokenEndpointError, EndpointPausedError, NoDoorError
from crossdock.features.inbound.event_identity import identity_of
from crossdock.features.inbound.intake import Intake
from crossdock.features.inbound.models import EndpointStatus
from crossdock.features.inbound.new_receipts import NewReceipt
from crossdock.features.inbound.pressure import Pressure
from crossdock.features.inbound.public_url import public_url_of
from crossdock.features.inbound.refusal_samples import RefusalSample
from crossdock.features.inbound.refusals import Refusal, RefusalLog
from crossdock.http.correlation import correlation_id_of
from crossdock.http.fair_turns import FairTurns
from crossdock.http.hot_routes import hot_route
from crossdock.http.source_address import came_via_trusted_proxy, source_address_of
from crossdock.kit.clock import Clock
from crossdock.kit.errors import CrossdockError
from crossdock.kit.ids import IdKind, format_id, new_uuid
from crossdock.mapping.expressions import EvaluationError
from crossdock.mapping.json_values import JsonValue
from crossdock.observability import metrics
from crossdock.observability.redaction import MASK, redact

# How much of a path that nobody knows is worth keeping.
_PATH_SHOWN = 200
_NO_PRESET = "unknown"
_PAUSED_RETRY_S = 60
_UNREADABLE = ParsedBody(BodyFormat.EMPTY, None)
_LENGTH = re.compile(r"[0-9]{1,9}")


class Receiver:
    """Takes webhooks in."""

    def __init__(  # noqa: PLR0913 - one for each part that it needs
        self,
        *,
        doors: DoorTable,
        intake: Intake,
        refusals: RefusalLog,
        certificates: CertificateSource,
        bodies: Bodies,
        pressure: Pressure,
        turns: FairTurns,
        clock: Clock,
        base_url: str | None = None,
    ) -> None:
        self._doors = doors
        self._intake = intake
        self._refusals = refusals
        self._clock = clock
        self._certificates = certificates
        self._bodies = bodies
        self._pressure = pressure
        self._turns = turns
        self._base_url = base_url

    def route(self) -> Route:
        """The route to hang before the API's own."""
        return hot_route("/webhooks/{tenant}/{path:path}", self.receive)

    async def receive(self, request: Request) -> Response:
        """Take one webhook in, before others are processed; answers and raises as `_receive`."""
        with self._pressure.taking_in():
            return await self._receive(request)

    async def _receive(self, request: Request) -> Response:
        """Take one webhook in; answers once it is durable.

        Raises NoDoorError, WebhookRefusedError, AddressRefusedError, BrokenEndpointError,
        EndpointPausedError, BodyTooSlowError, UnsupportedEncodingError or UnavailableError.
        """
        door = await self._door(request)
        preset = door.preset
        if preset is None:
            raise BrokenEndpointError
        inbound: InboundRequest | None = None
        try:
            door.addresses.check(source_address_of(request.scope) or "")
            if door.refuses:
                metrics.WEBHOOKS_RECEIVED.labels(preset.name, EndpointPausedError.code).inc()
                raise EndpointPausedError(retry_after_s=_PAUSED_RETRY_S)
            if self._bodies.is_small(request.scope):
                inbound = self._with_body(request, door, await self._bodies.small(request))
                # Large ones are few at a time anyway, and wait for the file store too.
                await self._turns.begin(door.tenant_id, len(inbound.body))
                try:
                    return await self._take(request, door, preset, inbound)
                finally:
                    self._turns.end(door.tenant_id, len(inbound.body))
            async with self._bodies.reading(request, door.tenant_id) as body:
                inbound = self._with_body(request, door, body)
                return await self._take(request, door, preset, inbound)
        except ClientDisconnect:
            return Response(status_code=HTTPStatus.BAD_REQUEST)
        except AddressRefusedError as error:
            self._note(request, door, preset, error, inbound)
            raise
        except CertificateUnavailableError as error:
            self._note(request, door, preset, error, inbound)
            # What our network can reach is nobody's business who has proven nothing.
            raise CertificateUnavailableError from None
        except WebhookRefusedError as error:
            self._note(request, door, preset, error, inbound)
            if preset.refused is not None:
                return response_of(preset.refused)
            # Which of the checks failed would help whoever is guessing.
            raise WebhookRefusedError(challenge=preset.challenge) from None

    async def _door(self, request: Request) -> Door:
        slug, path = request.path_params["tenant"], request.path_params["path"]
        tenant_id, door = await self._doors.find(slug, path)
        if door is not None:
            return door
        metrics.WEBHOOKS_RECEIVED.labels(_NO_PRESET, NoDoorError.code).inc()
        if tenant_id is not None:
            shown = _storable_text(path)
            refusal = Refusal(
                tenant_id=tenant_id,
                entity_id=shown,
                reason=NoDoorError.code,
                path=shown,
                correlation_id=correlation_id_of(request.scope),
                source_address=source_address_of(request.scope),
            )
            self._refusals.note(refusal, known_endpoint=False)
        raise NoDoorError

    async def _take(self, request: Request, door: Door, preset: Preset, inbound: InboundRequest) -> Response:
        greeting = preset.handshake(inbound)
        if greeting is not None:
            return response_of(greeting)
        await verify_with_certificates(
            preset,
            request=inbound,
            secrets=door.secrets_at(now := self._clock.now()),
            now=now,
            certificates=self._certificates,
            tolerance_s=door.tolerance_s,
        )
        if self._bodies.is_large(inbound.body) or inbound.headers.get("content-encoding") is not None:
            parsed = await asyncio.to_thread(_parsed, preset, inbound, self._bodies.limits)
        else:
            parsed = _parsed(preset, inbound, self._bodies.limits)
        return self._reply(preset, inbound, parsed.document) or await self._store(
            request, door, preset, inbound, parsed
        )

    def _with_body(self, request: Request, door: Door, body: bytes) -> InboundRequest:
        return InboundRequest(
            method=request.method,
            url=public_url_of(request.scope, endpoint_url=door.public_url, base_url=self._base_url),
            headers=Headers.from_asgi(request.scope["headers"]),
            body=body,
            via_trusted_proxy=came_via_trusted_proxy(request.scope),
        )

    def _reply(self, preset: Preset, inbound: InboundRequest, document: JsonValue) -> Response | None:
        answer = preset.reply(inbound, document)
        return None if answer is None else response_of(answer)

    async def _store(
        self, request: Request, door: Door, preset: Preset, inbound: InboundRequest, parsed: ParsedBody
    ) -> Response:
        identity = _identity(door, preset, inbound, parsed.document)
        held = door.status is EndpointStatus.PAUSED
        body_file = None
        if parsed.files or self._bodies.is_large(inbound.body):
            # Durable before the row that names it: what is left without a row goes with its day.
            body_file = await self._bodies.keep(door.tenant_id, inbound.body)
        receipt = NewReceipt(
            tenant_id=door.tenant_id,
            id=new_uuid(),
            endpoint_id=door.endpoint_id,
            external_id=identity.id,
            event_type=identity.type,
            method=inbound.method,
            url=inbound.url,
            headers=_storable_headers(inbound.headers, preset.secret_headers),
            content_type=inbound.headers.get("content-type"),
            body=inbound.body if body_file is None else b"",
            source_address=source_address_of(request.scope),
            correlation_id=correlation_id_of(request.scope),
            held=held,
            ordered=door.ordered,
            body_file=body_file,
            body_bytes=None if body_file is None else len(inbound.body),
        )
        is_new = await self._intake.take_in(receipt)
        if body_file is not None and not is_new:
            await self._bodies.discard(body_file)
        outcome = ("held" if held else "received") if is_new else "duplicate"
        metrics.WEBHOOKS_RECEIVED.labels(preset.name, outcome).inc()
        return accepted(preset, outcome)

    def _note(
        self, request: Request, door: Door, preset: Preset, error: CrossdockError, inbound: InboundRequest | None
    ) -> None:
        """Remember a refusal; without `inbound`, of a webhook whose body was not read."""
        metrics.WEBHOOKS_RECEIVED.labels(preset.name, error.code).inc()
        refusal = Refusal(
            tenant_id=door.tenant_id,
            entity_id=format_id(IdKind.ENDPOINT, door.endpoint_id),
            reason=error.code,
            path=_storable_text(request.path_params["path"]),
            correlation_id=correlation_id_of(request.scope),
            source_address=source_address_of(request.scope),
        )

        def sample() -> RefusalSample:
            return self._sample(refusal, door, preset, error, inbound or self._with_body(request, door, b""), request)

        self._refusals.note(refusal, known_endpoint=True, sample=sample)

    def _sample(
        self,
        refusal: Refusal,
        door: Door,
        preset: Preset,
        error: CrossdockError,
        inbound: InboundRequest,
        request: Request,
    ) -> RefusalSample:
        named_length = inbound.headers.get("content-length") or ""
        others = (None, self._base_url)
        return RefusalSample(
            tenant_id=door.tenant_id,
            endpoint_id=door.endpoint_id,
            preset=preset,
            request=inbound,
            body_bytes=len(inbound.body) or (int(named_length) if _LENGTH.fullmatch(named_length) else 0),
            secrets=door.secrets_at(now := self._clock.now()),
            urls=[public_url_of(request.scope, endpoint_url=None, base_url=base_url) for base_url in others],
            reason=error.code,
            message=error.message,
            correlation_id=refusal.correlation_id,
            source_address=refusal.source_address,
            refused_at=now,
        )


def _parsed(preset: Preset, inbound: InboundRequest, limits: BodyLimits) -> ParsedBody:
    """The body's document; null for one that cannot be read.

    That is accepted all the same, since its sender proved itself and sending it again would change
    nothing; processing it will say what is wrong with it. Only a content coding that is not undone is
    the sender's to change: raises UnsupportedEncodingError.
    """
    try:
        return read_document(preset, inbound, limits=limits)
    except UnsupportedEncodingError:
        raise
    except (InvalidBodyError, UnsupportedBodyError):
        return _UNREADABLE


def _identity(door: Door, preset: Preset, inbound: InboundRequest, document: JsonValue) -> EventIdentity:
    """The event's id and type, as far as they can be told; none for several events, which have their own each."""
    try:
        if preset.split(document) is not None:
            return EventIdentity()
        return identity_of(preset, inbound, document, event_id=door.event_id)
    except EvaluationError:
        return EventIdentity()


def _storable_headers(headers: Headers, secret_headers: frozenset[str]) -> list[tuple[str, str]]:
    """The headers, in which shared secrets are masked and signatures are not."""
    return [
        (name, MASK if name in secret_headers else _storable_header(name, value)) for name, value in headers.items()
    ]


def _storable_header(name: str, value: str) -> str:
    return value if "signature" in name else str(redact(name, value))


def _storable_text(text: str) -> str:
    return text[:_PATH_SHOWN].encode("ascii", "backslashreplace").decode().replace("\0", "\\x00")
