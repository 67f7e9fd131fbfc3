"""What one can do with API keys (requirements T3 and T4)."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.db import audit
from crossdock.db.audit import Actor
from crossdock.db.commit_hooks import after_commit
from crossdock.db.outbox import announce
from crossdock.features.identity.api_keys import repository
from crossdock.features.identity.api_keys.schemas import (
    DEFAULT_RATE_PER_HOUR,
    ApiKeyChange,
    KeyStatus,
    NewApiKey,
    status_of,
)
from crossdock.features.identity.errors import (
    KeyEndedError,
    KeyLimitReachedError,
    KeyRotatedError,
)
from crossdock.features.identity.granting import check_may_grant
from crossdock.features.identity.models import ApiKey
from crossdock.features.identity.tokens import digest, key_start, new_key
from crossdock.http.pagination import PageRequest
from crossdock.kit.clock import Clock
from crossdock.kit.errors import Fault, InvalidInputError, NotFoundError
from crossdock.kit.ids import IdKind, format_id, new_uuid

MAX_ACTIVE_KEYS = 100


class ApiKeyService:
    """Creates, narrows, rotates and revokes a tenant's API keys.

    `forget_tenant` is called once a change has committed: it empties what this process remembers of the
    tenant's keys.
    """

    def __init__(self, *, clock: Clock, max_rate_per_hour: int, forget_tenant: Callable[[UUID], None]) -> None:
        self._clock = clock
        self._max_rate_per_hour = max_rate_per_hour
        self._forget_tenant = forget_tenant

    def now(self) -> datetime:
        """The moment by which keys are judged."""
        return self._clock.now()

    async def create(
        self, session: AsyncSession, *, tenant_id: UUID, actor: Actor, granted: frozenset[str], wanted: NewApiKey
    ) -> tuple[ApiKey, str]:
        """A new key and its text, which is stored nowhere. `granted` is what the creator may do himself.

        Raises InvalidInputError, CannotGrantError or KeyLimitReachedError.
        """
        check_may_grant(granted, wanted.scopes)
        rate = wanted.rate_limit_per_hour or min(DEFAULT_RATE_PER_HOUR, self._max_rate_per_hour)
        self._check_rate(rate)
        if wanted.expires_at is not None and wanted.expires_at <= self.now():
            raise InvalidInputError("The expiry must lie in the future.", (Fault("/expires_at", "is in the past"),))
        await repository.lock_tenants_keys(session, tenant_id)
        if await repository.count_active_keys(session, tenant_id, self.now()) >= MAX_ACTIVE_KEYS:
            raise KeyLimitReachedError
        return await self._add(
            session,
            actor,
            tenant_id=tenant_id,
            name=wanted.name,
            scopes=sorted(set(wanted.scopes)),
            rate_limit_per_hour=rate,
            expires_at=wanted.expires_at,
        )

    async def on_page(self, session: AsyncSession, tenant_id: UUID, page: PageRequest) -> Sequence[ApiKey]:
        """The tenant's keys, newest first."""
        return await repository.keys_on_page(session, tenant_id, page)

    async def get(self, session: AsyncSession, tenant_id: UUID, key_id: UUID, *, lock: bool = False) -> ApiKey:
        """One key. Raises NotFoundError."""
        key = await repository.key_by_id(session, tenant_id, key_id, lock=lock)
        if key is None:
            raise NotFoundError(f"There is no API key {format_id(IdKind.API_KEY, key_id)}.")
        return key

    async def change(
        self, session: AsyncSession, *, tenant_id: UUID, key_id: UUID, actor: Actor, change: ApiKeyChange
    ) -> ApiKey:
        """Rename a key, narrow its scopes, or change its limit. Raises InvalidInputError or KeyEndedError."""
        key = await self._living(session, tenant_id, key_id)
        before = _told(key)
        if change.scopes is not None:
            if set(change.scopes) - set(key.scopes):
                raise InvalidInputError(
                    "The scopes of a key can only become fewer; create a new key for more.",
                    (Fault("/scopes", "has scopes that the key does not have"),),
                )
            key.scopes = sorted(set(change.scopes))
        if change.rate_limit_per_hour is not None:
            self._check_rate(change.rate_limit_per_hour)
            key.rate_limit_per_hour = change.rate_limit_per_hour
        key.name = change.name or key.name
        await self._record(session, key, actor, "api_key.updated", old=before, new=_told(key))
        return key

    async def rotate(
        self,
        session: AsyncSession,
        *,
        tenant_id: UUID,
        key_id: UUID,
        actor: Actor,
        granted: frozenset[str],
        grace: timedelta,
    ) -> tuple[ApiKey, ApiKey, str]:
        """The old key, its successor and the successor's text; both open until the grace period ends.

        Raises CannotGrantError, KeyEndedError, or KeyRotatedError when it has a successor already or still
        succeeds one in its grace period.
        """
        await repository.lock_tenants_keys(session, tenant_id)
        old = await self._living(session, tenant_id, key_id)
        check_may_grant(granted, old.scopes)
        if old.replaced_by is not None:
            raise KeyRotatedError
        before_it = await repository.key_replaced_by(session, tenant_id, key_id)
        if before_it is not None and status_of(before_it, self.now()) is KeyStatus.ROTATED:
            raise KeyRotatedError(
                f"The key's predecessor still works, until {before_it.works_until:%Y-%m-%dT%H:%M:%SZ}; "
                f"revoke {format_id(IdKind.API_KEY, before_it.id)} first, or wait."
            )
        successor, text = await self._add(
            session,
            actor,
            tenant_id=tenant_id,
            name=old.name,
            scopes=list(old.scopes),
            rate_limit_per_hour=old.rate_limit_per_hour,
            expires_at=old.expires_at,
        )
        old.replaced_by = successor.id
        old.works_until = self.now() + grace
        told = {"replaced_by": format_id(IdKind.API_KEY, successor.id), "works_until": old.works_until.isoformat()}
        await self._record(session, old, actor, "api_key.rotated", new=told)
        return old, successor, text

    async def revoke(
        self, session: AsyncSession, *, tenant_id: UUID, key_id: UUID, actor: Actor, reason: str
    ) -> ApiKey:
        """End a key for good, at once. Raises KeyEndedError when it was revoked before."""
        key = await self.get(session, tenant_id, key_id, lock=True)
        if key.revoked_at is not None:
            raise KeyEndedError
        key.revoked_at, key.revoked_by, key.revoked_reason = self.now(), actor.id, reason
        await self._record(session, key, actor, "api_key.revoked", new={"reason": reason})
        announce(
            session,
            tenant_id=tenant_id,
            event_type="apikey.revoked",
            data=revoked_event(key.id, name=key.name, start=key.start, reason=reason, by=actor.id),
            correlation_id=actor.correlation_id,
        )
        return key

    async def _living(self, session: AsyncSession, tenant_id: UUID, key_id: UUID) -> ApiKey:
        key = await self.get(session, tenant_id, key_id, lock=True)
        if status_of(key, self.now()) in {KeyStatus.REVOKED, KeyStatus.EXPIRED}:
            raise KeyEndedError
        return key

    async def _add(self, session: AsyncSession, actor: Actor, **fields: Any) -> tuple[ApiKey, str]:  # noqa: ANN401 - a key's columns
        text = new_key()
        key = ApiKey(
            id=new_uuid(),
            start=key_start(text),
            key_hash=digest(text),
            created_by=actor.id,
            created_at=self.now(),
            **fields,
        )
        session.add(key)
        await self._record(session, key, actor, "api_key.created", new=_told(key))
        announce(
            session,
            tenant_id=key.tenant_id,
            event_type="apikey.generated",
            data={"id": format_id(IdKind.API_KEY, key.id), "start": key.start, "by": actor.id, **_told(key)},
            correlation_id=actor.correlation_id,
        )
        return key, text

    async def _record(
        self,
        session: AsyncSession,
        key: ApiKey,
        actor: Actor,
        action: str,
        *,
        new: dict[str, Any],
        old: dict[str, Any] | None = None,
    ) -> None:
        audit.record(
            session,
            tenant_id=key.tenant_id,
            actor=actor,
            action=action,
            entity_kind="api_key",
            entity_id=format_id(IdKind.API_KEY, key.id),
            old=old,
            new=new,
        )
        await session.flush()
        tenant_id = key.tenant_id
        after_commit(session, lambda: self._forget_tenant(tenant_id))

    def _check_rate(self, rate: int) -> None:
        if rate > self._max_rate_per_hour:
            raise InvalidInputError(
                f"This installation allows a key at most {self._max_rate_per_hour} requests per hour.",
                (Fault("/rate_limit_per_hour", f"is more than {self._max_rate_per_hour}"),),
            )


def revoked_event(key_id: UUID, *, name: str, start: str, reason: str, by: str) -> dict[str, Any]:
    """The data of the event apikey.revoked."""
    return {"id": format_id(IdKind.API_KEY, key_id), "name": name, "start": start, "reason": reason, "by": by}


def _told(key: ApiKey) -> dict[str, Any]:
    return {
        "name": key.name,
        "scopes": list(key.scopes),
        "rate_limit_per_hour": key.rate_limit_per_hour,
        "expires_at": None if key.expires_at is None else key.expires_at.isoformat(),
    }
