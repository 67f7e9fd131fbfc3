"""Noting in a request's own transaction that it wrote something, so that a crash cannot leave that in doubt."""

from contextvars import ContextVar
from typing import Protocol
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession


class Note(Protocol):
    """What is to be noted."""

    async def write(self, session: AsyncSession, tenant_id: UUID | None) -> None:
        """Add the note to a transaction that is about to commit and has written something; may refuse by an error.

        The transaction is this tenant's; None for the owner's, which sees every tenant.
        """
        ...


# The note of the request that is being served, if it wants one.
NOTE: ContextVar[Note | None] = ContextVar("carried_out_note", default=None)
