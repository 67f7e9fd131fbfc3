"""Trying a connection out: the request that the manifest names for it, and what its answer means."""

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Protocol, TypeAlias
from urllib.parse import urlencode

import msgspec

from crossdock.connectors.manifest import ConnectionCheck
from crossdock.connectors.manifest.addressing import path_of
from crossdock.features.integrations.connections import Connection
from crossdock.features.integrations.errors import InvalidIntegrationError
from crossdock.features.integrations.schemas import TestOut
from crossdock.features.integrations.signing import Signing
from crossdock.features.vault.errors import SecretStoreError
from crossdock.gateway.call_log import NO_LOG, CallSink
from crossdock.gateway.calls import Call, Reply
from crossdock.gateway.client import ClientSettings, GatewayClient
from crossdock.gateway.errors import GrantRevokedError, TokenFetchError
from crossdock.gateway.interpolation import fill
from crossdock.gateway.limits import Limiter, Priority
from crossdock.gateway.retries import RetryPolicy
from crossdock.gateway.streaming import StreamingTransport
from crossdock.kit.clock import Clock
from crossdock.kit.errors import CrossdockError
from crossdock.mapping.expressions import search

# A person waits.
_DEADLINE_S = 30.0
_MAX_REPLY_BYTES = 1024 * 1024
_JSON = (("Content-Type", "application/json"),)
# Whether it went well, what to say of it, whether it is the credentials, and the answer's status.
_Found: TypeAlias = tuple[bool, str, bool, int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TestResult:
    """How a test went; `refused` says that it is the credentials that the provider does not take."""

    ok: bool
    message: str
    tested_at: datetime
    refused: bool = False
    status_code: int | None = None
    duration_ms: float | None = None

    def shown(self) -> TestOut:
        """As the API shows it."""
        return TestOut(
            ok=self.ok,
            message=self.message,
            status_code=self.status_code,
            duration_ms=None if self.duration_ms is None else round(self.duration_ms, 1),
            tested_at=self.tested_at,
        )


class CallPlaces(Protocol):
    """What all of an integration's calls share: its rate limit, and where they are logged."""

    def limiter(self, connection: Connection) -> Limiter | None:
        """The integration's limit."""
        ...

    def sink(self, connection: Connection) -> CallSink:
        """Its call log."""
        ...


class ConnectionTester:
    """Tests connections; without retries, and whatever the breaker says, since somebody wants to know how it is now."""

    def __init__(
        self,
        *,
        transport: StreamingTransport,
        signing: Signing,
        planned_signing: Signing,
        places: CallPlaces | None = None,
        clock: Clock,
    ) -> None:
        self._transport = transport
        self._signing = signing
        self._planned_signing = planned_signing
        self._places = places
        self._clock = clock

    async def test(self, loading: Awaitable[Connection], *, correlation_id: str, planned: bool = False) -> TestResult:
        """How the provider answers; what goes wrong is a result, not an error, also a secret that its store withholds.

        `loading` gives the connection, and what else it raises is raised; `planned` says that it is not stored as it
        is there.
        """
        started = self._clock.monotonic()
        try:
            connection = await loading
        except SecretStoreError as error:
            return self._result(_failed(error.message), started)
        return self._result(await self._found(connection, correlation_id, planned=planned), started)

    async def _found(self, connection: Connection, correlation_id: str, *, planned: bool) -> _Found:
        try:
            reply = await self._ask(connection, correlation_id, planned=planned)
            return _judged(connection, reply)
        except TokenFetchError as error:
            return _failed(error.message, refused=isinstance(error, GrantRevokedError) or not error.retryable)
        except CrossdockError as error:
            return _failed(error.message)

    def _result(self, found: _Found, started: float) -> TestResult:
        ok, message, refused, status = found
        return TestResult(
            ok=ok,
            message=message,
            refused=refused,
            status_code=status,
            tested_at=self._clock.now(),
            duration_ms=(self._clock.monotonic() - started) * 1000,
        )

    async def _ask(self, connection: Connection, correlation_id: str, *, planned: bool) -> Reply:
        check, places = connection.manifest.check, self._places
        signing = self._planned_signing if planned else self._signing
        client = GatewayClient(
            ClientSettings(
                base_url=lambda values: _base_url(connection, values),
                partition=str(connection.integration_id),
                headers=_filled(connection.manifest.headers, connection),
                connect_timeout_s=connection.options.connect_timeout_s,
                total_timeout_s=min(connection.options.timeout_s, _DEADLINE_S),
                deadline_s=_DEADLINE_S,
                max_reply_bytes=_MAX_REPLY_BYTES,
                retry=RetryPolicy(attempts=1),
            ),
            transport=self._transport,
            credentials=signing.credentials(connection),
            # What is not stored has no limit yet.
            limiter=None if places is None or planned else places.limiter(connection),
            sink=NO_LOG if places is None else places.sink(connection),
            clock=self._clock,
        )
        return await client.request(_call(connection, check, correlation_id))


def _call(connection: Connection, check: ConnectionCheck, correlation_id: str) -> Call:
    known = connection.variables()
    body = b"" if check.body is None else msgspec.json.encode(check.body)
    path, _, given = path_of(check.path, known).partition("?")
    asked = urlencode([(name, fill(value, known)) for name, value in check.query.items()])
    return Call(
        method=check.method,
        path=path,
        query="&".join(part for part in (given, asked) if part),
        headers=(*_filled(check.headers, connection), *(_JSON if body else ())),
        body=body,
        priority=Priority.HIGH,
        correlation_id=correlation_id,
    )


def _base_url(connection: Connection, values: Mapping[str, str]) -> str:
    url = connection.base_url(values)
    if url is None:
        raise InvalidIntegrationError(f"{connection.manifest.name} is not there in {connection.environment.value}.")
    return url


def _filled(templates: Mapping[str, str], connection: Connection) -> tuple[tuple[str, str], ...]:
    """The headers with their values; raises InterpolationError."""
    known = connection.variables()
    return tuple((name, fill(value, known)) for name, value in templates.items())


def _failed(message: str, *, refused: bool = False, status: int | None = None) -> _Found:
    return False, message, refused, status


def _judged(connection: Connection, reply: Reply) -> _Found:
    name, check, status = connection.manifest.name, connection.manifest.check, reply.status
    if status == HTTPStatus.UNAUTHORIZED:
        return _failed(f"{name} does not take the credentials (401). Give it new ones.", refused=True, status=status)
    if status == HTTPStatus.FORBIDDEN and status not in check.statuses:
        return _failed(
            f"{name} knows the credentials and does not let them do this (403). Give them the rights, or other ones.",
            status=status,
        )
    if status not in check.statuses if check.statuses else not reply.ok:
        wanted = ", ".join(map(str, check.statuses)) or "2xx"
        return _failed(f"{name} answered {status} where {wanted} was expected.", status=status)
    if check.expect is not None and not search(check.expect, {"status": status, "body": reply.json()}):
        return _failed(f"{name} answered {status}, and not what was expected: {check.expect}.", status=status)
    return True, f"{name} answered {status}: the connection works.", False, status
