"""Connecting by a person's consent: links that are good once, in one browser, for minutes."""

import asyncio
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import web

from crossdock.features.integrations.errors import IntegrationNotFoundError, WrongStateError
from crossdock.features.integrations.models import IntegrationStatus
from crossdock.features.integrations.oauth.errors import AuthorizationLinkError
from crossdock.features.integrations.oauth.renewal import Place
from crossdock.features.integrations.oauth.service import Addresses, Finished, OpenedLink, Starter
from crossdock.gateway.errors import GrantRevokedError
from crossdock.gateway.oauth.authorization import NoAuthorizationStepError
from crossdock.kit.errors import InvalidInputError
from crossdock.kit.ids import new_uuid
from tests.authorization_server import AuthorizationServer
from tests.features.integrations.oauth.stage import ACTOR, HUB, Stage, callback_of, came_back, cookies_of, place_of
from tests.hub import MovableClock
from tests.waiting import eventually


async def _finish(
    hub: Stage, query: dict[str, list[str]], opened: OpenedLink | None, *, user_id: Any = None, place: str | None = None
) -> Finished:
    cookies = cookies_of(opened) if opened else {}
    if place is None:
        place = place_of(opened) if opened else ""
    return await hub.authorizations.finish(query, place=place, cookies=cookies, user_id=user_id, actor=ACTOR)


def _asked(opened: OpenedLink) -> dict[str, str]:
    return {name: value for name, (value,) in parse_qs(urlsplit(opened.url).query).items()}


async def test_a_persons_yes_connects_the_integration_and_has_it_tested(
    hub: Stage, server: AuthorizationServer
) -> None:
    place = await hub.add_integration(server)
    opened = await hub.open(place, return_url="/integrations")
    asked = _asked(opened)
    assert (asked["redirect_uri"], asked["scope"], asked["code_challenge_method"]) == (
        callback_of(place[0]),
        "read",
        "S256",
    )
    finished = await _finish(hub, came_back(server, opened), opened)
    assert (finished.integration_name, finished.return_url, finished.error) == ("Books", "/integrations", None)
    assert await hub.token(place) == "access-1"
    integration = await hub.integration(place)
    assert integration["status"] == "pending_validation"
    assert integration["authorized_at"] is not None
    assert hub.activated == [place[1]]
    actions = [row["action"] for row in await hub.query("SELECT action FROM audit_log ORDER BY id")]
    assert actions[:2] == ["integration.oauth_started", "integration.oauth_connected"]


async def test_the_verifier_and_the_state_are_other_ones_each_time(hub: Stage, server: AuthorizationServer) -> None:
    place = await hub.add_integration(server)
    first, second = _asked(await hub.open(place)), _asked(await hub.open(place))
    assert first["state"] != second["state"]
    assert first["code_challenge"] != second["code_challenge"]


async def test_a_state_is_good_once(hub: Stage, server: AuthorizationServer) -> None:
    place = await hub.add_integration(server)
    opened = await hub.open(place)
    query = came_back(server, opened)
    await _finish(hub, query, opened)
    with pytest.raises(AuthorizationLinkError):
        await _finish(hub, query, opened)
    assert len(server.requests) == 1


async def test_a_link_is_good_once(hub: Stage, server: AuthorizationServer) -> None:
    place = await hub.add_integration(server)
    started = await hub.authorizations.start(
        place[0], Starter(actor=ACTOR, user_id=None), place[1], origin="http://elsewhere", return_url=None
    )
    assert started.url.startswith(f"{HUB}/api/v1/oauth/begin?ticket=")
    assert started.redirect_uri == callback_of(place[0])
    ticket = started.url.partition("ticket=")[2]
    await hub.authorizations.open_link(ticket, user_id=None)
    with pytest.raises(AuthorizationLinkError):
        await hub.authorizations.open_link(ticket, user_id=None)


async def test_a_ticket_is_no_state_and_a_state_no_ticket(hub: Stage, server: AuthorizationServer) -> None:
    place = await hub.add_integration(server)
    started = await hub.authorizations.start(
        place[0], Starter(actor=ACTOR, user_id=None), place[1], origin="http://elsewhere", return_url=None
    )
    with pytest.raises(AuthorizationLinkError):
        await _finish(hub, {"state": [started.url.partition("ticket=")[2]], "code": ["c"]}, None)
    opened = await hub.open(place)
    with pytest.raises(AuthorizationLinkError):
        await hub.authorizations.open_link(_asked(opened)["state"], user_id=None)


@pytest.mark.parametrize("waits_at", ["link", "state"])
async def test_what_has_run_out_is_refused(
    hub: Stage, server: AuthorizationServer, clock: MovableClock, waits_at: str
) -> None:
    place = await hub.add_integration(server)
    if waits_at == "link":
        started = await hub.authorizations.start(
            place[0], Starter(actor=ACTOR, user_id=None), place[1], origin="http://elsewhere", return_url=None
        )
        clock.move(601)
        with pytest.raises(AuthorizationLinkError):
            await hub.authorizations.open_link(started.url.partition("ticket=")[2], user_id=None)
        return
    opened = await hub.open(place)
    clock.move(601)
    with pytest.raises(AuthorizationLinkError):
        await _finish(hub, came_back(server, opened), opened)
    assert server.requests == []


async def test_a_state_counts_in_the_browser_that_opened_the_link_alone(
    hub: Stage, server: AuthorizationServer
) -> None:
    """An attacker's code under an attacker's state reaches nothing through somebody else's browser."""
    place = await hub.add_integration(server)
    opened, others = await hub.open(place), await hub.open(place)
    query = came_back(server, opened)
    for wrong in (None, others):
        with pytest.raises(AuthorizationLinkError):
            await _finish(hub, query, wrong)
    forged = OpenedLink(
        url=opened.url,
        cookie_name=opened.cookie_name,
        cookie_value=others.cookie_value,
        integration_name="",
        host="",
        secure=True,
        foreign=False,
    )
    assert opened.cookie_name.startswith("__Host-")
    neighbours = {opened.cookie_name.removeprefix("__Host-"): opened.cookie_value}
    with pytest.raises(AuthorizationLinkError):
        await hub.authorizations.finish(query, place=place_of(opened), cookies=neighbours, user_id=None, actor=ACTOR)
    with pytest.raises(AuthorizationLinkError):
        await _finish(hub, query, forged)
    # And the one whose it is was not disturbed.
    assert (await _finish(hub, query, opened)).error is None


async def test_what_a_user_started_that_user_finishes(hub: Stage, server: AuthorizationServer) -> None:
    place = await hub.add_integration(server)
    user, somebody = new_uuid(), new_uuid()
    started = await hub.authorizations.start(
        place[0], Starter(actor=ACTOR, user_id=user), place[1], origin="http://elsewhere", return_url=None
    )
    ticket = started.url.partition("ticket=")[2]
    for wrong in (None, somebody):
        with pytest.raises(AuthorizationLinkError, match="Sign in"):
            await hub.authorizations.open_link(ticket, user_id=wrong)
    opened = await hub.authorizations.open_link(ticket, user_id=user)
    query = came_back(server, opened)
    for wrong in (None, somebody):
        with pytest.raises(AuthorizationLinkError, match="Sign in"):
            await _finish(hub, query, opened, user_id=wrong)
    assert (await _finish(hub, query, opened, user_id=user)).error is None


async def test_a_guessed_state_opens_nothing(hub: Stage) -> None:
    queries: list[dict[str, list[str]]] = [
        {},
        {"state": ["x"]},
        {"state": ["a", "b"]},
        {"state": [""]},
        {"code": ["c"]},
    ]
    for query in queries:
        with pytest.raises(AuthorizationLinkError):
            await _finish(hub, query, None)
    with pytest.raises(AuthorizationLinkError):
        await hub.authorizations.open_link("x", user_id=None)


async def test_another_tenant_cannot_start_or_see_anything(hub: Stage, server: AuthorizationServer) -> None:
    place = await hub.add_integration(server)
    stranger = await hub.add_tenant("globex")
    with pytest.raises(IntegrationNotFoundError):
        await hub.authorizations.start(
            stranger, Starter(actor=ACTOR, user_id=None), place[1], origin=HUB, return_url=None
        )
    with pytest.raises(IntegrationNotFoundError):
        await hub.authorizations.refresh(stranger, ACTOR, place[1])
    async with hub.database.tenant(stranger) as session:
        with pytest.raises(IntegrationNotFoundError):
            await hub.authorizations.state(session, place[1])


async def test_a_no_is_told_and_noted(hub: Stage, server: AuthorizationServer) -> None:
    place = await hub.add_integration(server)
    opened = await hub.open(place)
    query = {"state": [_asked(opened)["state"]], "error": ["access_denied"]}
    finished = await _finish(hub, query, opened)
    assert finished.error is not None
    assert "access_denied" in finished.error.message
    assert (await hub.integration(place))["status"] == "pending_auth"
    (line,) = await hub.query("SELECT * FROM integration_logs")
    assert (line["action"], "access_denied" in line["message"]) == ("authorization_failed", True)
    with pytest.raises(AuthorizationLinkError):
        await _finish(hub, query, opened)


async def test_a_server_of_a_tenants_own_gets_no_code_of_another_one(hub: Stage, server: AuthorizationServer) -> None:
    """It leads the browser on to the other's, with its own state (RFC 9700 section 4.4)."""
    theirs = await hub.add_integration(server)
    mine = await hub.add_integration(server, tenant_id=await hub.add_tenant("globex"))
    honest, opened = _asked(await hub.open(theirs)), await hub.open(mine)
    assert (honest["redirect_uri"], _asked(opened)["redirect_uri"]) == (callback_of(theirs[0]), callback_of(mine[0]))
    finished = await _finish(
        hub, came_back(server, opened), opened, place=honest["redirect_uri"].partition("callback")[2]
    )
    assert finished.error is not None
    assert "another address" in finished.error.message
    assert server.requests == []


async def test_a_code_for_another_challenge_is_of_no_use(hub: Stage, server: AuthorizationServer) -> None:
    """A stolen code put into one's own authorization (RFC 9700 section 4.5)."""
    place = await hub.add_integration(server)
    victim, attacker = await hub.open(place), await hub.open(place)
    stolen = came_back(server, victim)["code"]
    finished = await _finish(hub, came_back(server, attacker) | {"code": stolen}, attacker)
    assert isinstance(finished.error, GrantRevokedError)
    assert (await hub.integration(place))["status"] == "pending_auth"


async def test_what_the_redirect_and_the_answer_tell_is_kept_and_a_change_is_noticed(
    hub: Stage, server: AuthorizationServer, clock: MovableClock
) -> None:
    server.redirect_with = {"realmId": "1"}
    server.shape = lambda told: web.json_response({**told, "instance_url": server.url, "scope": "read"})
    place = await hub.add_integration(
        server,
        redirect_values={"realm_id": {"path": "realmId", "required": True}},
        answer={"values": {"instance_url": {"path": "instance_url"}}},
        lookup={"url": f"{server.url}/me", "values": {"kind": {"path": "token_type"}}},
    )
    await hub.connect(server, place)
    token = await hub.oauth.tokens.token(place)
    assert token.values == {"realm_id": "1", "instance_url": server.url, "kind": "Bearer"}
    clock.move(3600)
    assert (await hub.oauth.tokens.token(place)).values == token.values
    server.redirect_with = {"realmId": "2"}
    await hub.connect(server, place)
    log = await hub.query("SELECT action, details FROM integration_logs WHERE action LIKE 'authorized%' ORDER BY id")
    assert [row["action"] for row in log] == ["authorized", "authorized_elsewhere"]
    assert '"realm_id"' in log[1]["details"]


async def test_connecting_anew_makes_another_connection_of_it_in_every_process(
    hub: Stage, other: Stage, server: AuthorizationServer
) -> None:
    place = await hub.connected(server)
    before = (await other.oauth.loader.load(*place)).revision
    await hub.connect(server, place)

    async def renewed() -> bool:
        return (await other.oauth.loader.load(*place)).revision > before

    await eventually(renewed, what="the news in the other process")
    assert await other.token(place) == "access-2"


async def test_tokens_are_asked_for_where_the_redirect_says_if_that_is_one_of_the_providers_hosts(
    hub: Stage, server: AuthorizationServer, clock: MovableClock
) -> None:
    place = await hub.add_integration(
        server,
        token_url="{{ values.accounts }}/token",
        hosts=["127.0.0.1"],
        redirect_values={"accounts": {"path": "accounts-server", "required": True, "hosts": ["127.0.0.1"]}},
    )
    server.redirect_with = {"accounts-server": "https://evil.example"}
    opened = await hub.open(place)
    finished = await _finish(hub, came_back(server, opened), opened)
    assert finished.error is not None
    assert "evil.example" in finished.error.message
    server.redirect_with = {"accounts-server": server.url}
    await hub.connect(server, place)
    clock.move(3600)
    assert await hub.token(place) == "access-2"


async def test_connecting_anew_keeps_everything_else_and_ends_the_alert(
    hub: Stage, server: AuthorizationServer, clock: MovableClock
) -> None:
    place = await hub.connected(server)
    await hub.query("UPDATE integrations SET status = 'active' WHERE id = $1", place[1])
    before = dict(await hub.integration(place))
    server.revoked = True
    clock.move(3600)
    with pytest.raises(GrantRevokedError):
        await hub.token(place)
    await hub.connect(server, place)
    assert await hub.token(place) == "access-2"
    after = dict(await hub.integration(place))
    moved = {"status", "status_reason", "status_changed_at", "updated_at", "updated_by", "authorized_at", "revision"}
    assert {name for name in after if after[name] != before[name]} <= moved
    assert after["status"] == "pending_validation"
    assert hub.activated == [place[1], place[1]]
    assert [row["status"] for row in await hub.query("SELECT status FROM alerts")] == ["resolved"]


async def test_the_refresh_token_of_an_earlier_consent_is_not_kept(hub: Stage, server: AuthorizationServer) -> None:
    place = await hub.connected(server)
    server.shape = lambda told: web.json_response({k: v for k, v in told.items() if k != "refresh_token"})
    await hub.connect(server, place)
    assert (await hub.row(place))["refresh_token"] is None


async def test_one_that_works_or_rests_stays_as_it_is(hub: Stage, server: AuthorizationServer) -> None:
    tenant_id = await hub.add_tenant()
    for status in (IntegrationStatus.ACTIVE, IntegrationStatus.PAUSED, IntegrationStatus.DRAFT):
        place = await hub.add_integration(server, tenant_id=tenant_id, status=status)
        await hub.connect(server, place)
        assert (await hub.integration(place))["status"] == status.value
    assert hub.activated == []


async def test_one_that_was_changed_while_the_person_was_away_is_not_connected(
    hub: Stage, server: AuthorizationServer
) -> None:
    place = await hub.add_integration(server)
    opened = await hub.open(place)
    server.hold = asyncio.Event()
    finishing = asyncio.create_task(_finish(hub, came_back(server, opened), opened))
    await eventually(lambda: server.requests)
    await hub.query("UPDATE integrations SET revision = revision + 1 WHERE id = $1", place[1])
    server.hold.set()
    finished = await finishing
    assert isinstance(finished.error, WrongStateError)
    assert (await hub.integration(place))["authorized_at"] is None
    assert await hub.query("SELECT * FROM oauth_tokens") == []


async def _start(hub: Stage, place: Place, return_url: str | None) -> None:
    await hub.authorizations.start(
        place[0], Starter(actor=ACTOR, user_id=None), place[1], origin="http://elsewhere", return_url=return_url
    )


ADDRESSES = Addresses(public_url=HUB, return_origins=frozenset({"https://app.example"}))


@pytest.mark.parametrize("url", ["/x?a=b#c", "/", f"{HUB}/done", "https://app.example/done?x=1", None])
def test_the_browser_goes_back_to_where_it_may(url: str | None) -> None:
    ADDRESSES.check_return_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "\\\\evil.example",
        "https:evil.example",
        "https://hub.example.evil.example/",
        "https://hub.example@evil.example/",
        "http://hub.example/",
        "javascript:alert(1)",
        "data:text/html,x",
        "/\tx",
        "/\nx",
        "x",
        "",
        "https://[",
    ],
)
def test_the_browser_is_sent_nowhere_else(url: str) -> None:
    for addresses in (ADDRESSES, Addresses()):
        with pytest.raises(InvalidInputError):
            addresses.check_return_url(url)


async def test_a_link_that_would_lead_elsewhere_in_the_end_is_not_made(hub: Stage, server: AuthorizationServer) -> None:
    place = await hub.add_integration(server)
    with pytest.raises(InvalidInputError):
        await _start(hub, place, "https://evil.example/")
    assert await hub.query("SELECT * FROM oauth_states") == []


async def test_a_way_in_without_a_person_has_nothing_to_start(hub: Stage, server: AuthorizationServer) -> None:
    with pytest.raises(NoAuthorizationStepError):
        await _start(hub, await hub.add_integration(server, grant="client_credentials"), None)
    place = await hub.add_integration(server, tenant_id=await hub.add_tenant("b"), credentials={"client_secret": "x"})
    with pytest.raises(WrongStateError, match=f"client_id.*{callback_of(place[0])}"):
        await _start(hub, place, None)
    place = await hub.add_integration(server, tenant_id=await hub.add_tenant("c"))
    await hub.query("UPDATE integrations SET auth_method = 'none' WHERE id = $1", place[1])
    with pytest.raises(WrongStateError, match="not by OAuth"):
        await _start(hub, place, None)


async def test_links_that_nobody_opens_do_not_pile_up(hub: Stage, server: AuthorizationServer) -> None:
    place = await hub.add_integration(server)
    for _ in range(23):
        await _start(hub, place, None)
    ((count,),) = await hub.query("SELECT count(*) FROM oauth_states")
    assert count == 20


async def test_tokens_are_refreshed_by_hand_and_their_state_is_shown_without_them(
    hub: Stage, server: AuthorizationServer
) -> None:
    place = await hub.add_integration(server)
    async with hub.database.tenant(place[0]) as session:
        assert not (await hub.authorizations.state(session, place[1])).connected
    await hub.connect(server, place)
    shown = await hub.authorizations.refresh(place[0], ACTOR, place[1])
    assert (shown.connected, shown.renewable, shown.last_error) == (True, True, None)
    assert await hub.token(place) == "access-2"
    assert "access-" not in shown.model_dump_json()
    assert "refresh-" not in shown.model_dump_json()
