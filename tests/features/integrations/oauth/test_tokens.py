"""Integrations' access tokens: fresh, renewed once, never lost."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
from aiohttp import web
from sqlalchemy.exc import DBAPIError

from crossdock.features.integrations.models import IntegrationStatus
from crossdock.features.integrations.oauth import renewal
from crossdock.features.integrations.oauth.errors import NotConnectedError
from crossdock.features.integrations.oauth.store import KeptToken, TokenStore
from crossdock.gateway.errors import GrantRevokedError, TokenFetchError
from crossdock.kit.ids import new_uuid
from tests.authorization_server import AuthorizationServer
from tests.features.integrations.oauth.stage import Stage, stage
from tests.hub import MovableClock
from tests.tcp_gate import gate_to
from tests.waiting import eventually

HOUR = 3600


async def test_a_token_is_kept_and_renewed_five_minutes_before_it_ends(
    hub: Stage, server: AuthorizationServer, clock: MovableClock
) -> None:
    place = await hub.connected(server)
    assert await hub.token(place) == "access-1"
    clock.move(HOUR - 310)
    assert await hub.token(place) == "access-1"
    await asyncio.sleep(0)
    assert server.refreshes == 0
    clock.move(15)
    # Nobody waits while the old one is good.
    assert await hub.token(place) == "access-1"
    await eventually(lambda: server.refreshes == 1)

    async def renewed() -> bool:
        return await hub.token(place) == "access-2"

    await eventually(renewed)
    assert server.refreshes == 1


async def test_a_renewal_that_another_process_was_quicker_with_is_seen(
    hub: Stage, other: Stage, server: AuthorizationServer, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = await hub.connected(server)
    clock.move(HOUR - 295)
    read, was_read, told = TokenStore.access_token, asyncio.Event(), asyncio.Event()
    other.changes.on_change(lambda _: told.set())

    async def read_and_held_up(*asked: Any) -> KeptToken | None:
        kept = await read(*asked)
        if not was_read.is_set():
            was_read.set()
            await hub.oauth.tokens.refresh(place)
            await told.wait()
        return kept

    monkeypatch.setattr(TokenStore, "access_token", read_and_held_up)
    assert await other.token(place) == "access-1"

    async def renewed() -> bool:
        return await other.token(place) == "access-2"

    await eventually(renewed)
    assert server.refreshes == 1


async def test_a_call_that_waits_long_between_its_tries_gets_a_fresh_token(
    hub: Stage, server: AuthorizationServer, clock: MovableClock
) -> None:
    place = await hub.connected(server)
    provider = hub.oauth.tokens.provider(*place)
    assert (await provider.token()).authorization == "Bearer access-1"
    clock.move(HOUR + 5)
    assert (await provider.token()).authorization == "Bearer access-2"


async def test_fifty_callers_in_one_process_cause_one_refresh(
    hub: Stage, server: AuthorizationServer, clock: MovableClock
) -> None:
    place = await hub.connected(server)
    clock.move(HOUR)
    assert set(await asyncio.gather(*(hub.token(place) for _ in range(50)))) == {"access-2"}
    assert (server.refreshes, server.revoked) == (1, False)


async def test_another_process_waits_for_what_the_first_commits(
    hub: Stage, other: Stage, server: AuthorizationServer, clock: MovableClock
) -> None:
    place = await hub.connected(server)
    clock.move(HOUR)
    server.hold = asyncio.Event()
    callers = [asyncio.create_task(process.token(place)) for process in (hub, other) for _ in range(10)]
    await eventually(lambda: server.refreshes == 1)
    server.hold.set()
    assert set(await asyncio.gather(*callers)) == {"access-2"}
    assert (server.refreshes, server.revoked) == (1, False)


async def test_the_rotated_refresh_token_is_committed_before_the_access_token_is_given_out(
    hub: Stage, other: Stage, server: AuthorizationServer, clock: MovableClock
) -> None:
    place = await hub.connected(server)
    for generation in range(2, 6):
        clock.move(HOUR)
        # Whoever has the token first, the other one finds the refresh token that came with it.
        process = (hub, other)[generation % 2]
        assert await process.token(place) == f"access-{generation}"
    assert not server.revoked


async def test_an_answer_without_a_refresh_token_keeps_the_old_one(
    hub: Stage, server: AuthorizationServer, clock: MovableClock
) -> None:
    server.rotates = False
    place = await hub.connected(server)
    for expected in ("access-2", "access-3"):
        clock.move(HOUR)
        assert await hub.token(place) == expected
    assert [request.body.get("refresh_token") for request in server.requests[1:]] == ["refresh-1", "refresh-1"]


async def test_a_token_that_the_provider_refused_is_renewed_once_it_is_not_young(
    hub: Stage, other: Stage, server: AuthorizationServer, clock: MovableClock
) -> None:
    place = await hub.connected(server)
    assert await hub.token(place, force_newer_than="access-1") == "access-1"
    clock.move(31)
    assert await hub.token(place, force_newer_than="access-1") == "access-2"
    # The other one has not heard of the refusal, and takes what was renewed for its own.
    assert await other.token(place, force_newer_than="access-1") == "access-2"
    assert server.refreshes == 1


async def test_a_token_that_says_no_end_is_good_until_it_is_refused(
    hub: Stage, server: AuthorizationServer, clock: MovableClock
) -> None:
    server.expires_in = None
    place = await hub.connected(server)
    clock.move(1000 * HOUR)
    assert await hub.token(place) == "access-1"
    assert await hub.token(place, force_newer_than="access-1") == "access-2"


async def test_a_refused_grant_puts_the_integration_to_waiting_at_once_and_tells(
    hub: Stage, server: AuthorizationServer, clock: MovableClock
) -> None:
    place = await hub.connected(server)
    await hub.query("UPDATE integrations SET status = 'active' WHERE id = $1", place[1])
    server.revoked = True
    clock.move(HOUR)
    for _ in range(2):
        with pytest.raises(GrantRevokedError, match=r"invalid_grant.*connect anew"):
            await hub.token(place)
    assert server.refreshes == 1
    integration = await hub.integration(place)
    assert (integration["status"], integration["authorized_at"]) == ("pending_auth", None)
    assert "invalid_grant" in integration["status_reason"]
    row = await hub.row(place)
    assert (row["access_token"], row["refresh_token"]) == (None, None)
    (alert,) = await hub.query("SELECT * FROM alerts")
    assert (alert["kind"], alert["status"], alert["times"]) == ("grant_revoked", "open", 1)
    types = {each["type"] for each in await hub.query("SELECT type FROM outbox")}
    assert {"integration.disconnected", "alert.raised"} <= types


@pytest.mark.parametrize("status", [500, 503, 429])
async def test_a_server_in_trouble_revokes_nothing_and_is_not_asked_at_every_call(
    hub: Stage, server: AuthorizationServer, clock: MovableClock, status: int
) -> None:
    place = await hub.connected(server)
    server.refuse = lambda: web.json_response({"error": "invalid_grant"}, status=status, headers={"Retry-After": "7"})
    clock.move(HOUR)
    for _ in range(3):
        with pytest.raises(TokenFetchError) as caught:
            await hub.token(place)
        assert not isinstance(caught.value, GrantRevokedError)
        assert caught.value.retryable
        assert 0 < (caught.value.retry_after_s or 0) <= 7
    assert server.refreshes == 1
    assert (await hub.integration(place))["status"] == "pending_validation"
    server.refuse = None
    clock.move(8)
    assert await hub.token(place) == "access-2"


async def test_what_fails_ahead_of_the_end_harms_nobody(
    hub: Stage, server: AuthorizationServer, clock: MovableClock
) -> None:
    place = await hub.connected(server)
    server.refuse = lambda: web.Response(status=503)
    clock.move(HOUR - 200)
    for _ in range(20):
        assert await hub.token(place) == "access-1"
    await eventually(lambda: server.refreshes == 1)

    async def noted() -> bool:
        return bool((await hub.row(place))["failures"] == 1)

    await eventually(noted)
    for _ in range(20):
        assert await hub.token(place) == "access-1"
    assert server.refreshes == 1


async def test_the_renewal_survives_the_caller_who_began_it(
    hub: Stage, server: AuthorizationServer, clock: MovableClock
) -> None:
    place = await hub.connected(server)
    clock.move(HOUR)
    server.hold = asyncio.Event()
    caller = asyncio.create_task(hub.token(place))
    await eventually(lambda: server.refreshes == 1)
    caller.cancel()
    server.hold.set()
    assert await hub.token(place) == "access-2"
    assert (server.refreshes, server.revoked) == (1, False)


async def test_stopping_waits_until_what_the_provider_rotated_is_written_down(
    hub: Stage, other: Stage, server: AuthorizationServer, clock: MovableClock
) -> None:
    place = await hub.connected(server)
    clock.move(HOUR)
    server.hold, server.hold_after = asyncio.Event(), True
    caller = asyncio.create_task(hub.token(place))
    await eventually(lambda: server.used == {"refresh-1"})
    stopping = asyncio.create_task(hub.oauth.stop(timeout_s=20))
    server.hold.set()
    await stopping
    assert await caller == "access-2"
    assert await other.token(place) == "access-2"


async def test_what_the_provider_rotated_waits_for_a_database_that_is_away(
    hub: Stage,
    server: AuthorizationServer,
    keys: list[str],
    clock: MovableClock,
    capfd: pytest.CaptureFixture[str],
) -> None:
    place = await hub.connected(server)
    clock.move(HOUR)
    async with gate_to(hub.database.dsn) as gate, stage(gate.database_url, keys=keys, clock=clock) as behind:
        server.hold, server.hold_after = asyncio.Event(), True
        caller = asyncio.create_task(behind.token(place))
        await eventually(lambda: server.used == {"refresh-1"})
        await gate.close()
        server.hold.set()
        said = ""

        def refused() -> bool:
            nonlocal said
            said += capfd.readouterr().err
            return said.count("oauth_token_not_stored_yet") > 1

        await eventually(refused)
        # Nobody gets to see a token whose refresh token may yet be lost.
        assert not caller.done()
        await gate.open()
        assert await caller == "access-2"
    assert await hub.token(place) == "access-2"
    assert not server.revoked


async def test_what_the_provider_rotated_outlives_a_passing_refusal_of_the_database(
    hub: Stage, server: AuthorizationServer, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = await hub.connected(server)
    clock.move(HOUR)
    write, refusals = TokenStore.write, [DBAPIError("UPDATE", {}, Exception("deadlock detected"))]

    async def refused_once(self: TokenStore, *arguments: Any, **named: Any) -> None:
        if refusals:
            raise refusals.pop()
        await write(self, *arguments, **named)

    monkeypatch.setattr(TokenStore, "write", refused_once)
    assert await hub.token(place) == "access-2"
    assert not refusals
    assert not server.revoked


async def test_what_the_database_never_takes_is_not_tried_for_ever(
    hub: Stage, server: AuthorizationServer, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = await hub.connected(server)
    clock.move(HOUR)

    async def refused(*_: Any, **__: Any) -> None:
        raise DBAPIError("UPDATE", {}, Exception("no such character"))

    monkeypatch.setattr(TokenStore, "write", refused)
    monkeypatch.setattr(renewal, "_STORE_PAUSE_S", 0)
    with pytest.raises(DBAPIError):
        await hub.token(place)


async def test_nothing_is_renewed_that_nobody_has_connected(hub: Stage, server: AuthorizationServer) -> None:
    place = await hub.add_integration(server)
    with pytest.raises(NotConnectedError):
        await hub.token(place)
    assert server.requests == []
    assert (await hub.query("SELECT count(*) FROM alerts"))[0][0] == 0
    with pytest.raises(NotConnectedError):
        await hub.token((place[0], new_uuid()))


async def test_a_token_of_one_tenant_is_none_of_anothers(hub: Stage, server: AuthorizationServer) -> None:
    place = await hub.connected(server)
    with pytest.raises(NotConnectedError):
        await hub.token((await hub.add_tenant("globex"), place[1]))


async def test_what_was_disconnected_while_it_was_renewed_does_not_come_back(
    hub: Stage, server: AuthorizationServer, clock: MovableClock
) -> None:
    place = await hub.connected(server)
    clock.move(HOUR)
    server.hold = asyncio.Event()
    caller = asyncio.create_task(hub.token(place))
    await eventually(lambda: server.refreshes == 1)
    await hub.query("DELETE FROM oauth_tokens WHERE id = $1", place[1])
    server.hold.set()
    with pytest.raises(NotConnectedError):
        await caller
    assert await hub.query("SELECT * FROM oauth_tokens") == []


async def test_a_refusal_of_the_old_grant_does_not_touch_the_new_one(
    hub: Stage, other: Stage, server: AuthorizationServer, clock: MovableClock
) -> None:
    place = await hub.connected(server)
    clock.move(HOUR)
    server.hold = asyncio.Event()
    caller = asyncio.create_task(hub.token(place))
    await eventually(lambda: server.refreshes == 1)
    held, server.hold = server.hold, None
    await other.connect(server, place)  # a person connects anew while the old refresh token is asked about
    server.revoked = True
    held.set()
    assert await caller == "access-2"
    assert (await hub.integration(place))["authorized_at"] is not None


async def test_a_late_answer_does_not_overwrite_a_newer_consent(
    hub: Stage, other: Stage, server: AuthorizationServer, clock: MovableClock
) -> None:
    place = await hub.connected(server)
    clock.move(HOUR)
    server.hold, server.hold_after = asyncio.Event(), True
    caller = asyncio.create_task(hub.token(place))
    await eventually(lambda: server.used == {"refresh-1"})
    held, server.hold = server.hold, None
    await other.connect(server, place)
    held.set()
    assert await caller == "access-3"
    clock.move(HOUR)
    assert await hub.token(place) == "access-4"
    assert server.requests[-1].body["refresh_token"] == "refresh-3"


async def test_a_client_acting_for_itself_gets_tokens_without_anybody(
    hub: Stage, other: Stage, server: AuthorizationServer
) -> None:
    place = await hub.add_integration(server, grant="client_credentials", status=IntegrationStatus.ACTIVE)
    assert [await process.token(place) for process in (hub, other)] == ["access-1", "access-1"]
    # Other settings make another token.
    await hub.query("UPDATE integrations SET revision = revision + 1 WHERE id = $1", place[1])

    async def renewed() -> bool:
        return await hub.token(place) == "access-2"

    await eventually(renewed)
    assert await other.token(place) == "access-2"


async def test_a_wrong_client_secret_is_tried_again_when_it_was_changed_and_not_before(
    hub: Stage, server: AuthorizationServer
) -> None:
    place = await hub.add_integration(server, grant="client_credentials", status=IntegrationStatus.ACTIVE)
    server.refuse = lambda: web.json_response({"error": "invalid_client"}, status=401)
    for _ in range(3):
        with pytest.raises(TokenFetchError, match="invalid_client") as caught:
            await hub.token(place)
        assert not caught.value.retryable
    assert len(server.requests) == 1
    server.refuse = None
    await hub.query("UPDATE integrations SET revision = revision + 1 WHERE id = $1", place[1])
    assert await hub.token(place) == "access-1"


async def test_a_process_that_died_in_the_middle_holds_nothing_beyond_its_time(
    hub: Stage, server: AuthorizationServer, clock: MovableClock
) -> None:
    place = await hub.connected(server)
    clock.move(HOUR)
    await hub.query(
        "UPDATE oauth_tokens SET renewer = $2, renewer_until = clock_timestamp() + interval '0.6 s' WHERE id = $1",
        place[1],
        new_uuid(),
    )
    assert await hub.token(place) == "access-2"


async def test_idle_integrations_are_renewed_too_and_disconnected_ones_are_not(
    hub: Stage, server: AuthorizationServer, clock: MovableClock
) -> None:
    places = [await hub.add_integration(server, tenant_id=await hub.add_tenant(f"t{each}")) for each in range(3)]
    for place in places:
        await hub.connect(server, place)
    await hub.query("UPDATE integrations SET status = 'draft' WHERE id = $1", places[2][1])
    await hub.oauth.refresher.run()
    assert server.refreshes == 0
    clock.move(HOUR - 290)
    await hub.oauth.refresher.run()

    async def generations() -> list[int]:
        rows = await hub.query("SELECT generation FROM oauth_tokens WHERE renew_at > $1", clock.now())
        return [row["generation"] for row in rows] if len(rows) == 2 else []

    await eventually(generations)
    await hub.oauth.refresher.run()
    assert (server.refreshes, server.revoked) == (2, False)


async def test_secrets_are_in_no_row_in_clear(hub: Stage, server: AuthorizationServer) -> None:
    place = await hub.connected(server)
    await hub.open(place)
    for table in ("oauth_tokens", "oauth_states", "integrations", "integration_logs", "audit_log", "outbox"):
        for row in await hub.query(f"SELECT to_jsonb(t)::text AS line FROM {table} t"):
            for secret in ("access-1", "refresh-1", "hush"):
                assert secret not in row["line"], table
                assert secret.encode().hex() not in row["line"], table


async def test_a_value_moved_to_another_integration_does_not_open(hub: Stage, server: AuthorizationServer) -> None:
    tenant_id = await hub.add_tenant()
    places = [await hub.add_integration(server, tenant_id=tenant_id) for _ in range(2)]
    for place in places:
        await hub.connect(server, place)
    await hub.query(
        "UPDATE oauth_tokens t SET access_token = o.access_token FROM oauth_tokens o WHERE t.id = $1 AND o.id = $2",
        *(UUID(str(place[1])) for place in places),
    )
    with pytest.raises(Exception, match="moved to another row"):
        await hub.token(places[0])
