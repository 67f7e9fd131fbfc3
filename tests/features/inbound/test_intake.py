import asyncio
from uuid import UUID

import asyncpg
import pytest

from crossdock.db.engine import OutcomeUnknownError
from crossdock.features.inbound.new_receipts import NewReceipt
from crossdock.kit.ids import new_uuid
from tests.features.inbound.conftest import Hub, add_tenant
from tests.hub import break_at_commit


def receipt(tenant_id: UUID, endpoint_id: UUID, external_id: str | None, *, url: str = "http://hub/") -> NewReceipt:
    return NewReceipt(
        tenant_id=tenant_id,
        id=new_uuid(),
        endpoint_id=endpoint_id,
        external_id=external_id,
        event_type=None,
        method="POST",
        url=url,
        headers=[("x-a", "1"), ("x-a", "2")],
        content_type=None,
        body=b"\x00\xff",
        source_address=None,
        correlation_id="c",
        held=False,
    )


async def test_one_batch_serves_many_tenants_and_endpoints(hub: Hub) -> None:
    other = await add_tenant(hub.database, "other")
    endpoint = new_uuid()
    batch = [receipt(tenant, endpoint, "same") for tenant in (hub.tenant_id, other) for _ in range(3)]
    fresh = await hub.inbound.intake._commit(batch)
    assert fresh == [True, False, False] * 2
    assert await hub.count("receipts") == 2


async def test_one_bad_row_fails_alone(hub: Hub) -> None:
    endpoint = new_uuid()
    batch = [receipt(hub.tenant_id, endpoint, f"e{number}") for number in range(6)]
    bad = receipt(hub.tenant_id, endpoint, "bad", url="http://hub/\x00")
    answers = await asyncio.gather(
        *(hub.inbound.intake.take_in(one) for one in [*batch[:3], bad, *batch[3:]]), return_exceptions=True
    )
    assert isinstance(answers.pop(3), asyncpg.DataError)
    assert answers == [True] * 6
    assert await hub.count("receipts") == await hub.count("pgqueuer") == await hub.count("webhook_seen_ids") == 6


async def test_when_the_commit_is_not_confirmed_nobody_is_told_that_nothing_was_stored(hub: Hub) -> None:
    await break_at_commit(hub.database.dsn, "receipts")
    with pytest.raises(OutcomeUnknownError):
        await hub.inbound.intake.take_in(receipt(hub.tenant_id, new_uuid(), "event"))


@pytest.mark.outside
async def test_two_batches_at_once_with_the_same_ids_do_not_wait_for_each_other(hub: Hub) -> None:
    endpoint = new_uuid()
    names = [f"e{number:03}" for number in range(200)]
    first = [receipt(hub.tenant_id, endpoint, name) for name in names]
    second = [receipt(hub.tenant_id, endpoint, name) for name in reversed(names)]
    answers = await asyncio.gather(hub.inbound.intake._commit(first), hub.inbound.intake._commit(second))
    assert sum(is_new is True for answer in answers for is_new in answer) == 200
    assert await hub.count("receipts") == 200


@pytest.mark.parametrize("external_id", ["x" * 200, "ümlaut", " "])
async def test_any_id_can_be_remembered(hub: Hub, external_id: str) -> None:
    assert await hub.inbound.intake.take_in(receipt(hub.tenant_id, new_uuid(), external_id))
