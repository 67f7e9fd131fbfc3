from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID

import pytest

from crossdock.db.outbox import announce
from crossdock.features.events import outbox
from crossdock.features.events.outbox import OutboxRelay
from crossdock.kit.errors import UnavailableError
from crossdock.kit.ids import uuid_floor
from tests.hub import Hub


@pytest.fixture
def relay(hub: Hub) -> OutboxRelay:
    services = hub.services
    return OutboxRelay(database=services.database, writer=services.writer, clock=services.clock)


async def announced(hub: Hub, count: int) -> None:
    async with hub.services.database.tenant(hub.tenant_id) as session:
        for number in range(count):
            announce(
                session,
                tenant_id=hub.tenant_id,
                event_type="circuit.opened",
                data={"number": number},
                correlation_id="cause",
            )


async def entered(hub: Hub, entry_id: UUID) -> None:
    """An entry of number 7 under an id that is none of now."""
    await hub.query(
        "INSERT INTO outbox (tenant_id, id, type, data) VALUES ($1, $2, 'circuit.opened', '{\"number\": 7}')",
        hub.tenant_id,
        entry_id,
    )


def first_id_of(year: int) -> UUID:
    return UUID(int=uuid_floor(datetime(year, 1, 1, tzinfo=UTC)).int + 1)


async def told(hub: Hub) -> list[int]:
    rows = await hub.query("SELECT payload FROM events WHERE type = 'circuit.opened' ORDER BY id")
    return [int(row["payload"].split(b":")[1].rstrip(b"}")) for row in rows]


async def left(hub: Hub) -> int:
    return len(await hub.query("SELECT FROM outbox WHERE type = 'circuit.opened'"))


async def test_what_was_announced_becomes_events_in_its_order(hub: Hub, relay: OutboxRelay) -> None:
    await announced(hub, 5)
    await relay.drain()
    assert await told(hub) == [0, 1, 2, 3, 4]
    assert await left(hub) == 0
    (row, *_) = await hub.query("SELECT * FROM events WHERE type = 'circuit.opened'")
    assert (row["origin"], row["correlation_id"], row["tenant_id"]) == ("system", "cause", hub.tenant_id)


async def test_more_than_one_turn_takes_is_published_too(
    hub: Hub, relay: OutboxRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "_MOST_AT_ONCE", 3)
    await announced(hub, 8)
    await relay.drain()
    assert await told(hub) == list(range(8))


async def test_what_is_announced_in_a_transaction_that_fails_is_not_told(hub: Hub, relay: OutboxRelay) -> None:
    with suppress(ZeroDivisionError):
        async with hub.services.database.tenant(hub.tenant_id) as session:
            announce(session, tenant_id=hub.tenant_id, event_type="circuit.opened", data={}, correlation_id=None)
            await session.flush()
            raise ZeroDivisionError
    await relay.drain()
    assert await told(hub) == []


async def test_a_crash_between_publishing_and_removing_tells_nothing_twice(hub: Hub, relay: OutboxRelay) -> None:
    await announced(hub, 3)
    entries = await hub.query("SELECT * FROM outbox WHERE type = 'circuit.opened' ORDER BY id")
    await relay.drain()
    for row in entries:
        await hub.query(
            "INSERT INTO outbox (tenant_id, id, type, data, created_at) VALUES ($1, $2, $3, $4, $5)",
            *(row[name] for name in ("tenant_id", "id", "type", "data", "created_at")),
        )
    await relay.drain()
    assert await told(hub) == [0, 1, 2]
    assert await left(hub) == 0


async def test_an_entry_from_before_a_long_standstill_is_still_told_and_stops_no_other(
    hub: Hub, relay: OutboxRelay
) -> None:
    await entered(hub, first_id_of(2020))
    await announced(hub, 1)
    await relay.drain()
    assert sorted(await told(hub)) == [0, 7]
    assert await left(hub) == 0


async def test_an_entry_that_cannot_keep_its_id_is_told_once_too(hub: Hub, relay: OutboxRelay) -> None:
    # As when a process ends between publishing and removing, or two workers publish at once.
    for _ in range(2):
        await entered(hub, first_id_of(2020))
        await relay.drain()
    assert await told(hub) == [7]
    assert await left(hub) == 0


async def test_an_entry_of_a_machine_whose_clock_is_ahead_is_told_and_stops_no_other(
    hub: Hub, relay: OutboxRelay
) -> None:
    for early in (first_id_of(2099), UUID(int=2**128 - 1)):
        await entered(hub, early)
    await announced(hub, 1)
    await relay.drain()
    assert sorted(await told(hub)) == [0, 7, 7]
    assert await left(hub) == 0


async def test_what_cannot_be_published_is_set_aside_with_its_error_and_told_when_it_can(
    hub: Hub, relay: OutboxRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "_MOST_AT_ONCE", 3)
    await announced(hub, 5)
    await hub.query(
        "ALTER TABLE events ADD CONSTRAINT not_now CHECK (payload NOT IN ('{\"number\":0}',"
        " '{\"number\":1}', '{\"number\":2}'))"
    )
    await relay.drain()
    assert await told(hub) == [3, 4]
    aside = await hub.query("SELECT error, retry_at > now() AS later FROM outbox WHERE type = 'circuit.opened'")
    assert [row["later"] for row in aside] == [True] * 3
    assert all("not_now" in row["error"] for row in aside)
    await hub.query("ALTER TABLE events DROP CONSTRAINT not_now")
    await hub.query("UPDATE outbox SET retry_at = now()")
    await relay.drain()
    assert await told(hub) == [0, 1, 2, 3, 4]
    assert await left(hub) == 0


async def test_nothing_is_lost_while_events_cannot_be_taken_in(
    hub: Hub, relay: OutboxRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    await announced(hub, 2)

    async def unavailable(*_: object, **__: object) -> object:
        raise UnavailableError

    with monkeypatch.context() as patch:
        patch.setattr(type(hub.services.writer), "publish", unavailable)
        with pytest.raises(UnavailableError):
            await relay.drain()
    assert await left(hub) == 2
    await relay.drain()
    assert await told(hub) == [0, 1]
