import asyncio
import json
from uuid import UUID

import pytest

from crossdock.db.engine import Database, Role
from crossdock.features.alerts.models import AlertKind, Severity
from crossdock.features.alerts.raising import Finding, raise_alert, resolve_alert, resolve_all
from crossdock.kit.ids import new_uuid
from tests.hub import query


@pytest.fixture
async def tenant_id(database: Database) -> UUID:
    made = new_uuid()
    await query(database.dsn, "INSERT INTO tenants (tenant_id, slug, name) VALUES ($1, 'acme', 'acme')", made)
    return made


def finding(tenant_id: UUID, entity_id: str = "int_1", **more: object) -> Finding:
    settings: dict[str, object] = {
        "kind": AlertKind.CHECK_FAILING,
        "entity_kind": "integration",
        "entity_id": entity_id,
        "title": "A check fails",
        "detail": "Look at it.",
        **more,
    }
    return Finding(tenant_id=tenant_id, **settings)  # type: ignore[arg-type]  # the tests pass what fits


async def raised(database: Database, *findings: Finding) -> list[bool]:
    async with database.pool(Role.WORKER).acquire() as connection, connection.transaction():
        return [await raise_alert(connection, one) for one in findings]


async def resolved(database: Database, tenant_id: UUID, entity_id: str = "int_1") -> bool:
    async with database.pool(Role.WORKER).acquire() as connection, connection.transaction():
        return await resolve_alert(
            connection,
            tenant_id=tenant_id,
            kind=AlertKind.CHECK_FAILING,
            entity_kind="integration",
            entity_id=entity_id,
        )


async def told(database: Database) -> list[str]:
    return [row["type"] for row in await query(database.dsn, "SELECT type FROM outbox ORDER BY id")]


async def test_the_same_again_is_counted_and_told_once(database: Database, tenant_id: UUID) -> None:
    worse = finding(tenant_id, detail="It got worse.", severity=Severity.CRITICAL)
    assert await raised(database, finding(tenant_id, severity=Severity.WARNING), worse, worse) == [True, False, False]
    (alert,) = await query(database.dsn, "SELECT * FROM alerts")
    assert (alert["times"], alert["detail"], alert["severity"]) == (3, "It got worse.", "critical")
    assert alert["last_at"] >= alert["first_at"]
    assert await told(database) == ["alert.raised"]


async def test_what_is_about_something_else_is_another_alert(database: Database, tenant_id: UUID) -> None:
    other_kind = finding(tenant_id, kind=AlertKind.GRANT_REVOKED)
    assert await raised(database, finding(tenant_id), finding(tenant_id, "int_2"), other_kind) == [True] * 3


async def test_after_it_was_over_the_same_is_a_new_alert(database: Database, tenant_id: UUID) -> None:
    assert not await resolved(database, tenant_id)
    await raised(database, finding(tenant_id))
    assert await resolved(database, tenant_id)
    assert not await resolved(database, tenant_id)
    assert await raised(database, finding(tenant_id)) == [True]
    assert await told(database) == ["alert.raised", "alert.resolved", "alert.raised"]


async def test_the_event_says_what_the_alert_says(database: Database, tenant_id: UUID) -> None:
    await raised(database, finding(tenant_id, facts={"failures": 3}, correlation_id="trace-1"))
    (alert,) = await query(database.dsn, "SELECT * FROM alerts")
    (event,) = await query(database.dsn, "SELECT * FROM outbox")
    data = json.loads(event["data"])
    assert data.pop("first_at").endswith("Z")
    assert data == {
        "alert_id": f"alr_{alert['id'].hex}",
        "kind": "check_failing",
        "severity": "critical",
        "entity_kind": "integration",
        "entity_id": "int_1",
        "title": "A check fails",
        "detail": "Look at it.",
        "facts": {"failures": 3},
        "times": 1,
    }
    assert event["correlation_id"] == "trace-1"


async def test_an_alert_is_part_of_the_services_transaction(database: Database, tenant_id: UUID) -> None:
    class UndoneError(Exception):
        pass

    with pytest.raises(UndoneError):  # noqa: PT012 - the transaction has to be left by it
        async with database.tenant(tenant_id) as session:
            assert await raise_alert(session, finding(tenant_id))
            raise UndoneError
    assert await query(database.dsn, "SELECT * FROM alerts") == []
    async with database.tenant(tenant_id) as session:
        assert await raise_alert(session, finding(tenant_id))
    assert await told(database) == ["alert.raised"]


async def test_all_that_is_told_of_something_ends_with_it(database: Database, tenant_id: UUID) -> None:
    kinds = (AlertKind.CHECK_FAILING, AlertKind.GRANT_REVOKED, AlertKind.CIRCUIT_OPEN)
    await raised(database, *(finding(tenant_id, kind=kind) for kind in kinds), finding(tenant_id, "int_2"))
    async with database.pool(Role.WORKER).acquire() as connection, connection.transaction():
        for _ in range(2):
            await resolve_all(connection, tenant_id=tenant_id, entity_kind="integration", entity_id="int_1")
    left = await query(database.dsn, "SELECT entity_id FROM alerts WHERE resolved_at IS NULL")
    assert [row["entity_id"] for row in left] == ["int_2"]
    assert await told(database) == ["alert.raised"] * 4 + ["alert.resolved"] * 3


async def test_raised_by_many_at_once_it_is_one(database: Database, tenant_id: UUID) -> None:
    news = await asyncio.gather(*(raised(database, finding(tenant_id)) for _ in range(6)))
    assert sorted(news) == [[False]] * 5 + [[True]]
    (alert,) = await query(database.dsn, "SELECT times FROM alerts")
    assert alert["times"] == 6
