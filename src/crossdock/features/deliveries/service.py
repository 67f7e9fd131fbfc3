"""Subscriptions: their life, their secrets, and trying them out.

What sends a request to the destination works in two transactions of its own, before and after, so
that none stays open while somebody else's server thinks.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.connectors.webhooks.standard import (
    AsymmetricKey,
    new_asymmetric_secret,
    new_symmetric_secret,
    read_key,
)
from crossdock.db.audit import Actor, record
from crossdock.db.changes import Change, ChangeFeed
from crossdock.db.engine import Database
from crossdock.features.deliveries.alarms import all_well
from crossdock.features.deliveries.errors import (
    InvalidSubscriptionError,
    SubscriptionNotFoundError,
    TooManySubscriptionsError,
)
from crossdock.features.deliveries.models import (
    LANE_CALMED,
    DeliveryKind,
    DeliveryStatus,
    KeyKind,
    Subscription,
    SubscriptionKey,
    SubscriptionStatus,
)
from crossdock.features.deliveries.repository import DeliveryRepository, SubscriptionRepository
from crossdock.features.deliveries.schemas import (
    RotateIn,
    SigningKeyOut,
    SubscriptionCreated,
    SubscriptionDetail,
    SubscriptionIn,
    SubscriptionOut,
    SubscriptionSettings,
    SubscriptionStats,
)
from crossdock.features.deliveries.sealed_columns import SIGN_IN, SIGNING_KEY
from crossdock.features.deliveries.trial import Trial
from crossdock.features.vault.service import Vault
from crossdock.gateway.addresses import AddressPolicy
from crossdock.gateway.breaker import Breaker, BreakerPolicy
from crossdock.gateway.destination_auth import (
    DestinationAuth,
    NoAuth,
    dump_auth,
    header_names,
    parse_auth,
    validate_auth,
)
from crossdock.gateway.headers import validate_custom_headers
from crossdock.gateway.urls import parse_destination_url
from crossdock.http.pagination import PageRequest
from crossdock.kit.clock import Clock
from crossdock.kit.crypto import EncryptionError
from crossdock.kit.ids import IdKind, format_id, new_uuid
from crossdock.kit.wording import worded

_ACTIVE = SubscriptionStatus.ACTIVE


@dataclass(frozen=True, slots=True)
class SubscriptionLimits:
    """What an installation allows."""

    most: int
    policy: AddressPolicy
    breaker: BreakerPolicy


class SubscriptionService:
    """Keeps subscriptions."""

    def __init__(
        self,
        *,
        database: Database,
        vault: Vault,
        trial: Trial,
        changes: ChangeFeed,
        limits: SubscriptionLimits,
        clock: Clock,
    ) -> None:
        self._database = database
        self._vault = vault
        self._trial = trial
        self._changes = changes
        self._limits = limits
        self._clock = clock

    async def list(
        self, session: AsyncSession, page: PageRequest, status: SubscriptionStatus | None
    ) -> Sequence[Subscription]:
        """A page of subscriptions, newest first."""
        return await SubscriptionRepository(session).newest(page, status)

    async def read(self, session: AsyncSession, subscription_id: UUID) -> SubscriptionDetail:
        """One subscription with its keys; raises SubscriptionNotFoundError."""
        repository = SubscriptionRepository(session)
        subscription = await _found(repository, subscription_id)
        return await _detail(repository, subscription)

    async def create(self, tenant_id: UUID, actor: Actor, given: SubscriptionIn) -> SubscriptionCreated:
        """Add a subscription, and try its destination unless told not to.

        It is ACTIVE once its destination has answered a verification request with 2xx; until then it is
        UNVERIFIED, and its deliveries wait. Raises InvalidInputError for what cannot work, and
        TooManySubscriptionsError.
        """
        self._check(given)
        async with self._database.tenant(tenant_id) as session:
            repository = SubscriptionRepository(session)
            if await repository.count_locked(tenant_id) >= self._limits.most:
                raise TooManySubscriptionsError(
                    f"The tenant has {self._limits.most} subscriptions, as many as CROSSDOCK_MAX_SUBSCRIPTIONS allows."
                )
            subscription = Subscription(
                tenant_id=tenant_id,
                id=new_uuid(),
                status=SubscriptionStatus.UNVERIFIED,
                status_reason="Its destination has not been tried yet.",
                failed_in_row=0,
                created_at=self._clock.now(),
            )
            await self._apply(session, subscription, given)
            repository.add(subscription)
            await session.flush()
            secret, key = await self._new_key(session, subscription, given.signing, given.secret)
            repository.add(key)
            await session.flush()
            shown = await _detail(repository, subscription)
            self._audit(session, actor, subscription, "subscription.created", None)
        self._announce(subscription)
        answer = SubscriptionCreated(
            **shown.model_dump(), secret=secret if given.signing is KeyKind.SYMMETRIC else None
        )
        return await self._verified(tenant_id, actor, answer) if given.verify else answer

    async def verify(self, tenant_id: UUID, actor: Actor, subscription_id: UUID) -> SubscriptionCreated:
        """Send a verification request; on 2xx the subscription becomes ACTIVE."""
        async with self._database.tenant(tenant_id) as session:
            shown = await self.read(session, subscription_id)
        return await self._verified(tenant_id, actor, SubscriptionCreated(**shown.model_dump()))

    async def replace(
        self, tenant_id: UUID, actor: Actor, subscription_id: UUID, given: SubscriptionSettings
    ) -> SubscriptionDetail:
        """Give a subscription new settings, whole; another URL must be verified again."""
        self._check(given)
        async with self._database.tenant(tenant_id) as session:
            repository = SubscriptionRepository(session)
            subscription = await _found(repository, subscription_id, locked=True)
            shown = await self._change(session, actor, subscription, given)
        self._announce(subscription)
        return shown

    async def patch(
        self, tenant_id: UUID, actor: Actor, subscription_id: UUID, changes: dict[str, Any]
    ) -> SubscriptionDetail:
        """Change some of a subscription's settings; what is left out stays."""
        async with self._database.tenant(tenant_id) as session:
            repository = SubscriptionRepository(session)
            subscription = await _found(repository, subscription_id, locked=True)
            given = _validated(await self._settings_of(session, subscription) | changes)
            self._check(given)
            shown = await self._change(session, actor, subscription, given)
        self._announce(subscription)
        return shown

    async def set_status(
        self, tenant_id: UUID, actor: Actor, subscription_id: UUID, status: SubscriptionStatus, reason: str | None
    ) -> SubscriptionDetail:
        """Activate, pause or disable; when this returns, a disabled or paused one starts no more attempts here."""
        calmed = Change(LANE_CALMED, str(tenant_id), str(subscription_id))
        async with self._database.tenant(tenant_id) as session:
            repository = SubscriptionRepository(session)
            await repository.lock_lane(subscription_id)
            subscription = await _found(repository, subscription_id, locked=True)
            old = SubscriptionOut.of(subscription)
            subscription.status = status
            subscription.status_reason = reason
            subscription.updated_at = self._clock.now()
            if status is _ACTIVE:
                subscription.failed_in_row = 0
            self._audit(session, actor, subscription, f"subscription.{status.value}", old)
            shown = await _detail(repository, subscription)
            if status is _ACTIVE:
                await session.flush()
                await all_well(session, tenant_id, subscription_id, actor.correlation_id)
                await repository.calm_lane(calmed)
                await DeliveryRepository(session).wake_lane(tenant_id, subscription_id)
        if status is _ACTIVE:
            self._changes.announce(calmed)
        self._announce(subscription)
        return shown

    async def rotate(
        self, tenant_id: UUID, actor: Actor, subscription_id: UUID, given: RotateIn
    ) -> SubscriptionCreated:
        """Make a new signing secret; the old ones sign along until the overlap is over."""
        async with self._database.tenant(tenant_id) as session:
            repository = SubscriptionRepository(session)
            subscription = await _found(repository, subscription_id, locked=True)
            old_keys = await repository.keys(subscription_id)
            kind = given.signing or (old_keys[0].kind if old_keys else KeyKind.SYMMETRIC)
            secret, key = await self._new_key(session, subscription, kind, given.secret)
            end = self._clock.now() + timedelta(seconds=given.overlap_s)
            for old in old_keys:
                old.expires_at = end if old.expires_at is None else min(old.expires_at, end)
            repository.add(key)
            await session.flush()
            shown = await _detail(repository, subscription)
            self._audit(session, actor, subscription, "subscription.secret_rotated", None)
        self._announce(subscription)
        return SubscriptionCreated(**shown.model_dump(), secret=secret if kind is KeyKind.SYMMETRIC else None)

    async def delete(self, tenant_id: UUID, actor: Actor, subscription_id: UUID) -> None:
        """Remove a subscription; what waited is cancelled, its history stays."""
        async with self._database.tenant(tenant_id) as session:
            repository = SubscriptionRepository(session)
            await repository.lock_lane(subscription_id)
            subscription = await _found(repository, subscription_id, locked=True)
            self._audit(session, actor, subscription, "subscription.deleted", SubscriptionOut.of(subscription))
            await repository.remove(subscription)
            await all_well(session, tenant_id, subscription_id, actor.correlation_id)
        self._announce(subscription)

    async def stats(self, session: AsyncSession, subscription_id: UUID) -> SubscriptionStats:
        """How a subscription does."""
        subscriptions, deliveries = SubscriptionRepository(session), DeliveryRepository(session)
        await _found(subscriptions, subscription_id)
        lane = await subscriptions.lane(subscription_id)
        counts = await deliveries.count_by_status(subscription_id, self._clock.now() - timedelta(hours=24))
        breaker = Breaker(self._limits.breaker, lane.breaker if lane else None)
        return SubscriptionStats(
            pending=await deliveries.count_pending(subscription_id),
            delivered_24h=counts.get(DeliveryStatus.DELIVERED, 0),
            failed_24h=counts.get(DeliveryStatus.FAILED, 0) + counts.get(DeliveryStatus.EXPIRED, 0),
            breaker=breaker.state.value,
            held_until=lane.hold_until if lane else None,
        )

    async def _verified(self, tenant_id: UUID, actor: Actor, answer: SubscriptionCreated) -> SubscriptionCreated:
        subscription_id = UUID(hex=answer.id.partition("_")[2])
        tried = await self._trial.send(
            tenant_id, subscription_id, DeliveryKind.VERIFICATION, correlation_id=actor.correlation_id
        )
        if tried.status is DeliveryStatus.DELIVERED:
            status, reason = _ACTIVE, None
        else:
            status = SubscriptionStatus.UNVERIFIED
            reason = (
                f"Its destination did not answer the verification request with 2xx: {tried.error} "
                "Its deliveries wait; verify it again."
            )
        shown = await self.set_status(tenant_id, actor, subscription_id, status, reason)
        return SubscriptionCreated(**shown.model_dump(), secret=answer.secret, verification=tried)

    async def _change(
        self, session: AsyncSession, actor: Actor, subscription: Subscription, given: SubscriptionSettings
    ) -> SubscriptionDetail:
        old = SubscriptionOut.of(subscription)
        moved = subscription.url != given.url
        await self._apply(session, subscription, given)
        if moved and subscription.status is _ACTIVE:
            subscription.status = SubscriptionStatus.UNVERIFIED
            subscription.status_reason = "Its URL changed; verify it again."
        self._audit(session, actor, subscription, "subscription.updated", old)
        await session.flush()
        return await _detail(SubscriptionRepository(session), subscription)

    def _check(self, given: SubscriptionSettings) -> None:
        """Raise InvalidInputError for what cannot work; the URL is kept in the form in which it is sent."""
        given.url = parse_destination_url(given.url, policy=self._limits.policy).text
        validate_auth(given.auth, policy=self._limits.policy)
        validate_custom_headers(given.headers, taken=header_names(given.auth))

    async def _apply(self, session: AsyncSession, subscription: Subscription, given: SubscriptionSettings) -> None:
        auth = await self._sealed(session, subscription, given.auth)
        subscription.name = given.name
        subscription.description = given.description
        subscription.url = given.url
        subscription.event_types = list(given.event_types)
        subscription.filter = given.filter
        subscription.transformation = given.transformation
        subscription.body_format = given.format
        subscription.content_type = given.content_type
        subscription.headers = dict(given.headers)
        subscription.auth_kind = given.auth.kind
        subscription.auth = auth
        subscription.timeout_s = given.timeout_s
        subscription.retry_policy = given.retry_policy.model_dump(mode="json", exclude_none=True)
        subscription.max_concurrency = given.max_concurrency
        subscription.rate_limit_per_s = given.rate_limit_per_s
        subscription.ordered = given.ordered
        subscription.updated_at = self._clock.now()

    async def _sealed(self, session: AsyncSession, subscription: Subscription, auth: DestinationAuth) -> bytes | None:
        """The sign-in as it is stored; as it stands if it is the same, so that its age is not forgotten."""
        if auth == NoAuth():
            return None
        with suppress(EncryptionError):  # one that cannot be opened any more is replaced
            if auth == await self._auth_of(session, subscription):
                return subscription.auth
        return await self._vault.seal(
            session,
            tenant_id=subscription.tenant_id,
            purpose=SIGN_IN.purpose(subscription.id),
            secret=dump_auth(auth),
        )

    async def _auth_of(self, session: AsyncSession, subscription: Subscription) -> DestinationAuth:
        if subscription.auth is None:
            return NoAuth()
        opened = await self._vault.open(
            subscription.auth,
            tenant_id=subscription.tenant_id,
            purpose=SIGN_IN.purpose(subscription.id),
            session=session,
        )
        return parse_auth(opened)

    async def _settings_of(self, session: AsyncSession, subscription: Subscription) -> dict[str, Any]:
        columns = {
            name: getattr(subscription, name)
            for name in SubscriptionSettings.model_fields
            if name not in {"auth", "format"}
        }
        return columns | {"auth": await self._auth_of(session, subscription), "format": subscription.body_format}

    async def _new_key(
        self, session: AsyncSession, subscription: Subscription, kind: KeyKind, secret: str | None
    ) -> tuple[str, SubscriptionKey]:
        if secret is None:
            secret = new_symmetric_secret() if kind is KeyKind.SYMMETRIC else new_asymmetric_secret()
        key = read_key(secret, pointer="/secret")
        public = key.public if isinstance(key, AsymmetricKey) else None
        tenant_id, key_id = subscription.tenant_id, new_uuid()
        sealed = await self._vault.seal(
            session, tenant_id=tenant_id, purpose=SIGNING_KEY.purpose(key_id), secret=secret
        )
        return secret, SubscriptionKey(
            tenant_id=tenant_id,
            id=key_id,
            subscription_id=subscription.id,
            kind=KeyKind.SYMMETRIC if public is None else KeyKind.ASYMMETRIC,
            secret=sealed,
            public_key=public,
            created_at=self._clock.now(),
        )

    @staticmethod
    def _audit(
        session: AsyncSession, actor: Actor, subscription: Subscription, action: str, old: SubscriptionOut | None
    ) -> None:
        deleted = action == "subscription.deleted"
        record(
            session,
            tenant_id=subscription.tenant_id,
            actor=actor,
            action=action,
            entity_kind="subscription",
            entity_id=format_id(IdKind.SUBSCRIPTION, subscription.id),
            old=old.model_dump(mode="json") if old else None,
            new=None if deleted else SubscriptionOut.of(subscription).model_dump(mode="json"),
        )

    def _announce(self, subscription: Subscription) -> None:
        self._changes.announce(Change("subscription", str(subscription.tenant_id), str(subscription.id)))


def _validated(settings: dict[str, Any]) -> SubscriptionSettings:
    try:
        return SubscriptionSettings.model_validate(settings)
    except ValidationError as error:
        faults = worded(error.errors(include_input=False, include_url=False))
        raise InvalidSubscriptionError("These settings do not work together.", faults) from None


async def _found(repository: SubscriptionRepository, subscription_id: UUID, *, locked: bool = False) -> Subscription:
    subscription = await repository.find(subscription_id, locked=locked)
    if subscription is None:
        raise SubscriptionNotFoundError
    return subscription


async def _detail(repository: SubscriptionRepository, subscription: Subscription) -> SubscriptionDetail:
    keys = await repository.keys(subscription.id)
    return SubscriptionDetail(
        **SubscriptionOut.of(subscription).model_dump(), keys=[SigningKeyOut.of(key) for key in keys]
    )
