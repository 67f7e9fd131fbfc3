import asyncio
import hashlib
import re
from datetime import datetime, timedelta

import pytest
from sqlalchemy import select

from crossdock.bootstrap import Services
from crossdock.db.outbox import OutboxEntry
from crossdock.features.identity.api_keys import service
from crossdock.features.identity.models import ApiKey
from crossdock.kit.clock import FixedClock
from tests.accounts import Account
from tests.serving import Answer, ApiClient

NEW = {"name": "Shop", "scopes": ["event:read"]}


async def create(api: ApiClient, **fields: object) -> Answer:
    return await api.post("/api/v1/apikeys", json={**NEW, **fields})


async def revoke(api: ApiClient, key_id: str, reason: str = "test") -> Answer:
    return await api.delete(f"/api/v1/apikeys/{key_id}", params={"reason": reason})


async def opens(api: ApiClient, key: str) -> bool:
    return (await api.with_key(key).get("/api/v1/me")).status == 200


async def test_a_new_key_opens_what_its_scopes_say(api: ApiClient) -> None:
    created = await create(api)
    assert created.status == 201
    assert re.fullmatch(r"cdk_[A-Za-z0-9_-]{43}", created.json["key"])
    assert created.json["start"] == created.json["key"][4:12]
    assert (created.json["status"], created.json["rate_limit_per_hour"]) == ("active", 1000)
    holder = api.with_key(created.json["key"])
    assert (await holder.get("/api/v1/me")).json["permissions"] == ["event:read"]
    refused = await holder.get("/api/v1/apikeys")
    assert (refused.status, refused.json["code"]) == (403, "missing_permission")
    assert "apikey:manage" in refused.json["detail"]


async def test_a_key_is_shown_once_and_stored_as_its_hash(api: ApiClient, services: Services, tenant: Account) -> None:
    created = (await create(api)).json
    path = f"/api/v1/apikeys/{created['id']}"
    shown = [await api.get("/api/v1/apikeys"), await api.get(path), await api.patch(path, json={"name": "x"})]
    shown += [await api.post(f"{path}/rotate"), await revoke(api, created["id"]), await api.get("/api/v1/audit-log")]
    for answer in shown:
        assert created["key"].encode() not in answer.body
    async with services.database.tenant(tenant.tenant_id) as session:
        stored = (await session.execute(select(ApiKey.key_hash).where(ApiKey.start == created["start"]))).scalar_one()
    assert stored == hashlib.sha256(created["key"].encode()).digest()


async def test_an_unfit_key_is_refused_with_the_place_of_the_fault(api: ApiClient) -> None:
    unfit: list[tuple[dict[str, object], str]] = [
        ({"name": ""}, "/name"),
        ({"name": "x" * 101}, "/name"),
        ({"name": "a\x00b"}, "/name"),
        ({"scopes": []}, "/scopes"),
        ({"scopes": ["event:everything"]}, "/scopes/0"),
        ({"rate_limit_per_hour": 0}, "/rate_limit_per_hour"),
        ({"rate_limit_per_hour": 10_001}, "/rate_limit_per_hour"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
        ({"expires_at": "2099-01-01T00:00:00"}, "/expires_at"),
        ({"surprise": 1}, "/surprise"),
    ]
    for fields, place in unfit:
        answer = await create(api, **fields)
        assert (answer.status, [fault["pointer"] for fault in answer.json["errors"]]) == (422, [place])


async def test_scopes_can_only_become_fewer(api: ApiClient) -> None:
    created = (await create(api, scopes=["event:read", "event:publish"])).json
    path = f"/api/v1/apikeys/{created['id']}"
    narrowed = await api.patch(path, json={"scopes": ["event:read"]})
    assert narrowed.json["scopes"] == ["event:read"]
    assert (await api.with_key(created["key"]).get("/api/v1/me")).json["permissions"] == ["event:read"]
    widened = await api.patch(path, json={"scopes": ["event:read", "event:publish"]})
    assert (widened.status, widened.json["errors"][0]["pointer"]) == (422, "/scopes")


async def test_a_key_cannot_give_what_it_does_not_have(api: ApiClient) -> None:
    keeper = (await create(api, scopes=["apikey:manage", "event:read"])).json
    owners = (await create(api, scopes=["tenant:admin"])).json
    holder = api.with_key(keeper["key"])
    assert (await create(holder, scopes=["event:read"])).status == 201
    for refused in (
        await create(holder, scopes=["tenant:admin"]),
        await holder.post(f"/api/v1/apikeys/{owners['id']}/rotate"),
    ):
        assert (refused.status, refused.json["code"]) == (403, "cannot_grant")


async def test_a_revoked_key_is_unknown_at_once_and_for_good(api: ApiClient) -> None:
    created = (await create(api)).json
    assert await opens(api, created["key"])
    revoked = await revoke(api, created["id"], "left on a bus")
    assert (revoked.json["status"], revoked.json["revoked_reason"]) == ("revoked", "left on a bus")
    refused = await api.with_key(created["key"]).get("/api/v1/me")
    assert (refused.status, refused.json["code"]) == (401, "invalid_api_key")
    assert refused.headers["WWW-Authenticate"].startswith("Bearer")
    path = f"/api/v1/apikeys/{created['id']}"
    for again in (
        await revoke(api, created["id"]),
        await api.patch(path, json={"name": "back"}),
        await api.post(f"{path}/rotate"),
    ):
        assert (again.status, again.json["code"]) == (409, "api_key_ended")


async def test_revoking_needs_a_reason(api: ApiClient) -> None:
    created = (await create(api)).json
    assert (await api.delete(f"/api/v1/apikeys/{created['id']}")).status == 422
    assert await opens(api, created["key"])


async def test_a_rotated_key_works_beside_its_successor_until_the_grace_period_ends(
    api: ApiClient, clock: FixedClock
) -> None:
    old = (await create(api, rate_limit_per_hour=77)).json
    rotated = await api.post(f"/api/v1/apikeys/{old['id']}/rotate", json={"grace_period_s": 3600})
    assert rotated.status == 201
    assert rotated.json["replaces"] == old["id"]
    assert (rotated.json["name"], rotated.json["rate_limit_per_hour"]) == ("Shop", 77)
    assert datetime.fromisoformat(rotated.json["old_works_until"]) == clock.now() + timedelta(hours=1)
    assert await opens(api, old["key"])
    assert await opens(api, rotated.json["key"])
    shown = (await api.get(f"/api/v1/apikeys/{old['id']}")).json
    assert (shown["status"], shown["replaced_by"]) == ("rotated", rotated.json["id"])


async def test_without_grace_the_old_key_has_expired_at_once(api: ApiClient) -> None:
    old = (await create(api)).json
    new = (await api.post(f"/api/v1/apikeys/{old['id']}/rotate", json={"grace_period_s": 0})).json
    refused = await api.with_key(old["key"]).get("/api/v1/me")
    assert (refused.status, refused.json["code"]) == (401, "api_key_expired")
    assert await opens(api, new["key"])


async def test_a_key_has_one_successor_at_a_time(api: ApiClient) -> None:
    first = (await create(api)).json
    second = (await api.post(f"/api/v1/apikeys/{first['id']}/rotate")).json
    for key in (first, second):
        again = await api.post(f"/api/v1/apikeys/{key['id']}/rotate")
        assert (again.status, again.json["code"]) == (409, "api_key_rotated")
    await revoke(api, first["id"])
    assert (await api.post(f"/api/v1/apikeys/{second['id']}/rotate")).status == 201


async def test_creating_rotating_and_revoking_are_announced_as_events(
    api: ApiClient, services: Services, tenant: Account
) -> None:
    created = (await create(api)).json
    await revoke(api, created["id"], "test")
    async with services.database.tenant(tenant.tenant_id) as session:
        entries = (await session.execute(select(OutboxEntry).order_by(OutboxEntry.id))).scalars().all()
    told = [(entry.type, entry.data["id"]) for entry in entries if entry.data["id"] == created["id"]]
    assert told == [("apikey.generated", created["id"]), ("apikey.revoked", created["id"])]
    assert created["key"] not in str([entry.data for entry in entries])


async def test_the_last_key_that_a_tenant_may_have_is_given_once_to_two_who_ask_at_once(
    api: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert service.MAX_ACTIVE_KEYS == 100
    monkeypatch.setattr(service, "MAX_ACTIVE_KEYS", 5)
    for _ in range(3):  # the tenant has one already
        assert (await create(api)).status == 201
    answers = await asyncio.gather(create(api), create(api))
    assert sorted(answer.status for answer in answers) == [201, 409]
    assert next(answer for answer in answers if answer.status == 409).json["code"] == "api_key_limit_reached"
    last = next(answer for answer in answers if answer.status == 201).json
    assert (await api.post(f"/api/v1/apikeys/{last['id']}/rotate")).status == 201
    await revoke(api, last["id"])
    assert (await create(api)).status == 409
    page = (await api.get("/api/v1/apikeys?limit=3")).json
    await revoke(api, page["items"][0]["id"])
    assert (await create(api)).status == 201


async def test_keys_on_pages_come_once_each_while_keys_are_added(api: ApiClient) -> None:
    made = {(await create(api)).json["id"] for _ in range(7)}
    seen: list[str] = []
    cursor = ""
    while True:
        page = (await api.get(f"/api/v1/apikeys?limit=3{cursor}")).json
        seen += [item["id"] for item in page["items"]]
        await create(api)
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert len(seen) == len(set(seen))
    assert made < set(seen)
    assert len(seen) == len(made) + 1  # the tenant's first key; none of those added meanwhile


async def test_an_unknown_key_is_401(anonymous: ApiClient) -> None:
    unknown = ["", "Bearer", "Bearer x", "Basic eDp5", "Bearer cdk_" + "A" * 43, "Bearer cdk_" + "é" * 43, "bearer  "]
    for authorization in unknown:
        answer = await anonymous.get("/api/v1/me", headers={"Authorization": authorization})
        assert (answer.status, answer.json["code"]) == (401, "invalid_api_key"), authorization


async def test_nothing_sent_is_401(anonymous: ApiClient) -> None:
    answer = await anonymous.get("/api/v1/me")
    assert (answer.status, answer.json["code"]) == (401, "unauthorized")
