"""Connecting through the API and a person's browser."""

import asyncio
from datetime import timedelta
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import web

from crossdock.bootstrap import Services
from crossdock.cli.integration_connect import lines_of, outcome
from crossdock.gateway.oauth.authorization import AuthorizationRefusedError
from crossdock.kit.ids import IdKind, parse_id
from crossdock.settings import Settings
from tests.accounts import Account
from tests.authorization_server import AuthorizationServer, authorization_server
from tests.features.integrations.conftest import INTEGRATIONS
from tests.hub import MovableClock, working
from tests.serving import Answer, ApiClient
from tests.waiting import eventually


class Browser:
    """Somebody's browser: keeps cookies, follows nothing by itself."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client.with_key(None)
        self.cookies: dict[str, str] = {}
        self.csrf = ""

    async def sign_in(self, account: Account) -> None:
        answer = await self._client.post(
            "/api/v1/sessions", json={"email": account.email, "password": account.password}
        )
        assert answer.status == 201, answer.json
        self._keep(answer)
        self.csrf = answer.json["csrf_token"]

    async def get(self, url: str) -> Answer:
        path = url.removeprefix(self._client.base_url)
        answer = await self._client.get(path, headers=self._sent())
        self._keep(answer)
        return answer

    async def post(self, path: str, json: Any = None) -> Answer:
        return await self._client.post(path, json=json, headers={**self._sent(), "X-CSRF-Token": self.csrf})

    def _sent(self) -> dict[str, str]:
        return {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}

    def _keep(self, answer: Answer) -> None:
        cookie = answer.headers.get("Set-Cookie")
        if cookie:
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value


@pytest.fixture
def browser(anonymous: ApiClient) -> Browser:
    return Browser(anonymous)


async def _create(api: ApiClient, server: AuthorizationServer, **changes: Any) -> str:
    answer = await api.post(
        INTEGRATIONS,
        json={
            "name": "Books & <Co>",
            "provider": "generic_http",
            "auth_method": "oauth2",
            "config": {
                "base_url": f"{server.url}/api",
                "oauth": {"authorize_url": f"{server.url}/authorize", "token_url": f"{server.url}/token"},
            },
            "credentials": {"client_id": "hub", "client_secret": "hush-hush-hush-0042"},
            **changes,
        },
    )
    assert answer.status == 201, answer.json
    assert answer.json["status"] == "pending_auth", answer.json
    found: str = answer.json["id"]
    return found


async def _start(api: ApiClient, integration_id: str, **given: Any) -> str:
    answer = await api.post(f"{INTEGRATIONS}/{integration_id}/oauth/start", json=given)
    assert answer.status == 201, answer.json
    url: str = answer.json["url"]
    return url


def _onward(page: Answer) -> str:
    """Where the page's link leads."""
    return unescape(page.body.decode().partition('href="')[2].partition('"')[0])


def _yes(server: AuthorizationServer, url: str) -> str:
    """Where the provider sends the browser back to."""
    return server.authorize({name: value for name, (value,) in parse_qs(urlsplit(url).query).items()})


async def test_a_person_connects_an_integration_which_then_works(
    api: ApiClient, browser: Browser, server: AuthorizationServer
) -> None:
    integration_id = await _create(api, server)
    page = await browser.get(await _start(api, integration_id))
    # The address is a tenant's own: the person is asked first.
    assert page.status == 200
    text = page.body.decode()
    assert "Connect Books &amp; &lt;Co&gt;" in text
    assert "You are leaving for 127.0.0.1" in text
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert (page.headers["Referrer-Policy"], page.headers["Cache-Control"]) == ("no-referrer", "no-store")
    attributes = {part.strip().lower() for part in page.headers["Set-Cookie"].split(";")[1:]}
    assert {"httponly", "samesite=lax", "path=/api/v1/oauth/callback", "max-age=600"} <= attributes
    done = await browser.get(_yes(server, _onward(page)))
    assert (done.status, "is connected" in done.body.decode()) == (200, True)
    shown = (await api.get(f"{INTEGRATIONS}/{integration_id}")).json
    assert (shown["status"], shown["status_reason"]) == ("active", None)
    state = (await api.get(f"{INTEGRATIONS}/{integration_id}/oauth")).json
    assert (state["connected"], state["renewable"]) == (True, True)
    assert server.requests[-1].headers["authorization"] == "Bearer access-1"


async def test_what_was_answered_before_it_was_connected_anew_stands_in_for_nothing(
    api: ApiClient, browser: Browser, server: AuthorizationServer
) -> None:
    """The person may have chosen another account this time."""
    integration_id = await _create(api, server, options={"stale_s": 600, "max_retries": 0})
    await browser.get(_yes(server, _onward(await browser.get(await _start(api, integration_id)))))
    path = f"/api/v1/gateway/{integration_id}/orders"
    assert (await api.get(path)).status == 200
    await browser.get(_yes(server, _onward(await browser.get(await _start(api, integration_id)))))
    server.refuse = lambda: web.Response(status=503)
    answer = await api.get(path)
    assert (answer.status, "Crossdock-Stale" in answer.headers) == (503, False)


async def test_who_waits_at_the_command_line_hears_what_came_of_it(
    services: Services, api: ApiClient, browser: Browser, tenant: Account, server: AuthorizationServer
) -> None:
    integration_id = await _create(api, server)
    key = parse_id(IdKind.INTEGRATION, integration_id)
    for answer, expected in (("error=access_denied", "access_denied"), ("", "active")):
        seen = (await lines_of(services, tenant.tenant_id, key)).keys()
        until = services.clock.now() + timedelta(minutes=10)
        waiting = asyncio.create_task(outcome(services, tenant.tenant_id, key, seen=seen, until=until))
        onward = _onward(await browser.get(await _start(api, integration_id)))
        if answer:
            asked = {name: value for name, (value,) in parse_qs(urlsplit(onward).query).items()}
            await browser.get(f"{asked['redirect_uri']}?{answer}&state={asked['state']}")
            with pytest.raises(AuthorizationRefusedError, match=expected):
                await waiting
        else:
            await browser.get(_yes(server, onward))
            assert (await waiting).status.value == expected
    lines = (await lines_of(services, tenant.tenant_id, key)).keys()
    with pytest.raises(AuthorizationRefusedError, match="within the ten minutes"):
        await outcome(services, tenant.tenant_id, key, seen=lines, until=services.clock.now())


class TestReachedByHttps:
    """The installation has a public address."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"public_url": "https://hub.example"})

    async def test_the_cookie_cannot_be_planted_by_a_neighbouring_host(
        self, api: ApiClient, browser: Browser, server: AuthorizationServer
    ) -> None:
        link = await _start(api, await _create(api, server))
        page = await browser.get(link.removeprefix("https://hub.example"))
        name, *attributes = (part.strip().lower() for part in page.headers["Set-Cookie"].split(";"))
        assert name.startswith("__host-crossdock_oauth_")
        assert {"secure", "httponly", "path=/"} <= set(attributes)
        assert not any(attribute.startswith("domain") for attribute in attributes)
        callback = _yes(server, _onward(page)).removeprefix("https://hub.example")
        cookies = browser.cookies
        browser.cookies = {name.removeprefix("__Host-"): value for name, value in cookies.items()}
        assert (await browser.get(callback)).status == 400
        browser.cookies = cookies
        assert (await browser.get(callback)).status == 200


async def test_a_users_browser_goes_back_to_the_page_it_came_from(
    anonymous: ApiClient, api: ApiClient, browser: Browser, tenant: Account, server: AuthorizationServer
) -> None:
    integration_id = await _create(api, server)
    await browser.sign_in(tenant)
    answer = await browser.post(f"{INTEGRATIONS}/{integration_id}/oauth/start", {"return_url": "/integrations?a=b#c"})
    url = answer.json["url"]
    stranger = Browser(anonymous)
    refused = await stranger.get(url)
    assert (refused.status, "Sign in" in refused.body.decode()) == (400, True)
    callback = _yes(server, _onward(await browser.get(url)))
    stranger.cookies = {name: value for name, value in browser.cookies.items() if name != "crossdock_session"}
    assert (await stranger.get(callback)).status == 400
    back = await browser.get(callback)
    assert back.status == 303
    assert back.headers["Location"] == f"/integrations?a=b&integration={integration_id}&result=connected#c"


async def test_a_no_comes_back_as_a_page_or_as_a_result(
    api: ApiClient, browser: Browser, server: AuthorizationServer
) -> None:
    integration_id = await _create(api, server)
    for given, status in (({}, 400), ({"return_url": "/x"}, 303)):
        onward = _onward(await browser.get(await _start(api, integration_id, **given)))
        asked = parse_qs(urlsplit(onward).query)
        (state,), (callback,) = asked["state"], asked["redirect_uri"]
        back = await browser.get(f"{callback}?error=access_denied%3Cscript%3E&state={state}")
        assert back.status == status
        assert "<script>" not in back.body.decode()
    assert back.headers["Location"] == f"/x?integration={integration_id}&result=authorization_refused"


async def test_what_belongs_to_no_authorization_gets_a_plain_refusal(browser: Browser) -> None:
    for path in (
        "begin",
        "begin?ticket=x",
        "callback",
        "callback?state=x&code=y",
        "callback/ten_x?state=x&code=y",
        "callback?state=a&state=b",
        "callback?%ff",
    ):
        answer = await browser.get(f"/api/v1/oauth/{path}")
        assert (answer.status, answer.headers["Content-Type"]) == (400, "text/html; charset=utf-8"), path
        assert "Set-Cookie" not in answer.headers


async def test_another_tenant_and_a_mere_reader_can_do_nothing(
    api: ApiClient, other_api: ApiClient, server: AuthorizationServer
) -> None:
    integration_id = await _create(api, server)
    for path in ("oauth/start", "refresh-oauth"):
        assert (await other_api.post(f"{INTEGRATIONS}/{integration_id}/{path}")).status == 404
    assert (await other_api.get(f"{INTEGRATIONS}/{integration_id}/oauth")).status == 404
    key = (await api.post("/api/v1/apikeys", json={"name": "r", "scopes": ["integration:read"]})).json["key"]
    reader = api.with_key(key)
    assert (await reader.get(f"{INTEGRATIONS}/{integration_id}/oauth")).json["connected"] is False
    for path in ("oauth/start", "refresh-oauth"):
        assert (await reader.post(f"{INTEGRATIONS}/{integration_id}/{path}")).status == 403


async def test_no_token_code_or_secret_is_logged_or_answered(
    api: ApiClient, browser: Browser, server: AuthorizationServer, capfd: pytest.CaptureFixture[str]
) -> None:
    integration_id = await _create(api, server)
    onward = _onward(await browser.get(await _start(api, integration_id)))
    callback = _yes(server, onward)
    await browser.get(callback)
    await api.post(f"{INTEGRATIONS}/{integration_id}/refresh-oauth")
    server.revoked = True
    refused = await api.post(f"{INTEGRATIONS}/{integration_id}/refresh-oauth")
    assert (refused.status, refused.json["code"]) == (502, "grant_revoked")
    own = (f"{INTEGRATIONS}/{integration_id}{path}" for path in ("", "/oauth", "/history"))
    answers = [refused, *[await api.get(path) for path in (*own, "/api/v1/audit-log")]]
    assert [answer.status for answer in answers] == [502, 200, 200, 200, 200]
    said = [*(answer.body.decode() for answer in answers), *capfd.readouterr()]
    state = parse_qs(urlsplit(onward).query)["state"][0]
    for secret in ("access-1", "access-2", "refresh-1", "refresh-2", "code-1", "hush", state):
        assert all(secret not in text for text in said), secret


async def test_a_worker_renews_tokens_before_they_end(
    services: Services, api: ApiClient, browser: Browser, server: AuthorizationServer, clock: MovableClock
) -> None:
    integration_id = await _create(api, server)
    await browser.get(_yes(server, _onward(await browser.get(await _start(api, integration_id)))))
    clock.move(3600 - 250)
    async with working(services):
        await eventually(lambda: server.refreshes == 1)


async def test_a_call_whose_token_is_refused_is_made_again_with_a_new_one(
    api: ApiClient, browser: Browser, clock: MovableClock
) -> None:
    shown: list[str] = []

    async def provider(request: web.Request) -> web.Response:
        shown.append(request.headers.get("Authorization", ""))
        good = shown[-1] == f"Bearer {server.access_token}" and not withdrawn
        withdrawn.clear()
        return web.json_response({"path": request.path}, status=200 if good else 401)

    withdrawn: list[str] = []
    async with authorization_server(provider) as server:
        integration_id = await _create(api, server)
        await browser.get(_yes(server, _onward(await browser.get(await _start(api, integration_id)))))
        call = f"/api/v1/gateway/{integration_id}/books"
        assert (await api.get(call)).json == {"path": "/api/books"}
        clock.move(60)
        withdrawn.append("the first token, which is not young any more")
        assert (await api.get(call)).json == {"path": "/api/books"}
        assert shown[-2:] == ["Bearer access-1", "Bearer access-2"]
        assert (server.refreshes, server.revoked) == (1, False)


async def test_calls_stop_the_moment_the_grant_is_gone(
    api: ApiClient, browser: Browser, server: AuthorizationServer, clock: MovableClock
) -> None:
    integration_id = await _create(api, server)
    await browser.get(_yes(server, _onward(await browser.get(await _start(api, integration_id)))))
    clock.move(3600)
    server.revoked = True
    call = f"/api/v1/gateway/{integration_id}/books"
    refused = await api.get(call)
    assert (refused.status, refused.json["code"]) == (502, "grant_revoked")

    async def stopped() -> bool:
        return bool((await api.get(call)).json["code"] == "integration_not_active")

    await eventually(stopped)
    shown = (await api.get(f"{INTEGRATIONS}/{integration_id}")).json
    assert shown["status"] == "pending_auth"
    (alert,) = (await api.get("/api/v1/alerts")).json["items"]
    assert (alert["kind"], alert["entity_id"]) == ("grant_revoked", integration_id)
    assert server.refreshes == 1


async def test_other_settings_of_oauth_get_neither_the_secret_nor_the_tokens_of_before(
    api: ApiClient, browser: Browser, server: AuthorizationServer
) -> None:
    integration_id = await _create(api, server)
    await browser.get(_yes(server, _onward(await browser.get(await _start(api, integration_id)))))
    own = f"{INTEGRATIONS}/{integration_id}"
    at = {"authorize_url": f"{server.url}/authorize", "token_url": f"{server.url}/token"}
    shows = at | {"answer": {"values": {"shown": {"path": "access_token"}}}}
    refused = await api.patch(own, json={"config": {"oauth": shows}, "activate": False})
    assert (refused.status, refused.json["errors"][0]["pointer"]) == (422, "/credentials/client_id")
    mine = {"client_id": "hub", "client_secret": "hush-hush-hush-0042"}
    changed = await api.patch(own, json={"config": {"oauth": shows}, "credentials": mine, "activate": False})
    assert (changed.status, changed.json["status"]) == (200, "pending_auth")
    assert (await api.get(f"{own}/oauth")).json["connected"] is False
    asked = len(server.requests)
    assert (await api.post(f"{own}/test")).json["ok"] is False
    assert (await api.post(f"{own}/refresh-oauth")).status >= 400
    assert len(server.requests) == asked
