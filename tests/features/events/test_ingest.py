"""The group commit of events, below HTTP."""

import asyncio
from datetime import UTC, datetime
from uuid import UUID

import pytest

from crossdock.db.engine import OutcomeUnknownError
from crossdock.features.events import ingest
from crossdock.features.events.accepting import STORED_ANSWERS
from crossdock.features.events.errors import PartitionMissingError
from crossdock.features.events.ingest import Accepted, IdempotencyClaim
from crossdock.kit import loop_turn
from crossdock.kit.errors import UnavailableError
from crossdock.kit.ids import new_uuid, uuid_floor
from crossdock.mapping.filters import Filter
from tests.hub import Hub, break_at_commit
from tests.receivers import Receiver

# An id of a day that has no partition.
LONG_AGO = UUID(int=uuid_floor(datetime(2020, 1, 1, tzinfo=UTC)).int + 1)


async def test_one_publication_that_the_database_refuses_fails_alone(hub: Hub, receiver: Receiver) -> None:
    await hub.subscribe(receiver)
    bad = hub.event("bad")
    bad.id = LONG_AGO
    publications = [[hub.event(number)] for number in range(50)]
    publications.insert(25, [bad, hub.event("its companion")])
    outcomes = await asyncio.gather(*map(hub.services.writer.publish, publications), return_exceptions=True)
    assert isinstance(outcomes.pop(25), PartitionMissingError)
    assert [outcome for outcome in outcomes if isinstance(outcome, BaseException)] == []
    events = await hub.query("SELECT payload FROM events WHERE type = 'order.created'")
    assert sorted(int(row["payload"]) for row in events) == list(range(50))
    assert len(await hub.query("SELECT FROM deliveries WHERE kind = 'event'")) == 50


async def test_a_key_whose_life_ends_while_it_is_asked_for_is_to_be_tried_again(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = IdempotencyClaim(hub.tenant_id, "test", "key", b"")
    await hub.services.writer.publish([hub.event("first")], claim=claim)
    # As if it had been cleaned away after it was found taken.
    monkeypatch.setattr(ingest, "STORED_ANSWERS", f"{STORED_ANSWERS} WHERE false")
    outcomes = await asyncio.gather(
        hub.services.writer.publish([hub.event("second")], claim=claim),
        hub.services.writer.publish([hub.event("other")]),
        return_exceptions=True,
    )
    assert isinstance(outcomes[0], UnavailableError)
    assert not isinstance(outcomes[1], BaseException)
    assert not outcomes[1][0].duplicate
    rows = await hub.query("SELECT payload FROM events WHERE type = 'order.created' ORDER BY id")
    assert [row["payload"] for row in rows] == [b'"first"', b'"other"']


async def test_when_the_commit_is_not_confirmed_nobody_is_told_that_nothing_was_stored(hub: Hub) -> None:
    await break_at_commit(hub.services.database.dsn, "events")
    with pytest.raises(OutcomeUnknownError):
        await hub.publish(1)


async def test_an_id_that_exists_adds_nothing_and_says_so(hub: Hub, receiver: Receiver) -> None:
    await hub.subscribe(receiver)
    event = hub.event("first")
    assert await hub.services.writer.publish([event]) == [Accepted(event.id, 1)]
    again, fresh = hub.event("second"), hub.event("third")
    again.id = event.id
    (known, added) = await hub.services.writer.publish([again, fresh])
    assert (known.event_id, known.duplicate, added) == (event.id, True, Accepted(fresh.id, 1))
    events = await hub.query("SELECT payload FROM events WHERE type = 'order.created' ORDER BY id")
    assert [row["payload"] for row in events] == [b'"first"', b'"third"']
    assert len(await hub.query("SELECT FROM deliveries WHERE kind = 'event'")) == 2


async def test_an_id_twice_in_one_publication_is_added_once(hub: Hub) -> None:
    event, twin = hub.event("first"), hub.event("second")
    twin.id = event.id
    accepted = await hub.services.writer.publish([event, twin])
    assert [one.duplicate for one in accepted] == [False, True]


@pytest.mark.outside
async def test_publishers_at_once_of_one_id_add_it_once(hub: Hub, receiver: Receiver) -> None:
    await hub.subscribe(receiver)
    event_id = new_uuid()
    events = [hub.event(number) for number in range(40)]
    for event in events:
        event.id = event_id
    outcomes = await asyncio.gather(*(hub.services.writer.publish([event]) for event in events))
    assert sum(not outcome[0].duplicate for outcome in outcomes) == 1
    assert len(await hub.query("SELECT FROM deliveries WHERE kind = 'event'")) == 1


async def test_a_tenant_that_is_gone_has_no_deliveries(hub: Hub) -> None:
    event = hub.event("nobody's")
    event.tenant_id = new_uuid()
    assert await hub.services.writer.publish([event]) == [Accepted(event.id, 0)]


@pytest.mark.parametrize("depth", [900, 985])
async def test_deep_data_fail_the_filter_and_not_the_publication(hub: Hub, receiver: Receiver, depth: int) -> None:
    subscription = await hub.subscribe(receiver, filter="data.n")
    event = hub.event(payload=b"[" * depth + b"]" * depth)
    (accepted,) = await hub.services.writer.publish([event])
    if accepted.delivery_count:
        (delivery,) = await hub.deliveries(subscription)
        assert delivery["status"] == "failed"
        assert "filter could not be evaluated" in delivery["error"]


async def test_others_have_their_turn_while_heavy_filters_run(
    hub: Hub, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hub.subscribe(receiver, filter="data")
    monkeypatch.setattr(loop_turn, "_TURN_S", 0)
    turns, turns_at_filter = 0, []

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def heavy(_filter: Filter, _document: object) -> bool:
        turns_at_filter.append(turns)
        return False

    monkeypatch.setattr(Filter, "accepts", heavy)
    meanwhile = asyncio.create_task(others())
    await hub.services.writer.publish([hub.event(number) for number in range(5)])
    meanwhile.cancel()
    assert len(set(turns_at_filter)) == 5
