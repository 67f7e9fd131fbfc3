"""Integrations: their settings. `activation` has their way from draft to active and back.

What asks a provider works in transactions of its own before and after, so that none stays open while
somebody else's server thinks. `revision` ties them together: what is stored or activated is what was tested.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.connectors.manifest import Manifest, ProviderLibrary, ProviderStatus
from crossdock.db.audit import Actor
from crossdock.db.engine import Database
from crossdock.features.integrations.activation import Activation
from crossdock.features.integrations.credentials import Credentials, plain
from crossdock.features.integrations.errors import (
    ConnectionTestFailedError,
    DuplicateIntegrationError,
    IntegrationChangedError,
    InvalidIntegrationError,
    ProviderNotAvailableError,
)
from crossdock.features.integrations.grant_repository import forget_grants
from crossdock.features.integrations.health import health_of, settle_all
from crossdock.features.integrations.life import Chronicle, shown, waiting_state
from crossdock.features.integrations.listing import Wanted
from crossdock.features.integrations.models import (
    ONE_PER_OWNER,
    Health,
    Integration,
    IntegrationLogEntry,
    IntegrationStatus,
    LogLevel,
)
from crossdock.features.integrations.planning import Plan, Planner, patched_credentials, patched_settings
from crossdock.features.integrations.repository import IntegrationRepository
from crossdock.features.integrations.schemas import (
    IntegrationDetail,
    IntegrationHealth,
    IntegrationIn,
    IntegrationOut,
    IntegrationPatch,
    IntegrationReplacement,
    IntegrationSettings,
    IntegrationTested,
)
from crossdock.features.integrations.statistics import IntegrationStats, stats_of
from crossdock.features.integrations.usage_repository import breaker_state
from crossdock.http.pagination import PageRequest
from crossdock.kit.clock import Clock
from crossdock.kit.errors import Fault
from crossdock.kit.ids import new_uuid

_ACTIVE = IntegrationStatus.ACTIVE
_DRAFT = IntegrationStatus.DRAFT
# What waits for something is asked again what it waits for once it has other settings.
_WAITING = frozenset({IntegrationStatus.PENDING_AUTH, IntegrationStatus.PENDING_VALIDATION})


class IntegrationService:
    """Keeps integrations."""

    def __init__(
        self,
        *,
        database: Database,
        library: ProviderLibrary,
        planner: Planner,
        activation: Activation,
        clock: Clock,
    ) -> None:
        self._database = database
        self._library = library
        self._planner = planner
        self._activation = activation
        self._clock = clock

    async def list(self, session: AsyncSession, page: PageRequest, wanted: Wanted) -> list[IntegrationOut]:
        """A page of integrations, newest first, and one more if another page follows."""
        return [IntegrationOut.of(row) for row in await IntegrationRepository(session).page(page, wanted)]

    async def read(self, session: AsyncSession, integration_id: UUID) -> IntegrationDetail:
        """One integration; raises IntegrationNotFoundError."""
        return IntegrationDetail.whole(await self._activation.found(session, integration_id))

    async def health(self, session: AsyncSession, integration_id: UUID) -> IntegrationHealth:
        """How its checks went, how its breaker stands, and what to do; raises IntegrationNotFoundError."""
        row = await self._activation.found(session, integration_id)
        return health_of(row, breaker=await breaker_state(session, integration_id))

    async def stats(self, session: AsyncSession, integration_id: UUID, *, hours: int) -> IntegrationStats:
        """How its calls went in the last hours; raises IntegrationNotFoundError."""
        await self._activation.found(session, integration_id)
        return await stats_of(session, integration_id, since=self._clock.now() - timedelta(hours=hours))

    async def log(
        self, session: AsyncSession, page: PageRequest, integration_id: UUID, level: LogLevel | None
    ) -> Sequence[IntegrationLogEntry]:
        """What happened to it, newest first; raises IntegrationNotFoundError."""
        await self._activation.found(session, integration_id)
        return await IntegrationRepository(session).log(page, integration_id=integration_id, level=level)

    async def create(self, tenant_id: UUID, actor: Actor, given: IntegrationIn) -> IntegrationTested:
        """Add an integration and, unless told not to, test it and make it active.

        One that cannot be active yet says in `status_reason` what it waits for. Raises InvalidIntegrationError,
        ProviderNotAvailableError, UnknownProviderError, DuplicateIntegrationError.
        """
        manifest = self._library.find(given.provider, given.provider_version)
        _check_identity(manifest, given)
        now = self._clock.now()
        row = _new_row(tenant_id, actor, given, manifest)
        row.created_at = row.updated_at = row.status_changed_at = now
        plan = self._planner.plan(
            row, given, before={}, credentials=_given(plain(given.credentials)), draft=given.draft
        )
        plan.write(row)
        row.revision = 1
        async with self._database.tenant(tenant_id) as session:
            await self._activation.seal(session, row, plan.credentials)
            if not given.draft:
                row.status, row.status_reason = _waits(row, plan)
            session.add(row)
            await _flush(session, row, manifest)
            Chronicle(session, actor=actor, now=now).created(row)
            view = IntegrationTested(**IntegrationDetail.whole(row).model_dump())
        self._activation.announce(tenant_id, row.id)
        if given.activate and row.status is IntegrationStatus.PENDING_VALIDATION:
            return await self._activation.try_activating(tenant_id, actor, row.id, replace=given.replace)
        return view

    async def replace(
        self, tenant_id: UUID, actor: Actor, integration_id: UUID, given: IntegrationReplacement
    ) -> IntegrationTested:
        """Give an integration new settings, whole; those of an active one are tested first. Raises as `patch`."""

        def changed(_row: Integration, before: Credentials) -> tuple[IntegrationSettings, Credentials]:
            return given, before if given.credentials is None else _given(plain(given.credentials))

        return await self._change(tenant_id, actor, integration_id, changed, given)

    async def patch(
        self, tenant_id: UUID, actor: Actor, integration_id: UUID, given: IntegrationPatch
    ) -> IntegrationTested:
        """Change some settings; new ones of an active integration are tested first, and refused if they do not work.

        Raises IntegrationNotFoundError, ConnectionTestFailedError, IntegrationChangedError, and as `create`.
        """

        def changed(row: Integration, before: Credentials) -> tuple[IntegrationSettings, Credentials]:
            return patched_settings(row, given), patched_credentials(before, given)

        return await self._change(tenant_id, actor, integration_id, changed, given)

    async def delete(self, tenant_id: UUID, actor: Actor, integration_id: UUID) -> None:
        """Remove an integration with its credentials and log; raises IntegrationNotFoundError."""
        async with self._database.tenant(tenant_id) as session:
            row = await self._activation.found(session, integration_id, locked=True)
            Chronicle(session, actor=actor, now=self._clock.now()).deleted(row)
            await settle_all(session, row, actor)
            await IntegrationRepository(session).remove(row)
        self._activation.announce(tenant_id, integration_id)

    async def _change(
        self,
        tenant_id: UUID,
        actor: Actor,
        integration_id: UUID,
        changed: Callable[[Integration, Credentials], tuple[IntegrationSettings, Credentials]],
        given: IntegrationReplacement | IntegrationPatch,
    ) -> IntegrationTested:
        async with self._database.tenant(tenant_id) as session:
            row = await self._activation.found(session, integration_id)
            before = await self._activation.opened(session, row)
        settings, credentials = changed(row, before)
        plan = self._planner.plan(
            row,
            settings,
            before=before,
            credentials=credentials,
            given=given.credentials or (),
            draft=row.status is _DRAFT,
        )
        activate = given.activate
        tested = await self._tested_first(plan, actor) if activate and plan.moved and row.status is _ACTIVE else False
        view = await self._store(tenant_id, actor, row, plan, tested=tested)
        if activate and plan.moved and view.status is IntegrationStatus.PENDING_VALIDATION:
            return await self._activation.try_activating(tenant_id, actor, integration_id)
        return view

    async def _tested_first(self, plan: Plan, actor: Actor) -> bool:
        """Whether the planned settings work; False where they cannot be tried before somebody consents."""
        if _waits(plan.row, plan)[0] is IntegrationStatus.PENDING_AUTH:
            return False
        result = await self._activation.test_planned(plan, correlation_id=actor.correlation_id)
        if not result.ok:
            raise ConnectionTestFailedError(
                f"The new settings do not work, so the old ones stay: {result.message} "
                "With `activate` false they are stored all the same."
            )
        return True

    async def _store(
        self, tenant_id: UUID, actor: Actor, read: Integration, plan: Plan, *, tested: bool
    ) -> IntegrationTested:
        """Write what was planned, if nobody else wrote meanwhile."""
        now = self._clock.now()
        async with self._database.tenant(tenant_id) as session:
            row = await self._activation.found(session, read.id, locked=True)
            if (row.revision, row.updated_at) != (read.revision, read.updated_at):
                raise IntegrationChangedError
            chronicle = Chronicle(session, actor=actor, now=now)
            old = shown(row)
            plan.write(row)
            row.updated_at, row.updated_by = now, actor.id
            if plan.new_credentials:
                await self._activation.seal(session, row, plan.credentials)
            if plan.elsewhere:
                await forget_grants(session, row.id)
            chronicle.changed(row, old)
            state = _state_after(row, plan, tested=tested)
            if state is not None:
                chronicle.moved(row, *state)
            await _flush(session, row, plan.manifest)
            view = IntegrationTested(**IntegrationDetail.whole(row).model_dump())
        self._activation.announce(tenant_id, read.id)
        return view


def _check_identity(manifest: Manifest, given: IntegrationIn) -> None:
    if manifest.status is ProviderStatus.COMING_SOON:
        raise ProviderNotAvailableError(f"{manifest.name} cannot be connected yet.")
    if manifest.per_owner and given.owner is None:
        raise InvalidIntegrationError(
            f"{manifest.name} is connected per person: say whose it is.", (Fault("/owner", "is missing"),)
        )
    if manifest.exclusive and given.owner is not None:
        raise InvalidIntegrationError(
            f"Of {manifest.category.value} an organization has one, so it belongs to no single person.",
            (Fault("/owner", "cannot be set for this category"),),
        )


def _new_row(tenant_id: UUID, actor: Actor, given: IntegrationIn, manifest: Manifest) -> Integration:
    return Integration(
        tenant_id=tenant_id,
        id=new_uuid(),
        provider=manifest.code,
        environment=given.environment,
        owner=given.owner,
        credentials=None,
        credentials_changed_at=None,
        authorized_at=None,
        revision=0,
        status=_DRAFT,
        status_reason="It is not finished yet." if given.draft else None,
        health=Health.UNKNOWN,
        failed_checks=0,
        created_by=actor.id,
        updated_by=actor.id,
        config={},
        auth_method="",
        provider_version=manifest.version,
    )


def _given(credentials: Mapping[str, str | dict[str, Any] | None]) -> Credentials:
    return {name: value for name, value in credentials.items() if value is not None}


def _waits(row: Integration, plan: Plan) -> tuple[IntegrationStatus, str]:
    return waiting_state(
        row,
        manifest=plan.manifest,
        method=plan.method,
        asked=plan.asked,
        credentials=plan.credentials,
    )


def _state_after(row: Integration, plan: Plan, *, tested: bool) -> tuple[IntegrationStatus, str | None] | None:
    """Where an integration goes when its settings change; None to stay."""
    if not plan.moved:
        return None
    revived = row.status is IntegrationStatus.DISCONNECTED and plan.new_credentials and plan.credentials
    if row.status in _WAITING or revived:
        return _waits(row, plan)
    if row.status is _ACTIVE:
        status, reason = _waits(row, plan)
        return None if status is IntegrationStatus.PENDING_VALIDATION and tested else (status, reason)
    return None


async def _flush(session: AsyncSession, row: Integration, manifest: Manifest) -> None:
    """Raise DuplicateIntegrationError where the tenant has one already."""
    # Read before: a row cannot be read any more once its transaction is broken.
    whose = f" for {row.owner}" if row.owner else ""
    called = f" called {row.name!r}" if manifest.many else ""
    there = f"{manifest.name} in {row.environment.value}{whose}{called}"
    try:
        await session.flush()
    except IntegrityError as error:
        if ONE_PER_OWNER not in str(error.orig):
            raise
        raise DuplicateIntegrationError(f"There is an integration with {there}; change that one.") from error
