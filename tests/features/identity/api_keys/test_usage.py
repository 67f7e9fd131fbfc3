import asyncpg
import pytest

from crossdock.bootstrap import Services
from crossdock.db.engine import Role
from crossdock.features.identity.models import ApiKey
from crossdock.kit.clock import FixedClock
from tests.features.identity.conftest import KeyMaker
from tests.serving import ApiClient


async def stored(services: Services, key: ApiKey) -> ApiKey:
    async with services.database.tenant(key.tenant_id) as session:
        return await services.identity.api_keys.get(session, key.tenant_id, key.id)


async def test_uses_are_counted_and_written_together(
    services: Services, anonymous: ApiClient, make_key: KeyMaker, clock: FixedClock
) -> None:
    key, text = await make_key()
    for _ in range(3):
        await anonymous.with_key(text).get("/api/v1/me")
        clock.advance(10)
    assert (await stored(services, key)).usage_count == 0
    await services.identity.usage.write()
    written = await stored(services, key)
    assert written.usage_count == 3
    assert written.last_used_at is not None
    assert (clock.now() - written.last_used_at).total_seconds() == 10


async def test_what_could_not_be_written_is_written_the_next_time(
    services: Services, make_key: KeyMaker, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, _ = await make_key()
    usage = services.identity.usage
    usage.note(tenant_id=key.tenant_id, key_id=key.id, at=clock.now())
    pool = services.database.pool(Role.WORKER)
    with monkeypatch.context() as patch:
        patch.setattr(services.database, "pool", lambda _role: _Unreachable())
        with pytest.raises(asyncpg.CannotConnectNowError):
            await usage.write()
    assert services.database.pool(Role.WORKER) is pool
    usage.note(tenant_id=key.tenant_id, key_id=key.id, at=clock.now())
    await usage.write()
    assert (await stored(services, key)).usage_count == 2


class _Unreachable:
    def acquire(self) -> None:
        raise asyncpg.CannotConnectNowError
