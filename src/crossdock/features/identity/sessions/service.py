"""Signing in and out, and who one is then (requirement T2)."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NoReturn
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.db import audit
from crossdock.db.audit import Actor
from crossdock.db.commit_hooks import after_commit
from crossdock.db.engine import Database
from crossdock.features.identity.errors import SessionEndedError, SignInRefusedError, TenantSuspendedError
from crossdock.features.identity.models import Session, Tenant, TenantStatus, User
from crossdock.features.identity.passwords import Passwords
from crossdock.features.identity.repository import roles_of_user
from crossdock.features.identity.roles import all_permissions_of
from crossdock.features.identity.sessions import repository
from crossdock.features.identity.sessions.lifetime import longest_until
from crossdock.features.identity.sessions.repository import Candidate
from crossdock.features.identity.tokens import csrf_token, digest, new_session_token
from crossdock.http.access import Principal
from crossdock.kit.clock import Clock
from crossdock.kit.ids import IdKind, format_id, new_uuid

# Every refusal takes this long at least, so that its time tells nothing about which part was wrong.
_REFUSAL_S = 0.4

_USER_AGENT_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A new session; `token` is the cookie's value and stored nowhere."""

    session_id: UUID
    user: User
    tenant: Tenant
    permissions: frozenset[str]
    expires_at: datetime
    token: str = field(repr=False)
    csrf_token: str = field(repr=False)


class SessionService:
    """Signs users in and out.

    `secure_cookies` is for installations that are reached by https through a proxy that does not say so.
    """

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        passwords: Passwords,
        forget_tenant: Callable[[UUID], None],
        secure_cookies: bool = False,
        refusal_s: float = _REFUSAL_S,
    ) -> None:
        self._database = database
        self._clock = clock
        self._passwords = passwords
        self._forget_tenant = forget_tenant
        self._refusal_s = refusal_s
        self.secure_cookies = secure_cookies

    async def sign_in(
        self,
        *,
        email: str,
        password: str,
        tenant_slug: str | None,
        actor: Actor,
        user_agent: str | None,
    ) -> SignedIn:
        """A session for whom email and password fit; `actor` says where from.

        Has transactions of its own, since an attempt counts also when it is refused. Raises
        SignInRefusedError, the same whatever was wrong, or TenantSuspendedError.
        """
        began = self._clock.monotonic()
        candidate = await self._candidate(email, tenant_slug)
        stored = await self._count_attempt(candidate)
        if not await self._passwords.verify(password, stored) or candidate is None or candidate.user_id is None:
            await self._refuse(candidate, actor, email, began)
        async with self._database.tenant(candidate.tenant_id) as session:
            found = await repository.active_user_and_tenant(session, candidate.tenant_id, candidate.user_id)
            if found is None:
                raise SignInRefusedError
            roles = await roles_of_user(session, candidate.tenant_id, candidate.user_id)
            return self._begin(session, *found, all_permissions_of(roles), actor, user_agent)

    async def sign_out(self, session: AsyncSession, *, tenant_id: UUID, token: str, actor: Actor) -> None:
        """End the session of this cookie. Raises SessionEndedError when it has ended already."""
        session_id = await repository.end_session(session, tenant_id, digest(token))
        if session_id is None:
            raise SessionEndedError
        audit.record(
            session,
            tenant_id=tenant_id,
            actor=actor,
            action="session.ended",
            entity_kind="session",
            entity_id=format_id(IdKind.SESSION, session_id),
        )
        after_commit(session, lambda: self._forget_tenant(tenant_id))

    async def current(self, session: AsyncSession, *, tenant_id: UUID, token: str) -> Session:
        """The session of this cookie. Raises SessionEndedError."""
        found = await repository.session_by_token(session, tenant_id, digest(token))
        if found is None:
            raise SessionEndedError
        return found

    async def describe(self, session: AsyncSession, principal: Principal) -> tuple[Tenant, str | None]:
        """The caller's organization, and his address if he is a user."""
        tenant = await repository.tenant_by_id(session, principal.tenant_id)
        if tenant is None:
            raise SessionEndedError
        is_user = principal.kind == "user"
        email = await repository.email_of_user(session, principal.tenant_id, principal.id) if is_user else None
        return tenant, email

    async def _candidate(self, email: str, tenant_slug: str | None) -> Candidate | None:
        async with self._database.lookup() as session:
            if tenant_slug is None:
                everyone = await repository.users_with_email(session, email)
                return everyone[0] if len(everyone) == 1 else None
            tenant_id = await repository.tenant_of_slug(session, tenant_slug)
        if tenant_id is None:
            return None
        async with self._database.tenant(tenant_id) as session:
            return Candidate(tenant_id, await repository.user_id_by_email(session, tenant_id, email))

    async def _count_attempt(self, candidate: Candidate | None) -> str | None:
        """Count before the password is compared, so that many guesses at once count as many."""
        if candidate is None or candidate.user_id is None:
            return None
        async with self._database.tenant(candidate.tenant_id) as session:
            return await repository.count_attempt(session, candidate.tenant_id, candidate.user_id, self._clock.now())

    async def _refuse(self, candidate: Candidate | None, actor: Actor, email: str, began: float) -> NoReturn:
        if candidate is not None:
            who = "unknown" if candidate.user_id is None else format_id(IdKind.USER, candidate.user_id)
            async with self._database.tenant(candidate.tenant_id) as session:
                audit.record(
                    session,
                    tenant_id=candidate.tenant_id,
                    actor=actor,
                    action="session.refused",
                    entity_kind="user",
                    entity_id=who,
                    new={"email": email},
                )
        await asyncio.sleep(max(0.0, self._refusal_s - (self._clock.monotonic() - began)))
        raise SignInRefusedError

    def _begin(
        self,
        session: AsyncSession,
        user: User,
        tenant: Tenant,
        permissions: frozenset[str],
        actor: Actor,
        user_agent: str | None,
    ) -> SignedIn:
        if tenant.status is not TenantStatus.ACTIVE:
            raise TenantSuspendedError
        now = self._clock.now()
        token = new_session_token()
        begun = Session(
            tenant_id=user.tenant_id,
            id=new_uuid(),
            user_id=user.id,
            token_hash=digest(token),
            csrf_hash=digest(csrf_token(token)),
            source_address=actor.source_address,
            user_agent=user_agent and user_agent[:_USER_AGENT_CHARACTERS],
            created_at=now,
            expires_at=longest_until(now, now),
        )
        session.add(begun)
        user.failed_sign_ins, user.locked_until, user.last_sign_in_at = 0, None, now
        audit.record(
            session,
            tenant_id=user.tenant_id,
            actor=Actor(
                kind="user",
                id=format_id(IdKind.USER, user.id),
                correlation_id=actor.correlation_id,
                source_address=actor.source_address,
            ),
            action="session.created",
            entity_kind="session",
            entity_id=format_id(IdKind.SESSION, begun.id),
        )
        return SignedIn(
            session_id=begun.id,
            user=user,
            tenant=tenant,
            permissions=permissions,
            expires_at=begun.expires_at,
            token=token,
            csrf_token=csrf_token(token),
        )
