from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from crossdock.db import changes
from crossdock.db.changes import Change, ChangeFeed
from crossdock.db.engine import Database
from crossdock.db.urls import libpq_url
from tests.tcp_gate import TcpGate, gate_to
from tests.waiting import eventually


@pytest.fixture
async def gate(database_url: str) -> AsyncIterator[TcpGate]:
    async with gate_to(database_url) as made:
        yield made


@pytest.fixture
async def feed(gate: TcpGate, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ChangeFeed]:
    monkeypatch.setattr(changes, "_RECONNECT_PAUSE_S", 0.05)
    made = ChangeFeed(dsn=gate.database_url)
    await made.start()
    yield made
    await made.stop()


async def notify(database_url: str, channel: str, payload: str) -> None:
    connection = await asyncpg.connect(libpq_url(database_url))
    await connection.execute("SELECT pg_notify($1, $2)", channel, payload)
    await connection.close()


async def test_a_notice_names_kind_tenant_and_entity(feed: ChangeFeed, database_url: str) -> None:
    heard: list[Change | None] = []
    feed.on_change(heard.append)
    await notify(database_url, "crossdock_changes", "subscription:t:i")
    await eventually(lambda: heard == [Change("subscription", "t", "i")])


async def test_a_notice_of_lanes_is_passed_on_as_it_is(feed: ChangeFeed, database_url: str) -> None:
    heard: list[str | None] = []
    feed.on_lanes(heard.append)
    await notify(database_url, "crossdock_lanes", "one,two")
    await eventually(lambda: heard == ["one,two"])


async def test_after_a_gap_listeners_are_told_to_forget_everything(
    feed: ChangeFeed, gate: TcpGate, database_url: str
) -> None:
    heard: list[Change | None] = []
    heard_of_lanes: list[str | None] = []
    feed.on_change(heard.append)
    feed.on_lanes(heard_of_lanes.append)
    await gate.close()
    await notify(database_url, "crossdock_changes", "subscription:t:missed")
    await gate.open()
    await eventually(lambda: heard == [None] and heard_of_lanes == [None])
    await notify(database_url, "crossdock_changes", "subscription:t:later")
    await eventually(lambda: heard[1:] == [Change("subscription", "t", "later")])


async def test_one_listeners_fault_keeps_a_notice_from_nobody(
    feed: ChangeFeed, gate: TcpGate, database_url: str
) -> None:
    def faulty(_change: Change | None) -> None:
        raise ZeroDivisionError

    heard: list[Change | None] = []
    feed.on_change(faulty)
    feed.on_change(heard.append)
    await notify(database_url, "crossdock_changes", "subscription:t:i")
    await eventually(lambda: len(heard) == 1)
    await gate.close()
    await gate.open()
    await eventually(lambda: heard[1:] == [None])


async def test_a_database_that_is_away_for_another_reason_is_waited_for(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "_RECONNECT_PAUSE_S", 0.05)
    connect: Any = asyncpg.connect
    refusals = 0

    async def refused_at_first(*arguments: Any, **named: Any) -> Any:
        nonlocal refusals
        refusals += 1
        if refusals < 3:  # as while a backup is being restored under this name
            raise asyncpg.InvalidCatalogNameError("no such database")
        return await connect(*arguments, **named)

    monkeypatch.setattr(asyncpg, "connect", refused_at_first)
    feed = ChangeFeed(dsn=database.dsn)
    await feed.start()
    assert refusals == 3
    await feed.stop()
