"""Changing keys while everything runs, and being killed in the middle of it."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from functools import partial, wraps
from itertools import count
from typing import Any
from uuid import UUID

import pytest

from crossdock.bootstrap import SEALED_COLUMNS, Services, add_encryption_key, encryption_key_file, encryption_keys
from crossdock.db.engine import Role
from crossdock.features.vault import rotation, rotation_repository
from crossdock.features.vault.envelope import typed_at
from crossdock.features.vault.errors import SameKeyError
from crossdock.features.vault.needs import vault_status
from crossdock.features.vault.schemas import VaultStatus
from crossdock.kit.crypto import KeyRing, new_key
from crossdock.settings import Settings
from tests.features.vault.conftest import Secrets
from tests.hub import MovableClock, another_process, new_tenant, query, working
from tests.waiting import eventually


async def status_of(services: Services) -> VaultStatus:
    ring = KeyRing(encryption_keys(services.settings))
    async with services.database.pool(Role.WORKER).acquire() as connection:
        return await vault_status(connection, SEALED_COLUMNS, ring.key_ids)


async def rotate(services: Services) -> str:
    return await services.rotation.choose_first(add_key=partial(add_encryption_key, services.settings))


def drop_old_keys(settings: Settings) -> None:
    """What the operator does once the old keys may go."""
    first, *_ = encryption_keys(settings)
    encryption_key_file(settings).write_text(first)


async def seal(services: Services, tenant_id: UUID) -> bytes:
    async with services.database.tenant(tenant_id) as session:
        return await services.vault.seal(session, tenant_id=tenant_id, purpose="x:1", secret="hush")


@pytest.mark.outside
async def test_after_a_rotation_the_old_key_is_needed_no_more(
    services: Services, settings: Settings, secrets: Secrets
) -> None:
    (before,) = (await status_of(services)).keys
    assert (before.in_use, before.data_keys, before.verdict[:6]) == (True, 3, "in use")
    chosen = await rotate(services)
    new, old = (await status_of(services)).keys
    assert (new.id, new.in_use, new.data_keys) == (chosen, True, 0)
    assert (old.id, old.in_use, old.data_keys) == (before.id, False, 3)
    assert old.verdict.startswith("still needed")
    assert not (await status_of(services)).done

    rotated = await services.rotation.bring_up_to_date()
    assert (rotated.data_keys, rotated.secrets, rotated.unopened, rotated.left) == (3, 0, 0, 0)
    status = await status_of(services)
    assert status.done
    assert status.keys[1].verdict.startswith("may go")

    drop_old_keys(settings)
    async with another_process(settings) as fresh:
        await secrets.assert_all_open(fresh)
        assert [key.id for key in (await status_of(fresh)).keys] == [chosen]
    await secrets.assert_all_open()


async def test_new_writes_take_the_new_key_at_once_in_processes_that_do_not_know_it_yet(
    services: Services, settings: Settings, secrets: Secrets
) -> None:
    async with another_process(settings) as running:
        await secrets.assert_all_open(running)
        chosen = await rotate(services)
        newcomer = await new_tenant(services, "newcomer")
        sealed = await seal(running, newcomer)
        (row,) = await query(services.database.dsn, "SELECT ring_key FROM data_keys WHERE tenant_id = $1", newcomer)
        assert row["ring_key"] == chosen
        assert await services.vault.open(sealed, tenant_id=newcomer, purpose="x:1") == "hush"


class AheadClock(MovableClock):
    """Moved forward by hand in both readings."""

    def monotonic(self) -> float:
        return super().monotonic() + self._ahead_s


async def test_secrets_from_before_the_vault_open_and_are_sealed_anew_by_a_worker(
    services: Services, settings: Settings, secrets: Secrets
) -> None:
    await secrets.as_before_the_vault()
    clock = AheadClock()
    async with another_process(settings, clock=clock) as fresh:
        await secrets.assert_all_open(fresh)
        status = await status_of(fresh)
        assert (status.keys[0].old_secrets, status.keys[0].data_keys, status.waiting_secrets) == (9, 0, 9)
        # Processes of the release before, which know no vault, are still running perhaps.
        await fresh.rotation.run()
        assert (await status_of(fresh)).waiting_secrets == 9
        clock.move(3_601)
        async with working(fresh):

            async def done() -> bool:
                return (await status_of(fresh)).waiting_secrets == 0

            await eventually(done)
        await secrets.assert_all_open(fresh)
    (key,) = (await status_of(services)).keys
    assert (key.old_secrets, key.data_keys) == (0, 3)


async def test_whoever_changes_keys_need_not_wait_for_secrets_from_before_the_vault(
    services: Services, secrets: Secrets
) -> None:
    await secrets.as_before_the_vault()
    await seal(services, next(iter(secrets.subscriptions)))
    await services.rotation.run()
    assert (await status_of(services)).waiting_secrets == 9
    await rotate(services)
    await services.rotation.run()
    assert (await status_of(services)).done
    await secrets.assert_all_open()


async def test_a_secret_keeps_its_age_when_it_is_sealed_anew(services: Services, secrets: Secrets) -> None:
    dsn = services.database.dsn
    await secrets.as_before_the_vault()
    await query(dsn, "UPDATE subscription_keys SET created_at = '2020-02-02 00:00Z'")
    for _ in range(2):
        await services.rotation.bring_up_to_date()
        rows = await query(dsn, "SELECT secret FROM subscription_keys")
        assert {typed_at(row["secret"]) for row in rows} == {datetime(2020, 2, 2, tzinfo=UTC)}
        await services.rotation.retire_data_keys()


async def test_data_keys_can_be_changed_too(services: Services, secrets: Secrets) -> None:
    dsn = services.database.dsn
    old = {row["id"] for row in await query(dsn, "SELECT id FROM data_keys")}
    await services.rotation.retire_data_keys()
    assert (await status_of(services)).waiting_secrets == 9
    tenant_id = next(iter(secrets.subscriptions))
    sealed = await seal(services, tenant_id)
    assert sealed[1:17] not in {key.bytes for key in old}
    rotated = await services.rotation.bring_up_to_date()
    assert (rotated.secrets, rotated.unopened) == (9, 0)
    assert (await status_of(services)).done
    assert len(await query(dsn, "SELECT FROM data_keys")) == 6
    await secrets.assert_all_open()
    assert (await services.rotation.bring_up_to_date()).secrets == 0


async def test_configured_keys_are_taken_in_their_order_and_none_is_made(settings: Settings, secrets: Secrets) -> None:
    (old,) = encryption_keys(settings)
    new = new_key()
    configured = settings.model_copy(update={"encryption_keys": _secret(f"{new},{old}")})
    async with another_process(configured) as process:
        await secrets.assert_all_open(process)
        newcomer = await new_tenant(process, "newcomer")
        await seal(process, newcomer)
        # Another process may not have it yet: a key is in use from `vault rotate` on, not from when it is configured.
        (row,) = await query(process.database.dsn, "SELECT ring_key FROM data_keys WHERE tenant_id = $1", newcomer)
        assert row["ring_key"] == KeyRing([old]).key_ids[0]
        assert await process.rotation.choose_first(add_key=None) == KeyRing([new]).key_ids[0]
        with pytest.raises(SameKeyError, match="Put a new one before it"):
            await process.rotation.choose_first(add_key=None)
        await process.rotation.bring_up_to_date()
        assert (await status_of(process)).done
    assert encryption_keys(settings) == [old]


def _secret(text: str) -> Any:
    return Settings(encryption_keys=text).encryption_keys


async def test_rotations_at_once_lose_no_key(services: Services, settings: Settings, secrets: Secrets) -> None:
    async with another_process(settings) as other:
        await asyncio.gather(*(rotate(process) for process in (services, other) for _ in range(5)))
        assert len(set(encryption_keys(settings))) == 11
        await asyncio.gather(*(process.rotation.bring_up_to_date() for process in (services, other)))
        while not (await status_of(services)).done:
            await services.rotation.bring_up_to_date()
        drop_old_keys(settings)
    async with another_process(settings) as fresh:
        await secrets.assert_all_open(fresh)


@pytest.mark.outside
async def test_what_is_written_during_a_rotation_is_not_lost(services: Services, secrets: Secrets) -> None:
    tenant_id, (subscription_id, _) = next(iter(secrets.subscriptions.items()))
    dsn = services.database.dsn
    await services.rotation.retire_data_keys()
    async with services.database.tenant(tenant_id) as session:
        connection = await session.connection()
        await connection.exec_driver_sql("SELECT FROM subscriptions FOR UPDATE")
        # Whoever has a row in hand is not waited for, and what he writes stays.
        rotated = await services.rotation.bring_up_to_date()
        assert (rotated.secrets, rotated.left) == (8, 1)
        purpose = f"subscription-auth:{subscription_id.hex}"
        opened = await services.vault.open(
            (await query(dsn, "SELECT auth FROM subscriptions WHERE id = $1", subscription_id))[0]["auth"],
            tenant_id=tenant_id,
            purpose=purpose,
        )
        sealed = await services.vault.seal(session, tenant_id=tenant_id, purpose=purpose, secret=opened)
        await connection.exec_driver_sql("UPDATE subscriptions SET auth = $1", (sealed,))
    await services.rotation.run()
    assert (await status_of(services)).done
    (row,) = await query(dsn, "SELECT auth FROM subscriptions WHERE id = $1", subscription_id)
    assert row["auth"] == sealed


async def test_a_secret_that_cannot_be_opened_does_not_keep_the_others_from_being_sealed_anew(
    services: Services, secrets: Secrets
) -> None:
    dsn = services.database.dsn
    tenant_id = next(iter(secrets.endpoints))
    await query(dsn, "UPDATE webhook_endpoint_secrets SET secret = 'broken' WHERE tenant_id = $1", tenant_id)
    await services.rotation.retire_data_keys()
    rotated = await services.rotation.bring_up_to_date()
    assert (rotated.secrets, rotated.unopened, rotated.left) == (8, 1, 0)
    assert not (await status_of(services)).done


async def test_a_key_that_is_missing_is_named(services: Services, settings: Settings, secrets: Secrets) -> None:
    (old,) = encryption_keys(settings)
    new = new_key()
    configured = settings.model_copy(update={"encryption_keys": _secret(new)})
    async with another_process(configured) as process:
        status = await status_of(process)
        assert [(key.configured, key.verdict[:7]) for key in status.keys] == [(False, "missing"), (True, "may go:")]
        assert status.keys[0].id == KeyRing([old]).key_ids[0]
        await process.rotation.run()  # says so in the log, and changes nothing
    assert (await services.rotation.bring_up_to_date()).unopened == 0
    await secrets.assert_all_open()


async def test_a_lost_key_file_is_told_at_the_start_and_what_runs_keeps_its_key(
    services: Services, settings: Settings, secrets: Secrets, capsys: pytest.CaptureFixture[str]
) -> None:
    encryption_key_file(settings).unlink()
    capsys.readouterr()
    async with another_process(settings) as fresh:
        assert "encryption_key_missing" in capsys.readouterr().err
        await fresh.rotation.choose_first(add_key=None)
    await services.rotation.bring_up_to_date()
    assert (await status_of(services)).done
    await secrets.assert_all_open()


class Killed(BaseException):
    """Stands for the end of the process."""


STEPS = (
    "lock_ring",
    "choose_ring_key",
    "retire_data_keys",
    "ring_choice",
    "lock_data_keys_to_rewrap",
    "rewrap_data_keys",
    "stale_places",
    "lock_secrets",
    "replace_secrets",
)


@pytest.fixture
def dying(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """From here on, dies before the step of that number, counting every step to the database."""
    left = [0]

    def counted(step: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(step)
        async def run(*arguments: Any, **named: Any) -> Any:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return await step(*arguments, **named)

        return run

    for name in STEPS:
        monkeypatch.setattr(rotation_repository, name, counted(getattr(rotation_repository, name)))
    monkeypatch.setattr(rotation, "_BATCH", 2)

    def die_at(step: int) -> None:
        left[0] = step

    return die_at


async def lives(work: Callable[[], Awaitable[object]], dying: Callable[[int], None]) -> AsyncIterator[int]:
    """Let the work die before its first step, then before its second, and so on, until it comes to its end."""
    for steps in count():
        dying(steps)
        try:
            await work()
        except Killed:
            dying(-1)
            yield steps
        else:
            dying(-1)
            return


async def test_dying_before_any_step_loses_nothing_and_the_next_life_goes_on(
    services: Services, settings: Settings, secrets: Secrets, dying: Callable[[int], None]
) -> None:
    await secrets.as_before_the_vault()
    deaths = 0
    for work in (partial(rotate, services), services.rotation.retire_data_keys, services.rotation.bring_up_to_date):
        async for _ in lives(work, dying):
            deaths += 1
            await secrets.assert_all_open()
    assert deaths > 12
    assert (await status_of(services)).done
    assert len(encryption_keys(settings)) == 2  # one that was made and not taken yet is taken the next time
    drop_old_keys(settings)
    async with another_process(settings) as fresh:
        await secrets.assert_all_open(fresh)


KILLED = """
import asyncio, os, signal
from crossdock.bootstrap import build
from crossdock.features.vault import rotation, rotation_repository
from crossdock.settings import Settings

async def main():
    replaced, replace = [], rotation_repository.replace_secrets
    async def deadly(*arguments):
        await replace(*arguments)
        replaced.append(arguments)
        if len(replaced) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
    rotation_repository.replace_secrets = deadly
    rotation._BATCH = 2
    async with build(Settings(), background=False) as services:
        await services.rotation.bring_up_to_date()

asyncio.run(main())
"""


async def test_a_killed_process_leaves_everything_open_and_the_rest_to_the_next(
    services: Services, settings: Settings, secrets: Secrets, database_url: str
) -> None:
    await rotate(services)
    await services.rotation.retire_data_keys()
    environment = {"CROSSDOCK_DATABASE_URL": database_url, "CROSSDOCK_DATA_DIR": str(settings.data_dir), "PATH": ""}
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, env=environment)
    assert await process.wait() == -signal.SIGKILL
    assert not (await status_of(services)).done
    await secrets.assert_all_open()

    async def finished() -> bool:  # the server notices only after a moment that the killed one is gone
        await services.rotation.bring_up_to_date()
        return (await status_of(services)).done

    await eventually(finished)
    drop_old_keys(settings)
    async with another_process(settings) as fresh:
        await secrets.assert_all_open(fresh)
