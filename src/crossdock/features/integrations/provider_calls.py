"""The parts of calls to providers, put together for the one who builds everything."""

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.routing import Route

from crossdock.db.changes import ChangeFeed
from crossdock.db.engine import Database
from crossdock.features.integrations.calling import Calling, CallSurroundings, Connections, SigningOf
from crossdock.features.integrations.calls.refusals import AccessRefusals
from crossdock.features.integrations.calls.service import CallLog
from crossdock.features.integrations.calls.writer import CallWriter
from crossdock.features.integrations.proxy.receive import gateway_routes
from crossdock.features.integrations.shared.calls import SharedCalls
from crossdock.gateway.stale import StaleAnswers
from crossdock.gateway.streaming import StreamingTransport
from crossdock.http.access import Gatekeeper
from crossdock.kit.clock import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderCalls:
    """What there is of calls in a process."""

    shared: SharedCalls
    writer: CallWriter
    calling: Calling

    def provided(self) -> Mapping[type, object]:
        """What endpoints ask for, by type."""
        return {CallLog: CallLog(), Calling: self.calling}

    def routes(self, gatekeeper: Gatekeeper) -> list[Route]:
        """The public proxy."""
        return gateway_routes(gatekeeper=gatekeeper, calling=self.calling)

    def start(self) -> None:
        """Start writing calls down."""
        self.writer.start()

    async def stop(self) -> None:
        """Write what is left, and let go of what is shared."""
        await self.shared.aclose()
        await self.writer.stop()


def call_surroundings(*, database: Database, changes: ChangeFeed, clock: Clock) -> CallSurroundings:
    """What calls share; tests of connections are calls as well."""
    return CallSurroundings(
        shared=SharedCalls(database=database, changes=changes, clock=clock),
        writer=CallWriter(database=database, refusals=AccessRefusals(database=database, clock=clock)),
    )


def build_provider_calls(
    *,
    surroundings: CallSurroundings,
    connections: Connections,
    signing: SigningOf,
    transport: StreamingTransport,
    changes: ChangeFeed,
    clock: Clock,
    max_body_bytes: int,
) -> ProviderCalls:
    """Everything that calls providers."""
    return ProviderCalls(
        shared=surroundings.shared,
        writer=surroundings.writer,
        calling=Calling(
            connections=connections,
            signing=signing,
            surroundings=surroundings,
            transport=transport,
            stale=StaleAnswers(clock=clock),
            changes=changes,
            clock=clock,
            max_body_bytes=max_body_bytes,
        ),
    )
