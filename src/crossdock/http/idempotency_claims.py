"""The rows behind idempotency keys: who claims one serves the request."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.db.engine import Database
from crossdock.http.errors import IdempotencyBusyError
from crossdock.kit.clock import Clock
from crossdock.kit.ids import new_uuid

LIFE = timedelta(hours=24)
# A process that was killed leaves a key whose request nobody serves any more: after this the next try may.
LEASE = timedelta(seconds=60)

_NOBODY = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Claim:
    """A key in its caller's scope, and the fingerprint of the request; as stored with what became of it."""

    tenant_id: UUID
    scope: str
    key: str
    fingerprint: bytes
    carried_out: bool = False
    answer: bytes = field(default=b"", repr=False)
    run_id: UUID = field(default_factory=new_uuid)

    @property
    def purpose(self) -> str:
        """What its answer is sealed for."""
        return f"idempotent answer:{self.scope}:{self.key}"

    def named(self) -> dict[str, Any]:
        """Its place and run, as parameters."""
        return {"tenant_id": self.tenant_id, "scope": self.scope, "key": self.key, "run_id": self.run_id}


class RunNote:
    """Notes in the request's transaction that it wrote something; refuses where another serves the request now."""

    def __init__(self, claim: Claim) -> None:
        self._claim = claim
        self._over = False

    async def write(self, session: AsyncSession, tenant_id: UUID | None) -> None:
        """Add the note. Raises IdempotencyBusyError when the lease ran out and another took over."""
        if self._over or tenant_id not in {None, self._claim.tenant_id}:
            return  # what the request left running goes on without it; another tenant's transaction cannot see it
        if not (await session.execute(_NOTE, self._claim.named())).rowcount:  # type: ignore[attr-defined]  # a cursor's
            raise IdempotencyBusyError

    def end(self) -> None:
        """The request is over."""
        self._over = True


class Claims:
    """Claims keys and keeps answers, in transactions of their own."""

    def __init__(self, *, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def claim(self, claim: Claim) -> Claim | None:
        """None when the request is now ours to serve; else what is known of it."""
        now = self._clock.now()
        moments = {"now": now, "expires_at": now + LIFE, "running_until": now + LEASE}
        given = {**claim.named(), **moments, "fingerprint": claim.fingerprint}
        async with self._place(claim) as session:
            if (await session.execute(_CLAIM, given)).first() is not None:
                return None
            row = (await session.execute(_FIND, claim.named())).one()
        return Claim(claim.tenant_id, claim.scope, claim.key, row.fingerprint, row.carried_out, row.answer)

    async def release(self, claim: Claim) -> bool:
        """Give a key free whose request did nothing; whether that was so."""
        async with self._place(claim) as session:
            return (await session.execute(_RELEASE, claim.named())).first() is not None

    async def keep(self, claim: Claim, answer: bytes) -> None:
        """Keep the answer until the key expires."""
        async with self._place(claim) as session:
            await session.execute(_KEEP, {**claim.named(), "answer": answer})

    def note(self, claim: Claim) -> RunNote:
        """What the request's own transactions write."""
        return RunNote(claim)

    def _place(self, claim: Claim) -> Any:  # noqa: ANN401 - the session of either kind, an async context manager
        return self._database.owner() if claim.tenant_id == _NOBODY else self._database.tenant(claim.tenant_id)


# A key whose life is over, or whose request nobody serves any more and did nothing, is the next one's.
_CLAIM = text(
    """
INSERT INTO idempotency_keys AS k (tenant_id, scope, key, fingerprint, answer, expires_at, running_until, run_id)
VALUES (:tenant_id, :scope, :key, :fingerprint, '', :expires_at, :running_until, :run_id)
ON CONFLICT (tenant_id, scope, key) DO UPDATE
   SET fingerprint = excluded.fingerprint, answer = '', expires_at = excluded.expires_at,
       running_until = excluded.running_until, run_id = excluded.run_id, carried_out = false
 WHERE k.expires_at <= :now OR (k.answer = '' AND NOT k.carried_out AND k.running_until <= :now)
RETURNING true
"""
)

_FIND = text(
    "SELECT fingerprint, carried_out, answer FROM idempotency_keys "
    "WHERE tenant_id = :tenant_id AND scope = :scope AND key = :key"
)

_OURS = "tenant_id = :tenant_id AND scope = :scope AND key = :key AND run_id = :run_id"

_NOTE = text(f"UPDATE idempotency_keys SET carried_out = true WHERE {_OURS}")

_RELEASE = text(f"DELETE FROM idempotency_keys WHERE {_OURS} AND NOT carried_out RETURNING true")

_KEEP = text(f"UPDATE idempotency_keys SET answer = :answer WHERE {_OURS}")
