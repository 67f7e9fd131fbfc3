import asyncio
from uuid import UUID

import pytest
from sqlalchemy import text

from crossdock.db.engine import Database
from crossdock.features.alerts.models import AlertKind
from crossdock.features.alerts.raising import Finding, raise_alert
from tests.cli.conftest import Command, answer


@pytest.fixture
def alert(crossdock: Command, database_url: str) -> str:
    made = answer(crossdock("tenant", "create", "acme", "--json"))

    async def alarm() -> None:
        found = Finding(
            tenant_id=UUID(hex=made["id"].partition("_")[2]),
            kind=AlertKind.CHECK_FAILING,
            entity_kind="integration",
            entity_id="int_1",
            title="A check fails",
            detail="Look at it.",
        )
        database = Database(database_url)
        async with database.owner() as session:
            await session.execute(text("SELECT 1"))
            await raise_alert(session, found)
        await database.close()

    asyncio.run(alarm())
    (listed,) = answer(crossdock("alert", "list", "--json"))
    return str(listed["id"])


def test_an_alert_is_shown_acknowledged_and_resolved(crossdock: Command, alert: str) -> None:
    assert answer(crossdock("alert", "show", alert, "--json"))["title"] == "A check fails"
    seen = answer(crossdock("alert", "acknowledge", alert, "--note", "on it", "--json"))
    assert (seen["status"], seen["note"]) == ("acknowledged", "on it")
    assert answer(crossdock("alert", "acknowledge", alert, "--json"))["note"] == "on it"  # nobody said another one
    assert len(answer(crossdock("alert", "list", "--json"))) == 1
    assert answer(crossdock("alert", "resolve", alert, "--json"))["status"] == "resolved"
    assert answer(crossdock("alert", "list", "--json")) == []
    assert len(answer(crossdock("alert", "list", "--all", "--json"))) == 1
    again = crossdock("alert", "resolve", alert)
    assert (again.exit_code, "resolved already" in again.stderr) == (1, True)
