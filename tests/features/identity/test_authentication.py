import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import UUID

import pytest

from crossdock.api.server import hub_app
from crossdock.bootstrap import Services, build
from crossdock.features.identity import repository
from crossdock.features.identity.authentication import Authenticator
from crossdock.features.identity.errors import InvalidKeyError
from crossdock.features.identity.models import TenantStatus
from crossdock.features.identity.tenants.schemas import TenantChange
from crossdock.kit.clock import FixedClock
from crossdock.kit.errors import UnavailableError
from crossdock.settings import Settings
from tests.accounts import OPERATOR, Account
from tests.features.identity.conftest import KeyMaker
from tests.serving import ApiClient, client_of
from tests.tcp_gate import gate_to
from tests.waiting import eventually


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The key hashes that were looked up in the database."""
    asked: list[bytes] = []
    original = repository.tenant_and_id_of_key

    async def counting(session: object, key_hash: bytes) -> object:
        asked.append(key_hash)
        return await original(session, key_hash)  # type: ignore[arg-type]  # passed through

    monkeypatch.setattr(repository, "tenant_and_id_of_key", counting)
    return asked


async def opens(authenticator: Authenticator, text: str) -> bool:
    try:
        await authenticator.authenticate(authorization=f"Bearer {text}")
    except InvalidKeyError:
        return False
    return True


async def revoke(services: Services, key_id: UUID, tenant: Account) -> None:
    async with services.database.tenant(tenant.tenant_id) as session:
        await services.identity.api_keys.revoke(
            session,
            tenant_id=tenant.tenant_id,
            key_id=key_id,
            actor=OPERATOR,
            reason="test",
        )


async def test_a_known_key_is_answered_from_memory(
    services: Services, make_key: KeyMaker, lookups: list[bytes]
) -> None:
    _, text = await make_key()
    assert all([await opens(services.identity.authenticator, text) for _ in range(5)])
    assert len(lookups) == 1


async def test_many_who_ask_for_a_new_key_at_once_look_it_up_once(
    services: Services, make_key: KeyMaker, lookups: list[bytes]
) -> None:
    _, text = await make_key()
    authenticator = services.identity.authenticator
    assert all(await asyncio.gather(*(opens(authenticator, text) for _ in range(500))))
    assert len(lookups) == 1


async def test_an_unknown_key_is_looked_up_once_in_a_while(
    services: Services, clock: FixedClock, lookups: list[bytes]
) -> None:
    wrong = "cdk_" + "x" * 43
    for _ in range(3):
        assert not await opens(services.identity.authenticator, wrong)
    assert len(lookups) == 1
    clock.advance(31)
    assert not await opens(services.identity.authenticator, wrong)
    assert len(lookups) == 2


async def test_guessing_does_not_take_every_connection(services: Services) -> None:
    guesses = [f"cdk_{number:043}" for number in range(1000)]
    answers = await asyncio.gather(
        *(opens(services.identity.authenticator, guess) for guess in guesses), return_exceptions=True
    )
    refused = [answer for answer in answers if isinstance(answer, UnavailableError)]
    assert refused
    assert len(refused) + answers.count(False) == len(guesses)


async def test_a_key_revoked_here_stops_opening_with_the_commit(
    services: Services, tenant: Account, make_key: KeyMaker
) -> None:
    key, text = await make_key()
    authenticator = services.identity.authenticator
    assert await opens(authenticator, text)
    await revoke(services, key.id, tenant)
    assert not await opens(authenticator, text)


async def test_a_key_revoked_in_another_process_stops_opening_here(
    services: Services, settings: Settings, tenant: Account, make_key: KeyMaker
) -> None:
    key, text = await make_key()
    async with build(settings) as elsewhere:
        assert await opens(elsewhere.identity.authenticator, text)
        await revoke(services, key.id, tenant)

        async def stopped() -> bool:
            return not await opens(elsewhere.identity.authenticator, text)

        await eventually(stopped)


async def test_a_key_read_while_it_is_revoked_is_not_remembered(
    services: Services, tenant: Account, make_key: KeyMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, text = await make_key()
    read = asyncio.Event()
    go_on = asyncio.Event()
    original: Callable[..., Awaitable[object]] = repository.key_and_tenant_active

    async def slow(*arguments: object) -> object:
        found = await original(*arguments)
        read.set()
        await go_on.wait()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(repository, "key_and_tenant_active", slow)
        early = asyncio.create_task(opens(services.identity.authenticator, text))
        await read.wait()
    await revoke(services, key.id, tenant)
    late = asyncio.create_task(opens(services.identity.authenticator, text))
    assert await late is False
    go_on.set()
    assert await early is True  # asked before the revocation
    assert await opens(services.identity.authenticator, text) is False


async def test_a_suspended_tenants_requests_are_refused_until_it_is_activated(
    services: Services, api: ApiClient, tenant: Account
) -> None:
    assert (await api.get("/api/v1/me")).status == 200
    for status, expected in ((TenantStatus.SUSPENDED, 403), (TenantStatus.ACTIVE, 200)):
        async with services.database.owner() as session:
            found = await services.identity.tenants.by_slug(session, tenant.slug)
            await services.identity.tenants.change(
                session, tenant=found, actor=OPERATOR, change=TenantChange(status=status)
            )
        answer = await api.get("/api/v1/me")
        assert answer.status == expected
        assert expected == 200 or answer.json["code"] == "tenant_suspended"


async def test_without_a_database_known_keys_are_recognized_and_nothing_is_promised(
    database_url: str, tmp_path: Path, make_key: KeyMaker
) -> None:
    _, text = await make_key()
    async with gate_to(database_url) as gate:
        behind = Settings(database_url=gate.database_url, data_dir=tmp_path / "behind")
        async with build(behind) as cut_off, client_of(hub_app(cut_off), key=text) as client:
            assert (await client.get("/api/v1/me")).status == 200
            await gate.close()
            assert await opens(cut_off.identity.authenticator, text)
            for answer in (
                await client.get("/api/v1/me"),
                await client.with_key("cdk_" + "y" * 43).get("/api/v1/me"),
                await client.post("/api/v1/sessions", json={"email": "a@b", "password": "x" * 12}),
            ):
                assert (answer.status, answer.json["code"]) == (503, "unavailable")
                assert int(answer.headers["Retry-After"]) >= 1
            await gate.open()

            async def served() -> bool:
                return (await client.get("/api/v1/me")).status == 200

            await eventually(served)
