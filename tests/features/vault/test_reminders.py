"""After 90 days an alert asks to change a secret, until it was changed."""

from uuid import UUID

import pytest

from crossdock.bootstrap import Services
from crossdock.features.deliveries.schemas import RotateIn
from crossdock.kit.clock import Clock
from crossdock.kit.ids import IdKind, format_id
from tests.features.vault.conftest import Secrets
from tests.hub import ACTOR, MovableClock, query

DAY = 86_400
ROTATION = RotateIn(overlap_s=0)


@pytest.fixture
def clock() -> Clock:
    return MovableClock()


async def alerts(services: Services, *, resolved: bool = False) -> list[tuple[UUID, str, str]]:
    rows = await query(
        services.database.dsn,
        "SELECT tenant_id, entity_id, title FROM alerts WHERE kind = 'secret_old' AND (resolved_at IS NOT NULL) = $1 "
        "ORDER BY entity_id",
        resolved,
    )
    return [(row["tenant_id"], row["entity_id"], row["title"]) for row in rows]


async def test_an_old_secret_is_told_of_once_and_no_more_when_it_was_changed(
    services: Services, secrets: Secrets, clock: MovableClock
) -> None:
    clock.move(89 * DAY)
    await services.reminders.run()
    assert await alerts(services) == []
    clock.move(2 * DAY)
    await services.reminders.run()
    await services.reminders.run()
    told = await alerts(services)
    assert len(told) == 6  # a subscription and an endpoint of each of three tenants
    assert {title for _, _, title in told} == {
        "The sign-in at its destination and signing secret of a subscription should be changed",
        "The secret of a webhook endpoint should be changed",
    }
    events = await query(services.database.dsn, "SELECT data FROM outbox WHERE type = 'alert.raised'")
    assert len(events) == 6
    assert all("password" not in str(event["data"]) for event in events)

    tenant_id, (subscription_id, _) = next(iter(secrets.subscriptions.items()))
    await services.subscriptions.rotate(tenant_id, ACTOR, subscription_id, ROTATION)
    await services.reminders.run()
    assert len(await alerts(services)) == 6  # its sign-in is as old as before
    basic = {"kind": "basic", "username": "us", "password": "another"}
    await services.subscriptions.patch(tenant_id, ACTOR, subscription_id, {"auth": basic})
    await services.reminders.run()
    assert len(await alerts(services)) == 5
    over = [(tenant_id, format_id(IdKind.SUBSCRIPTION, subscription_id))]
    assert [(owner, entity) for owner, entity, _ in await alerts(services, resolved=True)] == over


async def test_saving_the_same_sign_in_again_makes_it_no_younger(
    services: Services, secrets: Secrets, clock: MovableClock
) -> None:
    clock.move(91 * DAY)
    tenant_id, (subscription_id, _) = next(iter(secrets.subscriptions.items()))
    await services.subscriptions.patch(tenant_id, ACTOR, subscription_id, {"name": "renamed"})
    await services.rotation.retire_data_keys()
    await services.rotation.bring_up_to_date()
    await services.reminders.run()
    entities = {entity for _, entity, _ in await alerts(services)}
    assert format_id(IdKind.SUBSCRIPTION, subscription_id) in entities


async def test_what_is_deleted_is_reminded_of_no_more(
    services: Services, secrets: Secrets, clock: MovableClock
) -> None:
    clock.move(91 * DAY)
    await services.reminders.run()
    tenant_id, (subscription_id, _) = next(iter(secrets.subscriptions.items()))
    await services.subscriptions.delete(tenant_id, ACTOR, subscription_id)
    await services.reminders.run()
    assert len(await alerts(services)) == 5
