from typing import Any

from crossdock.db.engine import Database
from crossdock.features.inbound.refusal_samples import RefusalSamples
from crossdock.features.inbound.refusals import Refusal, RefusalLog
from crossdock.features.inbound.secret_box import SecretBox
from tests.features.inbound.conftest import Hub, add_tenant
from tests.tcp_gate import gate_to
from tests.vault import new_vault
from tests.waiting import eventually


def log_of(hub: Hub, *, database: Database | None = None, **given: Any) -> RefusalLog:
    samples = RefusalSamples(database=database or hub.database, secret_box=SecretBox(vault=new_vault(hub.database)))
    return RefusalLog(database=database or hub.database, samples=samples, clock=hub.clock, **given)


def refusal(hub: Hub, entity_id: str = "wep_1", reason: str = "signature_wrong") -> Refusal:
    return Refusal(
        tenant_id=hub.tenant_id,
        entity_id=entity_id,
        reason=reason,
        path="p",
        correlation_id="c",
        source_address=None,
    )


async def test_the_next_minutes_line_counts_what_was_left_out(hub: Hub) -> None:
    log = log_of(hub, lines_a_minute=2)
    for _ in range(5):
        log.note(refusal(hub), known_endpoint=True)
    hub.clock.advance(61)
    log.note(refusal(hub), known_endpoint=True)
    await log.stop()
    assert [line["count"] for line in await hub.refusal_lines()] == [1, 1, 4]


async def test_unknown_paths_share_one_allowance(hub: Hub) -> None:
    log = log_of(hub, lines_a_minute=2)
    for number in range(9):
        log.note(refusal(hub, f"path{number}"), known_endpoint=False)
    log.note(refusal(hub, "wep_1"), known_endpoint=True)
    await log.stop()
    lines = await hub.refusal_lines()
    assert [line["entity_id"] for line in lines] == ["path0", "path1", "wep_1", "path8"]
    assert [line["count"] for line in lines] == [1, 1, 1, 7]


async def test_lines_are_kept_while_the_database_is_away(database_url: str, hub: Hub) -> None:
    async with gate_to(database_url) as gate:
        through_gate = Database(gate.database_url)
        await through_gate.open()
        log = log_of(hub, database=through_gate)
        await gate.close()
        log.start()
        log.note(refusal(hub), known_endpoint=True)
        await gate.open()
        await eventually(hub.refusal_lines)
        await log.stop()
        await through_gate.close()


async def test_a_tenant_that_is_gone_does_not_end_the_audit_of_others(hub: Hub) -> None:
    gone = await add_tenant(hub.database, "gone")
    await hub.rows("DELETE FROM tenants WHERE tenant_id = :a", gone)
    log = log_of(hub)
    log.note(
        Refusal(tenant_id=gone, entity_id="x\x00", reason="r", path="p", correlation_id="c", source_address=None),
        known_endpoint=True,
    )
    log.note(refusal(hub), known_endpoint=True)
    await log.stop()
    assert len(await hub.refusal_lines()) == 1


async def test_what_was_left_out_is_counted_under_its_own_reason(hub: Hub) -> None:
    log = log_of(hub, lines_a_minute=2)
    for reason in ("a", "b", "a", "a", "b", "c"):
        log.note(refusal(hub, reason=reason), known_endpoint=True)
    await log.stop()
    lines = await hub.refusal_lines()
    assert [(line["reason"], line["count"]) for line in lines] == [("a", 1), ("b", 1), ("a", 2), ("b", 1), ("c", 1)]
