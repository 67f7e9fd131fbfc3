from datetime import timedelta

from crossdock.connectors.webhooks import EventIdentity
from crossdock.features.inbound.models import EndpointStatus
from crossdock.features.inbound.schemas import RotateSecretIn
from tests.features.inbound.conftest import ACTOR, Hub, endpoint_key


async def test_a_receipt_that_nobody_works_on_gets_a_job_again(hub: Hub) -> None:
    await hub.send(await hub.endpoint(), b"{}", event=EventIdentity("d-1", "push"))
    await hub.rows("DELETE FROM pgqueuer")
    await hub.work.sweep.run()
    assert await hub.count("pgqueuer") == 0, "it is too fresh to be stranded"
    hub.clock.advance(61)
    for _ in range(2):
        await hub.work.sweep.run()
    assert await hub.count("pgqueuer") == 1
    await hub.work_off()
    assert (await hub.only_receipt())["state"] == "processed"


async def test_a_receipt_with_a_job_is_left_alone(hub: Hub) -> None:
    await hub.send(await hub.endpoint(), b"{}", event=EventIdentity("d-1", "push"))
    hub.clock.advance(3_600)
    await hub.work.sweep.run()
    assert await hub.count("pgqueuer") == 1


async def test_what_was_held_after_a_resume_is_released(hub: Hub) -> None:
    endpoint = await hub.endpoint()
    await hub.endpoints.set_status(hub.tenant_id, ACTOR, endpoint_key(endpoint), EndpointStatus.PAUSED)
    await hub.send(endpoint, b"{}", event=EventIdentity("d-1", "push"))
    await hub.work.sweep.run()
    assert (await hub.only_receipt())["state"] == "held"
    await hub.rows("UPDATE webhook_endpoints SET status = 'active', updated_at = :a", hub.clock.now())
    await hub.work.sweep.run()
    await hub.work_off()
    assert (await hub.only_receipt())["state"] == "processed"


async def test_secrets_that_were_rotated_out_are_removed_after_a_week(hub: Hub) -> None:
    endpoint = await hub.endpoint()
    given = RotateSecretIn(overlap_s=60)
    await hub.endpoints.rotate_secret(hub.tenant_id, ACTOR, endpoint_key(endpoint), given)
    hub.clock.advance(timedelta(days=7).total_seconds())
    await hub.work.sweep.run()
    assert await hub.count("webhook_endpoint_secrets") == 2
    hub.clock.advance(timedelta(seconds=60).total_seconds())
    await hub.work.sweep.run()
    assert await hub.count("webhook_endpoint_secrets") == 1
