"""Questions about tokens and authorizations under way, within one tenant's transaction."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.db.engine import Connection
from crossdock.features.integrations.models import Integration
from crossdock.features.integrations.oauth.models import OAuthState, OAuthTokens

_DUE = """
SELECT t.tenant_id, t.id, t.generation FROM oauth_tokens t
  JOIN integrations i ON i.tenant_id = t.tenant_id AND i.id = t.id
 WHERE t.refresh_token IS NOT NULL AND t.renew_at <= $1 AND (t.retry_at IS NULL OR t.retry_at <= $1)
   AND (t.renewer_until IS NULL OR t.renewer_until <= clock_timestamp())
   AND i.status NOT IN ('draft', 'pending_auth', 'disconnected')
 ORDER BY t.renew_at LIMIT $2
"""


class TokenRepository:
    """The tokens of integrations."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def find(self, integration_id: UUID) -> OAuthTokens | None:
        """The row of an integration's tokens."""
        return await self._session.scalar(sa.select(OAuthTokens).where(OAuthTokens.id == integration_id))

    async def revision(self, integration_id: UUID, *, held: bool = False) -> int | None:
        """The revision of what the integration's connection is made of; None where there is no such integration.

        `held` keeps it from being removed: asked for before a row of its tokens is made, which refers to it, so
        that all who take both take the integration first.
        """
        query = sa.select(Integration.revision).where(Integration.id == integration_id)
        return await self._session.scalar(query.with_for_update(read=True, key_share=True) if held else query)

    async def locked(self, integration_id: UUID) -> OAuthTokens | None:
        """The row, kept from others until the transaction ends."""
        query = sa.select(OAuthTokens).where(OAuthTokens.id == integration_id).with_for_update()
        return await self._session.scalar(query.execution_options(populate_existing=True))

    async def locked_or_made(self, tenant_id: UUID, integration_id: UUID) -> OAuthTokens:
        """The same, made if there is none yet."""
        first = sa.cast(sa.extract("epoch", sa.func.clock_timestamp()) * 1000, sa.BigInteger)
        made = insert(OAuthTokens).values(tenant_id=tenant_id, id=integration_id, generation=first)
        await self._session.execute(made.on_conflict_do_nothing())
        found = await self.locked(integration_id)
        if found is None:  # row-level security would have refused the insertion
            raise LookupError(integration_id)
        return found

    async def is_being_renewed(self, row: OAuthTokens) -> bool:
        """Whether somebody's right to renew has not run out, by the database's clock."""
        if row.renewer_until is None:
            return False
        return bool(await self._session.scalar(sa.select(sa.literal(row.renewer_until) > sa.func.clock_timestamp())))

    async def give_turn(self, row: OAuthTokens, *, renewer: UUID, for_s: float) -> None:
        """Let `renewer` renew for so long."""
        row.renewer = renewer
        row.renewer_until = await self._session.scalar(
            sa.select(sa.func.clock_timestamp() + sa.literal(timedelta(seconds=for_s)))
        )


class StateRepository:
    """Authorizations under way."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def place_of(self, secret_hash: bytes) -> tuple[UUID, UUID] | None:
        """Whose authorization this ticket or state is of, and its id; asked before the tenant is known."""
        found = await self._session.execute(
            sa.text("SELECT tenant_id, state_id FROM crossdock_find_oauth_state(:hash)"), {"hash": secret_hash}
        )
        row = found.one_or_none()
        return None if row is None or row.tenant_id is None else (row.tenant_id, row.state_id)

    def add(self, state: OAuthState) -> None:
        """Remember one."""
        self._session.add(state)

    async def locked(self, state_id: UUID) -> OAuthState | None:
        """One authorization, kept from others until the transaction ends."""
        return await self._session.scalar(sa.select(OAuthState).where(OAuthState.id == state_id).with_for_update())

    async def remove(self, state: OAuthState) -> None:
        """Forget one."""
        await self._session.delete(state)

    async def older_ones(self, integration_id: UUID, *, keep: int) -> None:
        """Remove all but the newest authorizations of an integration, so that they cannot pile up."""
        newest = (
            sa.select(OAuthState.id)
            .where(OAuthState.integration_id == integration_id)
            .order_by(OAuthState.id.desc())
            .limit(keep)
        )
        await self._session.execute(
            sa.delete(OAuthState).where(OAuthState.integration_id == integration_id, OAuthState.id.not_in(newest))
        )


async def due_for_renewal(connection: Connection, *, now: datetime, limit: int) -> Sequence[tuple[UUID, UUID, int]]:
    """Tokens of any tenant to be renewed now: tenant, integration, generation."""
    return [tuple(row) for row in await connection.fetch(_DUE, now, limit)]
