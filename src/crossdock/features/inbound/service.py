"""Endpoints: their life and their secrets."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.connectors.webhooks import AddressList, Preset, SecretOrigin, preset_for
from crossdock.connectors.webhooks.errors import InvalidSettingsError
from crossdock.db.audit import Actor, record
from crossdock.db.changes import Change, ChangeFeed
from crossdock.db.engine import Database
from crossdock.features.inbound.errors import EndpointNotFoundError, InvalidEndpointError, PathTakenError
from crossdock.features.inbound.handlers import HandlerRegistry
from crossdock.features.inbound.models import Endpoint, EndpointSecret, EndpointStatus, EndpointTarget
from crossdock.features.inbound.public_url import endpoint_address
from crossdock.features.inbound.queue import release_job
from crossdock.features.inbound.refusal_repository import RefusalRepository
from crossdock.features.inbound.repository import ENDPOINT_KIND, EndpointRepository
from crossdock.features.inbound.schemas import (
    EndpointCreated,
    EndpointIn,
    EndpointOut,
    EndpointSettings,
    EndpointStatistics,
    RefusalOut,
    RotateSecretIn,
)
from crossdock.features.inbound.secret_box import SecretBox
from crossdock.features.inbound.statistics import statistics_of
from crossdock.http.pagination import PageRequest
from crossdock.jobs.queue import enqueue_in_session
from crossdock.kit.clock import Clock
from crossdock.kit.errors import Fault
from crossdock.kit.ids import IdKind, format_id, new_uuid
from crossdock.kit.wording import worded

# More would only help somebody who guesses, and each costs every verification.
_MOST_SECRETS = 4
_PATH_KEY = "webhook_endpoints_tenant_id_path_key"


class EndpointService:
    """Keeps endpoints; `base_url` is where the world reaches this hub, as far as that is known."""

    def __init__(
        self,
        *,
        database: Database,
        secret_box: SecretBox,
        changes: ChangeFeed,
        handlers: HandlerRegistry,
        clock: Clock,
        base_url: str | None = None,
    ) -> None:
        self._database = database
        self._secret_box = secret_box
        self._changes = changes
        self._handlers = handlers
        self._clock = clock
        self._base_url = base_url

    async def list(
        self,
        session: AsyncSession,
        page: PageRequest,
        *,
        status: EndpointStatus | None = None,
        preset: str | None = None,
    ) -> Sequence[EndpointOut]:
        """A page of endpoints, newest first, and one more if another page follows."""
        repository = EndpointRepository(session)
        endpoints = await repository.endpoints(page, status=status, preset=preset)
        secrets = await repository.secrets_of([endpoint.id for endpoint in endpoints])
        slug = await repository.tenant_slug()
        return [self._shown(endpoint, secrets.get(endpoint.id, ()), slug) for endpoint in endpoints]

    async def read(self, session: AsyncSession, endpoint_id: UUID) -> EndpointOut:
        """One endpoint; raises EndpointNotFoundError."""
        repository = EndpointRepository(session)
        return await self._view(repository, await found(repository, endpoint_id))

    async def create(self, tenant_id: UUID, actor: Actor, given: EndpointIn) -> EndpointCreated:
        """Open an endpoint; a secret is made unless one is given, the sender makes it or none is needed.

        Raises InvalidInputError for what cannot work, and PathTakenError.
        """
        preset = _checked(given, given.preset)
        self._check_handler(given, old=None)
        made, secret = _secret(preset, given.secret.get_secret_value() if given.secret else None)
        now = self._clock.now()
        endpoint = Endpoint(
            tenant_id=tenant_id, id=new_uuid(), preset=given.preset, status=EndpointStatus.ACTIVE, created_at=now
        )
        self._apply(endpoint, given)
        endpoint.updated_at = now
        async with self._database.tenant(tenant_id) as session:
            repository = EndpointRepository(session)
            session.add(endpoint)
            await _flush(session)
            if secret is not None:
                sealed = await self._secret_box.seal(
                    session, secret, tenant_id=tenant_id, endpoint_id=endpoint.id, now=now
                )
                session.add(sealed)
                await session.flush()
            shown = await self._view(repository, endpoint)
            _audit(session, actor, endpoint, "webhook_endpoint.created", old=None, new=shown)
        self._announce(endpoint)
        return EndpointCreated(**shown.model_dump(), secret=secret if made else None)

    async def replace(self, tenant_id: UUID, actor: Actor, endpoint_id: UUID, given: EndpointSettings) -> EndpointOut:
        """Give an endpoint new settings, whole; what is left out takes its default."""
        return await self._change(tenant_id, actor, endpoint_id, lambda _endpoint: given)

    async def patch(self, tenant_id: UUID, actor: Actor, endpoint_id: UUID, changes: Mapping[str, Any]) -> EndpointOut:
        """Change some of an endpoint's settings; what is left out stays."""
        return await self._change(tenant_id, actor, endpoint_id, lambda endpoint: _patched(endpoint, changes))

    async def set_status(self, tenant_id: UUID, actor: Actor, endpoint_id: UUID, status: EndpointStatus) -> EndpointOut:
        """Activate, pause or disable; an endpoint that becomes active processes what it held."""
        async with self._database.tenant(tenant_id) as session:
            repository = EndpointRepository(session)
            endpoint = await found(repository, endpoint_id, for_update=True)
            old = await self._view(repository, endpoint)
            endpoint.status = status
            endpoint.updated_at = self._clock.now()
            await session.flush()
            if status is EndpointStatus.ACTIVE:
                await enqueue_in_session(session, [release_job(tenant_id, endpoint_id)])
            shown = await self._view(repository, endpoint)
            _audit(session, actor, endpoint, f"webhook_endpoint.{status}", old=old, new=shown)
        self._announce(endpoint)
        return shown

    async def rotate_secret(
        self, tenant_id: UUID, actor: Actor, endpoint_id: UUID, given: RotateSecretIn
    ) -> EndpointCreated:
        """Give an endpoint a new secret; the old ones count until the overlap is over.

        Raises InvalidEndpointError without a given one where the sender makes it, or where none is used.
        """
        now = self._clock.now()
        async with self._database.tenant(tenant_id) as session:
            repository = EndpointRepository(session)
            endpoint = await found(repository, endpoint_id, for_update=True)
            old = await self._view(repository, endpoint)
            preset = preset_for(endpoint.preset, endpoint.scheme)
            made, secret = _secret(preset, given.secret.get_secret_value() if given.secret else None)
            if secret is None:
                raise _no_secret_to_rotate(preset)
            await self._let_expire(repository, endpoint, timedelta(seconds=given.overlap_s))
            sealed = await self._secret_box.seal(session, secret, tenant_id=tenant_id, endpoint_id=endpoint_id, now=now)
            session.add(sealed)
            await session.flush()
            shown = await self._view(repository, endpoint)
            _audit(session, actor, endpoint, "webhook_endpoint.secret_rotated", old=old, new=shown)
        self._announce(endpoint)
        return EndpointCreated(**shown.model_dump(), secret=secret if made else None)

    async def delete(self, tenant_id: UUID, actor: Actor, endpoint_id: UUID) -> None:
        """Close an endpoint for good; what it received stays until the retention ends."""
        async with self._database.tenant(tenant_id) as session:
            repository = EndpointRepository(session)
            endpoint = await found(repository, endpoint_id, for_update=True)
            old = await self._view(repository, endpoint)
            _audit(session, actor, endpoint, "webhook_endpoint.deleted", old=old, new=None)
            await session.delete(endpoint)
        self._announce(endpoint)

    async def statistics(self, session: AsyncSession, endpoint_id: UUID, *, hours: int) -> EndpointStatistics:
        """What became of the webhooks of the last hours; raises EndpointNotFoundError."""
        await found(EndpointRepository(session), endpoint_id)
        return await statistics_of(session, endpoint_id, hours=hours, now=self._clock.now())

    async def refusals(self, session: AsyncSession, page: PageRequest, endpoint_id: UUID) -> Sequence[RefusalOut]:
        """A page of what an endpoint refused, newest first, and one more if another page follows.

        Raises EndpointNotFoundError.
        """
        await found(EndpointRepository(session), endpoint_id)
        refusals = await RefusalRepository(session).refusals(page, endpoint_id=endpoint_id)
        return [RefusalOut.of(refusal) for refusal in refusals]

    async def _change(
        self, tenant_id: UUID, actor: Actor, endpoint_id: UUID, settings: Callable[[Endpoint], EndpointSettings]
    ) -> EndpointOut:
        async with self._database.tenant(tenant_id) as session:
            repository = EndpointRepository(session)
            endpoint = await found(repository, endpoint_id, for_update=True)
            old = await self._view(repository, endpoint)
            given = settings(endpoint)
            _checked(given, endpoint.preset)
            self._check_handler(given, old=endpoint.handler)
            self._apply(endpoint, given)
            await _flush(session)
            shown = await self._view(repository, endpoint)
            _audit(session, actor, endpoint, "webhook_endpoint.updated", old=old, new=shown)
        self._announce(endpoint)
        return shown

    def _check_handler(self, given: EndpointSettings, *, old: str | None) -> None:
        """Raise InvalidEndpointError for a target without its handler, a handler without its target, an unknown one."""
        if (given.target is EndpointTarget.HANDLER) != (given.handler is not None):
            what = "goes together with the target `handler`, and with no other"
        elif given.handler is None or given.handler == old or given.handler in self._handlers:
            return
        else:
            what = f"is not installed here; {self._handlers.known}"
        raise InvalidEndpointError(f"The handler {what}.", (Fault("/handler", what),))

    async def _let_expire(self, repository: EndpointRepository, endpoint: Endpoint, overlap: timedelta) -> None:
        """End the current secrets after the overlap, and the oldest at once if there are too many.

        Those that have ended stay for some days: they tell why a sender that still uses one is refused.
        """
        end = self._clock.now() + overlap
        secrets = (await repository.secrets_of([endpoint.id])).get(endpoint.id, [])
        kept = secrets[: _MOST_SECRETS - 1]
        for secret in kept:
            secret.expires_at = end if secret.expires_at is None else min(secret.expires_at, end)
        await repository.remove_secrets(secrets[len(kept) :])

    def _apply(self, endpoint: Endpoint, given: EndpointSettings) -> None:
        for name in EndpointSettings.model_fields:
            setattr(endpoint, "scheme" if name == "settings" else name, getattr(given, name))
        endpoint.updated_at = self._clock.now()

    async def _view(self, repository: EndpointRepository, endpoint: Endpoint) -> EndpointOut:
        secrets = await repository.secrets_of([endpoint.id])
        return self._shown(endpoint, secrets.get(endpoint.id, ()), await repository.tenant_slug())

    def _shown(self, endpoint: Endpoint, secrets: Sequence[EndpointSecret], slug: str) -> EndpointOut:
        url = endpoint_address(
            endpoint_url=endpoint.public_url, base_url=self._base_url, tenant_slug=slug, path=endpoint.path
        )
        now = self._clock.now()
        counting = [secret for secret in secrets if secret.expires_at is None or secret.expires_at > now]
        return EndpointOut.of(
            endpoint, url=url, secrets=counting, next_step=None if counting else _step_to_a_secret(endpoint)
        )

    def _announce(self, endpoint: Endpoint) -> None:
        self._changes.announce(Change("endpoint", str(endpoint.tenant_id), str(endpoint.id)))


async def found(repository: EndpointRepository, endpoint_id: UUID, *, for_update: bool = False) -> Endpoint:
    """The endpoint of this id; raises EndpointNotFoundError."""
    endpoint = await repository.endpoint(endpoint_id, for_update=for_update)
    if endpoint is None:
        raise EndpointNotFoundError
    return endpoint


def _checked(given: EndpointSettings, preset: str) -> Preset:
    AddressList.parse(given.allowed_sources, pointer="/allowed_sources")
    return preset_for(preset, given.settings)


def _secret(preset: Preset, given: str | None) -> tuple[bool, str | None]:
    """Whether a secret was made, and the secret to store; none where none is needed, or known yet."""
    if not preset.signature.needs_secret:
        if given is not None:
            raise InvalidEndpointError(f"The preset {preset.name} uses no secret.", (Fault("/secret", "is not used"),))
        return False, None
    if given is None:
        # What the hub made up, no sender could ever sign with.
        from_hub = preset.secret_from is SecretOrigin.HUB
        return (True, preset.signature.new_secret()) if from_hub else (False, None)
    if not given.strip():
        # Such as a variable that was empty: anybody would guess it.
        raise InvalidEndpointError("The secret is blank.", (Fault("/secret", "is blank"),))
    preset.signature.check_secret(given, pointer="/secret")
    return False, given


def _no_secret_to_rotate(preset: Preset) -> InvalidEndpointError:
    if not preset.signature.needs_secret:
        return InvalidEndpointError(f"The preset {preset.name} uses no secret.", (Fault("/secret", "is not used"),))
    what = f"{preset.title} makes the secret; give it here. {preset.how_to}"
    return InvalidEndpointError(what, (Fault("/secret", "is missing"),))


def _step_to_a_secret(endpoint: Endpoint) -> str | None:
    """What to do about an endpoint without a secret; None where it needs none."""
    try:
        preset = preset_for(endpoint.preset, endpoint.scheme)
    except InvalidSettingsError:
        return None  # of a newer version; the endpoint says so itself when it is called
    if not preset.signature.needs_secret:
        return None
    return f"Everything is refused until the secret is set with rotate-secret. {preset.title}: {preset.how_to}"


def _patched(endpoint: Endpoint, changes: Mapping[str, Any]) -> EndpointSettings:
    current = {
        name: getattr(endpoint, "scheme" if name == "settings" else name) for name in EndpointSettings.model_fields
    }
    try:
        return EndpointSettings.model_validate(current | dict(changes))
    except ValidationError as error:
        faults = worded(error.errors(include_url=False, include_input=False))
    raise InvalidEndpointError("; ".join(f"{fault.pointer}: {fault.message}" for fault in faults), faults)


async def _flush(session: AsyncSession) -> None:
    try:
        await session.flush()
    except IntegrityError as error:
        if _PATH_KEY in str(error.orig):
            raise PathTakenError from error
        raise


def _audit(
    session: AsyncSession,
    actor: Actor,
    endpoint: Endpoint,
    action: str,
    *,
    old: EndpointOut | None,
    new: EndpointOut | None,
) -> None:
    record(
        session,
        tenant_id=endpoint.tenant_id,
        actor=actor,
        action=action,
        entity_kind=ENDPOINT_KIND,
        entity_id=format_id(IdKind.ENDPOINT, endpoint.id),
        old=None if old is None else old.model_dump(mode="json"),
        new=None if new is None else new.model_dump(mode="json"),
    )
