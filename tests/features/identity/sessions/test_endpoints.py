import asyncio
import hashlib
from dataclasses import replace

import pytest
from argon2 import PasswordHasher
from sqlalchemy import select

from crossdock.bootstrap import Services
from crossdock.features.identity.models import Session
from crossdock.features.identity.passwords import Passwords
from crossdock.features.identity.sessions.lifetime import ABSOLUTE_LIFETIME, IDLE_LIFETIME
from crossdock.features.identity.sessions.repository import FREE_ATTEMPTS
from crossdock.kit.clock import FixedClock
from crossdock.kit.ids import IdKind, format_id
from tests.accounts import Account
from tests.serving import Answer, ApiClient


@pytest.fixture(autouse=True)
def _hasty_refusals(services: Services) -> None:
    services.identity.sessions._refusal_s = 0


class Browser:
    """A signed-in page: sends its cookie and, unless told otherwise, its CSRF token."""

    def __init__(self, client: ApiClient, signed_in: Answer) -> None:
        self._client = client.with_key(None)
        self.token = signed_in.headers["Set-Cookie"].split(";")[0].partition("=")[2]
        self.csrf_token: str | None = signed_in.json["csrf_token"]

    async def request(self, method: str, path: str, *, json: object = None) -> Answer:
        headers = {"Cookie": f"theme=dark; crossdock_session={self.token}"}
        if self.csrf_token is not None:
            headers["X-CSRF-Token"] = self.csrf_token
        return await self._client.request(method, path, json=json, headers=headers)


async def sign_in(client: ApiClient, email: str, password: str, **fields: str) -> Answer:
    return await client.post("/api/v1/sessions", json={"email": email, "password": password, **fields})


@pytest.fixture
async def browser(anonymous: ApiClient, tenant: Account) -> Browser:
    signed_in = await sign_in(anonymous, tenant.email, tenant.password)
    assert signed_in.status == 201
    return Browser(anonymous, signed_in)


async def test_signing_in_gives_a_cookie_that_scripts_and_other_sites_cannot_use(
    anonymous: ApiClient, tenant: Account
) -> None:
    answer = await sign_in(anonymous, tenant.email.upper(), tenant.password)
    assert answer.status == 201
    attributes = {part.strip().lower() for part in answer.headers["Set-Cookie"].split(";")[1:]}
    assert {"httponly", "samesite=lax", "path=/"} <= attributes
    assert "secure" not in attributes
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json["me"]["tenant"]["slug"] == "acme"
    assert "tenant:admin" in answer.json["me"]["permissions"]


async def test_the_cookie_is_secure_where_the_hub_is_reached_by_https(
    services: Services, anonymous: ApiClient, tenant: Account
) -> None:
    services.identity.sessions.secure_cookies = True
    assert "secure" in (await sign_in(anonymous, tenant.email, tenant.password)).headers["Set-Cookie"].lower()


async def test_the_session_tells_who_one_is(browser: Browser, tenant: Account) -> None:
    me = await browser.request("GET", "/api/v1/me")
    assert (me.json["kind"], me.json["email"]) == ("user", tenant.email)
    assert "RateLimit-Limit" not in me.headers
    current = await browser.request("GET", "/api/v1/sessions/current")
    assert current.json["csrf_token"] == browser.csrf_token
    assert current.json["me"] == me.json


async def test_a_write_without_the_csrf_token_is_refused(browser: Browser) -> None:
    for csrf_token in (None, "", "wrong", "é"):
        browser.csrf_token = csrf_token
        assert (await browser.request("GET", "/api/v1/me")).status == 200
        for method, path in (("POST", "/api/v1/apikeys"), ("DELETE", "/api/v1/sessions/current")):
            answer = await browser.request(method, path, json={"name": "x", "scopes": ["event:read"]})
            assert (answer.status, answer.json["code"]) == (403, "csrf_token_required")


async def test_a_write_with_the_csrf_token_passes(browser: Browser) -> None:
    answer = await browser.request("POST", "/api/v1/apikeys", json={"name": "x", "scopes": ["event:read"]})
    assert (answer.status, answer.json["created_by"][:4]) == (201, "usr_")


async def test_a_signed_out_cookie_opens_nothing(browser: Browser) -> None:
    answer = await browser.request("DELETE", "/api/v1/sessions/current")
    assert answer.status == 204
    assert "Max-Age=0" in answer.headers["Set-Cookie"]
    after = await browser.request("GET", "/api/v1/me")
    assert (after.status, after.json["code"]) == (401, "session_ended")


async def test_an_api_key_has_no_session(api: ApiClient) -> None:
    assert (await api.get("/api/v1/sessions/current")).json["code"] == "session_ended"


async def test_a_session_in_use_lives_on_and_one_left_alone_ends(browser: Browser, clock: FixedClock) -> None:
    for _ in range(3):
        clock.advance(IDLE_LIFETIME.total_seconds() - 1)
        assert (await browser.request("GET", "/api/v1/me")).status == 200
    clock.advance(IDLE_LIFETIME.total_seconds())
    assert (await browser.request("GET", "/api/v1/me")).json["code"] == "session_ended"


async def test_no_session_outlives_its_week(browser: Browser, clock: FixedClock) -> None:
    steps = 15
    step = ABSOLUTE_LIFETIME / steps
    assert step < IDLE_LIFETIME
    for _ in range(steps - 1):
        clock.advance(step.total_seconds())
        assert (await browser.request("GET", "/api/v1/me")).status == 200
    clock.advance(step.total_seconds())
    assert (await browser.request("GET", "/api/v1/me")).status == 401


async def test_whatever_is_wrong_the_refusal_is_the_same(
    anonymous: ApiClient, tenant: Account, other_tenant: Account
) -> None:
    wrong = [
        await sign_in(anonymous, tenant.email, "wrong password"),
        await sign_in(anonymous, "nobody@acme.example", tenant.password),
        await sign_in(anonymous, tenant.email, tenant.password, tenant="nowhere"),
        await sign_in(anonymous, tenant.email, tenant.password, tenant=other_tenant.slug),
    ]
    for answer in wrong:
        told = {name: value for name, value in answer.json.items() if name != "correlation_id"}
        assert (answer.status, told["code"]) == (401, "sign_in_refused")
        assert told == {name: value for name, value in wrong[0].json.items() if name != "correlation_id"}


async def test_a_password_is_compared_even_where_there_is_no_such_user(
    services: Services, anonymous: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[str | None] = []
    original = Passwords._fits

    def counting(self: Passwords, password: str, stored: str) -> bool:
        compared.append(stored)
        return original(self, password, stored)

    monkeypatch.setattr(Passwords, "_fits", counting)
    await sign_in(anonymous, "nobody@nowhere.example", "x")
    assert len(compared) == 1
    assert services.identity.passwords._nobodys_hash == compared[0]


async def test_failed_attempts_lock_for_longer_and_longer(
    anonymous: ApiClient, tenant: Account, clock: FixedClock
) -> None:
    for _ in range(FREE_ATTEMPTS):
        await sign_in(anonymous, tenant.email, "wrong")
    for lock_s in (30, 60, 120):
        clock.advance(lock_s - 1)
        assert (await sign_in(anonymous, tenant.email, tenant.password)).json["code"] == "sign_in_refused"
        clock.advance(1)
        assert (await sign_in(anonymous, tenant.email, "wrong")).status == 401
    clock.advance(3600)
    assert (await sign_in(anonymous, tenant.email, tenant.password)).status == 201
    assert (await sign_in(anonymous, tenant.email, "wrong")).status == 401
    assert (await sign_in(anonymous, tenant.email, tenant.password)).status == 201


async def test_guesses_made_at_once_are_counted_one_by_one(anonymous: ApiClient, tenant: Account) -> None:
    await asyncio.gather(*(sign_in(anonymous, tenant.email, f"guess {number}") for number in range(FREE_ATTEMPTS + 3)))
    assert (await sign_in(anonymous, tenant.email, tenant.password)).status == 401


async def test_whoever_belongs_to_two_organizations_names_one(
    anonymous: ApiClient, api: ApiClient, tenant: Account, other_tenant: Account
) -> None:
    await api.post(
        "/api/v1/users",
        json={"email": other_tenant.email, "name": "Both", "roles": ["viewer"], "password": other_tenant.password},
    )
    both = replace(tenant, email=other_tenant.email, password=other_tenant.password)
    assert (await sign_in(anonymous, both.email, both.password)).status == 401
    for account in (tenant, other_tenant):
        answer = await sign_in(anonymous, both.email, both.password, tenant=account.slug)
        assert answer.json["me"]["tenant"]["id"] == format_id(IdKind.TENANT, account.tenant_id)


async def test_the_session_is_stored_as_hashes(services: Services, browser: Browser, tenant: Account) -> None:
    async with services.database.tenant(tenant.tenant_id) as session:
        stored = (await session.execute(select(Session))).scalar_one()
    assert stored.token_hash == hashlib.sha256(browser.token.encode()).digest()
    assert stored.csrf_hash == hashlib.sha256((browser.csrf_token or "").encode()).digest()
    assert stored.source_address == "127.0.0.1"


async def test_signing_in_and_being_refused_are_in_the_audit_log(
    anonymous: ApiClient, api: ApiClient, tenant: Account
) -> None:
    await sign_in(anonymous, tenant.email, "wrong")
    await sign_in(anonymous, "ghost@acme.example", "wrong", tenant=tenant.slug)
    await sign_in(anonymous, tenant.email, tenant.password)
    lines = (await api.get("/api/v1/audit-log")).json["items"]
    user = format_id(IdKind.USER, tenant.owner_id)
    told = [(line["action"], line["actor_id"], line["entity_id"]) for line in lines if "session" in line["action"]]
    assert [(action, actor) for action, actor, _ in told] == [
        ("session.created", user),
        ("session.refused", "unknown"),
        ("session.refused", "unknown"),
    ]
    assert [entity for _, _, entity in told[1:]] == ["unknown", user]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "", {"status": "disabled"}),
        ("POST", "/password", {"password": "another password"}),
        ("DELETE", "", {}),
    ],
)
async def test_a_user_disabled_reset_or_deleted_is_signed_out_at_once(
    api: ApiClient, anonymous: ApiClient, method: str, path: str, body: dict[str, str]
) -> None:
    made = (await api.post("/api/v1/users", json={"email": "a@acme.example", "name": "A", "roles": ["viewer"]})).json
    browser = Browser(anonymous, await sign_in(anonymous, made["email"], made["initial_password"]))
    assert (await browser.request("GET", "/api/v1/me")).status == 200
    assert (await api.request(method, f"/api/v1/users/{made['id']}{path}", json=body)).status in {200, 204}
    assert (await browser.request("GET", "/api/v1/me")).json["code"] == "session_ended"
    assert (await sign_in(anonymous, made["email"], made["initial_password"])).status == 401


async def test_ones_own_password_is_changed_with_the_current_one(
    anonymous: ApiClient, browser: Browser, tenant: Account
) -> None:
    wanted = {"current_password": "wrong", "new_password": "a long new password"}
    assert (await browser.request("POST", "/api/v1/me/password", json=wanted)).status == 401
    wanted["current_password"] = tenant.password
    assert (await browser.request("POST", "/api/v1/me/password", json=wanted)).status == 204
    assert (await browser.request("GET", "/api/v1/me")).status == 401
    assert (await sign_in(anonymous, tenant.email, tenant.password)).status == 401
    assert (await sign_in(anonymous, tenant.email, "a long new password")).status == 201


async def test_a_suspended_tenants_users_cannot_sign_in(
    anonymous: ApiClient, browser: Browser, tenant: Account, operator: ApiClient
) -> None:
    path = f"/api/v1/operator/tenants/{format_id(IdKind.TENANT, tenant.tenant_id)}"
    assert (await operator.patch(path, json={"status": "suspended"})).status == 200
    assert (await browser.request("GET", "/api/v1/me")).json["code"] == "tenant_suspended"
    answer = await sign_in(anonymous, tenant.email, tenant.password)
    assert (answer.status, answer.json["code"]) == (403, "tenant_suspended")


async def test_passwords_are_argon2id_as_the_library_recommends() -> None:
    passwords = Passwords(PasswordHasher())
    stored = await passwords.hash("a long password")
    assert stored.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert await passwords.verify("a long password", stored)
    assert not await passwords.verify("another password", stored)
    assert not await passwords.verify("a long password", None)
    passwords.close()
