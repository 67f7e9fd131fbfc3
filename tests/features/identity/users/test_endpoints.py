import asyncio

from crossdock.kit.ids import IdKind, format_id
from tests.accounts import Account
from tests.serving import Answer, ApiClient

USERS = "/api/v1/users"
ROLES = "/api/v1/roles"


async def add_user(api: ApiClient, email: str = "ada@acme.example", **fields: object) -> Answer:
    return await api.post(USERS, json={"email": email, "name": "Ada", "roles": ["viewer"], **fields})


async def key_with(api: ApiClient, *scopes: str) -> ApiClient:
    made = await api.post("/api/v1/apikeys", json={"name": "limited", "scopes": list(scopes)})
    return api.with_key(made.json["key"])


async def test_a_user_is_made_read_listed_changed_and_deleted(api: ApiClient) -> None:
    made = await add_user(api)
    assert made.status == 201
    assert len(made.json["initial_password"]) >= 16
    path = f"{USERS}/{made.json['id']}"
    changed = await api.patch(path, json={"name": "Ada L.", "roles": ["developer", "viewer"]})
    assert (changed.json["name"], changed.json["roles"]) == ("Ada L.", ["developer", "viewer"])
    assert (await api.get(path)).json == changed.json
    assert changed.json in (await api.get(USERS)).json["items"]
    assert (await api.delete(path)).status == 204
    assert (await api.get(path)).status == 404


async def test_no_answer_holds_a_password_or_its_hash(api: ApiClient) -> None:
    made = await add_user(api, password="correct horse battery")
    assert made.json["initial_password"] is None
    path = f"{USERS}/{made.json['id']}"
    for answer in (made, await api.get(path), await api.get(USERS), await api.get("/api/v1/audit-log")):
        assert b"correct horse" not in answer.body
        assert b"argon2" not in answer.body


async def test_an_unfit_user_is_refused_with_the_place_of_the_fault(api: ApiClient) -> None:
    unfit: list[tuple[dict[str, object], str]] = [
        ({"email": "nobody"}, "/email"),
        ({"email": "a b@acme.example"}, "/email"),
        ({"name": ""}, "/name"),
        ({"roles": []}, "/roles"),
        ({"roles": ["viewer", "emperor"]}, "/roles/1"),
        ({"password": "elevenchars"}, "/password"),
        ({"password": "x" * 201}, "/password"),
    ]
    for fields, place in unfit:
        answer = await api.post(USERS, json={"email": "ada@acme.example", "name": "Ada", "roles": ["viewer"], **fields})
        assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, place)
        assert b"elevenchars" not in answer.body


async def test_an_address_is_taken_once_per_tenant(api: ApiClient, other_api: ApiClient) -> None:
    assert (await add_user(api, "Ada@acme.example")).status == 201
    again = await add_user(api, "ada@ACME.example")
    assert (again.status, again.json["code"]) == (409, "email_taken")
    assert (await add_user(other_api, "ada@acme.example")).status == 201


async def test_nobody_gives_away_or_takes_over_more_than_he_has(api: ApiClient, tenant: Account) -> None:
    admin = await key_with(api, "tenant:admin", "event:read")
    owner = f"{USERS}/{format_id(IdKind.USER, tenant.owner_id)}"
    limited = (await api.post(ROLES, json={"name": "readers", "permissions": ["event:read"]})).json
    strong = (await api.post(ROLES, json={"name": "writers", "permissions": ["event:publish"]})).json
    refused = [
        await add_user(admin, roles=["owner"]),
        await admin.patch(owner, json={"name": "me"}),
        await admin.post(f"{owner}/password", json={"password": "now it is mine"}),
        await admin.delete(owner),
        await admin.post(ROLES, json={"name": "more", "permissions": ["webhook:manage"]}),
        await admin.patch(f"{ROLES}/{limited['id']}", json={"permissions": ["event:read", "event:publish"]}),
        await admin.patch(f"{ROLES}/{strong['id']}", json={"permissions": ["event:read"]}),
        await admin.delete(f"{ROLES}/{strong['id']}"),
    ]
    assert {(answer.status, answer.json["code"]) for answer in refused} == {(403, "cannot_grant")}
    made = await add_user(admin, roles=["readers"])
    assert made.status == 201
    up = await admin.patch(f"{USERS}/{made.json['id']}", json={"roles": ["writers"]})
    assert up.json["code"] == "cannot_grant"


async def test_the_last_administrator_stays(api: ApiClient, tenant: Account) -> None:
    owner = f"{USERS}/{format_id(IdKind.USER, tenant.owner_id)}"
    for answer in (
        await api.patch(owner, json={"status": "disabled"}),
        await api.patch(owner, json={"roles": ["viewer"]}),
        await api.delete(owner),
    ):
        assert (answer.status, answer.json["code"]) == (409, "last_admin")
    second = (await add_user(api, roles=["owner"])).json
    answers = await asyncio.gather(api.delete(owner), api.delete(f"{USERS}/{second['id']}"))
    assert sorted(answer.status for answer in answers) == [204, 409]


async def test_a_role_of_ones_own_lives_and_the_built_in_ones_stay(api: ApiClient) -> None:
    made = await api.post(ROLES, json={"name": "ops", "permissions": ["logs:read"]})
    path = f"{ROLES}/{made.json['id']}"
    assert (await api.post(ROLES, json={"name": "ops", "permissions": ["logs:read"]})).json["code"] == "role_name_taken"
    changed = await api.patch(path, json={"permissions": ["logs:read", "event:read"], "description": "Operations"})
    assert (await api.get(path)).json == changed.json
    user = (await add_user(api, roles=["ops"])).json
    assert (await api.delete(path)).json["code"] == "role_in_use"
    await api.delete(f"{USERS}/{user['id']}")
    assert (await api.delete(path)).status == 204
    built_in = [role for role in (await api.get(ROLES)).json["items"] if role["built_in"]]
    assert {role["name"] for role in built_in} == {"owner", "developer", "viewer"}
    for role in built_in:
        for answer in (
            await api.patch(f"{ROLES}/{role['id']}", json={"name": "x"}),
            await api.delete(f"{ROLES}/{role['id']}"),
        ):
            assert (answer.status, answer.json["code"]) == (409, "role_built_in")


async def test_taking_a_permission_from_a_role_takes_it_from_its_users_at_once(
    api: ApiClient, anonymous: ApiClient
) -> None:
    role = (await api.post(ROLES, json={"name": "ops", "permissions": ["event:read", "audit:read"]})).json
    user = (await add_user(api, roles=["ops"])).json
    signed_in = await anonymous.post(
        "/api/v1/sessions", json={"email": user["email"], "password": user["initial_password"]}
    )
    cookie = {"Cookie": signed_in.headers["Set-Cookie"].split(";")[0]}
    assert (await anonymous.get("/api/v1/audit-log", headers=cookie)).status == 200
    await api.patch(f"{ROLES}/{role['id']}", json={"permissions": ["event:read"]})
    refused = await anonymous.get("/api/v1/audit-log", headers=cookie)
    assert (refused.status, refused.json["code"]) == (403, "missing_permission")
