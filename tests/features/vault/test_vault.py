"""Sealing and opening: bound to tenant, use and row, under a data key of each tenant."""

from uuid import UUID

import asyncpg
import pytest

from crossdock.db.engine import Database
from crossdock.features.vault.service import Vault
from crossdock.kit.crypto import EncryptionError, KeyRing, new_key
from crossdock.kit.ids import new_uuid
from tests.hub import query
from tests.vault import new_vault

SECRET = "correct horse battery staple"


@pytest.fixture
def keys() -> list[str]:
    return [new_key()]


@pytest.fixture
def vault(database: Database, keys: list[str]) -> Vault:
    return new_vault(database, keys=keys)


async def seal(
    vault: Vault, database: Database, tenant_id: UUID, purpose: str = "use:1", secret: str = SECRET
) -> bytes:
    async with database.tenant(tenant_id) as session:
        return await vault.seal(session, tenant_id=tenant_id, purpose=purpose, secret=secret)


@pytest.mark.parametrize("secret", [SECRET, "", "ünïcode \x00 \U0001f511", "x" * 100_000])
async def test_what_was_sealed_opens_in_every_process(
    database: Database, acme: UUID, vault: Vault, keys: list[str], secret: str
) -> None:
    sealed = await seal(vault, database, acme, secret=secret)
    another_process = new_vault(database, keys=keys)
    for one in (vault, another_process):
        assert await one.open(sealed, tenant_id=acme, purpose="use:1") == secret


async def test_the_database_holds_nothing_that_opens_it(database: Database, acme: UUID, vault: Vault) -> None:
    sealed = await seal(vault, database, acme)
    assert SECRET.encode() not in sealed
    (row,) = await query(database.dsn, "SELECT * FROM data_keys")
    stranger = new_vault(database)
    with pytest.raises(EncryptionError, match=f"key {row['ring_key']} is needed and not in CROSSDOCK_ENCRYPTION_KEYS"):
        await stranger.open(sealed, tenant_id=acme, purpose="use:1")


async def test_each_tenant_has_a_data_key_of_its_own(
    database: Database, acme: UUID, globex: UUID, vault: Vault
) -> None:
    for tenant_id in (acme, globex, acme):
        await seal(vault, database, tenant_id)
    rows = await query(database.dsn, "SELECT tenant_id, id FROM data_keys")
    assert sorted(row["tenant_id"] for row in rows) == sorted([acme, globex])


async def test_another_tenants_secret_does_not_open(
    database: Database, acme: UUID, globex: UUID, vault: Vault, keys: list[str]
) -> None:
    sealed = await seal(vault, database, acme)
    await seal(vault, database, globex)
    for one in (vault, new_vault(database, keys=keys)):
        with pytest.raises(EncryptionError, match="another tenant"):
            await one.open(sealed, tenant_id=globex, purpose="use:1")


async def test_another_tenants_data_key_does_not_help(
    database: Database, acme: UUID, globex: UUID, vault: Vault, keys: list[str]
) -> None:
    sealed = await seal(vault, database, acme)
    await query(database.dsn, "UPDATE data_keys SET tenant_id = $1", globex)
    with pytest.raises(EncryptionError, match="moved to another row"):
        await new_vault(database, keys=keys).open(sealed, tenant_id=globex, purpose="use:1")


@pytest.mark.parametrize("purpose", ["use:2", "use", "other:1", "", "use:1 "])
async def test_what_was_moved_to_another_row_or_use_does_not_open(
    database: Database, acme: UUID, vault: Vault, purpose: str
) -> None:
    sealed = await seal(vault, database, acme)
    with pytest.raises(EncryptionError, match="moved to another row"):
        await vault.open(sealed, tenant_id=acme, purpose=purpose)


async def test_a_value_changed_anywhere_does_not_open(database: Database, acme: UUID, vault: Vault) -> None:
    sealed = await seal(vault, database, acme)
    for place in range(len(sealed)):
        changed = sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :]
        with pytest.raises(EncryptionError):
            await vault.open(changed, tenant_id=acme, purpose="use:1")
    for length in (0, 1, 20, 33, 34, len(sealed) - 1):
        with pytest.raises(EncryptionError):
            await vault.open(sealed[:length], tenant_id=acme, purpose="use:1")


async def test_the_same_secret_is_never_sealed_the_same_way_twice(database: Database, acme: UUID, vault: Vault) -> None:
    assert await seal(vault, database, acme) != await seal(vault, database, acme)


async def test_a_secret_from_before_the_vault_opens(acme: UUID, vault: Vault, keys: list[str]) -> None:
    ring = KeyRing(keys)
    old = ring.seal(SECRET.encode(), tenant_id=acme, purpose="subscription-key", key_id=ring.key_ids[0])
    assert await vault.open(old, tenant_id=acme, purpose="subscription-key:1") == SECRET
    with pytest.raises(EncryptionError):
        await vault.open(old, tenant_id=acme, purpose="subscription-auth:1")
    with pytest.raises(EncryptionError):
        await vault.open(old, tenant_id=new_uuid(), purpose="subscription-key:1")


async def test_a_data_key_of_a_transaction_that_was_rolled_back_seals_nothing_more(
    database: Database, acme: UUID, vault: Vault
) -> None:
    async with database.tenant(acme) as session:
        await vault.seal(session, tenant_id=acme, purpose="use:1", secret=SECRET)
        await session.rollback()
    assert await query(database.dsn, "SELECT FROM data_keys") == []
    sealed = await seal(vault, database, acme)
    assert len(await query(database.dsn, "SELECT FROM data_keys")) == 1
    assert await vault.open(sealed, tenant_id=acme, purpose="use:1") == SECRET


async def test_secrets_of_one_transaction_open_within_it(database: Database, acme: UUID, vault: Vault) -> None:
    async with database.tenant(acme) as session:
        sealed = await vault.seal(session, tenant_id=acme, purpose="use:1", secret=SECRET)
        assert await vault.open(sealed, tenant_id=acme, purpose="use:1", session=session) == SECRET


async def test_the_app_cannot_read_another_tenants_data_key(
    database: Database, acme: UUID, globex: UUID, vault: Vault
) -> None:
    await seal(vault, database, acme)
    async with database.tenant(globex) as session:
        connection = await session.connection()
        assert (await connection.exec_driver_sql("SELECT count(*) FROM data_keys")).scalar_one() == 0


async def test_data_keys_are_read_once(
    database: Database, acme: UUID, vault: Vault, keys: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed = await seal(vault, database, acme)
    reader = new_vault(database, keys=keys)
    await reader.open(sealed, tenant_id=acme, purpose="use:1")
    monkeypatch.setattr(Database, "pool", lambda *_: pytest.fail("asked the database"))
    assert await reader.open(sealed, tenant_id=acme, purpose="use:1") == SECRET


async def test_one_tenants_broken_data_key_does_not_keep_the_others_from_opening(
    database: Database, acme: UUID, globex: UUID, vault: Vault, keys: list[str]
) -> None:
    theirs, ours = await seal(vault, database, acme), await seal(vault, database, globex)
    await query(database.dsn, "UPDATE data_keys SET wrapped = 'broken' WHERE tenant_id = $1", acme)
    reader = new_vault(database, keys=keys)
    await reader.load([(acme, theirs), (globex, ours)])
    assert reader.open_loaded(ours, tenant_id=globex, purpose="use:1") == SECRET
    with pytest.raises(EncryptionError):
        reader.open_loaded(theirs, tenant_id=acme, purpose="use:1")


async def test_a_tenant_that_is_deleted_takes_its_data_keys_along(database: Database, acme: UUID, vault: Vault) -> None:
    await seal(vault, database, acme)
    await query(database.dsn, "DELETE FROM tenants")
    assert await query(database.dsn, "SELECT FROM data_keys") == []


async def test_a_data_key_cannot_be_given_to_nobody(database: Database, vault: Vault) -> None:
    with pytest.raises(Exception, match="data_keys_tenant_id_fkey") as raised:
        await seal(vault, database, new_uuid())
    assert isinstance(raised.value.__cause__.__cause__, asyncpg.ForeignKeyViolationError)  # type: ignore[union-attr]
