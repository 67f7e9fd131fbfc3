from crossdock.kit.ids import IdKind, format_id
from tests.accounts import Account
from tests.serving import ApiClient

PATH = "/api/v1/operator/tenants"


async def test_a_tenant_comes_with_an_owner_and_a_key_that_work(operator: ApiClient, anonymous: ApiClient) -> None:
    made = await operator.post(PATH, json={"slug": "initech", "name": "Initech", "owner_email": "bill@initech.example"})
    assert made.status == 201
    me = (await anonymous.with_key(made.json["api_key"]).get("/api/v1/me")).json
    assert (me["tenant"]["slug"], len(me["permissions"])) == ("initech", 16)
    signed_in = await anonymous.post(
        "/api/v1/sessions", json={"email": "bill@initech.example", "password": made.json["initial_password"]}
    )
    assert signed_in.status == 201


async def test_tenants_are_listed_read_and_renamed(operator: ApiClient, tenant: Account, other_tenant: Account) -> None:
    path = f"{PATH}/{format_id(IdKind.TENANT, tenant.tenant_id)}"
    listed = (await operator.get(PATH)).json["items"]
    assert [item["slug"] for item in listed] == [other_tenant.slug, tenant.slug]
    renamed = await operator.patch(path, json={"name": "Acme & Sons"})
    assert (await operator.get(path)).json == renamed.json
    assert (renamed.json["name"], renamed.json["status"]) == ("Acme & Sons", "active")


async def test_a_slug_is_taken_once(operator: ApiClient, tenant: Account) -> None:
    answer = await operator.post(PATH, json={"slug": tenant.slug, "name": "Another"})
    assert (answer.status, answer.json["code"]) == (409, "slug_taken")


async def test_an_unfit_slug_is_refused(operator: ApiClient) -> None:
    for slug in ("", "Upper", "-dash", "a b", "x" * 64):
        answer = await operator.post(PATH, json={"slug": slug, "name": "X"})
        assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, "/slug")


async def test_only_the_operator_key_opens_the_operators_part(
    anonymous: ApiClient, api: ApiClient, tenant: Account
) -> None:
    path = f"{PATH}/{format_id(IdKind.TENANT, tenant.tenant_id)}"
    for client in (anonymous, api, anonymous.with_key("cdo_wrong")):
        for answer in (
            await client.get(PATH),
            await client.post(PATH, json={"slug": "x", "name": "X"}),
            await client.patch(path, json={"status": "suspended"}),
        ):
            assert answer.status == 401


async def test_the_operator_key_opens_no_tenant(operator: ApiClient) -> None:
    assert (await operator.get("/api/v1/me")).status == 401
