"""HashiCorp Vault's API as a real OpenBao serves it."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from crossdock.features.vault.errors import SecretNotThereError, StoreRefusedError, StoreUnreachableError
from crossdock.features.vault.stores.hashicorp import HashicorpVault
from crossdock.features.vault.stores.settings import HashicorpCredentials, HashicorpSettings
from crossdock.gateway.http_transport import HttpTransport
from crossdock.kit.clock import FixedClock
from tests.openbao import ROOT_TOKEN, OpenBao
from tests.receivers import Reply, receiving

POLICY = """
path "secret/data/crm/*" { capabilities = ["read"] }
"""


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(datetime.now(UTC))


def reader(
    openbao: OpenBao, transport: HttpTransport, clock: FixedClock, *, token: str = ROOT_TOKEN, **more: Any
) -> HashicorpVault:
    credentials = HashicorpCredentials.model_validate(more.pop("credentials", {"token": token}))
    settings = HashicorpSettings.model_validate({"url": openbao.url, "ca": openbao.ca, **more})
    return HashicorpVault(settings, credentials, transport=transport, clock=clock)


async def test_the_newest_version_of_a_field_is_read(
    openbao: OpenBao, transport: HttpTransport, clock: FixedClock
) -> None:
    store = reader(openbao, transport, clock)
    found = await store.read("crm/prod", "key")
    assert (found.value, found.version) == ("hush-2", "2")
    assert found.changed_at is not None
    assert abs(found.changed_at - datetime.now(UTC)) < timedelta(hours=1)
    assert "hush" not in repr(found)
    assert (await store.read("crm/prod", "attempts")).value == "3"
    assert (await store.read("single", None)).value == "hush-3"
    await store.check()


@pytest.mark.parametrize(
    ("path", "field", "told"),
    [
        ("crm/none", "key", "no such secret"),
        ("gone", "key", "newest version was deleted"),
        ("crm/prod", "other", "has no field 'other'"),
        ("crm/prod", None, "has 2 fields; name one"),
        ("crm/../single", None, "names between single slashes"),
        ("/crm/prod", "key", "names between single slashes"),
        ("crm/prod?version=1", "key", "no such secret"),
        ("crm/%70rod", "key", "no such secret"),
    ],
)
async def test_what_is_not_there_is_told(
    openbao: OpenBao, transport: HttpTransport, clock: FixedClock, path: str, field: str | None, told: str
) -> None:
    with pytest.raises(SecretNotThereError, match=told):
        await reader(openbao, transport, clock).read(path, field)


async def test_what_the_token_may_not_read_is_refused(
    openbao: OpenBao, transport: HttpTransport, clock: FixedClock
) -> None:
    openbao.call("PUT", "sys/policies/acl/crm", {"policy": POLICY})
    token = openbao.call("POST", "auth/token/create", {"policies": ["crm"]})["auth"]["client_token"]
    store = reader(openbao, transport, clock, token=token)
    await store.check()
    assert (await store.read("crm/prod", "key")).value == "hush-2"
    with pytest.raises(StoreRefusedError, match="policies do not allow this"):
        await store.read("single", None)
    wrong = reader(openbao, transport, clock, token="made-up-token")
    for work in (wrong.check(), wrong.read("single", None)):
        with pytest.raises(StoreRefusedError, match="403") as raised:
            await work
        assert "made-up-token" not in str(raised.value)


async def test_an_engine_that_is_not_kv_2_is_told(
    openbao: OpenBao, transport: HttpTransport, clock: FixedClock
) -> None:
    mount = f"old-{uuid4().hex[:8]}"
    openbao.call("POST", f"sys/mounts/{mount}", {"type": "kv", "options": {"version": "1"}})
    openbao.call("POST", f"{mount}/data/x", {"data": {"key": "v"}})
    with pytest.raises(SecretNotThereError, match="not a KV version 2 engine"):
        await reader(openbao, transport, clock, mount=mount).check()


async def test_an_approle_signs_in_again_when_its_token_ends(
    openbao: OpenBao, transport: HttpTransport, clock: FixedClock
) -> None:
    openbao.call("PUT", "sys/policies/acl/crm", {"policy": POLICY})
    mount = f"approle-{uuid4().hex[:8]}"
    openbao.call("POST", f"sys/auth/{mount}", {"type": "approle"})
    openbao.call("POST", f"auth/{mount}/role/hub", {"token_policies": ["crm"], "token_ttl": "1h"})
    role_id = openbao.call("GET", f"auth/{mount}/role/hub/role-id")["data"]["role_id"]
    secret_id = openbao.call("POST", f"auth/{mount}/role/hub/secret-id")["data"]["secret_id"]
    signing_in = {"sign_in": "approle", "role_id": role_id, "approle_mount": mount}
    store = reader(openbao, transport, clock, credentials={"secret_id": secret_id}, **signing_in)
    assert (await store.read("crm/prod", "key")).value == "hush-2"
    first = store._client_token
    await store.read("crm/prod", "key")
    assert store._client_token == first

    clock.advance(0.95 * 3600)  # before it ends
    await store.read("crm/prod", "key")
    second = store._client_token
    assert second != first
    with pytest.raises(StoreRefusedError):
        await store.read("single", None)
    assert store._client_token == second  # another one would not help
    openbao.call("POST", "auth/token/revoke", {"token": second})
    clock.advance(11)
    assert (await store.read("crm/prod", "key")).value == "hush-2"
    assert store._client_token not in {first, second}

    wrong = reader(openbao, transport, clock, credentials={"secret_id": "made-up"}, **signing_in)
    with pytest.raises(StoreRefusedError, match="400 to the AppRole's sign-in"):
        await wrong.read("crm/prod", "key")


async def test_an_authority_that_is_not_ours_is_not_trusted(
    openbao: OpenBao, transport: HttpTransport, clock: FixedClock
) -> None:
    with pytest.raises(StoreUnreachableError, match="cannot be reached"):
        await reader(openbao, transport, clock, ca=None).read("crm/prod", "key")


@pytest.mark.parametrize(
    ("answer", "error", "told"),
    [
        (Reply(503, b'{"errors":["Vault is sealed root"]}'), StoreUnreachableError, "answered 503: it is sealed"),
        (Reply(429, b"slow down root"), StoreUnreachableError, "answered 429"),
        (Reply(473, b""), StoreUnreachableError, "answered 473"),
        (Reply(307, b"", {"Location": "https://10.0.0.1/"}), StoreRefusedError, "address of the active one"),
        (Reply(200, b"<html>root</html>"), StoreUnreachableError, "not a JSON object"),
        (Reply(200, b'{"data": "root"}'), SecretNotThereError, "is the engine KV version 2"),
        (Reply(200, b'{"data": {"data": null}}'), SecretNotThereError, "is the engine KV version 2"),
        (Reply(200, b"{" + b" " * 600_000), StoreUnreachableError, "not a JSON object"),
        (Reply(418, b"root"), StoreRefusedError, "answered 418"),
    ],
)
async def test_trouble_is_told_apart_and_nothing_is_repeated(
    transport: HttpTransport, clock: FixedClock, answer: Reply, error: type[Exception], told: str
) -> None:
    async with receiving() as server:
        server.answers(answer)
        store = HashicorpVault(
            HashicorpSettings(url=server.url.rpartition("/")[0] if server.url.count("/") > 2 else server.url),
            HashicorpCredentials.model_validate({"token": "root"}),
            transport=transport,
            clock=clock,
        )
        with pytest.raises(error, match=told) as raised:
            await store.read("crm/prod", "key")
        assert "root" not in str(raised.value)
