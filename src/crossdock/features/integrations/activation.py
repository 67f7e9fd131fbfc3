"""An integration's way from draft to active and back: test, enable, disable, disconnect, and what others report."""

from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.db.audit import Actor
from crossdock.db.changes import Change, ChangeFeed
from crossdock.db.engine import Database
from crossdock.features.integrations.connections import ConnectionLoader
from crossdock.features.integrations.credentials import Credentials, dump
from crossdock.features.integrations.errors import (
    CategoryTakenError,
    IntegrationChangedError,
    IntegrationNotFoundError,
    WrongStateError,
)
from crossdock.features.integrations.grant_repository import forget_grants
from crossdock.features.integrations.health import apply_check, settle, settle_all
from crossdock.features.integrations.life import Chronicle, waiting_state
from crossdock.features.integrations.models import (
    ONE_ACTIVE_IN_CATEGORY,
    Integration,
    IntegrationStatus,
    LogLevel,
)
from crossdock.features.integrations.planning import Plan, Planner, settings_of
from crossdock.features.integrations.repository import IntegrationRepository
from crossdock.features.integrations.schemas import IntegrationDetail, IntegrationSettings, IntegrationTested, TestOut
from crossdock.features.integrations.sealed_columns import CREDENTIALS
from crossdock.features.integrations.shared.breaker_store import calm
from crossdock.features.integrations.testing import ConnectionTester, TestResult
from crossdock.features.vault.envelope import AGELESS
from crossdock.features.vault.service import Vault
from crossdock.kit.clock import Clock
from crossdock.kit.ids import IdKind, format_id

_ACTIVE = IntegrationStatus.ACTIVE
_VALIDATION = IntegrationStatus.PENDING_VALIDATION
_UNFINISHED = frozenset({IntegrationStatus.DRAFT, IntegrationStatus.PENDING_AUTH, IntegrationStatus.DISCONNECTED})
_CANNOT_BE_PAUSED = frozenset({IntegrationStatus.DRAFT, IntegrationStatus.DISCONNECTED})


class Activation:
    """Moves integrations through their states."""

    def __init__(
        self,
        *,
        database: Database,
        vault: Vault,
        loader: ConnectionLoader,
        planner: Planner,
        tester: ConnectionTester,
        changes: ChangeFeed,
        clock: Clock,
    ) -> None:
        self._database = database
        self._vault = vault
        self._loader = loader
        self._planner = planner
        self._tester = tester
        self._changes = changes
        self._clock = clock

    async def test(self, tenant_id: UUID, actor: Actor, integration_id: UUID) -> TestOut:
        """Ask the provider now, and say how that went; the state stays as it is."""
        revision, result = await self._tested(tenant_id, actor, integration_id)
        async with self._database.tenant(tenant_id) as session:
            row = await self.found(session, integration_id, locked=True)
            await self._record(session, actor, row, revision, result)
        return result.shown()

    async def _tested(self, tenant_id: UUID, actor: Actor, integration_id: UUID) -> tuple[int, TestResult]:
        """How the provider answers now, and as of which revision of the integration it was asked."""
        revision = await self._loader.revision(tenant_id, integration_id)
        loading = self._loader.load(tenant_id, integration_id)
        return revision, await self._tester.test(loading, correlation_id=actor.correlation_id)

    async def test_planned(self, plan: Plan, *, correlation_id: str) -> TestResult:
        """How settings would do that are not stored yet."""
        planned = self._loader.of(plan.row, plan.credentials)
        return await self._tester.test(planned, correlation_id=correlation_id, planned=True)

    async def enable(
        self, tenant_id: UUID, actor: Actor, integration_id: UUID, *, replace: bool = False
    ) -> IntegrationTested:
        """Test an integration and make it active if that goes well; else it says what it waits for.

        In an exclusive category raises CategoryTakenError while another one is active, or with `replace`
        pauses that one.
        """
        async with self._database.tenant(tenant_id) as session:
            row = await self.found(session, integration_id, locked=True)
            if row.status is not _ACTIVE:
                if not replace:
                    await self._refuse_second(session, row)
                await self._finish(session, actor, row)
            view = _view(row)
        self.announce(tenant_id, integration_id)
        if view.status in {_ACTIVE, IntegrationStatus.PENDING_AUTH}:
            return view
        return await self._test_and_activate(tenant_id, actor, integration_id, replace=replace)

    async def try_activating(
        self, tenant_id: UUID, actor: Actor, integration_id: UUID, *, replace: bool = False
    ) -> IntegrationTested:
        """As `enable`, for one that has just been made: where another one is in the way, it says so and waits."""
        try:
            return await self._test_and_activate(tenant_id, actor, integration_id, replace=replace)
        except CategoryTakenError as error:
            taken = error.message
        async with self._database.tenant(tenant_id) as session:
            row = await self.found(session, integration_id, locked=True)
            if row.status is _VALIDATION:
                row.status_reason = taken
            return _view(row)

    async def disable(
        self, tenant_id: UUID, actor: Actor, integration_id: UUID, reason: str | None
    ) -> IntegrationDetail:
        """Pause an integration: it keeps everything and makes no calls. Raises WrongStateError for a draft."""
        async with self._database.tenant(tenant_id) as session:
            row = await self.found(session, integration_id, locked=True)
            if row.status in _CANNOT_BE_PAUSED:
                raise WrongStateError(f"The integration is {row.status.value}: there is nothing to pause.")
            if row.status is not IntegrationStatus.PAUSED:
                self._chronicle(session, actor).moved(row, IntegrationStatus.PAUSED, reason or "Paused by hand.")
                await settle(session, row, actor)
            view = IntegrationDetail.whole(row)
        self.announce(tenant_id, integration_id)
        return view

    async def disconnect(
        self, tenant_id: UUID, actor: Actor, integration_id: UUID, reason: str | None
    ) -> IntegrationDetail:
        """Forget an integration's credentials and tokens; its configuration and history stay."""
        async with self._database.tenant(tenant_id) as session:
            row = await self.found(session, integration_id, locked=True)
            await forget_grants(session, integration_id)
            row.credentials, row.credential_hints = None, {}
            row.credentials_changed_at = row.authorized_at = None
            row.revision += 1
            if row.status is not IntegrationStatus.DISCONNECTED:
                self._chronicle(session, actor).moved(
                    row, IntegrationStatus.DISCONNECTED, reason or "Disconnected by hand."
                )
            await settle_all(session, row, actor)
            view = IntegrationDetail.whole(row)
        self.announce(tenant_id, integration_id)
        return view

    async def found(self, session: AsyncSession, integration_id: UUID, *, locked: bool = False) -> Integration:
        """The row; raises IntegrationNotFoundError."""
        row = await IntegrationRepository(session).find(integration_id, locked=locked)
        if row is None:
            raise IntegrationNotFoundError
        return row

    async def opened(self, session: AsyncSession, row: Integration) -> Credentials:
        """A row's credentials in clear, references as they are."""
        return await self._loader.opened(row, session=session)

    async def seal(self, session: AsyncSession, row: Integration, credentials: Credentials) -> None:
        """Put credentials into a row."""
        now = self._clock.now()
        row.credentials_changed_at = now if credentials else None
        row.credentials = (
            await self._vault.seal(
                session,
                tenant_id=row.tenant_id,
                purpose=CREDENTIALS.purpose(row.id),
                secret=dump(credentials),
                typed_at=now if any(isinstance(value, str) for value in credentials.values()) else AGELESS,
            )
            if credentials
            else None
        )

    def announce(self, tenant_id: UUID, integration_id: UUID) -> None:
        """Have this process forget what it remembers of the integration; the others hear of it by themselves."""
        self._changes.announce(Change("integration", str(tenant_id), str(integration_id)))

    async def _test_and_activate(
        self, tenant_id: UUID, actor: Actor, integration_id: UUID, *, replace: bool
    ) -> IntegrationTested:
        revision, result = await self._tested(tenant_id, actor, integration_id)
        async with self._database.tenant(tenant_id) as session:
            row = await self.found(session, integration_id, locked=True)
            if row.revision != revision:
                raise IntegrationChangedError
            chronicle = self._chronicle(session, actor)
            if result.ok:
                await self._make_room(session, chronicle, row, replace=replace)
                chronicle.moved(row, _ACTIVE, None)
                await _flush(session, row)
                await calm(session, tenant_id=tenant_id, integration_id=integration_id)
            elif row.status is _VALIDATION:
                row.status_reason = result.message
            await self._record(session, actor, row, revision, result)
            view = _view(row, result.shown())
        self.announce(tenant_id, integration_id)
        return view

    async def _finish(self, session: AsyncSession, actor: Actor, row: Integration) -> None:
        """Put one that is not active where it waits for the next thing: PENDING_AUTH, or its test where it stands."""
        credentials = await self.opened(session, row)
        settings = IntegrationSettings.model_validate(settings_of(row))
        plan = self._planner.plan(row, settings, before=credentials, credentials=credentials, draft=False)
        status, reason = waiting_state(
            row,
            manifest=plan.manifest,
            method=plan.method,
            asked=plan.asked,
            credentials=credentials,
        )
        if status is IntegrationStatus.PENDING_AUTH or row.status in _UNFINISHED:
            self._chronicle(session, actor).moved(row, status, reason)

    async def _make_room(self, session: AsyncSession, chronicle: Chronicle, row: Integration, *, replace: bool) -> None:
        """In an exclusive category, pause the one that is active, or refuse."""
        if not replace:
            await self._refuse_second(session, row)
            return
        other = await IntegrationRepository(session).active_in_category(row) if row.exclusive else None
        if other is not None:
            chronicle.moved(other, IntegrationStatus.PAUSED, f"{row.name} takes its place.")
            await session.flush()  # before the other becomes active, or the database refuses that
            self.announce(other.tenant_id, other.id)

    async def _refuse_second(self, session: AsyncSession, row: Integration) -> None:
        other = await IntegrationRepository(session).active_in_category(row) if row.exclusive else None
        if other is not None:
            raise _taken(row, other)

    async def _record(
        self, session: AsyncSession, actor: Actor, row: Integration, revision: int, result: TestResult
    ) -> None:
        """Note how a test went: in the log, and of an active integration in its health."""
        chronicle = self._chronicle(session, actor)
        level = LogLevel.INFO if result.ok else LogLevel.WARNING
        details = {"status_code": result.status_code, "duration_ms": result.shown().duration_ms}
        chronicle.log(row, level, "tested", result.message, details)
        if row.status is _ACTIVE and row.revision == revision:
            apply_check(row, result, chronicle, now=self._clock.now())
            if result.ok:
                await settle(session, row, actor)

    def _chronicle(self, session: AsyncSession, actor: Actor) -> Chronicle:
        return Chronicle(session, actor=actor, now=self._clock.now())


def _view(row: Integration, test: TestOut | None = None) -> IntegrationTested:
    return IntegrationTested(**IntegrationDetail.whole(row).model_dump(), test=test)


def _taken(row: Integration, other: Integration | None) -> CategoryTakenError:
    who = "Another one" if other is None else f"{other.name} ({format_id(IdKind.INTEGRATION, other.id)})"
    return CategoryTakenError(
        f"{who} is active for {row.category} in {row.environment.value}, and there can be one. "
        "Disable it first, or enable this one with `replace` to take its place."
    )


async def _flush(session: AsyncSession, row: Integration) -> None:
    """Raise CategoryTakenError where another became active in the same moment."""
    taken = _taken(row, None)  # made before: a row cannot be read any more once its transaction is broken
    try:
        await session.flush()
    except IntegrityError as error:
        if ONE_ACTIVE_IN_CATEGORY not in str(error.orig):
            raise
        raise taken from error
