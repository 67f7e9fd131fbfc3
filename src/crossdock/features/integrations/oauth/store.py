"""Tokens as they are kept: sealed, with all that says how long they are good."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.features.integrations.oauth.models import ACCESS_TOKEN, REFRESH_TOKEN, OAuthTokens
from crossdock.features.vault.service import Vault
from crossdock.gateway.oauth.answers import TokenAnswer
from crossdock.gateway.oauth.settings import OAuthSettings
from crossdock.gateway.oauth.token import Token, renewal_lead_s

# An access token is not sent in the last moments of its life: it may end on the way.
_MAX_MARGIN = timedelta(seconds=10)
_MARGIN_SHARE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptToken:
    """An integration's access token as it was committed, and when to do what about it."""

    token: Token
    generation: int
    revision: int
    obtained_at: datetime
    usable_until: datetime | None
    renew_at: datetime | None

    def is_usable(self, now: datetime) -> bool:
        """Whether it may still be sent."""
        return self.usable_until is None or now < self.usable_until

    def is_due(self, now: datetime) -> bool:
        """Whether it is time to renew it."""
        return self.renew_at is not None and now >= self.renew_at


class TokenStore:
    """Seals tokens into their row and opens them again."""

    def __init__(self, *, vault: Vault) -> None:
        self._vault = vault

    async def access_token(self, session: AsyncSession, row: OAuthTokens) -> KeptToken | None:
        """The access token in a row, if there is one. Raises EncryptionError."""
        if row.access_token is None or row.obtained_at is None:
            return None
        value = await self._vault.open(
            row.access_token, tenant_id=row.tenant_id, purpose=ACCESS_TOKEN.purpose(row.id), session=session
        )
        return KeptToken(
            token=Token(value=value, values=row.told, scheme=row.scheme),
            generation=row.generation,
            revision=row.revision,
            obtained_at=row.obtained_at,
            usable_until=_usable_until(row.obtained_at, row.expires_at),
            renew_at=max(row.renew_at, row.retry_at or row.renew_at) if row.renew_at is not None else None,
        )

    async def refresh_token(self, session: AsyncSession, row: OAuthTokens) -> str | None:
        """The refresh token in a row, if there is one. Raises EncryptionError."""
        if row.refresh_token is None:
            return None
        return await self._vault.open(
            row.refresh_token, tenant_id=row.tenant_id, purpose=REFRESH_TOKEN.purpose(row.id), session=session
        )

    async def write(
        self,
        session: AsyncSession,
        row: OAuthTokens,
        answer: TokenAnswer,
        *,
        settings: OAuthSettings,
        told: Mapping[str, str],
        revision: int,
        now: datetime,
        anew: bool = False,
    ) -> None:
        """Put an answer's tokens into the row.

        Without a refresh token in it, the one that is there stays; unless a person connected `anew`: that one
        was of another consent.
        """
        if anew:
            row.refresh_token = row.refresh_expires_at = row.scope = None
        row.access_token = await self._sealed(session, row.tenant_id, ACCESS_TOKEN.purpose(row.id), answer.access_token)
        if answer.refresh_token is not None:
            purpose = REFRESH_TOKEN.purpose(row.id)
            row.refresh_token = await self._sealed(session, row.tenant_id, purpose, answer.refresh_token)
            row.refresh_expires_at = answer.refresh_expires_at
        row.generation += 1
        row.revision = row.tried_revision = revision
        row.grant, row.scheme = settings.grant.value, settings.token_scheme
        row.told = {**told, **answer.values}
        row.scope = answer.scope or row.scope
        row.obtained_at = now
        row.expires_at = answer.expires_at
        row.renew_at = _renew_at(now, answer.expires_at)
        row.failures, row.retry_at, row.last_error, row.error_passes = 0, None, None, True
        row.revoked_at = None
        row.renewer = row.renewer_until = None

    async def _sealed(self, session: AsyncSession, tenant_id: UUID, purpose: str, secret: str) -> bytes:
        return await self._vault.seal(session, tenant_id=tenant_id, purpose=purpose, secret=secret)


def clear(row: OAuthTokens) -> None:
    """Take all tokens out of a row."""
    row.access_token = row.refresh_token = None
    row.obtained_at = row.expires_at = row.refresh_expires_at = row.renew_at = None
    row.generation += 1
    row.renewer = row.renewer_until = None


def _renew_at(now: datetime, expires_at: datetime | None) -> datetime | None:
    if expires_at is None:
        return None
    return expires_at - timedelta(seconds=renewal_lead_s((expires_at - now).total_seconds()))


def _usable_until(obtained_at: datetime, expires_at: datetime | None) -> datetime | None:
    if expires_at is None:
        return None
    return expires_at - min(_MAX_MARGIN, (expires_at - obtained_at) * _MARGIN_SHARE)
