import pytest

from crossdock.features.inbound.models import EndpointStatus, EndpointTarget
from crossdock.features.inbound.queue import DRAIN, process_job
from crossdock.jobs.tasks import TaskRun
from crossdock.kit.ids import IdKind, format_id
from tests.features.inbound.conftest import ACTOR, Hub, endpoint_key
from tests.features.inbound.ordering import Diary, diary_endpoint, drain, drain_run, send, states


@pytest.fixture
def diary(hub: Hub) -> Diary:
    made = Diary()
    hub.handlers.add("diary", made)
    return made


async def test_waiting_receipts_are_put_in_order_when_their_endpoint_is(hub: Hub, diary: Diary) -> None:
    endpoint = await hub.endpoint(target=EndpointTarget.HANDLER, handler="diary")
    await send(hub, endpoint, "a", "b", "c")
    await hub.api.patch(f"/api/v1/webhooks/endpoints/{endpoint.id}", json={"ordered": True})
    await send(hub, endpoint, "d")
    await hub.work_off()
    assert diary.seen == ["a", "b", "c", "d"]


async def test_receipts_that_wait_in_order_are_processed_when_their_endpoint_is_not_any_more(hub: Hub) -> None:
    endpoint = await hub.endpoint(ordered=True)
    await send(hub, endpoint, "a", "b", "c")
    await hub.api.patch(f"/api/v1/webhooks/endpoints/{endpoint.id}", json={"ordered": False})
    await send(hub, endpoint, "d")
    await hub.work_off()
    assert set((await states(hub)).values()) == {"processed"}
    assert await hub.count("events") == 4


async def test_receipts_of_an_ordered_endpoint_that_was_deleted_die(hub: Hub) -> None:
    endpoint = await hub.endpoint(ordered=True)
    await send(hub, endpoint, "a", "b")
    await hub.endpoints.delete(hub.tenant_id, ACTOR, endpoint_key(endpoint))
    await hub.work_off()
    assert set((await states(hub)).values()) == {"dead"}


async def test_what_was_held_comes_before_what_arrives_after_the_pause(hub: Hub, diary: Diary) -> None:
    endpoint = await diary_endpoint(hub)
    key = endpoint_key(endpoint)
    await hub.endpoints.set_status(hub.tenant_id, ACTOR, key, EndpointStatus.PAUSED)
    hub.doors.forget(None)
    await send(hub, endpoint, "a", "b", "c")
    assert set((await states(hub)).values()) == {"held"}
    await hub.endpoints.set_status(hub.tenant_id, ACTOR, key, EndpointStatus.ACTIVE)
    hub.doors.forget(None)
    await send(hub, endpoint, "d")
    await drain(hub, endpoint)
    assert diary.seen == ["a", "b", "c", "d"]
    await hub.work_off()
    assert diary.seen == ["a", "b", "c", "d"]


async def test_a_paused_ordered_endpoint_holds_on(hub: Hub, diary: Diary) -> None:
    endpoint = await diary_endpoint(hub)
    await hub.endpoints.set_status(hub.tenant_id, ACTOR, endpoint_key(endpoint), EndpointStatus.PAUSED)
    hub.doors.forget(None)
    await send(hub, endpoint, "a")
    await hub.work.tasks._drain.run(drain_run(hub, endpoint))
    assert diary.seen == []
    assert await states(hub) == {"a": "held"}


async def test_a_stranded_receipt_of_an_ordered_endpoint_gets_the_endpoints_job(hub: Hub) -> None:
    endpoint = await hub.endpoint(ordered=True)
    await send(hub, endpoint, "a", "b")
    hub.clock.advance(61)
    await hub.work.sweep.run()
    assert await hub.count("pgqueuer") == 1
    await hub.rows("UPDATE pgqueuer SET dedupe_key = NULL, status = 'picked'")
    await hub.work.sweep.run()
    assert await hub.count("pgqueuer") == 1, "one that runs has no key, and is there all the same"
    await hub.rows("DELETE FROM pgqueuer")
    for _ in range(2):
        await hub.work.sweep.run()
    assert await hub.rows("SELECT entrypoint FROM pgqueuer") == [{"entrypoint": DRAIN}]
    await hub.work_off()
    assert set((await states(hub)).values()) == {"processed"}


async def test_a_job_of_a_receipt_leaves_it_to_its_endpoints_order(hub: Hub) -> None:
    endpoint = await hub.endpoint(ordered=True)
    await send(hub, endpoint, "a")
    await hub.rows("DELETE FROM pgqueuer")
    await hub.work.tasks.process(TaskRun(process_job(hub.tenant_id, (await hub.only_receipt())["id"]).payload, 1))
    assert (await hub.only_receipt())["state"] == "received"
    assert await hub.rows("SELECT entrypoint FROM pgqueuer") == [{"entrypoint": DRAIN}]


async def test_a_dead_receipt_of_an_ordered_endpoint_is_processed_again_on_demand(hub: Hub) -> None:
    endpoint = await hub.endpoint(ordered=True, transformation="body.missing")
    await send(hub, endpoint, "a", "b")
    await hub.work_off()
    await hub.api.patch(f"/api/v1/webhooks/endpoints/{endpoint.id}", json={"transformation": None})
    receipt_id = (await hub.rows("SELECT id FROM receipts ORDER BY id"))[0]["id"]
    await hub.api.post(f"/api/v1/webhooks/receipts/{format_id(IdKind.RECEIPT, receipt_id)}/retry")
    assert await hub.rows("SELECT entrypoint FROM pgqueuer") == [{"entrypoint": DRAIN}]
    await hub.api.post(f"/api/v1/webhooks/endpoints/{endpoint.id}/retry")
    assert await hub.count("pgqueuer") == 1
    await hub.work_off()
    assert set((await states(hub)).values()) == {"processed"}
