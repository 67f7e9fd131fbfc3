"""Renewals by processes that know nothing of each other, and by some that are killed."""

import asyncio
import signal
from contextlib import AsyncExitStack
from uuid import UUID

import pytest

from crossdock.features.integrations.oauth.renewal import Place
from crossdock.gateway.errors import GrantRevokedError
from tests import oidc_provider
from tests.authorization_server import AuthorizationServer
from tests.features.integrations.oauth.actor import Part, acting
from tests.features.integrations.oauth.stage import ACTOR, Stage, callback_of, cookies_of, place_of
from tests.hub import MovableClock
from tests.oidc_provider import OidcProvider
from tests.waiting import eventually

HOUR = 3600


def _part(hub: Stage, keys: list[str], place: Place, **more: object) -> Part:
    chosen: dict[str, object] = {
        "database_url": hub.database.dsn,
        "keys": keys,
        "tenant_id": str(place[0]),
        "integration_id": str(place[1]),
        "ahead_s": HOUR,
        **more,
    }
    return Part(**chosen)  # type: ignore[arg-type]  # the tests pass what fits


async def test_a_process_killed_in_mid_request_holds_up_the_others_no_longer_than_its_turn(
    hub: Stage, server: AuthorizationServer, keys: list[str], clock: MovableClock
) -> None:
    place = await hub.connected(server)
    server.hold = asyncio.Event()
    async with acting(_part(hub, keys, place, turn_s=1)) as actor:
        actor.go()
        await eventually(lambda: server.refreshes == 1)
        actor.kill()
        assert await actor.ended() == -signal.SIGKILL
    # Its request comes to nothing until the end of the test: then nobody is there to read the answer.
    held, server.hold = server.hold, None
    clock.move(HOUR)
    assert await hub.token(place) == "access-2"
    assert not server.revoked
    held.set()


requires_oidc_provider = pytest.mark.skipif(oidc_provider.missing() is not None, reason=str(oidc_provider.missing()))


@pytest.mark.outside
@requires_oidc_provider
async def test_a_real_server_sees_one_refresh_for_fifty_callers_in_two_processes(
    hub: Stage, keys: list[str], clock: MovableClock
) -> None:
    async with AsyncExitStack() as stack:
        tenant_id = await hub.add_tenant()
        real = await stack.enter_async_context(oidc_provider.oidc_provider(callback_of(tenant_id)))
        place = await _connected(hub, tenant_id, real)
        part = _part(hub, keys, place, callers=25)
        actors = await asyncio.gather(*(stack.enter_async_context(acting(part)) for _ in range(2)))
        for actor in actors:
            actor.go()
        got = [token for actor in actors for token in await actor.tokens()]
        assert (len(got), len(set(got))) == (50, 1)
        assert await real.seen() == {"refreshed": 1, "failed": 0, "revoked": 0}
        # And the grant lives on with what was committed.
        clock.move(2 * HOUR)
        assert await hub.token(place) != got[0]
        assert await real.seen() == {"refreshed": 2, "failed": 0, "revoked": 0}


@pytest.mark.outside
@requires_oidc_provider
async def test_a_process_killed_with_a_rotated_token_in_its_hand_loses_nothing(
    hub: Stage, keys: list[str], clock: MovableClock
) -> None:
    tenant_id = await hub.add_tenant()
    async with oidc_provider.oidc_provider(callback_of(tenant_id)) as real:
        place = await _connected(hub, tenant_id, real)
        async with acting(_part(hub, keys, place, dies=True)) as actor:
            actor.go()
            assert await actor.ended() == -signal.SIGKILL
        assert await real.seen() == {"refreshed": 1, "failed": 0, "revoked": 0}
        for _ in range(2):
            clock.move(2 * HOUR)
            await hub.token(place)
        assert await real.seen() == {"refreshed": 3, "failed": 0, "revoked": 0}


@pytest.mark.outside
@requires_oidc_provider
async def test_a_refresh_token_that_somebody_else_used_ends_the_grant_and_we_say_so(
    hub: Stage, clock: MovableClock
) -> None:
    tenant_id = await hub.add_tenant()
    async with oidc_provider.oidc_provider(callback_of(tenant_id)) as real:
        place = await _connected(hub, tenant_id, real)
        stolen = await hub.row(place)
        await hub.oauth.tokens.refresh(place)
        # A backup of the database that is played back brings the used token with it.
        await hub.query("UPDATE oauth_tokens SET refresh_token = $2 WHERE id = $1", place[1], stolen["refresh_token"])
        clock.move(HOUR)
        with pytest.raises(GrantRevokedError, match="invalid_grant"):
            await hub.token(place)
        assert (await real.seen())["revoked"] == 1
        assert (await hub.integration(place))["status"] == "pending_auth"


async def _connected(hub: Stage, tenant_id: UUID, real: OidcProvider) -> Place:
    """An integration that somebody has connected at the real server."""
    place = await hub.add_integration(
        AuthorizationServer(url=real.url),
        tenant_id=tenant_id,
        authorize_url=f"{real.url}/auth",
        issuer=real.url,
        scopes=["openid", "offline_access"],
        authorize_parameters={"prompt": "consent"},
    )
    opened = await hub.open(place)
    finished = await hub.authorizations.finish(
        await real.consent(opened.url),
        place=place_of(opened),
        cookies=cookies_of(opened),
        user_id=None,
        actor=ACTOR,
    )
    assert finished.error is None, finished.error
    return place
