"""The event catalogue: built-in types, and a tenant's own with their schemas compiled."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any
from uuid import UUID

import msgspec

from crossdock.db.changes import Change, ChangeFeed
from crossdock.db.engine import Database, Role
from crossdock.features.events.errors import InvalidEventError, UnknownEventTypeError
from crossdock.kit.errors import Fault
from crossdock.kit.single_flight import SingleFlight
from crossdock.mapping.json_schema import compile_schema, faults_of

BUILT_IN_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "integration.created": "An integration was added.",
        "integration.updated": "An integration's settings changed.",
        "integration.deleted": "An integration was removed.",
        "integration.connected": "An integration's connection works.",
        "integration.disconnected": "An integration was disconnected.",
        "integration.error": "An integration needs a person's attention.",
        "webhook.received": "An inbound webhook was verified and stored.",
        "webhook.delivered": "A delivery reached its destination.",
        "webhook.failed": "A delivery used up its retries, or was refused for good.",
        "webhook.test": "A test that a person sent to a subscription.",
        "webhook.verification": "Sent when a subscription is created, to see that its destination answers.",
        "subscription.disabled": "A subscription was disabled: too many failures, or its destination is gone.",
        "sync.started": "A sync started.",
        "sync.completed": "A sync completed.",
        "sync.failed": "A sync failed.",
        "circuit.opened": "A destination or provider failed several times in a row; what goes to it is held back.",
        "circuit.closed": "A destination or provider works again.",
        "alert.raised": "Something needs a person's attention; told once, however often it is found again.",
        "alert.acknowledged": "Somebody has seen an alert.",
        "alert.resolved": "What an alert told of is over.",
        "apikey.generated": "An API key was made.",
        "apikey.revoked": "An API key was revoked.",
    }
)


@dataclass(frozen=True, slots=True)
class KnownType:
    """One version of a tenant's type; `validator` is None where it has no schema."""

    version: int
    validator: Any


class Catalogue:
    """All tenants' types seen so far, emptied by the change feed."""

    def __init__(self, *, database: Database, changes: ChangeFeed, require_known: bool) -> None:
        self._database = database
        self._require_known = require_known
        self._tenants: dict[UUID, dict[str, dict[int, KnownType]]] = {}
        self._loads = SingleFlight[tuple[UUID, int], dict[str, dict[int, KnownType]]]()
        self._changes_heard = 0
        changes.on_change(self._changed)

    async def check(self, tenant_id: UUID, event_type: str, version: int | None, payload: bytes, pointer: str) -> None:
        """Raise InvalidEventError or UnknownEventTypeError unless the data fits the type's schema.

        Without a version the newest counts; a type that is not in the catalogue takes any data, unless
        the installation requires known types.
        """
        versions = (await self._types(tenant_id)).get(event_type)
        if versions is None:
            if version is not None or (self._require_known and event_type not in BUILT_IN_TYPES):
                raise UnknownEventTypeError(
                    f"The catalogue has no type {event_type!r}; add it, or publish under one that it has.",
                    (Fault(f"{pointer}/type", "is not in the catalogue"),),
                )
            return
        known = versions[max(versions)] if version is None else versions.get(version)
        if known is None:
            raise UnknownEventTypeError(
                f"The type {event_type!r} has no version {version}; it has {', '.join(map(str, sorted(versions)))}.",
                (Fault(f"{pointer}/version", "is no version of this type"),),
            )
        if known.validator is None:
            return
        try:
            faults = faults_of(known.validator, msgspec.json.decode(payload), f"{pointer}/data")
        except (msgspec.MsgspecError, RecursionError, ValueError):
            faults = (Fault(f"{pointer}/data", "is nested too deeply, or has a number too large, to be checked"),)
        if faults:
            raise InvalidEventError(f"The data does not fit the schema of {event_type!r}.", faults)

    def forget(self, tenant_id: UUID) -> None:
        """Load this tenant's types again when they are next needed."""
        self._changes_heard += 1
        self._tenants.pop(tenant_id, None)

    async def _types(self, tenant_id: UUID) -> dict[str, dict[int, KnownType]]:
        known = self._tenants.get(tenant_id)
        if known is None:
            # Not those that are being read since before a change.
            known = await self._loads.do((tenant_id, self._changes_heard), partial(self._load_unchanged, tenant_id))
        return known

    async def _load_unchanged(self, tenant_id: UUID) -> dict[str, dict[int, KnownType]]:
        """The tenant's types, kept unless they changed while they were read."""
        changes_before = self._changes_heard
        types = await self._load(tenant_id)
        if self._changes_heard == changes_before:
            self._tenants[tenant_id] = types
        return types

    async def _load(self, tenant_id: UUID) -> dict[str, dict[int, KnownType]]:
        async with self._database.pool(Role.APP).acquire() as connection, connection.transaction(readonly=True):
            await connection.execute("SELECT set_config('crossdock.tenant', $1, true)", str(tenant_id))
            rows = await connection.fetch(
                "SELECT name, version, schema FROM event_types WHERE tenant_id = $1", tenant_id
            )
        types: dict[str, dict[int, KnownType]] = {}
        for row in rows:
            schema = row["schema"]
            validator = None if schema is None else compile_schema(msgspec.json.decode(schema))
            types.setdefault(row["name"], {})[row["version"]] = KnownType(row["version"], validator)
        return types

    def _changed(self, change: Change | None) -> None:
        if change is not None and change.kind != "event_type":
            return
        self._changes_heard += 1
        if change is None:
            self._tenants.clear()
        else:
            self._tenants.pop(UUID(change.tenant_id), None)
