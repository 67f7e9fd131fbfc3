"""The event catalogue, and looking events up."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.db.audit import Actor, record
from crossdock.db.changes import Change, ChangeFeed
from crossdock.db.commit_hooks import after_commit
from crossdock.features.events.catalogue import BUILT_IN_TYPES
from crossdock.features.events.errors import (
    EventNotFoundError,
    EventTypeExistsError,
    EventTypeNotFoundError,
    InvalidEventError,
)
from crossdock.features.events.models import Event, EventType
from crossdock.features.events.repository import EventRepository
from crossdock.features.events.schemas import EventTypeIn, EventTypeOut, EventTypePatch
from crossdock.http.pagination import PageRequest
from crossdock.kit.clock import Clock
from crossdock.mapping.json_schema import compile_schema, faults_of


class EventService:
    """Reads events, and keeps the catalogue; works in the caller's transaction."""

    def __init__(self, *, changes: ChangeFeed, clock: Clock) -> None:
        self._changes = changes
        self._clock = clock

    async def list_events(
        self,
        session: AsyncSession,
        page: PageRequest,
        *,
        event_type: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[tuple[Event, int]]:
        """A page of events, newest first, each with its size in bytes."""
        return await EventRepository(session).newest_events(page, event_type=event_type, since=since, until=until)

    async def event(self, session: AsyncSession, event_id: UUID) -> Event:
        """One event with its data; raises EventNotFoundError."""
        event = await EventRepository(session).event(event_id)
        if event is None:
            raise EventNotFoundError
        return event

    async def list_types(self, session: AsyncSession) -> list[EventTypeOut]:
        """The catalogue: built-in types first, then the tenant's."""
        built_in = [
            EventTypeOut(name=name, version=1, description=text, built_in=True) for name, text in BUILT_IN_TYPES.items()
        ]
        return built_in + [EventTypeOut.of(event_type) for event_type in await EventRepository(session).event_types()]

    async def versions(self, session: AsyncSession, name: str) -> list[EventTypeOut]:
        """The versions of one type, newest first; raises EventTypeNotFoundError."""
        if name in BUILT_IN_TYPES:
            return [EventTypeOut(name=name, version=1, description=BUILT_IN_TYPES[name], built_in=True)]
        found = await self._versions(session, name)
        return [EventTypeOut.of(event_type) for event_type in found]

    async def add_type(self, session: AsyncSession, tenant_id: UUID, actor: Actor, given: EventTypeIn) -> EventTypeOut:
        """Add a type, or the next version of one.

        Raises InvalidEventError for an example that does not fit, EventTypeExistsError for a built-in name.
        """
        if given.name in BUILT_IN_TYPES:
            raise EventTypeExistsError(f"{given.name} is a built-in type of Crossdock; choose another name.")
        _check_example(given)
        repository = EventRepository(session)
        newest = next(iter(await repository.versions_of(given.name)), None)
        event_type = EventType(
            tenant_id=tenant_id,
            name=given.name,
            version=1 if newest is None else newest.version + 1,
            description=given.description,
            schema_=given.schema_,
            example=given.example,
            created_at=self._clock.now(),
        )
        repository.add(event_type)
        try:
            await session.flush()
        except IntegrityError:
            raise EventTypeExistsError("Somebody added this version at the same moment; look at it first.") from None
        shown = EventTypeOut.of(event_type)
        self._changed(session, event_type)
        _audit(session, actor, event_type, "event_type.created", None, shown)
        return shown

    async def change_type(
        self, session: AsyncSession, actor: Actor, name: str, version: int, patch: EventTypePatch
    ) -> EventTypeOut:
        """Change a version's words or deprecate it; raises EventTypeNotFoundError."""
        event_type = await self._version(session, name, version)
        old = EventTypeOut.of(event_type)
        if patch.description is not None:
            event_type.description = patch.description
        if patch.deprecated is not None:
            event_type.deprecated_at = self._clock.now() if patch.deprecated else None
        shown = EventTypeOut.of(event_type)
        self._changed(session, event_type)
        _audit(session, actor, event_type, "event_type.updated", old, shown)
        return shown

    async def remove_type(self, session: AsyncSession, actor: Actor, name: str, version: int) -> None:
        """Remove a version; raises EventTypeNotFoundError."""
        event_type = await self._version(session, name, version)
        self._changed(session, event_type)
        _audit(session, actor, event_type, "event_type.deleted", EventTypeOut.of(event_type), None)
        await EventRepository(session).remove(event_type)

    def _changed(self, session: AsyncSession, event_type: EventType) -> None:
        """What is published after the answer is checked by the new catalogue, here at least."""
        change = Change("event_type", str(event_type.tenant_id), event_type.name)
        after_commit(session, lambda: self._changes.announce(change))

    async def _version(self, session: AsyncSession, name: str, version: int) -> EventType:
        found = next((one for one in await self._versions(session, name) if one.version == version), None)
        if found is None:
            raise EventTypeNotFoundError
        return found

    @staticmethod
    async def _versions(session: AsyncSession, name: str) -> Sequence[EventType]:
        found = await EventRepository(session).versions_of(name)
        if not found:
            raise EventTypeNotFoundError
        return found


def _check_example(given: EventTypeIn) -> None:
    if given.schema_ is None or given.example is None:
        return
    faults = faults_of(compile_schema(given.schema_), given.example, "/example")
    if faults:
        raise InvalidEventError("The example does not fit the schema.", faults)


def _audit(
    session: AsyncSession,
    actor: Actor,
    event_type: EventType,
    action: str,
    old: EventTypeOut | None,
    new: EventTypeOut | None,
) -> None:
    record(
        session,
        tenant_id=event_type.tenant_id,
        actor=actor,
        action=action,
        entity_kind="event_type",
        entity_id=f"{event_type.name}@{event_type.version}",
        old=old.model_dump(mode="json") if old else None,
        new=new.model_dump(mode="json") if new else None,
    )
