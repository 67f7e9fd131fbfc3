from crossdock.db.engine import Database
from crossdock.features.inbound.refusals import Refusal, RefusalLog
from tests.features.inbound.conftest import Hub, add_tenant
from tests.tcp_gate import gate_to
from tests.waiting import eventually


def refusal(hub: Hub, entity_id: str = "wep_1") -> Refusal:
    return Refusal(
        tenant_id=hub.tenant_id,
        entity_id=entity_id,
        reason="signature_wrong",
        path="p",
        correlation_id="c",
        source_address=None,
    )


async def test_the_next_minutes_line_counts_what_was_left_out(hub: Hub) -> None:
    log = RefusalLog(database=hub.database, clock=hub.clock, lines_a_minute=2)
    for _ in range(5):
        log.note(refusal(hub), known_endpoint=True)
    hub.clock.advance(61)
    log.note(refusal(hub), known_endpoint=True)
    await log.stop()
    assert [line["count"] for line in await hub.refusal_lines()] == [1, 1, 4]


async def test_unknown_paths_share_one_allowance(hub: Hub) -> None:
    log = RefusalLog(database=hub.database, clock=hub.clock, lines_a_minute=2)
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
        log = RefusalLog(database=through_gate, clock=hub.clock)
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
    log = RefusalLog(database=hub.database, clock=hub.clock)
    log.note(
        Refusal(tenant_id=gone, entity_id="x\x00", reason="r", path="p", correlation_id="c", source_address=None),
        known_endpoint=True,
    )
    log.note(refusal(hub), known_endpoint=True)
    await log.stop()
    assert len(await hub.refusal_lines()) == 1
