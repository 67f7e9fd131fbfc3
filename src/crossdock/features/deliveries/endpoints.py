"""`/api/v1/webhooks/subscriptions` and `/api/v1/webhooks/deliveries`."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Response

from crossdock.features.deliveries.history import DeliveryHistory
from crossdock.features.deliveries.models import DeliveryKind, DeliveryStatus, SubscriptionStatus
from crossdock.features.deliveries.schemas import (
    DeliveryDetail,
    DeliveryOut,
    ReplayIn,
    ReplayOut,
    RotateIn,
    SubscriptionCreated,
    SubscriptionDetail,
    SubscriptionIn,
    SubscriptionOut,
    SubscriptionSettings,
    SubscriptionStats,
)
from crossdock.features.deliveries.service import SubscriptionService
from crossdock.features.deliveries.trial import Trial
from crossdock.features.events.service import EventService
from crossdock.http.access import CurrentActor, Principal, Requires, TenantSession
from crossdock.http.pagination import Page, Paging, cut
from crossdock.http.provided import Provided
from crossdock.http.schemas import AnyJson
from crossdock.kit.ids import IdKind, parse_id
from crossdock.kit.permissions import Permission

router = APIRouter(prefix="/api/v1", tags=["Webhooks out"])

WebhookReader = Annotated[Principal, Requires(Permission.WEBHOOK_READ)]
WebhookKeeper = Annotated[Principal, Requires(Permission.WEBHOOK_MANAGE)]
Subscriptions = Annotated[SubscriptionService, Provided(SubscriptionService)]
Events = Annotated[EventService, Provided(EventService)]
History = Annotated[DeliveryHistory, Provided(DeliveryHistory)]

_SUBSCRIPTIONS = "/webhooks/subscriptions"
_ONE = _SUBSCRIPTIONS + "/{subscription_id}"


@router.get(_SUBSCRIPTIONS, summary="List subscriptions")
async def list_subscriptions(
    _: WebhookReader,
    session: TenantSession,
    subscriptions: Subscriptions,
    page: Paging,
    status: SubscriptionStatus | None = None,
) -> Page[SubscriptionOut]:
    """Subscriptions, newest first."""
    rows = await subscriptions.list(session, page, status)
    kept, next_cursor = cut(rows, page, lambda row: row.id)
    return Page(items=[SubscriptionOut.of(row) for row in kept], next_cursor=next_cursor)


@router.post(_SUBSCRIPTIONS, status_code=201, summary="Create a subscription")
async def create_subscription(
    keeper: WebhookKeeper, actor: CurrentActor, subscriptions: Subscriptions, given: SubscriptionIn
) -> SubscriptionCreated:
    """Add a subscription; its destination gets a verification request, and a symmetric secret is shown once."""
    return await subscriptions.create(keeper.tenant_id, actor, given)


@router.get(_ONE, summary="Read a subscription")
async def read_subscription(
    _: WebhookReader, session: TenantSession, subscriptions: Subscriptions, subscription_id: str
) -> SubscriptionDetail:
    """One subscription with its signing keys."""
    return await subscriptions.read(session, parse_id(IdKind.SUBSCRIPTION, subscription_id))


@router.put(_ONE, summary="Replace a subscription's settings")
async def replace_subscription(
    keeper: WebhookKeeper,
    actor: CurrentActor,
    subscriptions: Subscriptions,
    subscription_id: str,
    given: SubscriptionSettings,
) -> SubscriptionDetail:
    """Give a subscription new settings, whole; what is left out takes its default."""
    return await subscriptions.replace(keeper.tenant_id, actor, parse_id(IdKind.SUBSCRIPTION, subscription_id), given)


@router.patch(_ONE, summary="Change a subscription")
async def change_subscription(
    keeper: WebhookKeeper,
    actor: CurrentActor,
    subscriptions: Subscriptions,
    subscription_id: str,
    changes: Annotated[dict[str, Any], Body()],
) -> SubscriptionDetail:
    """Change the settings that are given; what is left out stays."""
    return await subscriptions.patch(keeper.tenant_id, actor, parse_id(IdKind.SUBSCRIPTION, subscription_id), changes)


@router.delete(_ONE, status_code=204, summary="Delete a subscription")
async def delete_subscription(
    keeper: WebhookKeeper, actor: CurrentActor, subscriptions: Subscriptions, subscription_id: str
) -> Response:
    """Remove a subscription; what waited is cancelled, its history stays."""
    await subscriptions.delete(keeper.tenant_id, actor, parse_id(IdKind.SUBSCRIPTION, subscription_id))
    return Response(status_code=204)


@router.post(_ONE + "/verify", summary="Verify a subscription's destination")
async def verify_subscription(
    keeper: WebhookKeeper, actor: CurrentActor, subscriptions: Subscriptions, subscription_id: str
) -> SubscriptionCreated:
    """Send a verification request; the subscription becomes active when it is answered with 2xx."""
    return await subscriptions.verify(keeper.tenant_id, actor, parse_id(IdKind.SUBSCRIPTION, subscription_id))


@router.post(_ONE + "/enable", summary="Enable a subscription")
async def enable_subscription(
    keeper: WebhookKeeper, actor: CurrentActor, subscriptions: Subscriptions, subscription_id: str
) -> SubscriptionDetail:
    """Make a paused, disabled or unverified subscription active."""
    return await subscriptions.set_status(
        keeper.tenant_id,
        actor,
        parse_id(IdKind.SUBSCRIPTION, subscription_id),
        SubscriptionStatus.ACTIVE,
        None,
    )


@router.post(_ONE + "/pause", summary="Pause a subscription")
async def pause_subscription(
    keeper: WebhookKeeper, actor: CurrentActor, subscriptions: Subscriptions, subscription_id: str
) -> SubscriptionDetail:
    """Hold deliveries back; they go on gathering until they expire."""
    return await subscriptions.set_status(
        keeper.tenant_id,
        actor,
        parse_id(IdKind.SUBSCRIPTION, subscription_id),
        SubscriptionStatus.PAUSED,
        "Paused by hand.",
    )


@router.post(_ONE + "/disable", summary="Disable a subscription")
async def disable_subscription(
    keeper: WebhookKeeper, actor: CurrentActor, subscriptions: Subscriptions, subscription_id: str
) -> SubscriptionDetail:
    """Stop at once; no new deliveries are made, and those that wait expire unless it is enabled again."""
    return await subscriptions.set_status(
        keeper.tenant_id,
        actor,
        parse_id(IdKind.SUBSCRIPTION, subscription_id),
        SubscriptionStatus.DISABLED,
        "Disabled by hand.",
    )


@router.post(_ONE + "/rotate-secret", summary="Rotate a subscription's signing secret")
async def rotate_secret(
    keeper: WebhookKeeper,
    actor: CurrentActor,
    subscriptions: Subscriptions,
    subscription_id: str,
    given: RotateIn | None = None,
) -> SubscriptionCreated:
    """Make a new signing secret; the old one signs along until the overlap is over."""
    return await subscriptions.rotate(
        keeper.tenant_id, actor, parse_id(IdKind.SUBSCRIPTION, subscription_id), given or RotateIn()
    )


@router.post(_ONE + "/test", summary="Send a test event")
async def send_test(
    keeper: WebhookKeeper,
    actor: CurrentActor,
    trial: Annotated[Trial, Provided(Trial)],
    subscription_id: str,
    data: Annotated[AnyJson, Body(description="Data of the test event.")] = None,
) -> DeliveryDetail:
    """Send a `webhook.test` event now, and answer with what came back."""
    return await trial.send(
        keeper.tenant_id,
        parse_id(IdKind.SUBSCRIPTION, subscription_id),
        DeliveryKind.TEST,
        correlation_id=actor.correlation_id,
        data=data,
    )


@router.get(_ONE + "/stats", summary="Read a subscription's statistics")
async def subscription_stats(
    _: WebhookReader, session: TenantSession, subscriptions: Subscriptions, subscription_id: str
) -> SubscriptionStats:
    """How a subscription does."""
    return await subscriptions.stats(session, parse_id(IdKind.SUBSCRIPTION, subscription_id))


@router.get(_ONE + "/deliveries", summary="List a subscription's deliveries")
async def list_subscription_deliveries(
    _: WebhookReader,
    session: TenantSession,
    history: History,
    page: Paging,
    subscription_id: str,
    status: DeliveryStatus | None = None,
) -> Page[DeliveryOut]:
    """A subscription's deliveries, newest first."""
    rows = await history.list(
        session, page, subscription_id=parse_id(IdKind.SUBSCRIPTION, subscription_id), status=status
    )
    kept, next_cursor = cut(rows, page, lambda row: row.id)
    return Page(items=[DeliveryOut.of(row) for row in kept], next_cursor=next_cursor)


@router.post(_ONE + "/replay", summary="Replay failed deliveries")
async def replay_failed(
    _: WebhookKeeper,
    session: TenantSession,
    actor: CurrentActor,
    history: History,
    subscription_id: str,
    given: ReplayIn,
) -> ReplayOut:
    """Send again what failed since a time and was not made good since."""
    return await history.replay_failed(session, actor, parse_id(IdKind.SUBSCRIPTION, subscription_id), given.since)


@router.get("/webhooks/deliveries", summary="List deliveries")
async def list_deliveries(
    _: WebhookReader,
    session: TenantSession,
    history: History,
    page: Paging,
    status: DeliveryStatus | None = None,
) -> Page[DeliveryOut]:
    """All deliveries, newest first."""
    rows = await history.list(session, page, status=status)
    kept, next_cursor = cut(rows, page, lambda row: row.id)
    return Page(items=[DeliveryOut.of(row) for row in kept], next_cursor=next_cursor)


@router.get("/webhooks/deliveries/{delivery_id}", summary="Read a delivery")
async def read_delivery(_: WebhookReader, session: TenantSession, history: History, delivery_id: str) -> DeliveryDetail:
    """One delivery with every attempt."""
    return await history.read(session, parse_id(IdKind.DELIVERY, delivery_id))


@router.post("/webhooks/deliveries/{delivery_id}/replay", status_code=202, summary="Replay a delivery")
async def replay_delivery(
    _: WebhookKeeper, session: TenantSession, actor: CurrentActor, history: History, delivery_id: str
) -> DeliveryOut:
    """Send one finished delivery again, under the same webhook-id."""
    return await history.replay(session, actor, parse_id(IdKind.DELIVERY, delivery_id))


@router.get("/events/{event_id}/deliveries", summary="List an event's deliveries")
async def list_event_deliveries(
    _: WebhookReader, session: TenantSession, history: History, events: Events, page: Paging, event_id: str
) -> Page[DeliveryOut]:
    """Where an event went."""
    wanted = parse_id(IdKind.EVENT, event_id)
    rows = await history.list(session, page, event_id=wanted)
    if not rows:
        await events.event(session, wanted)  # nobody subscribes, or there is no such event
    kept, next_cursor = cut(rows, page, lambda row: row.id)
    return Page(items=[DeliveryOut.of(row) for row in kept], next_cursor=next_cursor)
