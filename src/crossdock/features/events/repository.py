"""Queries about events and the catalogue, within a tenant's transaction."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from crossdock.features.events.models import Event, EventType
from crossdock.http.pagination import PageRequest, newest_first
from crossdock.kit.ids import uuid_floor


class EventRepository:
    """Events and event types of the session's tenant."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def newest_events(
        self, page: PageRequest, *, event_type: str | None, since: datetime | None, until: datetime | None
    ) -> list[tuple[Event, int]]:
        """A page of events without their data, each with its data's size in bytes."""
        query = select(Event, func.octet_length(Event.payload)).options(defer(Event.payload))
        if event_type is not None:
            query = query.where(Event.type == event_type)
        if since is not None:
            query = query.where(Event.id >= uuid_floor(since))
        if until is not None:
            query = query.where(Event.id < uuid_floor(until))
        rows = await self._session.execute(newest_first(query, Event.id, page))
        return [(event, size) for event, size in rows]

    async def event(self, event_id: UUID) -> Event | None:
        """One event, with its data."""
        return await self._session.scalar(select(Event).where(Event.id == event_id))

    async def event_types(self) -> Sequence[EventType]:
        """Every version of every type, by name, newest version first."""
        query = select(EventType).order_by(EventType.name, EventType.version.desc())
        return (await self._session.scalars(query)).all()

    async def versions_of(self, name: str) -> Sequence[EventType]:
        """The versions of one type, newest first."""
        query = select(EventType).where(EventType.name == name).order_by(EventType.version.desc())
        return (await self._session.scalars(query)).all()

    def add(self, event_type: EventType) -> None:
        """Add a version."""
        self._session.add(event_type)

    async def remove(self, event_type: EventType) -> None:
        """Remove a version."""
        await self._session.delete(event_type)
