from datetime import timedelta

from sqlalchemy import select

from crossdock.bootstrap import Services
from crossdock.db.audit import AuditEntry
from crossdock.db.outbox import OutboxEntry
from crossdock.features.identity.api_keys.expiry import expire_keys
from crossdock.kit.clock import FixedClock
from crossdock.kit.ids import IdKind, format_id
from tests.accounts import Account
from tests.features.identity.conftest import HOUR_S, KeyMaker
from tests.serving import ApiClient


async def test_an_expired_key_says_so_before_and_after_the_hourly_job(
    services: Services, anonymous: ApiClient, make_key: KeyMaker, clock: FixedClock
) -> None:
    _, text = await make_key(expires_at=clock.now() + timedelta(seconds=60))
    holder = anonymous.with_key(text)
    assert (await holder.get("/api/v1/me")).status == 200
    clock.advance(60)
    for _ in range(2):
        refused = await holder.get("/api/v1/me")
        assert (refused.status, refused.json["code"]) == (401, "api_key_expired")
        assert "expired at" in refused.json["detail"]
        await expire_keys(services.database, clock)


async def test_a_rotated_key_stops_when_its_grace_period_ends(
    services: Services, api: ApiClient, clock: FixedClock, make_key: KeyMaker
) -> None:
    key, text = await make_key()
    path = f"/api/v1/apikeys/{format_id(IdKind.API_KEY, key.id)}"
    rotated = (await api.post(f"{path}/rotate", json={"grace_period_s": HOUR_S})).json
    clock.advance(HOUR_S - 1)
    assert (await api.with_key(text).get("/api/v1/me")).status == 200
    clock.advance(1)
    assert (await api.with_key(text).get("/api/v1/me")).json["code"] == "api_key_expired"
    assert (await api.with_key(rotated["key"]).get("/api/v1/me")).status == 200
    assert await expire_keys(services.database, clock) == 1
    shown = (await api.get(path)).json
    assert (shown["status"], shown["revoked_by"]) == ("revoked", "system")
    assert rotated["id"] in shown["revoked_reason"]


async def test_the_job_revokes_what_has_ended_once_with_audit_and_event(
    services: Services, tenant: Account, other_tenant: Account, clock: FixedClock, make_key: KeyMaker
) -> None:
    ended, _ = await make_key(expires_at=clock.now() + timedelta(seconds=1))
    await make_key(expires_at=clock.now() + timedelta(days=1))
    await make_key()
    clock.advance(1)
    assert await expire_keys(services.database, clock) == 1
    assert await expire_keys(services.database, clock) == 0
    public_id = format_id(IdKind.API_KEY, ended.id)
    async with services.database.tenant(tenant.tenant_id) as session:
        lines = (await session.execute(select(AuditEntry).where(AuditEntry.action == "api_key.revoked"))).scalars()
        assert [(line.entity_id, line.actor_kind, line.new) for line in lines] == [
            (public_id, "system", {"reason": "expired"})
        ]
        events = (await session.execute(select(OutboxEntry).where(OutboxEntry.type == "apikey.revoked"))).scalars()
        assert [(event.data["id"], event.data["reason"]) for event in events] == [(public_id, "expired")]
    async with services.database.tenant(other_tenant.tenant_id) as session:
        assert (await session.execute(select(AuditEntry).where(AuditEntry.action == "api_key.revoked"))).all() == []
