"""What the calls of an integration share with those of all other processes."""

from crossdock.db.changes import ChangeFeed
from crossdock.db.engine import Database
from crossdock.features.integrations.connections import Connection
from crossdock.features.integrations.shared.breakers import SharedBreaker, SharedBreakers
from crossdock.features.integrations.shared.limits import SharedLimits
from crossdock.gateway.limit_queue import QueuedLimiter
from crossdock.kit.clock import Clock


class SharedCalls:
    """Each integration's rate limit and breaker, as manifest and options have them; `aclose` it after use."""

    def __init__(self, *, database: Database, changes: ChangeFeed, clock: Clock) -> None:
        self._limits = SharedLimits(database=database, changes=changes, clock=clock)
        self._breakers = SharedBreakers(database=database, changes=changes, clock=clock)

    def limiter(self, connection: Connection) -> QueuedLimiter:
        """The integration's limit: the provider's declared windows and the tenant's own, all of them."""
        provider = [limit.window() for limit in connection.manifest.rate_limit]
        own = [limit.window() for limit in connection.options.rate_limit]
        return self._limits.limiter(
            connection.tenant_id, connection.integration_id, revision=connection.revision, windows=provider + own
        )

    def breaker(self, connection: Connection) -> SharedBreaker:
        """The integration's breaker."""
        return self._breakers.breaker(
            connection.tenant_id, connection.integration_id, policy=connection.options.breaker.policy()
        )

    async def aclose(self) -> None:
        """Refuse who still waits, give back permits, and write what is left to count."""
        await self._limits.aclose()
        await self._breakers.aclose()
