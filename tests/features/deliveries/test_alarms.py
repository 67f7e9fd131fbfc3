"""What of subscriptions a person should look at becomes an alert, and is over when he has."""

import pytest

from crossdock.features.deliveries.models import SubscriptionStatus
from crossdock.features.deliveries.schemas import SubscriptionCreated
from crossdock.kit.ids import IdKind, parse_id
from tests.hub import ACTOR, Hub, with_settings
from tests.receivers import BROKEN, Gate, Receiver, Reply, receiving
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("worker")


async def alerts(hub: Hub, subscription: SubscriptionCreated) -> dict[str, str]:
    rows = await hub.query("SELECT kind, status FROM alerts WHERE entity_id = $1", subscription.id)
    return {row["kind"]: row["status"] for row in rows}


async def disabled(hub: Hub, receiver: Receiver) -> SubscriptionCreated:
    receiver.otherwise = Reply(410)
    subscription = await hub.subscribe(receiver)
    await hub.publish(1)
    await hub.ended(subscription)
    return subscription


async def test_a_disabled_subscription_is_an_alert_that_reaches_another_one(hub: Hub, receiver: Receiver) -> None:
    async with receiving() as watcher:
        await hub.subscribe(watcher, name="watcher", event_types=["alert.*"])
        subscription = await disabled(hub, receiver)
        (told,) = await watcher.got(1)
    assert (told.json["type"], told.data["kind"]) == ("alert.raised", "subscription_disabled")
    assert told.data["entity_id"] == subscription.id
    assert "410 Gone" in told.data["detail"]
    assert receiver.url in told.data["detail"]


async def test_enabling_it_again_is_the_end_of_it(hub: Hub, receiver: Receiver) -> None:
    subscription = await disabled(hub, receiver)
    assert await alerts(hub, subscription) == {"subscription_disabled": "open"}
    await hub.services.subscriptions.set_status(
        hub.tenant_id, ACTOR, parse_id(IdKind.SUBSCRIPTION, subscription.id), SubscriptionStatus.ACTIVE, None
    )
    assert await alerts(hub, subscription) == {"subscription_disabled": "resolved"}


async def test_so_is_deleting_it(hub: Hub, receiver: Receiver) -> None:
    subscription = await disabled(hub, receiver)
    await hub.services.subscriptions.delete(hub.tenant_id, ACTOR, parse_id(IdKind.SUBSCRIPTION, subscription.id))
    assert await alerts(hub, subscription) == {"subscription_disabled": "resolved"}


@with_settings(breaker_failures=2, breaker_open_s=0.05, breaker_successes=1)
async def test_an_open_breaker_is_an_alert_until_it_closes(hub: Hub, receiver: Receiver) -> None:
    probe = Gate()
    receiver.answers(BROKEN, BROKEN, probe)
    subscription = await hub.subscribe(receiver, max_concurrency=1)
    await hub.publish(1, 2, 3)
    await receiver.got(3)
    assert await alerts(hub, subscription) == {"circuit_open": "open"}
    probe.open()

    async def over() -> bool:
        return await alerts(hub, subscription) == {"circuit_open": "resolved"}

    await eventually(over)
