"""What providers have granted to an integration, to be forgotten."""

from uuid import UUID

from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.features.integrations.oauth.models import OAuthState, OAuthTokens


async def forget_grants(session: AsyncSession, integration_id: UUID) -> None:
    """Remove an integration's tokens and the authorizations under way, in the session's transaction."""
    await session.execute(delete(OAuthTokens).where(OAuthTokens.id == integration_id))
    await session.execute(delete(OAuthState).where(OAuthState.integration_id == integration_id))
