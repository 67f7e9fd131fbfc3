"""`/api/v1/secret-stores`: what goes in comes out nowhere."""

from typing import Any

import pytest

from crossdock.bootstrap import Services
from tests.accounts import Account
from tests.features.deliveries.test_secrets import dump
from tests.hub import Hub
from tests.openbao import ROOT_TOKEN, OpenBao
from tests.serving import ApiClient

STORES = "/api/v1/secret-stores"
TOKEN = "hvs.hush-8801"


def hashicorp(**more: Any) -> dict[str, Any]:
    return {
        "name": "vault",
        "kind": "hashicorp_vault",
        "settings": {"url": "https://vault.example.com:8200"},
        "credentials": {"token": TOKEN},
        **more,
    }


AWS: dict[str, Any] = {
    "name": "aws",
    "kind": "aws_secrets_manager",
    "settings": {"region": "eu-central-1", "access_key_id": "AKIAIOSFODNN7EXAMPLE"},
    "credentials": {"secret_access_key": "hush-8802", "session_token": "hush-8803"},
}
AZURE: dict[str, Any] = {
    "name": "azure",
    "kind": "azure_key_vault",
    "settings": {"vault_url": "https://acme.vault.azure.net", "directory_id": "acme.example", "client_id": "c-1"},
    "credentials": {"client_secret": "hush-8804"},
}


async def test_stores_are_added_listed_changed_and_removed(api: ApiClient) -> None:
    made = [await api.post(STORES, json=store) for store in (hashicorp(), AWS, AZURE)]
    assert [answer.status for answer in made] == [201, 201, 201], [answer.body for answer in made]
    vault = made[0].json
    assert vault["id"].startswith("sst_")
    assert vault["settings"]["mount"] == "secret"
    assert (await api.get(f"{STORES}/{vault['id']}")).json == vault
    listed = (await api.get(f"{STORES}?limit=2")).json
    assert [store["name"] for store in listed["items"]] == ["azure", "aws"]
    rest = (await api.get(f"{STORES}?limit=2&cursor={listed['next_cursor']}")).json
    assert (rest["items"], rest["next_cursor"]) == ([vault], None)

    renamed = await api.patch(f"{STORES}/{vault['id']}", json={"name": "main"})
    assert (renamed.status, renamed.json["name"]) == (200, "main")
    assert (await api.post(STORES, json=hashicorp(name="main"))).json["code"] == "store_name_taken"
    assert (await api.patch(f"{STORES}/{made[1].json['id']}", json={"name": "main"})).status == 409
    assert (await api.delete(f"{STORES}/{vault['id']}")).status == 204
    assert (await api.get(f"{STORES}/{vault['id']}")).json["code"] == "store_not_found"


async def test_credentials_come_out_nowhere(
    api: ApiClient, tenant: Account, services: Services, unused_tcp_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    stores = (
        hashicorp(settings={"url": url}),
        {**AWS, "settings": {**AWS["settings"], "endpoint_url": url}},
        {**AZURE, "settings": {**AZURE["settings"], "vault_url": url, "authority_url": url}},
    )
    answers = [await api.post(STORES, json=store) for store in stores]
    for answer in list(answers):
        one = f"{STORES}/{answer.json['id']}"
        checked = await api.post(f"{one}/check", json={"path": "x"})
        assert "cannot be reached" in checked.json["error"] or "gave no token" in checked.json["error"]
        answers += [await api.get(one), checked]
        answers += [await api.patch(one, json={"credentials": {"token": [TOKEN]}})]
        answers += [await api.patch(one, json={"credentials": {"nonsense": TOKEN}})]
    answers += [await api.post(STORES, json=hashicorp(settings={"url": TOKEN}, credentials={"token": f"{TOKEN} "}))]
    answers += [await api.get(STORES), await api.get("/api/v1/audit-log")]
    logged = capsys.readouterr()
    text = b"\n".join(answer.body for answer in answers) + (logged.out + logged.err).encode()
    rows = await dump(Hub(services, tenant.tenant_id))
    for secret in (TOKEN, "hush-8802", "hush-8803", "hush-8804"):
        assert secret.encode() not in text.replace(b"'" + TOKEN.encode() + b"'", b"")
        assert [table for table, content in rows.items() if secret.encode() in content] == []


async def test_settings_that_lead_elsewhere_need_the_credentials_again(api: ApiClient) -> None:
    made = (await api.post(STORES, json=hashicorp())).json
    one = f"{STORES}/{made['id']}"
    elsewhere = {"url": "https://attacker.example.com"}
    refused = await api.patch(one, json={"settings": elsewhere})
    assert refused.status == 422
    assert refused.json["errors"][0]["pointer"] == "/credentials"
    assert (await api.get(one)).json["settings"] == made["settings"]
    assert (await api.patch(one, json={"settings": {**made["settings"], "path_prefix": "crm/"}})).status == 200
    moved = await api.patch(one, json={"settings": elsewhere, "credentials": {"token": "another"}})
    assert (moved.status, moved.json["settings"]["url"]) == (200, elsewhere["url"])


@pytest.mark.parametrize(
    ("store", "pointer"),
    [
        (hashicorp(name="Not A Name"), "/name"),
        (hashicorp(settings={"url": "http://vault.example.com"}), "/settings/url"),
        (hashicorp(settings={"url": "https://10.0.0.1"}), "/settings/url"),
        (hashicorp(settings={"url": "https://vault.example.com/v1"}), "/settings/url"),
        (hashicorp(settings={"url": "https://vault.example.com", "mount": "../sys"}), "/settings/mount"),
        (hashicorp(settings={"url": "https://vault.example.com", "ca": "x"}), "/settings/ca"),
        (hashicorp(settings={"url": "https://vault.example.com", "sign_in": "approle"}), "/settings"),
        (hashicorp(credentials={"secret_id": "x"}), "/credentials"),
        (hashicorp(credentials={}), "/credentials"),
        (hashicorp(credentials={"token": "a\nb"}), "/credentials/token"),
        ({**AWS, "settings": {**AWS["settings"], "region": "x.evil.example/"}}, "/settings/region"),
        ({**AWS, "settings": {**AWS["settings"], "endpoint_url": "http://169.254.169.254"}}, "/settings/endpoint_url"),
        ({**AWS, "credentials": {}}, "/credentials/secret_access_key"),
        ({**AZURE, "settings": {**AZURE["settings"], "vault_url": "https://192.168.0.1"}}, "/settings/vault_url"),
        ({**AZURE, "settings": {**AZURE["settings"], "directory_id": "a/b"}}, "/settings/directory_id"),
        ({**AZURE, "kind": "aws_secrets_manager"}, "/settings"),
        ({**AZURE, "kind": "keychain"}, ""),
    ],
)
async def test_what_cannot_work_is_refused_with_its_place(api: ApiClient, store: dict[str, Any], pointer: str) -> None:
    refused = await api.post(STORES, json=store)
    assert refused.status == 422, refused.body
    assert any(error["pointer"].startswith(pointer) for error in refused.json["errors"]), refused.json
    assert (await api.get(STORES)).json["items"] == []


async def test_a_check_tells_whether_a_store_lets_us_in(api: ApiClient, openbao: OpenBao) -> None:
    settings = {"url": openbao.url, "ca": openbao.ca}
    made = await api.post(STORES, json=hashicorp(settings=settings, credentials={"token": ROOT_TOKEN}))
    assert made.status == 201, made.body
    one = f"{STORES}/{made.json['id']}"
    checked = await api.post(f"{one}/check", json={})
    assert (checked.status, checked.json["ok"]) == (200, True), checked.body
    found = (await api.post(f"{one}/check", json={"path": "crm/prod", "field": "key"})).json
    assert (found["ok"], found["version"]) == (True, "2")
    assert "hush" not in str(found)
    missing = (await api.post(f"{one}/check", json={"path": "crm/none"})).json
    assert (missing["ok"], "no such secret" in missing["error"]) == (False, True)
    shown = (await api.get(one)).json
    assert shown["check_error"] == missing["error"]
    assert shown["checked_at"] == missing["checked_at"]
    await api.patch(one, json={"credentials": {"token": "wrong"}})
    assert (await api.post(f"{one}/check", json={})).json["ok"] is False


async def test_another_tenants_stores_are_not_found(api: ApiClient, other_api: ApiClient) -> None:
    made = (await api.post(STORES, json=hashicorp())).json
    one = f"{STORES}/{made['id']}"
    assert (await other_api.get(STORES)).json["items"] == []
    for answer in (
        await other_api.get(one),
        await other_api.patch(one, json={"name": "mine"}),
        await other_api.post(f"{one}/check", json={}),
        await other_api.delete(one),
    ):
        assert answer.json["code"] == "store_not_found"
    assert (await api.get(one)).json == made


async def test_each_operation_needs_its_permission(api: ApiClient, anonymous: ApiClient) -> None:
    made = (await api.post(STORES, json=hashicorp())).json
    one = f"{STORES}/{made['id']}"
    for scope, expected in (("integration:read", 200), ("integration:manage", 403), ("webhook:read", 403)):
        key = (await api.post("/api/v1/apikeys", json={"name": "k", "scopes": [scope]})).json["key"]
        client = anonymous.with_key(key)
        assert (await client.get(STORES)).status == (await client.get(one)).status == expected
        for refused in (
            await client.post(STORES, json=hashicorp()),
            await client.patch(one, json={}),
            await client.post(f"{one}/check", json={}),
            await client.delete(one),
        ):
            assert (refused.status, refused.json["code"]) == (403, "missing_permission")


async def test_a_tenant_has_a_bounded_number_of_stores(api: ApiClient) -> None:
    made = [await api.post(STORES, json=hashicorp(name=f"store-{number}")) for number in range(21)]
    assert [answer.status for answer in made] == [201] * 20 + [409]
    assert made[-1].json["code"] == "too_many_stores"
