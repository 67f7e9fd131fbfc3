"""Calling an integration's provider: one gateway client for each integration that is used, made of its settings."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from crossdock.db.changes import Change, ChangeFeed
from crossdock.features.integrations.calls.writer import CallWriter
from crossdock.features.integrations.connections import Connection
from crossdock.features.integrations.errors import InvalidIntegrationError
from crossdock.features.integrations.outside_credentials import OutsideCredentials
from crossdock.features.integrations.shared.calls import SharedCalls
from crossdock.gateway.call_log import CallSink, LogPolicy
from crossdock.gateway.client import ClientSettings, GatewayClient
from crossdock.gateway.credentials import Credentials
from crossdock.gateway.headers import HeaderPairs
from crossdock.gateway.interpolation import fill
from crossdock.gateway.limits import Limiter, Priority
from crossdock.gateway.retries import RetryPolicy
from crossdock.gateway.shared_breaker import CallBreaker
from crossdock.gateway.stale import StaleAnswers
from crossdock.gateway.streaming import StreamingTransport
from crossdock.kit.clock import Clock

# Secrets that lie in a store outside may change there, and nobody says so.
_LOOK_AGAIN_AFTER_S = 15.0
_MOST_KEPT = 10_000
_MAX_LOGGED_BODY_BYTES = 16 * 1024
_LEAST_DEADLINE_S = 120.0
# What a call may wait for its turn beside the time of its attempts.
_WAITS_S = 60.0

_PRIORITIES = {"high": Priority.HIGH, "normal": Priority.NORMAL, "low": Priority.LOW}


class Connections(Protocol):
    """Knows the connections that may be used."""

    async def active(self, tenant_id: UUID, integration_id: UUID) -> Connection:
        """The connection; raises IntegrationNotFoundError or IntegrationNotActiveError."""
        ...

    async def again(self, connection: Connection) -> Connection:
        """The connection with its secrets from outside as they are there now."""
        ...


class SigningOf(Protocol):
    """Knows what signs a connection's calls."""

    def credentials(self, connection: Connection) -> Credentials:
        """Its credentials, as the gateway takes them."""
        ...


class CallSurroundings:
    """What all of an integration's calls have in common, in this process and in the others."""

    def __init__(self, *, shared: SharedCalls, writer: CallWriter) -> None:
        self.shared = shared
        self.writer = writer

    def limiter(self, connection: Connection) -> Limiter:
        """Its rate limit."""
        return self.shared.limiter(connection)

    def breaker(self, connection: Connection) -> CallBreaker:
        """Its breaker."""
        return self.shared.breaker(connection)

    def sink(self, connection: Connection) -> CallSink:
        """Its call log."""
        return self.writer.sink(connection.tenant_id, connection.integration_id, max_body_bytes=_MAX_LOGGED_BODY_BYTES)


@dataclass(slots=True)
class Provider:
    """An integration's provider, to be called; `priority` is that of calls which do not say another."""

    connection: Connection
    client: GatewayClient
    priority: Priority
    look_again_at: float


class Calling:
    """Gives each integration's client; the same one until something about the integration changes."""

    def __init__(
        self,
        *,
        connections: Connections,
        signing: SigningOf,
        surroundings: CallSurroundings,
        transport: StreamingTransport,
        stale: StaleAnswers,
        changes: ChangeFeed,
        clock: Clock,
        max_body_bytes: int,
    ) -> None:
        self._connections = connections
        self._signing = signing
        self._surroundings = surroundings
        self._transport = transport
        self._stale = stale
        self._clock = clock
        self._max_body_bytes = max_body_bytes
        self._kept: OrderedDict[tuple[UUID, UUID], Provider] = OrderedDict()
        self._notices = 0
        changes.on_change(self._changed)

    async def provider(self, tenant_id: UUID, integration_id: UUID) -> Provider:
        """The tenant's integration's provider.

        Raises IntegrationNotFoundError for what is not the tenant's, IntegrationNotActiveError, and what is wrong with
        its settings.
        """
        key = tenant_id, integration_id
        kept = self._kept.get(key)
        now = self._clock.monotonic()
        if kept is not None and now < kept.look_again_at:
            return kept
        notices = self._notices
        connection = await self._connections.active(tenant_id, integration_id)
        if kept is None or kept.connection != connection:
            kept = self._made(connection)
            self._kept[key] = kept
            if len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        kept.look_again_at = now + _LOOK_AGAIN_AFTER_S if notices == self._notices else now
        return kept

    def _made(self, connection: Connection) -> Provider:
        options, surroundings = connection.options, self._surroundings
        attempts = options.max_retries + 1
        settings = ClientSettings(
            base_url=connection.base_url() or (lambda values: _base_url(connection, values)),
            # With other credentials it may be another account: neither its connections nor its answers are this one's.
            partition=f"{connection.integration_id}:{connection.revision}",
            headers=_headers(connection),
            connect_timeout_s=options.connect_timeout_s,
            read_timeout_s=options.timeout_s,
            total_timeout_s=options.timeout_s,
            deadline_s=max(_LEAST_DEADLINE_S, options.timeout_s + _WAITS_S),
            max_stale_s=options.stale_s,
            max_streamed_bytes=self._max_body_bytes,
            idempotency_header=connection.manifest.idempotency_header,
            retry=RetryPolicy(attempts=attempts),
            log=LogPolicy(
                request_bodies=options.log.request_bodies,
                response_bodies=options.log.response_bodies,
                max_body_bytes=_MAX_LOGGED_BODY_BYTES,
            ),
        )
        client = GatewayClient(
            settings,
            transport=self._transport,
            credentials=self._credentials(connection),
            limiter=surroundings.limiter(connection),
            breaker=surroundings.breaker(connection),
            stale=self._stale if options.stale_s > 0 else None,
            sink=surroundings.sink(connection),
            clock=self._clock,
        )
        return Provider(connection, client, _PRIORITIES[options.priority], 0.0)

    def _credentials(self, connection: Connection) -> Credentials:
        make = self._signing.credentials
        if not connection.from_outside:
            return make(connection)
        return OutsideCredentials(connection, make=make, again=self._connections.again, clock=self._clock)

    def _changed(self, change: Change | None) -> None:
        self._notices += 1
        if change is None:
            for kept in self._kept.values():
                kept.look_again_at = 0.0
        elif change.kind == "integration":
            found = self._kept.get((UUID(change.tenant_id), UUID(change.entity_id)))
            if found is not None:
                found.look_again_at = 0.0


def _base_url(connection: Connection, values: Mapping[str, str]) -> str:
    url = connection.base_url(values)
    if url is None:
        raise InvalidIntegrationError(
            f"{connection.manifest.name} has not told where its API is; connect the integration anew."
        )
    return url


def _headers(connection: Connection) -> HeaderPairs:
    known = connection.variables()
    return tuple((name, fill(value, known)) for name, value in connection.manifest.headers.items())
