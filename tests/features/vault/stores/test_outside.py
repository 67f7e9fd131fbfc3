"""References are turned into secrets, which are remembered for five minutes and no longer."""

import asyncio
import traceback
from typing import Any
from uuid import UUID

import pytest
from aiohttp import web

from crossdock.bootstrap import Services
from crossdock.features.vault.errors import (
    SecretNotThereError,
    SecretStoreError,
    StoreRefusedError,
    StoreUnreachableError,
    UnknownStoreError,
)
from crossdock.features.vault.models import Store, StoreKind
from crossdock.features.vault.stores.outside import read_within_prefix
from crossdock.features.vault.stores.schemas import AwsStoreIn, HashicorpStoreIn, StoreCheckIn, StorePatch
from crossdock.features.vault.stores.store import StoredSecret
from crossdock.kit.clock import Clock
from crossdock.kit.ids import IdKind, parse_id
from tests.hub import ACTOR, MovableClock, new_tenant
from tests.receivers import Receiver, Reply, receiving

REFERENCE = {"store": "vault", "path": "crm/prod", "field": "key"}


class StoppedClock(MovableClock):
    """Moves by hand in both readings."""

    def monotonic(self) -> float:
        return self._ahead_s


@pytest.fixture
def clock() -> Clock:
    return StoppedClock()


@pytest.fixture
async def acme(services: Services) -> UUID:
    return await new_tenant(services)


def holding(secret: str) -> Reply:
    return Reply(200, f'{{"data": {{"data": {{"key": "{secret}"}}, "metadata": {{"version": 1}}}}}}'.encode())


async def add(services: Services, tenant_id: UUID, url: str, **more: Any) -> str:
    given = {"name": "vault", "kind": "hashicorp_vault", "credentials": {"token": "t"}}
    given["settings"] = {"url": url.removesuffix("/hook"), **more}
    made = await services.secret_stores.create(tenant_id, ACTOR, HashicorpStoreIn.model_validate(given))
    return made.id


@pytest.fixture
async def server() -> Any:
    async with receiving() as made:
        made.url = "/".join(made.url.split("/")[:3])
        made.otherwise = holding("hush-1")
        yield made


async def test_a_secret_that_is_none_of_a_store_stays_as_it_is(services: Services, acme: UUID) -> None:
    assert await services.outside.resolve(acme, "plain") == "plain"


async def test_a_secret_is_remembered_for_five_minutes(
    services: Services, acme: UUID, server: Receiver, clock: StoppedClock
) -> None:
    await add(services, acme, server.url)
    outside = services.outside
    answers = await asyncio.gather(*(outside.resolve(acme, REFERENCE) for _ in range(50)))
    assert set(answers) == {"hush-1"}
    assert len(server.requests) == 1
    server.otherwise = holding("hush-2")
    clock.move(299)
    assert await outside.resolve(acme, REFERENCE) == "hush-1"
    clock.move(2)
    assert await outside.resolve(acme, REFERENCE) == "hush-2"
    assert len(server.requests) == 2


async def test_a_secret_that_a_provider_refused_is_asked_for_anew_but_not_all_the_time(
    services: Services, acme: UUID, server: Receiver, clock: StoppedClock
) -> None:
    await add(services, acme, server.url)
    await services.outside.resolve(acme, REFERENCE)
    server.otherwise = holding("hush-2")
    assert await services.outside.resolve(acme, REFERENCE, fresh=True) == "hush-1"
    clock.move(11)
    assert await services.outside.resolve(acme, REFERENCE, fresh=True) == "hush-2"
    assert await services.outside.resolve(acme, REFERENCE) == "hush-2"


async def test_a_store_in_trouble_is_not_asked_by_everyone_and_is_asked_again_soon(
    services: Services, acme: UUID, server: Receiver, clock: StoppedClock
) -> None:
    await add(services, acme, server.url)
    server.otherwise = Reply(503, b"")
    for _ in range(3):
        with pytest.raises(StoreUnreachableError) as raised:
            await services.outside.resolve(acme, REFERENCE)
        assert raised.value.retryable
    assert len(server.requests) == 1
    server.otherwise = holding("hush-1")
    clock.move(6)
    assert await services.outside.resolve(acme, REFERENCE) == "hush-1"


async def test_another_tenants_store_is_unknown_and_its_secrets_are_not_remembered_for_others(
    services: Services, acme: UUID, server: Receiver
) -> None:
    await add(services, acme, server.url)
    await services.outside.resolve(acme, REFERENCE)
    globex = await new_tenant(services, "globex")
    with pytest.raises(UnknownStoreError, match="no secret store named 'vault'"):
        await services.outside.resolve(globex, REFERENCE)
    await add(services, globex, server.url)
    server.otherwise = Reply(403, b"")
    # What was unknown a moment ago is known now: the change was announced.
    with pytest.raises(StoreRefusedError):
        await services.outside.resolve(globex, REFERENCE)
    assert await services.outside.resolve(acme, REFERENCE) == "hush-1"


async def test_a_changed_store_is_asked_anew_with_its_new_credentials(
    services: Services, acme: UUID, server: Receiver
) -> None:
    store_id = parse_id(IdKind.SECRET_STORE, await add(services, acme, server.url))
    await services.outside.resolve(acme, REFERENCE)
    patch = StorePatch.model_validate({"credentials": {"token": "other"}})
    await services.secret_stores.patch(acme, ACTOR, store_id, patch)
    await services.outside.resolve(acme, REFERENCE)
    assert [request.headers["x-vault-token"] for request in server.requests] == ["t", "other"]
    await services.secret_stores.delete(acme, ACTOR, store_id)
    with pytest.raises(UnknownStoreError):
        await services.outside.resolve(acme, REFERENCE)


async def test_what_a_store_told_while_it_was_changed_is_not_kept(
    services: Services, acme: UUID, server: Receiver
) -> None:
    store_id = parse_id(IdKind.SECRET_STORE, await add(services, acme, server.url))
    changed = asyncio.Event()

    async def slowly(_request: Any) -> Any:
        await changed.wait()
        return web.Response(body=holding("before").body)

    server.answers(slowly)
    asking = asyncio.create_task(services.outside.resolve(acme, REFERENCE))
    await server.got(1)
    await services.secret_stores.patch(
        acme, ACTOR, store_id, StorePatch.model_validate({"credentials": {"token": "u"}})
    )
    changed.set()
    assert await asking == "before"
    assert await services.outside.resolve(acme, REFERENCE) == "hush-1"


async def test_a_caller_that_goes_away_takes_nobodys_answer_along(
    services: Services, acme: UUID, server: Receiver
) -> None:
    await add(services, acme, server.url)
    first = asyncio.create_task(services.outside.resolve(acme, REFERENCE))
    second = asyncio.create_task(services.outside.resolve(acme, REFERENCE))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == "hush-1"
    assert len(server.requests) == 1


async def test_only_paths_with_the_stores_prefix_are_asked_for(
    services: Services, acme: UUID, server: Receiver
) -> None:
    await add(services, acme, server.url, path_prefix="crm/")
    assert await services.outside.resolve(acme, REFERENCE) == "hush-1"
    with pytest.raises(SecretNotThereError, match="begin with 'crm/' alone"):
        await services.outside.resolve(acme, {**REFERENCE, "path": "payroll/prod"})
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("prefix", "inside", "outside"),
    [
        ("crm", ["crm", "crm/prod"], ["crm2/prod", "crmx", "crm-eu/prod", "CRM/prod"]),
        ("crm/prod", ["crm/prod", "crm/prod/eu"], ["crm/production", "crm/pro"]),
        ("crm/", ["crm/prod"], ["crm", "crmx"]),
        ("crm-", ["crm-eu/prod", "crm-"], ["crm/prod"]),
    ],
)
async def test_a_prefix_ends_where_a_name_ends(
    services: Services, acme: UUID, server: Receiver, prefix: str, inside: list[str], outside: list[str]
) -> None:
    await add(services, acme, server.url, path_prefix=prefix)
    for path in inside:
        assert await services.outside.resolve(acme, {**REFERENCE, "path": path}) == "hush-1"
    for path in outside:
        with pytest.raises(SecretNotThereError, match="alone"):
            await services.outside.resolve(acme, {**REFERENCE, "path": path})
    assert len(server.requests) == len(inside)


class Anything:
    """A store that has every secret."""

    async def read(self, path: str, field: str | None) -> StoredSecret:  # noqa: ARG002 - as stores are asked
        return StoredSecret(path, None, None)

    async def check(self) -> None:
        """It lets everybody in."""

    async def aclose(self) -> None:
        """It holds nothing."""


@pytest.mark.parametrize(
    ("kind", "path", "opens"),
    [
        (StoreKind.AZURE, "crm", True),
        (StoreKind.AZURE, "crm-prod", True),
        (StoreKind.AZURE, "crmprod", False),
        (StoreKind.AWS, "crm/prod", True),
        (StoreKind.AWS, "crm-prod", False),
    ],
)
async def test_a_name_ends_where_the_kind_of_store_ends_it(kind: StoreKind, path: str, opens: bool) -> None:  # noqa: FBT001 - what comes of it
    store = Store(name="it", kind=kind, settings={"path_prefix": "crm"})
    if opens:
        assert (await read_within_prefix(Anything(), store, path, None)).value == path
    else:
        with pytest.raises(SecretNotThereError, match="begin with 'crm' alone"):
            await read_within_prefix(Anything(), store, path, None)


async def test_an_error_that_is_told_again_gathers_no_traces(services: Services, acme: UUID) -> None:
    errors = []
    for _ in range(3):
        with pytest.raises(SecretStoreError) as raised:
            await services.outside.resolve(acme, REFERENCE)
        errors.append(raised.value)
    assert len({id(error) for error in errors}) == 3
    assert len({str(error) for error in errors}) == 1


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'{"auth":{"client_token":"t","lease_duration":1' + b"0" * 400 + b"}}"]
)
async def test_a_store_that_answers_nonsense_is_an_error_of_the_store(
    services: Services, acme: UUID, server: Receiver, body: bytes
) -> None:
    server.otherwise = Reply(200, body)
    given = {"name": "vault", "kind": "hashicorp_vault", "credentials": {"secret_id": "s"}}
    given["settings"] = {"url": server.url, "sign_in": "approle", "role_id": "r"}
    made = await services.secret_stores.create(acme, ACTOR, HashicorpStoreIn.model_validate(given))
    with pytest.raises(StoreUnreachableError):
        await services.outside.resolve(acme, REFERENCE)
    store_id = parse_id(IdKind.SECRET_STORE, made.id)
    assert (await services.secret_stores.check(acme, store_id, StoreCheckIn())).ok is False


async def test_what_a_store_answers_is_in_no_error(services: Services, acme: UUID, server: Receiver) -> None:
    cut = b"<AssumeRoleResponse><AssumeRoleResult><Credentials><SecretAccessKey>hush-77</SecretAccessKey>"
    server.otherwise = Reply(200, cut)
    role = "arn:aws:iam::123456789012:role/hub"
    settings = {"region": "eu-central-1", "access_key_id": "A" * 16, "role_arn": role, "endpoint_url": server.url}
    given = {"name": "aws", "kind": "aws_secrets_manager", "credentials": {"secret_access_key": "k"}}
    made = await services.secret_stores.create(acme, ACTOR, AwsStoreIn.model_validate({**given, "settings": settings}))
    with pytest.raises(StoreUnreachableError) as error:
        await services.outside.resolve(acme, REFERENCE | {"store": "aws"})
    assert "hush-77" not in "".join(traceback.format_exception(error.value))
    store_id = parse_id(IdKind.SECRET_STORE, made.id)
    checked = await services.secret_stores.check(acme, store_id, StoreCheckIn())
    assert (checked.ok, "hush-77" in (checked.error or "")) == (False, False)
